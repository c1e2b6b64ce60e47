//! Engines: how vectored reads and writes get to the kernel without a thread of ours waiting.

mod native;
mod uring;

use std::io;
use std::os::fd::RawFd;

use crate::buffers::IoPart;
use crate::error::BlockError;
use crate::file::Aio;
use native::Native;
use uring::Uring;

/// One call for the kernel.
#[derive(Debug)]
pub(crate) enum Call<'a> {
    /// preadv.
    Read {
        /// Where to.
        parts: &'a [IoPart],
        /// Where from.
        offset: u64,
    },
    /// pwritev.
    Write {
        /// Where from.
        parts: &'a [IoPart],
        /// Where to.
        offset: u64,
        /// RWF flags.
        flags: i32,
    },
    /// fdatasync; io_uring only.
    Sync,
}

/// A completion: which slot, and bytes or a negative errno.
pub(crate) type Ended = (usize, i64);

/// The engine of one lane.
pub(crate) enum Engine {
    /// None: all goes to the pool.
    Threads,
    /// Linux AIO.
    Native(Native),
    /// io_uring.
    Uring(Box<Uring>),
}

impl Engine {
    /// An engine for `depth` calls at a time on `file`, which signals `event`. The descriptors
    /// stay open for as long as the engine lives.
    pub fn open(aio: Aio, depth: u32, file: RawFd, event: RawFd) -> Result<Self, BlockError> {
        Ok(match aio {
            Aio::Threads => Engine::Threads,
            Aio::Native => Engine::Native(Native::open(depth, file, event).map_err(no_native)?),
            Aio::IoUring => {
                Engine::Uring(Box::new(Uring::open(depth, file, event).map_err(no_uring)?))
            }
        })
    }

    /// Queues a call; `false` when there is no room before the next [`Self::start`].
    ///
    /// # Safety
    /// The list of parts and its memory stay valid until the slot's completion was collected or
    /// the engine was dropped.
    #[allow(unsafe_code)] // what the kernel gets are addresses
    pub unsafe fn push(&mut self, slot: usize, call: &Call<'_>) -> bool {
        match self {
            Engine::Threads => false,
            // SAFETY: passed on to the caller.
            Engine::Native(engine) => unsafe { engine.push(slot, call) },
            // SAFETY: passed on to the caller.
            Engine::Uring(engine) => unsafe { engine.push(slot, call) },
        }
    }

    /// Hands queued calls to the kernel.
    pub fn start(&mut self) -> io::Result<()> {
        match self {
            Engine::Threads => Ok(()),
            Engine::Native(engine) => engine.start(),
            Engine::Uring(engine) => engine.start(),
        }
    }

    /// Takes completions.
    pub fn collect(&mut self, ended: &mut Vec<Ended>) {
        match self {
            Engine::Threads => {}
            Engine::Native(engine) => engine.collect(ended),
            Engine::Uring(engine) => engine.collect(ended),
        }
    }
}

/// Whether the host has the engine at all.
///
/// # Errors
/// In QEMU's words.
pub(crate) fn probe(aio: Aio) -> Result<(), BlockError> {
    match aio {
        Aio::Threads => Ok(()),
        Aio::Native => crate::sys::aio::Context::new(1)
            .map(drop)
            .map_err(no_native),
        Aio::IoUring => uring::probe().map_err(no_uring),
    }
}

fn no_native(error: io::Error) -> BlockError {
    BlockError::host(
        "Unable to use native AIO: failed to create linux AIO context",
        error,
    )
}

fn no_uring(error: io::Error) -> BlockError {
    BlockError::host(
        "Unable to use io_uring: failed to init linux io_uring ring",
        error,
    )
}
