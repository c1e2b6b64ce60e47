//! One client's connection: bytes in, texts out, never blocking.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::framing::{Frame, Splitter};
use crate::session;
use crate::sys;
use descriptors::{Wait, Wire};
use tls::Session;

/// Output that may wait for a client that does not read; then its commands wait too.
const BACKLOG_LIMIT: usize = 256 << 10;
/// Output beyond which events to such a client are lost.
const EVENT_LIMIT: usize = 4 << 20;

/// The descriptors of a client; two for standard input and output.
#[derive(Debug)]
pub struct Stream {
    pub input: OwnedFd,
    pub output: Option<OwnedFd>,
    pub socket: bool,
    /// What the bytes are wrapped in.
    pub tls: Option<Box<Session>>,
}

impl Stream {
    /// A connected socket.
    pub fn socket(fd: OwnedFd) -> Self {
        Stream {
            input: fd,
            output: None,
            socket: true,
            tls: None,
        }
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let fd = self.output_fd();
        match &mut self.tls {
            Some(session) => session.write(&mut Wire(fd), data),
            None => sys::write(fd, data, self.socket),
        }
    }

    fn read(&mut self, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let fd = self.input.as_raw_fd();
        match &mut self.tls {
            Some(session) => session.read(&mut Wire(fd), buffer),
            None if self.socket => {
                let came = descriptors::receive(&self.input, buffer, sys::MAX_FDS, Wait::Yes)?;
                fds.extend(came.fds);
                Ok(came.len)
            }
            None => descriptors::read(fd, buffer),
        }
    }

    /// Sends what TLS could not before.
    fn push_on(&mut self) -> io::Result<()> {
        let fd = self.output_fd();
        match &mut self.tls {
            Some(session) => session.send(&mut Wire(fd)),
            None => Ok(()),
        }
    }

    fn output_fd(&self) -> RawFd {
        self.output.as_ref().unwrap_or(&self.input).as_raw_fd()
    }
}

/// A value and the descriptors that came with it.
pub type Incoming = (Frame, Vec<OwnedFd>);

/// Whether the client is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Open,
    Closed,
}

#[derive(Debug)]
pub struct Connection {
    pub stream: Stream,
    pub session: session::Session,
    splitter: Splitter,
    out: Vec<u8>,
    sent: usize,
    /// Descriptors that came with a command that is not complete yet.
    fds: Vec<OwnedFd>,
    pretty: bool,
    /// What was sent is written here too.
    log: Option<Arc<File>>,
    ended: bool,
}

impl Connection {
    pub fn new(stream: Stream, pretty: bool, log: Option<Arc<File>>) -> Self {
        Connection {
            stream,
            session: session::Session::default(),
            splitter: Splitter::default(),
            out: Vec::new(),
            sent: 0,
            fds: Vec::new(),
            pretty,
            log,
            ended: false,
        }
    }

    /// Queues a line and sends what can be sent.
    pub fn send(&mut self, text: &str) -> Life {
        if self.pretty {
            self.out.extend(indent(text).bytes());
        } else {
            self.out.extend(text.bytes());
        }
        self.out.extend(b"\r\n");
        self.flush()
    }

    /// Sends an event, unless the client is hopelessly behind.
    pub fn send_event(&mut self, text: &str) -> Life {
        if self.backlog() > EVENT_LIMIT {
            log::warn!("A monitor's client does not read: an event is lost");
            return Life::Open;
        }
        self.send(text)
    }

    fn backlog(&self) -> usize {
        self.out.len().saturating_sub(self.sent)
    }

    /// Whether output waits for the socket.
    pub fn wants_output(&self) -> bool {
        let tls = self.stream.tls.as_ref();
        self.backlog() > 0 || tls.is_some_and(|session| session.wants_output())
    }

    /// Whether input was taken from the socket already, so that no poll tells of it.
    pub fn has_input(&mut self) -> bool {
        let tls = self.stream.tls.as_mut();
        tls.is_some_and(|session| session.has_input())
    }

    /// Says goodbye, where there is a word for it.
    pub fn close(&mut self) {
        let fd = self.stream.output_fd();
        if let Some(session) = &mut self.stream.tls {
            session.close(&mut Wire(fd));
        }
    }

    /// Whether input may be read.
    pub fn wants_input(&self) -> bool {
        !self.ended && self.session.wants_input() && self.backlog() < BACKLOG_LIMIT
    }

    /// Sends what waits.
    pub fn flush(&mut self) -> Life {
        while let Some(rest) = self.out.get(self.sent..).filter(|r| !r.is_empty()) {
            match self.stream.write(rest) {
                Ok(n) => {
                    let sent = rest.get(..n).unwrap_or(rest);
                    if let Some(Err(error)) = self.log.as_deref().map(|mut log| log.write_all(sent))
                    {
                        log::warn!("What a monitor sends cannot be logged: {error}");
                        self.log = None;
                    }
                    self.sent = self.sent.saturating_add(n);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Life::Open,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.out.clear();
                    self.sent = 0;
                    return Life::Closed;
                }
            }
        }
        self.out.clear();
        self.sent = 0;
        if self.stream.push_on().is_err() {
            return Life::Closed;
        }
        if self.out.capacity() > 1 << 18 {
            self.out = Vec::new();
        }
        Life::Open
    }

    /// Reads once. Gives the frames that became complete, each with the descriptors that came
    /// with it; `None` when nothing was there.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        frames: &mut Vec<Incoming>,
    ) -> io::Result<Option<Life>> {
        let mut fds = Vec::new();
        match self.stream.read(buffer, &mut fds) {
            Ok(0) => {
                self.ended = true;
                Ok(Some(Life::Closed))
            }
            Ok(n) => {
                self.take_in(buffer.get(..n).unwrap_or_default(), fds, frames);
                Ok(Some(Life::Open))
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(Some(Life::Open)),
            Err(e) => Err(e),
        }
    }
}

impl Connection {
    /// The kernel ends a read after a message with descriptors: they belong to the last command
    /// in it, or to the one that has only begun.
    fn take_in(&mut self, bytes: &[u8], mut fds: Vec<OwnedFd>, out: &mut Vec<Incoming>) {
        let mut frames = Vec::new();
        self.splitter.feed(bytes, &mut frames);
        let partial = self.splitter.is_partial();
        let count = frames.len();
        for (i, frame) in frames.into_iter().enumerate() {
            let mut own = if i == 0 {
                std::mem::take(&mut self.fds)
            } else {
                Vec::new()
            };
            if i + 1 == count && !partial {
                own.append(&mut fds);
            }
            out.push((frame, own));
        }
        // Those that a command has too many of are closed.
        self.fds.append(&mut fds);
        self.fds.truncate(sys::MAX_FDS);
    }
}

/// The same text over several lines, for people.
fn indent(text: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(text) {
        // Within a message lines end as between messages.
        Ok(value) => serde_json::to_string_pretty(&value)
            .map(|text| text.replace('\n', "\r\n"))
            .unwrap_or_else(|_| text.to_string())
            .chars()
            .map(|c| {
                if c.is_ascii() {
                    c.to_string()
                } else {
                    escape(c)
                }
            })
            .collect(),
        Err(_) => text.to_string(),
    }
}

fn escape(c: char) -> String {
    let mut units = [0u16; 2];
    c.encode_utf16(&mut units)
        .iter()
        .map(|u| format!("\\u{u:04x}"))
        .collect()
}
