//! An ELF core of the guest (ELF gABI; Linux's elf(5)): notes about processors, and memory.

use std::io;

use super::guest::{GuestMemory, GuestRange};
use super::notes::{self, Width};
use super::output::Output;
use super::paging::{Go, Paging};
use super::{Dump, DumpError, Progress};

const EHDR: u64 = 64;
const PHDR: u64 = 56;
const SHDR: u64 = 64;
const ET_CORE: u16 = 4;
const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;
const SHT_STRTAB: u32 = 3;
/// The names of sections, as long as they are padded.
const NAMES: &[u8; 16] = b"\0.shstrtab\0\0\0\0\0\0";
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// The number of program headers is in the first section header.
const PN_XNUM: u16 = 0xffff;
/// Memory begins at a multiple of it in the file.
const ALIGN: u64 = 4096;
/// The most pieces of virtual memory that a dump lists, which is 220 MiB of headers.
const MAX_MAPPINGS: usize = 1 << 22;
/// Bytes between two looks at whether the dump is to end.
const STEP: u64 = 4 << 20;
/// Bytes looked at first.
const HEAD: usize = 64;
const PAGE: usize = 4096;

/// A program header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    kind: u32,
    offset: u64,
    virt: u64,
    phys: u64,
    len: u64,
}

/// A piece of virtual memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Mapping {
    virt: u64,
    phys: u64,
    len: u64,
}

/// Writes it.
///
/// # Errors
/// See [`DumpError`].
pub(super) fn write(
    dump: &Dump,
    paging: bool,
    out: &mut Output,
    progress: &Progress,
) -> Result<(), DumpError> {
    let notes = notes::notes(&dump.cpus);
    let mappings = match paging {
        true => mappings(dump)?,
        false => None,
    };
    let wanted = mappings.unwrap_or_else(|| plain(&dump.part));
    let headers = Headers::new(&dump.part, &wanted, notes.len() as u64);
    let failed = DumpError::write;
    out.write(&headers.file_header(Width::of(&dump.cpus)))
        .map_err(failed("write elf header"))?;
    out.write(&headers.program_headers())
        .map_err(failed("write program headers"))?;
    out.write(&headers.sections(out.position()))
        .map_err(failed("write section headers"))?;
    out.write(&notes).map_err(failed("write notes"))?;
    let gap = headers.memory.saturating_sub(out.position());
    out.zeroes(gap).map_err(failed("write notes"))?;
    for range in dump.part.ranges() {
        write_range(range, out, progress)?;
    }
    out.finish().map_err(failed("save memory"))
}

/// Each range of memory at its physical address.
fn plain(memory: &GuestMemory) -> Vec<Mapping> {
    let plain = |range: &GuestRange| Mapping {
        virt: range.base,
        phys: range.base,
        len: range.len,
    };
    memory.ranges().iter().map(plain).collect()
}

/// What the processors' page tables map, in order; `None` where none of them has any.
fn mappings(dump: &Dump) -> Result<Option<Vec<Mapping>>, DumpError> {
    let mut seen: Vec<Paging> = Vec::new();
    let mut all: Vec<Mapping> = Vec::new();
    for paging in dump.cpus.iter().filter_map(Paging::of) {
        if seen.contains(&paging) {
            continue;
        }
        seen.push(paging);
        let (first, mut fits) = (all.len(), true);
        let read = |address, bytes: &mut [u8]| dump.all.read(address, bytes);
        let walked = paging.walk(&read, &mut |leaf| {
            let new = Mapping {
                virt: leaf.virt,
                phys: leaf.phys,
                len: leaf.size,
            };
            match all.get_mut(first..).and_then(<[Mapping]>::last_mut) {
                Some(last) if follows(last, &new) => last.len = last.len.saturating_add(new.len),
                _ => all.push(new),
            }
            fits = all.len() < MAX_MAPPINGS;
            if fits { Go::On } else { Go::Stop }
        });
        if walked.is_err() || !fits {
            return Err(DumpError::Paging);
        }
        // Each time: a guest of many processors would have its kernel in the list so many times.
        all = merge(all);
    }
    Ok((!seen.is_empty()).then_some(all))
}

