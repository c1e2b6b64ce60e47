//! Discards and zeroes, on a thread that may block.

use std::io;

use super::Qcow2;
use super::geometry::{Entry, Stored};
use super::io::{eio, memory};
use super::meta::{Meta, Pending, Why};
use crate::buffers::Buffers;
use crate::request::{Durability, Op, Unmap};

/// What becomes of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// It reads as zeroes.
    Zero(Unmap),
    /// The guest has no use for it.
    Discard,
    /// There is nothing in it any more: the backing file's bytes may show.
    Drop,
}

/// What was done with a cluster.
enum Outcome {
    Done,
    /// Another request has it for itself.
    Wait,
    /// The table cannot say it: zeroes have to be written.
    Write,
    /// Its bytes below are of no use any more, but its place stays.
    Pass(u64),
}

/// Ranges that were given up and not given back yet, before they are.
const MANY_FREES: usize = 4096;

impl Qcow2 {
    pub(super) fn write_zeroes(
        &self,
        offset: u64,
        len: u64,
        unmap: Unmap,
        durability: Durability,
    ) -> io::Result<()> {
        self.prepare_to_write()?;
        let end = offset.checked_add(len).ok_or_else(eio)?;
        if self.is_data_file_raw() {
            self.zero_below(&self.data, offset, len, unmap)?;
        }
        let cluster = self.geometry.cluster();
        // The disk's last cluster is whole where the disk ends in it.
        let last = match end == self.size() {
            true => end.next_multiple_of(cluster),
            false => self.geometry.start(end),
        };
        let first = offset.next_multiple_of(cluster);
        if first >= last {
            // All in one cluster, or parts of two.
            let middle = first.min(end);
            self.zero_part(offset, middle)?;
            self.zero_part(middle, end)?;
        } else {
            self.zero_part(offset, first)?;
            self.change_clusters(first, last, Wish::Zero(unmap))?;
            self.zero_part(last.min(end), end)?;
        }
        match durability {
            Durability::Durable => self.flush(),
            Durability::Cached => Ok(()),
        }
    }

    pub(super) fn is_data_file_raw(&self) -> bool {
        self.geometry.external && self.header().is_data_file_raw()
    }

    /// Writes zeroes to a part of one cluster, where there are none yet.
    fn zero_part(&self, start: u64, end: u64) -> io::Result<()> {
        let mut at = start;
        while at < end {
            let look = self.look(at)?;
            let (stored, run) = look.entry.at(at, &self.geometry);
            let run = run.min(end - at);
            let zero = match stored {
                Stored::Zero => true,
                Stored::Unallocated => self.backing_size() <= at,
                Stored::Data(_) | Stored::Compressed => false,
                Stored::Bad => return Err(self.bad_entry(look.entry, at)),
            };
            // Not known as data yet, but soon, of a request that is on its way: that one has the
            // same right to be last.
            if !zero {
                self.write(at, &memory(run)?, Durability::Cached)?;
            }
            at += run;
        }
        Ok(())
    }

