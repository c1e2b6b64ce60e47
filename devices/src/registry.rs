//! From a driver's options to a built device: every driver there is, in one place.

use std::sync::{Arc, Mutex};

use api_spec::{DeviceDriver, QmpError, QmpResult};

use crate::bus::{BusDevice, SharedDevice};
use crate::cx::BuildCx;
use crate::model::{build as isa, isa_serial};
use crate::pci::{RootPort, SharedFunction, build_root_port};
use crate::virtio::{blk, rng, serial};

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

/// A built device, ready to be plugged.
pub enum Attachable {
    /// A PCI function.
    Pci(SharedFunction),
    /// A PCI Express port with a slot behind it.
    RootPort(Box<RootPort>),
    /// A PCI function with a bus of serial ports.
    SerialBus {
        /// The function.
        function: SharedFunction,
        /// Its ports.
        ports: Arc<serial::SerialBus>,
    },
    /// A device with fixed ports.
    Isa {
        /// The device.
        device: SharedDevice,
        /// Its ports.
        ports: Vec<Region>,
    },
    /// A port of a virtio-serial bus; it was added to its bus while it was built.
    Port,
}

impl Attachable {
    /// An ISA device with its ports.
    pub fn isa(device: Arc<Mutex<impl BusDevice + 'static>>, ports: Vec<Region>) -> Self {
        Attachable::Isa { device, ports }
    }
}

/// Builds the device. `bus` is the virtio-serial bus for drivers that go on one.
///
/// # Errors
/// What the driver says of its options, in QEMU's words.
pub fn build(
    driver: &DeviceDriver,
    mut cx: BuildCx,
    bus: Option<&serial::SerialBus>,
) -> QmpResult<Attachable> {
    fn pci(function: impl crate::pci::PciFunction + 'static) -> Attachable {
        Attachable::Pci(Arc::new(Mutex::new(function)))
    }
    match driver {
        DeviceDriver::VirtioBlkPci(props) => blk::build(props, &cx).map(pci),
        DeviceDriver::VirtioRngPci(props) => rng::build(props, &cx).map(pci),
        DeviceDriver::VirtioSerialPci(props) => {
            let (function, ports) = serial::build(props, &cx)?;
            Ok(Attachable::SerialBus {
                function: Arc::new(Mutex::new(function)),
                ports,
            })
        }
        DeviceDriver::Virtconsole(props) => add_port(bus, props.into(), cx),
        DeviceDriver::Virtserialport(props) => add_port(bus, props.into(), cx),
        DeviceDriver::PcieRootPort(props) => build_root_port(props, &cx)
            .map(Box::new)
            .map(Attachable::RootPort),
        DeviceDriver::IsaSerial(props) => isa_serial::build(props, &mut cx),
        DeviceDriver::Pvpanic(props) => isa::pvpanic(props, &cx),
        DeviceDriver::IsaDebugExit(props) => isa::isa_debug_exit(props, &cx),
    }
}

fn add_port(
    bus: Option<&serial::SerialBus>,
    options: serial::PortOptions,
    cx: BuildCx,
) -> QmpResult<Attachable> {
    let bus = bus.ok_or_else(|| QmpError::generic("No virtio-serial bus"))?;
    // Keys that are no ids begin with a slash: nobody is told of such a port.
    let id = Some(cx.id.as_str()).filter(|id| !id.starts_with('/'));
    bus.add_port(options, cx.chardev, id, cx.effects)?;
    Ok(Attachable::Port)
}
