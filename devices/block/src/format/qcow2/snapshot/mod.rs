//! Internal snapshots: a snapshot is a second L1 table that leads to the same clusters.

mod change;
mod image;
mod state;
pub(super) mod table;
mod walk;

use std::collections::HashSet;
use std::io;

use super::geometry::Geometry;
use super::header::{Header, MAX_L1_BYTES, MAX_SNAPSHOTS, incompatible};
use super::io::eio;
use super::store::Store;
use crate::error::BlockError;
use crate::image::SnapshotView;
use crate::node::BlockNode;
use change::Change;
use table::{Snapshot, Table};

/// A snapshot change of an image that nobody else reads or writes meanwhile.
struct Job<'a> {
    change: Change<'a>,
    table: Table,
    /// The active L1 table.
    l1: Vec<u64>,
    /// Gives back to the host what is freed.
    discard: bool,
}

/// Keeps the present content of the image in `storage`; gives the id. Blocks.
///
/// # Errors
/// When the image has an external data file, is full, damaged, or cannot be written; it is then as
/// before.
pub(super) fn create(storage: &dyn BlockNode, view: &SnapshotView) -> Result<String, BlockError> {
    let failed = |error| BlockError::host("Could not create snapshot", error);
    let mut job = Job::begin(storage, false)?;
    if job.table.snapshots.len() as u64 >= MAX_SNAPSHOTS.into() {
        return Err(failed(io::Error::from_raw_os_error(libc::EFBIG)));
    }
    if view.name.len() > u16::MAX.into() {
        return Err(failed(io::Error::from_raw_os_error(libc::EINVAL)));
    }
    let id = job.next_id();
    job.create(view, &id).map_err(failed)?;
    job.finish(true).map_err(failed)?;
    Ok(id)
}

/// Goes back to a snapshot. Blocks.
///
/// # Errors
/// When there is none, or as [`create`].
pub(super) fn apply(storage: &dyn BlockNode, id: &str, discard: bool) -> Result<(), BlockError> {
    let failed = |error| BlockError::host(format!("Could not apply snapshot '{id}'"), error);
    let mut job = Job::begin(storage, discard)?;
    let (_, snapshot) = job.find(id)?;
    job.apply(&snapshot).map_err(failed)?;
    job.finish(false).map_err(failed)
}

/// Forgets a snapshot. Blocks.
///
/// # Errors
/// When there is none, or as [`create`].
pub(super) fn delete(storage: &dyn BlockNode, id: &str, discard: bool) -> Result<(), BlockError> {
    let failed = |error| BlockError::host(format!("Could not delete snapshot '{id}'"), error);
    let mut job = Job::begin(storage, discard)?;
    let (at, snapshot) = job.find(id)?;
    job.table.snapshots.remove(at);
    job.delete(&snapshot).map_err(failed)?;
    job.finish(true).map_err(failed)
}

/// Writes the table of snapshots anew, with all that belongs into it. Refcounts are right. Blocks.
///
/// # Errors
/// As [`create`].
pub(super) fn rewrite(storage: &dyn BlockNode) -> Result<(), BlockError> {
    let mut job = Job::begin_any(storage, false)?;
    let size = job.change.header.size;
    for snapshot in &mut job.table.snapshots {
        snapshot.view.disk_size.get_or_insert(size);
    }
    job.finish(true)
        .map_err(|error| BlockError::host("Could not write snapshots", error))
}

/// All snapshots of the image in `storage`.
///
/// # Errors
/// When the table makes no sense.
pub(super) fn read(storage: &dyn BlockNode) -> Result<Table, BlockError> {
    let store = Store::new(storage);
    let (header, geometry) = store.header()?;
    let table = Table::read(&store, &header)?;
    for snapshot in &table.snapshots {
        snapshot.check(&geometry)?;
    }
    Ok(table)
}

impl<'a> Job<'a> {
    fn begin(storage: &'a dyn BlockNode, discard: bool) -> Result<Self, BlockError> {
        let job = Self::begin_any(storage, discard)?;
        let unsound = incompatible::DIRTY | incompatible::CORRUPT;
        match job.change.header.has(unsound) {
            true => Err(BlockError::Unsupported(
                "The image has to be repaired before its snapshots are changed".to_owned(),
            )),
            false => Ok(job),
        }
    }

    /// The same for an image that is marked as damaged, and is not any more.
    fn begin_any(storage: &'a dyn BlockNode, discard: bool) -> Result<Self, BlockError> {
        let store = Store::new(storage);
        let mut change = Change::begin(store)?;
        if change.geometry.external {
            return Err(BlockError::Unsupported(
                "Internal snapshots are not supported with an external data file".to_owned(),
            ));
        }
        let table = read(storage)?;
        let failed = |error| BlockError::host("Could not read the image's tables", error);
        let header = change.header.clone();
        let l1 = store
            .words(header.l1_offset, header.l1_size.into())
            .map_err(failed)?;
        verify(&mut change, &header, &table, &l1).map_err(failed)?;
        Ok(Job {
            change,
            table,
            l1,
            discard,
        })
    }

    fn geometry(&self) -> Geometry {
        self.change.geometry
    }

    /// As QEMU gives them: one more than the largest.
    fn next_id(&self) -> String {
        let ids = self.table.snapshots.iter();
        let ids = ids.filter_map(|snapshot| snapshot.view.id.parse::<u64>().ok());
        ids.max().unwrap_or(0).saturating_add(1).to_string()
    }

