//! Where a port finds its socket, which comes and goes while the port stays.
//!
//! ```text
//!  net thread: plug(line) ----> slot, generation + 1, into the epoll set
//!  worker:     look: another generation? take the line from the slot
//!              broken: out of the set, "lost" to the net thread
//! ```
//!
//! The epoll set is the port's descriptor. The socket's own is also held by the net thread, which
//! notices when a peer leaves while nobody reads.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::backend::socket::{Epoll, SocketPath, sys::RawAddress};
use crate::bus::lock;

/// A socket that frames go through.
pub(super) struct Line {
    /// The socket. Does not block.
    pub fd: OwnedFd,
    /// Whom datagrams go to, when it is not connected.
    pub to: Option<RawAddress>,
    /// Its own place in the file system.
    pub _path: Option<SocketPath>,
}

impl Line {
    /// A connected socket.
    pub fn connected(fd: OwnedFd) -> Arc<Self> {
        Arc::new(Line {
            fd,
            to: None,
            _path: None,
        })
    }

    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Why a connection is no more.
#[derive(Debug)]
pub(super) enum Loss {
    /// The peer closed it.
    End,
    /// The kernel says so.
    Error(io::Error),
    /// A length that no frame has.
    TooLong(u32),
}

/// Takes the generation that was lost, and why.
pub(super) type OnLoss = Box<dyn Fn(u64, Loss) + Send + Sync>;

/// Between a port and who finds sockets for it.
pub(super) struct Wire {
    /// Has the socket and the bell.
    set: Epoll,
    /// Wakes a worker that waits for room in a socket that is no more.
    bell: EventFd,
    /// Goes up with each change of the slot, after it.
    generation: AtomicU64,
    /// Leaf.
    slot: Mutex<Option<Arc<Line>>>,
    on_loss: OnLoss,
}

impl Wire {
    /// Without a socket.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new(on_loss: OnLoss) -> io::Result<Arc<Self>> {
        let set = Epoll::new()?;
        let bell = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        set.add(bell.as_raw_fd(), libc::EPOLLIN, 0)?;
        Ok(Arc::new(Wire {
            set,
            bell,
            generation: AtomicU64::new(0),
            slot: Mutex::new(None),
            on_loss,
        }))
    }

    /// Gives the port a socket; says which generation it is.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub fn plug(&self, line: Arc<Line>) -> io::Result<u64> {
        let raw = line.raw();
        *lock(&self.slot) = Some(line);
        let before = self.generation.fetch_add(1, Ordering::AcqRel);
        // Last: the worker that this wakes finds the socket.
        self.set.add(raw, libc::EPOLLIN, 0)?;
        self.ring();
        Ok(before.wrapping_add(1))
    }

    /// Takes the socket away.
    pub fn unplug(&self) {
        let line = lock(&self.slot).take();
        self.generation.fetch_add(1, Ordering::AcqRel);
        if let Some(line) = line {
            self.set.remove(line.raw());
        }
        self.ring();
    }

    fn ring(&self) {
        // Fails only when the counter is about to overflow, and then it is readable anyway.
        let _ = self.bell.write(1);
    }

    /// Counts sockets, and their absences.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

/// The port's end of the wire.
pub(super) struct Plug {
    wire: Arc<Wire>,
    seen: u64,
    line: Option<Arc<Line>>,
    /// The set also tells when the socket takes more.
    watches_output: bool,
    /// The bell rings because the port holds frames.
    holds: bool,
}

impl Plug {
    pub fn new(wire: Arc<Wire>) -> Self {
        Plug {
            wire,
            seen: 0,
            line: None,
            watches_output: false,
            holds: false,
        }
    }

    /// The descriptor to watch.
    pub fn fd(&self) -> RawFd {
        self.wire.set.as_raw_fd()
    }

    /// Whether there is another socket than at the last look, or none any more.
    pub fn look(&mut self) -> bool {
        if self.wire.generation() == self.seen {
            return false;
        }
        // Before the look: what is changed after it rings again.
        let _ = self.wire.bell.read();
        let slot = lock(&self.wire.slot);
        self.seen = self.wire.generation();
        self.line = slot.clone();
        self.watches_output = false;
        self.holds = false;
        true
    }

    /// Whether the port holds frames that the socket does not tell of any more.
    pub fn holds(&mut self, holds: bool) {
        if std::mem::replace(&mut self.holds, holds) == holds {
            return;
        }
        if holds {
            return self.wire.ring();
        }
        let _ = self.wire.bell.read();
        // Somebody may have rung for a change of sockets before that.
        if self.wire.generation() != self.seen {
            self.wire.ring();
        }
    }

    /// The socket.
    pub fn line(&self) -> Option<&Arc<Line>> {
        self.line.as_ref()
    }

    /// Whether the set is to tell when the socket takes more.
    pub fn watch_output(&mut self, watch: bool) {
        if let Some(line) = &self.line
            && std::mem::replace(&mut self.watches_output, watch) != watch
        {
            let output = if watch { libc::EPOLLOUT } else { 0 };
            // Fails only when the socket was taken away meanwhile.
            let _ = self.wire.set.change(line.raw(), libc::EPOLLIN | output, 0);
        }
    }

    /// The connection is of no use any more.
    pub fn lost(&mut self, why: Loss) {
        if let Some(line) = self.line.take() {
            self.wire.set.remove(line.raw());
            (self.wire.on_loss)(self.seen, why);
        }
    }
}
