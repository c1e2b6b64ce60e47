//! Refcounts of clusters: blocks in memory, the table that leads to them.

use std::collections::BTreeSet;
use std::io;

use super::Qcow2;
use super::alloc::Work;
use super::geometry::Geometry;
use super::header::MAX_REFCOUNT_TABLE_BYTES;
use super::io::{eio, put64};
use crate::filter::Event;

/// Bits 9 to 63.
pub(super) const TABLE_OFFSET: u64 = !0x1ff;

/// The refcount with that number in (a piece of) a block.
pub(super) fn get(bytes: &[u8], index: usize, order: u32) -> u64 {
    if order < 3 {
        let per_byte = 8usize >> order;
        let byte = bytes.get(index / per_byte).copied().unwrap_or(0);
        let shift = (index % per_byte) << order;
        return u64::from(byte >> shift) & ((1 << (1 << order)) - 1);
    }
    let width = 1usize << (order - 3);
    let at = index.saturating_mul(width);
    let bytes = bytes.get(at..at.saturating_add(width)).unwrap_or(&[]);
    bytes
        .iter()
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// Sets the refcount with that number; it fits.
pub(super) fn set(bytes: &mut [u8], index: usize, order: u32, count: u64) {
    if order < 3 {
        let per_byte = 8usize >> order;
        let shift = (index % per_byte) << order;
        let mask = (((1u16 << (1 << order)) - 1) << shift) as u8;
        if let Some(byte) = bytes.get_mut(index / per_byte) {
            *byte = (*byte & !mask) | ((count << shift) as u8 & mask);
        }
        return;
    }
    let width = 1usize << (order - 3);
    let at = index.saturating_mul(width);
    if let Some(place) = bytes.get_mut(at..at.saturating_add(width)) {
        let all = count.to_be_bytes();
        place.copy_from_slice(all.get(8usize.saturating_sub(width)..).unwrap_or(&[]));
    }
}

/// Where a cluster's refcount is.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The piece of the block, in the file.
    slice: u64,
    /// In the piece.
    index: usize,
}

impl Qcow2 {
    /// The block for a cluster's refcount; `None` when there is none: it is 0.
    fn refcount_place(&self, work: &Work, cluster: u64) -> io::Result<Option<Place>> {
        let bits = self.geometry.refcount_bits();
        let index = usize::try_from(cluster >> bits).unwrap_or(usize::MAX);
        let word = work.table.get(index).copied().unwrap_or(0);
        let block = word & TABLE_OFFSET;
        if block == 0 {
            return Ok(None);
        }
        if self.geometry.inside(block) != 0 || word != block {
            let text = format!("Refblock offset {block:#x} unaligned (reftable index: {index:#x})");
            return Err(self.corrupt(text, None));
        }
        let in_block = cluster & ((1 << bits) - 1);
        let per_slice = (self.ref_slice * 8) >> self.geometry.refcount_order;
        let slice = block.checked_add(in_block / per_slice * self.ref_slice);
        Ok(Some(Place {
            slice: slice.ok_or_else(eio)?,
            index: (in_block % per_slice) as usize,
        }))
    }

    /// The refcount piece at `offset`, in memory.
    fn load_refs(&self, work: &mut Work, offset: u64) -> io::Result<usize> {
        if let Some(slot) = work.refs.find(offset) {
            return Ok(slot);
        }
        if self.is_outside(offset) {
            let text = format!("Refblock offset {offset:#x} outside of the file");
            return Err(self.corrupt(text, None));
        }
        if work.refs.is_stuck() {
            // Refcounts may be written at any time before what relies on them.
            self.write_refs(work)?;
        }
        let mut data = vec![0; self.ref_slice as usize].into_boxed_slice();
        self.storage.event(Event::RefblockLoad);
        self.read_meta(offset, &mut data)?;
        Ok(work.refs.insert(offset, data))
    }

