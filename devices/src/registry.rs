//! From a driver's options to a built device: every driver there is, in one place.

use std::sync::{Arc, Mutex};

use api_spec::{DeviceDriver, QmpError, QmpResult};

use crate::backend::net::Nic;
use crate::bus::{BusDevice, SharedDevice};
use crate::cx::BuildCx;
use crate::model::{Generation, build as isa, isa_serial};
use crate::pci::{RootPort, SharedFunction, build_root_port};
use crate::scsi::{self, ScsiBus, Unit};
use crate::virtio::balloon::{self, Balloon};
use crate::virtio::{self, blk, rng, serial, vsock};

/// A region of a device in port or memory space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// The number the device knows it by.
    pub region: u16,
    /// First address.
    pub base: u64,
    /// Bytes.
    pub len: u64,
}

/// What commands reach a plugged device by, beside its registers. Calls come from the control
/// thread and never block.
#[derive(Clone, Default)]
pub enum Face {
    /// Nothing: it is plugged and unplugged.
    #[default]
    None,
    /// A logical unit of a SCSI bus.
    Unit(Arc<Unit>),
    /// A network interface.
    Nic(Arc<dyn Nic>),
    /// A balloon.
    Balloon(Arc<Balloon>),
    /// A generation id.
    Generation(Arc<Generation>),
}

impl Face {
    /// The logical unit.
    pub fn unit(&self) -> Option<&Arc<Unit>> {
        match self {
            Face::Unit(unit) => Some(unit),
            Face::None | Face::Nic(_) | Face::Balloon(_) | Face::Generation(_) => None,
        }
    }

    /// The network interface.
    pub fn nic(&self) -> Option<&Arc<dyn Nic>> {
        match self {
            Face::Nic(nic) => Some(nic),
            Face::None | Face::Unit(_) | Face::Balloon(_) | Face::Generation(_) => None,
        }
    }

    /// The balloon.
    pub fn balloon(&self) -> Option<&Arc<Balloon>> {
        match self {
            Face::Balloon(balloon) => Some(balloon),
            Face::None | Face::Unit(_) | Face::Nic(_) | Face::Generation(_) => None,
        }
    }

    /// The generation id.
    pub fn generation(&self) -> Option<&Arc<Generation>> {
        match self {
            Face::Generation(generation) => Some(generation),
            Face::None | Face::Unit(_) | Face::Nic(_) | Face::Balloon(_) => None,
        }
    }
}

/// A built device, ready to be plugged.
pub enum Attachable {
    /// A PCI function.
    Pci {
        /// The function.
        function: SharedFunction,
        /// What commands reach it by.
        face: Face,
    },
    /// A PCI Express port with a slot behind it.
    RootPort(Box<RootPort>),
    /// A PCI function with a bus of its own.
    Bus {
        /// The function.
        function: SharedFunction,
        /// The bus.
        bus: ChildBus,
    },
    /// A device with fixed ports.
    Isa {
        /// The device.
        device: SharedDevice,
        /// Its ports.
        ports: Vec<Region>,
    },
    /// A device on no bus, without registers.
    Plain(Face),
    /// A port of a virtio-serial bus; it was added to its bus while it was built.
    Port,
    /// A logical unit of a SCSI bus; it was added to its bus while it was built.
    Unit(Arc<Unit>),
}

/// A bus inside a device.
#[derive(Clone)]
pub enum ChildBus {
    /// Of serial ports.
    Serial(Arc<serial::SerialBus>),
    /// Of logical units.
    Scsi(Arc<ScsiBus>),
}

impl ChildBus {
    /// The type's name, as drivers and messages have it.
    pub const fn type_name(&self) -> &'static str {
        match self {
            ChildBus::Serial(_) => "virtio-serial-bus",
            ChildBus::Scsi(_) => "SCSI",
        }
    }

    fn serial(&self) -> Option<&serial::SerialBus> {
        match self {
            ChildBus::Serial(bus) => Some(bus),
            ChildBus::Scsi(_) => None,
        }
    }

    fn scsi(&self) -> Option<&ScsiBus> {
        match self {
            ChildBus::Scsi(bus) => Some(bus),
            ChildBus::Serial(_) => None,
        }
    }
}

impl Attachable {
    /// What commands will reach it by.
    pub fn face(&self) -> Face {
        match self {
            Attachable::Pci { face, .. } => face.clone(),
            Attachable::Unit(unit) => Face::Unit(unit.clone()),
            Attachable::Plain(face) => face.clone(),
            Attachable::RootPort(_)
            | Attachable::Bus { .. }
            | Attachable::Isa { .. }
            | Attachable::Port => Face::None,
        }
    }

