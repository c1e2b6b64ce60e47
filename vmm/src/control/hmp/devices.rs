//! Text commands about devices that come and go, read into what they ask for.

use super::Verb as All;
use super::table::{Entry, entry};
use super::words::Words;

/// A command about devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// device_add.
    Add,
    /// device_del.
    Del,
    /// pci_add, of old.
    PciAdd,
    /// pci_del, of old.
    PciDel,
}

/// The commands.
pub(super) static COMMANDS: &[Entry] = &[
    entry(
        "device_add",
        None,
        All::Device(Verb::Add),
        "driver[,prop=value][,...]",
        "make a device and plug it in (help: what there is)",
    ),
    entry(
        "device_del",
        None,
        All::Device(Verb::Del),
        "device",
        "ask the guest to let go of a device",
    ),
    entry(
        "pci_add",
        None,
        All::Device(Verb::PciAdd),
        "",
        "replaced by device_add",
    ),
    entry(
        "pci_del",
        None,
        All::Device(Verb::PciDel),
        "",
        "replaced by device_del",
    ),
];

/// A whole command about devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceLine {
    /// Make one, as `-device` has it.
    Add(String),
    /// Ask the guest to let go of one.
    Del(String),
}

impl DeviceLine {
    /// Reads the words behind the command.
    ///
    /// # Errors
    /// The text to answer with.
    pub fn read(verb: Verb, mut words: Words) -> Result<Self, String> {
        let line = match verb {
            Verb::Add => DeviceLine::Add(words.next().unwrap_or_default()),
            Verb::Del => DeviceLine::Del(words.need("string")?),
            Verb::PciAdd => return Err(replaced("pci_add", "device_add")),
            Verb::PciDel => return Err(replaced("pci_del", "device_del")),
        };
        words.end()?;
        Ok(line)
    }
}

fn replaced(old: &str, new: &str) -> String {
    format!("{old} was replaced by {new}\n")
}

#[cfg(test)]
mod tests {
    use super::super::{Line, parse};
    use super::*;

    #[test]
    fn lines_are_read() {
        let add = |text: &str| Ok(Line::Device(DeviceLine::Add(text.into())));
        for (line, expected) in [
            ("device_add virtio-rng-pci,id=r", add("virtio-rng-pci,id=r")),
            ("device_add", add("")),
            (
                "device_del r",
                Ok(Line::Device(DeviceLine::Del("r".into()))),
            ),
            (
                "device_del",
                Err("device_del: string expected\n\
                     Try \"help device_del\" for more information\n"),
            ),
            (
                "device_del a b",
                Err("device_del: extraneous characters at the end of line\n\
                     Try \"help device_del\" for more information\n"),
            ),
            (
                "pci_add auto nic",
                Err("pci_add was replaced by device_add\n"),
            ),
            ("pci_del 3", Err("pci_del was replaced by device_del\n")),
        ] {
            assert_eq!(parse(line), expected.map_err(str::to_owned), "{line}");
        }
    }
}
