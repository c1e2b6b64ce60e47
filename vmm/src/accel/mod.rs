//! What runs the guest: KVM, or nobody (qtest). Devices cannot tell which.

pub mod kvm;
mod kvm_irq;
mod kvm_slots;
mod lines;
pub mod qtest;
pub mod qtest_server;
mod saved;
pub(crate) mod words;

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use devices::irq::IrqProvider;
use devices::map::{AddressMap, IoEvent};
use thiserror::Error;
use vmstate::Section;

use crate::memory::RamSlot;
use crate::process::errno;

/// Why an accelerator cannot be had.
#[derive(Debug, Error)]
pub enum AccelError {
    /// No /dev/kvm.
    #[error(
        "Could not access KVM kernel module: {}\nfailed to initialize kvm: {}",
        errno(.0),
        errno(.0)
    )]
    Absent(#[source] io::Error),
    /// We may not use it.
    #[error(
        "Could not access KVM kernel module: Permission denied\nfailed to initialize kvm: \
         Permission denied\n{advice}"
    )]
    Forbidden {
        /// What can be done.
        advice: String,
    },
    /// The kernel's KVM is too old or too small.
    #[error("kvm does not support {0}")]
    Missing(&'static str),
    /// KVM refused something it should not.
    #[error("{what}: {}", errno(.source))]
    Failed {
        /// What we asked for.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl AccelError {
    pub(crate) fn failed<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| AccelError::Failed {
            what,
            source: source.into(),
        }
    }
}

/// The accelerators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccelKind {
    /// The Linux kernel's virtual machines.
    Kvm,
    /// No processor runs; a test plays the guest.
    Qtest,
}

impl AccelKind {
    /// All of them, in the order of `-accel help`.
    pub const ALL: [AccelKind; 2] = [AccelKind::Kvm, AccelKind::Qtest];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            AccelKind::Kvm => "kvm",
            AccelKind::Qtest => "qtest",
        }
    }

    /// The accelerator of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        AccelKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The address map in force: vCPUs load it for each access, control replaces it.
pub type SharedMap = ArcSwap<AddressMap>;

fn same(one: &IoEvent, other: &IoEvent) -> bool {
    (one.space, one.address) == (other.space, other.address)
        && Arc::ptr_eq(&one.event, &other.event)
}

/// What the machine asks of an accelerator. Called by control; nothing here waits for the guest.
pub trait Accel: AccelState {
    /// Which one it is.
    fn kind(&self) -> AccelKind;
    /// Interrupt lines and message routes. All lines of one input are ORed.
    fn irqs(&self) -> Arc<dyn IrqProvider>;
    /// Maps RAM into the guest as slot `slot`, replacing what the slot had.
    ///
    /// # Errors
    /// When the kernel has no slots left or refuses the range.
    fn map_ram(&self, slot: u32, ram: RamSlot) -> io::Result<()>;
    /// Takes a slot out of the guest.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn unmap_ram(&self, slot: u32) -> io::Result<()>;
    /// Takes the short cut from a write to an eventfd.
    ///
    /// # Errors
    /// EEXIST when the address has one; the plain write goes on to work then.
    fn add_io_event(&self, event: &IoEvent) -> io::Result<()>;
    /// Gives it up.
    ///
    /// # Errors
    /// ENOENT when there is none.
    fn remove_io_event(&self, event: &IoEvent) -> io::Result<()>;
    /// The log of what processors write; `None` where none runs.
    fn dirty_log(&self) -> Option<Arc<dyn SlotLog>>;
}

/// Clocks, interrupt controllers and timers of an accelerator. vCPUs are parked.
pub trait AccelState: Send + Sync {
    /// The guest's clocks go on: called before vCPUs run.
    fn clock_start(&self);
    /// The guest's clocks stop: called after vCPUs have parked.
    fn clock_stop(&self);
    /// Everything as after power-on.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn reset(&self) -> io::Result<()>;
    /// What [`AccelState::save`] gives: id and instance of each section, in the order in which they
    /// are to be restored.
    fn parts(&self) -> &'static [(&'static str, &'static str)];
    /// Everything, by value. Clocks are stopped.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn save(&self) -> Result<Vec<Section>, String>;
    /// Puts one section of [`AccelState::save`] in. To be called when all devices were restored
    /// (they drive their interrupt lines anew, which is to make no edges) and before the vCPUs are
    /// (what their registers say of clocks is about the clock restored here).
    ///
    /// # Errors
    /// When it is of another kind, version or shape, or the kernel refuses.
    fn restore(&self, section: &Section) -> Result<(), String>;
}

/// The log of pages that processors write, in all slots, also those that are mapped and unmapped
/// while it goes on. Any thread.
pub trait SlotLog: Send + Sync {
    /// Begins; forgets what was written before.
    ///
    /// # Errors
    /// The kernel's.
    fn start(&self) -> io::Result<()>;
    /// Gives `mark` the address in this process of the first page of a bitmap, and the bitmap;
    /// begins anew with what follows.
    ///
    /// # Errors
    /// The kernel's.
    fn collect(&self, mark: &mut dyn FnMut(u64, &[u64])) -> io::Result<()>;
    /// Ends.
    fn stop(&self);
}

/// The ioeventfds in force; follows the address map.
#[derive(Default)]
pub struct IoEvents {
    active: Vec<IoEvent>,
}

impl IoEvents {
    /// Makes `wanted` the ones in force. Where the accelerator refuses one, plain writes do.
    pub fn apply(&mut self, accel: &dyn Accel, wanted: &[IoEvent]) {
        let mut kept = Vec::with_capacity(wanted.len());
        for old in self.active.drain(..) {
            if wanted.iter().any(|new| same(new, &old)) {
                kept.push(old);
            } else if let Err(error) = accel.remove_io_event(&old) {
                log::warn!("Cannot remove the short cut at {:#x}: {error}", old.address);
            }
        }
        for new in wanted {
            if kept.iter().any(|old| same(old, new)) {
                continue;
            }
            match accel.add_io_event(new) {
                Ok(()) => kept.push(new.clone()),
                Err(error) => log::warn!("No short cut at {:#x}: {error}", new.address),
            }
        }
        self.active = kept;
    }
}
