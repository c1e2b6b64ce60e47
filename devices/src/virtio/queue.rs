//! One split virtqueue in the hands of its worker (Virtio 1.2, section 2.7): takes descriptor
//! chains, gives them back, and interrupts the driver once for a batch.
//!
//! A driver that breaks the rules (a loop, a descriptor outside memory, readable buffers behind
//! writable ones) gets NEEDS_RESET, and its queue is left alone from then on.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use virtio_bindings::bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryBackend};
use vmm_sys_util::eventfd::EventFd;

use super::access;
use super::chain::Chain;
use super::{ActiveQueue, DeviceSignals};
use crate::irq::Interrupt;
use crate::ram::{GuestRam, RamHandle};
use crate::worker::{QueueState, Watch, WatchToken};

/// A virtqueue, owned by one worker.
pub struct Virtqueue {
    index: u16,
    queue: Queue,
    kick: Arc<EventFd>,
    interrupt: Arc<dyn Interrupt>,
    ram: RamHandle,
    device: Arc<dyn DeviceSignals>,
    /// Kicks are suppressed while the queue is looked at anyway.
    quiet: bool,
    /// Something was completed since the last look at interrupting.
    completed: bool,
    /// The used index at that look.
    looked_at: u16,
    broken: bool,
    /// Heads to take before what is in the ring.
    again: VecDeque<u16>,
    /// The head that `pop` gave last, when it was one of these.
    popped_again: Option<u16>,
    /// Heads that are to be taken again later.
    kept: Vec<u16>,
}

impl Virtqueue {
    /// Takes a queue over.
    pub fn new(active: ActiveQueue, ram: &RamHandle, device: &Arc<dyn DeviceSignals>) -> Self {
        Virtqueue {
            index: active.index,
            looked_at: active.queue.next_used(),
            queue: active.queue,
            kick: active.kick,
            interrupt: active.interrupt,
            ram: ram.clone(),
            device: device.clone(),
            quiet: false,
            completed: false,
            broken: false,
            again: active.again.into(),
            popped_again: None,
            kept: Vec::new(),
        }
    }

    /// The queue's index in its device.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Entries.
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Has the back end's descriptor watched, and then the driver's kicks: a request must not be
    /// taken whose end would not be seen. Where that fails, the queue breaks down.
    ///
    /// # Errors
    /// When one cannot be watched.
    pub fn watch(
        &mut self,
        (back_end, ended): (RawFd, WatchToken),
        kick: WatchToken,
        watch: &mut dyn Watch,
    ) -> io::Result<()> {
        watch
            .readable(back_end, ended)
            .and_then(|()| watch.readable(self.kick_fd(), kick))
            .inspect_err(|error| self.break_down(&format!("cannot be watched: {error}")))
    }

    /// The descriptor that kicks make readable.
    pub fn kick_fd(&self) -> RawFd {
        self.kick.as_raw_fd()
    }

    /// Takes note of a kick, before looking at the queue.
    pub fn take_kick(&self) {
        trace::point!(VIRTIO_QUEUE_NOTIFY, vq = self.index);
        // Fails only when there was none.
        let _ = self.kick.read();
    }

    /// Looks at the queue again soon, after others had their turn.
    pub fn kick_self(&self) {
        // Fails only when the counter is full, and then it is readable already.
        let _ = self.kick.write(1);
    }

    /// The RAM in force; take it once for a batch. Requests that are under way keep their own.
    pub fn memory(&self) -> Arc<GuestRam> {
        self.ram.memory().into_inner()
    }

    /// Whether the driver broke the rules.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Takes the next chain; false when there is none. Kicks are asked for again then, and a
    /// chain that came just before that is not missed.
    pub fn pop(&mut self, memory: &GuestRam, chain: &mut Chain) -> bool {
        if self.pop_quietly(memory, chain) {
            return true;
        }
        if !self.ask_for_kicks(memory) {
            return false;
        }
        let found = self.pop_quietly(memory, chain);
        if !found {
            self.break_down("the available ring cannot be read");
        }
        found
    }

    /// The same, but kicks are not asked for: who needs them calls [`Self::ask_for_kicks`].
    pub fn pop_quietly(&mut self, memory: &GuestRam, chain: &mut Chain) -> bool {
        if self.broken {
            return false;
        }
        self.popped_again = self.again.pop_front();
        if let Some(head) = self.popped_again {
            let (table, size) = (GuestAddress(self.queue.desc_table()), self.queue.size());
            if let Err(why) = chain.fill(memory, table, size, head) {
                self.break_down(why);
            }
            chain.again = true;
            return !self.broken;
        }
        chain.again = false;
        match self.try_pop(memory, chain) {
            Ok(found) => found,
            Err(why) => {
                self.break_down(why);
                false
            }
        }
    }

