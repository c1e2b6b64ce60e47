//! Writes: in place, to new clusters, zeroes; and how changed tables get into the file.

use std::io;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::header::{Header, NEED_CHECK};
use super::tables::{Entry, Found, Run, SLICE, ZERO};
use super::{Qed, State, moved, unwritable};
use crate::buffers::{Buffers, HostBuffer};
use crate::error::BlockError;
use crate::format::fields::{self, put};
use crate::format::read_only::read_backing;
use crate::node::{NodeExt, SECTOR};
use crate::request::{Durability, Op, Unmap};

/// Most bytes copied at once.
const CHUNK: u64 = 1 << 20;
/// How long nothing has been allocated when a flush marks the image as clean (as QEMU has it).
const QUIET: Duration = Duration::from_secs(5);

/// What is put into a new cluster.
#[derive(Clone, Copy)]
enum Fill<'a> {
    /// These bytes.
    Data(&'a Buffers),
    /// So many zeroes.
    Zeroes(u64),
}

impl Fill<'_> {
    fn len(self) -> u64 {
        match self {
            Fill::Data(buffers) => buffers.len(),
            Fill::Zeroes(len) => len,
        }
    }
}

fn cached(offset: u64) -> Op {
    Op::Write {
        offset,
        durability: Durability::Cached,
    }
}

/// The error of a node that could not be made larger.
fn no_room(error: &BlockError) -> io::Error {
    let code = match error {
        BlockError::Host { source, .. } => source.raw_os_error(),
        _ => None,
    };
    io::Error::from_raw_os_error(code.unwrap_or(libc::ENOSPC))
}

impl State {
    /// Whether the image can be marked as clean by and by.
    pub(super) fn is_quiet(&self) -> bool {
        let quiet = |at: Instant| at.elapsed() >= QUIET;
        !self.tables.is_dirty() && self.allocated.is_some_and(quiet)
    }
}

impl Qed {
    pub(super) fn write(&self, offset: u64, buffers: &Buffers) -> io::Result<()> {
        let mut at = 0;
        while at < buffers.len() {
            let from = offset.saturating_add(at);
            let run = self.run(from, buffers.len().saturating_sub(at))?;
            let part = buffers.slice(at, run.len);
            let done = match run.entry {
                Entry::Data(place) => {
                    self.storage.perform(cached(place), &part)?;
                    run.len
                }
                Entry::Unallocated | Entry::Zero => self.allocate(from, Fill::Data(&part))?,
            };
            at = at.saturating_add(done);
        }
        Ok(())
    }

    pub(super) fn write_zeroes(&self, offset: u64, len: u64, unmap: Unmap) -> io::Result<()> {
        let mut at = 0;
        while at < len {
            let from = offset.saturating_add(at);
            let run = self.run(from, len.saturating_sub(at))?;
            let done = match run.entry {
                Entry::Zero => run.len,
                Entry::Data(place) => {
                    let op = Op::WriteZeroes {
                        offset: place,
                        len: run.len,
                        unmap,
                        durability: Durability::Cached,
                    };
                    self.storage.perform(op, &Buffers::new())?;
                    run.len
                }
                Entry::Unallocated => self.hide(from, run.len)?,
            };
            at = at.saturating_add(done);
        }
        Ok(())
    }

    /// Makes bytes that are not in the image zeroes; how many.
    fn hide(&self, offset: u64, len: u64) -> io::Result<u64> {
        let backing = self.backing.as_ref().map_or(0, |edge| edge.info().size);
        if offset >= backing {
            return Ok(len);
        }
        let cluster = self.header().cluster();
        let end = offset.saturating_add(len);
        // The disk's last cluster is whole where it ends.
        let whole_end = match end >= self.screen.size() {
            true => end.next_multiple_of(cluster),
            false => end / cluster * cluster,
        };
        if !offset.is_multiple_of(cluster) || whole_end <= offset {
            let left = cluster.saturating_sub(offset % cluster);
            return self.allocate(offset, Fill::Zeroes(len.min(left)));
        }
        let work = self.work();
        let number = offset / cluster;
        self.need_table(&work, number)?;
        // As many as are in one piece of the table.
        let last = (number / SLICE).saturating_add(1).saturating_mul(SLICE);
        let mut state = self.state();
        let mut at = number;
        while at < last.min(whole_end / cluster) {
            let from = at.saturating_mul(cluster);
            // Somebody else may have been here.
            if let Found::Run(Run {
                entry: Entry::Unallocated,
                ..
            }) = state.tables.find(from, 1)
            {
                state.tables.set(at, ZERO);
            } else {
                break;
            }
            at = at.saturating_add(1);
        }
        state.allocated = Some(Instant::now());
        drop(state);
        self.write_out_if_full(&work)?;
        Ok(at.saturating_mul(cluster).min(end).saturating_sub(offset))
    }

