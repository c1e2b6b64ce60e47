//! Guest memory looked at and written into files: ELF core dumps, kdump-compressed dumps, single
//! pieces. Everything here works on a machine that stands still and on plain values; who holds it
//! still is `control`.

mod compressor;
pub mod elf;
pub mod guest;
pub mod kdump;
pub mod notes;
pub mod output;
pub mod paging;
mod workers;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::process::errno;
use crate::vcpu::view::CpuView;
use guest::GuestMemory;
use output::Output;

/// How a dump is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// An ELF core; with the guest's virtual addresses, or only physical ones.
    Elf {
        /// What the page tables of the processors map is found at its virtual address.
        paging: bool,
    },
    /// kdump-compressed.
    Kdump {
        /// Of its pages.
        compression: Compression,
        /// As makedumpfile writes it into a pipe, for `makedumpfile -R`.
        flattened: bool,
    },
}

/// How pages become smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Each page is a stream of zlib (RFC 1950).
    Zlib,
    /// Each page is a block of snappy (its format_description.txt), not in frames.
    Snappy,
}

/// What is dumped.
pub struct Dump {
    /// How.
    pub layout: Layout,
    /// All memory of the guest: page tables may be anywhere.
    pub all: GuestMemory,
    /// The part of it that goes into the file.
    pub part: GuestMemory,
    /// The processors.
    pub cpus: Vec<CpuView>,
}

/// How far a dump is, and whether it is to go on. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    ended: AtomicBool,
}

impl Progress {
    /// Bytes of guest memory that were dealt with.
    pub fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }

    /// Nobody waits for it any more.
    pub fn end(&self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// When it is to end.
    pub(crate) fn advance(&self, bytes: u64) -> Result<(), DumpError> {
        self.0.done.fetch_add(bytes, Ordering::Relaxed);
        match self.0.ended.load(Ordering::Relaxed) {
            true => Err(DumpError::Ended),
            false => Ok(()),
        }
    }
}

/// Why there is no whole dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The file could not be written.
    #[error("dump: failed to {what}: {}", errno(.source))]
    Write {
        /// What was being done.
        what: &'static str,
        /// What the host said.
        source: io::Error,
    },
    /// The guest's page tables map too much.
    #[error("dump: the guest's page tables map more than a dump can list")]
    Paging,
    /// The host has no thread.
    #[error("dump: no thread to compress pages: {}", errno(.0))]
    Threads(io::Error),
    /// A thread that compressed pages is gone.
    #[error("dump: a page was not compressed")]
    Lost,
    /// The program ends.
    #[error("dump: ended before it was complete")]
    Ended,
}

impl DumpError {
    fn write(what: &'static str) -> impl FnOnce(io::Error) -> DumpError {
        move |source| DumpError::Write { what, source }
    }
}

impl Dump {
    /// Writes it all. Blocks as long as that takes; a thread of its own.
    ///
    /// # Errors
    /// What went wrong. The file is of no use then.
    pub fn write(&self, file: File, progress: &Progress) -> Result<(), DumpError> {
        let mut out = Output::new(file);
        match self.layout {
            Layout::Elf { paging } => elf::write(self, paging, &mut out, progress),
            Layout::Kdump {
                compression,
                flattened,
            } => kdump::write(self, compression, flattened, &mut out, progress),
        }
    }
}
