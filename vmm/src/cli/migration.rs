//! `-incoming`, and `-global` for migration.

use api_spec::globals::Global;
use api_spec::keyval::{self, Argument, Flags};
use api_spec::{
    MigrateSetParameters, MigrationCapability, MigrationCapabilityStatus, MigrationChannel,
    MigrationRamLoad, Mode, Object, QmpError, QmpResult, Value, decode_value,
};

use super::args::{Arg, CliError};
use crate::control::migrate::address::Address;

/// `-incoming`.
#[derive(Debug)]
pub struct IncomingOrder {
    /// The option.
    pub arg: Arg,
    /// Where the machine comes from; `None` waits for migrate-incoming (`defer`).
    pub from: Option<(Address, MigrationRamLoad)>,
}

/// One `-global` for migration.
#[derive(Debug)]
pub struct SettingOrder {
    /// As given.
    pub global: Global,
    /// What it means.
    pub setting: Setting,
}

/// What is set.
#[derive(Debug)]
pub enum Setting {
    /// A capability.
    Capability(MigrationCapabilityStatus),
    /// A parameter.
    Parameter(Box<MigrateSetParameters>),
}

/// Reads the value of `-incoming`: `defer`, a URI, or a channel.
///
/// # Errors
/// What is wrong with it, in QEMU's words.
pub fn incoming(arg: Arg) -> Result<IncomingOrder, CliError> {
    let from = match arg.value.as_str() {
        "defer" => Ok(None),
        uri if is_uri(uri) => from_uri(uri).map(Some),
        channel => from_channel(channel).map(Some),
    };
    let from = from.map_err(|error| arg.error(error))?;
    Ok(IncomingOrder { arg, from })
}

/// Whether it begins like one; keys of a channel have no colon behind them.
fn is_uri(text: &str) -> bool {
    let scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    text.trim_start_matches(scheme).starts_with(':')
}

fn from_uri(uri: &str) -> QmpResult<(Address, MigrationRamLoad)> {
    const OPTION: &str = ",ram-load=";
    let split = uri.starts_with("file:").then(|| uri.split_once(OPTION));
    let Some((before, value)) = split.flatten() else {
        return Ok((Address::parse_uri(uri)?, MigrationRamLoad::Read));
    };
    let (value, behind) = match value.split_once(',') {
        Some((value, behind)) => (value, format!(",{behind}")),
        None => (value, String::new()),
    };
    let address = Address::parse_uri(&format!("{before}{behind}"))?;
    let known = |load: &&MigrationRamLoad| load.name() == value;
    let load = MigrationRamLoad::ALL.iter().find(known).ok_or_else(|| {
        let text = format!("Parameter 'ram-load' does not accept value '{value}'");
        QmpError::generic(text)
    })?;
    Ok((address, *load))
}

fn from_channel(text: &str) -> QmpResult<(Address, MigrationRamLoad)> {
    let channel: MigrationChannel = match keyval::parse(text, Some("channel-type"), Flags::Refused)?
    {
        Argument::Help(_) => {
            return Err(QmpError::generic("Help is not available for this option"));
        }
        argument => argument.decode()?,
    };
    Ok((Address::from_channels(&[channel])?, MigrationRamLoad::Read))
}

/// Takes those out that are for migration; the others are for devices.
///
/// # Errors
/// QEMU's words for a name that is not known and a value of another type.
pub fn of_globals(globals: Vec<Global>) -> Result<(Vec<SettingOrder>, Vec<Global>), CliError> {
    let (ours, others): (Vec<_>, Vec<_>) = globals
        .into_iter()
        .partition(|global| global.driver == "migration");
    let order = |global: Global| match setting(&global) {
        Ok(setting) => Ok(SettingOrder { global, setting }),
        Err(error) => Err(CliError::plain(global.refuse(&error).desc)),
    };
    let ours: Result<_, _> = ours.into_iter().map(order).collect();
    Ok((ours?, others))
}

/// Parameters that have an `x-` in front of their names here.
const WITH_X: [&str; 6] = [
    "throttle-trigger-threshold",
    "cpu-throttle-initial",
    "cpu-throttle-increment",
    "cpu-throttle-tailslow",
    "max-bandwidth",
    "downtime-limit",
];
/// Parameters that cannot be set so.
const WITHOUT: [&str; 2] = ["block-bitmap-mapping", "direct-io"];

fn setting(global: &Global) -> QmpResult<Setting> {
    let name = global.property.as_str();
    let bare = name.strip_prefix("x-").unwrap_or(name);
    let capability = MigrationCapability::ALL.iter().find(|capability| {
        let own = capability.name();
        let plain = own == "mapped-ram" || own.starts_with("x-");
        if plain {
            own == name
        } else {
            own == bare && name != bare
        }
    });
    if let Some(&capability) = capability {
        let state = on_or_off(name, &global.value)?;
        return Ok(Setting::Capability(MigrationCapabilityStatus {
            capability,
            state,
        }));
    }
    let known = match WITH_X.contains(&bare) {
        true => name != bare,
        false => is_parameter(name) && !WITHOUT.contains(&name),
    };
    if !known {
        let text = format!("Property 'migration.{name}' not found");
        return Err(QmpError::generic(text));
    }
    let key = if WITH_X.contains(&bare) { bare } else { name };
    let change = parameter(key, &global.value)?;
    Ok(Setting::Parameter(Box::new(change)))
}

