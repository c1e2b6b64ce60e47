//! The thread that runs the host sides of all character devices.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};

use super::Source;
use super::host_port::{CHUNK, HostPort, Turn, from_token};
use super::shared::{Core, DoorKeeper, Doorbell, Urgency};
use crate::bus::lock;

const WAKER: Token = Token(0);
/// How long after some output the thread looks for more before it sleeps for good.
const LINGER: Duration = Duration::from_millis(1);
/// How long slow peers are waited for at the end, while they take something.
const LAST_WAIT: Duration = Duration::from_millis(500);
/// How long callers wait for the thread, which waits for nobody.
const PATIENCE: Duration = Duration::from_secs(2);

/// A socket, with the connection that it has now.
pub(super) type Socket = (Source, Option<OwnedFd>);

enum Message {
    Add {
        key: usize,
        core: Arc<Core>,
        /// Goes before the source.
        keeper: DoorKeeper,
        source: Source,
        log: Option<File>,
    },
    Remove(usize, Sender<()>),
    TakeBack(usize, Sender<Option<Socket>>),
    Shutdown,
}

struct Shared {
    doorbell: Arc<Doorbell>,
    /// Leaf lock.
    messages: Mutex<VecDeque<Message>>,
    next_key: AtomicUsize,
    ended: Mutex<bool>,
    end: Condvar,
}

/// The thread's body.
pub struct ChardevServer {
    poll: Poll,
    shared: Arc<Shared>,
    ports: BTreeMap<usize, HostPort>,
    buffer: Vec<u8>,
}

/// Talks to the thread.
#[derive(Clone)]
pub struct ChardevHandle(Arc<Shared>);

impl ChardevHandle {
    pub(super) fn add(&self, core: Arc<Core>, source: Source, log: Option<File>) -> usize {
        let key = self.0.next_key.fetch_add(1, Ordering::Relaxed);
        core.connect_doorbell(self.0.doorbell.clone());
        // A client may come before the thread does.
        let keeper = DoorKeeper::new(&core, source.door());
        self.post(Message::Add {
            key,
            core,
            keeper,
            source,
            log,
        });
        key
    }

    /// Returns when the device's descriptors are closed.
    pub(super) fn remove(&self, key: usize) {
        let (done, wait) = channel();
        self.post(Message::Remove(key, done));
        if !*lock(&self.0.ended) {
            // Given up as well when the thread ends meanwhile and drops the sender.
            let _ = wait.recv_timeout(PATIENCE);
        }
    }

    /// Takes a socket away from the thread; `None` where it is none, and everything is closed.
    pub(super) fn take_back(&self, key: usize) -> Option<Socket> {
        let (done, wait) = channel();
        self.post(Message::TakeBack(key, done));
        if *lock(&self.0.ended) {
            return None;
        }
        wait.recv_timeout(PATIENCE).ok().flatten()
    }

    /// Sends what waits, as far as peers take it, closes everything and ends the thread. Returns
    /// when that is done, after two seconds at most.
    pub fn shutdown(&self) {
        self.post(Message::Shutdown);
        let ended = lock(&self.0.ended);
        let result = self
            .0
            .end
            .wait_timeout_while(ended, PATIENCE, |ended| !*ended);
        drop(result.unwrap_or_else(PoisonError::into_inner));
    }

    fn post(&self, message: Message) {
        lock(&self.0.messages).push_back(message);
        self.0.doorbell.ring(Urgency::Now);
    }
}

