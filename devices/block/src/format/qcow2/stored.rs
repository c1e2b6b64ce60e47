//! Refcounts as they are in the file.

use std::io;

use super::geometry::Geometry;
use super::io::eio;
use super::refcount::{self, TABLE_OFFSET};
use super::store::Store;

/// Most memory for blocks.
const MEMORY: usize = 4 << 20;

/// A block.
struct Block {
    index: u64,
    bytes: Vec<u8>,
}

/// Refcounts in the file, with some blocks in memory.
pub(super) struct Stored<'a> {
    store: Store<'a>,
    geometry: Geometry,
    table: Vec<u64>,
    /// The last used one is at the end.
    blocks: Vec<Block>,
}

impl<'a> Stored<'a> {
    pub fn new(store: Store<'a>, geometry: Geometry, table: Vec<u64>) -> Self {
        Stored {
            store,
            geometry,
            table,
            blocks: Vec::new(),
        }
    }

    pub fn table(&self) -> &[u64] {
        &self.table
    }

    fn offset(&self, index: u64) -> io::Result<u64> {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let offset = self.table.get(index).copied().unwrap_or(0) & TABLE_OFFSET;
        match self.geometry.inside(offset) {
            0 => Ok(offset),
            _ => Err(eio()),
        }
    }

    /// The block with that number; `None` when there is none: all are 0.
    fn block(&mut self, index: u64) -> io::Result<Option<&mut Block>> {
        let offset = self.offset(index)?;
        if offset == 0 {
            return Ok(None);
        }
        let found = self.blocks.iter().rposition(|block| block.index == index);
        let block = match found {
            Some(at) => self.blocks.remove(at),
            None => {
                let mut bytes = vec![0; self.geometry.cluster() as usize];
                self.store.read(offset, &mut bytes)?;
                if self.blocks.len() >= (MEMORY / bytes.len()).max(2) {
                    self.blocks.remove(0);
                }
                Block { index, bytes }
            }
        };
        self.blocks.push(block);
        Ok(self.blocks.last_mut())
    }

    /// How often a cluster is used, as it is written.
    ///
    /// # Errors
    /// The host's; EIO when the block cannot be where the table says.
    pub fn get(&mut self, cluster: u64) -> io::Result<u64> {
        let (bits, order) = (self.geometry.refcount_bits(), self.geometry.refcount_order);
        let place = (cluster & ((1 << bits) - 1)) as usize;
        let block = self.block(cluster >> bits)?;
        Ok(block.map_or(0, |block| refcount::get(&block.bytes, place, order)))
    }

    /// The block with that number and its place; `None` when there is none.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn bytes(&mut self, index: u64) -> io::Result<Option<(u64, &[u8])>> {
        let offset = self.offset(index)?;
        let block = self.block(index)?;
        Ok(block.map(|block| (offset, block.bytes.as_slice())))
    }

    /// Changes refcounts of clusters that are in the same block, which is there.
    pub fn set(&mut self, changes: &[(u64, u64)]) -> io::Result<()> {
        let (bits, order) = (self.geometry.refcount_bits(), self.geometry.refcount_order);
        let Some((first, _)) = changes.first() else {
            return Ok(());
        };
        let (index, store) = (first >> bits, self.store);
        let offset = self.offset(index)?;
        let block = self.block(index)?.ok_or_else(eio)?;
        for (cluster, count) in changes {
            let place = (cluster & ((1 << bits) - 1)) as usize;
            refcount::set(&mut block.bytes, place, order, *count);
        }
        store.write(offset, &block.bytes)
    }
}
