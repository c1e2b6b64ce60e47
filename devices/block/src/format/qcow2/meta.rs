//! What requests look at: tables in memory, clusters on their way.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::Qcow2;
use super::cache::{Cache, Map, Set};
use super::geometry::{Entry, Geometry, OFFSET};
use super::io::{be64, put64};

/// Kept by whoever reads or writes clusters: what is given back meanwhile is not used again
/// before this is let go.
pub(super) type Generation = Arc<()>;

/// Kept for a request on its way.
#[derive(Debug)]
pub(in crate::format) struct Keep {
    pub(super) _generation: Generation,
    pub(super) allocs: Allocs,
}

/// The clusters that a request brings into being.
#[derive(Debug)]
pub(super) enum Allocs {
    None,
    One(Alloc),
    Many(Vec<Alloc>),
}

impl Allocs {
    pub fn push(&mut self, alloc: Alloc) {
        match self {
            Allocs::None => *self = Allocs::One(alloc),
            Allocs::One(first) => *self = Allocs::Many(vec![*first, alloc]),
            Allocs::Many(all) => all.push(alloc),
        }
    }

    pub fn as_slice(&self) -> &[Alloc] {
        match self {
            Allocs::None => &[],
            Allocs::One(alloc) => std::slice::from_ref(alloc),
            Allocs::Many(all) => all,
        }
    }
}

/// A request's part in a new cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alloc {
    /// The guest's cluster, by its first byte.
    pub guest: u64,
    /// Its place.
    pub host: u64,
    /// Subclusters that the request writes.
    pub mask: u32,
}

/// A guest cluster that is getting a new place.
#[derive(Debug)]
pub(super) enum Pending {
    /// A cluster of zeroes, which requests write their own bytes to. The first one that succeeds
    /// enters it into the table.
    Shared {
        host: u64,
        /// Requests under way.
        users: u32,
        /// It is in the table.
        linked: bool,
        /// The piece of the table, which stays in memory.
        slot: usize,
    },
    /// One request, on a thread that may block, has it for itself.
    Alone,
}

/// Why clusters were given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The guest has no use for them.
    Request,
    /// A snapshot was deleted.
    Snapshot,
    /// Anything else.
    Other,
}

/// Bytes of the storage whose clusters are used once less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Freed {
    pub offset: u64,
    pub len: u64,
    pub why: Why,
}

/// What was given back and cannot be used again yet.
#[derive(Debug, Default)]
pub(super) struct Frees {
    /// The file may still lead there.
    pub gathering: Vec<Freed>,
    /// The file does not lead there any more; requests that were planned before may still be
    /// under way.
    pub waiting: VecDeque<(Generation, Vec<Freed>)>,
}

impl Frees {
    /// Bytes that the file may still lead to.
    pub fn gathered(&self) -> u64 {
        self.gathering.iter().map(|freed| freed.len).sum()
    }
}

/// Most clusters of which it is known that they are new.
const MOST_FRESH: usize = 4096;

/// The state that requests look at.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) l1: Vec<u64>,
    pub(super) l1_offset: u64,
    /// Sectors of the L1 table that have to be written.
    pub(super) l1_dirty: BTreeSet<u64>,
    pub(super) l2: Cache,
    pub(super) pending: Map<Pending>,
    /// Places of new clusters with subclusters, by their guest clusters: what is not data in them
    /// yet are zeroes below, too.
    pub(super) fresh: Map<u64>,
    /// New clusters, as ranges of the storage: counted as used, and full of zeroes.
    pub(super) reserve: VecDeque<(u64, u64)>,
    /// The reserve is filled up again when it is down to so many bytes.
    pub(super) low: u64,
    /// A request is on its way that fills it up; the others go on with what is left.
    pub(super) refilling: bool,
    pub(super) frees: Frees,
    pub(super) generation: Generation,
    /// What was written has to be durable before tables lead to it.
    pub(super) unsynced: bool,
    /// Tables were written and are not durable yet.
    pub(super) loose: bool,
    /// Refcounts have to be written.
    pub(super) refs_dirty: bool,
    /// What has to be done before the first write has been done.
    pub(super) prepared: bool,
    /// Where data ends below; nothing beyond it is written or read without a look.
    pub(super) data_end: u64,
    /// Clusters that have become tables since the image was opened: entries that were looked at
    /// before may lead there, if refcounts are wrong.
    pub(super) new_tables: Set,
    /// Used by `plan` for what it is about to do.
    pub(super) scratch: Vec<(Alloc, usize, bool)>,
    /// Names and granularities of bitmaps in the image.
    pub(super) bitmaps: Vec<(String, u64)>,
}

