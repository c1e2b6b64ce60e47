//! The event queue: tells the driver that all connections are gone (Virtio 1.2, section 5.10.6.7).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::virtio::{Chain, Virtqueue};
use crate::worker::{QueueState, QueueWorker, Watch, WatchToken};

const KICK: WatchToken = WatchToken(0);
/// `struct virtio_vsock_event` with VIRTIO_VSOCK_EVENT_TRANSPORT_RESET.
const TRANSPORT_RESET: [u8; 4] = 0u32.to_le_bytes();

/// Waits for buffers while there is something to tell.
pub(super) struct EventWorker {
    queue: Virtqueue,
    chain: Chain,
    /// The driver is to be told.
    reset: Arc<AtomicBool>,
    quiet: bool,
}

impl EventWorker {
    pub fn new(queue: Virtqueue, reset: Arc<AtomicBool>) -> Self {
        EventWorker {
            queue,
            chain: Chain::new(),
            reset,
            quiet: false,
        }
    }

    fn serve(&mut self) {
        if !self.reset.load(Ordering::Acquire) {
            return;
        }
        let memory = self.queue.memory();
        if !self.queue.pop(&memory, &mut self.chain) {
            return;
        }
        let written = self.chain.writable.write(&memory, 0, &TRANSPORT_RESET);
        let written = u32::try_from(written).unwrap_or(0);
        self.queue.complete(&memory, self.chain.head(), written);
        self.queue.notify(&memory);
        self.reset.store(false, Ordering::Release);
    }
}

impl QueueWorker for EventWorker {
    fn register(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
        watch
            .readable(self.queue.kick_fd(), KICK)
            .inspect_err(|error| {
                self.queue
                    .break_down(&format!("cannot be watched: {error}"))
            })?;
        self.serve();
        Ok(())
    }

    fn on_event(&mut self, _token: WatchToken, _watch: &mut dyn Watch) {
        self.queue.take_kick();
        self.serve();
    }

    fn quiesce(&mut self, watch: &mut dyn Watch) {
        if !std::mem::replace(&mut self.quiet, true) {
            watch.remove(self.queue.kick_fd());
        }
    }

    fn drained(&self) -> bool {
        true
    }

    fn into_state(self: Box<Self>) -> Vec<QueueState> {
        vec![self.queue.state()]
    }
}
