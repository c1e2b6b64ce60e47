//! Devices that go: the guest is asked, lets go, and what they used is free again.

use std::sync::Arc;
use std::time::Duration;

use api_spec::{QmpError, QmpResult};
use devices::bus::lock;
use devices::clock::Clock;
use devices::pci::{DevFn, SharedFunction, Unplug};
use devices::registry::{ChildBus, Face};
use devices::scsi::Unit;

use super::Machine;
use super::plug::{Asked, Branch, Bus, BusKind, Device, Hotplug, no_hotplug};

/// How long a guest that was asked through a slot's button may take until it can be asked again:
/// the five seconds in which it can be called off (PCI Express Base 3.0, section 6.7.1.5).
const BUTTON_NS: u64 = 5_000_000_000;
/// How long until a guest that was asked through an event of ACPI can be asked again: as on QEMU,
/// practically at any time.
const EVENT_NS: u64 = 1_000_000;
/// Between two looks whether somebody still uses a device that is gone.
const LOOKS: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(10));

/// A device that is gone, or was asked for and stays, as watchers are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Its id, if it had one and is not a part of a device.
    pub id: Option<String>,
    /// Where the object tree had it.
    pub path: String,
}

/// Devices that are out of their places; nobody reaches them any more, and their queues are served
/// until they are stopped. Dropping them frees what they used, which may block.
pub struct Removed {
    /// What watchers are to be told, in order.
    pub gone: Vec<Gone>,
    /// The machine keeps their ids and places until it is told this.
    pub ticket: u64,
    functions: Vec<SharedFunction>,
    buses: Vec<Bus>,
    devices: Vec<Device>,
}

/// Devices that let go of what they use.
pub(super) struct Leaving {
    ticket: u64,
    keys: Vec<Arc<str>>,
    /// Names of buses with places on them.
    places: Vec<(String, DevFn)>,
}

impl Removed {
    /// Takes their queues back, waiting until their requests are done: nothing of them reaches the
    /// guest's memory after that. Blocks for as long as the host takes with a request.
    pub fn stop_queues(&self) {
        for function in &self.functions {
            if let Some(queues) = lock(function).queues() {
                queues.stop_queues();
            }
        }
    }

    /// Waits until nobody is in the middle of something with the devices: what the guest wrote is
    /// with their block nodes then. Blocks.
    pub fn settle(&mut self) {
        // Ports know that they have buses.
        self.buses.clear();
        self.functions.iter().for_each(until_alone);
        if self.functions.is_empty() {
            // Their controllers serve others still.
            self.units().for_each(until_alone);
        }
    }

    /// Frees what the devices used. Blocks.
    pub fn free(mut self) {
        self.buses.clear();
        self.functions.clear();
        self.units().for_each(until_alone);
    }

    fn units(&self) -> impl Iterator<Item = &Arc<Unit>> {
        self.devices.iter().filter_map(|device| device.face.unit())
    }
}

/// An access that began before a device went still has it, and so has a worker that has not heard.
fn until_alone<T: ?Sized>(shared: &Arc<T>) {
    let (mut pause, longest) = LOOKS;
    while Arc::strong_count(shared) > 1 {
        std::thread::sleep(pause);
        pause = pause.saturating_mul(2).min(longest);
    }
}

impl Machine {
    /// The key of the device that a client calls by its id or its path.
    ///
    /// # Errors
    /// In QEMU's words, when there is none.
    pub fn device_key(&self, name: &str) -> QmpResult<Arc<str>> {
        let is = |device: &&Device| {
            let by_id = device.branch == Branch::Peripheral && *device.key == *name;
            by_id || device.branch.path(&device.key) == name
        };
        if let Some(device) = self.devices.iter().find(is) {
            return Ok(device.key.clone());
        }
        // Parts of devices are on buses of their own.
        let whole = name.strip_suffix("/virtio-backend");
        if whole.is_some_and(|whole| self.device_key(whole).is_ok()) {
            return Err(no_hotplug("virtio-bus"));
        }
        Err(QmpError::device_not_found(name))
    }

