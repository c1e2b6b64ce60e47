//! L1 and L2 tables: bringing pieces into memory, making tables.

use std::io;

use super::Qcow2;
use super::alloc::Work;
use super::geometry::{COPIED, L1_RESERVED, OFFSET};
use super::io::{be64, eio};
use super::meta::{Found, Why};
use crate::filter::Event;

/// An L2 entry that is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loaded {
    /// There is no table for it.
    NoTable,
    Here {
        slot: usize,
        place: usize,
    },
}

impl Qcow2 {
    /// Brings the L2 entry for `guest` into memory, where it stays until `work` is let go.
    ///
    /// # Errors
    /// The host's; EIO for damage.
    pub(super) fn load(&self, work: &mut Work, guest: u64) -> io::Result<Loaded> {
        self.clean_caches(work);
        loop {
            let (found, stuck) = {
                let mut meta = self.meta();
                let found = meta.find(guest, &self.geometry, self.l2_slice);
                (found, meta.l2.is_stuck())
            };
            match found {
                Found::NoTable => return Ok(Loaded::NoTable),
                Found::Bad => return Err(self.bad_l1(guest)),
                Found::Here { slot, place } => return Ok(Loaded::Here { slot, place }),
                Found::NotLoaded(offset) if self.is_outside(offset) => {
                    let text = format!("L2 table offset {offset:#x} outside of the file");
                    return Err(self.corrupt(text, None));
                }
                Found::NotLoaded(_) if stuck => self.write_back(work)?,
                Found::NotLoaded(offset) => {
                    let mut data = vec![0; self.l2_slice as usize].into_boxed_slice();
                    self.storage.event(Event::L2Load);
                    self.read_meta(offset, &mut data)?;
                    let suspect = self.is_suspect(work, &data);
                    let mut meta = self.meta();
                    let slot = meta.l2.insert(offset, data);
                    if suspect {
                        meta.l2.set_suspect(slot);
                    }
                }
            }
        }
    }

    fn bad_l1(&self, guest: u64) -> io::Error {
        let index = self.geometry.l1_index(guest);
        let word = {
            let meta = self.meta();
            let place = usize::try_from(index).unwrap_or(usize::MAX);
            meta.l1.get(place).copied().unwrap_or(0)
        };
        let text = format!(
            "L2 table offset {:#x} unaligned (L1 index: {index:#x})",
            word & OFFSET
        );
        self.corrupt(text, None)
    }

    /// Whether entries of a piece make no sense, or lead to where tables are.
    fn is_suspect(&self, work: &Work, data: &[u8]) -> bool {
        let bytes = 1usize << self.geometry.entry_bits();
        let check = self.checks_overlap();
        data.chunks_exact(bytes).any(|chunk| {
            let entry = super::geometry::Entry {
                word: be64(chunk, 0),
                bitmap: be64(chunk, 8),
            };
            let host = entry
                .host(&self.geometry)
                .filter(|_| !self.geometry.external);
            let cluster = host.map(|host| host >> self.geometry.cluster_bits);
            let overlaps = cluster.is_some_and(|cluster| work.metadata.contains(&cluster));
            !entry.is_sound(&self.geometry) || (check && overlaps)
        })
    }

    pub(super) fn checks_overlap(&self) -> bool {
        self.options.overlap_check != Some(crate::graph::OverlapCheck::None)
    }

    /// Brings the L2 entry for `guest` into memory, in a table that may be changed; it is made, or
    /// copied from one that snapshots use, where it must be.
    ///
    /// # Errors
    /// The host's; EIO for damage.
    pub(super) fn load_for_write(&self, work: &mut Work, guest: u64) -> io::Result<(usize, usize)> {
        let index = self.geometry.l1_index(guest);
        let word = {
            let meta = self.meta();
            let place = usize::try_from(index).map_err(|_| eio())?;
            meta.l1.get(place).copied().ok_or_else(eio)?
        };
        let table = word & OFFSET;
        if word & L1_RESERVED != 0 || self.geometry.inside(table) != 0 {
            return Err(self.bad_l1(guest));
        }
        if table == 0 {
            self.new_table(work, index)?;
        } else if word & COPIED == 0 {
            self.copy_table(work, index, table)?;
        }
        match self.load(work, guest)? {
            Loaded::Here { slot, place } => Ok((slot, place)),
            Loaded::NoTable => Err(eio()),
        }
    }

    fn new_table(&self, work: &mut Work, index: u64) -> io::Result<()> {
        self.storage.event(Event::L2AllocWrite);
        // Full of zeroes: nothing is allocated.
        let table = self.reserved_cluster(work)?;
        let cluster = self.geometry.cluster();
        self.note_table(work, table, cluster);
        let mut meta = self.meta();
        meta.l2.forget(table, cluster);
        meta.set_l1(index, table | COPIED);
        Ok(())
    }

    fn copy_table(&self, work: &mut Work, index: u64, old: u64) -> io::Result<()> {
        let cluster = self.geometry.cluster();
        let mut bytes = vec![0; cluster as usize];
        self.storage.event(Event::L2AllocCowRead);
        self.read_meta(old, &mut bytes)?;
        let table = self.reserved_cluster(work)?;
        self.storage.event(Event::L2AllocWrite);
        if let Err(error) = self.write_meta(table, &bytes) {
            self.meta().free(table, cluster, Why::Other);
            return Err(error);
        }
        self.note_table(work, table, cluster);
        self.forget_table(work, old, cluster);
        let mut meta = self.meta();
        meta.unsynced = true;
        meta.l2.forget(table, cluster);
        meta.set_l1(index, table | COPIED);
        meta.free(old, cluster, Why::Other);
        Ok(())
    }

    /// Reads a table of numbers, such as an L1 table.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn read_table(&self, offset: u64, entries: u64) -> io::Result<Vec<u64>> {
        let len = entries.checked_mul(8).ok_or_else(eio)?;
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| eio())?];
        self.read_meta(offset, &mut bytes)?;
        let words = bytes.chunks_exact(8).map(|chunk| be64(chunk, 0));
        Ok(words.collect())
    }
}