    /// How often a cluster (by number) is used.
    ///
    /// # Errors
    /// The host's; EIO for damage.
    pub(super) fn refcount(&self, work: &mut Work, cluster: u64) -> io::Result<u64> {
        let Some(place) = self.refcount_place(work, cluster)? else {
            return Ok(0);
        };
        let slot = self.load_refs(work, place.slice)?;
        let order = self.geometry.refcount_order;
        Ok(get(work.refs.data(slot), place.index, order))
    }

    /// Changes how often a cluster is used by one; it has a block. Gives the new count.
    fn step_refcount(&self, work: &mut Work, cluster: u64, up: bool) -> io::Result<u64> {
        let place = self.refcount_place(work, cluster)?;
        let count = self.refcount(work, cluster)?;
        let next = match up {
            true if count < self.geometry.max_refcount() => count + 1,
            true => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
            false if count > 0 => count - 1,
            false => {
                let offset = cluster << self.geometry.cluster_bits;
                let text = format!("Refcount of the cluster at {offset:#x} is too small");
                return Err(self.corrupt(text, Some((offset, self.geometry.cluster()))));
            }
        };
        let place = place.ok_or_else(eio)?;
        let slot = self.load_refs(work, place.slice)?;
        set(
            work.refs.data_mut(slot),
            place.index,
            self.geometry.refcount_order,
            next,
        );
        if next == 0 {
            work.hint = work.hint.min(cluster);
        }
        Ok(next)
    }

