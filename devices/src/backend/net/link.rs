//! The life of a netdev's connection, as the net thread runs it.
//!
//! ```text
//!   server: listening --------- accept --------> connected -- lost --> listening
//!   client: looking up -> connecting ----------> connected -- lost --> waiting -> looking up
//!                \____________/ refused: waiting (reconnect) or over
//! ```
//!
//! A connection that no worker reads is looked after here: without an interface its frames are
//! dropped; and while an interface does not run, the peer's leaving is noticed.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use api_spec::{QmpError, QmpResult};
use block::Buffers;

use super::server::{Cx, NetGuard, NetHandle, News, Part, Served, token};
use super::stream::StreamPort;
use super::wire::{Line, Loss, Wire};
use super::{NetTraits, Netdev, NetdevOptions};
use crate::backend::socket::{Attempt, Dialer, Listener, Place, refused, sys, system_words};

/// How long a client is left alone after it could not be accepted.
const PAUSE: Duration = Duration::from_secs(1);
/// How often to look whether a peer that has left has left anything to be read.
const LOOK: Duration = Duration::from_millis(250);

/// How a netdev comes to its peer.
pub enum Way {
    /// It listens.
    Listen(Listener),
    /// It connects.
    Dial(Dialer),
}

/// What control is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkNews {
    /// A peer is there.
    Connected(Place),
    /// It has left.
    Disconnected,
    /// Nobody is there, and nothing will be done about it.
    Failed(String),
}

/// Takes news of a link; called on the net thread, and does not block.
pub type LinkTell = Box<dyn Fn(&Weak<Netdev>, LinkNews) + Send>;

/// Makes a netdev whose peer comes and goes. It lasts until the guard is dropped.
///
/// # Errors
/// When the host is out of descriptors.
pub fn open_link(
    handle: &NetHandle,
    way: Way,
    names: LinkNames,
    tell: LinkTell,
) -> io::Result<(Arc<Netdev>, NetGuard)> {
    let key = handle.new_key();
    let teller = handle.clone();
    let wire = Wire::new(Box::new(move |generation, why| {
        teller.tell(key, News::Lost { generation, why });
    }))?;
    let netdev = Netdev::new(NetdevOptions {
        id: names.id,
        kind: names.kind,
        description: names.description,
        traits: NetTraits::default(),
        ports: vec![Box::new(StreamPort::new(wire.clone()))],
        vhost: None,
        link_up: false,
    });
    let watcher = handle.clone();
    netdev.set_watcher(Box::new(move || watcher.tell(key, News::Use)));
    let link = Link {
        key,
        way,
        wire,
        netdev: Arc::downgrade(&netdev),
        state: State::Waiting,
        deadline: None,
        tell,
    };
    let guard = handle.serve(key, Served::Link(Box::new(link)));
    Ok((netdev, guard))
}

/// What a netdev is called.
pub struct LinkNames {
    /// Its id.
    pub id: String,
    /// Its type, as in `type=`.
    pub kind: &'static str,
    /// As in `info network` at first.
    pub description: String,
}

enum State {
    /// For a client, for the time to try again, or for nothing more.
    Waiting,
    /// An errand is under way.
    LookingUp,
    Connecting(OwnedFd),
    Connected {
        line: Arc<Line>,
        generation: u64,
        place: Place,
        /// The peer sends no more.
        ended: bool,
    },
}

pub(super) struct Link {
    key: u64,
    way: Way,
    wire: Arc<Wire>,
    netdev: Weak<Netdev>,
    state: State,
    /// When to look without being called.
    deadline: Option<Instant>,
    tell: LinkTell,
}

impl Link {
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The thread has it.
    pub fn begin(&mut self, cx: &Cx) {
        if let Way::Listen(listener) = &self.way {
            self.listen_on(listener.as_raw_fd(), cx);
        }
        self.seek(cx);
    }

    /// Before it is dropped.
    pub fn end(&mut self, cx: &Cx) {
        if let Way::Listen(listener) = &self.way {
            cx.epoll.remove(listener.as_raw_fd());
        }
        self.hang_up(cx);
    }

    pub fn ready(&mut self, part: Part, events: u32, cx: &Cx) {
        match part {
            Part::Listener => self.seek(cx),
            Part::Connecting => self.connecting(cx),
            Part::Frames => self.frames(events, cx),
        }
    }