    /// Asks the guest to let go of a device, which `name` is the client's word for. What went at
    /// once is given back.
    ///
    /// # Errors
    /// In QEMU's words, when it is not there or has to stay.
    pub fn request_unplug(&mut self, name: &str) -> QmpResult<Option<Removed>> {
        if let Some(key) = self.leaving_key(name) {
            return Err(underway(&key));
        }
        let key = self.device_key(name)?;
        let now = self.clock.now_ns();
        let Some(device) = self.devices.iter().find(|device| device.key == key) else {
            return Err(QmpError::device_not_found(name));
        };
        let asked = device.unplug;
        if asked.is_some_and(|asked| asked.again.is_none_or(|again| now < again)) {
            return Err(underway(name));
        }
        let bus = self.buses.iter().find(|bus| bus.name == device.bus);
        let Some(bus) = bus.filter(|bus| bus.kind.hotplug()) else {
            return Err(no_hotplug(&device.bus));
        };
        let BusKind::Pci { port, hotplug, .. } = &bus.kind else {
            return Ok(Some(self.take_out(&[key])));
        };
        let devfn = device.devfn.unwrap_or(DevFn(0));
        let again = match (hotplug, port) {
            (Hotplug::Native, Some(port)) => {
                let first = self.pci.at(Some(&port.key), DevFn::new(0, 0));
                if first.is_none() {
                    // The guest never saw it.
                    return Ok(Some(self.take_out(&[key])));
                }
                let port = port.clone();
                let answer = lock(&port.device).request_unplug();
                match answer {
                    Unplug::Asked => Some(now.saturating_add(BUTTON_NS)),
                    Unplug::AtOnce => return Ok(self.eject_behind(&port.key)),
                    Unplug::Busy => {
                        let text = "Hot-unplug failed: guest is busy (power indicator blinking)";
                        return Err(QmpError::generic(text));
                    }
                    Unplug::Unsupported => {
                        return Err(QmpError::generic(format!(
                            "Hot-unplug failed: unsupported by the port device '{}'",
                            port.key
                        )));
                    }
                }
            }
            (Hotplug::Acpi, _) => {
                self.chipset.request_eject(devfn.slot());
                // A guest that boots misses the event.
                Some(now.saturating_add(EVENT_NS))
            }
            (Hotplug::Native, None) | (Hotplug::None, _) => return Err(no_hotplug(&bus.name)),
        };
        if let Some(device) = self.devices.iter_mut().find(|device| device.key == key) {
            device.unplug = Some(Asked { again });
        }
        Ok(None)
    }

    /// The guest let go of what is in the slot of this port.
    pub fn eject_behind(&mut self, port: &str) -> Option<Removed> {
        let keys = self.keys_on(|kind| kind.is_of(port), |_| true);
        let removed = (!keys.is_empty()).then(|| self.take_out(&keys));
        for bus in &self.buses {
            if let BusKind::Pci {
                port: Some(found), ..
            } = &bus.kind
                && *found.key == *port
                && removed.is_some()
            {
                lock(&found.device).remove();
            }
        }
        removed
    }

    /// The guest keeps what is in the slot of this port. Devices that it was asked for are given
    /// back; it can be asked for them again.
    pub fn call_off_behind(&mut self, port: &str) -> Vec<Gone> {
        let keys = self.keys_on(|kind| kind.is_of(port), |_| true);
        let here = self.devices.iter_mut();
        let here = here.filter(|device| keys.contains(&device.key));
        here.filter_map(|device| {
            device.unplug.take().map(|_| Gone {
                id: device.options.id.clone(),
                path: device.branch.path(&device.key),
            })
        })
        .collect()
    }

    /// The guest let go of what is in these slots of the bus with ACPI hot-plug.
    pub fn eject_slots(&mut self, slots: u32) -> Option<Removed> {
        let acpi = |kind: &BusKind| {
            matches!(
                kind,
                BusKind::Pci {
                    hotplug: Hotplug::Acpi,
                    ..
                }
            )
        };
        let chosen = |devfn: DevFn| slots >> devfn.slot() & 1 != 0;
        let keys = self.keys_on(acpi, chosen);
        (!keys.is_empty()).then(|| self.take_out(&keys))
    }

    /// The machine is reset: the guest that was asked is not there any more. As a guest does, it
    /// lets go of whole slots.
    pub fn complete_unplugs(&mut self) -> Option<Removed> {
        let place = |device: &Device| (device.bus.clone(), device.devfn.map(DevFn::slot));
        let asked = self.devices.iter().filter(|device| device.unplug.is_some());
        let places: Vec<_> = asked.map(place).collect();
        let there = |device: &&Device| places.contains(&place(device));
        let going = self.devices.iter().filter(there);
        let keys: Vec<Arc<str>> = going.map(|device| device.key.clone()).collect();
        (!keys.is_empty()).then(|| self.take_out(&keys))
    }

