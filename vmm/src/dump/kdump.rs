//! The kdump-compressed format, as makedumpfile writes and crash reads it (makedumpfile's
//! IMPLEMENTATION, crash's diskdump.h): headers, two bitmaps of pages, a descriptor for each
//! page, pages. makedumpfile's flattened format is the same in records with their offsets, for
//! pipes.

use std::io;

use super::notes;
use super::output::Output;
use super::workers::{Batch, Done, Packed, Workers};
use super::{Compression, Dump, DumpError, Progress};

const BLOCK: u64 = 4096;
const HEADER: u64 = 464;
const SUB_HEADER: u64 = 104;
const DESCRIPTOR: u64 = 24;
/// Bytes of memory in a batch: 256 pages.
const BATCH: u64 = 1 << 20;

/// Writes it.
///
/// # Errors
/// See [`DumpError`].
pub(super) fn write(
    dump: &Dump,
    compression: Compression,
    flattened: bool,
    out: &mut Output,
    progress: &Progress,
) -> Result<(), DumpError> {
    let mut out = Sink { out, flattened };
    let notes = notes::notes(&dump.cpus);
    let shape = Shape::new(dump, compression, notes.len() as u64);
    out.begin()?;
    out.put(0, &shape.header(dump.cpus.len()), "write disk dump header")?;
    out.put(BLOCK, &shape.sub_header(), "write disk dump sub header")?;
    out.put(shape.notes(), &notes, "write notes")?;
    write_bitmaps(dump, &shape, &mut out)?;
    Pages {
        shape: &shape,
        next_descriptor: shape.descriptors(),
        next_data: shape.zero_page().saturating_add(BLOCK),
    }
    .write(dump, &mut out, progress)?;
    out.end()
}

/// DUMP_DH_COMPRESSED_ZLIB and its kin: in the status of the header, and in the flags of pages.
const fn flag(compression: Compression) -> u32 {
    match compression {
        Compression::Zlib => 1,
        Compression::Snappy => 4,
    }
}

/// Where everything is.
struct Shape {
    compression: Compression,
    /// Pages up to the end of memory, holes included.
    frames: u64,
    /// Pages that are there.
    pages: u64,
    notes: u64,
}

impl Shape {
    fn new(dump: &Dump, compression: Compression, notes: u64) -> Self {
        let pages = |len: u64| len.div_ceil(BLOCK);
        let count = dump.part.ranges().iter().map(|range| pages(range.len));
        Shape {
            compression,
            frames: pages(dump.part.end()),
            pages: count.fold(0, u64::saturating_add),
            notes,
        }
    }

    const fn notes(&self) -> u64 {
        BLOCK.saturating_add(SUB_HEADER)
    }

    const fn sub_blocks(&self) -> u64 {
        SUB_HEADER.saturating_add(self.notes).div_ceil(BLOCK)
    }

    const fn bitmap_len(&self) -> u64 {
        self.frames
            .div_ceil(8)
            .div_ceil(BLOCK)
            .saturating_mul(BLOCK)
    }

    const fn bitmaps(&self) -> u64 {
        BLOCK.saturating_mul(self.sub_blocks().saturating_add(1))
    }

    const fn descriptors(&self) -> u64 {
        self.bitmaps()
            .saturating_add(self.bitmap_len().saturating_mul(2))
    }

    /// The page of zeroes that all others of that kind lead to; the others follow.
    const fn zero_page(&self) -> u64 {
        self.descriptors()
            .saturating_add(self.pages.saturating_mul(DESCRIPTOR))
    }

    /// disk_dump_header of 64-bit machines, version 6.
    fn header(&self, cpus: usize) -> Vec<u8> {
        let word = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let mut out = b"KDUMP   ".to_vec();
        out.extend(6u32.to_le_bytes());
        // Six names of 65 characters, of which nobody knows more than the machine's.
        out.resize(12 + 4 * 65, 0);
        out.extend(b"Unknown");
        out.resize(424, 0);
        let words = [
            flag(self.compression),
            word(BLOCK),
            word(self.sub_blocks()),
            word(self.bitmap_len().saturating_mul(2) / BLOCK),
            word(self.frames),
            0,
            0,
            0,
            0,
            word(cpus as u64),
        ];
        out.extend(words.into_iter().flat_map(u32::to_le_bytes));
        out.resize(usize::try_from(HEADER).unwrap_or(0), 0);
        out
    }

    /// kdump_sub_header. Where the kernel lies is not known: phys_base is 0.
    fn sub_header(&self) -> Vec<u8> {
        let mut out = 0u64.to_le_bytes().to_vec();
        // Dump level: pages of zeroes are left out. Not split.
        out.extend([1u32, 0].into_iter().flat_map(u32::to_le_bytes));
        let longs = [
            0,
            0,
            0,
            0,
            self.notes(),
            self.notes,
            0,
            0,
            0,
            0,
            self.frames,
        ];
        out.extend(longs.into_iter().flat_map(u64::to_le_bytes));
        out
    }
}

