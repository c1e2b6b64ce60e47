//! Character devices: the seam between a device (front end) and a socket, file or terminal
//! (back end). Both sides only touch two bounded byte rings; neither ever blocks.
//!
//! ```text
//! control:  Chardev::new(source) -- start(handle) --> the thread runs the host side
//!                    |                                    ^         |
//!                    v take_frontend                rings and wakers
//!               CharFrontend --> device  <-------------------+
//! ```

mod host_port;
mod ring;
mod server;
mod shared;
mod stream;
mod sys;
mod terminal;

#[cfg(test)]
#[path = "chardev/change_test.rs"]
mod change_tests;
#[cfg(test)]
#[path = "chardev/socket_test.rs"]
mod socket_tests;
#[cfg(test)]
#[path = "chardev/stdio_test.rs"]
mod stdio_tests;
#[cfg(test)]
#[path = "chardev/chardev_test.rs"]
mod tests;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use api_spec::{QmpError, QmpResult};

pub use crate::backend::socket::{
    Access, Attempt, Dialer, InetAddress, ListenSocket, Listener, Peer, SocketPath, UnixAddress,
    system_words,
};
pub use server::{ChardevHandle, ChardevServer};
use shared::{Core, Door, Start};
pub use terminal::{Pty, Stdio};

/// Wakes a front end: input may be there, output space may be there, or the peer came or went.
/// Called on the back end's thread with no lock held.
pub trait CharWaker: Send + Sync {
    /// Look again.
    fn wake(&self);
}

/// The device's half of a character device. Exclusive: one front end per chardev.
pub trait CharPort: Send + Sync {
    /// Queues bytes for the host side and returns how many were taken; the rest is for after a
    /// wake. A disconnected peer swallows everything.
    fn write(&self, data: &[u8]) -> usize;
    /// Takes bytes that came from the host side.
    fn read(&self, buffer: &mut [u8]) -> usize;
    /// Whether input is waiting.
    fn readable(&self) -> bool;
    /// Whether a peer is there (sockets come and go; files and null are always open).
    fn is_open(&self) -> bool;
    /// How many peers have come so far, modulo 2^32: tells one from the next when nobody looked
    /// in between.
    fn peers(&self) -> u32 {
        0
    }
    /// Whether the host side held the line (a break), since this was asked last.
    fn take_break(&self) -> bool {
        false
    }
    /// Says whom to wake; replaces an earlier waker.
    fn set_waker(&self, waker: Option<Arc<dyn CharWaker>>);
    /// Tells the host side that a program in the guest opened or closed its end.
    fn set_frontend_open(&self, open: bool);
}

/// What a device holds. Dropping it frees the chardev for another device.
pub type CharFrontend = Box<dyn CharPort>;

/// Where the bytes of a character device go to and come from, opened by the caller.
pub enum Source {
    /// Nowhere.
    Null,
    /// A ring buffer in memory that keeps what was written last.
    Ringbuf {
        /// Bytes, a power of two.
        size: usize,
    },
    /// A file, and another one to read from.
    File {
        /// Written.
        output: File,
        /// Read.
        input: Option<File>,
    },
    /// Standard input and output.
    Stdio(Stdio),
    /// A pseudo-terminal.
    Pty(Pty),
    /// A socket that listens.
    Server(Listener),
    /// A socket that connects.
    Client(Dialer),
}

impl Source {
    /// What users are told of it.
    fn describe(&self) -> String {
        match self {
            Source::Null => "null".into(),
            Source::Ringbuf { .. } => "ringbuf".into(),
            Source::File { .. } => "file".into(),
            Source::Stdio(_) => "stdio".into(),
            Source::Pty(pty) => format!("pty:{}", pty.path()),
            Source::Server(listener) => listener.describe(),
            Source::Client(dialer) => dialer.describe(),
        }
    }

    /// Whether a peer is there from the start, and whether output waits for one.
    fn beginning(&self, logged: bool) -> (bool, Start) {
        let open = !self.is_socket() && !matches!(self, Source::Pty(_));
        let swallow = !logged && (self.is_socket() || self.is_idle());
        (open, if swallow { Start::Swallow } else { Start::Keep })
    }

    /// Bytes of a ring buffer.
    fn memory(&self) -> Option<usize> {
        match self {
            Source::Ringbuf { size } => Some(*size),
            _ => None,
        }
    }

    fn is_socket(&self) -> bool {
        matches!(self, Source::Server(_) | Source::Client(_))
    }

    fn is_secured(&self) -> bool {
        match self {
            Source::Server(listener) => listener.gate().is_some(),
            Source::Client(dialer) => dialer.gate().is_some(),
            _ => false,
        }
    }

    /// Where the first peer comes in.
    fn door(&self) -> Option<Door> {
        match self {
            Source::Server(listener) if listener.gate().is_none() => Some(Door {
                fd: listener.as_raw_fd(),
                events: libc::POLLIN,
            }),
            _ => None,
        }
    }

    /// Whether there is nothing for the thread to do, unless there is a log.
    fn is_idle(&self) -> bool {
        matches!(self, Source::Null | Source::Ringbuf { .. })
    }
}