    pub(super) fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.prepare_to_write()?;
        let end = offset.checked_add(len).ok_or_else(eio)?;
        let cluster = self.geometry.cluster();
        let last = match end == self.size() {
            true => end.next_multiple_of(cluster),
            false => self.geometry.start(end),
        };
        let first = offset.next_multiple_of(cluster);
        if first >= last {
            return Ok(());
        }
        if self.is_data_file_raw() {
            let len = last.min(self.size()).saturating_sub(first);
            return self.zero_below(&self.data, first, len, Unmap::May);
        }
        self.change_clusters(first, last, Wish::Discard)
    }

    /// Changes all clusters from `first` to `end`.
    pub(super) fn change_clusters(&self, first: u64, end: u64, wish: Wish) -> io::Result<()> {
        let geometry = self.geometry;
        let span = 1u64 << geometry.l1_shift();
        let mut at = first;
        while at < end {
            if self.is_broken() {
                return Err(eio());
            }
            if let Some(next) = self.skip_table(at, wish)? {
                at = next;
                continue;
            }
            let stop = end.min(at.saturating_add(span - (at & (span - 1))));
            at = self.change_in_table(at, stop, wish)?;
            let many = self.meta().frees.gathering.len() > MANY_FREES;
            if many {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Where there is no table and none is needed: the next one's first byte.
    fn skip_table(&self, at: u64, wish: Wish) -> io::Result<Option<u64>> {
        let geometry = &self.geometry;
        let index = usize::try_from(geometry.l1_index(at)).map_err(|_| eio())?;
        let word = self.meta().l1.get(index).copied().unwrap_or(0);
        let needed = match wish {
            Wish::Zero(_) => self.backing_size() > at,
            Wish::Discard | Wish::Drop => false,
        };
        if word != 0 || needed {
            return Ok(None);
        }
        let span = 1u64 << geometry.l1_shift();
        Ok(Some((at | (span - 1)).saturating_add(1)))
    }

    /// Changes clusters of one table; gives where it stopped.
    fn change_in_table(&self, first: u64, end: u64, wish: Wish) -> io::Result<u64> {
        let geometry = &self.geometry;
        let mut at = first;
        while at < end {
            let outcome = {
                let mut work = self.work();
                let (slot, place) = self.load_for_write(&mut work, at)?;
                let mut meta = self.meta();
                let entry = meta.entry(slot, place, geometry);
                let misplaced = entry.host(geometry).filter(|host| {
                    work.metadata.contains(&(host >> geometry.cluster_bits)) && !geometry.external
                });
                if !entry.is_sound(geometry) || misplaced.is_some() {
                    drop(meta);
                    return Err(self.bad_entry(entry, at));
                }
                self.change_cluster(&mut meta, at, slot, place, entry, wish)
            };
            match outcome {
                Outcome::Wait => {
                    self.wait_for(at);
                    continue;
                }
                Outcome::Done => {}
                Outcome::Write => {
                    // Behind the disk's end, too: it may be growing.
                    let zeroes = memory(geometry.cluster())?;
                    self.write(at, &zeroes, Durability::Cached)?;
                }
                Outcome::Pass(host) => {
                    let op = Op::Discard {
                        offset: host,
                        len: geometry.cluster(),
                    };
                    if self.passes(Why::Request) {
                        self.data.perform(op, &Buffers::new())?;
                    }
                }
            }
            at += geometry.cluster();
        }
        Ok(at)
    }

    fn change_cluster(
        &self,
        meta: &mut Meta,
        guest: u64,
        slot: usize,
        place: usize,
        entry: Entry,
        wish: Wish,
    ) -> Outcome {
        let geometry = &self.geometry;
        if let Some(Pending::Alone) = meta.pending.get(&guest) {
            return Outcome::Wait;
        }
        let bare = self.backing_size() <= guest;
        let host = entry.host(geometry).filter(|_| entry.is_copied());
        let v3 = geometry.version >= 3;
        let blank = entry == Entry::default();
        let nothing = entry.host(geometry).is_none() && !entry.is_compressed();
        let raw = geometry.external && self.header().is_data_file_raw();
        let (new, keeps) = match (wish, host) {
            (Wish::Drop, _) => (Entry::default(), false),
            _ if raw => (entry, true),
            (Wish::Discard, _) if nothing => (entry, true),
            (Wish::Zero(_), _) if blank && bare => (entry, true),
            (Wish::Zero(Unmap::Keep), Some(host)) if v3 => {
                (Entry::zero(Some(host), geometry), true)
            }
            (Wish::Zero(Unmap::Keep), Some(_)) => return Outcome::Write,
            (Wish::Discard, Some(host)) if v3 && self.keeps_place() => {
                (Entry::zero(Some(host), geometry), true)
            }
            (Wish::Zero(_) | Wish::Discard, _) if v3 => (Entry::zero(None, geometry), false),
            (Wish::Zero(_) | Wish::Discard, _) if bare => (Entry::default(), false),
            (Wish::Zero(_), _) => return Outcome::Write,
            // The backing file's bytes would show.
            (Wish::Discard, _) => (entry, true),
        };
        if !keeps {
            meta.revoke(guest, geometry);
            meta.free_entry(&entry, geometry, Why::Request);
        } else if new != entry {
            meta.revoke(guest, geometry);
        }
        if new != entry {
            meta.set_entry(slot, place, new, geometry);
        }
        match (wish, host) {
            (Wish::Discard, Some(host)) if keeps && new != entry => Outcome::Pass(host),
            (Wish::Discard, Some(host)) if geometry.external && !keeps => Outcome::Pass(host),
            _ => Outcome::Done,
        }
    }

    fn keeps_place(&self) -> bool {
        self.options.discard_no_unref.unwrap_or(false)
    }
}
