//! Runs of pages: found, described in a record, checked.
#![allow(unsafe_code)] // looks at guest RAM by address

use bulk::zero;

use super::host::Broken;
use super::ram::{PAGE, RamBlock, RamView};
use super::untouched::Ground;
use super::wire::{BlockEntry, Fields, MOST_DATA_PAGES, MOST_RUNS, Out};

/// Pages next to each other, all zeroes or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first page.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// All zeroes: nothing else is said about them.
    pub zero: bool,
}

impl Run {
    /// Where it begins in its block.
    pub const fn offset(&self) -> u64 {
        self.first.saturating_mul(PAGE)
    }

    /// Its bytes.
    pub const fn bytes(&self) -> u64 {
        (self.count as u64).saturating_mul(PAGE)
    }
}

/// How the data of a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    Plain,
    /// One zstd frame.
    Zstd,
}

/// What a record of pages says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    /// Which block.
    pub block: usize,
    /// How the data is written.
    pub codec: Codec,
    /// Ascending.
    pub runs: Vec<Run>,
}

impl Pages {
    /// Bytes of all runs that are data.
    pub fn data_len(&self) -> u64 {
        data_len(&self.runs)
    }

    /// As a payload.
    pub fn encode(block: usize, codec: Codec, runs: &[Run]) -> Vec<u8> {
        let mut out = Out(Vec::with_capacity(8 + runs.len() * 16));
        out.u16(u16::try_from(block).unwrap_or(u16::MAX));
        out.u16(match codec {
            Codec::Plain => 0,
            Codec::Zstd => 1,
        });
        out.u32(u32::try_from(runs.len()).unwrap_or(u32::MAX));
        for run in runs {
            out.u64(run.first).u32(run.count).u32(u32::from(!run.zero));
        }
        out.0
    }

    /// From a payload with `data` bytes behind it. All that it says lies in `blocks`.
    ///
    /// # Errors
    /// By field.
    pub fn decode(
        payload: &[u8],
        data: u32,
        blocks: &[BlockEntry],
        zstd: bool,
    ) -> Result<Self, Broken> {
        let mut fields = Fields::new("pages", payload);
        let block = usize::from(fields.u16("block")?);
        let Some(entry) = blocks.get(block) else {
            let text = format!("{block} of {} blocks", blocks.len());
            return Err(fields.refuse("block", &text));
        };
        if entry.left_out {
            let text = format!("pages of '{}', which is left out", entry.name);
            return Err(fields.refuse("block", &text));
        }
        let codec = match fields.u16("codec")? {
            0 => Codec::Plain,
            1 if zstd => Codec::Zstd,
            other => return Err(fields.refuse("codec", &format!("{other} is not known"))),
        };
        let count = fields.u32("runs")?;
        if usize::try_from(count).is_ok_and(|count| count > MOST_RUNS) {
            let text = format!("{count} are over the limit of {MOST_RUNS}");
            return Err(fields.refuse("runs", &text));
        }
        let runs = decode_runs(&mut fields, count, entry.len / PAGE)?;
        fields.end()?;
        let pages = Pages { block, codec, runs };
        pages.check_data(&fields, data)?;
        Ok(pages)
    }

    fn check_data(&self, fields: &Fields<'_>, data: u32) -> Result<(), Broken> {
        let want = self.data_len();
        if want > MOST_DATA_PAGES.saturating_mul(PAGE) {
            let text = format!("{want} bytes of data are over the limit");
            return Err(fields.refuse("count", &text));
        }
        let fits = match self.codec {
            Codec::Plain => u64::from(data) == want,
            Codec::Zstd => data > 0 && u64::from(data) < want,
        };
        match fits {
            true => Ok(()),
            false => Err(fields.refuse("data", &format!("{data} for {want} bytes of pages"))),
        }
    }
}

