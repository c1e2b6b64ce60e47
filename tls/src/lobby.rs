//! Where peers wait until their handshake is done. They are strangers until then: each has a
//! time limit, and there is room for a few, so that a flood of them keeps nobody out for long.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::{Progress, Session};

/// How much strangers may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a handshake may take.
    pub time: Duration,
    /// Handshakes at once.
    pub all: usize,
    /// Of those, from one address.
    pub from_one: usize,
    /// Refusals that are logged within the time of one handshake; the rest are counted.
    pub lines: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            time: Duration::from_secs(10),
            all: 32,
            from_one: 16,
            lines: 20,
        }
    }
}

/// A peer whose handshake is done.
#[derive(Debug)]
pub struct Guest {
    /// The connection, as it was brought in.
    pub fd: OwnedFd,
    /// Its TLS.
    pub session: Box<Session>,
}

struct Stranger {
    wire: TcpStream,
    session: Session,
    /// In words, for the log.
    who: String,
    address: Option<IpAddr>,
    deadline: Instant,
}

/// The room. Its descriptor is ready to read when [`Lobby::turn`] is to be called.
pub struct Lobby {
    name: String,
    poll: Poll,
    events: Events,
    strangers: BTreeMap<usize, Stranger>,
    guests: VecDeque<Guest>,
    next: usize,
    limits: Limits,
    lines: Lines,
}

/// Keeps the log from being flooded.
#[derive(Default)]
struct Lines {
    since: Option<Instant>,
    written: u32,
    held_back: u32,
}

impl Lobby {
    /// An empty one; `name` says in the log whose it is.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new(name: impl Into<String>, limits: Limits) -> io::Result<Self> {
        Ok(Lobby {
            name: name.into(),
            poll: Poll::new()?,
            events: Events::with_capacity(64),
            strangers: BTreeMap::new(),
            guests: VecDeque::new(),
            next: 0,
            limits,
            lines: Lines::default(),
        })
    }

    /// Takes in a connected socket that does not block. [`Self::turn`] is to be called then.
    pub fn admit(&mut self, fd: OwnedFd, session: Session, who: String) {
        // Sends and receives, which is the same for sockets of other kinds.
        let wire = TcpStream::from(fd);
        let address = wire.peer_addr().ok().map(|peer| peer.ip());
        self.make_room(address);
        let key = self.next;
        self.next = self.next.wrapping_add(1);
        let both = Interest::READABLE | Interest::WRITABLE;
        let raw = wire.as_raw_fd();
        let watched = self
            .poll
            .registry()
            .register(&mut SourceFd(&raw), Token(key), both);
        if let Err(error) = watched {
            return self.tell(&format!("{who} is refused: {error}"));
        }
        let deadline = Instant::now() + self.limits.time;
        let stranger = Stranger {
            wire,
            session,
            who,
            address,
            deadline,
        };
        self.strangers.insert(key, stranger);
    }

    /// The oldest goes: of the same address first, so that one host alone shuts nobody else out.
    fn make_room(&mut self, address: Option<IpAddr>) {
        let mut same = self.strangers.iter().filter(|(_, s)| s.address == address);
        let first = same.next().map(|(key, _)| *key);
        let victim = if same.count().saturating_add(1) >= self.limits.from_one {
            first
        } else if self.strangers.len() >= self.limits.all {
            self.strangers.keys().next().copied()
        } else {
            None
        };
        if let Some(key) = victim {
            self.refuse(key, "too many TLS handshakes at once");
        }
    }

    /// The next peer whose handshake is done.
    pub fn next_guest(&mut self) -> Option<Guest> {
        self.guests.pop_front()
    }

    /// Goes on with all handshakes. Those that failed or took too long are gone, and the log says
    /// so.
    pub fn turn(&mut self) {
        let mut ready = Vec::new();
        loop {
            match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
                Ok(()) if self.events.is_empty() => break,
                Ok(()) => ready.extend(self.events.iter().map(|event| event.token().0)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        ready.sort_unstable();
        ready.dedup();
        for key in ready {
            self.go_on(key);
        }
        let now = Instant::now();
        let late = self.strangers.iter().filter(|(_, s)| s.deadline <= now);
        for key in late.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.refuse(key, "the TLS handshake took too long");
        }
    }

    fn go_on(&mut self, key: usize) {
        let Some(stranger) = self.strangers.get_mut(&key) else {
            return;
        };
        match stranger.session.shake_hands(&mut stranger.wire) {
            Ok(Progress::Waits) => {}
            Ok(Progress::Done) => {
                let guest = self.take(key).map(|stranger| Guest {
                    fd: stranger.wire.into(),
                    session: Box::new(stranger.session),
                });
                self.guests.extend(guest);
            }
            Err(refusal) => self.refuse(key, &refusal.0),
        }
    }

    fn take(&mut self, key: usize) -> Option<Stranger> {
        let stranger = self.strangers.remove(&key)?;
        let raw = stranger.wire.as_raw_fd();
        let _ = self.poll.registry().deregister(&mut SourceFd(&raw));
        Some(stranger)
    }

    fn refuse(&mut self, key: usize, why: &str) {
        if let Some(mut stranger) = self.take(key) {
            stranger.session.close(&mut stranger.wire);
            self.tell(&format!("{} is refused: {why}", stranger.who));
        }
    }

    fn tell(&mut self, text: &str) {
        let now = Instant::now();
        let lines = &mut self.lines;
        if lines
            .since
            .is_none_or(|since| now - since > self.limits.time)
        {
            if lines.held_back > 0 {
                log::warn!("{}: {} more were refused", self.name, lines.held_back);
            }
            *lines = Lines {
                since: Some(now),
                ..Lines::default()
            };
        }
        if lines.written < self.limits.lines {
            lines.written = lines.written.saturating_add(1);
            log::warn!("{}: {text}", self.name);
        } else {
            lines.held_back = lines.held_back.saturating_add(1);
        }
    }

    /// When [`Self::turn`] is to be called though nothing is ready.
    pub fn deadline(&self) -> Option<Instant> {
        self.strangers
            .values()
            .map(|stranger| stranger.deadline)
            .min()
    }

    /// Whether nobody is there.
    pub fn is_empty(&self) -> bool {
        self.strangers.is_empty() && self.guests.is_empty()
    }

    /// Sends everybody away.
    pub fn clear(&mut self) {
        for key in self.strangers.keys().copied().collect::<Vec<_>>() {
            drop(self.take(key));
        }
        self.guests.clear();
    }
}

impl AsRawFd for Lobby {
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}

#[cfg(test)]
#[path = "lobby_test.rs"]
mod tests;
