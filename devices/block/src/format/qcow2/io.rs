//! Reading and writing below: tables in whole sectors, bytes beyond the end.

use std::io;
use std::sync::Arc;

use super::Qcow2;
use crate::buffers::{Buffers, HostBuffer};
use crate::edge::Edge;
use crate::node::{NodeExt, SECTOR};
use crate::request::Durability;
use crate::request::{Op, Unmap};

/// A number at `at`; 0 beyond the end.
pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes.get(at..at.saturating_add(8));
    let eight = eight.and_then(|eight| eight.try_into().ok());
    u64::from_be_bytes(eight.unwrap_or_default())
}

/// A number at `at`; 0 beyond the end.
pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..at.saturating_add(4));
    let four = four.and_then(|four| four.try_into().ok());
    u32::from_be_bytes(four.unwrap_or_default())
}

/// Sets the number at `at`.
pub(super) fn put64(bytes: &mut [u8], at: usize, value: u64) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(8)) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

/// Memory of `len` bytes for requests below.
pub(super) fn memory(len: u64) -> io::Result<Buffers> {
    // Nothing that is read or written at once is larger than a few clusters.
    let len = usize::try_from(len).map_err(|_| eio())?;
    Ok(Buffers::owned(Arc::new(HostBuffer::new(len, 4096))))
}

/// Fills `buffers` from `offset` on, in whole sectors where the node asks for it, with zeroes for
/// what is beyond its end.
pub(super) fn read(edge: &Edge, offset: u64, buffers: &Buffers) -> io::Result<()> {
    let node = edge.there()?;
    let size = node.info().size;
    let len = buffers.len().min(size.saturating_sub(offset));
    buffers.zero_from(len);
    if len == 0 {
        return Ok(());
    }
    let granule = u64::from(node.info().granule.max(1));
    if (offset | len).is_multiple_of(granule) {
        return match len == buffers.len() {
            true => node.perform(Op::Read { offset }, buffers),
            false => node.perform(Op::Read { offset }, &buffers.slice(0, len)),
        };
    }
    let start = offset - offset % granule;
    let end = offset
        .saturating_add(len)
        .next_multiple_of(granule)
        .min(size);
    let mut bytes = vec![0; (end - start) as usize];
    node.read_at(start, &mut bytes)?;
    let skip = (offset - start) as usize;
    let from = bytes.get(skip..skip.saturating_add(len as usize));
    buffers.write_at(0, from.ok_or_else(eio)?);
    Ok(())
}

/// Writes `buffers` from `offset` on, which is inside of the node; in whole sectors where the
/// node asks for it.
pub(super) fn write(
    edge: &Edge,
    offset: u64,
    buffers: &Buffers,
    durability: Durability,
) -> io::Result<()> {
    let node = edge.there()?;
    let granule = u64::from(node.info().granule.max(1));
    if (offset | buffers.len()).is_multiple_of(granule) {
        return node.perform(Op::Write { offset, durability }, buffers);
    }
    let start = offset - offset % granule;
    let end = offset
        .saturating_add(buffers.len())
        .next_multiple_of(granule);
    let own = memory(end.saturating_sub(start))?;
    read(edge, start, &own)?;
    let mut bytes = vec![0; buffers.len() as usize];
    buffers.read_at(0, &mut bytes);
    own.write_at(offset - start, &bytes);
    let op = Op::Write {
        offset: start,
        durability,
    };
    node.perform(op, &own)
}

impl Qcow2 {
    /// Reads from the tables' file; what is beyond its end are zeroes.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn read_meta(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let buffers = memory(bytes.len() as u64)?;
        read(&self.storage, offset, &buffers)?;
        buffers.read_at(0, bytes);
        Ok(())
    }

    /// Writes to the tables' file, which is made longer where it must be.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn write_meta(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(bytes.len() as u64).ok_or_else(eio)?;
        self.grow_storage(end)?;
        let buffers = Buffers::owned(HostBuffer::from_bytes(bytes, 4096));
        write(&self.storage, offset, &buffers, Durability::Cached)
    }

    /// Makes the tables' file at least `end` bytes long.
    ///
    /// # Errors
    /// The host's; ENOSPC when it cannot grow.
    pub(super) fn grow_storage(&self, end: u64) -> io::Result<()> {
        if self.storage.info().size >= end {
            return Ok(());
        }
        grow(&self.storage, end)?;
        let mut meta = self.meta();
        // Nothing may lead to what a file that lost its new length does not have.
        meta.unsynced = true;
        if !self.geometry.external {
            meta.data_end = self.storage.info().size;
        }
        Ok(())
    }

    /// Whether a cluster of the storage begins behind its end. One that the end is in is there:
    /// what was never written of it are zeroes.
    pub(super) fn is_outside(&self, offset: u64) -> bool {
        let size = self.storage.info().size;
        offset >= self.geometry.clusters(size) << self.geometry.cluster_bits
    }

    /// Makes storage and data durable.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.geometry.external {
            self.data.perform(Op::Flush, &Buffers::new())?;
        }
        self.storage.perform(Op::Flush, &Buffers::new())
    }

    /// Writes zeroes to a file below without having them.
    pub(super) fn zero_below(
        &self,
        edge: &Edge,
        offset: u64,
        len: u64,
        unmap: Unmap,
    ) -> io::Result<()> {
        let op = Op::WriteZeroes {
            offset,
            len,
            unmap,
            durability: Durability::Cached,
        };
        edge.perform(op, &Buffers::new())
    }
}

/// Makes a node at least `end` bytes long.
pub(super) fn grow(edge: &Edge, end: u64) -> io::Result<()> {
    let node = edge.there()?;
    let end = end.checked_next_multiple_of(SECTOR).ok_or_else(eio)?;
    if node.info().size >= end {
        return Ok(());
    }
    node.resize(end).map_err(|error| {
        log::warn!("An image cannot grow: {error}");
        match error {
            crate::error::BlockError::Host { source, .. } => source,
            _ => io::Error::from_raw_os_error(libc::ENOSPC),
        }
    })
}