    /// Uses all clusters that `len` bytes of the storage touch once more, or once less. Blocks are
    /// made where there are none. When it fails, none has changed but in the case of damage.
    ///
    /// # Errors
    /// The host's; EINVAL for a refcount that would be too large; EIO for damage.
    pub(super) fn change_refcount(
        &self,
        work: &mut Work,
        offset: u64,
        len: u64,
        up: bool,
    ) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let first = offset >> self.geometry.cluster_bits;
        let last = offset.checked_add(len - 1).ok_or_else(eio)? >> self.geometry.cluster_bits;
        if up {
            self.ensure_blocks(work, first, last - first + 1)?;
        }
        for cluster in first..=last {
            if let Err(error) = self.step_refcount(work, cluster, up) {
                for done in first..cluster {
                    self.step_refcount(work, done, !up)?;
                }
                return Err(error);
            }
        }
        if !self.is_lazy() {
            self.meta().refs_dirty = true;
        }
        Ok(())
    }

    /// Writes refcounts that changed; they are not durable yet.
    ///
    /// # Errors
    /// The host's; what was not written stays to be.
    pub(super) fn write_refs(&self, work: &mut Work) -> io::Result<()> {
        self.write_table(work)?;
        let offsets = work.refs.dirty_offsets();
        if !offsets.is_empty() {
            self.meta().unsynced = true;
        }
        for offset in offsets {
            let data = work.refs.take_dirty(offset).map(<[u8]>::to_vec);
            let Some(data) = data else { continue };
            self.storage.event(Event::RefblockUpdatePart);
            if let Err(error) = self.write_meta(offset, &data) {
                work.refs.set_dirty(offset);
                return Err(error);
            }
        }
        self.meta().refs_dirty = false;
        Ok(())
    }

    /// Writes the parts of the refcount table that changed, and makes them durable.
    pub(super) fn write_table(&self, work: &mut Work) -> io::Result<()> {
        if let Some((old, len)) = work.moved_table {
            let (offset, clusters) = (work.table_offset, work.table_clusters);
            self.storage.event(Event::RefblockAllocSwitchTable);
            self.patch_header(|header| {
                header.refcount_table_offset = offset;
                header.refcount_table_clusters = clusters;
            })?;
            self.sync()?;
            work.moved_table = None;
            self.forget_table(work, old, len);
            self.change_refcount(work, old, len, false)?;
        }
        if work.table_dirty.is_empty() {
            return Ok(());
        }
        let sectors: Vec<u64> = work.table_dirty.iter().copied().collect();
        for sector in sectors {
            let bytes = sector_of(&work.table, sector);
            let offset = work
                .table_offset
                .checked_add(sector * 512)
                .ok_or_else(eio)?;
            self.storage.event(Event::ReftableUpdate);
            self.write_meta(offset, &bytes)?;
        }
        self.sync()?;
        work.table_dirty.clear();
        Ok(())
    }

    /// Makes blocks for the refcounts of `count` clusters from `first` on, where there are none.
    ///
    /// # Errors
    /// The host's; EFBIG when the table would be too large.
    pub(super) fn ensure_blocks(&self, work: &mut Work, first: u64, count: u64) -> io::Result<()> {
        self.write_table(work)?;
        let missing = blocks_missing(&self.geometry, &work.table, first, count);
        if missing.is_empty() {
            return Ok(());
        }
        let mut base = first.saturating_add(count);
        let layout = loop {
            let layout = lay_out(&self.geometry, work, missing.clone(), base)?;
            match self.first_used(work, base, layout.clusters())? {
                None => break layout,
                Some(used) => base = used.saturating_add(1),
            }
        };
        self.make_blocks(work, base, &layout)
    }

    /// The last cluster of a range that is used.
    fn first_used(&self, work: &mut Work, first: u64, count: u64) -> io::Result<Option<u64>> {
        for cluster in (first..first.saturating_add(count)).rev() {
            if self.refcount(work, cluster)? > 0 {
                return Ok(Some(cluster));
            }
        }
        Ok(None)
    }

    fn make_blocks(&self, work: &mut Work, base: u64, layout: &Layout) -> io::Result<()> {
        let geometry = &self.geometry;
        let (bits, order) = (geometry.refcount_bits(), geometry.refcount_order);
        let cluster = geometry.cluster();
        let last = base.checked_add(layout.clusters()).ok_or_else(eio)?;
        let end = last.checked_mul(cluster).ok_or_else(eio)?;
        self.storage.event(Event::RefblockAlloc);
        self.grow_storage(end)?;
        let numbers = layout.missing.iter().copied();
        let blocks: Vec<(u64, u64)> = numbers.zip(base..).collect();
        for (number, place) in &blocks {
            let mut bytes = vec![0; cluster as usize];
            let described = (base..last).filter(|own| own >> bits == *number);
            for own in described {
                set(&mut bytes, (own & ((1 << bits) - 1)) as usize, order, 1);
            }
            work.refs.forget(place * cluster, cluster);
            self.storage.event(Event::RefblockAllocWriteBlocks);
            self.write_meta(place * cluster, &bytes)?;
        }
        for own in base..last {
            if !layout.missing.contains(&(own >> bits)) {
                self.step_refcount(work, own, true)?;
            }
        }
        // The blocks themselves first; then what leads to them.
        let offsets = work.refs.dirty_offsets();
        for offset in offsets {
            if let Some(data) = work.refs.take_dirty(offset).map(<[u8]>::to_vec)
                && let Err(error) = self.write_meta(offset, &data)
            {
                work.refs.set_dirty(offset);
                return Err(error);
            }
        }
        let needed = layout.entries;
        let mut table = work.table.clone();
        if table.len() < needed {
            table.resize(needed, 0);
        }
        let mut touched = BTreeSet::new();
        for (number, place) in &blocks {
            let index = usize::try_from(*number).map_err(|_| eio())?;
            if let Some(entry) = table.get_mut(index) {
                *entry = place * cluster;
            }
            touched.insert(number / 64);
        }
        let own = layout.missing.len() as u64;
        if layout.table_clusters > 0 {
            let offset = base.saturating_add(own).saturating_mul(cluster);
            let mut bytes = vec![0; (layout.table_clusters * cluster) as usize];
            for (index, entry) in table.iter().enumerate() {
                put64(&mut bytes, index.saturating_mul(8), *entry);
            }
            self.storage.event(Event::RefblockAllocWriteTable);
            self.write_meta(offset, &bytes)?;
            self.sync()?;
            let old = (
                work.table_offset,
                u64::from(work.table_clusters).saturating_mul(cluster),
            );
            work.moved_table = Some(old);
            work.table_offset = offset;
            work.table_clusters = layout.table_clusters as u32;
        } else {
            self.sync()?;
            work.table_dirty.extend(touched);
        }
        self.note_table(work, base * cluster, layout.clusters() * cluster);
        work.table = table;
        self.write_table(work)
    }
}