fn decode_runs(fields: &mut Fields<'_>, count: u32, pages: u64) -> Result<Vec<Run>, Broken> {
    let (mut runs, mut free) = (Vec::new(), 0);
    for _ in 0..count {
        let first = fields.u64("first")?;
        let count = fields.u32("count")?;
        let kind = fields.u32("kind")?;
        if first < free {
            let text = format!("page {first} comes after page {free}");
            return Err(fields.refuse("first", &text));
        }
        let end = first.checked_add(u64::from(count));
        match end {
            Some(end) if count > 0 && end <= pages => free = end,
            _ => {
                let text = format!("{count} pages from page {first} on, of {pages}");
                return Err(fields.refuse("count", &text));
            }
        }
        if kind > 1 {
            return Err(fields.refuse("kind", &format!("{kind} is not known")));
        }
        runs.push(Run {
            first,
            count,
            zero: kind == 0,
        });
    }
    Ok(runs)
}

/// Bytes of all runs that are data.
pub fn data_len(runs: &[Run]) -> u64 {
    let data = runs.iter().filter(|run| !run.zero);
    data.map(Run::bytes).fold(0, u64::saturating_add)
}

/// Guest memory by address: inside of a block, so mapped for as long as the process lives.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    address: u64,
    len: usize,
}

impl Span {
    /// A run's pages; `None` when they are not all in the block.
    pub fn of(block: &RamBlock, run: &Run) -> Option<Span> {
        let address = block.address(run.first.checked_mul(PAGE)?, run.bytes())?;
        let len = usize::try_from(run.bytes()).ok()?;
        Some(Span { address, len })
    }

    /// Where it is.
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What of it begins at `at`; `None` when that is beyond its end.
    pub fn from(&self, at: usize) -> Option<Span> {
        let len = self.len.checked_sub(at)?;
        let address = self.address.checked_add(u64::try_from(at).ok()?)?;
        Some(Span { address, len })
    }

    /// Its beginning: at most so many bytes.
    #[must_use]
    pub fn up_to(&self, len: usize) -> Span {
        Span {
            len: self.len.min(len),
            ..*self
        }
    }

    /// Adds its bytes to `out`.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.len);
        let from = self.address as *const u8;
        // SAFETY: readable memory (`Span::of`) is copied into room just reserved; whatever the
        // guest writes meanwhile, all bytes are valid.
        unsafe {
            std::ptr::copy_nonoverlapping(from, out.as_mut_ptr().add(out.len()), self.len);
            out.set_len(out.len() + self.len);
        }
    }

    /// Takes its bytes from the beginning of `data`, and gives the rest back; `None` when there
    /// are too few.
    pub fn fill_from<'a>(&self, data: &'a [u8]) -> Option<&'a [u8]> {
        let (own, rest) = data.split_at_checked(self.len)?;
        // SAFETY: writable memory (`Span::of`) of `own`'s length; Rust's `own` is elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(own.as_ptr(), self.address as *mut u8, own.len()) };
        Some(rest)
    }

    /// Takes as many bytes from the beginning of `data` as there are, and have room from `at` on;
    /// returns how many.
    pub fn fill_part(&self, at: usize, data: &[u8]) -> usize {
        let len = self.len.saturating_sub(at).min(data.len());
        let to = self.address as *mut u8;
        // SAFETY: writable memory (`Span::of`), as `at + len` is at most its length; Rust's `data`
        // is elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to.add(at), len) };
        len
    }
}

/// The memory of all runs that are data.
pub fn data_spans(block: &RamBlock, runs: &[Run]) -> Vec<Span> {
    let data = runs.iter().filter(|run| !run.zero);
    data.filter_map(|run| Span::of(block, run)).collect()
}

/// Which pages of zeroes are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeroes {
    /// All: pages are looked at.
    All,
    /// Those that were never touched.
    Untouched,
}