fn on_or_off(name: &str, value: &str) -> QmpResult<bool> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(QmpError::wrong_value(name, "'on' or 'off'")),
    }
}

/// Whether there is a parameter of that name.
pub fn is_parameter(name: &str) -> bool {
    let unexpected = QmpError::unexpected(name);
    let tried = parameter(name, "");
    tried.map_or_else(|error| error != unexpected, |_| true)
}

/// One parameter as text.
///
/// # Errors
/// What was expected of it.
pub fn parameter(name: &str, value: &str) -> QmpResult<MigrateSetParameters> {
    let mut members = Object::new();
    members.insert(name.to_owned(), value.into());
    decode_value(Value::Object(members), Mode::Keyval)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arg(value: &str) -> Arg {
        Arg {
            name: "incoming",
            value: value.into(),
            location: format!("-incoming {value}"),
        }
    }

    fn global(property: &str, value: &str) -> Global {
        Global {
            driver: "migration".into(),
            property: property.into(),
            value: value.into(),
        }
    }

    #[test]
    fn where_machines_come_from() {
        use MigrationRamLoad::{Map, Read};
        let from = |text: &str| incoming(arg(text)).unwrap().from;
        let address = |uri: &str| Address::parse_uri(uri).unwrap();
        assert_eq!(from("defer"), None);
        for (text, uri, load) in [
            ("tcp:a:1", "tcp:a:1", Read),
            ("file:/a,offset=3", "file:/a,offset=3", Read),
            ("file:/a,offset=3,ram-load=map", "file:/a,offset=3", Map),
            ("file:/a,ram-load=map,offset=3", "file:/a,offset=3", Map),
            ("file:/a,b,ram-load=read", "file:/a,b", Read),
            ("exec:a,ram-load=map", "exec:a,ram-load=map", Read),
            (
                r#"{"channel-type": "main", "addr": {"transport": "file", "filename": "/a", "offset": 3}}"#,
                "file:/a,offset=3",
                Read,
            ),
            (
                "main,addr.transport=socket,addr.type=unix,addr.path=/a",
                "unix:/a",
                Read,
            ),
        ] {
            assert_eq!(from(text), Some((address(uri), load)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_them_is_told() {
        for (text, message) in [
            ("", "Parameter 'channel-type' is missing"),
            (
                "tcp",
                "Parameter 'channel-type' does not accept value 'tcp'",
            ),
            ("help", "Help is not available for this option"),
            ("foo:bar", "unknown migration protocol: foo:bar"),
            ("unix:", "invalid Unix socket address"),
            (
                "file:/a,ram-load=all",
                "Parameter 'ram-load' does not accept value 'all'",
            ),
            (
                "file:/a,ram-load=map,offset=x",
                "file URI has bad offset x: Invalid argument",
            ),
            (r#"{"a": 1}"#, "Parameter 'channel-type' is missing"),
        ] {
            let error = incoming(arg(text)).unwrap_err().to_string();
            assert_eq!(error, format!("-incoming {text}: {message}"));
        }
    }

    #[test]
    fn globals_set_capabilities_and_parameters() {
        let other = Global {
            driver: "mch".into(),
            ..global("x", "1")
        };
        let list = vec![
            global("x-multifd", "on"),
            global("mapped-ram", "off"),
            global("x-max-bandwidth", "1M"),
            global("multifd-channels", "4"),
            other.clone(),
        ];
        let (ours, others) = of_globals(list).unwrap();
        assert_eq!(others, [other]);
        let text: Vec<String> = ours
            .iter()
            .map(|order| match &order.setting {
                Setting::Capability(c) => format!("{} {}", c.capability.name(), c.state),
                Setting::Parameter(p) => {
                    let bandwidth = p.max_bandwidth.map(|size| size.0);
                    format!("{bandwidth:?} {:?}", p.multifd_channels)
                }
            })
            .collect();
        assert_eq!(
            text,
            [
                "multifd true",
                "mapped-ram false",
                "Some(1048576) None",
                "None Some(4)"
            ]
        );
    }

    #[test]
    fn globals_of_other_names_and_types_are_refused() {
        for (name, value, message) in [
            ("multifd", "on", "Property 'migration.multifd' not found"),
            (
                "x-mapped-ram",
                "on",
                "Property 'migration.x-mapped-ram' not found",
            ),
            (
                "max-bandwidth",
                "5",
                "Property 'migration.max-bandwidth' not found",
            ),
            (
                "direct-io",
                "on",
                "Property 'migration.direct-io' not found",
            ),
            ("foo", "1", "Property 'migration.foo' not found"),
            (
                "x-multifd",
                "maybe",
                "Parameter 'x-multifd' expects 'on' or 'off'",
            ),
        ] {
            let error = of_globals(vec![global(name, value)]).unwrap_err();
            let expected = format!("can't apply global migration.{name}={value}: {message}");
            assert_eq!(error.to_string(), expected);
        }
        of_globals(vec![global("multifd-channels", "x")]).unwrap_err();
    }
}
