//! What the two sides of a character device share: two rings, a few flags, and a doorbell for the
//! thread of the host sides.
//!
//! A device that writes byte by byte costs no wake-up for each byte: the thread, once woken, looks
//! again every millisecond until nothing comes any more, and is called earlier only when a ring
//! fills up or a whole block was written.

use crate::bus::lock;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use mio::Waker;

use super::ring::Ring;
use super::{CharFrontend, CharPort, CharWaker, sys};

/// Bytes that wait for the host side at most.
pub(super) const OUT_RING: usize = 64 << 10;
/// Bytes that wait for the device at most.
pub(super) const IN_RING: usize = 16 << 10;
/// A write of at least this many bytes is passed on at once.
const BLOCK: usize = 64;

const BUSY: u8 = 0;
const LINGERING: u8 = 1;
const ASLEEP: u8 = 2;

/// Whether the thread must come at once or may come with its next look, a millisecond later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    Soon,
    Now,
}

/// Wakes the thread, but only if it would not come by itself.
pub(super) struct Doorbell {
    state: AtomicU8,
    urgent: AtomicBool,
    waker: Waker,
}

impl Doorbell {
    pub fn new(waker: Waker) -> Self {
        Doorbell {
            state: AtomicU8::new(ASLEEP),
            urgent: AtomicBool::new(false),
            waker,
        }
    }

    /// Any thread.
    pub fn ring(&self, urgency: Urgency) {
        if urgency == Urgency::Now {
            self.urgent.store(true, Ordering::SeqCst);
        }
        let state = self.state.load(Ordering::SeqCst);
        let sleeps = match urgency {
            Urgency::Soon => state == ASLEEP,
            Urgency::Now => state != BUSY,
        };
        if sleeps && self.state.swap(BUSY, Ordering::SeqCst) != BUSY {
            // Fails only when the counter is full, and then the thread is woken already.
            let _ = self.waker.wake();
        }
    }

    /// The thread is about to sleep, for a short while or until it is called. Whatever was
    /// announced before this is seen by a look after it.
    pub fn sleep(&self, linger: bool) {
        let state = if linger { LINGERING } else { ASLEEP };
        self.state.store(state, Ordering::SeqCst);
    }

    /// Whether somebody called for the thread at once.
    pub fn is_urgent(&self) -> bool {
        self.urgent.load(Ordering::SeqCst)
    }

    /// The thread is up, and looks at everything after this.
    pub fn awake(&self) {
        self.state.store(BUSY, Ordering::SeqCst);
        self.urgent.store(false, Ordering::SeqCst);
    }
}

/// Where a peer shows first: a descriptor that is open as long as this is in its place, and what
/// poll(2) says of it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Door {
    pub fd: RawFd,
    pub events: i16,
}

/// Takes the door away, before the descriptor behind it is closed.
pub(super) struct DoorKeeper(Arc<Core>);

impl DoorKeeper {
    /// Puts `door` in its place.
    pub fn new(core: &Arc<Core>, door: Option<Door>) -> Self {
        *core.door() = door;
        DoorKeeper(core.clone())
    }
}

impl Drop for DoorKeeper {
    fn drop(&mut self) {
        *self.0.door() = None;
        self.0.set_connection(None);
    }
}

/// One character device.
pub(super) struct Core {
    /// Device to host. Leaf lock.
    out: Mutex<Ring>,
    /// Host to device. Leaf lock.
    input: Mutex<Ring>,
    /// What the input ring holds, to be read without its lock.
    input_len: AtomicUsize,
    /// A `ringbuf`: what was written last.
    memory: Mutex<Option<Ring>>,
    has_memory: AtomicBool,
    /// A peer is there.
    open: AtomicBool,
    /// Nobody will ever see output that is written now.
    swallow: AtomicBool,
    /// Where the next peer comes in. Held while the thread lets one in. Leaf, but for the locks
    /// of who the peer is.
    door: Mutex<Option<Door>>,
    /// The connection, as long as it is open: taken away under this lock before it is closed.
    /// Leaf.
    connection: Mutex<Option<RawFd>>,
    /// The thread should look at this device.
    dirty: AtomicBool,
    /// The thread waits for room in the input ring.
    wants_room: AtomicBool,
    /// The device waits for room in the output ring.
    starved: AtomicBool,
    taken: AtomicBool,
    /// Breaks that the device has not heard of.
    breaks: AtomicU32,
    frontend_open: AtomicBool,
    /// Leaf lock, not held while the waker runs.
    waker: Mutex<Option<Arc<dyn CharWaker>>>,
    /// Who is connected, in words. Leaf lock.
    peer: Mutex<Option<String>>,
    /// How many peers have come.
    peers: AtomicU32,
    /// Whether one has; for those who wait for it.
    ever_open: Mutex<bool>,
    opened: Condvar,
    doorbell: OnceLock<Arc<Doorbell>>,
}