    /// An ISA device with its ports.
    pub fn isa(device: Arc<Mutex<impl BusDevice + 'static>>, ports: Vec<Region>) -> Self {
        Attachable::Isa { device, ports }
    }
}

/// Builds the device. `bus` is the bus inside another device, for drivers that go on one.
///
/// # Errors
/// What the driver says of its options, in QEMU's words.
pub fn build(
    driver: &DeviceDriver,
    mut cx: BuildCx,
    bus: Option<&ChildBus>,
) -> QmpResult<Attachable> {
    fn pci(function: impl crate::pci::PciFunction + 'static) -> Attachable {
        Attachable::Pci {
            function: Arc::new(Mutex::new(function)),
            face: Face::None,
        }
    }
    match driver {
        DeviceDriver::VirtioBlkPci(props) => blk::build(props, &cx).map(pci),
        DeviceDriver::VirtioNetPci(props) => {
            let (function, nic) = virtio::net::build(props, &mut cx)?;
            Ok(Attachable::Pci {
                function: Arc::new(Mutex::new(function)),
                face: Face::Nic(nic),
            })
        }
        DeviceDriver::VirtioBalloonPci(props) => {
            let (function, balloon) = balloon::build(props, &cx)?;
            Ok(Attachable::Pci {
                function: Arc::new(Mutex::new(function)),
                face: Face::Balloon(balloon),
            })
        }
        DeviceDriver::VirtioRngPci(props) => rng::build(props, &cx).map(pci),
        DeviceDriver::VhostVsockPci(props) => vsock::build(props, &mut cx).map(pci),
        DeviceDriver::VirtioSerialPci(props) => {
            let (function, ports) = serial::build(props, &cx)?;
            Ok(Attachable::Bus {
                function: Arc::new(Mutex::new(function)),
                bus: ChildBus::Serial(ports),
            })
        }
        DeviceDriver::VirtioScsiPci(props) => {
            let (function, units) = virtio::scsi::build(props, &cx)?;
            Ok(Attachable::Bus {
                function: Arc::new(Mutex::new(function)),
                bus: ChildBus::Scsi(units),
            })
        }
        DeviceDriver::ScsiHd(props) => {
            scsi::plug_disk(props, scsi_bus(bus)?, cx).map(Attachable::Unit)
        }
        DeviceDriver::ScsiCd(props) => {
            scsi::plug_cd(props, scsi_bus(bus)?, cx).map(Attachable::Unit)
        }
        DeviceDriver::Virtconsole(props) => add_port(bus, props.into(), cx),
        DeviceDriver::Virtserialport(props) => add_port(bus, props.into(), cx),
        DeviceDriver::PcieRootPort(props) => build_root_port(props, &cx)
            .map(Box::new)
            .map(Attachable::RootPort),
        DeviceDriver::I6300esb(props) => Ok(Attachable::Pci {
            function: isa::i6300esb(props, &cx)?,
            face: Face::None,
        }),
        DeviceDriver::Vmgenid(props) => {
            Generation::build(props).map(|id| Attachable::Plain(Face::Generation(id)))
        }
        DeviceDriver::IsaSerial(props) => isa_serial::build(props, &mut cx),
        DeviceDriver::PvpanicPci(props) => Ok(Attachable::Pci {
            function: isa::pvpanic_pci(props)?,
            face: Face::None,
        }),
        DeviceDriver::Pvpanic(props) => isa::pvpanic(props, &cx),
        DeviceDriver::IsaDebugExit(props) => isa::isa_debug_exit(props, &cx),
    }
}

fn scsi_bus(bus: Option<&ChildBus>) -> QmpResult<&ScsiBus> {
    bus.and_then(ChildBus::scsi)
        .ok_or_else(|| QmpError::generic("No SCSI bus"))
}

fn add_port(
    bus: Option<&ChildBus>,
    options: serial::PortOptions,
    cx: BuildCx,
) -> QmpResult<Attachable> {
    let bus = bus.and_then(ChildBus::serial);
    let bus = bus.ok_or_else(|| QmpError::generic("No virtio-serial bus"))?;
    // Keys that are no ids begin with a slash: nobody is told of such a port.
    let id = Some(cx.id.as_str()).filter(|id| !id.starts_with('/'));
    bus.add_port(options, cx.chardev, id, cx.effects)?;
    Ok(Attachable::Port)
}