    fn try_pop(&mut self, memory: &GuestRam, chain: &mut Chain) -> Result<bool, &'static str> {
        if !self.quiet {
            self.queue
                .disable_notification(memory)
                .map_err(|_| "a ring is outside memory")?;
            self.quiet = true;
        }
        let mut available = self
            .queue
            .iter(memory)
            .map_err(|_| "the available index ran ahead of the queue")?;
        let Some(next) = available.next() else {
            return Ok(false);
        };
        let (size, head) = (self.queue.size(), next.head_index());
        if head >= size {
            return Err("a head is outside the descriptor table");
        }
        chain.fill(memory, GuestAddress(self.queue.desc_table()), size, head)?;
        Ok(true)
    }

    /// Asks for a kick with the next chain. True when one came just before that, for which there
    /// may be no kick.
    pub fn ask_for_kicks(&mut self, memory: &GuestRam) -> bool {
        if self.broken {
            return false;
        }
        self.quiet = false;
        match self.queue.enable_notification(memory) {
            Ok(more) => more,
            Err(_) => {
                self.break_down("a ring is outside memory");
                false
            }
        }
    }

    /// Puts a chain back that `pop` gave: the latest first, and none of those that came later may
    /// be out. It comes again.
    pub fn put_back(&mut self, chain: &Chain) {
        self.popped_again = None;
        match chain.again {
            true => self.again.push_front(chain.head()),
            false => self.queue.go_to_previous_position(),
        }
    }

    /// Puts back the chain that `pop` gave last; it comes again.
    pub fn unpop(&mut self) {
        match self.popped_again.take() {
            Some(head) => self.again.push_front(head),
            None => self.queue.go_to_previous_position(),
        }
    }

    /// Keeps a chain that is neither given back nor forgotten: it is part of the queue's state,
    /// and taken again when the queue is handed out the next time.
    pub fn keep(&mut self, head: u16) {
        self.kept.push(head);
    }

    /// Whether chains are kept.
    pub fn keeps_some(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Whether chains are waiting.
    pub fn has_more(&self, memory: &GuestRam) -> bool {
        let next = self.queue.next_avail();
        let index = self.queue.avail_idx(memory, Ordering::Acquire);
        let in_ring = index.is_ok_and(|index| index.0 != next);
        !self.broken && (in_ring || !self.again.is_empty())
    }

    /// Gives a chain back with `written` bytes in its writable buffers. The driver learns of it
    /// with [`Self::notify`].
    pub fn complete(&mut self, memory: &GuestRam, head: u16, written: u32) {
        self.complete_together(memory, std::iter::once((head, written)));
    }

    /// The same for chains that belong together: the driver sees none of them before it sees all.
    /// A frame in several buffers needs that (Virtio 1.2, section 5.1.6.4).
    pub fn complete_together(
        &mut self,
        memory: &GuestRam,
        used: impl IntoIterator<Item = (u16, u32)>,
    ) {
        if self.broken {
            return;
        }
        if self.write_used(memory, used).is_none() {
            self.break_down("the used ring is outside memory");
        }
        self.completed = true;
    }

    /// Elements, and behind them the index that makes them count (Virtio 1.2, section 2.7.8).
    fn write_used(
        &mut self,
        memory: &GuestRam,
        used: impl IntoIterator<Item = (u16, u32)>,
    ) -> Option<()> {
        let ring = self.queue.used_ring();
        let mut next = self.queue.next_used();
        for (head, written) in used {
            trace::point!(VIRTQUEUE_FILL, vq = self.index, head = head, len = written);
            let place = u64::from(next.checked_rem(self.queue.size())?);
            let at = GuestAddress(ring.checked_add(4 + 8 * place)?);
            let element = u64::from(head) | u64::from(written) << 32;
            access::write_obj(memory, element.to_le(), at)?;
            next = next.wrapping_add(1);
        }
        self.queue.set_next_used(next);
        let at = GuestAddress(ring.checked_add(2)?);
        memory.store(next.to_le(), at, Ordering::Release).ok()
    }

    /// Interrupts the driver, if something was completed and it wants to know.
    pub fn notify(&mut self, memory: &GuestRam) {
        if std::mem::take(&mut self.completed) && self.wants_interrupt(memory) {
            trace::point!(VIRTIO_NOTIFY, vq = self.index);
            self.interrupt.signal();
        }
    }

    fn wants_interrupt(&mut self, memory: &GuestRam) -> bool {
        let next = self.queue.next_used();
        let before = std::mem::replace(&mut self.looked_at, next);
        // The used index has to be visible before the driver's wish is looked at.
        fence(Ordering::SeqCst);
        if self.queue.event_idx_enabled() {
            // Whether the event lies in what was used since (Virtio 1.2, section 2.7.7.2).
            return self.used_event(memory).is_none_or(|event| {
                next.wrapping_sub(event).wrapping_sub(1) < next.wrapping_sub(before)
            });
        }
        let flags = memory.load::<u16>(GuestAddress(self.queue.avail_ring()), Ordering::Relaxed);
        flags.map_or(true, |flags| {
            u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0
        })
    }

    /// Where in the used ring the driver wants to be interrupted. It stands behind the available ring.
    fn used_event(&self, memory: &GuestRam) -> Option<u16> {
        let offset = 4 + 2 * u64::from(self.queue.size());
        let at = GuestAddress(self.queue.avail_ring().checked_add(offset)?);
        let event = memory.load::<u16>(at, Ordering::Relaxed).ok()?;
        Some(u16::from_le(event))
    }

    /// Gives the queue up: the driver has to reset the device.
    pub fn break_down(&mut self, why: &str) {
        trace::point!(VIRTQUEUE_BROKEN, vq = self.index, why = why);
        self.broken = true;
        self.device
            .needs_reset(&format!("queue {}: {why}", self.index));
    }

    /// A request made no sense: counted, and for the caller to answer.
    pub fn bad_request(&self, what: &str) {
        self.device.bad_request(what);
    }

    /// Where it stopped.
    pub fn state(&self) -> QueueState {
        QueueState {
            index: self.index,
            next_avail: self.queue.next_avail(),
            next_used: self.queue.next_used(),
            again: self.kept.iter().chain(&self.again).copied().collect(),
        }
    }
}