/// `next` begins where `last` ends, in both kinds of address.
fn follows(last: &Mapping, next: &Mapping) -> bool {
    last.virt.checked_add(last.len) == Some(next.virt)
        && last.phys.checked_add(last.len) == Some(next.phys)
}

/// In order, each piece once: processors share most of what they map.
fn merge(mut all: Vec<Mapping>) -> Vec<Mapping> {
    all.sort_unstable();
    let mut merged: Vec<Mapping> = Vec::new();
    for next in all {
        match merged.last_mut() {
            Some(last) if covers(last, &next) => {
                let end = next.virt.saturating_add(next.len);
                last.len = last.len.max(end.saturating_sub(last.virt));
            }
            _ => merged.push(next),
        }
    }
    merged
}

/// `next` goes on from `last`, or begins in the midst of it, with the same memory behind it.
fn covers(last: &Mapping, next: &Mapping) -> bool {
    let (skipped, same) = (
        next.virt.wrapping_sub(last.virt),
        next.phys.wrapping_sub(last.phys),
    );
    skipped == same && skipped <= last.len
}

/// Where everything is.
struct Headers {
    segments: Vec<Segment>,
    /// Where memory begins.
    memory: u64,
}

impl Headers {
    fn new(memory: &GuestMemory, mappings: &[Mapping], notes: u64) -> Self {
        let mut segments = vec![Segment {
            kind: PT_NOTE,
            offset: 0,
            virt: 0,
            phys: 0,
            len: notes,
        }];
        for mapping in mappings {
            let part = memory.part(mapping.phys, mapping.len);
            segments.extend(part.ranges().iter().map(|piece| {
                Segment {
                    kind: PT_LOAD,
                    offset: place(memory, piece.base),
                    virt: mapping
                        .virt
                        .wrapping_add(piece.base.wrapping_sub(mapping.phys)),
                    phys: piece.base,
                    len: piece.len,
                }
            }));
        }
        let headers = PHDR.saturating_mul(segments.len() as u64);
        let sections = match segments.len() >= usize::from(PN_XNUM) {
            true => 2 * SHDR + NAMES.len() as u64,
            false => 0,
        };
        let notes_at = EHDR.saturating_add(headers).saturating_add(sections);
        let first = notes_at.saturating_add(notes).next_multiple_of(ALIGN);
        for segment in &mut segments {
            let begin = if segment.kind == PT_NOTE {
                notes_at
            } else {
                first
            };
            segment.offset = segment.offset.saturating_add(begin);
        }
        Headers {
            segments,
            memory: first,
        }
    }

    fn file_header(&self, width: Width) -> Vec<u8> {
        let count = u16::try_from(self.segments.len()).unwrap_or(PN_XNUM);
        let mut out = b"\x7fELF\x02\x01\x01".to_vec();
        out.resize(16, 0);
        let machine = match width {
            Width::Bits64 => EM_X86_64,
            Width::Bits32 => EM_386,
        };
        out.extend([ET_CORE, machine].into_iter().flat_map(u16::to_le_bytes));
        out.extend(1u32.to_le_bytes());
        let behind = EHDR.saturating_add(PHDR.saturating_mul(self.segments.len() as u64));
        let (sections, number, names) = match self.has_sections() {
            true => (behind, 2, 1),
            false => (0, 0, 0),
        };
        out.extend([0, EHDR, sections].into_iter().flat_map(u64::to_le_bytes));
        out.extend(0u32.to_le_bytes());
        // Sizes and numbers of headers: the file's, programs', sections'.
        let sizes = [64, 56, count, 64, number, names];
        out.extend(sizes.into_iter().flat_map(u16::to_le_bytes));
        out
    }

