//! Whole reads on a thread that may block.

use std::io;

use super::Qcow2;
use super::geometry::{Entry, Stored};
use super::io::{eio, memory, read as read_below};
use super::meta::{Found, Generation};
use super::tables::Loaded;
use crate::buffers::Buffers;
use crate::node::{Extent, ExtentKind};

/// What is known of a cluster.
#[derive(Debug)]
pub(super) struct Look {
    pub entry: Entry,
    /// Bytes from the offset that was asked for for which it holds; to the end of the cluster, or
    /// of all that a missing table would describe.
    pub len: u64,
    /// What the entry leads to stays while this is kept.
    pub _generation: Generation,
}

impl Qcow2 {
    /// Looks up the L2 entry for `guest`.
    ///
    /// # Errors
    /// The host's; EIO for damage.
    pub(super) fn look(&self, guest: u64) -> io::Result<Look> {
        if self.is_stale() {
            return Err(eio());
        }
        let geometry = &self.geometry;
        let mut meta = self.meta();
        if let Found::NotLoaded(_) | Found::Bad = meta.find(guest, geometry, self.l2_slice) {
            drop(meta);
            let mut work = self.work();
            let loaded = self.load(&mut work, guest)?;
            meta = self.meta();
            return Ok(self.looked(&meta, guest, loaded));
        }
        let loaded = match meta.find(guest, geometry, self.l2_slice) {
            Found::Here { slot, place } => Loaded::Here { slot, place },
            Found::NoTable | Found::NotLoaded(_) | Found::Bad => Loaded::NoTable,
        };
        Ok(self.looked(&meta, guest, loaded))
    }

    fn looked(&self, meta: &super::meta::Meta, guest: u64, loaded: Loaded) -> Look {
        let geometry = &self.geometry;
        let (entry, bits) = match loaded {
            Loaded::NoTable => (Entry::default(), geometry.l1_shift()),
            Loaded::Here { slot, place } => {
                (meta.entry(slot, place, geometry), geometry.cluster_bits)
            }
        };
        let span = 1u64 << bits;
        Look {
            entry,
            len: span - (guest & (span - 1)),
            _generation: meta.generation.clone(),
        }
    }

    pub(super) fn read(&self, offset: u64, buffers: &Buffers) -> io::Result<()> {
        let mut at = 0u64;
        while at < buffers.len() {
            let guest = offset.checked_add(at).ok_or_else(eio)?;
            let look = self.look(guest)?;
            let len = look.len.min(buffers.len() - at);
            self.read_entry(look.entry, guest, &buffers.slice(at, len))?;
            at += len;
        }
        Ok(())
    }

    /// Fills `buffers` with what an entry says of the bytes at `guest`. They are all in its
    /// cluster, unless nothing is allocated.
    pub(super) fn read_entry(&self, entry: Entry, guest: u64, buffers: &Buffers) -> io::Result<()> {
        if entry == Entry::default() {
            return self.read_backing(guest, buffers);
        }
        let mut at = 0u64;
        while at < buffers.len() {
            let here = guest.checked_add(at).ok_or_else(eio)?;
            let (stored, run) = entry.at(here, &self.geometry);
            let len = run.min(buffers.len() - at);
            let piece = buffers.slice(at, len);
            match stored {
                Stored::Zero => piece.zero_from(0),
                Stored::Unallocated => self.read_backing(here, &piece)?,
                Stored::Data(host) => {
                    let offset = host.checked_add(self.geometry.inside(here));
                    read_below(&self.data, offset.ok_or_else(eio)?, &piece)?;
                }
                Stored::Compressed => self.read_compressed(entry.word, here, &piece)?,
                Stored::Bad => return Err(self.bad_entry(entry, here)),
            }
            at += len;
        }
        Ok(())
    }

    /// Reports an entry that makes no sense.
    pub(super) fn bad_entry(&self, entry: Entry, guest: u64) -> io::Error {
        let cluster = self.geometry.start(guest);
        let text = format!(
            "Cluster allocation offset {:#x} invalid (guest offset: {cluster:#x})",
            entry.word
        );
        self.corrupt(text, None)
    }

    fn read_backing(&self, guest: u64, buffers: &Buffers) -> io::Result<()> {
        let there = self.backing_size().saturating_sub(guest);
        match &self.backing {
            Some(edge) if there > 0 => read_below(edge, guest, buffers),
            Some(_) | None => {
                buffers.zero_from(0);
                Ok(())
            }
        }
    }

    fn read_compressed(&self, word: u64, guest: u64, buffers: &Buffers) -> io::Result<()> {
        let (offset, len) = self.geometry.compressed(word);
        let mut packed = vec![0; usize::try_from(len).map_err(|_| eio())?];
        let below = memory(len)?;
        read_below(&self.data, offset, &below)?;
        below.read_at(0, &mut packed);
        let compression = self.header().compression;
        let size = self.geometry.cluster() as usize;
        let plain = super::compress::unpack(compression, &packed, size).ok_or_else(eio)?;
        let skip = self.geometry.inside(guest) as usize;
        let from = plain.get(skip..skip.saturating_add(buffers.len() as usize));
        buffers.write_at(0, from.ok_or_else(eio)?);
        Ok(())
    }

    pub(super) fn find_extent(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let mut found: Option<Extent> = None;
        let mut at = 0u64;
        while at < len {
            let guest = offset.checked_add(at).ok_or_else(eio)?;
            let look = self.look(guest)?;
            let (stored, run) = match look.entry == Entry::default() {
                true => (Stored::Unallocated, look.len),
                false => look.entry.at(guest, &self.geometry),
            };
            let kind = match stored {
                Stored::Unallocated => ExtentKind::Unallocated,
                Stored::Zero => ExtentKind::Zero,
                Stored::Data(_) | Stored::Compressed => ExtentKind::Data,
                Stored::Bad => return Err(self.bad_entry(look.entry, guest)),
            };
            match &mut found {
                Some(extent) if extent.kind != kind => break,
                Some(extent) => extent.len = extent.len.saturating_add(run),
                None => found = Some(Extent { len: run, kind }),
            }
            at = at.saturating_add(run);
        }
        let none = Extent {
            len: 0,
            kind: ExtentKind::Unallocated,
        };
        let mut extent = found.unwrap_or(none);
        extent.len = extent.len.min(len);
        Ok(extent)
    }
}