    pub(super) fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut at = 0;
        while at < len {
            let run = self.run(offset.saturating_add(at), len.saturating_sub(at))?;
            if let Entry::Data(place) = run.entry {
                let op = moved(Op::Discard { offset, len }, place, run.len);
                self.storage.perform(op, &Buffers::new())?;
            }
            at = at.saturating_add(run.len.max(1));
        }
        Ok(())
    }

    /// Writes to clusters that are not there, from `offset` on; how many bytes were written.
    fn allocate(&self, offset: u64, fill: Fill<'_>) -> io::Result<u64> {
        let work = self.work();
        let header = self.header();
        let cluster = header.cluster();
        let number = offset / cluster;
        self.need_table(&work, number)?;
        // Somebody else may have been here.
        let run = self.run_with(&work, offset, fill.len())?;
        if let Entry::Data(_) = run.entry {
            return Ok(0);
        }
        let limit = (number / SLICE).saturating_add(1).saturating_mul(SLICE);
        let limit = limit.saturating_mul(cluster);
        let end = offset.saturating_add(run.len).min(limit);
        let count = end.div_ceil(cluster).saturating_sub(number);
        let new = NewClusters {
            first: number.saturating_mul(cluster),
            len: count.saturating_mul(cluster),
            place: self.state().tables.end,
            from_backing: run.entry == Entry::Unallocated,
        };
        let len = end.saturating_sub(offset);
        self.grow_file(new.place, new.len)?;
        if let Err(error) = self.fill(new, offset, len, fill) {
            self.give_back(new);
            return Err(error);
        }
        let mut state = self.state();
        state.tables.end = new.place.saturating_add(new.len);
        for i in 0..count {
            let place = new.place.saturating_add(i.saturating_mul(cluster));
            state.tables.set(number.saturating_add(i), place);
        }
        state.allocated = Some(Instant::now());
        drop(state);
        self.write_out_if_full(&work)?;
        Ok(len)
    }

    /// Makes the file larger by `len` zero bytes at `place`, which is its end.
    fn grow_file(&self, place: u64, len: u64) -> io::Result<()> {
        let node = self.storage.there()?;
        let end = place.checked_add(len).filter(|end| *end < 1 << 63);
        let end = end.ok_or_else(|| io::Error::from_raw_os_error(libc::EFBIG))?;
        let resize = |size| node.resize(size).map_err(|error| no_room(&error));
        if node.info().size > place {
            // Not even a cluster: it would not be zeroes.
            resize(place)?;
        }
        resize(end)
    }

    /// Clusters that were not filled must not be used as empty ones.
    fn give_back(&self, new: NewClusters) {
        let node = self.storage.there();
        let back = node.map(|node| node.resize(new.place));
        if !matches!(back, Ok(Ok(()))) {
            self.state().tables.end = new.place.saturating_add(new.len);
        }
    }

    /// Fills new clusters: `len` bytes at `offset` with `fill`, and what is around them.
    fn fill(&self, new: NewClusters, offset: u64, len: u64, fill: Fill<'_>) -> io::Result<()> {
        let end = offset.saturating_add(len);
        if new.from_backing {
            self.copy(new, new.first, offset)?;
            self.copy(new, end, new.first.saturating_add(new.len))?;
        }
        match fill {
            // The file's new part is zeroes.
            Fill::Zeroes(_) => Ok(()),
            Fill::Data(buffers) => {
                let op = cached(new.place_of(offset));
                self.storage.perform(op, &buffers.slice(0, len))
            }
        }
    }

    /// Copies the backing file's bytes from `start` to `end` into new clusters.
    fn copy(&self, new: NewClusters, start: u64, end: u64) -> io::Result<()> {
        let backing = self.backing.as_ref();
        // What is not there is zeroes, which the file's new part is.
        let end = end.min(backing.map_or(0, |edge| edge.info().size));
        let mut at = start;
        while at < end {
            let len = end.saturating_sub(at).min(CHUNK);
            let memory = std::sync::Arc::new(HostBuffer::new(len as usize, 4096));
            let buffers = Buffers::owned(memory);
            read_backing(backing, at, &buffers)?;
            self.storage.perform(cached(new.place_of(at)), &buffers)?;
            at = at.saturating_add(len);
        }
        Ok(())
    }

    /// Sees to it that the L2 table for a cluster is there, and its piece in memory.
    fn need_table(&self, work: &MutexGuard<'_, ()>, cluster: u64) -> io::Result<()> {
        let (lacks, place, header) = {
            let state = self.state();
            let tables = &state.tables;
            (tables.lacks_table(cluster), tables.end, tables.header)
        };
        if lacks {
            self.grow_file(place, header.table_bytes())?;
            let mut state = self.state();
            state.tables.end = place.saturating_add(header.table_bytes());
            state.tables.set_table(cluster, place);
            drop(state);
        }
        let offset = cluster.saturating_mul(header.cluster());
        self.run_with(work, offset, 1).map(drop)
    }

    fn write_out_if_full(&self, work: &MutexGuard<'_, ()>) -> io::Result<()> {
        if !self.state().tables.is_full() {
            return Ok(());
        }
        self.write_out(work)
    }

    /// Makes all durable that was written: data, then what leads to them.
    pub(super) fn write_out(&self, _work: &MutexGuard<'_, ()>) -> io::Result<()> {
        let node = self.storage.there()?;
        let changes = self.state().tables.changes();
        if !changes.is_empty() {
            self.mark_dirty()?;
        }
        node.flush()?;
        for (place, bytes) in &changes {
            node.write_at(*place, bytes)?;
        }
        if !changes.is_empty() {
            node.flush()?;
            self.state().tables.written();
        }
        if self.state().is_quiet() {
            self.mark_clean()?;
        }
        Ok(())
    }

    fn mark_dirty(&self) -> io::Result<()> {
        if self.header().needs_check() {
            return Ok(());
        }
        self.state().tables.header.features |= NEED_CHECK;
        let written = self.write_header();
        if written.is_err() {
            self.state().tables.header.features &= !NEED_CHECK;
        }
        written
    }

    /// Takes the bit away, after a flush.
    pub(super) fn mark_clean(&self) -> io::Result<()> {
        self.state().allocated = None;
        if !self.header().needs_check() {
            return Ok(());
        }
        // Also when it then cannot be written: the next change sets the bit anew.
        self.state().tables.header.features &= !NEED_CHECK;
        self.write_header()
    }

    pub(super) fn write_header(&self) -> io::Result<()> {
        let node = self.storage.there()?;
        let mut sector = fields::read(&*node, 0, SECTOR)?;
        put(&mut sector, 0, &self.header().encode());
        node.write_at(0, &sector)
    }

    /// Makes the disk larger. What is new reads as zeroes.
    pub(super) fn grow_disk(&self, size: u64) -> Result<(), BlockError> {
        if self.read_only.load(Ordering::Acquire) {
            return Err(BlockError::ReadOnly);
        }
        let old = self.screen.size();
        if size < old {
            return Err(BlockError::Unsupported(
                "Shrinking images is currently not supported".to_owned(),
            ));
        }
        self.header().check_size(size)?;
        self.extend_l1(size)?;
        let clusters_end = old.next_multiple_of(self.header().cluster());
        let backing = self.backing.as_ref().map_or(0, |edge| edge.info().size);
        let hidden = size.min(backing.max(clusters_end)).saturating_sub(old);
        let unmap = Unmap::Keep;
        self.write_zeroes(old, hidden, unmap).map_err(unwritable)?;
        let work = self.work();
        self.write_out(&work).map_err(unwritable)?;
        let before: Header = self.header();
        self.state().tables.header.image_size = size;
        let written = self
            .write_header()
            .and_then(|()| self.storage.there()?.flush());
        if let Err(error) = written {
            self.state().tables.header.image_size = before.image_size;
            return Err(unwritable(error));
        }
        self.screen.set_size(size);
        Ok(())
    }

    fn extend_l1(&self, size: u64) -> Result<(), BlockError> {
        let node = self.storage.node().ok_or(BlockError::Empty)?;
        let _work = self.work();
        let there = self.state().tables.l1().len();
        let mut l1 = super::read_l1(&*node, &self.header(), size)?;
        if l1.len() > there {
            let more = l1.split_off(there);
            self.state().tables.extend_l1(more);
        }
        Ok(())
    }
}

/// Clusters at the end of the file that are to hold a part of the disk.
#[derive(Clone, Copy)]
struct NewClusters {
    /// First byte of the disk.
    first: u64,
    /// Bytes.
    len: u64,
    /// First byte in the file.
    place: u64,
    /// Whether what is around the written bytes comes from the backing file; zeroes otherwise.
    from_backing: bool,
}

impl NewClusters {
    fn place_of(&self, offset: u64) -> u64 {
        self.place.saturating_add(offset.saturating_sub(self.first))
    }
}
