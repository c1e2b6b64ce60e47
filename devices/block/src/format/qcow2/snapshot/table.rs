//! The snapshot table (qcow2 specification, "Snapshots").

use super::super::geometry::Geometry;
use super::super::header::{Header, MAX_SNAPSHOTS};
use super::super::io::{be32, be64};
use super::super::store::Store;
use crate::error::BlockError;
use crate::image::SnapshotView;

/// Bytes of an entry before what is of variable length.
const FIXED: usize = 40;
/// Most bytes of extra data in an entry.
const MAX_EXTRA: u32 = 1024;
/// Largest table.
const MAX_BYTES: u64 = 1024 * MAX_SNAPSHOTS as u64;
/// Bytes of extra data that version 3 asks for.
const NEEDED_EXTRA: usize = 16;
/// Bytes of extra data that are understood.
const KNOWN_EXTRA: usize = 24;

/// An internal snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::format::qcow2) struct Snapshot {
    pub l1_offset: u64,
    /// Entries.
    pub l1_size: u32,
    pub view: SnapshotView,
    /// Extra data that are not understood.
    pub more: Vec<u8>,
    /// Bytes of extra data in the file.
    pub extra_len: usize,
}

/// Instructions were not counted.
const NO_ICOUNT: u64 = u64::MAX;

fn put(bytes: &mut Vec<u8>, number: &[u8]) {
    bytes.extend_from_slice(number);
}

impl Snapshot {
    /// Reads an entry; `None` when it does not end in `bytes`. Gives its length, too.
    fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let field = |at: usize| be32(bytes, at);
        let id_len = usize::from((field(12) >> 16) as u16);
        let name_len = usize::from(field(12) as u16);
        let extra_len = field(36) as usize;
        let extra_end = FIXED.checked_add(extra_len)?;
        let extra = bytes.get(FIXED..extra_end)?;
        let id_end = extra_end.checked_add(id_len)?;
        let name_end = id_end.checked_add(name_len)?;
        let text = |from, to| {
            let bytes = bytes.get(from..to)?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        let number = |at: usize| (extra_len >= at.saturating_add(8)).then(|| be64(extra, at));
        let view = SnapshotView {
            id: text(extra_end, id_end)?,
            name: text(id_end, name_end)?,
            vm_state_size: number(0).unwrap_or(field(32).into()),
            date_sec: field(16),
            date_nsec: field(20),
            vm_clock_nsec: be64(bytes, 24),
            icount: number(16).filter(|count| *count != NO_ICOUNT),
            disk_size: number(8),
        };
        let snapshot = Snapshot {
            l1_offset: be64(bytes, 0),
            l1_size: field(8),
            view,
            more: extra.get(KNOWN_EXTRA..).unwrap_or(&[]).to_vec(),
            extra_len,
        };
        Some((snapshot, name_end))
    }

    /// Its entry, with all the extra data that are known.
    fn to_bytes(&self) -> Vec<u8> {
        let view = &self.view;
        let mut bytes = Vec::new();
        put(&mut bytes, &self.l1_offset.to_be_bytes());
        put(&mut bytes, &self.l1_size.to_be_bytes());
        put(&mut bytes, &(view.id.len() as u16).to_be_bytes());
        put(&mut bytes, &(view.name.len() as u16).to_be_bytes());
        put(&mut bytes, &view.date_sec.to_be_bytes());
        put(&mut bytes, &view.date_nsec.to_be_bytes());
        put(&mut bytes, &view.vm_clock_nsec.to_be_bytes());
        // What does not fit here is in the extra data only.
        let small = u32::try_from(view.vm_state_size).unwrap_or(0);
        put(&mut bytes, &small.to_be_bytes());
        let extra = KNOWN_EXTRA.saturating_add(self.more.len());
        put(&mut bytes, &(extra as u32).to_be_bytes());
        put(&mut bytes, &view.vm_state_size.to_be_bytes());
        put(&mut bytes, &view.disk_size.unwrap_or(0).to_be_bytes());
        put(&mut bytes, &view.icount.unwrap_or(NO_ICOUNT).to_be_bytes());
        put(&mut bytes, &self.more);
        put(&mut bytes, view.id.as_bytes());
        put(&mut bytes, view.name.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    /// Whether its entry lacks what the version asks for.
    pub fn is_incomplete(&self, geometry: &Geometry) -> bool {
        geometry.version >= 3 && self.extra_len < NEEDED_EXTRA
    }

    /// Whether it can be where it says.
    ///
    /// # Errors
    /// QEMU's words.
    pub fn check(&self, geometry: &Geometry) -> Result<(), BlockError> {
        let most = super::super::header::MAX_L1_BYTES;
        let bytes = u64::from(self.l1_size).saturating_mul(8);
        if bytes > most {
            return Err(refused("Snapshot L1 table too large"));
        }
        let inside = self.l1_offset.checked_add(bytes);
        let inside = inside.is_some_and(|end| end <= i64::MAX as u64);
        if !inside || geometry.inside(self.l1_offset) != 0 {
            return Err(refused("Snapshot L1 table offset invalid"));
        }
        Ok(())
    }
}

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::format::qcow2) struct Table {
    pub snapshots: Vec<Snapshot>,
    /// Bytes in the file.
    pub len: u64,
}

impl Table {
    /// Reads it.
    ///
    /// # Errors
    /// When it cannot be read, is too large or is not wholly in the file.
    pub fn read(store: &Store<'_>, header: &Header) -> Result<Self, BlockError> {
        let failed = |error| BlockError::host("Could not read snapshots", error);
        let mut table = Table::default();
        for _ in 0..header.snapshot_count {
            let start = table.len.next_multiple_of(8);
            let at = header
                .snapshots_offset
                .checked_add(start)
                .ok_or_else(too_large)?;
            if at >= store.size() {
                return Err(failed(super::super::io::eio()));
            }
            let mut bytes = vec![0; FIXED];
            store.read(at, &mut bytes).map_err(failed)?;
            let extra = be32(&bytes, 36);
            if extra > MAX_EXTRA {
                return Err(refused("Too much extra metadata in snapshot table"));
            }
            let names = usize::from((be32(&bytes, 12) >> 16) as u16)
                .saturating_add(usize::from(be32(&bytes, 12) as u16));
            bytes.resize(
                FIXED.saturating_add(extra as usize).saturating_add(names),
                0,
            );
            store.read(at, &mut bytes).map_err(failed)?;
            let (snapshot, len) = Snapshot::parse(&bytes).ok_or_else(too_large)?;
            table.len = start.saturating_add(len as u64);
            if table.len > MAX_BYTES {
                return Err(too_large());
            }
            table.snapshots.push(snapshot);
        }
        Ok(table)
    }

    /// Its bytes.
    ///
    /// # Errors
    /// When it is too large.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BlockError> {
        let mut bytes = Vec::new();
        for snapshot in &self.snapshots {
            // Text that was no UTF-8 has become longer.
            let most = usize::from(u16::MAX);
            if snapshot.view.id.len().max(snapshot.view.name.len()) > most {
                return Err(refused("Name of a snapshot is too long"));
            }
            bytes.extend(snapshot.to_bytes());
        }
        match bytes.len() as u64 > MAX_BYTES || self.snapshots.len() as u64 > MAX_SNAPSHOTS.into() {
            true => Err(too_large()),
            false => Ok(bytes),
        }
    }
}

fn refused(text: &str) -> BlockError {
    BlockError::Unsupported(text.to_owned())
}

fn too_large() -> BlockError {
    refused("Snapshot table is too large")
}