impl ChardevServer {
    /// The thread's body and a handle on it.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn new() -> io::Result<(Self, ChardevHandle)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let shared = Arc::new(Shared {
            doorbell: Arc::new(Doorbell::new(waker)),
            messages: Mutex::default(),
            next_key: AtomicUsize::new(1),
            ended: Mutex::default(),
            end: Condvar::new(),
        });
        let server = ChardevServer {
            poll,
            shared: shared.clone(),
            ports: BTreeMap::new(),
            buffer: vec![0; CHUNK],
        };
        Ok((server, ChardevHandle(shared)))
    }

    /// Serves until told to end.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(64);
        let mut linger = None;
        loop {
            self.shared.doorbell.awake();
            if self.take_messages() {
                break;
            }
            let turn = self.turns();
            let now = Instant::now();
            if turn.moved {
                linger = Some(now + LINGER);
            }
            let lingering = linger.is_some_and(|until| until > now);
            let timeout = self.timeout(now, if lingering { linger } else { None });
            if let Err(error) = self.wait(&mut events, turn.again, lingering, timeout) {
                log::error!("Character devices cannot be served: {error}");
                break;
            }
            self.take_events(&events);
        }
        self.close_all();
    }

    /// Sleeps, unless something came up.
    fn wait(
        &mut self,
        events: &mut Events,
        again: bool,
        lingering: bool,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let doorbell = &self.shared.doorbell;
        doorbell.sleep(lingering);
        let called =
            doorbell.is_urgent() || (!lingering && self.ports.values().any(|p| p.core.is_dirty()));
        let timeout = if again || called {
            Some(Duration::ZERO)
        } else {
            timeout
        };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn timeout(&self, now: Instant, linger: Option<Instant>) -> Option<Duration> {
        let deadlines = self.ports.values().filter_map(HostPort::deadline);
        let next = deadlines.chain(linger).min()?;
        Some(next.saturating_duration_since(now))
    }

    fn take_events(&mut self, events: &Events) {
        let registry = self.poll.registry();
        for event in events {
            if event.token() == WAKER {
                continue;
            }
            let (key, part) = from_token(event.token());
            if let Some(port) = self.ports.get_mut(&key) {
                port.ready(part, event, registry);
                port.core.set_dirty();
            }
        }
        let now = Instant::now();
        for port in self.ports.values_mut() {
            if port.deadline().is_some_and(|at| at <= now) {
                port.timeout(registry);
                port.core.set_dirty();
            }
        }
    }

    fn turns(&mut self) -> Turn {
        let registry = self.poll.registry();
        let mut all = Turn::default();
        for port in self.ports.values_mut() {
            if port.core.take_dirty() {
                let turn = port.turn(&mut self.buffer, registry);
                if turn.again {
                    port.core.set_dirty();
                }
                all.moved |= turn.moved;
                // Also when it called for itself meanwhile.
                all.again |= turn.again;
            }
        }
        all
    }

    /// Whether the end was asked for.
    fn take_messages(&mut self) -> bool {
        loop {
            let Some(message) = lock(&self.shared.messages).pop_front() else {
                return false;
            };
            match message {
                Message::Add {
                    key,
                    core,
                    keeper,
                    source,
                    log,
                } => {
                    core.set_dirty();
                    let registry = self.poll.registry();
                    let port = HostPort::new(key, core, keeper, source, log, registry);
                    self.ports.insert(key, port);
                }
                Message::Remove(key, done) => {
                    if let Some(mut port) = self.ports.remove(&key) {
                        port.turn(&mut self.buffer, self.poll.registry());
                        port.close(self.poll.registry());
                    }
                    // The caller may have given up.
                    let _ = done.send(());
                }
                Message::TakeBack(key, done) => {
                    let port = self.ports.remove(&key);
                    let registry = self.poll.registry();
                    let _ = done.send(port.and_then(|port| port.into_socket(registry)));
                }
                Message::Shutdown => return true,
            }
        }
    }

    /// Gives peers a last, short chance to take what waits.
    fn close_all(&mut self) {
        let mut events = Events::with_capacity(64);
        let mut until = Instant::now() + LAST_WAIT;
        loop {
            for port in self.ports.values() {
                port.core.set_dirty();
            }
            if self.turns().moved {
                until = Instant::now() + LAST_WAIT;
            }
            let waiting = self.ports.values().any(HostPort::has_output);
            let left = until.saturating_duration_since(Instant::now());
            if !waiting || left.is_zero() || self.poll.poll(&mut events, Some(left)).is_err() {
                break;
            }
            self.take_events(&events);
        }
        for port in self.ports.values_mut() {
            port.close(self.poll.registry());
        }
        self.ports.clear();
    }
}

impl Drop for ChardevServer {
    fn drop(&mut self) {
        // Paths and terminals are put in order before anybody is told. Whoever posts from now on
        // sees that this is the end, and whoever did before is let go with the message.
        self.ports.clear();
        *lock(&self.shared.ended) = true;
        lock(&self.shared.messages).clear();
        self.shared.end.notify_all();
    }
}
