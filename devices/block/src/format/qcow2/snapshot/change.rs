//! Changes of an image's tables that come true at once.
//!
//! ```text
//! new versions of all that changes -> clusters that are not used; made durable
//!    -> one sector of the header leads to them instead; made durable
//! ```
//!
//! Up to the header's write the image is as before, down to its last refcount; afterwards it is as
//! it is to be. A crash leaves one or the other.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use super::super::geometry::{Geometry, OFFSET};
use super::super::header::{Header, MAX_REFCOUNT_TABLE_BYTES};
use super::super::io::eio;
use super::super::refcount;
use super::super::store::Store;
use super::super::stored::Stored;
use crate::buffers::Buffers;
use crate::error::BlockError;
use crate::request::Op;

/// Most memory for refcount blocks.
const MEMORY: usize = 4 << 20;

/// A new version of a refcount block, in memory.
struct Block {
    index: u64,
    bytes: Vec<u8>,
    dirty: bool,
}

/// A change under way.
pub(super) struct Change<'a> {
    pub store: Store<'a>,
    pub geometry: Geometry,
    /// As it is to be.
    pub header: Header,
    /// Refcounts as they are.
    before: Stored<'a>,
    /// Where new versions of refcount blocks are, by number.
    moved: BTreeMap<u64, u64>,
    /// Some of them; the last used one is at the end.
    blocks: Vec<Block>,
    /// Clusters to be used more often or less.
    steps: VecDeque<(u64, i64)>,
    /// Clusters before this one are used, or were found to be free and are taken.
    cursor: u64,
}

impl<'a> Change<'a> {
    /// Begins. Nobody else reads or writes the image meanwhile.
    ///
    /// # Errors
    /// When the image cannot be read.
    pub fn begin(store: Store<'a>) -> Result<Self, BlockError> {
        let (header, geometry) = store.header()?;
        let entries = u64::from(header.refcount_table_clusters) << (header.cluster_bits - 3);
        let table = store.words(header.refcount_table_offset, entries);
        let table =
            table.map_err(|error| BlockError::host("Could not read refcount table", error))?;
        if table.iter().any(|word| geometry.inside(*word) != 0) {
            return Err(BlockError::Unsupported(
                "Refcount table is damaged".to_owned(),
            ));
        }
        Ok(Change {
            store,
            geometry,
            header,
            before: Stored::new(store, geometry, table),
            moved: BTreeMap::new(),
            blocks: Vec::new(),
            steps: VecDeque::new(),
            cursor: 1,
        })
    }

    /// How often a cluster was used before the change.
    pub fn was(&mut self, cluster: u64) -> io::Result<u64> {
        self.before.get(cluster)
    }

    /// How often a cluster is used.
    pub fn count(&mut self, cluster: u64) -> io::Result<u64> {
        let (bits, order) = (self.geometry.refcount_bits(), self.geometry.refcount_order);
        let index = cluster >> bits;
        if !self.moved.contains_key(&index) {
            return self.before.get(cluster);
        }
        let place = (cluster & ((1 << bits) - 1)) as usize;
        let block = self.block(index)?;
        Ok(refcount::get(&block.bytes, place, order))
    }

    /// The clusters of a range are used once more, or once less.
    ///
    /// # Errors
    /// The host's; EINVAL for a refcount that does not fit, EIO for one below zero.
    pub fn step(&mut self, offset: u64, len: u64, by: i64) -> io::Result<()> {
        let Some(last) = len.checked_sub(1).and_then(|more| offset.checked_add(more)) else {
            return Ok(());
        };
        let bits = self.geometry.cluster_bits;
        for cluster in offset >> bits..=last >> bits {
            self.steps.push_back((cluster, by));
            // A step may ask for another block, whose own cluster is another step.
            while let Some((cluster, by)) = self.steps.pop_front() {
                self.step_one(cluster, by)?;
            }
        }
        Ok(())
    }

