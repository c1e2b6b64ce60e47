//! Where a drive is connected: `if`, `index`, `bus`, `unit` and `media` of `-drive`, the name that
//! follows from them, and the devices that come along.
//!
//! Machines here have no IDE. What is not said otherwise is connected to virtio, and a CD-ROM to
//! SCSI, by a controller that is made for it.

use api_spec::{Object, QmpError, QmpResult};

use super::drive::Pairs;
use crate::cli::opts::c_number;

/// What a drive is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interface {
    /// Nothing: a `-device` uses it.
    None,
    /// A disk of its own.
    Virtio,
    /// A controller with several drives.
    Scsi,
}

impl Interface {
    /// As `if=` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Interface::None => "none",
            Interface::Virtio => "virtio",
            Interface::Scsi => "scsi",
        }
    }

    /// Drives on a bus, where it has several.
    const fn units(self) -> Option<u64> {
        match self {
            Interface::None | Interface::Virtio => None,
            Interface::Scsi => Some(7),
        }
    }
}

/// What kind of drive it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// A disk.
    Disk,
    /// A CD-ROM.
    Cdrom,
}

/// A place on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    /// The interface.
    pub interface: Interface,
    /// The bus.
    pub bus: u64,
    /// The place on the bus.
    pub unit: u64,
}

/// A place as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WantedUnit {
    pub interface: Interface,
    pub media: Media,
    bus: u64,
    unit: Option<u64>,
    index: Option<u64>,
}

impl WantedUnit {
    /// # Errors
    /// In QEMU's words.
    pub fn read(pairs: &mut Pairs) -> QmpResult<Self> {
        let mut number = |key: &str| {
            let text = pairs.take(key);
            let number = text.map(|text| {
                let wrong = || QmpError::generic(format!("Parameter '{key}' expects a number"));
                c_number(&text).ok_or_else(wrong)
            });
            number.transpose()
        };
        let (index, bus, unit) = (number("index")?, number("bus")?, number("unit")?);
        if index.is_some() && (bus.is_some() || unit.is_some()) {
            let desc = "index cannot be used with bus and unit";
            return Err(QmpError::generic(desc));
        }
        let name = pairs.take("if");
        let media = media(pairs.take("media").as_deref())?;
        let interface = interface(name.as_deref(), media, unit.or(index))?;
        let (bus, unit) = match (interface.units(), index) {
            (Some(units), Some(index)) => (index / units, Some(index % units)),
            (None, Some(index)) => (0, Some(index)),
            (_, None) => (bus.unwrap_or(0), unit),
        };
        if interface.units().is_none() && bus != 0 {
            return Err(QmpError::generic(format!("bus {bus} is not available")));
        }
        if let (Some(units), Some(unit)) = (interface.units(), unit)
            && unit >= units
        {
            let most = units.saturating_sub(1);
            let desc = format!("unit {unit} too big (max is {most})");
            return Err(QmpError::generic(desc));
        }
        Ok(WantedUnit {
            interface,
            media,
            bus,
            unit,
            index,
        })
    }

    /// The place itself: what was asked for, or the first that is free.
    ///
    /// # Errors
    /// When it is taken.
    pub fn choose(&self, taken: &dyn Fn(Unit) -> bool) -> QmpResult<Unit> {
        let at = |bus, unit| Unit {
            interface: self.interface,
            bus,
            unit,
        };
        let Some(unit) = self.unit else {
            let units = self.interface.units().unwrap_or(u64::MAX);
            let all = (self.bus..).flat_map(|bus| (0..units).map(move |unit| at(bus, unit)));
            let mut free = all.filter(|unit| !taken(*unit));
            return free.next().ok_or_else(|| QmpError::generic("no free unit"));
        };
        let unit = at(self.bus, unit);
        if taken(unit) {
            let index = self
                .index
                .map_or("-1".to_owned(), |index| index.to_string());
            return Err(QmpError::generic(format!(
                "drive with bus={}, unit={} (index={index}) exists",
                unit.bus, unit.unit
            )));
        }
        Ok(unit)
    }
}

impl Unit {
    /// The name of a drive there that nobody gave one.
    pub fn drive_name(self, media: Media) -> String {
        let Unit {
            interface,
            bus,
            unit,
        } = self;
        let name = interface.name();
        match (interface, media) {
            (Interface::None | Interface::Virtio, _) => format!("{name}{unit}"),
            (Interface::Scsi, Media::Disk) => format!("{name}{bus}-hd{unit}"),
            (Interface::Scsi, Media::Cdrom) => format!("{name}{bus}-cd{unit}"),
        }
    }

    /// The device of the drive `id` that comes along: arguments of device_add.
    pub fn device(self, media: Media, id: &str) -> Option<Object> {
        let mut device = Object::new();
        match self.interface {
            Interface::None => return None,
            Interface::Virtio => {
                device.insert("driver".into(), "virtio-blk-pci".into());
            }
            Interface::Scsi => {
                let driver = match media {
                    Media::Disk => "scsi-hd",
                    Media::Cdrom => "scsi-cd",
                };
                device.insert("driver".into(), driver.into());
                let bus = format!("{}.0", controller_id(self.bus));
                device.insert("bus".into(), bus.into());
                device.insert("scsi-id".into(), self.unit.into());
            }
        }
        device.insert("drive".into(), id.into());
        Some(device)
    }

