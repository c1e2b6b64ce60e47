//! The texts of `-help`, `-version` and of `help` as a value.

use std::fmt::Write;

use api_spec::{DRIVERS, DriverInfo, OPTIONS};

use super::args::Arg;
use super::net;
use crate::accel::AccelKind;
use crate::cpuid;
use crate::logging;
use crate::machine::spec::MachineKind;

/// The version line, which clients take apart.
pub fn version() -> String {
    format!(
        "QEMU emulator version 10.0.2 (qvmd {})\n\
         qvmd speaks the interfaces of that version of QEMU; it is another program.\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// The text that this option asks for, if it asks for one.
pub fn asked_for(arg: &Arg) -> Option<String> {
    let first = arg.value.split(',').next().unwrap_or_default();
    let bare = first.rsplit('=').next().unwrap_or_default();
    let wants = matches!(bare, "help" | "?");
    match arg.name {
        "help" => Some(usage()),
        "version" => Some(version()),
        "machine" if wants => Some(machines()),
        "accel" if wants => Some(accelerators()),
        "cpu" if wants => Some(cpuid::help()),
        "device" => of_devices(&arg.value),
        "watchdog" if wants => Some("i6300esb             Intel 6300ESB\n".to_owned()),
        "object" if wants => Some(objects()),
        "netdev" if wants => Some(net::kinds()),
        "nic" | "net" if asks_for_model(&arg.value) => Some(net::models()),
        "net" | "nic" if wants => Some(net::kinds()),
        "chardev" if wants => Some(chardevs()),
        "d" if wants => Some(logging::items::help()),
        "d" if arg.value.split(',').any(|item| item == "trace:help") => {
            Some(logging::points::list())
        }
        "trace" if wants => Some(logging::points::list()),
        _ => None,
    }
}

/// The text that this value of `-device` asks for, if it asks for one.
pub fn of_devices(value: &str) -> Option<String> {
    let first = value.split(',').next().unwrap_or_default();
    let bare = first.rsplit('=').next().unwrap_or_default();
    match bare {
        "help" | "?" => Some(devices()),
        driver if asks_for_properties(value) => properties(driver),
        _ => None,
    }
}

fn asks_for_properties(value: &str) -> bool {
    !value.starts_with('{')
        && value
            .split(',')
            .skip(1)
            .any(|part| matches!(part, "help" | "?"))
}

fn asks_for_model(value: &str) -> bool {
    value
        .split(',')
        .any(|part| matches!(part, "model=help" | "model=?"))
}

fn usage() -> String {
    let mut text = version();
    text.push_str("usage: qvmd [options]\n\n");
    for option in OPTIONS {
        let _ = writeln!(
            text,
            "{}\n                {}",
            option.usage, option.description
        );
    }
    text
}

fn machines() -> String {
    let mut text = String::from("Supported machines are:\n");
    for kind in MachineKind::ALL {
        if let Some(alias) = kind.alias() {
            let what = format!("{} (alias of {})", kind.description(), kind.name());
            let _ = writeln!(text, "{alias:<20} {what}");
        }
        let _ = writeln!(text, "{:<20} {}", kind.name(), kind.description());
    }
    text
}

fn accelerators() -> String {
    let names = AccelKind::ALL.map(AccelKind::name).join("\n");
    format!("Accelerators supported in QEMU binary:\n{names}\n")
}

/// All devices by category, each as `name "x", bus y, desc "z"`.
fn devices() -> String {
    let mut list: Vec<&DriverInfo> = DRIVERS.iter().filter(|info| info.user_creatable).collect();
    list.sort_by_key(|info| (info.category, info.name));
    let mut text = String::new();
    let mut category = "";
    for info in list {
        if info.category != category {
            let gap = if category.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}{}:", info.category);
            category = info.category;
        }
        let _ = write!(text, "name \"{}\"", info.name);
        if let Some(bus) = info.bus {
            let _ = write!(text, ", bus {bus}");
        }
        if let Some(alias) = info.alias {
            let _ = write!(text, ", alias \"{alias}\"");
        }
        let _ = writeln!(text, ", desc \"{}\"", info.description);
    }
    text
}

fn properties(driver: &str) -> Option<String> {
    let info = DRIVERS
        .iter()
        .find(|info| info.user_creatable && (info.name == driver || info.alias == Some(driver)))?;
    let mut text = format!("{} options:\n", info.name);
    for property in info.properties {
        let head = format!("{}=<{}>", property.name, property.kind);
        let _ = write!(text, "  {head:<22} - {}", property.description);
        match property.default {
            Some(default) => {
                let _ = writeln!(text, " (default: {})", default.trim_matches('"'));
            }
            None => text.push('\n'),
        }
    }
    Some(text)
}

fn objects() -> String {
    let mut text = String::from("List of user creatable objects:\n");
    for name in api_spec::ObjectType::ALL {
        let _ = writeln!(text, "  {}", name.name());
    }
    text
}

fn chardevs() -> String {
    let mut text = String::from("Available chardev backend types:\n");
    for name in api_spec::ChardevBackendKind::ALL {
        let _ = writeln!(text, "  {}", name.name());
    }
    text
}
