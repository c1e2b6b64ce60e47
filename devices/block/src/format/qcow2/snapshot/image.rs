//! Snapshots of an open image, and the machine's state beside its disk.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::super::Qcow2;
use super::super::header::MAX_L1_BYTES;
use super::super::io::{eio, memory};
use super::super::meta::Why;
use crate::error::BlockError;
use crate::image::{SnapshotView, Snapshots};
use crate::node::BlockNode;
use crate::request::Durability;

impl Qcow2 {
    /// Does something to the whole image in the file, while nothing of it is in memory, and reads
    /// it anew. Nothing is in flight.
    ///
    /// # Errors
    /// The job's; and when what was held could not be written, or the image cannot be read any
    /// more: nothing is read or written then.
    pub(in crate::format::qcow2) fn exclusively<T>(
        &self,
        job: impl FnOnce(&dyn BlockNode) -> Result<T, BlockError>,
    ) -> Result<T, BlockError> {
        let failed = |error| BlockError::host("Could not write what the image holds", error);
        let node = self.storage.there().map_err(failed)?;
        if self.is_closed() {
            return job(&*node);
        }
        self.close_image().map_err(failed)?;
        let result = job(&*node);
        self.load_image(self.is_read_only())?;
        self.closed.store(false, Ordering::Release);
        result
    }

    /// The same for a change of snapshots.
    fn change_snapshots<T>(
        &self,
        job: impl FnOnce(&dyn BlockNode) -> Result<T, BlockError>,
    ) -> Result<T, BlockError> {
        if self.is_read_only() {
            return Err(BlockError::ReadOnly);
        }
        if self.is_closed() || self.is_broken() {
            return Err(BlockError::host("The image cannot be written", eio()));
        }
        // Bitmaps do not tell of what changes.
        self.prepare_to_write()
            .map_err(|error| BlockError::host("The image cannot be written", error))?;
        self.exclusively(job)
    }

    /// Where the machine's state begins, beside the disk: behind all that L2 tables of the disk
    /// describe.
    fn vm_state_start(&self) -> io::Result<u64> {
        let entries = self.geometry.l1_entries(self.header().size);
        entries
            .checked_mul(1 << self.geometry.l1_shift())
            .ok_or_else(eio)
    }

    fn write_state(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.geometry.external {
            return Err(io::Error::from_raw_os_error(libc::ENOTSUP));
        }
        let start = self.vm_state_start()?.checked_add(offset).ok_or_else(eio)?;
        let end = start.checked_add(data.len() as u64).ok_or_else(eio)?;
        let entries = self.geometry.l1_entries(end);
        if entries > MAX_L1_BYTES / 8 {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        self.prepare_to_write()?;
        self.grow_l1(entries)?;
        let buffers = memory(data.len() as u64)?;
        buffers.write_at(0, data);
        self.write(start, &buffers, Durability::Cached)
    }

    fn read_state(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let start = self.vm_state_start()?.checked_add(offset).ok_or_else(eio)?;
        let end = start.checked_add(data.len() as u64).ok_or_else(eio)?;
        if self.geometry.l1_entries(end) > self.meta().l1.len() as u64 {
            return Err(eio());
        }
        let buffers = memory(data.len() as u64)?;
        self.read(start, &buffers)?;
        buffers.read_at(0, data);
        Ok(())
    }
}

impl Snapshots for Qcow2 {
    fn list(&self) -> Vec<SnapshotView> {
        let snapshots = self.snapshots.lock();
        let snapshots = snapshots.unwrap_or_else(PoisonError::into_inner);
        snapshots.clone()
    }

    fn create(&self, view: &SnapshotView) -> Result<String, BlockError> {
        self.change_snapshots(|node| super::create(node, view))
    }

    fn apply(&self, id: &str) -> Result<(), BlockError> {
        let discard = self.passes(Why::Snapshot);
        self.change_snapshots(|node| super::apply(node, id, discard))
    }

    fn delete(&self, id: &str) -> Result<(), BlockError> {
        let discard = self.passes(Why::Snapshot);
        self.change_snapshots(|node| super::delete(node, id, discard))
    }

    fn write_vm_state(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        if self.is_read_only() {
            return Err(BlockError::ReadOnly);
        }
        self.write_state(offset, data)
            .map_err(|error| BlockError::host("Could not write the machine's state", error))
    }

    fn read_vm_state(&self, offset: u64, data: &mut [u8]) -> Result<(), BlockError> {
        self.read_state(offset, data)
            .map_err(|error| BlockError::host("Could not read the machine's state", error))
    }
}
