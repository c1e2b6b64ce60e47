//! Where a request goes, from what is in memory.

use std::sync::Arc;

use super::Qcow2;
use super::geometry::Stored;
use super::meta::{Alloc, Allocs, Found, Keep, Meta, Pending};
use crate::buffers::Buffers;
use crate::format::{Below, Piece, Plan, What};
use crate::node::SECTOR;
use crate::request::{Durability, Op};

/// Pieces of a request, at most; more are not worth it.
const MOST_PIECES: usize = 64;

impl Qcow2 {
    pub(super) fn plan_request(
        &self,
        op: Op,
        buffers: &Buffers,
        pieces: &mut Vec<Piece>,
    ) -> Plan<Keep> {
        let planned = match op {
            Op::Read { offset } => self.plan_read(offset, buffers.len(), pieces),
            Op::Write { offset, durability } => {
                self.plan_write(offset, buffers.len(), durability, pieces)
            }
            Op::Flush => self.plan_flush(pieces),
            Op::Discard { .. } | Op::WriteZeroes { .. } => None,
        };
        match planned {
            Some(keep) => Plan::Pieces(keep),
            None => Plan::Slow,
        }
    }

    fn keep(meta: &Meta, allocs: Allocs) -> Keep {
        Keep {
            _generation: Arc::clone(&meta.generation),
            allocs,
        }
    }

    fn plan_flush(&self, pieces: &mut Vec<Piece>) -> Option<Keep> {
        let meta = self.meta();
        if meta.is_dirty() {
            return None;
        }
        let mut flush = |below| {
            pieces.push(Piece {
                at: 0,
                len: 0,
                what: What::Below(below, Op::Flush),
            });
        };
        if self.geometry.external {
            flush(Below::Storage);
        }
        flush(Below::Data);
        Some(Self::keep(&meta, Allocs::None))
    }

    fn plan_read(&self, offset: u64, len: u64, pieces: &mut Vec<Piece>) -> Option<Keep> {
        if !(offset | len).is_multiple_of(SECTOR) || self.is_stale() {
            return None;
        }
        let mut meta = self.meta();
        let mut at = 0u64;
        while at < len {
            let guest = offset.checked_add(at)?;
            let (stored, run) = self.stored_at(&mut meta, guest)?;
            let run = run.min(len - at);
            self.push_read(meta.data_end, guest, at, run, stored, pieces)?;
            at += run;
        }
        Some(Self::keep(&meta, Allocs::None))
    }

    /// How the bytes at `guest` are stored, and how many from there on at least.
    fn stored_at(&self, meta: &mut Meta, guest: u64) -> Option<(Stored, u64)> {
        let geometry = &self.geometry;
        match meta.find(guest, geometry, self.l2_slice) {
            Found::NoTable => {
                let span = 1u64 << geometry.l1_shift();
                Some((Stored::Unallocated, span - (guest & (span - 1))))
            }
            Found::NotLoaded(_) | Found::Bad => None,
            Found::Here { slot, place } => {
                Some(meta.entry(slot, place, geometry).at(guest, geometry))
            }
        }
    }

    fn push_read(
        &self,
        data_end: u64,
        guest: u64,
        at: u64,
        len: u64,
        stored: Stored,
        pieces: &mut Vec<Piece>,
    ) -> Option<()> {
        match stored {
            Stored::Zero => push(pieces, at, len, What::Zeroes),
            Stored::Data(host) => {
                let offset = host.checked_add(self.geometry.inside(guest))?;
                if offset.checked_add(len)? > data_end {
                    return None;
                }
                push(
                    pieces,
                    at,
                    len,
                    What::Below(Below::Data, Op::Read { offset }),
                )
            }
            Stored::Unallocated => {
                let there = self.backing_size().saturating_sub(guest).min(len);
                if there > 0 {
                    let op = Op::Read { offset: guest };
                    push(pieces, at, there, What::Below(Below::Backing, op))?;
                }
                if there < len {
                    push(pieces, at + there, len - there, What::Zeroes)?;
                }
                Some(())
            }
            Stored::Compressed | Stored::Bad => None,
        }
    }

