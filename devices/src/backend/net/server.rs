//! The thread that finds peers for stream netdevs and moves frames for hubs. It waits for nobody:
//! names are looked up by errands, and connections are made while it does other things.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api_spec::QmpResult;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::hub::Bridge;
use super::link::Link;
use super::wire::Loss;
use crate::backend::socket::{Epoll, Errands, InetAddress, Ready, refused};
use crate::bus::lock;

/// How long callers wait for the thread, which waits for nobody.
const PATIENCE: Duration = Duration::from_secs(2);
/// Tokens: the key of what is served, and which of its descriptors. Key 0 is the thread's own.
const PARTS: u64 = 4;

/// Which descriptor an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The one that listens.
    Listener = 0,
    /// The one that is being connected.
    Connecting = 1,
    /// The one that frames go through.
    Frames = 2,
}

/// The token of a descriptor.
pub(super) fn token(key: u64, part: Part) -> u64 {
    key.wrapping_mul(PARTS).wrapping_add(part as u64)
}

fn from_token(token: u64) -> (u64, Part) {
    let part = match token % PARTS {
        0 => Part::Listener,
        1 => Part::Connecting,
        _ => Part::Frames,
    };
    (token / PARTS, part)
}

/// What happened elsewhere.
pub(super) enum News {
    /// A port cannot use its connection any more.
    Lost { generation: u64, why: Loss },
    /// An interface came to the netdev, or left.
    Use,
    /// What a host's name stands for.
    Found(QmpResult<Vec<SocketAddr>>),
    /// Frames were queued.
    Frames,
}

/// What the thread serves.
pub(super) enum Served {
    Link(Box<Link>),
    Bridge(Box<Bridge>),
}

enum Message {
    Add(u64, Served),
    News(u64, News),
    Remove(u64, Sender<()>),
    Shutdown,
}

struct Shared {
    bell: EventFd,
    /// Leaf.
    messages: Mutex<VecDeque<Message>>,
    next_key: AtomicU64,
    errands: Errands,
}

/// The thread's body.
pub struct NetServer {
    epoll: Epoll,
    shared: Arc<Shared>,
    served: BTreeMap<u64, Served>,
}

/// Talks to the thread.
#[derive(Clone)]
pub struct NetHandle(Arc<Shared>);

/// Ends the service of one netdev when dropped: its sockets are closed then.
pub struct NetGuard {
    handle: NetHandle,
    key: u64,
}

/// What the served have at hand.
pub(super) struct Cx<'a> {
    pub epoll: &'a Epoll,
    pub handle: &'a NetHandle,
}

impl NetServer {
    /// The thread's body and a handle on it. `errands` looks up names.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new(errands: Errands) -> io::Result<(Self, NetHandle)> {
        let epoll = Epoll::new()?;
        let bell = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        epoll.add(bell.as_raw_fd(), libc::EPOLLIN, 0)?;
        let shared = Arc::new(Shared {
            bell,
            messages: Mutex::default(),
            next_key: AtomicU64::new(1),
            errands,
        });
        let server = NetServer {
            epoll,
            shared: shared.clone(),
            served: BTreeMap::new(),
        };
        Ok((server, NetHandle(shared)))
    }

    /// Serves until told to end.
    pub fn run(mut self) {
        let mut ready = Vec::new();
        loop {
            if self.take_messages() {
                return;
            }
            let timeout = self.next_deadline();
            if let Err(error) = self.epoll.wait(timeout, &mut ready) {
                log::error!("Networks cannot be served: {error}");
                return;
            }
            self.take_events(&ready);
            self.take_timeouts();
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        let next = self.served.values().filter_map(Served::deadline).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn take_events(&mut self, ready: &[Ready]) {
        let handle = NetHandle(self.shared.clone());
        let cx = Cx {
            epoll: &self.epoll,
            handle: &handle,
        };
        for event in ready {
            let (key, part) = from_token(event.token);
            match self.served.get_mut(&key) {
                Some(Served::Link(link)) => link.ready(part, event.events, &cx),
                Some(Served::Bridge(bridge)) => bridge.turn(&cx),
                None => {}
            }
        }
    }

    fn take_timeouts(&mut self) {
        let handle = NetHandle(self.shared.clone());
        let cx = Cx {
            epoll: &self.epoll,
            handle: &handle,
        };
        let now = Instant::now();
        for served in self.served.values_mut() {
            if let Served::Link(link) = served
                && link.deadline().is_some_and(|at| at <= now)
            {
                link.timeout(&cx);
            }
        }
    }

    /// Whether the end was asked for.
    fn take_messages(&mut self) -> bool {
        // Before the look, so that a ring during it is not lost.
        let _ = self.shared.bell.read();
        let handle = NetHandle(self.shared.clone());
        let cx = Cx {
            epoll: &self.epoll,
            handle: &handle,
        };
        let messages = std::mem::take(&mut *lock(&self.shared.messages));
        for message in messages {
            match message {
                Message::Add(key, mut served) => {
                    match &mut served {
                        Served::Link(link) => link.begin(&cx),
                        Served::Bridge(bridge) => bridge.begin(&cx),
                    }
                    self.served.insert(key, served);
                }
                Message::News(key, news) => match self.served.get_mut(&key) {
                    Some(Served::Link(link)) => link.news(news, &cx),
                    Some(Served::Bridge(bridge)) => bridge.turn(&cx),
                    None => {}
                },
                Message::Remove(key, done) => {
                    if let Some(mut served) = self.served.remove(&key) {
                        served.end(&cx);
                    }
                    // The caller may have given up.
                    let _ = done.send(());
                }
                Message::Shutdown => return true,
            }
        }
        false
    }
}

impl Served {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Served::Link(link) => link.deadline(),
            Served::Bridge(_) => None,
        }
    }

    fn end(&mut self, cx: &Cx) {
        match self {
            Served::Link(link) => link.end(cx),
            Served::Bridge(bridge) => bridge.end(cx),
        }
    }
}

impl NetHandle {
    /// A key for something that is to be served.
    pub(super) fn new_key(&self) -> u64 {
        self.0.next_key.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands something over to the thread.
    pub(super) fn serve(&self, key: u64, served: Served) -> NetGuard {
        self.post(Message::Add(key, served));
        NetGuard {
            handle: self.clone(),
            key,
        }
    }

    /// Tells what is served under a key.
    pub(super) fn tell(&self, key: u64, news: News) {
        self.post(Message::News(key, news));
    }

    /// Looks up a host's name elsewhere; the outcome comes as news.
    pub(super) fn look_up(&self, key: u64, address: InetAddress) {
        let handle = self.clone();
        let errand = move || handle.tell(key, News::Found(address.resolve()));
        if let Err(error) = (self.0.errands)(Box::new(errand)) {
            let error = refused("A host's name cannot be looked up", &error);
            self.tell(key, News::Found(Err(error)));
        }
    }

    /// Ends the thread.
    pub fn shutdown(&self) {
        self.post(Message::Shutdown);
    }

    fn post(&self, message: Message) {
        lock(&self.0.messages).push_back(message);
        // Fails only when the counter is about to overflow, and then it is readable anyway.
        let _ = self.0.bell.write(1);
    }
}

impl Drop for NetGuard {
    fn drop(&mut self) {
        let (done, wait) = channel();
        self.handle.post(Message::Remove(self.key, done));
        // Given up as well when the thread has ended and drops the sender.
        let _ = wait.recv_timeout(PATIENCE);
    }
}

impl Drop for NetServer {
    fn drop(&mut self) {
        self.served.clear();
        // Whoever waits is let go.
        lock(&self.shared.messages).clear();
    }
}
