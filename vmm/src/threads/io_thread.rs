//! An I/O thread: an epoll loop that owns queue workers while they run. Only this module names
//! event-manager.
//!
//! A worker's life here: `attach` (registered on the thread) -> events -> `detach` asked for
//! (quiesced) -> events until drained -> given back.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use devices::worker::{QueueState, QueueWorker, Watch, WatchToken, WorkerId};
use event_manager::{
    EventManager, EventOps, EventSet, Events, MutEventSubscriber, RemoteEndpoint, SubscriberId,
    SubscriberOps,
};
use vmm_sys_util::timerfd::TimerFd;

use super::polling::{Arrival, Polling, Settings};
use super::{ThreadKind, spawn};
use crate::event::MailSender;
use crate::sys;

/// Marks the worker's own timer among its descriptors.
const TIMER: u32 = u32::MAX;
/// A worker seldom has more descriptors ready at once.
const READY_AT_ONCE: usize = 32;

/// How long and how eagerly the thread polls before it sleeps, and what else an object says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollParameters {
    /// Longest time, in nanoseconds; 0 is never.
    pub max_ns: i64,
    /// Whether that was asked for. What nobody asked for is told as QEMU does and not done: the
    /// processor time belongs to the guests.
    pub asked: bool,
    /// Factor by which the time grows.
    pub grow: i64,
    /// Divisor by which it shrinks.
    pub shrink: i64,
    /// Most requests in one batch. Told, and left to the engine.
    pub aio_max_batch: i64,
    /// Fewest and most threads for system calls that block. Told; all threads share one pool.
    pub pool: (i64, i64),
}

impl Default for PollParameters {
    fn default() -> Self {
        PollParameters {
            max_ns: 32_768,
            asked: false,
            grow: 0,
            shrink: 0,
            aio_max_batch: 0,
            pool: (0, 64),
        }
    }
}

impl PollParameters {
    fn apply(&self, to: &Settings) {
        let max_ns = if self.asked { self.max_ns } else { 0 };
        to.set(max_ns, self.grow, self.shrink);
    }
}

/// A running I/O thread. Ends when dropped; workers still on it are dropped with it.
pub struct IoThread {
    id: String,
    poll: Mutex<PollParameters>,
    settings: Arc<Settings>,
    arrival: Arc<Arrival>,
    tid: Arc<AtomicI32>,
    stop: Arc<AtomicBool>,
    next_worker: AtomicU64,
    endpoint: RemoteEndpoint<Hosted>,
    /// The workers' names in event-manager; written by the thread, looked up by it only.
    names: Arc<Mutex<HashMap<WorkerId, SubscriberId>>>,
    finished: Sender<Finished>,
    thread: Option<JoinHandle<Option<()>>>,
}

impl IoThread {
    /// Starts the thread `id`.
    ///
    /// # Errors
    /// When the host is out of threads or descriptors.
    pub fn start(id: &str, poll: PollParameters, mail: Option<MailSender>) -> io::Result<Self> {
        let mut manager = EventManager::<Hosted>::new_with_capacity(READY_AT_ONCE).map_err(host)?;
        let endpoint = manager.remote_endpoint();
        let (stop, tid) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicI32::new(0)),
        );
        let (finished, done) = channel();
        let (stopped, own_tid) = (stop.clone(), tid.clone());
        let (settings, arrival) = (Arc::new(Settings::default()), Arc::new(Arrival::default()));
        poll.apply(&settings);
        let mut polling = Polling::new(settings.clone(), arrival.clone());
        let name = format!("IO {id}");
        let (ready, started) = channel();
        let thread = spawn(ThreadKind::Io, &name, mail, move || {
            own_tid.store(sys::thread_id(), Ordering::Release);
            let _ = ready.send(());
            serve(&mut manager, &mut polling, &done, &stopped);
        })?;
        let _ = started.recv();
        Ok(IoThread {
            id: id.to_owned(),
            poll: Mutex::new(poll),
            settings,
            arrival,
            tid,
            stop,
            next_worker: AtomicU64::new(1),
            endpoint,
            names: Arc::default(),
            finished,
            thread: Some(thread),
        })
    }

    /// The thread's number in the host.
    pub fn thread_id(&self) -> i32 {
        self.tid.load(Ordering::Acquire)
    }

    /// What was asked for in the way of polling.
    pub fn poll_parameters(&self) -> PollParameters {
        *self.poll.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it.
    pub fn set_poll_parameters(&self, poll: PollParameters) {
        *self.poll.lock().unwrap_or_else(PoisonError::into_inner) = poll;
        poll.apply(&self.settings);
        // It may be asleep, and is to begin.
        let _ = self.endpoint.kick();
    }
}

