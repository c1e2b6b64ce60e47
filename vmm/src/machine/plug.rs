//! From a device's options to a device in its place. Everything that can fail fails before the
//! machine is changed, or is undone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use api_spec::{DRIVERS, DeviceDriver, DeviceOptions, QmpError, QmpResult};
use devices::bus::{SharedDevice, lock};
use devices::cx::BuildCx;
use devices::irq::{IrqLine, NullInterrupt};
use devices::map::Space;
use devices::model::isa_serial;
use devices::pci::{DevFn, Plugged, RootPort, SharedFunction};
use devices::registry::{self, Attachable, ChildBus, Face, Region};
use devices::worker::IoThread as IoThreadFace;

use super::firmware::gsi_of;
use super::slots::{SlotMap, Tenant};
use super::ticket::PlugTicket;
use super::wants::References;
use super::{Fixed, Machine};
use crate::acpi::SerialPort;
use crate::threads::io_thread::{IoThread, PollParameters};

/// The name of what holds devices that are on no bus.
pub const SYSTEM_BUS: &str = "main-system-bus";
/// The name of the bus of devices with fixed ports.
pub const ISA_BUS: &str = "isa.0";

/// A place for devices.
pub struct Bus {
    /// Its name, as in `bus=`.
    pub name: String,
    /// What it takes.
    pub kind: BusKind,
}

/// A port with a slot behind it.
#[derive(Clone)]
pub struct Port {
    /// Its key.
    pub key: Arc<str>,
    /// The port itself.
    pub device: Arc<Mutex<RootPort>>,
}

/// Whether devices come and go on a bus while the machine is there, and who tells the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hotplug {
    /// They do not.
    None,
    /// The port that the bus is behind.
    Native,
    /// The chipset, by ACPI: a bus of conventional PCI.
    Acpi,
}

/// What a bus takes.
pub enum BusKind {
    /// PCI functions: the root bus, or the one behind the port of that key.
    Pci {
        /// The bridge it is behind.
        port: Option<Port>,
        /// Who sits where.
        slots: SlotMap,
        /// Whether devices come and go.
        hotplug: Hotplug,
    },
    /// Devices with fixed ports.
    Isa,
    /// Devices that are on no bus.
    System,
    /// What is inside a device, by its key.
    Child {
        /// The device.
        device: Arc<str>,
        /// Its bus.
        bus: ChildBus,
    },
}

impl BusKind {
    /// The type's name, as messages have it.
    pub const fn type_name(&self) -> &'static str {
        match self {
            BusKind::Pci {
                hotplug: Hotplug::Acpi,
                ..
            } => "PCI",
            BusKind::Pci { .. } => "PCIE",
            BusKind::Isa => "ISA",
            BusKind::System => "System",
            BusKind::Child { bus, .. } => bus.type_name(),
        }
    }

    /// Whether devices come and go while the machine is there.
    pub const fn hotplug(&self) -> bool {
        match self {
            BusKind::Pci { hotplug, .. } => !matches!(hotplug, Hotplug::None),
            BusKind::Isa | BusKind::System => false,
            BusKind::Child { .. } => true,
        }
    }

    /// Whether the device of that key provides the bus.
    pub fn is_of(&self, key: &str) -> bool {
        match self {
            BusKind::Pci { port, .. } => port.as_ref().is_some_and(|port| *port.key == *key),
            BusKind::Child { device, .. } => **device == *key,
            BusKind::Isa | BusKind::System => false,
        }
    }

    /// Whether devices that name `wanted` as their bus go here.
    fn takes(&self, wanted: &str) -> bool {
        match self {
            BusKind::Pci { .. } => wanted == "PCI",
            BusKind::Isa => wanted == "ISA",
            BusKind::System => wanted.is_empty(),
            BusKind::Child { bus, .. } => wanted == bus.type_name(),
        }
    }
}

/// Where the object tree has a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Branch {
    /// Under its id.
    Peripheral,
    /// The user gave no id: by number.
    Anonymous(usize),
    /// The machine made it itself: by number.
    Unattached(usize),
}

impl Branch {
    /// The path of the device with this key.
    pub fn path(&self, key: &str) -> String {
        match self {
            Branch::Peripheral => format!("/machine/peripheral/{key}"),
            Branch::Anonymous(n) => format!("/machine/peripheral-anon/device[{n}]"),
            Branch::Unattached(n) => format!("/machine/unattached/device[{n}]"),
        }
    }
}