/// Where an L2 entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// There is no table for it: nothing is allocated.
    NoTable,
    /// Its piece of the table is not in memory; this is where it is in the file.
    NotLoaded(u64),
    /// The L1 entry makes no sense.
    Bad,
    Here {
        slot: usize,
        /// In the piece, in bytes.
        place: usize,
    },
}

impl Meta {
    /// Finds the entry of the cluster at `guest`.
    pub fn find(&mut self, guest: u64, geometry: &Geometry, slice: u64) -> Found {
        let index = usize::try_from(geometry.l1_index(guest)).unwrap_or(usize::MAX);
        let word = self.l1.get(index).copied().unwrap_or(0);
        let table = word & OFFSET;
        if word & super::geometry::L1_RESERVED != 0 || geometry.inside(table) != 0 {
            return Found::Bad;
        }
        if table == 0 {
            return Found::NoTable;
        }
        let place = geometry.l2_place(guest);
        let offset = table.saturating_add(place & !(slice - 1));
        match self.l2.find(offset) {
            Some(slot) => Found::Here {
                slot,
                place: (place & (slice - 1)) as usize,
            },
            None => Found::NotLoaded(offset),
        }
    }

    pub fn entry(&self, slot: usize, place: usize, geometry: &Geometry) -> Entry {
        let bytes = self.l2.data(slot);
        Entry {
            word: be64(bytes, place),
            bitmap: match geometry.extended {
                true => be64(bytes, place.saturating_add(8)),
                false => 0,
            },
        }
    }

    pub fn set_entry(&mut self, slot: usize, place: usize, entry: Entry, geometry: &Geometry) {
        let bytes = self.l2.data_mut(slot);
        put64(bytes, place, entry.word);
        if geometry.extended {
            put64(bytes, place.saturating_add(8), entry.bitmap);
        }
    }

    /// Sets an L1 entry.
    pub fn set_l1(&mut self, index: u64, word: u64) {
        let place = usize::try_from(index).ok();
        if let Some(entry) = place.and_then(|index| self.l1.get_mut(index)) {
            *entry = word;
            self.l1_dirty.insert(index / 64);
        }
    }

    /// Takes a cluster out of the reserve.
    pub fn take_reserved(&mut self, cluster: u64) -> Option<u64> {
        let (start, end) = self.reserve.front_mut()?;
        let host = *start;
        *start = start.saturating_add(cluster);
        if *start >= *end {
            self.reserve.pop_front();
        }
        Some(host)
    }

    /// The cluster that is taken out of the reserve after `ahead` others.
    pub fn peek_reserved(&self, ahead: usize, cluster: u64) -> Option<u64> {
        let mut skip = (ahead as u64).checked_mul(cluster)?;
        for (start, end) in &self.reserve {
            let len = end.saturating_sub(*start);
            if skip < len {
                return start.checked_add(skip);
            }
            skip -= len;
        }
        None
    }

    /// Whether the one who is about to take so many clusters should see to the reserve; the
    /// others need not.
    pub fn runs_low(&mut self, taken: u64, cluster: u64) -> bool {
        let ranges = self.reserve.iter();
        let left: u64 = ranges.map(|(start, end)| end.saturating_sub(*start)).sum();
        let low = left.saturating_sub(taken.saturating_mul(cluster)) < self.low;
        let first = low && !self.refilling;
        self.refilling |= low;
        first
    }

    /// Whether snapshots use the table for `guest`, too, so that it may not be changed.
    pub fn is_table_shared(&self, guest: u64, geometry: &Geometry) -> bool {
        let index = usize::try_from(geometry.l1_index(guest)).unwrap_or(usize::MAX);
        let word = self.l1.get(index).copied().unwrap_or(0);
        word & super::geometry::COPIED == 0
    }

