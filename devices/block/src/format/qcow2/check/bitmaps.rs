//! Persistent dirty bitmaps, as far as a check counts them (qcow2 specification, "Bitmaps").

use super::super::header::extension;
use super::super::io::{be32, be64};
use super::walk::Walk;

const MAX_BITMAPS: u32 = 65535;
const MAX_DIRECTORY: u64 = MAX_BITMAPS as u64 * 1024;
/// Entries of a bitmap's table.
const MAX_TABLE: u32 = 0x0800_0000;
/// Bits of a table's entry that are a place, and those that are 0.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const RESERVED: u64 = 0xff00_0000_0000_01fe;
/// Bytes of a directory entry before what is of variable length.
const FIXED: usize = 24;

/// Counts directory, tables and data of all bitmaps.
pub(super) fn count(walk: &mut Walk<'_>) {
    let Some(extension) = walk.header.extension(extension::BITMAPS) else {
        return;
    };
    let (bitmaps, len, offset) = (be32(extension, 0), be64(extension, 8), be64(extension, 16));
    if bitmaps == 0 {
        return;
    }
    walk.count(offset, len, 1);
    if bitmaps > MAX_BITMAPS || len > MAX_DIRECTORY {
        return walk.corrupt(1, "bitmap directory is too large".to_owned());
    }
    let mut directory = vec![0; len as usize];
    if let Err(error) = walk.store.read(offset, &mut directory) {
        return walk.unreadable("The bitmap directory", &error);
    }
    let mut rest = directory.as_slice();
    for _ in 0..bitmaps {
        let Some((table, entries, more)) = entry(rest) else {
            return walk.corrupt(1, "bitmap directory is damaged".to_owned());
        };
        rest = more;
        if entries > MAX_TABLE {
            return walk.corrupt(1, "bitmap table is too large".to_owned());
        }
        count_table(walk, table, entries);
    }
}

/// The place and length of the first bitmap's table, and the entries after it.
fn entry(directory: &[u8]) -> Option<(u64, u32, &[u8])> {
    let name = be32(directory, 16) & 0xffff;
    let extra = be32(directory, 20);
    let len = FIXED
        .checked_add(name as usize)?
        .checked_add(extra as usize)?;
    let rest = directory.get(len.next_multiple_of(8).min(directory.len())..)?;
    let whole = directory.len() >= len;
    whole.then_some((be64(directory, 0), be32(directory, 8), rest))
}

fn count_table(walk: &mut Walk<'_>, table: u64, entries: u32) {
    walk.count(table, u64::from(entries).saturating_mul(8), 1);
    let there = walk.store.size().saturating_sub(table) / 8;
    let words = match walk.store.words(table, there.min(entries.into())) {
        Ok(words) => words,
        Err(error) => return walk.unreadable("A bitmap table", &error),
    };
    for word in words {
        let offset = word & OFFSET;
        if word & RESERVED != 0
            || walk.geometry.inside(offset) != 0
            || (offset != 0 && word & 1 != 0)
        {
            walk.corrupt(1, format!("bitmap table entry {word:x} makes no sense"));
        } else if offset != 0 {
            walk.count(offset, walk.geometry.cluster(), 1);
        }
    }
}
