//! The tables in memory: the L1 table as far as the disk's size needs it, and pieces of L2
//! tables. Nothing here does I/O.

use std::collections::{BTreeSet, HashMap};

use super::header::Header;
use crate::format::fields::le64;

/// Entries of a piece: 4 KiB, which every table is a multiple of.
pub(super) const SLICE: u64 = 512;
pub(super) const SLICE_BYTES: u64 = SLICE * 8;
/// Most pieces in memory: 4 MiB.
const MOST: usize = 1024;
/// So many changed ones are written out; there are always others to give up.
const MOST_DIRTY: usize = 256;
/// An entry of a cluster of zeroes.
pub(super) const ZERO: u64 = 1;

/// What the tables say of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// In the backing file.
    Unallocated,
    /// All zeroes.
    Zero,
    /// At that byte of the file.
    Data(u64),
}

/// A run of bytes of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Bytes; not 0.
    pub len: u64,
    /// What its first byte is; the others follow, in the file as well.
    pub entry: Entry,
}

/// What is known without I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Run(Run),
    /// The piece with that number must be read first.
    NotLoaded(u64),
    /// The image makes no sense here.
    Damaged,
}

struct Piece {
    entries: Box<[u64]>,
    dirty: bool,
    used: u64,
}

pub(super) struct Tables {
    pub header: Header,
    /// Whole pieces, as far as the table goes.
    l1: Vec<u64>,
    dirty_l1: BTreeSet<usize>,
    pieces: HashMap<u64, Piece>,
    dirty: usize,
    clock: u64,
    /// Where the next cluster is made: the end of the file in whole clusters.
    pub end: u64,
}

impl Tables {
    pub fn new(header: Header, l1: Vec<u64>, end: u64) -> Self {
        Tables {
            header,
            l1,
            dirty_l1: BTreeSet::new(),
            pieces: HashMap::new(),
            dirty: 0,
            clock: 0,
            end,
        }
    }

    /// Whether something is not in the file yet.
    pub fn is_dirty(&self) -> bool {
        self.dirty > 0 || !self.dirty_l1.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.dirty >= MOST_DIRTY
    }

    /// Whether `len` bytes at `offset` may be something in this file.
    pub fn is_place(&self, offset: u64, len: u64) -> bool {
        let l1_end = self
            .header
            .l1_offset
            .saturating_add(self.header.table_bytes());
        let end = offset.saturating_add(len);
        offset.is_multiple_of(self.header.cluster())
            && offset >= self.header.header_end()
            && end <= self.end
            && (end <= self.header.l1_offset || offset >= l1_end)
    }

    /// Whether an entry for a cluster makes sense; what it says.
    fn entry(&self, value: u64) -> Option<Entry> {
        match value {
            0 => Some(Entry::Unallocated),
            ZERO => Some(Entry::Zero),
            at => self
                .is_place(at, self.header.cluster())
                .then_some(Entry::Data(at)),
        }
    }

    /// The L2 table for a cluster: `None` when there is none, `Some(None)` when there cannot be
    /// one there.
    fn l2(&self, cluster: u64) -> Option<Option<u64>> {
        let index = cluster.checked_div(self.header.entries())?;
        let at = *self.l1.get(usize::try_from(index).ok()?).unwrap_or(&0);
        if at == 0 {
            return None;
        }
        Some(self.is_place(at, self.header.table_bytes()).then_some(at))
    }

    /// Where a piece is in the file.
    pub fn piece_place(&self, number: u64) -> Option<u64> {
        let cluster = number.checked_mul(SLICE)?;
        let table = self.l2(cluster)??;
        let within = cluster.checked_rem(self.header.entries())?;
        table.checked_add(within.checked_mul(8)?)
    }

    /// The first of `len` bytes (not 0) from `offset` on, and how far it goes on like that.
    pub fn find(&mut self, offset: u64, len: u64) -> Found {
        let size = self.header.cluster();
        let end = offset.saturating_add(len);
        let mut run: Option<Run> = None;
        let mut at = offset;
        while at < end {
            let within = at % size;
            let (entry, covered) = match self.at(at / size) {
                Ok(found) => found,
                // What is known comes first.
                Err(other) => return run.map_or(other, Found::Run),
            };
            let entry = match entry {
                Entry::Data(place) => Entry::Data(place.saturating_add(within)),
                other => other,
            };
            let piece = covered.saturating_sub(within).min(end.saturating_sub(at));
            match &mut run {
                None => run = Some(Run { len: piece, entry }),
                Some(run) if follows(*run, entry) => run.len = run.len.saturating_add(piece),
                Some(_) => break,
            }
            at = at.saturating_add(piece.max(1));
        }
        run.map_or(Found::Damaged, Found::Run)
    }