/// Which pages there are, and which are in the dump: the same.
fn write_bitmaps(dump: &Dump, shape: &Shape, out: &mut Sink) -> Result<(), DumpError> {
    const WHAT: &str = "write bitmap";
    let mut block = vec![0u8; 4096];
    let bits = BLOCK.saturating_mul(8);
    let mut first = 0u64;
    let mut at = 0u64;
    while at < shape.bitmap_len() {
        block.fill(0);
        for range in dump.part.ranges() {
            let from = (range.base / BLOCK).max(first);
            let to = range.end().div_ceil(BLOCK).min(first.saturating_add(bits));
            for frame in from..to {
                let bit = frame.saturating_sub(first);
                let byte = usize::try_from(bit / 8)
                    .ok()
                    .and_then(|at| block.get_mut(at));
                if let Some(byte) = byte {
                    *byte |= 1 << (bit % 8);
                }
            }
        }
        let here = shape.bitmaps().saturating_add(at);
        out.put(here, &block, WHAT)?;
        out.put(here.saturating_add(shape.bitmap_len()), &block, WHAT)?;
        first = first.saturating_add(bits);
        at = at.saturating_add(BLOCK);
    }
    Ok(())
}

/// Pages and their descriptors, which grow at two places.
struct Pages<'a> {
    shape: &'a Shape,
    next_descriptor: u64,
    next_data: u64,
}

impl Pages<'_> {
    fn write(mut self, dump: &Dump, out: &mut Sink, progress: &Progress) -> Result<(), DumpError> {
        let zero = [0; 4096];
        out.put(self.shape.zero_page(), &zero, "write page data")?;
        let mut workers = Workers::start(self.shape.compression)?;
        // Of each batch under way, how much memory it is.
        let mut sizes = std::collections::VecDeque::new();
        for range in dump.part.ranges() {
            let mut from = 0;
            while from < range.len {
                if !workers.have_room() {
                    self.next(&mut workers, &mut sizes, out, progress)?;
                }
                let len = BATCH.min(range.len.saturating_sub(from));
                sizes.push_back(len);
                workers.give(Batch {
                    range: range.clone(),
                    from,
                    len,
                })?;
                from = from.saturating_add(len);
            }
        }
        while !sizes.is_empty() {
            self.next(&mut workers, &mut sizes, out, progress)?;
        }
        Ok(())
    }

    fn next(
        &mut self,
        workers: &mut Workers,
        sizes: &mut std::collections::VecDeque<u64>,
        out: &mut Sink,
        progress: &Progress,
    ) -> Result<(), DumpError> {
        let done = workers.take()?.ok_or(DumpError::Lost)?;
        self.put(&done, out)?;
        progress.advance(sizes.pop_front().unwrap_or(0))
    }

    fn put(&mut self, done: &Done, out: &mut Sink) -> Result<(), DumpError> {
        let mut descriptors = Vec::new();
        let mut at = self.next_data;
        for page in &done.pages {
            let (offset, size, flags) = match *page {
                Packed::Zero => (self.shape.zero_page(), BLOCK, 0),
                Packed::Plain(len) => (at, len as u64, 0),
                Packed::Small(len) => (at, len as u64, flag(self.shape.compression)),
            };
            if *page != Packed::Zero {
                at = at.saturating_add(size);
            }
            descriptors.extend(offset.to_le_bytes());
            let size = u32::try_from(size).unwrap_or(0);
            descriptors.extend([size, flags].into_iter().flat_map(u32::to_le_bytes));
            descriptors.extend(0u64.to_le_bytes());
        }
        out.put(self.next_descriptor, &descriptors, "write page desc")?;
        out.put(self.next_data, &done.bytes, "write page data")?;
        self.next_descriptor = self
            .next_descriptor
            .saturating_add(descriptors.len() as u64);
        self.next_data = at;
        Ok(())
    }
}

/// The file: places, or records that name them.
struct Sink<'a> {
    out: &'a mut Output,
    flattened: bool,
}

impl Sink<'_> {
    /// makedumpfile_header: a name, type and version 1, high bytes first, in a block of its own.
    fn begin(&mut self) -> Result<(), DumpError> {
        if !self.flattened {
            return Ok(());
        }
        let mut header = b"makedumpfile\0\0\0\0".to_vec();
        header.extend([1u64, 1].into_iter().flat_map(u64::to_be_bytes));
        header.resize(4096, 0);
        self.out
            .write(&header)
            .map_err(DumpError::write("write start flat header"))
    }

    fn put(&mut self, offset: u64, bytes: &[u8], what: &'static str) -> Result<(), DumpError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let put = |out: &mut Output| -> io::Result<()> {
            if !self.flattened {
                return out.write_at(offset, bytes);
            }
            let record = [offset, bytes.len() as u64].map(u64::to_be_bytes);
            out.write(record.as_flattened())?;
            out.write(bytes)
        };
        put(self.out).map_err(DumpError::write(what))
    }

    /// A record at -1 of -1 bytes.
    fn end(&mut self) -> Result<(), DumpError> {
        match self.flattened {
            true => self.out.write(&[0xff; 16]),
            false => Ok(()),
        }
        .map_err(DumpError::write("write end flat header"))
    }
}

#[cfg(test)]
#[path = "kdump_test.rs"]
mod tests;
