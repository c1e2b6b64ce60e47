//! io_uring.
#![allow(unsafe_code)] // the kernel keeps addresses of memory

use std::io;
use std::os::fd::RawFd;

use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, types};

use super::{Call, Ended};
use crate::sys::MAX_PARTS;

/// Most entries of a ring.
const MOST: u32 = 4096;

/// The engine. The kernel's side ends with the lane, which waits for all completions first.
pub(crate) struct Uring {
    ring: IoUring,
    file: RawFd,
}

/// Whether the host lets us use io_uring.
pub(super) fn probe() -> io::Result<()> {
    IoUring::new(1).map(drop)
}

impl Uring {
    pub fn open(depth: u32, file: RawFd, event: RawFd) -> io::Result<Self> {
        let ring = IoUring::new(depth.clamp(1, MOST).next_power_of_two())?;
        ring.submitter().register_eventfd(event)?;
        Ok(Uring { ring, file })
    }

    /// See [`super::Engine::push`].
    pub unsafe fn push(&mut self, slot: usize, call: &Call<'_>) -> bool {
        let entry = self.entry(call).user_data(slot as u64);
        // SAFETY: lists and memory stay valid until the completion, as the caller promises.
        unsafe { self.ring.submission().push(&entry).is_ok() }
    }

    fn entry(&self, call: &Call<'_>) -> Entry {
        let file = types::Fd(self.file);
        let count = |len: usize| len.min(MAX_PARTS) as u32;
        match call {
            Call::Read { parts, offset } => {
                opcode::Readv::new(file, parts.as_ptr().cast(), count(parts.len()))
                    .offset(*offset)
                    .build()
            }
            Call::Write {
                parts,
                offset,
                flags,
            } => opcode::Writev::new(file, parts.as_ptr().cast(), count(parts.len()))
                .offset(*offset)
                .rw_flags(*flags)
                .build(),
            Call::Sync => opcode::Fsync::new(file)
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
        }
    }

    /// An error means that queued calls are still queued.
    pub fn start(&mut self) -> io::Result<()> {
        loop {
            if self.ring.submission().is_empty() {
                return Ok(());
            }
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub fn collect(&mut self, ended: &mut Vec<Ended>) {
        let completed = self.ring.completion();
        ended.extend(completed.map(|entry| (entry.user_data() as usize, entry.result().into())));
    }
}
