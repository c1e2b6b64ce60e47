//! qcow2, versions 2 and 3 (the specification is QEMU's docs/interop/qcow2).
//!
//! ```text
//! plan ----- meta (short lock): L1, L2 pieces, clusters being allocated -----> pieces below
//! perform -- work (held across reads and writes of tables): refcounts, loading, writing back
//! ```
//!
//! What is in memory is ahead of the file; a flush brings the file up, in this order, so that at
//! any moment the file is whole but for clusters that are allocated and not used:
//! 1. refcounts, new tables and data, made durable;
//! 2. L2 tables and the L1 table that lead to them, made durable;
//! 3. only then is what they do not lead to any more given back, and used again when also every
//!    request that was planned before has ended ([`meta::Frees`]).
//!
//! New clusters come from a reserve whose refcounts are raised and whose bytes are zeroes, so
//! that a write to a cluster that was never written needs no more than its own bytes, and several
//! writes to it may be under way at once ([`meta::Pending`]).

mod alloc;
mod bitmaps;
mod cache;
mod check;
mod compress;
mod create;
mod flush;
mod geometry;
mod header;
mod image;
#[cfg(test)]
mod imago_peer;
mod io;
mod meta;
mod open;
#[cfg(test)]
mod peer;
mod plan;
mod read;
#[cfg(test)]
mod recorder;
mod refcount;
mod resize;
mod snapshot;
mod store;
mod stored;
mod tables;
mod write;
mod zero;

use std::io::Result as IoResult;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{Below, Format, Piece, Plan};
use crate::buffers::Buffers;
use crate::edge::Edge;
use crate::error::BlockError;
use crate::gate::Screen;
use crate::graph::Qcow2Options;
use crate::image::SnapshotView;
use crate::node::Extent;
use crate::notice::Reporter;
use crate::request::Op;
use alloc::Work;
use geometry::Geometry;
use header::Header;
use meta::{Keep, Meta};

pub use check::check;
pub use create::{Compat, CompressionKind, Qcow2Create, create, create_while};
pub(in crate::format) use open::{linked, open};

/// An open image.
pub(in crate::format) struct Qcow2 {
    storage: Edge,
    data: Edge,
    backing: Option<Edge>,
    screen: Screen,
    reporter: Reporter,
    options: Qcow2Options,
    geometry: Geometry,
    /// Bytes of an L2 piece in memory.
    l2_slice: u64,
    /// Bytes of a refcount piece in memory.
    ref_slice: u64,
    /// As it is in the file. A leaf.
    header: Mutex<Header>,
    /// As they are in the file. A leaf.
    snapshots: Mutex<Vec<SnapshotView>>,
    /// Held across input and output of tables; taken before `meta`.
    work: Mutex<Work>,
    /// Held for a moment only.
    meta: Mutex<Meta>,
    /// Held while a part of a sector is written, which reads the whole one. A leaf.
    parts: Mutex<()>,
    /// A cluster that one request had for itself is settled; goes with `meta`.
    settled: Condvar,
    /// Damage was found: nothing is written any more.
    broken: AtomicBool,
    /// Nothing is held back and nothing may be written.
    closed: AtomicBool,
    /// Its tables could not be read anew: those in memory are of no use.
    stale: AtomicBool,
}

impl Qcow2 {
    fn meta(&self) -> MutexGuard<'_, Meta> {
        self.meta.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn header(&self) -> MutexGuard<'_, Header> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    fn is_read_only(&self) -> bool {
        self.screen.policy().read_only
    }

    /// Bytes of the backing file; beyond them it has zeroes.
    fn backing_size(&self) -> u64 {
        self.backing.as_ref().map_or(0, |edge| edge.info().size)
    }

    /// Bytes of the disk.
    fn size(&self) -> u64 {
        self.screen.size()
    }
}

impl Format for Qcow2 {
    type Keep = Keep;

    fn plan(&self, op: Op, buffers: &Buffers, pieces: &mut Vec<Piece>) -> Plan<Keep> {
        self.plan_request(op, buffers, pieces)
    }

    fn ended(&self, keep: Keep, result: IoResult<()>) -> IoResult<()> {
        self.settle(&keep, result.is_ok());
        result
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> IoResult<()> {
        match op {
            Op::Read { offset } => self.read(offset, buffers),
            Op::Write { offset, durability } => self.write(offset, buffers, durability),
            Op::Flush => self.flush(),
            Op::Discard { offset, len } => self.discard(offset, len),
            Op::WriteZeroes {
                offset,
                len,
                unmap,
                durability,
            } => self.write_zeroes(offset, len, unmap, durability),
        }
    }

    fn extent(&self, offset: u64, len: u64) -> IoResult<Extent> {
        self.find_extent(offset, len)
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        self.change_size(size)
    }

    fn edge(&self, below: Below) -> Option<&Edge> {
        match below {
            Below::Storage => Some(&self.storage),
            Below::Data => Some(&self.data),
            Below::Backing => self.backing.as_ref(),
            Below::Extent(_) => None,
        }
    }

    fn screen(&self) -> &Screen {
        &self.screen
    }
}

impl Drop for Qcow2 {
    fn drop(&mut self) {
        if let Err(error) = self.close_image() {
            log::error!("An image could not be closed: {error}");
        }
    }
}

#[cfg(test)]
#[path = "crash_test.rs"]
mod crash_tests;
#[cfg(test)]
#[path = "damage_test.rs"]
mod damage_tests;
#[cfg(test)]
#[path = "events_test.rs"]
mod event_tests;
#[cfg(test)]
#[path = "flush_test.rs"]
mod flush_tests;
#[cfg(test)]
#[path = "imago_test.rs"]
mod imago_tests;
#[cfg(test)]
#[path = "interchange_test.rs"]
mod interchange_tests;
#[cfg(test)]
#[path = "kill_test.rs"]
mod kill_tests;
#[cfg(test)]
#[path = "qcow2_test.rs"]
mod tests;