/// Adds `count` pages of a block from `first` on to `runs`.
pub fn scan(
    block: &RamBlock,
    ground: &Ground,
    first: u64,
    count: u32,
    zeroes: Zeroes,
    runs: &mut Vec<Run>,
) {
    let untouched = ground.untouched(block, first, count);
    let mut likely = 0;
    for at in 0..count {
        let page = first.saturating_add(u64::from(at));
        let bit = at % u64::BITS;
        if bit == 0 && zeroes == Zeroes::All {
            let touched = |bit| !untouched.has(at.saturating_add(bit));
            likely = begin_with_zeroes(block, page, count.saturating_sub(at), touched);
        }
        let zero = untouched.has(at) || likely >> bit & 1 == 1 && is_zero(block, page);
        match runs.last_mut() {
            Some(run)
                if run.zero == zero && run.first.saturating_add(u64::from(run.count)) == page =>
            {
                run.count = run.count.saturating_add(1);
            }
            _ => runs.push(Run {
                first: page,
                count: 1,
                zero,
            }),
        }
    }
}

/// Which of up to 64 pages from `first` on, as far as they were `touched`, begin with a cache line
/// of zeroes, by bit; only those can be all zeroes. Nothing is decided between two pages, so that the processor fetches many at
/// once: one by one, waiting for memory takes longer than sending it.
fn begin_with_zeroes(
    block: &RamBlock,
    first: u64,
    count: u32,
    touched: impl Fn(u32) -> bool,
) -> u64 {
    const WORDS: usize = 8;
    let count = count.min(u64::BITS);
    let len = u64::from(count).saturating_mul(PAGE);
    let start = first.checked_mul(PAGE);
    let Some(address) = start.and_then(|at| block.address(at, len)) else {
        return 0;
    };
    let mut likely = 0;
    for bit in (0..count).filter(|bit| touched(*bit)) {
        let words = (address as *const u64).wrapping_add((bit as usize) * (PAGE as usize / 8));
        let mut any = 0u64;
        for word in 0..WORDS {
            // SAFETY: inside of the pages that `address` vouches for, readable and never
            // unmapped. As in `is_zero` any value will do.
            any |= unsafe { words.add(word).read() };
        }
        likely |= u64::from(any == 0) << bit;
    }
    likely
}

/// Whether a page is all zeroes; false where there is no such page.
pub fn is_zero(block: &RamBlock, page: u64) -> bool {
    let Some(address) = page
        .checked_mul(PAGE)
        .and_then(|at| block.address(at, PAGE))
    else {
        return false;
    };
    // SAFETY: the page is in the block, which is readable, never unmapped and begins at a page's beginning. The guest
    // may write meanwhile: any value will do, as the page is then logged and sent again.
    unsafe { zero::is_zero(address as *const zero::Page) }
}

/// Makes runs that are zero so.
pub fn clear(block: &RamBlock, ground: &Ground, run: &Run) {
    const AT_ONCE: u32 = 4096;
    let mut done = 0;
    while done < run.count {
        let first = run.first.saturating_add(u64::from(done));
        let count = run.count.saturating_sub(done).min(AT_ONCE);
        let untouched = ground.untouched(block, first, count);
        for at in 0..count {
            let page = first.saturating_add(u64::from(at));
            // What is zero already is only read: fresh memory stays unpopulated.
            if !untouched.has(at) && !is_zero(block, page) {
                block.write(page.saturating_mul(PAGE), &[0; PAGE as usize]);
            }
        }
        done = done.saturating_add(count);
    }
}

/// The blocks as the stream names them.
pub fn entries(view: &RamView, ignore_shared: bool) -> Vec<BlockEntry> {
    let entry = |block: &RamBlock| BlockEntry {
        name: block.name.clone(),
        len: block.len,
        left_out: ignore_shared && block.shared && block.file.is_some(),
        place: 0,
    };
    view.blocks.iter().map(entry).collect()
}

#[cfg(test)]
#[path = "pages_test.rs"]
mod tests;