    /// The devices of that ticket have let go of all they used.
    pub fn has_left(&mut self, ticket: u64) {
        let Some(index) = self.leaving.iter().position(|one| one.ticket == ticket) else {
            return;
        };
        let Leaving { places, .. } = self.leaving.remove(index);
        for (name, devfn) in places {
            let bus = self.buses.iter_mut().find(|bus| bus.name == name);
            if let Some(Bus {
                kind: BusKind::Pci { slots, .. },
                ..
            }) = bus
            {
                slots.release(devfn);
            }
        }
    }

    /// Whether a device of that id lets go of what it uses.
    pub(super) fn is_leaving(&self, id: &str) -> bool {
        self.leaving_key(id).is_some()
    }

    fn leaving_key(&self, name: &str) -> Option<String> {
        let keys = self.leaving.iter().flat_map(|leaving| &leaving.keys);
        let mut found = keys.filter(|key| ***key == *name);
        found.next().map(|key| key.to_string())
    }

    /// Keys of the devices on such buses in such places.
    fn keys_on(
        &self,
        bus: impl Fn(&BusKind) -> bool,
        place: impl Fn(DevFn) -> bool,
    ) -> Vec<Arc<str>> {
        let buses = self.buses.iter().filter(|found| bus(&found.kind));
        let names: Vec<&str> = buses.map(|bus| bus.name.as_str()).collect();
        let here = |device: &&Device| {
            names.contains(&device.bus.as_str()) && device.devfn.is_some_and(&place)
        };
        let devices = self.devices.iter().filter(here);
        devices.map(|device| device.key.clone()).collect()
    }

    /// Takes devices out of their places, with all that is on their buses.
    fn take_out(&mut self, keys: &[Arc<str>]) -> Removed {
        let mut order = Vec::new();
        for key in keys {
            self.with_children(key, &mut order);
        }
        let mut removed = Removed {
            gone: Vec::new(),
            ticket: self.next_leave,
            functions: Vec::new(),
            buses: Vec::new(),
            devices: Vec::new(),
        };
        let mut leaving = Leaving {
            ticket: self.next_leave,
            keys: order,
            places: Vec::new(),
        };
        self.next_leave = self.next_leave.wrapping_add(1);
        for key in leaving.keys.clone() {
            self.take_one_out(&key, &mut removed, &mut leaving);
        }
        // A bus that went with its device has no places to be given back: the next one of that
        // name has its own.
        let there = |name: &String| self.buses.iter().any(|bus| bus.name == *name);
        leaving.places.retain(|(name, _)| there(name));
        self.leaving.push(leaving);
        self.remap();
        removed
    }

    fn take_one_out(&mut self, key: &str, removed: &mut Removed, leaving: &mut Leaving) {
        let Some(index) = self.devices.iter().position(|device| *device.key == *key) else {
            return;
        };
        let device = self.devices.remove(index);
        let bus = self.buses.iter().find(|bus| bus.name == device.bus);
        if let Some(BusKind::Child { bus, .. }) = bus.map(|bus| &bus.kind) {
            leave_bus(bus, &device);
        }
        if let Some(devfn) = device.devfn {
            leaving.places.push((device.bus.clone(), devfn));
        }
        let (own, others) = std::mem::take(&mut self.buses)
            .into_iter()
            .partition(|bus| bus.kind.is_of(key));
        self.buses = others;
        removed.buses.extend::<Vec<Bus>>(own);
        let function = self.pci.unplug(key).map(|plugged| plugged.function);
        removed.functions.extend(function);
        let path = device.branch.path(key);
        if super::qtree::virtio_backend(&device).is_some() {
            removed.gone.push(Gone {
                id: None,
                path: format!("{path}/virtio-backend"),
            });
        }
        removed.gone.push(Gone {
            id: device.options.id.clone(),
            path,
        });
        removed.devices.push(device);
    }

    /// The device of that key behind all that is on its buses.
    fn with_children(&self, key: &Arc<str>, order: &mut Vec<Arc<str>>) {
        for bus in self.buses.iter().filter(|bus| bus.kind.is_of(key)) {
            for device in self.devices.iter().filter(|device| device.bus == bus.name) {
                self.with_children(&device.key, order);
            }
        }
        if !order.contains(key) {
            order.push(key.clone());
        }
    }
}

/// Takes a device off the bus inside another.
fn leave_bus(bus: &ChildBus, device: &Device) {
    match bus {
        ChildBus::Serial(ports) => {
            if let Some(nr) = device.nr {
                ports.remove_port(nr);
            }
        }
        ChildBus::Scsi(units) => {
            if let Face::Unit(unit) = &device.face {
                units.remove(unit.place());
            }
        }
    }
}

fn underway(name: &str) -> QmpError {
    QmpError::generic(format!("Device {name} is already in the process of unplug"))
}