/// A device that was plugged.
pub struct Device {
    /// Its key in address map and topology: its id, or a made-up name that is no id.
    pub key: Arc<str>,
    /// What it was made from.
    pub options: DeviceOptions,
    /// Where the object tree has it.
    pub branch: Branch,
    /// The bus it is on.
    pub bus: String,
    /// Slot and function, for PCI functions.
    pub devfn: Option<DevFn>,
    /// For serial ports at a usual place.
    pub serial: Option<SerialPort>,
    /// For pvpanic: its port.
    pub pvpanic: Option<u16>,
    /// For ports of a virtio-serial device: which one it is.
    pub nr: Option<u32>,
    /// What commands reach it by.
    pub face: Face,
    /// It came while the machine was there.
    pub hotplugged: bool,
    /// The guest was asked to let go of it.
    pub unplug: Option<Asked>,
}

/// The guest was asked to let go of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// When it can be asked again, in the guest's time; `None` for never.
    pub again: Option<u64>,
}

impl Machine {
    /// Makes a device and plugs it, before the machine is started or later. A guest that may be
    /// there is told.
    ///
    /// # Errors
    /// QEMU's words for an id or place that is taken, a bus that is not there, and what the
    /// device itself refuses. Nothing is left of it then.
    pub fn add_device(
        &mut self,
        options: DeviceOptions,
        references: References,
        builtin: bool,
    ) -> QmpResult<()> {
        self.check_only_one(&options.driver)?;
        let bus = self.check_place(&options)?;
        let (key, branch) = self.name_device(&options, builtin);
        let ticket = PlugTicket::open(self, key.clone(), bus, &options)?;
        let (devfn, machine) = (ticket.devfn, &mut *ticket.machine);
        let cx = machine.build_cx(&key, bus, devfn, references)?;
        let numbers = machine.port_numbers(bus);
        let child = match &machine.buses[bus].kind {
            BusKind::Child { bus, .. } => Some(bus),
            BusKind::Pci { .. } | BusKind::Isa | BusKind::System => None,
        };
        let blockers = machine.writers.blockers();
        let built = registry::build(&options.driver, cx, child)?;
        let face = built.face();
        let name = options.driver.name();
        machine.check_migratable(name, &built, &blockers)?;
        machine.attach(&key, name, bus, devfn, built, &options)?;
        let serial = serial_port(&options.driver, machine.serial_count());
        let nr = machine
            .port_numbers(bus)
            .into_iter()
            .find(|nr| !numbers.contains(nr));
        let device = Device {
            pvpanic: match &options.driver {
                DeviceDriver::Pvpanic(p) => Some(p.ioport),
                _ => None,
            },
            bus: machine.buses[bus].name.clone(),
            hotplugged: machine.ready,
            unplug: None,
            serial,
            nr,
            face,
            key,
            options,
            branch,
            devfn,
        };
        ticket.commit(device);
        if self.ready {
            self.announce(bus, devfn);
        }
        Ok(())
    }

    /// Which bus such a device goes on.
    ///
    /// # Errors
    /// QEMU's words for a bus that is not there, takes other devices or none any more, and for an
    /// id that is none or taken.
    pub fn check_place(&self, options: &DeviceOptions) -> QmpResult<usize> {
        let bus = self.find_bus(options)?;
        if let Some(place) = self.buses.get(bus).filter(|_| self.ready)
            && !place.kind.hotplug()
        {
            return Err(match place.kind {
                BusKind::System => QmpError::generic(format!(
                    "Device '{}' does not support hotplugging",
                    options.driver.name()
                )),
                _ => no_hotplug(&place.name),
            });
        }
        if let Some(id) = &options.id {
            crate::control::objects::check_id(id)?;
            let taken = self.devices.iter().any(|device| *device.key == **id);
            if taken || self.is_leaving(id) {
                let text = match self.ready {
                    true => format!("Duplicate device ID '{id}'"),
                    false => format!("Duplicate ID '{id}' for device"),
                };
                return Err(QmpError::generic(text));
            }
        }
        Ok(bus)
    }

    /// The numbers that ports on this bus have.
    fn port_numbers(&self, bus: usize) -> Vec<u32> {
        match self.buses.get(bus).map(|bus| &bus.kind) {
            Some(BusKind::Child {
                bus: ChildBus::Serial(ports),
                ..
            }) => ports.numbers(),
            Some(BusKind::Pci { .. } | BusKind::Isa | BusKind::System | BusKind::Child { .. })
            | None => Vec::new(),
        }
    }