    fn plan_write(
        &self,
        offset: u64,
        len: u64,
        durability: Durability,
        pieces: &mut Vec<Piece>,
    ) -> Option<Keep> {
        if !(offset | len).is_multiple_of(SECTOR) || self.is_broken() {
            return None;
        }
        let mut meta = self.meta();
        // A durable write is of no use while the table does not lead to it for sure.
        if !meta.prepared || (durability == Durability::Durable && meta.is_dirty()) {
            return None;
        }
        let mut allocs = std::mem::take(&mut meta.scratch);
        allocs.clear();
        let planned = self.plan_clusters(&mut meta, offset, len, durability, pieces, &mut allocs);
        let taken = allocs.iter().filter(|(_, _, reserved)| *reserved).count() as u64;
        let goes_on = taken == 0 || !meta.runs_low(taken, self.geometry.cluster());
        let keep = planned.filter(|()| goes_on).map(|()| {
            let mut list = Allocs::None;
            for (alloc, slot, reserved) in &allocs {
                meta.join(alloc, *slot, *reserved, &self.geometry);
                list.push(*alloc);
            }
            Self::keep(&meta, list)
        });
        meta.scratch = allocs;
        keep
    }

    /// Plans a write, without doing anything of it.
    fn plan_clusters(
        &self,
        meta: &mut Meta,
        offset: u64,
        len: u64,
        durability: Durability,
        pieces: &mut Vec<Piece>,
        allocs: &mut Vec<(Alloc, usize, bool)>,
    ) -> Option<()> {
        let geometry = &self.geometry;
        let mut taken = 0;
        let mut at = 0u64;
        while at < len {
            let guest = offset.checked_add(at)?;
            let run = (geometry.cluster() - geometry.inside(guest)).min(len - at);
            let (host, new) = self.place_of(meta, guest, run, taken)?;
            if let Some((slot, fresh)) = new {
                if durability == Durability::Durable {
                    return None;
                }
                taken += usize::from(fresh);
                let alloc = Alloc {
                    guest: geometry.start(guest),
                    host,
                    mask: geometry.mask(guest, run),
                };
                allocs.push((alloc, slot, fresh));
            }
            let offset = host.checked_add(geometry.inside(guest))?;
            if offset.checked_add(run)? > meta.data_end {
                return None;
            }
            let op = Op::Write { offset, durability };
            push(pieces, at, run, What::Below(Below::Data, op))?;
            at += run;
        }
        Some(())
    }

    /// Where bytes of one cluster are written: the place of the cluster, and for a new one the
    /// piece of its table and whether it comes out of the reserve, of which `taken` are gone
    /// already. `None` for what needs more than that.
    pub(super) fn place_of(
        &self,
        meta: &mut Meta,
        guest: u64,
        len: u64,
        taken: usize,
    ) -> Option<(u64, Option<(usize, bool)>)> {
        let geometry = &self.geometry;
        let Found::Here { slot, place } = meta.find(guest, geometry, self.l2_slice) else {
            return None;
        };
        if meta.l2.is_suspect(slot) {
            return None;
        }
        let mask = geometry.mask(guest, len);
        match meta.pending.get(&geometry.start(guest)) {
            Some(Pending::Alone) => return None,
            Some(Pending::Shared { host, slot, .. }) => return Some((*host, Some((*slot, false)))),
            None => {}
        }
        if meta.is_table_shared(guest, geometry) {
            return None;
        }
        let entry = meta.entry(slot, place, geometry);
        if entry.is_copied() && entry.is_sound(geometry) {
            let host = entry.host(geometry)?;
            let whole = match geometry.extended {
                true => entry.allocated() & mask == mask,
                false => entry.word & super::geometry::ZERO == 0,
            };
            if !whole {
                let start = geometry.start(guest);
                let bare = self.backing_size() <= start;
                let zero = bare || (entry.allocated() | entry.zeroes()) & mask == mask;
                let fresh = meta.fresh.get(&start) == Some(&host);
                return (fresh && zero).then_some((host, Some((slot, false))));
            }
            let table = meta.new_tables.contains(&(host >> geometry.cluster_bits));
            return (!table || geometry.external).then_some((host, None));
        }
        let start = geometry.start(guest);
        let bare = geometry.external || self.backing_size() <= start;
        if geometry.external || !entry.is_sound(geometry) || !entry.is_blank(bare, geometry) {
            return None;
        }
        let host = meta.peek_reserved(taken, geometry.cluster())?;
        Some((host, Some((slot, true))))
    }
}

/// Appends a piece, or makes the last one longer where it goes on.
fn push(pieces: &mut Vec<Piece>, at: u64, len: u64, what: What) -> Option<()> {
    if let Some(last) = pieces.last_mut() {
        let next = match last.what {
            What::Zeroes => Some(What::Zeroes),
            What::Below(below, op) => op.shifted(last.len).map(|op| What::Below(below, op)),
        };
        if next == Some(what) {
            last.len = last.len.checked_add(len)?;
            return Some(());
        }
    }
    if pieces.len() >= MOST_PIECES {
        return None;
    }
    pieces.push(Piece { at, len, what });
    Some(())
}
