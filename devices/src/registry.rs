//! From a driver's options to a built device.

use std::sync::{Arc, Mutex};

use crate::bus::{BusDevice, SharedDevice};
use crate::pci::SharedFunction;

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
