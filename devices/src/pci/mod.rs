//! PCI Express as the guest sees it.

mod assign;
mod bar;
mod caps;
mod config;
mod host;
mod i440fx;
mod msix;
mod pirq;
pub mod regs;
mod reserve;
mod root_port;
pub mod slot;
mod topology;

#[cfg(test)]
mod config_test;
#[cfg(test)]
mod msix_test;

use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::EventFd;

pub use assign::{Windows, assign, swizzle};
pub use bar::{BarAddress, BarKind};
pub use caps::{ExpressRole, LINK_ACTIVE, Slot, express};
pub use config::state::ConfigSpaceV1;
pub use config::{BridgeWindows, ConfigChange, ConfigSpace, HeaderKind, Identity};
pub use host::HostBridge;
pub use i440fx::I440fx;
pub use msix::state::MsixV1;
pub use msix::{MAX_VECTORS, Msix, MsixVector};
pub use pirq::{InterruptRouter, LINKS};
pub use reserve::Reserve;
pub use root_port::{RootPort, RootPortProps, build as build_root_port};
pub use slot::{Commanded, SlotState, Unplug};
pub use topology::{PciTopology, PlugError, Plugged, Seen, SeenFunction};

use crate::bus::SharedDevice;
use crate::effect::Effect;
use crate::map::Space;
use crate::registry::Region;

/// Bus, device and function of a PCI function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DevFn(pub u8);

impl DevFn {
    /// From a slot (0 to 31) and a function (0 to 7).
    pub const fn new(slot: u8, function: u8) -> Self {
        DevFn((slot & 31) << 3 | (function & 7))
    }
    /// The slot.
    pub const fn slot(self) -> u8 {
        self.0 >> 3
    }
    /// The function.
    pub const fn function(self) -> u8 {
        self.0 & 7
    }
}

/// A write anywhere in these bytes of a BAR only signals `event`: the accelerator may take a
/// short cut (ioeventfd), and a plain BAR write does the same.
#[derive(Clone)]
pub struct BarIoEvent {
    /// BAR index, 0 to 5.
    pub bar: u8,
    /// Byte offset in the BAR.
    pub offset: u64,
    /// What to signal.
    pub event: Arc<EventFd>,
}

/// Something that a function decodes beside its BARs, at an address that its registers tell.
#[derive(Clone)]
pub enum Decode {
    /// Registers of the function itself: reads and writes come to `bar_read` and `bar_write`
    /// with this number, 6 or higher.
    Window {
        /// Port or memory space.
        space: Space,
        /// Number, first address and length.
        region: Region,
    },
    /// Registers of a device next to it (a chipset's power management block).
    Device {
        /// Port or memory space.
        space: Space,
        /// Number in the device, first address and length.
        region: Region,
        /// The device.
        device: SharedDevice,
    },
    /// The window in which memory accesses reach configuration space (PCI Express Base 3.0,
    /// section 7.2.2), 1 MiB for each bus.
    Ecam {
        /// First address.
        base: u64,
        /// Bytes.
        len: u64,
    },
}

/// One PCI function. Called with its lock held and no other; never blocks, never panics.
pub trait PciFunction: Send {
    /// Configuration space: header, BARs, capabilities.
    fn config(&mut self) -> &mut ConfigSpace;
    /// Writes configuration space and acts on what changed (BARs, MSI-X, power, vendor windows).
    fn config_write(&mut self, offset: u16, data: &[u8]) -> Effect;
    /// Reads configuration space.
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.config().read(offset, data);
    }
    /// Reads from BAR `bar`. A function without any answers as if nobody were there.
    fn bar_read(&mut self, _bar: u8, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }
    /// Writes to BAR `bar`.
    fn bar_write(&mut self, _bar: u8, _offset: u64, _data: &[u8]) -> Effect {
        Effect::None
    }
    /// Back to the state after power-on, BARs cleared. Workers were taken back before.
    fn reset(&mut self);
    /// What it decodes beside its BARs now; asked for after each [`Effect::Remap`].
    fn decodes(&self) -> Vec<Decode> {
        Vec::new()
    }
    /// Short cuts to register while memory decoding is on.
    fn io_events(&self) -> Vec<BarIoEvent> {
        Vec::new()
    }
    /// The face of functions whose queues run on I/O threads.
    fn queues(&mut self) -> Option<&mut dyn QueueHost> {
        None
    }
    /// Saved state.
    fn state(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        None
    }
}

/// Starts and stops the queue workers of a function; called by the control thread only.
pub trait QueueHost {
    /// Hands the queues that the driver made ready to their workers, if the driver has said
    /// DRIVER_OK and they are not running.
    fn start_queues(&mut self);
    /// Takes the workers back, waiting until their requests are done. Idempotent.
    fn stop_queues(&mut self);
}

/// A function shared between the address map and its owner; a leaf lock.
pub type SharedFunction = Arc<Mutex<dyn PciFunction>>;
