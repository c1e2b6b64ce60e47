//! `-netdev`, `-nic` and `-net`: all come to netdevs and interfaces.
//!
//! ```text
//! -netdev X              netdev X
//! -nic X,model=,mac=     netdev X, and an interface on it
//! -net nic, -net X       hub 0; where that has one interface and one X, they are connected directly
//! ```

use api_spec::keyval::{self, Argument, Flags};
use api_spec::{DeviceOptions, Mode, Netdev, Object, QmpError, QmpResult, Value, decode_value};

use super::args::{Arg, CliError};
use super::opts;

/// What all these options come to.
#[derive(Default)]
pub struct NetOrders {
    /// Netdevs, in the order in which they are to be made.
    pub netdevs: Vec<(Arg, Netdev)>,
    /// Interfaces.
    pub nics: Vec<(Arg, DeviceOptions)>,
}

/// The interface that there is.
const MODEL: &str = "virtio-net-pci";
/// Options that may be given several times; each is one of a list.
const LISTS: [&str; 3] = ["dnssearch", "guestfwd", "hostfwd"];
/// Kinds of netdev that take dotted keys.
const DOTTED: [&str; 2] = ["stream", "dgram"];

/// Decodes these options.
///
/// # Errors
/// What is wrong with the first one that is.
pub fn orders(netdevs: Vec<Arg>, nics: Vec<Arg>, nets: Vec<Arg>) -> Result<NetOrders, CliError> {
    let mut orders = NetOrders::default();
    for arg in netdevs {
        let netdev = netdev(&arg.value).map_err(|error| arg.error(error))?;
        orders.netdevs.push((arg, netdev));
    }
    for (index, arg) in nics.into_iter().enumerate() {
        let made = nic(index, &arg.value).map_err(|error| arg.error(error))?;
        if let Some((netdev, device)) = made {
            orders.netdevs.push((arg.clone(), netdev));
            orders.nics.push((arg, device));
        }
    }
    legacy(nets, &mut orders)?;
    Ok(orders)
}

/// A netdev as text: `type,key=value,...`, or JSON.
///
/// # Errors
/// In QEMU's words.
pub fn netdev(text: &str) -> QmpResult<Netdev> {
    if text.trim_start().starts_with('{') {
        return keyval::parse_json(text)
            .and_then(|object| decode_value(Value::Object(object), Mode::Strict));
    }
    decode(members(text)?)
}

fn decode<T: api_spec::Decode>(members: Object) -> QmpResult<T> {
    decode_value(Value::Object(members), Mode::Keyval)
}

/// The members of an option's text, those that are lists collected.
fn members(text: &str) -> QmpResult<Object> {
    let (mut rest, mut lists) = (Vec::new(), Vec::new());
    for item in opts::split(text) {
        match item.split_once('=') {
            Some((key, value)) if LISTS.contains(&key) => {
                lists.push((key.to_owned(), value.to_owned()));
            }
            _ => rest.push(item.replace(',', ",,")),
        }
    }
    let dotted = |item: &String| {
        let kind = item.strip_prefix("type=").unwrap_or(item);
        DOTTED.contains(&kind)
    };
    let flags = match rest.iter().any(dotted) {
        true => Flags::Refused,
        false => Flags::OnOff,
    };
    let parsed = keyval::parse(&rest.join(","), Some("type"), flags)?;
    let (Argument::Text(mut object) | Argument::Help(mut object) | Argument::Json(mut object)) =
        parsed;
    for (key, value) in lists {
        let wrapped = serde_json::json!({ "str": value });
        match object.get_mut(&key) {
            Some(Value::Array(list)) => list.push(wrapped),
            _ => {
                object.insert(key, Value::Array(vec![wrapped]));
            }
        }
    }
    Ok(object)
}

fn take(members: &mut Object, key: &str) -> Option<String> {
    match members.remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// The driver for a model's name.
fn driver(model: Option<&str>) -> QmpResult<&'static str> {
    match model {
        None | Some("virtio" | "virtio-net" | MODEL) => Ok(MODEL),
        Some(other) => Err(QmpError::generic(format!(
            "Unsupported NIC model: {other} (supported are virtio and {MODEL})"
        ))),
    }
}

/// An interface on a netdev.
fn device(netdev: &str, members: &mut Object) -> QmpResult<DeviceOptions> {
    let driver = driver(take(members, "model").as_deref())?;
    let mut device = serde_json::json!({ "driver": driver, "netdev": netdev });
    for (from, to) in [
        ("mac", "mac"),
        ("macaddr", "mac"),
        ("addr", "addr"),
        ("vectors", "vectors"),
    ] {
        if let Some(value) = take(members, from) {
            if to == "mac" {
                check_mac(&value)?;
            }
            device[to] = value.into();
        }
    }
    decode_value(device, Mode::Keyval)
}

fn check_mac(text: &str) -> QmpResult<()> {
    let parts: Vec<Option<u8>> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    match parts.as_slice() {
        [Some(first), Some(_), Some(_), Some(_), Some(_), Some(_)] => match first & 1 {
            0 => Ok(()),
            _ => Err(QmpError::generic(
                "NIC cannot have multicast MAC address (odd 1st byte)",
            )),
        },
        _ => Err(QmpError::generic("invalid syntax for ethernet address")),
    }
}

