//! Snapshots of an open image, and the machine's state beside its disk.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::super::Qcow2;
use super::super::io::eio;
use super::super::meta::Why;
use crate::buffers::Buffers;
use crate::error::BlockError;
use crate::image::{SnapshotView, Snapshots};
use crate::node::BlockNode;

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

    fn write_vm_state(&self, offset: u64, data: &Buffers) -> Result<(), BlockError> {
        if self.is_read_only() {
            return Err(BlockError::ReadOnly);
        }
        self.write_state(offset, data)
            .map_err(|error| BlockError::host("Could not write the machine's state", error))
    }

    fn drop_vm_state(&self) -> Result<(), BlockError> {
        if self.is_read_only() {
            return Err(BlockError::ReadOnly);
        }
        self.drop_state()
            .map_err(|error| BlockError::host("Could not give back the machine's state", error))
    }

    fn read_vm_state(&self, id: &str) -> Result<Box<dyn io::Read + '_>, BlockError> {
        Ok(Box::new(self.open_state(id)?))
    }
}
