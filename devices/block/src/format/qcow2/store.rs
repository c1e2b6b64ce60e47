//! An image's tables in their file, read and written without anything in between; for work on a
//! whole image while nobody else uses it.

use std::io;

use super::geometry::Geometry;
use super::header::{FIRST, Header};
use super::io::{be64, eio, put64};
use crate::error::BlockError;
use crate::node::{BlockNode, NodeExt, SECTOR};

/// The file of an image's tables.
#[derive(Clone, Copy)]
pub(super) struct Store<'a> {
    node: &'a dyn BlockNode,
}

impl<'a> Store<'a> {
    pub fn new(node: &'a dyn BlockNode) -> Self {
        Store { node }
    }

    pub fn node(&self) -> &'a dyn BlockNode {
        self.node
    }

    /// Bytes, in whole sectors.
    pub fn size(&self) -> u64 {
        self.node.info().size
    }

    /// Fills `bytes` from `offset` on, with zeroes for what is beyond the end.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let size = self.size();
        let end = offset.checked_add(bytes.len() as u64).ok_or_else(eio)?;
        let (there, beyond) =
            bytes.split_at_mut(size.min(end).saturating_sub(offset.min(size)) as usize);
        beyond.fill(0);
        let (start, last) = sectors(offset, there.len() as u64);
        if there.is_empty() || (start == offset && last - start == there.len() as u64) {
            return self.node.read_at(offset, there);
        }
        let mut whole = vec![0; (last.min(size) - start) as usize];
        self.node.read_at(start, &mut whole)?;
        let skip = (offset - start) as usize;
        let from = whole.get(skip..skip.saturating_add(there.len()));
        there.copy_from_slice(from.ok_or_else(eio)?);
        Ok(())
    }

    /// Reads a table of numbers.
    pub fn words(&self, offset: u64, count: u64) -> io::Result<Vec<u64>> {
        let len = count
            .checked_mul(8)
            .and_then(|len| usize::try_from(len).ok());
        let mut bytes = vec![0; len.ok_or_else(eio)?];
        self.read(offset, &mut bytes)?;
        Ok(bytes.chunks_exact(8).map(|word| be64(word, 0)).collect())
    }

    /// Writes, in whole sectors; the file is made longer where it must be.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (start, last) = sectors(offset, bytes.len() as u64);
        self.grow(last)?;
        if start == offset && last - start == bytes.len() as u64 {
            return self.node.write_at(offset, bytes);
        }
        let mut whole = vec![0; (last - start) as usize];
        self.read(start, &mut whole)?;
        let skip = (offset - start) as usize;
        let into = whole.get_mut(skip..skip.saturating_add(bytes.len()));
        into.ok_or_else(eio)?.copy_from_slice(bytes);
        self.node.write_at(start, &whole)
    }

    /// Writes a table of numbers, with zeroes up to the end of its last sector.
    pub fn write_words(&self, offset: u64, words: &[u64]) -> io::Result<()> {
        let len = words.len().saturating_mul(8);
        let mut bytes = vec![0; len.next_multiple_of(SECTOR as usize)];
        for (place, word) in words.iter().enumerate() {
            put64(&mut bytes, place.saturating_mul(8), *word);
        }
        self.write(offset, &bytes)
    }

    /// Makes the file at least `end` bytes long.
    pub fn grow(&self, end: u64) -> io::Result<()> {
        if self.size() >= end {
            return Ok(());
        }
        self.node.resize(end).map_err(|error| match error {
            BlockError::Host { source, .. } => source,
            _ => io::Error::from_raw_os_error(libc::ENOSPC),
        })
    }

    /// Makes what was written durable.
    pub fn flush(&self) -> io::Result<()> {
        self.node.flush()
    }

    /// The header, with tables at places that can be.
    ///
    /// # Errors
    /// When it is no qcow2 image, damaged, or of a kind that is not understood.
    pub fn header(&self) -> Result<(Header, Geometry), BlockError> {
        let failed = |error| BlockError::host("Could not read qcow2 header", error);
        let mut start = vec![0; FIRST];
        self.read(0, &mut start).map_err(failed)?;
        let bits = Header::cluster_bits(&start)?;
        let mut cluster = vec![0; 1 << bits];
        self.read(0, &mut cluster).map_err(failed)?;
        let header = Header::parse(&cluster)?;
        header.check()?;
        let geometry = Geometry::of(&header);
        Ok((header, geometry))
    }

    /// Writes those fields of the header that say where tables are and what is wrong, at once.
    pub fn write_header(&self, header: &Header) -> io::Result<()> {
        let bytes = header.to_bytes().map_err(|_| eio())?;
        // All of them are in the first sector, which is written as a whole or not at all.
        let mut sector = vec![0; SECTOR as usize];
        self.read(0, &mut sector)?;
        let fields = if header.version >= 3 { 36..96 } else { 36..72 };
        let from = bytes.get(fields.clone()).ok_or_else(eio)?;
        let into = sector.get_mut(fields).ok_or_else(eio)?;
        into.copy_from_slice(from);
        if let (Some(from), Some(into)) = (bytes.get(24..32), sector.get_mut(24..32)) {
            into.copy_from_slice(from);
        }
        self.write(0, &sector)
    }
}

/// The sectors around a range.
fn sectors(offset: u64, len: u64) -> (u64, u64) {
    let start = offset - offset % SECTOR;
    let end = offset.saturating_add(len).checked_next_multiple_of(SECTOR);
    (start, end.unwrap_or(u64::MAX / SECTOR * SECTOR))
}