fn host(error: event_manager::Error) -> io::Error {
    match error {
        event_manager::Error::EventFd(errno) | event_manager::Error::Epoll(errno) => {
            io::Error::from_raw_os_error(errno.errno())
        }
        other => io::Error::other(other.to_string()),
    }
}

fn serve(
    manager: &mut EventManager<Hosted>,
    polling: &mut Polling,
    done: &Receiver<Finished>,
    stop: &AtomicBool,
) {
    let manager = RefCell::new(manager);
    while !stop.load(Ordering::Acquire) {
        // Fails only when a signal came in between.
        let look = || {
            let handled = manager.borrow_mut().run_with_timeout(0);
            handled.is_ok_and(|count| count > 0)
        };
        let sleep = || {
            let _ = manager.borrow_mut().run();
        };
        polling.round(look, sleep);
        while let Ok(Finished { subscriber, answer }) = done.try_recv() {
            let states = manager
                .borrow_mut()
                .remove_subscriber(subscriber)
                .ok()
                .map(Hosted::into_state);
            let _ = answer.send(states);
        }
    }
}

/// A drained worker, ready to be given back.
struct Finished {
    subscriber: SubscriberId,
    answer: Sender<Option<Vec<QueueState>>>,
}

/// A worker as event-manager sees it.
struct Hosted {
    worker: Box<dyn QueueWorker>,
    timer: Option<TimerFd>,
    /// Set once the worker is to go.
    leaving: Option<(Finished, Sender<Finished>)>,
    arrival: Arc<Arrival>,
}

impl Hosted {
    fn into_state(self) -> Vec<QueueState> {
        self.worker.into_state()
    }

    fn leave(&mut self, finished: Finished, to: Sender<Finished>, ops: &mut EventOps) {
        self.worker.quiesce(&mut Hands {
            ops,
            timer: &mut self.timer,
        });
        self.leaving = Some((finished, to));
        self.check_drained();
    }

    fn check_drained(&mut self) {
        if !self.worker.drained() {
            return;
        }
        if let Some((finished, to)) = self.leaving.take() {
            // Looked at as soon as the present batch of events is done.
            let _ = to.send(finished);
        }
    }
}

impl MutEventSubscriber for Hosted {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        self.arrival.note();
        if events.data() == TIMER {
            let expired = self
                .timer
                .as_mut()
                .is_some_and(|timer| timer.wait().is_ok());
            if expired {
                self.worker.on_timeout(&mut Hands {
                    ops,
                    timer: &mut self.timer,
                });
            }
        } else {
            let token = WatchToken(events.data());
            self.worker.on_event(
                token,
                &mut Hands {
                    ops,
                    timer: &mut self.timer,
                },
            );
        }
        self.check_drained();
    }

    fn init(&mut self, ops: &mut EventOps) {
        let mut hands = Hands {
            ops,
            timer: &mut self.timer,
        };
        if let Err(error) = self.worker.register(&mut hands) {
            log::error!("Cannot watch the descriptors of a queue: {error}");
        }
    }
}

/// What a worker may do to its thread.
struct Hands<'a, 'b> {
    ops: &'a mut EventOps<'b>,
    timer: &'a mut Option<TimerFd>,
}

impl Hands<'_, '_> {
    fn add(&mut self, fd: RawFd, token: WatchToken, set: EventSet) -> io::Result<()> {
        self.ops
            .add(Events::with_data_raw(fd, token.0, set))
            .map_err(host)
    }

    fn arm(&mut self, after: Duration) -> io::Result<()> {
        if self.timer.is_none() {
            let timer = TimerFd::new()?;
            // It may be set anew, or forgotten, by what came in the same batch of events as its
            // end: then there is nothing to be read, which must not be waited for.
            sys::set_nonblocking(&timer)?;
            let events = Events::with_data_raw(timer.as_raw_fd(), TIMER, EventSet::IN);
            self.ops.add(events).map_err(host)?;
            *self.timer = Some(timer);
        }
        match self.timer {
            Some(timer) => Ok(timer.reset(after, None)?),
            None => Ok(()),
        }
    }
}