/// New blocks and, where it has to grow, the table.
#[derive(Debug)]
struct Layout {
    /// Numbers of the new blocks.
    missing: BTreeSet<u64>,
    /// Of a new table; 0 where the old one does.
    table_clusters: u64,
    /// Entries of the table that are in use then.
    entries: usize,
}

impl Layout {
    fn clusters(&self) -> u64 {
        (self.missing.len() as u64).saturating_add(self.table_clusters)
    }
}

fn blocks_missing(geometry: &Geometry, table: &[u64], first: u64, count: u64) -> BTreeSet<u64> {
    let bits = geometry.refcount_bits();
    let last = first.saturating_add(count.saturating_sub(1));
    let is_missing = |index: &u64| {
        let index = usize::try_from(*index).unwrap_or(usize::MAX);
        table.get(index).copied().unwrap_or(0) & TABLE_OFFSET == 0
    };
    (first >> bits..=last >> bits).filter(is_missing).collect()
}

/// How many clusters new blocks and a new table take from `base` on, counting the blocks that
/// these need themselves.
fn lay_out(
    geometry: &Geometry,
    work: &Work,
    mut missing: BTreeSet<u64>,
    base: u64,
) -> io::Result<Layout> {
    let per_cluster = geometry.cluster() / 8;
    let room = u64::from(work.table_clusters).saturating_mul(per_cluster);
    let mut table_clusters = 0u64;
    loop {
        let own = (missing.len() as u64).saturating_add(table_clusters);
        let mut all = blocks_missing(geometry, &work.table, base, own);
        all.extend(missing.iter().copied());
        let entries = all.last().map_or(0, |last| last.saturating_add(1));
        let wanted = match entries > room {
            // Some more than needed, so that it does not move each time.
            true => entries.saturating_add(entries / 2).div_ceil(per_cluster),
            false => 0,
        };
        let wanted = match wanted.saturating_mul(geometry.cluster()) > MAX_REFCOUNT_TABLE_BYTES {
            true => entries.div_ceil(per_cluster),
            false => wanted,
        };
        if wanted.saturating_mul(geometry.cluster()) > MAX_REFCOUNT_TABLE_BYTES {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        // It only ever grows, so that this comes to an end.
        let wanted = wanted.max(table_clusters);
        if all.len() == missing.len() && wanted == table_clusters {
            return Ok(Layout {
                missing,
                table_clusters,
                entries: usize::try_from(entries).map_err(|_| eio())?,
            });
        }
        (missing, table_clusters) = (all, wanted);
    }
}

/// A sector of a table of numbers, with zeroes behind its end.
pub(super) fn sector_of(table: &[u64], sector: u64) -> Vec<u8> {
    let first = usize::try_from(sector.saturating_mul(64)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; 512];
    for (at, word) in table.iter().skip(first).take(64).enumerate() {
        put64(&mut bytes, at.saturating_mul(8), *word);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn refcounts_of_every_width_stay_apart(
            order in 0u32..=6,
            counts in proptest::collection::vec(any::<u64>(), 8),
        ) {
            let mut bytes = vec![0; 8 * 8];
            let most = match order {
                6 => u64::MAX,
                order => (1 << (1 << order)) - 1,
            };
            for (index, count) in counts.iter().enumerate() {
                set(&mut bytes, index, order, count & most);
            }
            for (index, count) in counts.iter().enumerate() {
                prop_assert_eq!(get(&bytes, index, order), count & most);
            }
        }
    }

    #[test]
    fn narrow_refcounts_begin_with_the_lowest_bit() {
        let mut bytes = [0; 2];
        set(&mut bytes, 0, 0, 1);
        set(&mut bytes, 9, 0, 1);
        assert_eq!(bytes, [1, 2]);
        let mut bytes = [0; 2];
        set(&mut bytes, 1, 2, 0xa);
        assert_eq!(bytes, [0xa0, 0]);
        set(&mut bytes, 0, 4, 0x1234);
        assert_eq!(bytes, [0x12, 0x34]);
    }
}
