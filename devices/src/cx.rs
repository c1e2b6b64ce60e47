//! What a device may ask for while it is built. Nothing else is reachable.

use std::collections::HashMap;
use std::sync::Arc;

use crate::backend::chardev::CharFrontend;
use crate::backend::net::NetAttachment;
use crate::clock::{Clock, Timers};
use crate::irq::{IrqLine, IrqProvider};
use crate::ram::RamHandle;
use crate::worker::IoThread;

/// Receives what devices notice outside register accesses (a chardev's input, a timer, a queue):
/// the control thread's mailbox. Never blocks.
pub trait EffectSink: Send + Sync {
    /// Hands the effect of device `id` over.
    fn raise(&self, id: &str, effect: crate::effect::Effect);
}

/// References resolved by the caller from names in the options.
pub struct BuildCx {
    /// The device's id, or a made-up one.
    pub id: String,
    /// Guest RAM.
    pub ram: RamHandle,
    /// Interrupt routes and lines.
    pub irqs: Arc<dyn IrqProvider>,
    /// The PCI interrupt pin's line (INTA) of the slot the device goes to; a null line otherwise.
    pub intx: Arc<dyn IrqLine>,
    /// Whether the device goes behind a PCI Express port, where functions are Express endpoints.
    pub express: bool,
    /// Virtual clock.
    pub clock: Arc<dyn Clock>,
    /// Timers on it.
    pub timers: Arc<dyn Timers>,
    /// Where effects outside register accesses go.
    pub effects: Arc<dyn EffectSink>,
    /// The I/O threads for queues: the one named by `iothread`, or the default one. Never empty.
    pub iothreads: Vec<Arc<dyn IoThread>>,
    /// The chardev named by `chardev`, taken for this device alone.
    pub chardev: Option<CharFrontend>,
    /// The block node named by `drive`, attached for this device; let go of with the last clone.
    pub node: Option<Arc<block::Attachment>>,
    /// The name of the drive behind `node`, where it was made with one (`-drive`).
    pub drive_name: Option<String>,
    /// The file descriptor source named by `rng`: an entropy object.
    pub entropy: Option<Arc<dyn crate::backend::rng::Entropy>>,
    /// The netdev named by `netdev`, taken for this device; given back when dropped.
    pub netdev: Option<NetAttachment>,
    /// The vhost device that the driver needs, opened for it (`vhostfd` or by its path).
    pub vhost: Option<std::os::fd::OwnedFd>,
    /// Where those join who write guest RAM unseen by this process.
    pub writers: crate::vhost::Writers,
    /// Numbers by name that a bus hands out (port numbers and the like).
    pub hints: HashMap<&'static str, u64>,
}