    pub fn timeout(&mut self, cx: &Cx) {
        self.deadline = None;
        if matches!(self.state, State::Connected { .. }) {
            self.look_after(cx);
        } else {
            if let Way::Listen(listener) = &self.way {
                self.listen_on(listener.as_raw_fd(), cx);
            }
            self.seek(cx);
        }
    }

    pub fn news(&mut self, news: News, cx: &Cx) {
        match news {
            News::Lost { generation, why } => {
                let current = matches!(&self.state, State::Connected { generation: now, .. } if *now == generation);
                if current {
                    self.lost(why, cx);
                }
            }
            News::Use => self.watch_again(cx),
            News::Found(found) => self.found(found, cx),
            News::Frames => {}
        }
    }

    /// Takes the next step to a peer, if there is none.
    fn seek(&mut self, cx: &Cx) {
        if !matches!(self.state, State::Waiting) {
            return;
        }
        match &mut self.way {
            Way::Listen(listener) => match listener.accept() {
                Ok(fd) => self.connected(fd, cx),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    // Out of descriptors, or a client that left at once: others may wait.
                    log::warn!("A client could not be accepted: {error}");
                    cx.epoll.remove(listener.as_raw_fd());
                    self.deadline = Some(Instant::now() + PAUSE);
                }
            },
            Way::Dial(dialer) => match dialer.wants_addresses().cloned() {
                Some(address) => {
                    self.state = State::LookingUp;
                    cx.handle.look_up(self.key, address);
                }
                None => self.dial(cx),
            },
        }
    }

    fn found(&mut self, found: QmpResult<Vec<SocketAddr>>, cx: &Cx) {
        let Way::Dial(dialer) = &mut self.way else {
            return;
        };
        if !matches!(self.state, State::LookingUp) {
            return;
        }
        self.state = State::Waiting;
        match found {
            Ok(found) => {
                dialer.set_addresses(found);
                self.dial(cx);
            }
            Err(error) => self.failed(error),
        }
    }

    fn listen_on(&self, listener: i32, cx: &Cx) {
        let token = token(self.key, Part::Listener);
        // One look for each client: the next ones wait while somebody is served.
        let events = libc::EPOLLIN | libc::EPOLLET;
        if let Err(error) = cx.epoll.add(listener, events, token) {
            log::error!("A socket cannot be listened on: {error}");
        }
    }

    fn dial(&mut self, cx: &Cx) {
        let Way::Dial(dialer) = &mut self.way else {
            return;
        };
        let attempt = dialer.attempt();
        self.attempted(attempt, cx);
    }

    fn attempted(&mut self, attempt: io::Result<Attempt>, cx: &Cx) {
        match attempt {
            Ok(Attempt::Connected(fd)) => self.connected(fd, cx),
            Ok(Attempt::UnderWay(fd)) => {
                let token = token(self.key, Part::Connecting);
                match cx.epoll.add(fd.as_raw_fd(), libc::EPOLLOUT, token) {
                    Ok(()) => self.state = State::Connecting(fd),
                    Err(error) => self.not_connected(&error, cx),
                }
            }
            Err(error) => self.not_connected(&error, cx),
        }
    }

    /// A connection under way is made, or is not.
    fn connecting(&mut self, cx: &Cx) {
        if let State::Connecting(fd) = std::mem::replace(&mut self.state, State::Waiting) {
            cx.epoll.remove(fd.as_raw_fd());
            let attempt = sys::connect_result(&fd).map(|()| Attempt::Connected(fd));
            self.attempted(attempt, cx);
        }
    }

    fn not_connected(&mut self, error: &io::Error, cx: &Cx) {
        self.state = State::Waiting;
        let Way::Dial(dialer) = &self.way else {
            return;
        };
        if dialer.has_more() {
            return self.dial(cx);
        }
        let what = format!("Failed to connect to '{}'", dialer.target());
        self.failed(refused(&what, error));
    }

    /// Nobody was found.
    fn failed(&mut self, error: QmpError) {
        if !self.try_again_later() {
            log::warn!("{}", error.desc);
            (self.tell)(&self.netdev, LinkNews::Failed(error.desc));
        }
    }

    /// Whether there will be another attempt.
    fn try_again_later(&mut self) -> bool {
        let again = match &self.way {
            Way::Dial(dialer) => dialer.again(),
            Way::Listen(_) => None,
        };
        self.deadline = again.map(|wait| Instant::now() + wait);
        again.is_some()
    }

    fn connected(&mut self, fd: OwnedFd, cx: &Cx) {
        self.plug(Line::connected(fd), cx);
    }

    /// Frames can go.
    fn plug(&mut self, line: Arc<Line>, cx: &Cx) {
        let place = Place::of_peer(&line.fd);
        let watched = cx
            .epoll
            .add(line.raw(), self.interest(), token(self.key, Part::Frames));
        match watched.and_then(|()| self.wire.plug(line.clone())) {
            Ok(generation) => {
                self.deadline = None;
                self.state = State::Connected {
                    line,
                    generation,
                    place: place.clone(),
                    ended: false,
                };
                (self.tell)(&self.netdev, LinkNews::Connected(place));
            }
            Err(error) => {
                cx.epoll.remove(line.raw());
                self.wire.unplug();
                self.failed(refused("A connection cannot be watched", &error));
            }
        }
    }

    /// What is watched of the connection: while an interface uses it, only its end, and that once.
    fn interest(&self) -> i32 {
        let in_use = self.netdev.upgrade().is_none_or(|netdev| netdev.in_use());
        if in_use {
            libc::EPOLLRDHUP | libc::EPOLLONESHOT
        } else {
            libc::EPOLLIN | libc::EPOLLRDHUP
        }
    }

    /// An interface came or went.
    fn watch_again(&mut self, cx: &Cx) {
        if let State::Connected { line, .. } = &self.state {
            let token = token(self.key, Part::Frames);
            // It is watched while it is connected.
            let _ = cx.epoll.change(line.raw(), self.interest(), token);
        }
    }

    fn frames(&mut self, events: u32, cx: &Cx) {
        let State::Connected { ended, .. } = &mut self.state else {
            return;
        };
        let end = libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;
        if events & end.cast_unsigned() != 0 {
            *ended = true;
        }
        self.look_after(cx);
    }

    /// Does what the port's worker would do, if there is none.
    fn look_after(&mut self, cx: &Cx) {
        let State::Connected { line, ended, .. } = &self.state else {
            return;
        };
        let (raw, ended) = (line.raw(), *ended);
        let Some(netdev) = self.netdev.upgrade() else {
            return;
        };
        if !netdev.in_use() {
            netdev.with_idle_port(0, |port| {
                // Into nothing. What is wrong comes as news.
                let _ = port.receive(&Buffers::new());
            });
            return;
        }
        if ended {
            if sys::peek(raw) == Some(true) {
                // Somebody is to read that first, and then finds the end by itself.
                self.deadline = Some(Instant::now() + LOOK);
            } else {
                self.lost(Loss::End, cx);
            }
        }
    }

    /// The peer is gone.
    fn lost(&mut self, why: Loss, cx: &Cx) {
        if let State::Connected { place, .. } = &self.state {
            let place = place.describe();
            match why {
                Loss::End => log::info!("The peer of a network has left ({place})"),
                Loss::Error(error) => {
                    log::info!(
                        "A network's connection broke ({place}): {}",
                        system_words(&error)
                    );
                }
                Loss::TooLong(len) => log::warn!(
                    "A network's peer announces a frame of {len} bytes; the connection ends ({place})"
                ),
            }
        }
        self.hang_up(cx);
        (self.tell)(&self.netdev, LinkNews::Disconnected);
        if matches!(self.way, Way::Listen(_)) {
            self.seek(cx);
        } else {
            self.try_again_later();
        }
    }

    fn hang_up(&mut self, cx: &Cx) {
        match std::mem::replace(&mut self.state, State::Waiting) {
            State::Connected { line, .. } => {
                cx.epoll.remove(line.raw());
                self.wire.unplug();
                // The port may hold it a little longer; the peer is to know now.
                let _ = sys::shut_down(&line.fd);
            }
            State::Connecting(fd) => cx.epoll.remove(fd.as_raw_fd()),
            State::Waiting | State::LookingUp => {}
        }
        self.deadline = None;
    }
}