    /// The bus named, or the first one that takes such a device.
    fn find_bus(&self, options: &DeviceOptions) -> QmpResult<usize> {
        let name = options.driver.name();
        let info = DRIVERS.iter().find(|info| info.name == name);
        let wanted = info.and_then(|info| info.bus).unwrap_or_default();
        match &options.bus {
            Some(bus) => {
                let index = self
                    .buses
                    .iter()
                    .position(|candidate| candidate.name == *bus)
                    .ok_or_else(|| QmpError::generic(format!("Bus '{bus}' not found")))?;
                let kind = &self.buses[index].kind;
                if !kind.takes(wanted) {
                    let kind = kind.type_name();
                    return Err(QmpError::generic(format!(
                        "Device '{name}' can't go on {kind} bus"
                    )));
                }
                Ok(index)
            }
            None => self
                .buses
                .iter()
                .position(|bus| bus.kind.takes(wanted))
                .ok_or_else(|| {
                    QmpError::generic(format!("No '{wanted}' bus found for device '{name}'"))
                }),
        }
    }

    /// Where the object tree will have this device.
    pub fn path_for(&self, options: &DeviceOptions, builtin: bool) -> String {
        let (key, branch) = self.name_device(options, builtin);
        branch.path(&key)
    }

    fn name_device(&self, options: &DeviceOptions, builtin: bool) -> (Arc<str>, Branch) {
        let count = |wanted: fn(&Branch) -> bool| {
            self.devices
                .iter()
                .filter(|device| wanted(&device.branch))
                .count()
        };
        match (&options.id, builtin) {
            (Some(id), _) => (id.as_str().into(), Branch::Peripheral),
            (None, true) => {
                let n = count(|branch| matches!(branch, Branch::Unattached(_)));
                let n = n
                    .saturating_add(self.cpu_count())
                    .saturating_add(self.chipset.objects().len());
                (format!("/unattached/{n}").into(), Branch::Unattached(n))
            }
            (None, false) => {
                let n = self.anonymous;
                (format!("/anonymous/{n}").into(), Branch::Anonymous(n))
            }
        }
    }

    pub(super) fn claim_slot(
        &mut self,
        bus: usize,
        options: &DeviceOptions,
    ) -> QmpResult<Option<DevFn>> {
        let ready = self.ready;
        let BusKind::Pci { slots, .. } = &mut self.buses[bus].kind else {
            return Ok(None);
        };
        let (addr, multifunction) = options.driver.pci_place();
        let tenant = Tenant {
            driver: options.driver.name().to_owned(),
            id: options.id.clone(),
            multifunction,
        };
        let wanted = addr.map(|addr| DevFn::new(addr.slot, addr.function));
        let claimed = match ready {
            true => slots.claim_hot(wanted, tenant),
            false => slots.claim(wanted, tenant),
        };
        claimed
            .map(Some)
            .map_err(|error| QmpError::generic(error.to_string()))
    }

    /// All that the device may ask for.
    fn build_cx(
        &mut self,
        key: &Arc<str>,
        bus: usize,
        devfn: Option<DevFn>,
        references: References,
    ) -> QmpResult<BuildCx> {
        let io_thread = match references.io_thread {
            Some(thread) => thread,
            None => self.default_io_thread()?,
        };
        let hints = HashMap::from([
            ("vcpus", u64::try_from(self.cpu_count()).unwrap_or(1)),
            (
                "serial-index",
                u64::try_from(self.serial_count()).unwrap_or(0),
            ),
            ("mac", self.free_mac().into()),
            ("nic-index", u64::try_from(self.nics().count()).unwrap_or(0)),
        ]);
        let port = match &self.buses[bus].kind {
            BusKind::Pci { port, .. } => port.as_ref().map(|port| port.key.clone()),
            BusKind::Isa | BusKind::System | BusKind::Child { .. } => None,
        };
        let intx = devfn.map_or_else(
            || Arc::new(NullInterrupt) as Arc<dyn IrqLine>,
            |devfn| self.intx_line(port.as_deref(), devfn),
        );
        Ok(BuildCx {
            id: key.to_string(),
            ram: self.ram.handle.clone(),
            irqs: self.accel.irqs(),
            intx,
            express: port.is_some(),
            clock: self.clock.clone(),
            timers: self.timers.clone(),
            effects: Arc::new(self.mail.clone()),
            iothreads: vec![io_thread as Arc<dyn IoThreadFace>],
            chardev: references.chardev,
            node: references.node,
            drive_name: references.drive_name,
            entropy: references.entropy,
            netdev: references.netdev,
            vhost: references.vhost,
            writers: self.writers.clone(),
            hints,
        })
    }