impl Watch for Hands<'_, '_> {
    fn readable(&mut self, fd: RawFd, token: WatchToken) -> io::Result<()> {
        self.add(fd, token, EventSet::IN)
    }

    fn writable(&mut self, fd: RawFd, token: WatchToken) -> io::Result<()> {
        self.add(fd, token, EventSet::OUT)
    }

    fn remove(&mut self, fd: RawFd) {
        // It may never have been watched.
        let _ = self.ops.remove(Events::empty_raw(fd));
    }

    fn timeout(&mut self, nanoseconds: Option<u64>) {
        let result = match (nanoseconds, &mut *self.timer) {
            // Zero would disarm it.
            (Some(ns), _) => self.arm(Duration::from_nanos(ns.max(1))),
            (None, Some(timer)) => timer.clear().map_err(io::Error::from),
            (None, None) => Ok(()),
        };
        if let Err(error) = result {
            log::error!("Cannot set the timer of a queue: {error}");
        }
    }
}

type Names = Arc<Mutex<HashMap<WorkerId, SubscriberId>>>;

fn named(names: &Names) -> std::sync::MutexGuard<'_, HashMap<WorkerId, SubscriberId>> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

impl devices::worker::IoThread for IoThread {
    fn id(&self) -> &str {
        &self.id
    }

    fn attach(&self, worker: Box<dyn QueueWorker>) -> io::Result<WorkerId> {
        let id = WorkerId(self.next_worker.fetch_add(1, Ordering::Relaxed));
        let (names, arrival) = (self.names.clone(), self.arrival.clone());
        self.endpoint
            .fire(move |ops| {
                let hosted = Hosted {
                    worker,
                    timer: None,
                    leaving: None,
                    arrival,
                };
                let subscriber = ops.add_subscriber(hosted);
                named(&names).insert(id, subscriber);
            })
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(id)
    }

    fn detach(&self, id: WorkerId) -> Option<Vec<QueueState>> {
        let (answer, states) = channel();
        let (names, finished) = (self.names.clone(), self.finished.clone());
        let asked = self.endpoint.fire(move |ops| {
            // Where any of this fails, `answer` is dropped and the caller gets `None`.
            let Some(subscriber) = named(&names).remove(&id) else {
                return;
            };
            let leaving = Finished { subscriber, answer };
            with_ops(ops, subscriber, |hosted, ops| {
                hosted.leave(leaving, finished, ops)
            });
        });
        asked.ok()?;
        states.recv().ok().flatten()
    }
}

/// Calls `f` with a subscriber and its hands. event-manager lends only one of the two at a time,
/// so the subscriber is taken out of its box for the while.
fn with_ops(
    manager: &mut dyn SubscriberOps<Subscriber = Hosted>,
    id: SubscriberId,
    f: impl FnOnce(&mut Hosted, &mut EventOps),
) {
    let Ok(hosted) = manager.subscriber_mut(id) else {
        return;
    };
    let empty: Box<dyn QueueWorker> = Box::new(Absent);
    let mut taken = Hosted {
        worker: std::mem::replace(&mut hosted.worker, empty),
        timer: hosted.timer.take(),
        leaving: None,
        arrival: hosted.arrival.clone(),
    };
    if let Ok(mut ops) = manager.event_ops(id) {
        f(&mut taken, &mut ops);
    }
    if let Ok(hosted) = manager.subscriber_mut(id) {
        *hosted = taken;
    }
}

/// Holds a worker's place for a moment.
struct Absent;

