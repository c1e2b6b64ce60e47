//! Changing the size of the disk.

use std::io;

use super::Qcow2;
use super::header::MAX_L1_BYTES;
use super::io::{eio, put64};
use super::meta::Why;
use super::zero::Wish;
use crate::error::BlockError;
use crate::node::SECTOR;
use crate::request::{Durability, Unmap};

impl Qcow2 {
    /// See [`crate::node::BlockNode::resize`].
    pub(super) fn change_size(&self, size: u64) -> Result<(), BlockError> {
        if !size.is_multiple_of(SECTOR) {
            return Err(BlockError::Unsupported(
                "The new size must be a multiple of 512".to_owned(),
            ));
        }
        let old = self.size();
        if self.header().snapshot_count > 0 && self.geometry.version < 3 {
            return Err(BlockError::Unsupported(
                "Can't resize a version 2 image which has snapshots".to_owned(),
            ));
        }
        if !self.meta().bitmaps.is_empty() {
            return Err(BlockError::Unsupported(
                "Can't resize an image which has bitmaps".to_owned(),
            ));
        }
        let failed = |error| BlockError::host("Failed to resize the image", error);
        self.prepare_to_write().map_err(failed)?;
        match size.cmp(&old) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => self.grow_to(old, size),
            std::cmp::Ordering::Less => self.shrink_to(size).map_err(failed),
        }
    }

    fn grow_to(&self, old: u64, size: u64) -> Result<(), BlockError> {
        let needed = self.geometry.l1_entries(size);
        if size > i64::MAX as u64 - self.geometry.cluster() || needed > MAX_L1_BYTES / 8 {
            return Err(BlockError::Unsupported(
                "The image size is too large (try using a larger cluster size)".to_owned(),
            ));
        }
        let failed = |error| BlockError::host("Failed to grow the L1 table", error);
        self.grow_l1(needed).map_err(failed)?;
        let failed = |error| BlockError::host("Failed to update the image size", error);
        if self.geometry.external {
            super::io::grow(&self.data, size).map_err(failed)?;
            let end = self.data.info().size;
            self.meta().data_end = end;
        }
        // Nothing that was there before may show: clusters behind the old end (of a disk that was
        // made smaller by half, or of a machine's state that no snapshot has), what is behind it
        // in its cluster, and in a backing file that is longer.
        let cluster = self.geometry.cluster();
        let (first, end) = (
            old.next_multiple_of(cluster),
            size.next_multiple_of(cluster),
        );
        self.change_clusters(first, end, Wish::Drop)
            .map_err(failed)?;
        let hidden = self.backing_size().min(size).max(self.old_tail(old, size));
        if hidden > old {
            let kept = Durability::Cached;
            self.write_zeroes(old, hidden - old, Unmap::May, kept)
                .map_err(failed)?;
        }
        self.flush().map_err(failed)?;
        let patched = self.patch_header(|header| header.size = size);
        patched.and_then(|()| self.sync()).map_err(failed)?;
        self.screen.set_size(size);
        Ok(())
    }

    /// Where the cluster that the disk ended in ends, or the new disk.
    fn old_tail(&self, old: u64, size: u64) -> u64 {
        old.next_multiple_of(self.geometry.cluster()).min(size)
    }

    /// Makes the L1 table at least that many entries long.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn grow_l1(&self, entries: u64) -> io::Result<()> {
        let mut work = self.work();
        let (mut l1, old) = {
            let meta = self.meta();
            (meta.l1.clone(), meta.l1_offset)
        };
        let (before, had) = (l1.len() as u64, l1.len() as u64 * 8);
        if entries <= before {
            return Ok(());
        }
        // The old table, should something go wrong, is to be whole.
        self.flush_with(&mut work)?;
        let geometry = &self.geometry;
        l1.resize(usize::try_from(entries).map_err(|_| eio())?, 0);
        let clusters = geometry.clusters(entries.saturating_mul(8));
        let offset = self.alloc_clusters(&mut work, clusters)?;
        let mut bytes = vec![0; (clusters << geometry.cluster_bits) as usize];
        for (at, word) in l1.iter().enumerate() {
            put64(&mut bytes, at.saturating_mul(8), *word);
        }
        let count = u32::try_from(entries).map_err(|_| eio())?;
        let written = self
            .write_meta(offset, &bytes)
            .and_then(|()| self.write_refs(&mut work))
            .and_then(|()| self.sync());
        if let Err(error) = written {
            self.forget_table(&mut work, offset, clusters << geometry.cluster_bits);
            self.change_refcount(&mut work, offset, clusters << geometry.cluster_bits, false)?;
            return Err(error);
        }
        self.patch_header(|header| {
            header.l1_size = count;
            header.l1_offset = offset;
        })?;
        let mut meta = self.meta();
        meta.l1 = l1;
        meta.l1_offset = offset;
        // Entries that changed meanwhile are in memory only.
        let sectors = entries.div_ceil(64);
        meta.l1_dirty.extend(0..sectors);
        if had > 0 {
            let len = geometry.clusters(had) << geometry.cluster_bits;
            meta.free(old, len, Why::Other);
            drop(meta);
            self.forget_table(&mut work, old, len);
        } else {
            drop(meta);
        }
        self.flush_with(&mut work)
    }

    fn shrink_to(&self, size: u64) -> io::Result<()> {
        let old = self.size();
        // Nobody asks for what is behind the new end any more, before it goes.
        self.screen.set_size(size);
        let patched = self.patch_header(|header| header.size = size);
        if let Err(error) = patched.and_then(|()| self.sync()) {
            self.screen.set_size(old);
            // In the file, too, if that can be written at all.
            let back = self.patch_header(|header| header.size = old);
            return back.and(Err(error));
        }
        // What is behind the end is not to show when another program makes the disk larger.
        if self.geometry.external {
            let cut = self.data.there()?.resize(size);
            cut.map_err(|error| io::Error::other(error.to_string()))?;
            self.meta().data_end = size;
        }
        let cluster = self.geometry.cluster();
        let first = size.next_multiple_of(cluster);
        let end = old.next_multiple_of(cluster);
        self.change_clusters(first, end, Wish::Drop)?;
        self.flush()
    }
}
