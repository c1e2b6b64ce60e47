//! Properties of plugged devices that are alive: they change while the device runs, and some can
//! be set.

use std::sync::Arc;

use api_spec::{DRIVERS, DeviceDriver, Mode, QmpError, QmpResult, Value};
use devices::registry::Face;
use devices::virtio::balloon::Balloon;

use super::Machine;
use super::plug::Device;
use super::qom::Node;
use super::qtree::virtio_backend;

/// Seconds between two questions for statistics.
const POLLING: &str = "guest-stats-polling-interval";
/// What the guest told.
const STATS: &str = "guest-stats";

impl Machine {
    /// The balloon; there is one at most.
    pub fn balloon(&self) -> Option<&Arc<Balloon>> {
        self.devices.iter().find_map(|device| device.face.balloon())
    }

    /// Refuses a second device of those of which there can be one only.
    pub(super) fn check_only_one(&self, driver: &DeviceDriver) -> QmpResult<()> {
        let taken = match driver {
            DeviceDriver::VirtioBalloonPci(_) if self.balloon().is_some() => {
                "Only one balloon device is supported"
            }
            DeviceDriver::Vmgenid(_) if self.generation().is_some() => {
                "at most one vmgenid device is permitted"
            }
            _ => return Ok(()),
        };
        Err(QmpError::generic(taken))
    }

    /// qom-set on the device at `path`, which has the property.
    ///
    /// # Errors
    /// QEMU's words, for values that make no sense and properties that cannot be set any more.
    pub fn set_property(&self, path: &str, property: &str, value: &Value) -> Option<QmpResult<()>> {
        let (device, inside) = self.device_at(path)?;
        if let (Face::Balloon(balloon), POLLING) = (&device.face, property) {
            return Some(set_polling(balloon, value));
        }
        let driver = device.options.driver.name();
        let kind = match virtio_backend(device) {
            // What is inside of the function has it.
            Some(kind) if inside || property == STATS => kind,
            _ => driver.to_owned(),
        };
        let configured = has_property(driver, property);
        let text = match (configured, inside, &device.options.id) {
            (false, _, _) => format!("Property '{kind}.{property}' is not writable"),
            (true, false, Some(id)) => format!(
                "Attempt to set property '{property}' on device '{id}' (type '{kind}') after it was \
                 realized"
            ),
            (true, _, _) => format!(
                "Attempt to set property '{property}' on anonymous device (type '{kind}') after it \
                 was realized"
            ),
        };
        Some(Err(QmpError::generic(text)))
    }

    /// The device at `path` in the object tree, and whether the path leads to what is inside of
    /// its function.
    fn device_at(&self, path: &str) -> Option<(&Device, bool)> {
        let inner = path.strip_suffix("/virtio-backend");
        self.devices.iter().find_map(|device| {
            let at = device.branch.path(&device.key);
            match inner {
                Some(inner) if inner == at => Some((device, true)),
                _ if path == at => Some((device, false)),
                _ => None,
            }
        })
    }
}

/// Whether the driver is configured by a property of that name.
fn has_property(driver: &str, property: &str) -> bool {
    let info = DRIVERS.iter().find(|info| info.name == driver);
    info.is_some_and(|info| info.properties.iter().any(|p| p.name == property))
}

fn set_polling(balloon: &Balloon, value: &Value) -> QmpResult<()> {
    let seconds: i64 = api_spec::decode_value(value.clone(), Mode::Strict)
        .map_err(|_| QmpError::wrong_type(POLLING, "integer"))?;
    balloon.set_polling_interval(seconds)
}

/// Adds what a device shows of its life to its node, and to that of what is inside.
pub(super) fn add_live(node: &mut Node, device: &Device) {
    let Face::Balloon(balloon) = &device.face else {
        return;
    };
    let stats = balloon.stats();
    let values: api_spec::Object = stats
        .named()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let mut told = api_spec::Object::new();
    told.insert("stats".into(), Value::Object(values));
    told.insert("last-update".into(), stats.last_update.into());
    node.set(STATS, "guest statistics", Value::Object(told));
}

/// What a property is by now that was chosen when the device was made.
pub(super) fn live_value(device: &Device, property: &str) -> Option<Value> {
    match (&device.face, property) {
        (Face::Balloon(balloon), POLLING) => Some(balloon.polling_interval().into()),
        (Face::Generation(generation), "guid") => Some(generation.id().to_string().into()),
        _ => None,
    }
}