    fn find(&self, id: &str) -> Result<(usize, Snapshot), BlockError> {
        let mut all = self.table.snapshots.iter().enumerate();
        let found = all.find(|(_, snapshot)| snapshot.view.id == id);
        found
            .map(|(at, snapshot)| (at, snapshot.clone()))
            .ok_or_else(|| BlockError::Unsupported(format!("Can't find snapshot '{id}'")))
    }

    fn create(&mut self, view: &SnapshotView, id: &str) -> io::Result<()> {
        let header = &self.change.header;
        let disk = self.geometry().l1_entries(header.size);
        let disk = usize::try_from(disk).map_err(|_| eio())?;
        let snapshot = Snapshot {
            l1_offset: header.l1_offset,
            l1_size: header.l1_size,
            view: SnapshotView {
                id: id.to_owned(),
                disk_size: Some(header.size),
                ..view.clone()
            },
            more: Vec::new(),
            extra_len: 0,
        };
        self.table.snapshots.push(snapshot);
        // The old table is the snapshot's now. The machine's state, behind the disk's end, is of
        // no use in the active one.
        let mut l1 = self.l1.clone();
        l1.iter_mut().skip(disk).for_each(|word| *word = 0);
        self.change.step_all(&l1, 1)?;
        self.activate(l1, None)
    }

    fn apply(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let size = snapshot.view.disk_size.filter(|size| *size > 0);
        let size = size.unwrap_or(self.change.header.size);
        let needed = self
            .geometry()
            .l1_entries(size)
            .max(snapshot.l1_size.into())
            .max(1);
        if needed > MAX_L1_BYTES / 8 || size > i64::MAX as u64 {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        let store = self.change.store;
        let mut l1 = store.words(snapshot.l1_offset, snapshot.l1_size.into())?;
        // The machine's state stays with the snapshot: shared with the active table, it would have
        // to be copied when the next one is written.
        let disk = usize::try_from(self.geometry().l1_entries(size)).map_err(|_| eio())?;
        l1.truncate(disk);
        // In this order a refcount that is as large as can be does not stand in the way.
        let old = std::mem::take(&mut self.l1);
        self.change.step_all(&old, -1)?;
        self.change.step_all(&l1, 1)?;
        l1.resize(usize::try_from(needed).map_err(|_| eio())?, 0);
        self.change.header.size = size;
        self.activate(l1, Some(old.len()))
    }

    fn delete(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let store = self.change.store;
        let l1 = store.words(snapshot.l1_offset, snapshot.l1_size.into())?;
        self.change.step_all(&l1, -1)?;
        self.change
            .step(snapshot.l1_offset, (l1.len() as u64).saturating_mul(8), -1)?;
        let (active, len) = (self.l1.clone(), self.l1.len());
        self.activate(active, Some(len))
    }

    /// Makes a table the active one; the old one, of so many entries, is given up.
    fn activate(&mut self, mut l1: Vec<u64>, old: Option<usize>) -> io::Result<()> {
        let same = l1.len() == self.l1.len();
        if !self.change.set_flags(&mut l1)? && same && l1 == self.l1 && old.is_some() {
            return Ok(());
        }
        let header = &self.change.header;
        if let Some(entries) = old {
            let (offset, len) = (header.l1_offset, (entries as u64).saturating_mul(8));
            self.change.step(offset, len, -1)?;
        }
        let offset = self.change.write_table(&l1)?;
        self.change.header.l1_offset = offset;
        self.change.header.l1_size = u32::try_from(l1.len()).map_err(|_| eio())?;
        Ok(())
    }

    fn finish(mut self, table_changed: bool) -> io::Result<()> {
        if table_changed {
            let (offset, len) = (self.change.header.snapshots_offset, self.table.len);
            self.change.step(offset, len, -1)?;
            let bytes = self.table.to_bytes().map_err(|_| eio())?;
            let mut offset = 0;
            if !bytes.is_empty() {
                offset = self.change.allocate(bytes.len() as u64)?;
                self.change.store.write(offset, &bytes)?;
            }
            self.change.header.snapshots_offset = offset;
            self.change.header.snapshot_count = self.table.snapshots.len() as u32;
        }
        self.change.commit(self.discard)
    }
}

/// Whether all tables are where something is counted as used; new ones may not be put there.
fn verify(change: &mut Change<'_>, header: &Header, table: &Table, l1: &[u64]) -> io::Result<()> {
    let bytes = |entries: usize| (entries as u64).saturating_mul(8);
    change.is_used(0, 1)?;
    if !l1.is_empty() {
        change.is_used(header.l1_offset, bytes(l1.len()))?;
    }
    if table.len > 0 {
        change.is_used(header.snapshots_offset, table.len)?;
    }
    let mut seen = HashSet::new();
    change.verify(l1, &mut seen)?;
    let store = change.store;
    for snapshot in &table.snapshots {
        if snapshot.l1_size > 0 {
            change.is_used(snapshot.l1_offset, bytes(snapshot.l1_size as usize))?;
        }
        let l1 = store.words(snapshot.l1_offset, snapshot.l1_size.into())?;
        change.verify(&l1, &mut seen)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "snapshot_test.rs"]
mod tests;