    /// Whether a flush has anything of its own to do.
    pub fn is_dirty(&self) -> bool {
        self.loose || self.l2.is_dirty() || self.refs_dirty || !self.l1_dirty.is_empty()
    }

    /// Gives back bytes of the storage once the file does not lead there any more.
    pub fn free(&mut self, offset: u64, len: u64, why: Why) {
        if let Some(last) = self.frees.gathering.last_mut()
            && last.why == why
            && last.offset.checked_add(last.len) == Some(offset)
        {
            last.len = last.len.saturating_add(len);
            return;
        }
        self.frees.gathering.push(Freed { offset, len, why });
    }

    /// Gives back what an entry led to.
    pub fn free_entry(&mut self, entry: &Entry, geometry: &Geometry, why: Why) {
        if geometry.external {
            return;
        }
        if entry.is_compressed() {
            let (offset, len) = geometry.compressed(entry.word);
            // Alone: its clusters are shared with its neighbours.
            self.frees.gathering.push(Freed { offset, len, why });
        } else if let Some(host) = entry.host(geometry) {
            self.free(host, geometry.cluster(), why);
        }
    }

    /// Ends one request's part in a new cluster.
    fn settle(&mut self, alloc: &Alloc, done: bool, geometry: &Geometry, slice: u64) {
        let Some(Pending::Shared {
            host,
            users,
            linked,
            slot,
        }) = self.pending.get_mut(&alloc.guest)
        else {
            return;
        };
        if *host != alloc.host {
            return;
        }
        *users = users.saturating_sub(1);
        *linked |= done;
        let (left, is_linked, slot) = (*users, *linked, *slot);
        if !done {
            self.fresh.remove(&alloc.guest);
        }
        if done {
            let place = (geometry.l2_place(alloc.guest) & (slice - 1)) as usize;
            let entry = self.entry(slot, place, geometry);
            let entry = entry.linked(alloc.host, alloc.mask, geometry);
            self.set_entry(slot, place, entry, geometry);
        }
        if left == 0 {
            self.pending.remove(&alloc.guest);
            self.l2.unpin(slot);
            if !is_linked {
                self.free(alloc.host, geometry.cluster(), Why::Other);
            }
        }
    }

    /// Takes a new cluster away from the requests that write it: what they write is overwritten.
    pub fn revoke(&mut self, guest: u64, geometry: &Geometry) {
        self.fresh.remove(&guest);
        let shared = matches!(self.pending.get(&guest), Some(Pending::Shared { .. }));
        if !shared {
            return;
        }
        if let Some(Pending::Shared {
            host, linked, slot, ..
        }) = self.pending.remove(&guest)
        {
            self.l2.unpin(slot);
            if !linked {
                self.free(host, geometry.cluster(), Why::Other);
            }
        }
    }

    /// Notes that a request writes to a new cluster; `reserved` when it is the next one of the
    /// reserve.
    pub fn join(&mut self, alloc: &Alloc, slot: usize, reserved: bool, geometry: &Geometry) {
        if reserved {
            self.take_reserved(geometry.cluster());
            if geometry.extended {
                if self.fresh.len() >= MOST_FRESH {
                    self.fresh.clear();
                }
                self.fresh.insert(alloc.guest, alloc.host);
            }
        }
        if let Some(Pending::Shared { users, .. }) = self.pending.get_mut(&alloc.guest) {
            *users = users.saturating_add(1);
            return;
        }
        self.l2.pin(slot);
        let pending = Pending::Shared {
            host: alloc.host,
            users: 1,
            // One that is not from the reserve is in the table already.
            linked: !reserved,
            slot,
        };
        self.pending.insert(alloc.guest, pending);
    }
}

impl Qcow2 {
    /// Ends a request's part in new clusters.
    pub(super) fn settle(&self, keep: &Keep, done: bool) {
        let allocs = keep.allocs.as_slice();
        if allocs.is_empty() {
            return;
        }
        let mut meta = self.meta();
        for alloc in allocs {
            meta.settle(alloc, done, &self.geometry, self.l2_slice);
        }
    }
}
