//! Linux AIO.
#![allow(unsafe_code)] // the kernel keeps addresses of memory

use std::io;
use std::os::fd::RawFd;

use super::{Call, Ended};
use crate::buffers::IoPart;
use crate::sys::aio::{Context, Event, Request};

const BATCH: usize = 64;

/// A call that waits for [`Native::start`].
struct Queued {
    slot: usize,
    write: bool,
    flags: i32,
    parts: *const IoPart,
    count: usize,
    offset: u64,
}

// SAFETY: the pointer is to a list that the caller of `push` keeps valid, on whatever thread.
unsafe impl Send for Queued {}

/// The engine.
pub(crate) struct Native {
    context: Context,
    file: RawFd,
    event: RawFd,
    queued: Vec<Queued>,
    /// Calls that the kernel did not take, with its errno.
    refused: Vec<Ended>,
    running: usize,
}

impl Native {
    pub fn open(depth: u32, file: RawFd, event: RawFd) -> io::Result<Self> {
        Ok(Native {
            context: Context::new(depth)?,
            file,
            event,
            queued: Vec::new(),
            refused: Vec::new(),
            running: 0,
        })
    }

    /// See [`super::Engine::push`].
    pub unsafe fn push(&mut self, slot: usize, call: &Call<'_>) -> bool {
        let (write, parts, offset, flags) = match call {
            Call::Read { parts, offset } => (false, *parts, *offset, 0),
            Call::Write {
                parts,
                offset,
                flags,
            } => (true, *parts, *offset, *flags),
            Call::Sync => return false,
        };
        self.queued.push(Queued {
            slot,
            write,
            flags,
            parts: parts.as_ptr(),
            count: parts.len(),
            offset,
        });
        true
    }

    /// An error is the kernel's for the first call queued; all queued ones are kept or refused.
    pub fn start(&mut self) -> io::Result<()> {
        while !self.queued.is_empty() {
            match self.submit() {
                Ok(taken) => {
                    self.running = self.running.saturating_add(taken);
                    self.queued.drain(..taken.min(self.queued.len()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel is short of room: go on when something has ended.
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && self.running > 0 => {
                    return Ok(());
                }
                Err(error) => {
                    let code = error.raw_os_error().unwrap_or(libc::EIO);
                    let first = self.queued.remove(0);
                    self.refused.push((first.slot, -i64::from(code)));
                }
            }
        }
        if self.refused.is_empty() {
            return Ok(());
        }
        Err(io::ErrorKind::Other.into())
    }

    fn submit(&self) -> io::Result<usize> {
        let request = |queued: &Queued| Request {
            data: queued.slot as u64,
            write: queued.write,
            flags: queued.flags,
            fd: self.file,
            // SAFETY: the caller of `push` keeps the list valid until the completion.
            parts: unsafe { std::slice::from_raw_parts(queued.parts, queued.count) },
            offset: queued.offset,
            event: self.event,
        };
        let batch: Vec<_> = self.queued.iter().take(BATCH).map(request).collect();
        // SAFETY: lists and memory stay valid as the caller of `push` promised, and the
        // descriptors as the caller of `Engine::open` did.
        unsafe { self.context.submit(&batch) }
    }

    pub fn collect(&mut self, ended: &mut Vec<Ended>) {
        ended.append(&mut self.refused);
        let mut events = [Event::default(); BATCH];
        loop {
            let count = self.context.take(&mut events).unwrap_or(0);
            self.running = self.running.saturating_sub(count);
            let taken = events.iter().take(count);
            ended.extend(taken.map(|event| (event.data as usize, event.res)));
            if count < BATCH {
                return;
            }
        }
    }
}