impl QueueWorker for Absent {
    fn register(&mut self, _: &mut dyn Watch) -> io::Result<()> {
        Ok(())
    }
    fn on_event(&mut self, _: WatchToken, _: &mut dyn Watch) {}
    fn quiesce(&mut self, _: &mut dyn Watch) {}
    fn drained(&self) -> bool {
        true
    }
    fn into_state(self: Box<Self>) -> Vec<QueueState> {
        Vec::new()
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.endpoint.kick();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devices::worker::IoThread as _;
    use vmm_sys_util::eventfd::EventFd;

    /// Counts kicks; pretends to have a request in flight until a timer has passed.
    struct Counter {
        kick: EventFd,
        answer: EventFd,
        count: u16,
        busy: bool,
    }

    impl QueueWorker for Counter {
        fn register(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
            watch.readable(self.kick.as_raw_fd(), WatchToken(3))
        }
        fn on_event(&mut self, token: WatchToken, watch: &mut dyn Watch) {
            assert_eq!(token, WatchToken(3));
            self.count += u16::try_from(self.kick.read().unwrap()).unwrap();
            self.busy = true;
            watch.timeout(Some(20_000_000));
            self.answer.write(1).unwrap();
        }
        fn on_timeout(&mut self, _: &mut dyn Watch) {
            self.busy = false;
        }
        fn quiesce(&mut self, watch: &mut dyn Watch) {
            watch.remove(self.kick.as_raw_fd());
        }
        fn drained(&self) -> bool {
            !self.busy
        }
        fn into_state(self: Box<Self>) -> Vec<QueueState> {
            assert!(!self.busy);
            vec![QueueState {
                index: 0,
                next_avail: self.count,
                next_used: 0,
                again: Vec::new(),
            }]
        }
    }

    /// Sets its timer with one kick and forgets it with the next, which comes before the timer is due
    /// and is looked at when it is.
    struct Forgetful {
        kick: EventFd,
        answer: EventFd,
        set: bool,
    }

    impl QueueWorker for Forgetful {
        fn register(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
            watch.readable(self.kick.as_raw_fd(), WatchToken(1))
        }
        fn on_event(&mut self, _: WatchToken, watch: &mut dyn Watch) {
            self.kick.read().unwrap();
            self.set = !self.set;
            watch.timeout(self.set.then_some(1_000_000));
            self.answer.write(1).unwrap();
            if self.set {
                std::thread::sleep(Duration::from_millis(3));
            }
        }
        fn quiesce(&mut self, watch: &mut dyn Watch) {
            watch.remove(self.kick.as_raw_fd());
            watch.timeout(None);
        }
        fn drained(&self) -> bool {
            true
        }
        fn into_state(self: Box<Self>) -> Vec<QueueState> {
            Vec::new()
        }
    }

    #[test]
    fn a_timer_that_is_forgotten_when_it_is_due_is_not_waited_for() {
        let thread = IoThread::start("io0", PollParameters::default(), None).unwrap();
        let (kick, answer) = (EventFd::new(0).unwrap(), EventFd::new(0).unwrap());
        let worker = Forgetful {
            kick: kick.try_clone().unwrap(),
            answer: answer.try_clone().unwrap(),
            set: false,
        };
        let id = thread.attach(Box::new(worker)).unwrap();
        for _ in 0..50 {
            kick.write(1).unwrap();
            answer.read().unwrap();
        }
        assert!(thread.detach(id).is_some());
    }

    #[test]
    fn workers_come_back_when_drained() {
        workers_come_and_go(PollParameters::default());
    }

    #[test]
    fn a_thread_that_polls_serves_as_well() {
        workers_come_and_go(PollParameters {
            max_ns: 1_000_000,
            asked: true,
            ..PollParameters::default()
        });
    }

    fn workers_come_and_go(poll: PollParameters) {
        let thread = IoThread::start("io0", poll, None).unwrap();
        assert!(thread.thread_id() > 0);
        assert_ne!(thread.thread_id(), sys::thread_id());
        let (kick, answer) = (EventFd::new(0).unwrap(), EventFd::new(0).unwrap());
        let counter = |busy| Counter {
            kick: kick.try_clone().unwrap(),
            answer: answer.try_clone().unwrap(),
            count: 0,
            busy,
        };
        let id = thread.attach(Box::new(counter(false))).unwrap();
        for _ in 0..3 {
            kick.write(2).unwrap();
            answer.read().unwrap();
        }
        assert_eq!(thread.detach(id).unwrap()[0].next_avail, 6);
        assert!(thread.detach(id).is_none());
        // The same descriptor goes to the next worker.
        let id = thread.attach(Box::new(counter(false))).unwrap();
        assert_eq!(thread.detach(id).unwrap()[0].next_avail, 0);
        let _left_behind = thread.attach(Box::new(counter(true))).unwrap();
    }
}
