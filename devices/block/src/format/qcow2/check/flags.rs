//! Entries of the active tables that say whether their cluster is used once.

use std::collections::BTreeMap;
use std::io;

use super::super::geometry::{COMPRESSED, COPIED, OFFSET, ZERO};
use super::super::io::{be64, put64};
use super::super::stored::Stored;
use super::walk::Walk;

/// Compares the flags with the refcounts in the file, and sets them right when `mend`.
///
/// # Errors
/// The host's.
pub(super) fn check(walk: &mut Walk<'_>, stored: &mut Stored<'_>, mend: bool) -> io::Result<()> {
    let (offset, entries) = (walk.header.l1_offset, walk.header.l1_size);
    let there = walk.store.size().saturating_sub(offset).div_ceil(8);
    let mut l1 = walk.store.words(offset, there.min(entries.into()))?;
    let mut tables: BTreeMap<u64, u64> = BTreeMap::new();
    let mut changed = false;
    for (index, word) in l1.iter_mut().enumerate() {
        let table = *word & OFFSET;
        if table == 0 {
            continue;
        }
        let Ok(count) = stored.get(table >> walk.geometry.cluster_bits) else {
            continue;
        };
        if (count == 1) != (*word & COPIED != 0) {
            let text = format!(
                "OFLAG_COPIED L2 cluster: l1_index={index} l1_entry={word:x} refcount={count}"
            );
            note(walk, 1, mend, text);
            *word ^= COPIED;
            changed = true;
        }
        let times = tables.entry(table).or_default();
        *times = times.saturating_add(1);
    }
    if changed && mend {
        walk.store.write_words(offset, &l1)?;
    }
    for (table, times) in tables {
        check_table(walk, stored, table, times, mend)?;
    }
    if mend { walk.store.flush() } else { Ok(()) }
}

fn note(walk: &mut Walk<'_>, times: u64, mend: bool, text: String) {
    if !mend {
        return walk.corrupt(times, text);
    }
    walk.report.corruptions_fixed = walk.report.corruptions_fixed.saturating_add(times);
    walk.say(format!("Repairing {text}"));
}

fn check_table(
    walk: &mut Walk<'_>,
    stored: &mut Stored<'_>,
    offset: u64,
    times: u64,
    mend: bool,
) -> io::Result<()> {
    let geometry = walk.geometry;
    let mut table = vec![0; geometry.cluster() as usize];
    walk.store.read(offset, &mut table)?;
    let bytes = 1usize << geometry.entry_bits();
    let mut changed = false;
    for at in (0..table.len()).step_by(bytes) {
        let word = be64(&table, at);
        let host = word & OFFSET;
        let zero = word & ZERO != 0 && !geometry.extended;
        let nowhere = host == 0 && (zero || !(geometry.external && word & COPIED != 0));
        if word & COMPRESSED != 0 || nowhere {
            continue;
        }
        let count = match geometry.external {
            true => 1,
            false => match stored.get(host >> geometry.cluster_bits) {
                Ok(count) => count,
                Err(_) => continue,
            },
        };
        if (count == 1) != (word & COPIED != 0) {
            let text = format!("OFLAG_COPIED data cluster: l2_entry={word:x} refcount={count}");
            // Mended once, it is right for the others.
            let times = if mend { 1 } else { times };
            note(walk, times, mend, text);
            put64(&mut table, at, word ^ COPIED);
            changed = true;
        }
    }
    if changed && mend {
        walk.store.write(offset, &table)?;
    }
    Ok(())
}
