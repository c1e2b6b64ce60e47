//! A port that sends frames through a connection, with a length before each
//! ([`super::framing`]). Connections come and go; without one, frames are dropped.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use block::{Buffers, HostBuffer};

use super::framing::{Assembler, MOST_FRAME, Next, PREFIX};
use super::wire::{Line, Loss, Plug, Wire};
use super::{NetPort, Sent};
use crate::backend::socket::sys;

/// Reads for frames that are all too long for the driver, before others have their turn.
const MOST_READS: usize = 8;

/// The port. Nothing of it blocks.
pub(super) struct StreamPort {
    plug: Plug,
    input: Assembler,
    /// What the socket did not take of a frame that it began to take.
    rest: Vec<u8>,
    /// How much of the rest is away.
    rest_done: usize,
}

impl StreamPort {
    pub fn new(wire: Arc<Wire>) -> Self {
        StreamPort {
            plug: Plug::new(wire),
            input: Assembler::default(),
            rest: Vec::new(),
            rest_done: 0,
        }
    }

    /// The connection, if there is one.
    fn line(&mut self) -> Option<Arc<Line>> {
        if self.plug.look() {
            self.forget();
        }
        self.plug.line().cloned()
    }

    fn forget(&mut self) {
        self.input.clear();
        self.rest.clear();
        self.rest_done = 0;
    }

    fn lost(&mut self, why: Loss) {
        self.plug.holds(false);
        self.plug.lost(why);
        self.forget();
    }

    /// Sends what is left of the last frame. Whether nothing is left.
    fn send_rest(&mut self, line: &Line) -> bool {
        while let Some(rest) = self
            .rest
            .get(self.rest_done..)
            .filter(|rest| !rest.is_empty())
        {
            match sys::send(line.raw(), None, rest, &Buffers::new()) {
                Ok(count) => self.rest_done = self.rest_done.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.plug.watch_output(true);
                    return false;
                }
                Err(error) => self.lost(Loss::Error(error)),
            }
        }
        self.rest.clear();
        self.rest_done = 0;
        self.plug.watch_output(false);
        true
    }

    /// Keeps what was not sent of a frame.
    fn keep_rest(&mut self, prefix: &[u8], frame: &Buffers, sent: usize) {
        let prefix = prefix.get(sent..).unwrap_or_default();
        let from = sent.saturating_sub(PREFIX) as u64;
        let left = frame.len().saturating_sub(from);
        let begin = prefix.len();
        self.rest.clear();
        self.rest.extend_from_slice(prefix);
        let end = usize::try_from(left).unwrap_or(0).saturating_add(begin);
        self.rest.resize(end, 0);
        if let Some(room) = self.rest.get_mut(begin..) {
            frame.read_at(from, room);
        }
        self.rest_done = 0;
        self.plug.watch_output(true);
    }

    /// Reads once. Whether something came.
    fn read(&mut self, line: &Line) -> bool {
        loop {
            match sys::read(line.raw(), self.input.space()) {
                Ok(0) => self.lost(Loss::End),
                Ok(count) => {
                    self.input.filled(count);
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => self.lost(Loss::Error(error)),
            }
            return false;
        }
    }
}

impl NetPort for StreamPort {
    fn fd(&self) -> RawFd {
        self.plug.fd()
    }

    fn receive(&mut self, room: &Buffers) -> io::Result<Option<usize>> {
        let Some(line) = self.line() else {
            return Ok(None);
        };
        let mut reads = 0usize;
        loop {
            match self.input.next() {
                Next::Frame(frame) if frame.len() as u64 > room.len() => {}
                Next::Frame(frame) => {
                    let len = room.write_at(0, frame);
                    // The worker may stop here and wait for the descriptor.
                    self.plug.holds(self.input.has_more());
                    return Ok(Some(len));
                }
                Next::TooLong(len) => {
                    self.lost(Loss::TooLong(len));
                    return Ok(None);
                }
                Next::More => {
                    self.plug.holds(false);
                    // The worker may have been woken because there is room for output.
                    self.send_rest(&line);
                    if reads == MOST_READS || self.plug.line().is_none() || !self.read(&line) {
                        return Ok(None);
                    }
                    reads = reads.saturating_add(1);
                }
            }
        }
    }

    fn flush(&mut self) -> bool {
        if self.rest.is_empty() {
            return true;
        }
        self.line().is_none_or(|line| self.send_rest(&line))
    }

    fn send(&mut self, frame: &Buffers) -> Sent {
        let Some(line) = self.line() else {
            return Sent::Done;
        };
        let len = usize::try_from(frame.len()).unwrap_or(usize::MAX);
        if len == 0 || len > MOST_FRAME {
            return Sent::Done;
        }
        if !self.send_rest(&line) {
            return Sent::Full;
        }
        if self.plug.line().is_none() {
            return Sent::Done;
        }
        let prefix = (len as u32).to_be_bytes();
        let whole = len.saturating_add(PREFIX);
        match send_whole(&line, &prefix, frame) {
            Ok(count) if count >= whole => Sent::Done,
            Ok(count) => {
                self.keep_rest(&prefix, frame, count);
                Sent::Done
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.plug.watch_output(true);
                Sent::Full
            }
            Err(error) => {
                self.lost(Loss::Error(error));
                Sent::Done
            }
        }
    }
}

/// Sends a frame in however many pieces it is.
pub(super) fn send_whole(line: &Line, prefix: &[u8], frame: &Buffers) -> io::Result<usize> {
    let mut gathered = None;
    loop {
        let frame = gathered.as_ref().unwrap_or(frame);
        match sys::send(line.raw(), line.to.as_ref(), prefix, frame) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) && gathered.is_none() => {
                gathered = Some(gather(frame));
            }
            result => return result,
        }
    }
}

/// A copy in one piece.
fn gather(frame: &Buffers) -> Buffers {
    let len = usize::try_from(frame.len()).unwrap_or(0).min(MOST_FRAME);
    let mut bytes = vec![0; len];
    frame.read_at(0, &mut bytes);
    Buffers::owned(HostBuffer::from_bytes(&bytes, 1))
}
