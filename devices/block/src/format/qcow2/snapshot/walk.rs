//! What L1 tables lead to: looking at it, counting it, setting flags right.

use std::collections::HashSet;
use std::io;

use super::super::geometry::{COMPRESSED, COPIED, L1_RESERVED, OFFSET, ZERO};
use super::super::io::{be64, eio, put64};
use super::change::Change;

/// What an L2 entry leads to, in the file of the tables.
enum Leads {
    Nowhere,
    /// A cluster, whose flag is set or not.
    Cluster(u64),
    /// Bytes of compressed clusters.
    Bytes(u64, u64),
}

impl Change<'_> {
    fn leads(&self, word: u64) -> Leads {
        let host = word & OFFSET;
        if word & COMPRESSED != 0 {
            let (offset, len) = self.geometry.compressed(word);
            return Leads::Bytes(offset, len);
        }
        match host == 0 || self.geometry.external {
            true => Leads::Nowhere,
            false => Leads::Cluster(host),
        }
    }

    fn read_l2(&self, offset: u64) -> io::Result<Vec<u8>> {
        if self.geometry.inside(offset) != 0 {
            return Err(eio());
        }
        let mut table = vec![0; self.geometry.cluster() as usize];
        self.store.read(offset, &mut table)?;
        Ok(table)
    }

    /// Places and numbers of the entries that are not empty.
    fn entries(&self, table: &[u8]) -> Vec<(usize, u64)> {
        let bytes = 1usize << self.geometry.entry_bits();
        let places = (0..table.len()).step_by(bytes);
        let words = places.map(|at| (at, be64(table, at)));
        words.filter(|(_, word)| *word & !ZERO != 0).collect()
    }

    /// Refuses tables that lead to what is not counted as used: new versions of other tables may
    /// be written there. L2 tables in `seen` were looked at before.
    ///
    /// # Errors
    /// The host's; EIO for such tables.
    pub fn verify(&mut self, l1: &[u64], seen: &mut HashSet<u64>) -> io::Result<()> {
        for word in l1.iter().filter(|word| **word != 0) {
            let table = word & OFFSET;
            if word & L1_RESERVED != 0 || table == 0 {
                return Err(eio());
            }
            if !seen.insert(table) {
                continue;
            }
            self.is_used(table, self.geometry.cluster())?;
            let bytes = self.read_l2(table)?;
            for (_, word) in self.entries(&bytes) {
                match self.leads(word) {
                    Leads::Nowhere => {}
                    Leads::Cluster(host) if self.geometry.inside(host) != 0 => return Err(eio()),
                    Leads::Cluster(host) => self.is_used(host, 1)?,
                    Leads::Bytes(offset, len) => self.is_used(offset, len)?,
                }
            }
        }
        Ok(())
    }

    /// Refuses a range that is not counted as used.
    pub fn is_used(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let bits = self.geometry.cluster_bits;
        let last = offset.saturating_add(len.saturating_sub(1));
        for cluster in offset >> bits..=last >> bits {
            if self.was(cluster)? == 0 {
                return Err(eio());
            }
        }
        Ok(())
    }

    /// All that a table leads to is used once more, or once less.
    ///
    /// # Errors
    /// As [`Change::step`].
    pub fn step_all(&mut self, l1: &[u64], by: i64) -> io::Result<()> {
        for word in l1.iter().filter(|word| **word != 0) {
            let table = word & OFFSET;
            let bytes = self.read_l2(table)?;
            self.step(table, 1, by)?;
            for (_, word) in self.entries(&bytes) {
                match self.leads(word) {
                    Leads::Nowhere => {}
                    Leads::Cluster(host) => self.step(host, 1, by)?,
                    Leads::Bytes(offset, len) => self.step(offset, len, by)?,
                }
            }
        }
        Ok(())
    }

    /// Sets the flags of a table that becomes the active one; L2 tables whose flags change get
    /// new places. Whether anything changed.
    ///
    /// # Errors
    /// The host's.
    pub fn set_flags(&mut self, l1: &mut [u64]) -> io::Result<bool> {
        let mut changed = false;
        for word in l1.iter_mut().filter(|word| **word != 0) {
            let next = self.set_flags_of(*word & OFFSET)?;
            changed |= next != *word;
            *word = next;
        }
        Ok(changed)
    }

    /// The L1 entry for an L2 table with its flags set right.
    fn set_flags_of(&mut self, table: u64) -> io::Result<u64> {
        let bits = self.geometry.cluster_bits;
        let mut bytes = self.read_l2(table)?;
        let mut changed = false;
        for (at, word) in self.entries(&bytes) {
            let next = match self.leads(word) {
                Leads::Cluster(host) => match self.count(host >> bits)? {
                    1 => word | COPIED,
                    _ => word & !COPIED,
                },
                Leads::Bytes(..) => word & !COPIED,
                Leads::Nowhere => word,
            };
            if next != word {
                put64(&mut bytes, at, next);
                changed = true;
            }
        }
        if changed {
            let place = self.allocate(self.geometry.cluster())?;
            self.store.write(place, &bytes)?;
            self.step(table, 1, -1)?;
            return Ok(place | COPIED);
        }
        match self.count(table >> bits)? {
            1 => Ok(table | COPIED),
            _ => Ok(table),
        }
    }
}
