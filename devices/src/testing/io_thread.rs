//! An I/O thread that runs its workers when the test says so, on the test's thread.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Mutex;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use crate::bus::lock;
use crate::worker::{IoThread, QueueState, QueueWorker, Watch, WatchToken, WorkerId};

/// Rounds of events after which a test is taken to have gone astray.
const MOST_ROUNDS: usize = 100_000;

/// Runs workers inline.
pub struct InlineThread {
    inner: Mutex<Inner>,
}

struct Inner {
    next: u64,
    workers: HashMap<u64, Hosted>,
}

struct Hosted {
    worker: Box<dyn QueueWorker>,
    hands: Hands,
}

struct Hands {
    epoll: Epoll,
    watched: HashMap<RawFd, (WatchToken, EventSet)>,
    timeout: Option<u64>,
}

impl Hands {
    fn watch(&mut self, fd: RawFd, token: WatchToken, set: EventSet) -> std::io::Result<()> {
        let event = EpollEvent::new(set, fd as u64);
        self.epoll.ctl(ControlOperation::Add, fd, event)?;
        self.watched.insert(fd, (token, set));
        Ok(())
    }
}

impl Watch for Hands {
    fn readable(&mut self, fd: RawFd, token: WatchToken) -> std::io::Result<()> {
        self.watch(fd, token, EventSet::IN)
    }

    fn writable(&mut self, fd: RawFd, token: WatchToken) -> std::io::Result<()> {
        self.watch(fd, token, EventSet::OUT)
    }

    fn remove(&mut self, fd: RawFd) {
        if self.watched.remove(&fd).is_some() {
            let _ = self
                .epoll
                .ctl(ControlOperation::Delete, fd, EpollEvent::default());
        }
    }

    fn timeout(&mut self, nanoseconds: Option<u64>) {
        self.timeout = nanoseconds;
    }
}

impl Hosted {
    /// Handles what is ready now; waits up to `wait` milliseconds for something.
    fn round(&mut self, wait: i32) -> bool {
        let mut events = [EpollEvent::default(); 16];
        let count = self.hands.epoll.wait(wait, &mut events).unwrap_or(0);
        for event in events.iter().take(count) {
            let fd = event.data() as RawFd;
            if let Some((token, _)) = self.hands.watched.get(&fd).copied() {
                self.worker.on_event(token, &mut self.hands);
            }
        }
        count > 0
    }
}

impl Default for InlineThread {
    fn default() -> Self {
        InlineThread {
            inner: Mutex::new(Inner {
                next: 1,
                workers: HashMap::new(),
            }),
        }
    }
}

impl InlineThread {
    /// Handles events until nothing is ready.
    pub fn run(&self) {
        for _ in 0..MOST_ROUNDS {
            let mut inner = lock(&self.inner);
            let mut busy = false;
            for hosted in inner.workers.values_mut() {
                busy |= hosted.round(0);
            }
            if !busy {
                return;
            }
        }
        panic!("The workers do not come to rest");
    }

    /// Handles events until `done`, which other threads may bring about.
    pub fn run_until(&self, mut done: impl FnMut() -> bool) {
        for _ in 0..MOST_ROUNDS {
            if done() {
                return;
            }
            for hosted in lock(&self.inner).workers.values_mut() {
                hosted.round(1);
            }
        }
        panic!("What the test waits for does not happen");
    }

    /// The timeouts that workers asked for, in nanoseconds.
    pub fn timeouts(&self) -> Vec<u64> {
        lock(&self.inner)
            .workers
            .values()
            .filter_map(|hosted| hosted.hands.timeout)
            .collect()
    }

    /// Lets all timeouts pass.
    pub fn pass_timeouts(&self) {
        for hosted in lock(&self.inner).workers.values_mut() {
            if hosted.hands.timeout.take().is_some() {
                hosted.worker.on_timeout(&mut hosted.hands);
            }
        }
    }

    /// Workers on it.
    pub fn len(&self) -> usize {
        lock(&self.inner).workers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl IoThread for InlineThread {
    fn id(&self) -> &str {
        "inline"
    }

    fn attach(&self, mut worker: Box<dyn QueueWorker>) -> std::io::Result<WorkerId> {
        let mut hands = Hands {
            epoll: Epoll::new()?,
            watched: HashMap::new(),
            timeout: None,
        };
        worker.register(&mut hands)?;
        let mut inner = lock(&self.inner);
        let id = inner.next;
        inner.next += 1;
        inner.workers.insert(id, Hosted { worker, hands });
        Ok(WorkerId(id))
    }

    fn detach(&self, id: WorkerId) -> Option<Vec<QueueState>> {
        let mut hosted = lock(&self.inner).workers.remove(&id.0)?;
        // Twice: quiesce is idempotent.
        hosted.worker.quiesce(&mut hosted.hands);
        hosted.worker.quiesce(&mut hosted.hands);
        for _ in 0..MOST_ROUNDS {
            if hosted.worker.drained() {
                return Some(hosted.worker.into_state());
            }
            hosted.round(1);
        }
        panic!("The worker is never drained");
    }
}
