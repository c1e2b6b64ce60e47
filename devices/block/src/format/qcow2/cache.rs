//! Pieces of tables in memory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Spreads numbers that are mostly multiples of something; nobody else chooses the keys' order.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

pub(super) type Map<V> = HashMap<u64, V, BuildHasherDefault<Spread>>;
pub(super) type Set = std::collections::HashSet<u64, BuildHasherDefault<Spread>>;

/// A piece of a table.
#[derive(Debug)]
struct Slot {
    offset: u64,
    data: Box<[u8]>,
    dirty: bool,
    /// Looked at since the hand came by.
    used: bool,
    /// It must stay.
    pins: u32,
    /// Not all of it makes sense; nobody relies on it without looking.
    suspect: bool,
}

/// Pieces of tables, all of a size, found by their offset in the file. When there is no room, one
/// that has not been used for long goes (second chance).
#[derive(Debug)]
pub(super) struct Cache {
    slots: Vec<Slot>,
    map: Map<usize>,
    /// Most slots, unless more must stay.
    limit: usize,
    hand: usize,
    dirty: usize,
}

impl Cache {
    pub fn new(limit: usize) -> Self {
        Cache {
            slots: Vec::new(),
            map: Map::default(),
            limit: limit.max(1),
            hand: 0,
            dirty: 0,
        }
    }

    pub fn find(&mut self, offset: u64) -> Option<usize> {
        let slot = *self.map.get(&offset)?;
        self.slots.get_mut(slot)?.used = true;
        Some(slot)
    }

    pub fn data(&self, slot: usize) -> &[u8] {
        self.slots.get(slot).map_or(&[], |slot| &slot.data)
    }

    /// To be changed: it has to be written again.
    pub fn data_mut(&mut self, slot: usize) -> &mut [u8] {
        match self.slots.get_mut(slot) {
            Some(slot) => {
                self.dirty = self.dirty.saturating_add(usize::from(!slot.dirty));
                slot.dirty = true;
                &mut slot.data
            }
            None => &mut [],
        }
    }

    pub fn is_suspect(&self, slot: usize) -> bool {
        self.slots.get(slot).is_none_or(|slot| slot.suspect)
    }

    pub fn set_suspect(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.suspect = true;
        }
    }

    pub fn pin(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.pins = slot.pins.saturating_add(1);
        }
    }

    pub fn unpin(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.pins = slot.pins.saturating_sub(1);
        }
    }

    /// Whether something has to be written.
    pub fn is_dirty(&self) -> bool {
        self.dirty > 0
    }

    /// Whether one more needs another to go that has to be written first.
    pub fn is_stuck(&self) -> bool {
        self.slots.len() >= self.limit
            && self.is_dirty()
            && !self.slots.iter().any(|slot| slot.pins == 0 && !slot.dirty)
    }

    /// Puts a piece in, in place of another that is clean where there is no room.
    pub fn insert(&mut self, offset: u64, data: Box<[u8]>) -> usize {
        if let Some(slot) = self.map.get(&offset).copied() {
            return slot;
        }
        let fresh = Slot {
            offset,
            data,
            dirty: false,
            used: true,
            pins: 0,
            suspect: false,
        };
        let victim = match self.slots.len() >= self.limit {
            true => self.victim(),
            false => None,
        };
        let at = match victim {
            Some(at) => {
                if let Some(slot) = self.slots.get_mut(at) {
                    self.map.remove(&slot.offset);
                    *slot = fresh;
                }
                at
            }
            None => {
                self.slots.push(fresh);
                self.slots.len().saturating_sub(1)
            }
        };
        self.map.insert(offset, at);
        at
    }

    fn victim(&mut self) -> Option<usize> {
        for _ in 0..self.slots.len().saturating_mul(2) {
            let at = self.hand;
            self.hand = match self.hand.saturating_add(1) {
                next if next < self.slots.len() => next,
                _ => 0,
            };
            let Some(slot) = self.slots.get_mut(at) else {
                continue;
            };
            if slot.pins > 0 || slot.dirty {
                continue;
            }
            if !slot.used {
                return Some(at);
            }
            slot.used = false;
        }
        None
    }

    /// Offsets of what has to be written, in order.
    pub fn dirty_offsets(&self) -> Vec<u64> {
        let dirty = self.slots.iter().filter(|slot| slot.dirty);
        let mut offsets: Vec<u64> = dirty.map(|slot| slot.offset).collect();
        offsets.sort_unstable();
        offsets
    }

    /// A copy of a piece for writing; it counts as written.
    pub fn take_dirty(&mut self, offset: u64) -> Option<&[u8]> {
        let slot = self.slots.get_mut(*self.map.get(&offset)?)?;
        if !slot.dirty {
            return None;
        }
        slot.dirty = false;
        self.dirty = self.dirty.saturating_sub(1);
        Some(&slot.data)
    }

    /// It was not written after all.
    pub fn set_dirty(&mut self, offset: u64) {
        if let Some(slot) = self.map.get(&offset).copied() {
            self.data_mut(slot);
        }
    }

    /// Forgets what lies in a range of the file, even what was not written.
    pub fn forget(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let inside = |at: u64| at >= offset && at < end;
        // Slots stay where they are: others are known by their number.
        for slot in &mut self.slots {
            if inside(slot.offset) && slot.pins == 0 {
                self.map.remove(&slot.offset);
                self.dirty = self.dirty.saturating_sub(usize::from(slot.dirty));
                slot.dirty = false;
                slot.used = false;
                slot.offset = u64::MAX;
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.map.clear();
        (self.hand, self.dirty) = (0, 0);
    }

    /// Forgets what was not used since the last time, unless something has to be written first or
    /// to stay. Pieces get other numbers.
    pub fn clean(&mut self) {
        if self.slots.iter().any(|slot| slot.dirty || slot.pins > 0) {
            return;
        }
        let slots = std::mem::take(&mut self.slots);
        let kept = slots
            .into_iter()
            .filter(|slot| slot.used && slot.offset != u64::MAX);
        self.slots = kept.collect();
        self.slots.shrink_to_fit();
        self.slots.iter_mut().for_each(|slot| slot.used = false);
        let offsets = self.slots.iter().enumerate();
        self.map = offsets.map(|(at, slot)| (slot.offset, at)).collect();
        self.hand = 0;
    }
}