/// `-nic`: a netdev and an interface, or nothing (`none`).
fn nic(index: usize, text: &str) -> QmpResult<Option<(Netdev, DeviceOptions)>> {
    let mut all = members(text)?;
    if all.get("type").and_then(Value::as_str) == Some("none") {
        return Ok(None);
    }
    let id = take(&mut all, "id").unwrap_or_else(|| format!("nic{index}-netdev"));
    let mut own = Object::new();
    for key in ["model", "mac", "macaddr", "addr", "vectors"] {
        if let Some(value) = all.remove(key) {
            own.insert(key.to_owned(), value);
        }
    }
    let device = device(&id, &mut own)?;
    all.insert("id".to_owned(), id.into());
    Ok(Some((decode(all)?, device)))
}

/// What is on a hub.
#[derive(Default)]
struct Hub {
    id: i64,
    nics: Vec<(Arg, Object)>,
    netdevs: Vec<(Arg, Object)>,
}

/// `-net`: everything on hubs; the old `vlan=` says which one.
fn legacy(args: Vec<Arg>, orders: &mut NetOrders) -> Result<(), CliError> {
    let mut hubs: Vec<Hub> = Vec::new();
    for arg in args {
        let mut all = members(&arg.value).map_err(|error| arg.error(error))?;
        let kind = take(&mut all, "type");
        let kind = kind.ok_or_else(|| arg.error("Parameter 'type' is missing"))?;
        if kind == "none" {
            continue;
        }
        let hub = take(&mut all, "vlan").unwrap_or_else(|| "0".to_owned());
        let hub: i64 = match hub.parse() {
            Ok(hub @ 0..=0x7fff_ffff) => hub,
            _ => return Err(arg.error("Parameter 'vlan' expects a number")),
        };
        let on_hub = match hubs.iter_mut().position(|other| other.id == hub) {
            Some(at) => hubs.get_mut(at),
            None => {
                hubs.push(Hub {
                    id: hub,
                    ..Hub::default()
                });
                hubs.last_mut()
            }
        };
        let Some(on_hub) = on_hub else { continue };
        match kind.as_str() {
            "nic" => match take(&mut all, "netdev") {
                Some(netdev) => {
                    let device = legacy_nic(&netdev, all).map_err(|error| arg.error(error))?;
                    orders.nics.push((arg, device));
                }
                None => on_hub.nics.push((arg, all)),
            },
            "hubport" => return Err(arg.error("Parameter 'type' does not accept value 'hubport'")),
            _ => {
                let count = on_hub.netdevs.len();
                let id = take(&mut all, "name").or_else(|| take(&mut all, "id"));
                let id = id.unwrap_or_else(|| format!("{kind}.hub{hub}-{count}"));
                all.insert("id".to_owned(), id.into());
                all.insert("type".to_owned(), kind.into());
                on_hub.netdevs.push((arg, all));
            }
        }
    }
    hubs.into_iter().try_for_each(|hub| connect(hub, orders))
}

/// `-net nic`: `name=` is its id.
fn legacy_nic(netdev: &str, mut all: Object) -> QmpResult<DeviceOptions> {
    let id = take(&mut all, "name").or_else(|| take(&mut all, "id"));
    let mut options = device(netdev, &mut all)?;
    if let Some((key, _)) = all.iter().next() {
        return Err(QmpError::generic(format!("Invalid parameter '{key}'")));
    }
    options.id = id;
    Ok(options)
}

fn connect(hub: Hub, orders: &mut NetOrders) -> Result<(), CliError> {
    let Hub { id, nics, netdevs } = hub;
    let mut ids = Vec::new();
    for (arg, members) in netdevs {
        let netdev: Netdev = decode(members).map_err(|error| arg.error(error))?;
        ids.push((arg.clone(), netdev.id.clone()));
        orders.netdevs.push((arg, netdev));
    }
    let direct = match (ids.as_slice(), nics.len()) {
        ([(_, only)], 1) => Some(only.clone()),
        _ => None,
    };
    let mut port = 0usize;
    let mut hub_port = |other: Option<&str>| -> QmpResult<Netdev> {
        let mut members = serde_json::json!({
            "type": "hubport", "id": format!("hub{id}port{port}"), "hubid": id,
        });
        port = port.saturating_add(1);
        if let Some(other) = other {
            members["netdev"] = other.into();
        }
        decode_value(members, Mode::Strict)
    };
    if direct.is_none() {
        for (arg, other) in &ids {
            let port = hub_port(Some(other)).map_err(|error| arg.error(error))?;
            orders.netdevs.push((arg.clone(), port));
        }
    }
    for (arg, members) in nics {
        let netdev = match &direct {
            Some(only) => only.clone(),
            None => {
                let port = hub_port(None).map_err(|error| arg.error(error))?;
                let id = port.id.clone();
                orders.netdevs.push((arg.clone(), port));
                id
            }
        };
        let device = legacy_nic(&netdev, members).map_err(|error| arg.error(error))?;
        orders.nics.push((arg, device));
    }
    Ok(())
}

/// The text of `-netdev help`.
pub fn kinds() -> String {
    let names: Vec<&str> = api_spec::NetClientDriver::ALL
        .iter()
        .map(|kind| kind.name())
        .collect();
    format!("Available netdev backend types:\n{}\n", names.join("\n"))
}

/// The text of `-nic model=help`.
pub fn models() -> String {
    format!("Available NIC models for this configuration:\n{MODEL}\n")
}

#[cfg(test)]
#[path = "net_test.rs"]
mod tests;