    /// The line of the first pin of a function behind `port`.
    fn intx_line(&self, port: Option<&str>, devfn: DevFn) -> Arc<dyn IrqLine> {
        let mut slots = vec![devfn.slot()];
        let mut above = port.and_then(|port| self.pci.find(port));
        while let Some(bridge) = above {
            slots.push(bridge.devfn.slot());
            above = bridge
                .parent
                .as_deref()
                .and_then(|parent| self.pci.find(parent));
        }
        let (slot, pin) = gsi_of(&slots, 0);
        self.chipset.intx(slot, pin)
    }

    fn default_io_thread(&mut self) -> QmpResult<Arc<IoThread>> {
        if let Some(thread) = &self.io_thread {
            return Ok(thread.clone());
        }
        let mail = Some(self.mail.clone());
        let thread = IoThread::start("default", PollParameters::default(), mail);
        let thread = Arc::new(thread.map_err(|error| {
            QmpError::generic(format!(
                "Cannot start a thread: {}",
                crate::process::errno(&error)
            ))
        })?);
        self.io_thread = Some(thread.clone());
        Ok(thread)
    }

    fn attach(
        &mut self,
        key: &Arc<str>,
        name: &'static str,
        bus: usize,
        devfn: Option<DevFn>,
        built: Attachable,
        options: &DeviceOptions,
    ) -> QmpResult<()> {
        match built {
            Attachable::Pci { function, face: _ } => self.attach_pci(key, bus, devfn, function),
            Attachable::RootPort(port) => self.attach_root_port(key, bus, devfn, *port, options),
            Attachable::Bus {
                function,
                bus: child,
            } => {
                self.attach_pci(key, bus, devfn, function)?;
                self.add_bus(Bus {
                    name: self.child_bus_name(options.id.as_deref(), &child),
                    kind: BusKind::Child {
                        device: key.clone(),
                        bus: child,
                    },
                })
            }
            Attachable::Isa { device, ports } => self.attach_isa(key, name, device, ports),
            Attachable::Port | Attachable::Plain(_) | Attachable::Unit(_) => Ok(()),
        }
    }

    /// Buses of devices with an id are called after it, others after their type.
    fn child_bus_name(&self, id: Option<&str>, bus: &ChildBus) -> String {
        if let Some(id) = id {
            return format!("{id}.0");
        }
        self.free_bus_name(&bus.type_name().to_lowercase(), 0)
    }

    /// The first of `base.first` and on that no bus has.
    fn free_bus_name(&self, base: &str, first: usize) -> String {
        let taken = |name: &String| self.buses.iter().any(|bus| bus.name == *name);
        let mut names = (first..).map(|n| format!("{base}.{n}"));
        names
            .find(|name| !taken(name))
            .unwrap_or_else(|| base.to_owned())
    }

    /// Devices say by its name which bus they are on, so that each has its own. QEMU takes the
    /// first one of that name, and does not reach the others.
    fn add_bus(&mut self, bus: Bus) -> QmpResult<()> {
        if self.buses.iter().any(|other| other.name == bus.name) {
            return Err(QmpError::generic(format!(
                "There is a bus '{}' already",
                bus.name
            )));
        }
        self.buses.push(bus);
        Ok(())
    }

    fn attach_pci(
        &mut self,
        key: &Arc<str>,
        bus: usize,
        devfn: Option<DevFn>,
        function: SharedFunction,
    ) -> QmpResult<()> {
        let (BusKind::Pci { port, .. }, Some(devfn)) = (&self.buses[bus].kind, devfn) else {
            return Err(QmpError::generic("A PCI function needs a PCI bus"));
        };
        let parent = port.as_ref().map(|port| port.key.clone());
        self.pci
            .plug(Plugged {
                id: key.clone(),
                parent,
                devfn,
                function,
            })
            .map_err(|error| QmpError::generic(error.to_string()))
    }

    fn attach_root_port(
        &mut self,
        key: &Arc<str>,
        bus: usize,
        devfn: Option<DevFn>,
        port: RootPort,
        options: &DeviceOptions,
    ) -> QmpResult<()> {
        self.check_chassis(options)?;
        let port = Port {
            key: key.clone(),
            device: Arc::new(Mutex::new(port)),
        };
        self.attach_pci(key, bus, devfn, port.device.clone())?;
        let count = self
            .buses
            .iter()
            .filter(|bus| matches!(bus.kind, BusKind::Pci { .. }))
            .count();
        // A port without an id gives its bus a number.
        let number = || self.free_bus_name("pci", count);
        let name = options.id.clone().unwrap_or_else(number);
        let hotplug = match &options.driver {
            DeviceDriver::PcieRootPort(props) if props.hotplug => Hotplug::Native,
            _ => Hotplug::None,
        };
        self.add_bus(Bus {
            name,
            kind: BusKind::Pci {
                port: Some(port),
                slots: SlotMap::behind_port(),
                hotplug,
            },
        })
    }

