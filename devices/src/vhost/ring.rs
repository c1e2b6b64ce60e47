//! One virtqueue on its way to a party.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::irq::Interrupt;
use crate::ram::GuestRam;
use crate::virtio::ActiveQueue;
use crate::virtio::access::mark_dirty;
use crate::worker::QueueState;

/// A virtqueue with all that whoever serves it needs.
#[derive(Clone)]
pub struct Ring {
    /// Its index in the device.
    pub index: u16,
    /// Its index at the party.
    pub place: u16,
    /// Entries.
    pub size: u16,
    /// Guest address of the descriptor table.
    pub desc: u64,
    /// Guest address of the available ring.
    pub avail: u64,
    /// Guest address of the used ring.
    pub used: u64,
    /// The entry of the available ring to begin with.
    pub next_avail: u16,
    /// Signalled by the driver.
    pub kick: Arc<EventFd>,
    /// Signalled by the party when it used buffers.
    pub call: Arc<EventFd>,
    /// Signalled by the party when it cannot go on.
    pub err: Arc<EventFd>,
    pub(super) interrupt: Arc<dyn Interrupt>,
}

impl Ring {
    /// Takes a queue over, which is `place` at the party.
    ///
    /// # Errors
    /// When the host is out of descriptors, or requests were kept that only this process can take
    /// up again.
    pub fn new(active: ActiveQueue, place: u16) -> io::Result<Self> {
        let ActiveQueue {
            index,
            queue,
            kick,
            interrupt,
            again,
        } = active;
        if !again.is_empty() {
            let text = format!("queue {index} has requests that were begun before");
            return Err(io::Error::other(text));
        }
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map(Arc::new);
        Ok(Ring {
            index,
            place,
            size: queue.size(),
            desc: queue.desc_table(),
            avail: queue.avail_ring(),
            used: queue.used_ring(),
            next_avail: queue.next_avail(),
            kick,
            call: event()?,
            err: event()?,
            interrupt,
        })
    }

    /// Tells the driver, if the party signalled what nobody has passed on.
    pub(super) fn pass_on(&self) {
        if self.call.read().is_ok() {
            self.interrupt.signal();
        }
    }

    /// The next entry of the used ring, as the driver sees it.
    pub(super) fn used_index(&self, ram: &GuestRam) -> u16 {
        let at = GuestAddress(self.used.saturating_add(2));
        ram.load::<u16>(at, Ordering::Acquire)
            .map_or(self.next_avail, u16::from_le)
    }

    /// Where it stopped. A party that does not say how far it took chains is taken at its used
    /// ring: chains it has not given back are then taken once more.
    pub(super) fn state(&self, next_avail: Option<u16>, ram: &GuestRam) -> QueueState {
        let next_used = self.used_index(ram);
        QueueState {
            index: self.index,
            next_avail: next_avail.unwrap_or(next_used),
            next_used,
            again: Vec::new(),
        }
    }

    /// Counts the memory of all buffers that the device may write as written.
    pub(super) fn mark_buffers(&self, ram: &GuestRam) {
        for number in 0..u64::from(self.size) {
            let Some(descriptor) = Descriptor::read(ram, self.desc, number) else {
                continue;
            };
            if descriptor.flags & INDIRECT == 0 {
                descriptor.mark(ram);
                continue;
            }
            let count = u64::from(descriptor.len) / DESCRIPTOR;
            let table = (0..count.min(MOST_PIECES))
                .map_while(|number| Descriptor::read(ram, descriptor.address, number));
            table.for_each(|descriptor| descriptor.mark(ram));
        }
    }
}

/// Bytes of a descriptor, and its flags (Virtio 1.2, section 2.7.5).
const DESCRIPTOR: u64 = 16;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// No packet has more bytes, with its header (include/linux/virtio_vsock.h in Linux).
const MOST_BYTES: u32 = (64 << 10) + 4096;
/// Nor does the kernel take chains of more pieces (UIO_MAXIOV).
const MOST_PIECES: u64 = 1024;

struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
}

impl Descriptor {
    fn read(ram: &GuestRam, table: u64, number: u64) -> Option<Self> {
        let at = table.checked_add(number.checked_mul(DESCRIPTOR)?)?;
        let mut bytes = [0; DESCRIPTOR as usize];
        ram.read_slice(&mut bytes, GuestAddress(at)).ok()?;
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, ..] = bytes;
        Some(Descriptor {
            address: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            len: u32::from_le_bytes([i, j, k, l]),
            flags: u16::from_le_bytes([m, n]),
        })
    }

    fn mark(&self, ram: &GuestRam) {
        if self.flags & (WRITE | INDIRECT) == WRITE {
            let len = usize::try_from(self.len.min(MOST_BYTES)).unwrap_or(0);
            mark_dirty(ram, GuestAddress(self.address), len);
        }
    }
}
