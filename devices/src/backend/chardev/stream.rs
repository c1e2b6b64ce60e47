//! Descriptors that bytes come from and go to, watched edge-triggered.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::sys::{self, Wire};
use tls::Session;

/// Where input comes from.
pub(super) enum Input {
    /// Nowhere.
    None,
    /// From the descriptor that output goes to.
    Same,
    /// From one of its own.
    Own(OwnedFd),
}

/// What came of a read or write.
pub(super) enum Moved {
    /// So many bytes.
    Bytes(usize),
    /// None now; the poll tells when.
    Later,
    /// The end, or an error.
    End(Option<io::Error>),
}

/// One stream of bytes in both directions.
pub(super) struct Stream {
    output: OwnedFd,
    input: Input,
    readable: bool,
    writable: bool,
    /// Files cannot be watched; they are always ready.
    output_watched: bool,
    input_watched: bool,
    hung_up: bool,
    /// The peer takes nothing any more; it may have sent something before that.
    deaf: bool,
    /// What the bytes are wrapped in.
    tls: Option<Box<Session>>,
}

impl Stream {
    /// Watches the descriptors under two tokens.
    pub fn new(output: OwnedFd, input: Input, registry: &Registry, tokens: [Token; 2]) -> Self {
        let both = Interest::READABLE | Interest::WRITABLE;
        let watch = |fd: RawFd, token, interest| {
            registry
                .register(&mut SourceFd(&fd), token, interest)
                .is_ok()
        };
        let [input_token, output_token] = tokens;
        let interest = match input {
            Input::Same => both,
            Input::None | Input::Own(_) => Interest::WRITABLE,
        };
        let output_watched = watch(output.as_raw_fd(), output_token, interest);
        let input_watched = match &input {
            Input::None => false,
            Input::Same => output_watched,
            Input::Own(fd) => watch(fd.as_raw_fd(), input_token, Interest::READABLE),
        };
        Stream {
            output,
            input,
            readable: true,
            writable: true,
            output_watched,
            input_watched,
            hung_up: false,
            deaf: false,
            tls: None,
        }
    }

    /// Speaks TLS from now on.
    pub fn secured(mut self, session: Option<Box<Session>>) -> Self {
        self.tls = session;
        self
    }

    /// Sends what TLS could not before.
    pub fn push_on(&mut self) {
        let fd = self.output.as_raw_fd();
        if let Some(session) = &mut self.tls
            && session.wants_output()
            && session.send(&mut Wire(fd)).is_err()
        {
            // The end is found by reading.
            self.deaf = true;
        }
    }

    /// Says goodbye, where there is a word for it.
    pub fn close(&mut self) {
        let fd = self.output.as_raw_fd();
        if let Some(session) = &mut self.tls {
            session.close(&mut Wire(fd));
        }
    }

    /// Takes note of what the poll says.
    pub fn ready(&mut self, event: &Event, is_output: bool) {
        if event.is_writable() && is_output {
            self.writable = true;
        }
        if event.is_readable() || event.is_read_closed() {
            self.readable = true;
        }
        if event.is_write_closed() || event.is_error() {
            self.hung_up = true;
            self.writable = true;
        }
    }

    /// Takes everything as ready again, after a peer came back.
    pub fn revive(&mut self) {
        self.readable = true;
        self.writable = true;
        self.hung_up = false;
        self.deaf = false;
    }

    /// Drops what is written from now on; the end is found by reading.
    pub fn set_deaf(&mut self) {
        self.deaf = true;
    }

    /// Whether the poll has told of the peer's end.
    pub fn hung_up(&self) -> bool {
        self.hung_up
    }

    /// The descriptor that output goes to.
    pub fn output(&self) -> RawFd {
        self.output.as_raw_fd()
    }

    /// Whether reading may give something.
    pub fn may_read(&self) -> bool {
        self.readable && !matches!(self.input, Input::None)
    }

    /// Whether writing may be possible.
    pub fn may_write(&self) -> bool {
        self.writable
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> Moved {
        let fd = match &self.input {
            Input::None => return Moved::Later,
            Input::Same => self.output.as_raw_fd(),
            Input::Own(fd) => fd.as_raw_fd(),
        };
        let result = match &mut self.tls {
            Some(session) => session.read(&mut Wire(fd), buffer),
            None => retry(|| sys::read(fd, buffer)),
        };
        match result {
            Ok(0) => Moved::End(None),
            Ok(count) => Moved::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Moved::Later
            }
            Err(error) => Moved::End(Some(error)),
        }
    }

    pub fn write(&mut self, data: &[u8]) -> Moved {
        if self.deaf {
            return Moved::Bytes(data.len());
        }
        let fd = self.output.as_raw_fd();
        let result = match &mut self.tls {
            Some(session) => session.write(&mut Wire(fd), data),
            None => retry(|| sys::write(fd, data)),
        };
        match result {
            Ok(count) => Moved::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.output_watched => {
                self.writable = false;
                Moved::Later
            }
            Err(error) => Moved::End(Some(error)),
        }
    }

    /// Input has come to its end; output goes on.
    pub fn end_input(&mut self, registry: &Registry) {
        if let Input::Own(fd) = &self.input
            && std::mem::take(&mut self.input_watched)
        {
            let _ = registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
        }
        self.input = Input::None;
    }

    /// Before it is closed: others may hold the same open file, and the poll would go on.
    pub fn into_output(self) -> OwnedFd {
        self.output
    }

    pub fn unwatch(&mut self, registry: &Registry) {
        self.end_input(registry);
        if std::mem::take(&mut self.output_watched) {
            let _ = registry.deregister(&mut SourceFd(&self.output.as_raw_fd()));
        }
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
