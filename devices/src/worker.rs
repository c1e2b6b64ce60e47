//! Work on virtqueues, done by I/O threads that own what they work on.

use std::os::fd::RawFd;

/// Names a file descriptor of a worker; chosen by the worker, unique within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WatchToken(pub u32);

/// A worker's hands on its thread's event loop.
pub trait Watch {
    /// Calls [`QueueWorker::on_event`] with `token` whenever `fd` is readable (level-triggered).
    /// The worker keeps `fd` open until it has called `remove` or was taken off the thread.
    fn readable(&mut self, fd: RawFd, token: WatchToken) -> std::io::Result<()>;
    /// The same for writable.
    fn writable(&mut self, fd: RawFd, token: WatchToken) -> std::io::Result<()>;
    /// Forgets `fd`.
    fn remove(&mut self, fd: RawFd);
    /// Calls [`QueueWorker::on_timeout`] once after `nanoseconds`; replaces an earlier call.
    /// `None` forgets it.
    fn timeout(&mut self, nanoseconds: Option<u64>);
}

/// Serves one or more virtqueues. While it runs it owns queue, back end and interrupt: there is
/// no lock on the data path. Life: `register`, any number of `on_event`, `quiesce`, more
/// `on_event` until `drained`, `into_state`.
pub trait QueueWorker: Send {
    /// Watches its descriptors. Also looks at its queues once: requests may be waiting.
    ///
    /// # Errors
    /// When a descriptor cannot be watched.
    fn register(&mut self, watch: &mut dyn Watch) -> std::io::Result<()>;
    /// One of its descriptors is ready.
    fn on_event(&mut self, token: WatchToken, watch: &mut dyn Watch);
    /// The time asked for has passed.
    fn on_timeout(&mut self, _watch: &mut dyn Watch) {}
    /// Takes no new requests from now on; those in flight go on. Idempotent.
    fn quiesce(&mut self, watch: &mut dyn Watch);
    /// Whether nothing is in flight any more.
    fn drained(&self) -> bool;
    /// Gives back what it owned; called once, when drained.
    fn into_state(self: Box<Self>) -> Vec<QueueState>;
}

/// Where a split virtqueue stopped (Virtio 1.2, section 2.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueState {
    /// The queue's index in its device.
    pub index: u16,
    /// The next entry of the available ring to take.
    pub next_avail: u16,
    /// The next entry of the used ring to fill.
    pub next_used: u16,
    /// Heads of chains that were taken and are to be taken again, before all others: requests
    /// that failed and are tried once more when the machine goes on.
    pub again: Vec<u16>,
}

/// Names a worker on its thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkerId(pub u64);

/// An I/O thread: an event loop that runs workers.
pub trait IoThread: Send + Sync {
    /// The thread's object id (`iothread=`), for introspection.
    fn id(&self) -> &str;
    /// Hands a worker over; it is registered on the thread soon after.
    ///
    /// # Errors
    /// When the thread has ended.
    fn attach(&self, worker: Box<dyn QueueWorker>) -> std::io::Result<WorkerId>;
    /// Quiesces the worker, waits until it is drained and takes back what it owned.
    /// `None` when the thread has ended or never had it.
    fn detach(&self, id: WorkerId) -> Option<Vec<QueueState>>;
}