    /// Chassis and slot number together name a slot to people.
    fn check_chassis(&self, options: &DeviceOptions) -> QmpResult<()> {
        let DeviceDriver::PcieRootPort(new) = &options.driver else {
            return Ok(());
        };
        let taken = self
            .devices
            .iter()
            .any(|device| match &device.options.driver {
                DeviceDriver::PcieRootPort(old) => {
                    (old.chassis, old.slot) == (new.chassis, new.slot)
                }
                _ => false,
            });
        match taken {
            true => Err(QmpError::generic(format!(
                "Can't add chassis slot, error {}",
                -libc::EBUSY
            ))),
            false => Ok(()),
        }
    }

    fn attach_isa(
        &mut self,
        key: &Arc<str>,
        name: &'static str,
        device: SharedDevice,
        ports: Vec<Region>,
    ) -> QmpResult<()> {
        let regions: Vec<_> = ports
            .into_iter()
            .map(|region| (Space::Port, region))
            .collect();
        for (space, region) in &regions {
            if let Some(owner) = self.who_is_at(*space, *region) {
                let last = region.base.saturating_add(region.len).saturating_sub(1);
                return Err(QmpError::generic(format!(
                    "Ports {:#x} to {last:#x} of '{name}' are in use by '{owner}'",
                    region.base
                )));
            }
        }
        self.fixed.push(Fixed {
            key: key.clone(),
            driver: name,
            device,
            regions,
        });
        Ok(())
    }

    fn who_is_at(&self, space: Space, wanted: Region) -> Option<&'static str> {
        let overlaps = |region: &Region| {
            region.base < wanted.base.saturating_add(wanted.len)
                && wanted.base < region.base.saturating_add(region.len)
        };
        let owner = self.fixed.iter().find(|fixed| {
            fixed
                .regions
                .iter()
                .any(|(s, region)| *s == space && overlaps(region))
        });
        owner.map(|fixed| fixed.driver)
    }

    fn serial_count(&self) -> usize {
        self.devices
            .iter()
            .filter(|device| matches!(device.options.driver, DeviceDriver::IsaSerial(_)))
            .count()
    }

    /// Tells a guest that may be there of a new device, which has its place already.
    fn announce(&mut self, bus: usize, devfn: Option<DevFn>) {
        self.remap();
        let (Some(Bus { kind, .. }), Some(devfn)) = (self.buses.get(bus), devfn) else {
            // Controllers of other buses tell their drivers themselves.
            return;
        };
        let BusKind::Pci { port, hotplug, .. } = kind else {
            return;
        };
        // Guests look for further functions when the first one comes.
        match (hotplug, port) {
            _ if devfn.function() != 0 => {}
            (Hotplug::Native, Some(port)) => lock(&port.device).insert(),
            (Hotplug::Acpi, _) => self.chipset.announce_plug(devfn.slot()),
            (Hotplug::Native, None) | (Hotplug::None, _) => {}
        }
    }

    /// Marks the slots of ports behind which something sits.
    pub(super) fn mark_occupied(&self) {
        for bus in &self.buses {
            if let BusKind::Pci {
                port: Some(port), ..
            } = &bus.kind
            {
                let occupied = self.pci.behind(Some(&port.key)).next().is_some();
                lock(&port.device).set_occupied(occupied);
            }
        }
    }
}

/// The refusal of a bus on which nothing comes and goes.
pub(super) fn no_hotplug(bus: &str) -> QmpError {
    QmpError::generic(format!("Bus '{bus}' does not support hotplugging"))
}

/// Where a serial port is, which the firmware tables tell of.
fn serial_port(driver: &DeviceDriver, count: usize) -> Option<SerialPort> {
    let DeviceDriver::IsaSerial(props) = driver else {
        return None;
    };
    let next = u32::try_from(count).unwrap_or(u32::MAX);
    let place = isa_serial::place(props, next).ok()?;
    Some(SerialPort {
        index: place.index,
        port: place.iobase,
        irq: place.irq,
    })
}