    fn step_one(&mut self, cluster: u64, by: i64) -> io::Result<()> {
        let (bits, order) = (self.geometry.refcount_bits(), self.geometry.refcount_order);
        let index = cluster >> bits;
        if !self.moved.contains_key(&index) {
            self.move_block(index)?;
        }
        let most = self.geometry.max_refcount();
        let place = (cluster & ((1 << bits) - 1)) as usize;
        let block = self.block(index)?;
        let count = refcount::get(&block.bytes, place, order);
        let next = count.checked_add_signed(by).ok_or_else(eio)?;
        if next > most {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        refcount::set(&mut block.bytes, place, order, next);
        block.dirty = true;
        Ok(())
    }

    /// Makes a new version of a block, or the first one.
    fn move_block(&mut self, index: u64) -> io::Result<()> {
        let bits = self.geometry.cluster_bits;
        let bytes = match self.before.bytes(index)? {
            Some((old, bytes)) => {
                self.steps.push_back((old >> bits, -1));
                bytes.to_vec()
            }
            None => vec![0; self.geometry.cluster() as usize],
        };
        let place = self.find_free(1)?;
        self.steps.push_back((place >> bits, 1));
        self.moved.insert(index, place);
        self.keep(Block {
            index,
            bytes,
            dirty: true,
        })
    }

    fn keep(&mut self, block: Block) -> io::Result<()> {
        if self.blocks.len() >= (MEMORY / block.bytes.len().max(1)).max(4) {
            let old = self.blocks.remove(0);
            self.write_block(&old)?;
        }
        self.blocks.push(block);
        Ok(())
    }

    fn write_block(&self, block: &Block) -> io::Result<()> {
        let place = self.moved.get(&block.index).copied().ok_or_else(eio)?;
        match block.dirty {
            true => self.store.write(place, &block.bytes),
            false => Ok(()),
        }
    }

    /// The new version of a block, which there is.
    fn block(&mut self, index: u64) -> io::Result<&mut Block> {
        let found = self.blocks.iter().rposition(|block| block.index == index);
        match found {
            Some(at) => {
                let block = self.blocks.remove(at);
                self.blocks.push(block);
            }
            None => {
                let place = self.moved.get(&index).copied().ok_or_else(eio)?;
                let mut bytes = vec![0; self.geometry.cluster() as usize];
                self.store.read(place, &mut bytes)?;
                self.keep(Block {
                    index,
                    bytes,
                    dirty: false,
                })?;
            }
        }
        self.blocks.last_mut().ok_or_else(eio)
    }

    /// Clusters that follow each other and were not used before the change. They are not counted
    /// yet; what is in them is not known.
    fn find_free(&mut self, clusters: u64) -> io::Result<u64> {
        let bits = self.geometry.cluster_bits;
        let (mut first, mut at) = (self.cursor, self.cursor);
        while at.saturating_sub(first) < clusters {
            if self.before.get(at)? > 0 {
                first = at.saturating_add(1);
            }
            at = at.saturating_add(1);
            if at > OFFSET >> bits {
                return Err(io::Error::from_raw_os_error(libc::EFBIG));
            }
        }
        self.cursor = at;
        Ok(first << bits)
    }

    /// The same, counted as used once.
    pub fn allocate(&mut self, bytes: u64) -> io::Result<u64> {
        let clusters = self.geometry.clusters(bytes);
        let offset = self.find_free(clusters)?;
        self.step(offset, clusters << self.geometry.cluster_bits, 1)?;
        Ok(offset)
    }

    /// Writes a table to new clusters, with zeroes up to the end of them.
    pub fn write_table(&mut self, words: &[u64]) -> io::Result<u64> {
        let len = (words.len() as u64).saturating_mul(8);
        let offset = self.allocate(len)?;
        let clusters = self.geometry.clusters(len);
        let mut words = words.to_vec();
        words.resize(((clusters << self.geometry.cluster_bits) / 8) as usize, 0);
        self.store.write_words(offset, &words)?;
        Ok(offset)
    }

    /// Makes it come true.
    ///
    /// # Errors
    /// The host's; the image is then as before, unless the last step could not be made durable.
    pub fn commit(mut self, discard: bool) -> io::Result<()> {
        let table = self.write_refcounts()?;
        self.store.flush()?;
        self.store.write_header(&self.header)?;
        self.store.flush()?;
        if discard {
            self.discard_freed(&table);
        }
        Ok(())
    }

    /// Writes the refcounts of the change, and gives their table.
    fn write_refcounts(&mut self) -> io::Result<Vec<u64>> {
        let bits = self.geometry.cluster_bits;
        let old = self.header.refcount_table_offset;
        let old_len = u64::from(self.header.refcount_table_clusters) << bits;
        self.step(old, old_len, -1)?;
        let (mut offset, mut clusters) = (0u64, 0u64);
        loop {
            // A place for the table may need blocks, which may need a longer table.
            let last = self.moved.last_key_value().map_or(0, |(index, _)| *index);
            let needed = self
                .geometry
                .clusters(last.saturating_add(1).saturating_mul(8));
            let needed = needed.max(old_len >> bits);
            if needed << bits > MAX_REFCOUNT_TABLE_BYTES {
                return Err(io::Error::from_raw_os_error(libc::EFBIG));
            }
            if needed <= clusters {
                break;
            }
            self.step(offset, clusters << bits, -1)?;
            offset = self.allocate(needed << bits)?;
            clusters = needed;
        }
        for block in &self.blocks {
            self.write_block(block)?;
        }
        let mut table = self.before.table().to_vec();
        table.resize(((clusters << bits) / 8) as usize, 0);
        for (index, place) in &self.moved {
            let index = usize::try_from(*index).map_err(|_| eio())?;
            *table.get_mut(index).ok_or_else(eio)? = *place;
        }
        self.store.write_words(offset, &table)?;
        self.header.refcount_table_offset = offset;
        self.header.refcount_table_clusters = u32::try_from(clusters).map_err(|_| eio())?;
        Ok(table)
    }

    /// Gives back to the host what is not used any more. A hint, which it may not take.
    fn discard_freed(&mut self, table: &[u64]) {
        let mut after = Stored::new(self.store, self.geometry, table.to_vec());
        let (bits, size) = (self.geometry.refcount_bits(), self.store.size());
        let indices: Vec<u64> = self.moved.keys().copied().collect();
        for index in indices {
            let mut run: Option<(u64, u64)> = None;
            for cluster in index << bits..=(index << bits) | ((1 << bits) - 1) {
                let was = self.before.get(cluster).unwrap_or(0);
                let freed = was > 0 && after.get(cluster).is_ok_and(|count| count == 0);
                run = match (run, freed) {
                    (Some((first, count)), true) => Some((first, count.saturating_add(1))),
                    (None, true) => Some((cluster, 1)),
                    (run, false) => {
                        self.discard(run, size);
                        None
                    }
                };
            }
            self.discard(run, size);
        }
    }

    fn discard(&self, run: Option<(u64, u64)>, size: u64) {
        let Some((first, count)) = run else {
            return;
        };
        let offset = first << self.geometry.cluster_bits;
        let len = (count << self.geometry.cluster_bits).min(size.saturating_sub(offset));
        let op = Op::Discard { offset, len };
        if len > 0
            && let Err(error) = self.store.node().perform(op, &Buffers::new())
        {
            log::debug!("A discard was not passed on: {error}");
        }
    }
}
