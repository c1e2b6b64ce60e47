//! `-global`: values that properties of drivers have unless a device says otherwise.
//!
//! They hold for the whole program, for devices of the command line and of device_add alike, and
//! are there before the first device is decoded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::{DRIVERS, DriverInfo, QmpError, QmpResult};

/// One `-global`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// The driver, or a type that drivers descend from.
    pub driver: String,
    /// The property.
    pub property: String,
    /// The value, as text.
    pub value: String,
}

struct Known {
    global: Arc<Global>,
    used: AtomicBool,
}

/// Written once, at the start.
static GLOBALS: RwLock<Vec<Known>> = RwLock::new(Vec::new());

/// Sets all of them; those that come later win.
pub fn install(globals: Vec<Global>) {
    let known = |global| Known {
        global: Arc::new(global),
        used: AtomicBool::new(false),
    };
    let mut list = GLOBALS.write().unwrap_or_else(PoisonError::into_inner);
    *list = globals.into_iter().map(known).collect();
}

/// What holds for a device of this driver. They count as used from now on.
///
/// # Errors
/// QEMU's words for a property that the driver does not have.
pub fn of_driver(driver: &str) -> QmpResult<Vec<Arc<Global>>> {
    let list = GLOBALS.read().unwrap_or_else(PoisonError::into_inner);
    let by_alias = DRIVERS.iter().find(|info| info.alias == Some(driver));
    let driver = by_alias.map_or(driver, |info| info.name);
    let mut found: Vec<Arc<Global>> = Vec::new();
    for known in list
        .iter()
        .filter(|known| is_a(driver, &known.global.driver))
    {
        known.used.store(true, Ordering::Relaxed);
        let global = &known.global;
        let exists = info(driver)
            .is_some_and(|info| info.properties.iter().any(|p| p.name == global.property));
        if !exists {
            let missing = format!("Property '{driver}.{}' not found", global.property);
            return Err(global.refuse(&QmpError::generic(missing)));
        }
        found.retain(|other| other.property != global.property);
        found.push(global.clone());
    }
    Ok(found)
}

impl Global {
    /// The error that its value leads to.
    pub fn refuse(&self, why: &QmpError) -> QmpError {
        let Global {
            driver,
            property,
            value,
        } = self;
        let why = &why.desc;
        QmpError::generic(format!(
            "can't apply global {driver}.{property}={value}: {why}"
        ))
    }
}

/// What is to be said of globals once all devices of the command line are there: those of types
/// that are no devices, and those of devices that cannot come any more.
pub fn remarks() -> Vec<String> {
    let list = GLOBALS.read().unwrap_or_else(PoisonError::into_inner);
    list.iter().filter_map(Known::remark).collect()
}

impl Known {
    fn remark(&self) -> Option<String> {
        let Global {
            driver,
            property,
            value,
        } = &*self.global;
        let outer = outer(driver);
        let Some(info) = info(&outer).filter(|info| is_a(info.name, "device")) else {
            return Some(format!("global {driver}.{property} has invalid class name"));
        };
        // Devices on no bus, and what the machine brings along, are there from the start.
        let fixed = !info.is_abstract && (!info.user_creatable || info.bus.is_none());
        let unused = fixed && !self.used.load(Ordering::Relaxed);
        unused.then(|| format!("global {driver}.{property}={value} not used"))
    }
}

fn info(name: &str) -> Option<&'static DriverInfo> {
    DRIVERS.iter().find(|info| info.name == name)
}

/// What is inside of a virtio function has the function's properties here.
fn outer(name: &str) -> String {
    match name.strip_suffix("-device") {
        Some(kind) if info(name).is_none() && kind.starts_with("virtio-") => format!("{kind}-pci"),
        _ => name.to_owned(),
    }
}

fn is_a(driver: &str, ancestor: &str) -> bool {
    let ancestor = outer(ancestor);
    let mut at = info(driver);
    while let Some(driver) = at {
        if driver.name == ancestor || driver.alias == Some(ancestor.as_str()) {
            return true;
        }
        at = info(driver.parent);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceDriver, DeviceOptions, Mode, Value, decode_value};

    fn options(text: &str) -> QmpResult<DeviceOptions> {
        let members = crate::keyval::parse_json(text)?;
        decode_value(Value::Object(members), Mode::Strict)
    }

    fn global(driver: &str, property: &str, value: &str) -> Global {
        Global {
            driver: driver.into(),
            property: property.into(),
            value: value.into(),
        }
    }

    /// One test, for they are the whole program's, and of drivers that no other test takes.
    #[test]
    fn they_hold_unless_a_device_says_otherwise() {
        install(vec![
            global("scsi-cd", "lun", "3"),
            global("scsi-cd", "lun", "0x4"),
            global("scsi-disk-base", "share-rw", "on"),
            global("virtio-balloon-device", "deflate-on-oom", "yes"),
            global("vmgenid", "nope", "1"),
            global("pvpanic-pci", "events", "many"),
            global("nothing", "x", "1"),
            global("iothread", "poll-max-ns", "4"),
            global("mch", "x", "2"),
        ]);
        let cd = |text: &str| match options(text).unwrap().driver {
            DeviceDriver::ScsiCd(props) => (props.lun, props.share_rw),
            other => panic!("{other:?}"),
        };
        let plain = r#"{"driver": "scsi-cd"}"#;
        assert_eq!(cd(plain), (Some(4), true));
        let text = r#"{"driver": "scsi-cd", "lun": 7, "share-rw": false}"#;
        assert_eq!(cd(text), (Some(7), false));
        // By its other name, and by what is inside of it.
        match options(r#"{"driver": "virtio-balloon"}"#).unwrap().driver {
            DeviceDriver::VirtioBalloonPci(props) => assert!(props.deflate_on_oom),
            other => panic!("{other:?}"),
        }
        let refused = |text| options(text).unwrap_err().desc;
        assert_eq!(
            refused(r#"{"driver": "vmgenid"}"#),
            "can't apply global vmgenid.nope=1: Property 'vmgenid.nope' not found"
        );
        let text = refused(r#"{"driver": "pvpanic-pci"}"#);
        let begin = "can't apply global pvpanic-pci.events=many: ";
        assert!(text.starts_with(begin), "{text}");
        assert_eq!(
            remarks(),
            [
                "global nothing.x has invalid class name",
                "global iothread.poll-max-ns has invalid class name",
                "global mch.x=2 not used",
            ]
        );
        install(Vec::new());
        assert_eq!(cd(plain), (None, false));
    }
}