/// Whether output has somewhere to go before the thread says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// There is no peer yet, and no log.
    Swallow,
    /// Output waits.
    Keep,
}

impl Core {
    pub fn new(open: bool, start: Start, memory: Option<usize>) -> Arc<Self> {
        let swallow = start == Start::Swallow;
        Arc::new(Core {
            out: Mutex::new(Ring::new(OUT_RING)),
            input: Mutex::new(Ring::new(IN_RING)),
            input_len: AtomicUsize::new(0),
            has_memory: AtomicBool::new(memory.is_some()),
            memory: Mutex::new(memory.map(Ring::new)),
            open: AtomicBool::new(open),
            swallow: AtomicBool::new(swallow),
            connection: Mutex::new(None),
            door: Mutex::new(None),
            dirty: AtomicBool::new(false),
            wants_room: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            taken: AtomicBool::new(false),
            breaks: AtomicU32::new(0),
            frontend_open: AtomicBool::new(false),
            waker: Mutex::new(None),
            peer: Mutex::new(None),
            peers: AtomicU32::new(u32::from(open)),
            ever_open: Mutex::new(open),
            opened: Condvar::new(),
            doorbell: OnceLock::new(),
        })
    }

    pub fn connect_doorbell(&self, doorbell: Arc<Doorbell>) {
        // Set once: a device is handed to its thread only once.
        let _ = self.doorbell.set(doorbell);
    }

    pub fn take_frontend(self: &Arc<Self>) -> Option<CharFrontend> {
        if self.taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        self.call(Urgency::Now);
        Some(Box::new(Frontend(self.clone())))
    }