    fn program_headers(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for segment in &self.segments {
            out.extend(segment.kind.to_le_bytes());
            out.extend(0u32.to_le_bytes());
            let Segment {
                kind: _,
                offset,
                virt,
                phys,
                len,
            } = *segment;
            let rest = [offset, virt, phys, len, len, 0];
            out.extend(rest.into_iter().flat_map(u64::to_le_bytes));
        }
        out
    }

    fn has_sections(&self) -> bool {
        self.segments.len() >= usize::from(PN_XNUM)
    }

    /// Sections are there only to say how many program headers there are, where that does not fit
    /// into the file header (`sh_info` of the first). Readers insist on a table of names then.
    fn sections(&self, at: u64) -> Vec<u8> {
        if !self.has_sections() {
            return Vec::new();
        }
        let count = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        let mut out = vec![0; 44];
        out.extend(count.to_le_bytes());
        out.resize(64, 0);
        out.extend([1, SHT_STRTAB].into_iter().flat_map(u32::to_le_bytes));
        let names = at.saturating_add(2 * SHDR);
        let place = [0, 0, names, NAMES.len() as u64, 0, 1, 0];
        out.extend(place.into_iter().flat_map(u64::to_le_bytes));
        out.extend(NAMES);
        out
    }
}

/// Where a physical address is behind the beginning of memory in the file.
fn place(memory: &GuestMemory, address: u64) -> u64 {
    let mut before = 0u64;
    for range in memory.ranges() {
        if address < range.end() {
            return before.saturating_add(address.saturating_sub(range.base));
        }
        before = before.saturating_add(range.len);
    }
    before
}

fn write_range(range: &GuestRange, out: &mut Output, progress: &Progress) -> Result<(), DumpError> {
    let mut at = 0u64;
    while at < range.len {
        let step = STEP.min(range.len.saturating_sub(at));
        write_step(range, at, step, out).map_err(DumpError::write("save memory"))?;
        progress.advance(step)?;
        at = at.saturating_add(step);
    }
    Ok(())
}

/// Part of a range: what is not zero in as large pieces as there are.
fn write_step(range: &GuestRange, at: u64, len: u64, out: &mut Output) -> io::Result<()> {
    // What was looked at and not written: where it begins, how much, whether it is zero.
    let mut pending = (at, 0u64, false);
    let end = at.saturating_add(len);
    let mut here = at;
    while here < end {
        let page = end.saturating_sub(here).min(PAGE as u64);
        let zero = is_zero_page(range, here, page);
        let (begin, pages, was) = pending;
        if zero != was {
            put(range, begin, pages, was, out)?;
            pending = (here, 0, zero);
        }
        pending.1 = pending.1.saturating_add(page);
        here = here.saturating_add(page);
    }
    let (begin, pages, zero) = pending;
    put(range, begin, pages, zero, out)
}

/// Most pages that are not zero are known by their beginning.
fn is_zero_page(range: &GuestRange, at: u64, len: u64) -> bool {
    let mut page = [0; PAGE];
    let whole = usize::try_from(len).unwrap_or(PAGE).min(PAGE);
    [HEAD.min(whole), whole].into_iter().all(|len| {
        page.get_mut(..len)
            .is_some_and(|part| range.read(at, part) && is_zero(part))
    })
}

fn put(range: &GuestRange, at: u64, len: u64, zero: bool, out: &mut Output) -> io::Result<()> {
    match zero {
        true => out.zeroes(len),
        false => out.memory(range, at, len),
    }
}

/// Whether there is nothing but zeroes.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    static ZEROES: [u8; PAGE] = [0; PAGE];
    bytes
        .chunks(PAGE)
        .all(|page| ZEROES.get(..page.len()).is_some_and(|zero| zero == page))
}

#[cfg(test)]
#[path = "elf_test.rs"]
mod tests;
