//! Virtio 1.2 devices and the PCI transport.

pub(crate) mod access;
pub mod balloon;
pub mod blk;
mod chain;
pub mod common;
mod gather;
pub mod layout;
pub mod net;
mod props;
mod queue;
pub mod rng;
pub mod scsi;
pub mod serial;
mod signals;
mod state;
mod transport;
pub mod vsock;

#[cfg(test)]
mod blk_test;
#[cfg(test)]
mod rng_test;
#[cfg(test)]
mod transport_test;

pub use chain::{Chain, MAX_SEGMENTS, Segment, Segments};
pub use props::TransportChoice;
pub use queue::Virtqueue;
pub use transport::{VirtioPci, VirtioPciProps};

use std::sync::Arc;
use std::sync::atomic::Ordering;

use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};
use vmm_sys_util::eventfd::EventFd;

use crate::effect::Effect;
use crate::irq::Interrupt;
use crate::ram::RamHandle;
use crate::vhost::Writers;
use crate::worker::{QueueState, QueueWorker};

/// What a device tells its transport once and for all.
#[derive(Debug, Clone)]
pub struct VirtioTraits {
    /// Virtio device id (Virtio 1.2, section 5).
    pub device_type: u16,
    /// Device-specific features; the transport adds its own (VERSION_1, INDIRECT_DESC, EVENT_IDX).
    pub features: u64,
    /// Largest size of each queue, in order.
    pub queue_sizes: Vec<u16>,
    /// MSI-X vectors unless the user chose another number.
    pub vectors: u16,
    /// PCI class code, 24 bits.
    pub class: u32,
    /// Bytes of device configuration space.
    pub config_len: usize,
}

/// A virtio device: its own meaning and nothing of registers, rings set-up, vectors.
///
/// Called with the function's lock held.
pub trait VirtioDevice: Send {
    /// Fixed facts.
    fn traits(&self) -> VirtioTraits;
    /// Reads configuration space; bytes beyond it are left as given.
    fn config_read(&self, offset: usize, data: &mut [u8]);
    /// Writes configuration space.
    fn config_write(&mut self, _offset: usize, _data: &[u8]) -> Effect {
        Effect::None
    }
    /// The driver is ready: make workers that own the queues. Each goes to the I/O thread of
    /// that index (modulo their number).
    ///
    /// # Errors
    /// When the back end cannot serve; the device then needs a reset.
    fn start(&mut self, queues: ActiveQueues) -> std::io::Result<Vec<PlacedWorker>>;
    /// The workers came back.
    fn stopped(&mut self, states: &[QueueState]);
    /// The driver reset the device.
    fn reset(&mut self);
    /// Saved state beyond the transport's, to save.
    fn state(&self) -> Option<&dyn vmstate::StateAccess> {
        None
    }
    /// The same, to restore.
    fn state_mut(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        None
    }
}

/// A worker and the index of the I/O thread it wants.
pub struct PlacedWorker {
    /// Index into the device's I/O threads, modulo their number.
    pub thread: usize,
    /// The worker.
    pub worker: Box<dyn QueueWorker>,
}

/// The queues the driver made ready, and what was negotiated.
pub struct ActiveQueues {
    /// Features both sides agreed on.
    pub features: u64,
    /// Guest RAM.
    pub ram: RamHandle,
    /// Ready queues in order of index.
    pub queues: Vec<ActiveQueue>,
    /// Tells the driver that configuration changed, and marks the device as broken.
    pub device: Arc<dyn DeviceSignals>,
    /// Where those join who write guest RAM unseen by this process.
    pub writers: Writers,
}

/// Signals of the device as a whole; any thread.
pub trait DeviceSignals: Send + Sync {
    /// Configuration change notification (Virtio 1.2, section 2.3).
    fn config_changed(&self);
    /// Sets DEVICE_NEEDS_RESET: the driver broke the rules (Virtio 1.2, section 2.1.2).
    fn needs_reset(&self, why: &str);
    /// A request made no sense, and was answered so; it is counted.
    fn bad_request(&self, _what: &str) {}
}

/// One virtqueue on its way to its worker.
pub struct ActiveQueue {
    /// Index in the device.
    pub index: u16,
    /// The rings.
    pub queue: virtio_queue::Queue,
    /// Signalled when the driver kicked.
    pub kick: Arc<EventFd>,
    /// Tells the driver that buffers were used.
    pub interrupt: Arc<dyn Interrupt>,
    /// Heads to take before what is in the ring (see [`QueueState::again`]).
    pub again: Vec<u16>,
}

impl ActiveQueue {
    /// The same queue for somebody else, who may serve it when this one does not. `None` for
    /// rings that nobody could serve.
    pub(crate) fn copy(&self) -> Option<Self> {
        Some(ActiveQueue {
            index: self.index,
            queue: virtio_queue::Queue::try_from(self.queue.state()).ok()?,
            kick: self.kick.clone(),
            interrupt: self.interrupt.clone(),
            again: self.again.clone(),
        })
    }

    /// Goes on where somebody stopped who gave back all that he took, in order.
    pub(crate) fn catch_up(&mut self, ram: &RamHandle) {
        let memory = ram.memory();
        let at = GuestAddress(self.queue.used_ring().saturating_add(2));
        let Ok(used) = memory.load::<u16>(at, Ordering::Acquire).map(u16::from_le) else {
            return;
        };
        let done = used.wrapping_sub(self.queue.next_used());
        let next = self.queue.next_avail().wrapping_add(done);
        self.queue.set_next_avail(next);
        self.queue.set_next_used(used);
    }
}