/// Whether the three rings lie in RAM.
pub fn rings_in_ram(queue: &Queue, memory: &GuestRam) -> bool {
    let size = usize::from(queue.size());
    let inside = |at: u64, len: usize| {
        at.checked_add(len as u64).is_some() && memory.check_range(GuestAddress(at), len)
    };
    inside(queue.desc_table(), 16 * size)
        && inside(queue.avail_ring(), 6 + 2 * size)
        && inside(queue.used_ring(), 6 + 8 * size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::NullInterrupt;
    use crate::testing::FakeGuest;
    use crate::virtio::signals::Signals;

    const SIZE: u16 = 8;
    const USED: u64 = 0x3000;

    fn queue(ram: &RamHandle) -> Virtqueue {
        let mut queue = Queue::new(SIZE).unwrap();
        queue.set_desc_table_address(Some(0x1000), Some(0));
        queue.set_avail_ring_address(Some(0x2000), Some(0));
        queue.set_used_ring_address(Some(USED as u32), Some(0));
        queue.set_ready(true);
        let active = ActiveQueue {
            index: 0,
            queue,
            kick: Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap()),
            interrupt: Arc::new(NullInterrupt),
            again: Vec::new(),
        };
        let signals = Signals::new("d", Arc::new(NullInterrupt), Vec::new());
        let signals: Arc<dyn DeviceSignals> = Arc::new(signals);
        Virtqueue::new(active, ram, &signals)
    }

    fn used_index(memory: &GuestRam) -> u16 {
        memory.read_obj(GuestAddress(USED + 2)).unwrap()
    }

    #[test]
    fn what_belongs_together_is_seen_together() {
        let guest = FakeGuest::new();
        let mut queue = queue(&guest.ram);
        let memory = queue.memory();
        queue.complete(&memory, 7, 70);
        assert_eq!(used_index(&memory), 1);
        // The driver may look between any two of them.
        let looks = (0..SIZE).map(|head| {
            assert_eq!(used_index(&memory), 1, "{head} is seen before the last");
            (head, 100 + u32::from(head))
        });
        queue.complete_together(&memory, looks);
        assert_eq!(used_index(&memory), 1 + SIZE);
        let element = |place: u64| -> [u32; 2] {
            let at = GuestAddress(USED + 4 + 8 * place);
            [
                memory.read_obj(at).unwrap(),
                memory.read_obj(GuestAddress(at.0 + 4)).unwrap(),
            ]
        };
        // The last one is where the first one was.
        assert_eq!(element(0), [7, 107]);
        for place in 1..u64::from(SIZE) {
            assert_eq!(element(place), [place as u32 - 1, 99 + place as u32]);
        }
        assert_eq!(queue.state().next_used, 1 + SIZE);
        assert!(!queue.is_broken());
    }

    #[test]
    fn a_used_ring_outside_memory_breaks_the_queue() {
        let guest = FakeGuest::new();
        let mut queue = queue(&guest.ram);
        let memory = queue.memory();
        queue
            .queue
            .set_used_ring_address(Some(0xffff_fff0), Some(0xffff_ffff));
        queue.complete_together(&memory, [(0, 0), (1, 0), (2, 0)]);
        assert!(queue.is_broken());
        assert_eq!(queue.state().next_used, 0);
    }
}
