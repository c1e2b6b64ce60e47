//! Pages that nobody ever touched: zeroes, without looking at them. Looking would cost a page
//! fault each, or the page itself where memory is a file.
#![allow(unsafe_code)] // lseek(2) with SEEK_DATA has no safe face

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::ram::{PAGE, RamBlock};
use crate::own_process;

/// Asking costs a system call: not for a few pages.
const WORTH_ASKING: u32 = 16;

/// How the kernel tells which pages of a block were never touched.
#[derive(Debug, Clone)]
pub enum Ground {
    /// Anonymous memory of this process: neither present nor swapped out
    /// (proc_pid_pagemap(5)).
    Anonymous(Arc<File>),
    /// A file that all of it shows: holes.
    Holes(Arc<File>, u64),
    /// It does not.
    Unknown,
}

/// Which of some pages are untouched.
#[derive(Debug, Default)]
pub struct Untouched(Vec<u64>);

impl Untouched {
    /// Whether the page with this number among them is.
    pub fn has(&self, at: u32) -> bool {
        let word = usize::try_from(at / 64).ok().and_then(|at| self.0.get(at));
        word.is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn set(&mut self, at: u32) {
        let index = usize::try_from(at / 64).unwrap_or(usize::MAX);
        if let Some(word) = self.0.get_mut(index) {
            *word |= 1 << (at % 64);
        }
    }

    fn room(count: u32) -> Self {
        Untouched(vec![0; usize::try_from(count.div_ceil(64)).unwrap_or(0)])
    }
}

impl Ground {
    /// Of this block, as it is mapped now.
    pub fn of(block: &RamBlock) -> Ground {
        match &block.file {
            Some((file, offset)) if block.shared => Ground::Holes(file.clone(), *offset),
            Some(_) => Ground::Unknown,
            None if block.shared || !is_anonymous(block) => Ground::Unknown,
            None => own_process::pagemap().map_or(Ground::Unknown, Ground::Anonymous),
        }
    }

    /// Which of `count` pages from `first` on are. Sound while pages are written, too, for whoever
    /// learns of such writes later.
    pub fn untouched(&self, block: &RamBlock, first: u64, count: u32) -> Untouched {
        if count < WORTH_ASKING {
            return Untouched::default();
        }
        match self {
            Ground::Unknown => Untouched::default(),
            Ground::Anonymous(map) => in_pagemap(map, block, first, count),
            Ground::Holes(file, offset) => in_file(file, *offset, first, count),
        }
    }
}

fn in_pagemap(map: &File, block: &RamBlock, first: u64, count: u32) -> Untouched {
    const PRESENT_OR_SWAPPED: u64 = 3 << 62;
    let mut raw = vec![0u8; usize::try_from(count).unwrap_or(0).saturating_mul(8)];
    let page = (block.host / PAGE).saturating_add(first);
    if map.read_exact_at(&mut raw, page.saturating_mul(8)).is_err() {
        return Untouched::default();
    }
    let mut found = Untouched::room(count);
    for (at, entry) in (0u32..).zip(raw.as_chunks::<8>().0) {
        if u64::from_le_bytes(*entry) & PRESENT_OR_SWAPPED == 0 {
            found.set(at);
        }
    }
    found
}

fn in_file(file: &File, offset: u64, first: u64, count: u32) -> Untouched {
    let mut found = Untouched::room(count);
    let start = offset.saturating_add(first.saturating_mul(PAGE));
    let end = start.saturating_add(u64::from(count).saturating_mul(PAGE));
    let mut at = start;
    while at < end {
        let Some(data) = seek(file, at, libc::SEEK_DATA, end) else {
            return Untouched::default();
        };
        // A page is untouched when all of it is in the hole.
        let (from, to) = (
            (at.saturating_sub(start)).div_ceil(PAGE),
            data.saturating_sub(start) / PAGE,
        );
        for page in from..to.max(from) {
            found.set(u32::try_from(page).unwrap_or(u32::MAX));
        }
        if data >= end {
            break;
        }
        let Some(hole) = seek(file, data, libc::SEEK_HOLE, end) else {
            return Untouched::default();
        };
        at = hole.max(data.saturating_add(1));
    }
    found
}

/// Where data or a hole begins, at `end` at the latest; `None` when the file cannot tell.
fn seek(file: &File, from: u64, what: i32, end: u64) -> Option<u64> {
    let from = libc::off_t::try_from(from).ok()?;
    // SAFETY: no pointers. The file's position, which this moves, is nobody's: it is mapped.
    let found = unsafe { libc::lseek(file.as_raw_fd(), from, what) };
    if let Ok(found) = u64::try_from(found) {
        return Some(found.min(end));
    }
    // No data up to the end of the file.
    let none = std::io::Error::last_os_error().raw_os_error() == Some(libc::ENXIO);
    none.then_some(end)
}

/// Whether all of the block is anonymous memory: it may have been replaced by pages of a file
/// since it was made (see `mapped`).
fn is_anonymous(block: &RamBlock) -> bool {
    let Ok(maps) = own_process::mappings() else {
        return false;
    };
    let Some(end) = block.host.checked_add(block.len) else {
        return false;
    };
    let mut reached = block.host;
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let range = words.next().and_then(|range| range.split_once('-'));
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let Some((Some(from), Some(to))) = range.map(|(from, to)| (hex(from), hex(to))) else {
            return false;
        };
        // Flags, offset, device, inode.
        let inode = words.nth(3);
        if to <= reached || from >= end {
            continue;
        }
        if from > reached || inode != Some("0") {
            return false;
        }
        reached = to;
    }
    reached >= end
}