    /// A cluster's entry, and how many bytes from the cluster's start on are so.
    fn at(&mut self, cluster: u64) -> Result<(Entry, u64), Found> {
        match self.l2(cluster) {
            None => {
                let within = cluster % self.header.entries().max(1);
                let left = self.header.entries().saturating_sub(within);
                let covered = left.saturating_mul(self.header.cluster());
                return Ok((Entry::Unallocated, covered));
            }
            Some(None) => return Err(Found::Damaged),
            Some(Some(_)) => {}
        }
        let number = cluster / SLICE;
        self.clock = self.clock.wrapping_add(1);
        let clock = self.clock;
        let piece = self.pieces.get_mut(&number);
        let piece = piece.ok_or(Found::NotLoaded(number))?;
        piece.used = clock;
        let value = piece.entries.get((cluster % SLICE) as usize);
        let value = *value.ok_or(Found::Damaged)?;
        let entry = self.entry(value).ok_or(Found::Damaged)?;
        Ok((entry, self.header.cluster()))
    }

    pub fn has_piece(&self, number: u64) -> bool {
        self.pieces.contains_key(&number)
    }

    /// Puts a piece in as it is in the file; gives up another one that has not changed.
    pub fn insert(&mut self, number: u64, bytes: &[u8]) {
        if self.pieces.len() >= MOST {
            let clean = self.pieces.iter().filter(|(_, piece)| !piece.dirty);
            let oldest = clean.min_by_key(|(_, piece)| piece.used);
            let oldest = oldest.map(|(number, _)| *number);
            oldest.and_then(|number| self.pieces.remove(&number));
        }
        let entries = (0..SLICE as usize).map(|i| le64(bytes, i.saturating_mul(8)));
        let piece = Piece {
            entries: entries.collect(),
            dirty: false,
            used: self.clock,
        };
        self.pieces.insert(number, piece);
    }

    /// Whether the L2 table for a cluster is missing.
    pub fn lacks_table(&self, cluster: u64) -> bool {
        self.l2(cluster).is_none()
    }

    /// A new, empty L2 table for a cluster.
    pub fn set_table(&mut self, cluster: u64, place: u64) {
        let index = (cluster / self.header.entries().max(1)) as usize;
        if let Some(entry) = self.l1.get_mut(index) {
            *entry = place;
            self.dirty_l1.insert(index);
        }
    }

    /// Takes away what stands for an L2 table and is none.
    pub fn clear_table(&mut self, index: usize) {
        if let Some(entry) = self.l1.get_mut(index) {
            *entry = 0;
            self.dirty_l1.insert(index);
        }
    }

    /// Forgets all pieces, which were written out before, to read them anew.
    pub fn forget_pieces(&mut self) {
        self.pieces.clear();
        self.dirty = 0;
    }

    /// Changes an entry, whose piece is in memory.
    pub fn set(&mut self, cluster: u64, value: u64) {
        let Some(piece) = self.pieces.get_mut(&(cluster / SLICE)) else {
            return;
        };
        if let Some(entry) = piece.entries.get_mut((cluster % SLICE) as usize) {
            *entry = value;
            self.dirty = self.dirty.saturating_add(usize::from(!piece.dirty));
            piece.dirty = true;
        }
    }

    /// All that is to be written: places in the file and bytes.
    pub fn changes(&self) -> Vec<(u64, Vec<u8>)> {
        let mut out = Vec::new();
        for (number, piece) in self.pieces.iter().filter(|(_, piece)| piece.dirty) {
            if let Some(place) = self.piece_place(*number) {
                out.push((place, encode(&piece.entries)));
            }
        }
        let slice = SLICE as usize;
        let parts: BTreeSet<usize> = self.dirty_l1.iter().map(|i| i / slice).collect();
        for part in parts {
            let start = part.saturating_mul(slice);
            let end = start.saturating_add(slice).min(self.l1.len());
            let place = self
                .header
                .l1_offset
                .saturating_add((start as u64).saturating_mul(8));
            out.push((place, encode(self.l1.get(start..end).unwrap_or(&[]))));
        }
        out
    }

    /// All that was changed is in the file.
    pub fn written(&mut self) {
        self.pieces
            .values_mut()
            .for_each(|piece| piece.dirty = false);
        self.dirty = 0;
        self.dirty_l1.clear();
    }

    pub fn l1(&self) -> &[u64] {
        &self.l1
    }

    /// More entries, for a larger disk.
    pub fn extend_l1(&mut self, more: Vec<u64>) {
        self.l1.extend(more);
    }
}

fn follows(run: Run, entry: Entry) -> bool {
    match (run.entry, entry) {
        (Entry::Data(start), Entry::Data(next)) => start.checked_add(run.len) == Some(next),
        (Entry::Unallocated, Entry::Unallocated) | (Entry::Zero, Entry::Zero) => true,
        _ => false,
    }
}

/// Entries as they are in the file.
pub(super) fn encode(entries: &[u64]) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect()
}
