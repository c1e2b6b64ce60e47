//! Looking for damage, and mending it; what counts as damage and how often is as in `qemu-img
//! check`.
//!
//! ```text
//! walk: all that is used is counted -> compared with refcounts -> mended, or rebuilt
//!    -> flags of entries compared with refcounts, mended -> once more, if anything was mended
//! ```

mod bitmaps;
mod compare;
mod counts;
mod flags;
mod rebuild;
mod walk;

use std::io;

use super::header::{Header, incompatible};
use super::snapshot;
use super::snapshot::table::Table;
use super::store::Store;
use super::stored::Stored;
use crate::error::BlockError;
use crate::image::{CheckReport, Repair};
use crate::node::BlockNode;

use walk::Walk;

/// Checks the image in `storage`, which nobody else reads or writes meanwhile. Blocks.
///
/// # Errors
/// When it is no image that can be understood, or cannot be read or written.
pub fn check(storage: &dyn BlockNode, repair: Repair) -> Result<CheckReport, BlockError> {
    let store = Store::new(storage);
    let mut first = pass(store, repair)?;
    if repair == Repair::All {
        complete_snapshots(storage, &mut first)?;
    }
    let fixed = (first.corruptions_fixed, first.leaks_fixed);
    if fixed != (0, 0) {
        let messages = std::mem::take(&mut first.messages);
        first = pass(store, Repair::No)?;
        (first.corruptions_fixed, first.leaks_fixed) = fixed;
        first.messages.splice(0..0, messages);
    }
    if repair == Repair::All && first.check_errors == 0 && first.corruptions == 0 {
        mark_sound(store).map_err(failed)?;
    }
    Ok(first)
}

/// Makes refcounts right in an image that was not closed, before it is written.
///
/// # Errors
/// When the image cannot be read or written, or damage is left.
pub(in crate::format) fn rebuild_refcounts(storage: &dyn BlockNode) -> Result<(), BlockError> {
    let report = check(storage, Repair::All)?;
    if report.check_errors == 0 && report.corruptions == 0 {
        return Ok(());
    }
    let error = io::Error::from_raw_os_error(libc::EIO);
    Err(BlockError::host("Could not repair dirty image", error))
}

fn failed(error: io::Error) -> BlockError {
    BlockError::host("Check failed", error)
}

/// It was closed, and there is no damage.
fn mark_sound(store: Store<'_>) -> io::Result<()> {
    let Ok((mut header, _)) = store.header() else {
        return Ok(());
    };
    let bits = incompatible::DIRTY | incompatible::CORRUPT;
    if header.version < 3 || !header.has(bits) {
        return Ok(());
    }
    // What was mended is durable before anybody relies on it.
    store.flush()?;
    header.incompatible &= !bits;
    store.write_header(&header)?;
    store.flush()
}

fn pass(store: Store<'_>, repair: Repair) -> Result<CheckReport, BlockError> {
    let (mut header, geometry) = store.header()?;
    let snapshots = match Table::read(&store, &header) {
        Ok(table) => table,
        Err(error) => {
            return Ok(CheckReport {
                check_errors: 1,
                messages: vec![format!("ERROR failed to read the snapshot table: {error}")],
                ..CheckReport::default()
            });
        }
    };
    let entries = u64::from(header.refcount_table_clusters) << (header.cluster_bits - 3);
    let table = store
        .words(header.refcount_table_offset, entries)
        .map_err(failed)?;
    let before = header.clone();
    let mut walk = Walk::new(store, &before, geometry, repair == Repair::All);
    walk.run(&snapshots, &table).map_err(failed)?;
    // What could not be looked at may use what seems to be leaked.
    let repair = match walk.report.check_errors {
        0 => repair,
        _ => Repair::No,
    };
    let all = repair == Repair::All;
    let mut stored = Stored::new(store, geometry, table);
    let elsewhere = walk.report.corruptions;
    compare::compare(&mut walk, &mut stored);
    if walk.rebuild && all {
        stored = anew(&mut walk, &mut header, &snapshots).map_err(failed)?;
    } else {
        compare::mend(&mut walk, &mut stored, repair).map_err(failed)?;
    }
    // Flags follow refcounts, which have to be right for that.
    let report = &walk.report;
    let right = report.leaks == 0 && report.check_errors == 0;
    let mend = match repair {
        Repair::No => false,
        Repair::Leaks => right && report.corruptions == 0,
        Repair::All => right && report.corruptions <= elsewhere,
    };
    flags::check(&mut walk, &mut stored, mend).map_err(failed)?;
    check_snapshots(&mut walk, &snapshots);
    Ok(walk.report)
}

/// Snapshots that lack what version 3 asks for.
fn incomplete(store: Store<'_>) -> Result<Vec<String>, BlockError> {
    let (header, geometry) = store.header()?;
    let table = Table::read(&store, &header)?;
    let found = table.snapshots.into_iter();
    let found = found.filter(|snapshot| snapshot.is_incomplete(&geometry));
    Ok(found.map(|snapshot| snapshot.view.id).collect())
}

fn check_snapshots(walk: &mut Walk<'_>, snapshots: &Table) {
    let geometry = walk.geometry;
    let all = snapshots.snapshots.iter();
    for snapshot in all.filter(|snapshot| snapshot.is_incomplete(&geometry)) {
        let id = &snapshot.view.id;
        walk.corrupt(1, format!("snapshot table entry {id} is incomplete"));
    }
}

/// Gives snapshots what they lack, once all else is right.
fn complete_snapshots(storage: &dyn BlockNode, report: &mut CheckReport) -> Result<(), BlockError> {
    if report.check_errors > 0 || report.corruptions == 0 {
        return Ok(());
    }
    let count = incomplete(Store::new(storage))?.len() as u64;
    if count == 0 || report.corruptions != count || report.leaks > 0 {
        return Ok(());
    }
    snapshot::rewrite(storage)?;
    report.corruptions = 0;
    report.corruptions_fixed = report.corruptions_fixed.saturating_add(count);
    Ok(())
}

/// Makes new refcount structures; the damage that lay in the old ones is mended.
fn anew<'a>(walk: &mut Walk<'a>, header: &mut Header, snapshots: &Table) -> io::Result<Stored<'a>> {
    walk.say("Rebuilding refcount structure".to_owned());
    let old = std::mem::take(&mut walk.structures);
    let table = rebuild::rebuild(walk.store, walk.geometry, header, &mut walk.counts, &old)?;
    let mut again = Walk::new(walk.store, header, walk.geometry, false);
    again.run(snapshots, &table)?;
    let (report, left) = (&mut walk.report, again.report.corruptions);
    let fixed = report.corruptions.saturating_sub(left);
    report.corruptions_fixed = report.corruptions_fixed.saturating_add(fixed);
    report.leaks_fixed = report.leaks_fixed.saturating_add(report.leaks);
    (report.corruptions, report.leaks) = (left, 0);
    report.check_errors = again.report.check_errors;
    Ok(Stored::new(walk.store, walk.geometry, table))
}

#[cfg(test)]
#[path = "check_test.rs"]
mod tests;