/// Makes the size of a ring buffer.
///
/// # Errors
/// For what is not a power of two, or more than there is memory for.
pub fn ringbuf_size(size: Option<i64>) -> QmpResult<usize> {
    let size = size.unwrap_or(65536);
    let size = usize::try_from(size)
        .ok()
        .filter(|size| size.is_power_of_two())
        .ok_or_else(|| QmpError::generic("size of ringbuf chardev must be power of two"))?;
    // A try: what a client asks for by the gigabyte must not end the program when the ring itself is made. Memory
    // that is not touched costs nothing.
    Vec::<u8>::new().try_reserve_exact(size).map_err(|_| {
        QmpError::generic(format!("Cannot allocate memory for a ring of {size} bytes"))
    })?;
    Ok(size)
}

/// A character device in the hands of its owner. Dropping it closes the host side and removes a
/// socket's path.
pub struct Chardev {
    core: Arc<Core>,
    name: String,
    socket: bool,
    secured: bool,
    waiting: Option<(Source, Option<File>)>,
    running: Option<(ChardevHandle, usize)>,
}

impl Chardev {
    /// A device whose host side does nothing yet. Output is also written to `log`.
    pub fn new(source: Source, log: Option<File>) -> Self {
        let (open, start) = source.beginning(log.is_some());
        let idle = source.is_idle() && log.is_none();
        Chardev {
            core: Core::new(open, start, source.memory()),
            name: source.describe(),
            socket: source.is_socket(),
            secured: source.is_secured(),
            waiting: (!idle).then_some((source, log)),
            running: None,
        }
    }

    /// Puts another host side in the place of this one, which is closed first. Whoever has the
    /// front end keeps it. [`Self::start`] is to be called again.
    pub fn change(&mut self, source: Source, log: Option<File>) {
        self.waiting = None;
        if let Some((handle, key)) = self.running.take() {
            handle.remove(key);
        }
        let (open, start) = source.beginning(log.is_some());
        self.core.renew(open, start, source.memory());
        self.name = source.describe();
        self.socket = source.is_socket();
        self.secured = source.is_secured();
        let idle = source.is_idle() && log.is_none();
        self.waiting = (!idle).then_some((source, log));
    }

    /// Holds the line for a moment: a front end that is a serial port hears a break.
    pub fn send_break(&self) {
        self.core.send_break();
    }

    /// Whether [`Self::start`] has still something to do.
    pub fn needs_start(&self) -> bool {
        self.waiting.is_some()
    }

    /// Hands the host side to the thread.
    pub fn start(&mut self, handle: &ChardevHandle) {
        if let Some((source, log)) = self.waiting.take() {
            let key = handle.add(self.core.clone(), source, log);
            self.running = Some((handle.clone(), key));
        }
    }

    /// Takes the host side back, to be used by somebody else, if it was not started.
    pub fn take_source(&mut self) -> Option<Source> {
        self.waiting.take().map(|(source, _)| source)
    }

    /// Takes a socket away, to be used by somebody else, with the connection that it has now. It
    /// must be one, and no device must have it.
    pub fn take_socket(&mut self) -> Option<(Source, Option<OwnedFd>)> {
        match (self.waiting.take(), self.running.take()) {
            (Some((source, _)), _) => Some((source, None)),
            (None, Some((handle, key))) => handle.take_back(key),
            (None, None) => None,
        }
    }

    /// Whether it is a socket.
    pub fn is_socket(&self) -> bool {
        self.socket
    }

    /// Whether peers have to speak TLS.
    pub fn is_secured(&self) -> bool {
        self.secured
    }

    /// Takes the log along, before [`Self::take_source`].
    pub fn take_log(&mut self) -> Option<File> {
        self.waiting.as_mut().and_then(|(_, log)| log.take())
    }

    /// The device's half; `None` while another device has it.
    pub fn take_frontend(&self) -> Option<CharFrontend> {
        self.core.take_frontend()
    }

    /// Whether a device has the front end.
    pub fn is_taken(&self) -> bool {
        self.core.is_taken()
    }

    /// Whether somebody in the guest has it open.
    pub fn frontend_open(&self) -> bool {
        self.core.frontend_open()
    }

    /// Something that breaks a socket's connection, from any thread; `None` for other devices.
    pub fn yanker(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        let core = self.socket.then(|| self.core.clone())?;
        Some(Box::new(move || core.yank()))
    }

    /// Whether a peer is there.
    pub fn is_open(&self) -> bool {
        self.core.is_open()
    }

    /// What it is and who is connected, as in query-chardev.
    pub fn filename(&self) -> String {
        match self.core.peer() {
            Some(peer) => peer,
            None if self.socket => self.filename_of(false),
            None => self.name.clone(),
        }
    }

    /// What it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same for a socket whose connections somebody else makes.
    pub fn filename_of(&self, connected: bool) -> String {
        if self.socket && !connected {
            format!("disconnected:{}", self.name)
        } else {
            self.name.clone()
        }
    }

    /// Waits until a peer has been there, and no longer than `time`; says whether one has. For the
    /// program's start only.
    pub fn wait_open(&self, time: Duration) -> bool {
        self.core.wait_open(time)
    }

    /// Takes up to `count` of the oldest bytes out of a ring buffer; `None` for other devices.
    pub fn read_memory(&self, count: usize) -> Option<Vec<u8>> {
        self.core.with_memory(|memory| {
            let mut data = vec![0; count.min(memory.len())];
            memory.pop(&mut data);
            data
        })
    }

    /// Puts bytes into a ring buffer; `None` for other devices.
    pub fn write_memory(&self, data: &[u8]) -> Option<()> {
        self.core.with_memory(|memory| memory.push_over(data))
    }
}

impl Drop for Chardev {
    fn drop(&mut self) {
        if let Some((handle, key)) = self.running.take() {
            handle.remove(key);
        }
    }
}