    /// The controller that the device needs.
    pub fn controller(self) -> Option<Object> {
        if self.interface != Interface::Scsi {
            return None;
        }
        let mut device = Object::new();
        device.insert("driver".into(), "virtio-scsi-pci".into());
        device.insert("id".into(), controller_id(self.bus).into());
        Some(device)
    }
}

/// What users are not likely to call a controller of their own.
fn controller_id(bus: u64) -> String {
    format!("auto-scsi{bus}")
}

fn interface(name: Option<&str>, media: Media, unit: Option<u64>) -> QmpResult<Interface> {
    match (name, media) {
        (Some("none"), _) => Ok(Interface::None),
        (Some("virtio"), _) | (None, Media::Disk) => Ok(Interface::Virtio),
        (Some("scsi"), _) | (None, Media::Cdrom) => Ok(Interface::Scsi),
        (Some(name @ ("ide" | "floppy" | "pflash" | "mtd" | "sd" | "xen")), _) => {
            let unit = unit.unwrap_or(0);
            Err(QmpError::generic(format!(
                "machine type does not support if={name},bus=0,unit={unit}"
            )))
        }
        (Some(other), _) => Err(QmpError::generic(format!("unsupported bus type '{other}'"))),
    }
}

fn media(media: Option<&str>) -> QmpResult<Media> {
    match media {
        None | Some("disk") => Ok(Media::Disk),
        Some("cdrom") => Ok(Media::Cdrom),
        Some(other) => Err(QmpError::generic(format!("'{other}' invalid media"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(text: &str) -> Result<WantedUnit, String> {
        WantedUnit::read(&mut Pairs::read(text)).map_err(|error| error.desc)
    }

    fn place(text: &str, taken: &[&str]) -> Result<String, String> {
        let wanted = read(text)?;
        let is_taken = |unit: Unit| taken.contains(&&*unit.drive_name(wanted.media));
        let unit = wanted.choose(&is_taken).map_err(|error| error.desc)?;
        Ok(unit.drive_name(wanted.media))
    }

    #[test]
    fn drives_are_named_after_their_places() {
        for (text, name) in [
            ("", "virtio0"),
            ("index=3", "virtio3"),
            ("media=cdrom", "scsi0-cd0"),
            ("media=cdrom,index=2", "scsi0-cd2"),
            ("if=virtio,media=cdrom", "virtio0"),
            ("if=scsi", "scsi0-hd0"),
            ("if=scsi,index=9", "scsi1-hd2"),
            ("if=scsi,bus=2", "scsi2-hd0"),
            ("if=scsi,bus=2,unit=6", "scsi2-hd6"),
            ("if=none", "none0"),
        ] {
            assert_eq!(place(text, &[]).as_deref(), Ok(name), "{text}");
        }
        assert_eq!(place("", &["virtio0", "virtio2"]).unwrap(), "virtio1");
        let full: Vec<String> = (0..7).map(|unit| format!("scsi0-hd{unit}")).collect();
        let full: Vec<&str> = full.iter().map(String::as_str).collect();
        assert_eq!(place("if=scsi", &full).unwrap(), "scsi1-hd0");
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        for (text, message) in [
            (
                "if=ide,index=1",
                "machine type does not support if=ide,bus=0,unit=1",
            ),
            ("if=foo", "unsupported bus type 'foo'"),
            ("media=foo", "'foo' invalid media"),
            ("index=1,unit=1", "index cannot be used with bus and unit"),
            ("index=x", "Parameter 'index' expects a number"),
            ("bus=1", "bus 1 is not available"),
            ("if=scsi,unit=7", "unit 7 too big (max is 6)"),
        ] {
            assert_eq!(read(text).unwrap_err(), message, "{text}");
        }
        assert_eq!(
            place("if=scsi,index=1", &["scsi0-hd1"]).unwrap_err(),
            "drive with bus=0, unit=1 (index=1) exists"
        );
        assert_eq!(
            place("unit=1", &["virtio1"]).unwrap_err(),
            "drive with bus=0, unit=1 (index=-1) exists"
        );
    }

    #[test]
    fn devices_come_along() {
        let unit = |text: &str| {
            let wanted = read(text).unwrap();
            (wanted.choose(&|_| false).unwrap(), wanted.media)
        };
        let device = |text: &str| {
            let (unit, media) = unit(text);
            unit.device(media, "x").map(Value::Object)
        };
        assert_eq!(device("if=none"), None);
        assert_eq!(
            device(""),
            Some(json!({"driver": "virtio-blk-pci", "drive": "x"}))
        );
        assert_eq!(
            device("media=cdrom,index=2"),
            Some(json!({"driver": "scsi-cd", "bus": "auto-scsi0.0", "scsi-id": 2, "drive": "x"}))
        );
        assert_eq!(
            device("if=scsi,index=8"),
            Some(json!({"driver": "scsi-hd", "bus": "auto-scsi1.0", "scsi-id": 1, "drive": "x"}))
        );
        assert_eq!(unit("").0.controller(), None);
        let controller = unit("media=cdrom").0.controller().map(Value::Object);
        assert_eq!(
            controller,
            Some(json!({"driver": "virtio-scsi-pci", "id": "auto-scsi0"}))
        );
    }
}