    pub fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }

    pub fn frontend_open(&self) -> bool {
        self.frontend_open.load(Ordering::Acquire)
    }

    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub fn peer(&self) -> Option<String> {
        lock(&self.peer).clone()
    }

    /// Does something with what a `ringbuf` keeps; `None` for other devices.
    pub fn with_memory<T>(&self, act: impl FnOnce(&mut Ring) -> T) -> Option<T> {
        let there = self.has_memory.load(Ordering::Acquire);
        there.then(|| lock(&self.memory).as_mut().map(act))?
    }

    /// Another host side is to take over from one that is closed.
    pub fn renew(&self, open: bool, start: Start, memory: Option<usize>) {
        self.has_memory.store(memory.is_some(), Ordering::Release);
        *lock(&self.memory) = memory.map(Ring::new);
        if start == Start::Swallow {
            // Nobody comes for it.
            lock(&self.out).clear();
        }
        self.set_open(open, start == Start::Swallow, None);
        self.wake();
    }

    /// The line is held for longer than a character takes.
    pub fn send_break(&self) {
        self.breaks.fetch_add(1, Ordering::AcqRel);
        self.wake();
    }

    pub fn wait_open(&self, time: Duration) -> bool {
        let open = lock(&self.ever_open);
        let waited = self.opened.wait_timeout_while(open, time, |open| !*open);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether output has nowhere to go. A peer that connected before the output was written is
    /// to see it, even if the thread did not come to let it in yet: then output waits.
    fn drops_output(&self) -> bool {
        if !self.swallow.load(Ordering::Acquire) {
            return false;
        }
        let door = lock(&self.door);
        // Somebody may have been let in while we waited for the lock.
        if !self.swallow.load(Ordering::Acquire) {
            return false;
        }
        let knocks = door.is_some_and(|door| sys::poll(door.fd, door.events, 0) != 0);
        if knocks {
            self.swallow.store(false, Ordering::Release);
        }
        !knocks
    }

    /// Breaks the connection, if there is one. The thread finds that the peer has left.
    pub fn yank(&self) {
        if let Some(fd) = *lock(&self.connection) {
            // It is open while the lock is held. What has no peer any more needs none of this.
            let _ = sys::shut_down(&fd);
        }
    }

    /// Asks the thread to look at this device.
    fn call(&self, urgency: Urgency) {
        self.dirty.store(true, Ordering::SeqCst);
        if let Some(doorbell) = self.doorbell.get() {
            doorbell.ring(urgency);
        }
    }

    // For the thread.

    /// Says which connection there is; `None` before it is closed.
    pub fn set_connection(&self, fd: Option<RawFd>) {
        *lock(&self.connection) = fd;
    }

    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::SeqCst)
    }

    pub fn take_dirty(&self) -> bool {
        self.is_dirty() && self.dirty.swap(false, Ordering::SeqCst)
    }

    pub fn set_dirty(&self) {
        self.dirty.store(true, Ordering::SeqCst);
    }

    /// A peer came or went; `swallow` says whether output is dropped right where it is written.
    pub fn set_open(&self, open: bool, swallow: bool, peer: Option<String>) {
        *lock(&self.peer) = peer;
        self.swallow.store(swallow, Ordering::Release);
        if open {
            self.peers.fetch_add(1, Ordering::AcqRel);
        }
        self.open.store(open, Ordering::Release);
        if open {
            *lock(&self.ever_open) = true;
            self.opened.notify_all();
        }
    }

    /// Copies output that waits.
    pub fn peek_output(&self, into: &mut [u8]) -> usize {
        lock(&self.out).peek(into)
    }

    pub fn consume_output(&self, count: usize) {
        lock(&self.out).consume(count);
    }

    pub fn has_output(&self) -> bool {
        !lock(&self.out).is_empty()
    }

    /// Nobody's output is lost between a look at the door and what comes of it while this is held.
    pub fn door(&self) -> MutexGuard<'_, Option<Door>> {
        lock(&self.door)
    }

    /// Whether output is dropped right where it is written, as long as nobody is at the door.
    pub fn set_swallow(&self, swallow: bool) {
        self.swallow.store(swallow, Ordering::Release);
    }

    /// Whether the device waits for room and there is enough of it now.
    pub fn take_relief(&self) -> bool {
        self.starved.load(Ordering::Acquire)
            && lock(&self.out).len() <= OUT_RING / 2
            && self.starved.swap(false, Ordering::AcqRel)
    }

    /// Room for input. When there is none, the device calls once there is.
    pub fn input_room(&self) -> usize {
        let input = lock(&self.input);
        let room = input.room();
        self.wants_room.store(room == 0, Ordering::Release);
        room
    }

    pub fn push_input(&self, data: &[u8]) {
        let mut input = lock(&self.input);
        input.push(data);
        self.input_len.store(input.len(), Ordering::Release);
    }

    /// Wakes the device, with no lock held.
    pub fn wake(&self) {
        let waker = lock(&self.waker).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The device's half.
struct Frontend(Arc<Core>);

impl CharPort for Frontend {
    fn write(&self, data: &[u8]) -> usize {
        let core = &*self.0;
        if core.drops_output() {
            core.with_memory(|memory| memory.push_over(data));
            return data.len();
        }
        let mut out = lock(&core.out);
        let taken = out.push(data);
        let pressing = out.len() >= OUT_RING / 2 || data.len() >= BLOCK;
        if taken < data.len() {
            core.starved.store(true, Ordering::Release);
        }
        drop(out);
        let kept = data.get(..taken).unwrap_or_default();
        core.with_memory(|memory| memory.push_over(kept));
        core.call(if pressing {
            Urgency::Now
        } else {
            Urgency::Soon
        });
        taken
    }

    fn read(&self, buffer: &mut [u8]) -> usize {
        let core = &*self.0;
        if !self.readable() {
            return 0;
        }
        let mut input = lock(&core.input);
        let count = input.pop(buffer);
        core.input_len.store(input.len(), Ordering::Release);
        let relief = input.len() <= IN_RING / 2 && core.wants_room.swap(false, Ordering::AcqRel);
        drop(input);
        if relief {
            core.call(Urgency::Now);
        }
        count
    }

    fn readable(&self) -> bool {
        self.0.input_len.load(Ordering::Acquire) > 0
    }

    fn is_open(&self) -> bool {
        self.0.is_open()
    }

    fn peers(&self) -> u32 {
        self.0.peers.load(Ordering::Acquire)
    }

    fn take_break(&self) -> bool {
        let breaks = &self.0.breaks;
        breaks.load(Ordering::Relaxed) != 0 && breaks.swap(0, Ordering::AcqRel) != 0
    }

    fn set_waker(&self, waker: Option<Arc<dyn CharWaker>>) {
        *lock(&self.0.waker) = waker;
    }

    fn set_frontend_open(&self, open: bool) {
        self.0.frontend_open.store(open, Ordering::Release);
    }
}

impl Drop for Frontend {
    fn drop(&mut self) {
        self.set_waker(None);
        self.set_frontend_open(false);
        let core = &*self.0;
        let mut input = lock(&core.input);
        input.clear();
        core.input_len.store(0, Ordering::Release);
        drop(input);
        core.breaks.store(0, Ordering::Release);
        core.starved.store(false, Ordering::Release);
        core.taken.store(false, Ordering::Release);
        core.call(Urgency::Now);
    }
}
