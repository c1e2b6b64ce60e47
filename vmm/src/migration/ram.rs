//! Guest RAM as it travels: blocks of pages, and which pages were written.
#![allow(unsafe_code)] // reads and writes guest RAM by address, without marking it dirty

use std::fs::File;
use std::io;
use std::sync::Arc;

/// Bytes of a page, the unit of everything here.
pub const PAGE: u64 = 4096;

/// One memory backend of the machine, in one piece; guest addresses play no part.
#[derive(Debug, Clone)]
pub struct RamBlock {
    /// The backend's id, or `pc.ram`.
    pub name: String,
    /// Bytes; a multiple of [`PAGE`].
    pub len: u64,
    /// Address in this process. The memory stays mapped until the process ends.
    pub host: u64,
    /// Writes reach the file, or whoever else maps it (`share=on`).
    pub shared: bool,
    /// The file behind it and where in that it begins.
    pub file: Option<(Arc<File>, u64)>,
}

/// All RAM of a machine. Cheap to clone; any thread.
#[derive(Debug, Clone, Default)]
pub struct RamView {
    /// In the order of the machine's configuration.
    pub blocks: Vec<RamBlock>,
}

impl RamBlock {
    /// Pages.
    pub const fn pages(&self) -> u64 {
        self.len / PAGE
    }

    /// The address of `len` bytes from `offset` on, for readv(2), writev(2) and the like; `None`
    /// when they are not all inside. The guest may write them at any time.
    pub fn address(&self, offset: u64, len: u64) -> Option<u64> {
        let end = offset.checked_add(len)?;
        (end <= self.len).then(|| self.host.wrapping_add(offset))
    }

    /// Copies bytes out; false when they are not all inside.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> bool {
        let Some(address) = self.address(offset, data.len() as u64) else {
            return false;
        };
        // SAFETY: inside of memory that is readable and never unmapped, as `address` checked;
        // whatever bytes the guest writes meanwhile, all are valid.
        unsafe {
            std::ptr::copy_nonoverlapping(address as *const u8, data.as_mut_ptr(), data.len());
        }
        true
    }

    /// Copies bytes in, without marking them; false when they are not all inside. For a machine
    /// that stands still.
    pub fn write(&self, offset: u64, data: &[u8]) -> bool {
        let Some(address) = self.address(offset, data.len() as u64) else {
            return false;
        };
        // SAFETY: as in `read`; the memory is writable.
        unsafe {
            std::ptr::copy_nonoverlapping(data.as_ptr(), address as *mut u8, data.len());
        }
        true
    }
}

/// A set of pages of one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageSet {
    words: Vec<u64>,
    pages: u64,
}

impl PageSet {
    /// None of that many pages.
    pub fn none(pages: u64) -> Self {
        let words = usize::try_from(pages.div_ceil(64)).unwrap_or(0);
        PageSet {
            words: vec![0; words],
            pages,
        }
    }

    /// All of that many pages.
    pub fn all(pages: u64) -> Self {
        let mut set = PageSet::none(pages);
        set.words.fill(u64::MAX);
        set.trim();
        set
    }

    /// How many pages the block has.
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// How many are in the set.
    pub fn count(&self) -> u64 {
        let ones = |word: &u64| u64::from(word.count_ones());
        self.words.iter().map(ones).sum()
    }

    /// Whether the page is in the set.
    pub fn contains(&self, page: u64) -> bool {
        let word = usize::try_from(page / 64)
            .ok()
            .and_then(|at| self.words.get(at));
        word.is_some_and(|word| word >> (page % 64) & 1 == 1)
    }

    /// Adds a page; nothing where there is no such page.
    pub fn insert(&mut self, page: u64) {
        if page < self.pages
            && let Some(word) = usize::try_from(page / 64)
                .ok()
                .and_then(|at| self.words.get_mut(at))
        {
            *word |= 1 << (page % 64);
        }
    }

    /// Adds pages next to each other, as far as there are such pages.
    pub fn insert_run(&mut self, first: u64, count: u64) {
        let end = first.saturating_add(count).min(self.pages);
        let mut at = first;
        while at < end {
            let bit = at % 64;
            let here = end.saturating_sub(at).min(64 - bit);
            let word = usize::try_from(at / 64).ok();
            if let Some(word) = word.and_then(|word| self.words.get_mut(word)) {
                *word |= u64::MAX >> (64 - here) << bit;
            }
            at = at.saturating_add(here);
        }
    }

    /// Adds the pages of a bitmap whose first bit is page `first`, which is a multiple of 64.
    pub fn insert_words(&mut self, first: u64, words: &[u64]) {
        let from = usize::try_from(first / 64).unwrap_or(usize::MAX);
        let own = self.words.get_mut(from..).unwrap_or_default();
        for (own, new) in own.iter_mut().zip(words) {
            *own |= new;
        }
        self.trim();
    }

    /// The bits, 64 pages to a word, lowest page lowest.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Takes the next run of pages out, from page `from` on and of at most `most`: first page and
    /// length.
    pub fn take_run(&mut self, from: u64, most: u64) -> Option<(u64, u64)> {
        let first = self.next(from)?;
        let mut len = 0;
        while len < most && self.contains(first.saturating_add(len)) {
            self.remove(first.saturating_add(len));
            len = len.saturating_add(1);
        }
        (len > 0).then_some((first, len))
    }

    /// The first page in the set that is not below `from`.
    pub fn next(&self, from: u64) -> Option<u64> {
        let mut at = usize::try_from(from / 64).ok()?;
        let mut word = self.words.get(at)? & u64::MAX << (from % 64);
        while word == 0 {
            at = at.checked_add(1)?;
            word = *self.words.get(at)?;
        }
        let base = u64::try_from(at).ok()?.checked_mul(64)?;
        base.checked_add(u64::from(word.trailing_zeros()))
    }

    /// Takes a page out.
    pub fn remove(&mut self, page: u64) {
        if let Some(word) = usize::try_from(page / 64)
            .ok()
            .and_then(|at| self.words.get_mut(at))
        {
            *word &= !(1 << (page % 64));
        }
    }

    fn trim(&mut self) {
        let rest = self.pages % 64;
        if rest != 0
            && let Some(last) = self.words.last_mut()
        {
            *last &= u64::MAX >> (64 - rest);
        }
    }
}

/// Which pages were written: by vCPUs, by devices in this process, by the kernel's vhost.
pub trait DirtyLog: Send {
    /// Begins to log; what was written before is forgotten. Whoever copies all pages after this
    /// and then whatever [`DirtyLog::collect`] adds, misses none.
    ///
    /// # Errors
    /// The kernel's.
    fn start(&mut self) -> io::Result<()>;

    /// Adds to `sets`, one for each block of the [`RamView`], the pages that were written since
    /// the last time, and begins anew. Any thread, while the guest runs or not.
    ///
    /// # Errors
    /// The kernel's.
    fn collect(&mut self, sets: &mut [PageSet]) -> io::Result<()>;

    /// Ends the log.
    fn stop(&mut self);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_pages() {
        let mut set = PageSet::all(130);
        assert_eq!((set.count(), set.pages(), set.words().len()), (130, 130, 3));
        assert!(set.contains(129) && !set.contains(130));
        assert_eq!(set.take_run(0, 100), Some((0, 100)));
        assert_eq!(set.take_run(0, 100), Some((100, 30)));
        assert_eq!(set.take_run(0, 100), None);
        set.insert(5);
        set.insert(6);
        set.insert(128);
        set.insert(130);
        assert_eq!(set.count(), 3);
        assert_eq!(
            (set.next(0), set.next(7), set.next(129)),
            (Some(5), Some(128), None)
        );
        set.remove(5);
        set.insert_words(64, &[0b11, u64::MAX]);
        assert_eq!(set.count(), 5);
        assert_eq!(set.take_run(6, 9), Some((6, 1)));
        assert_eq!(set.take_run(6, 9), Some((64, 2)));
        assert_eq!(PageSet::none(7).next(0), None);
        let mut set = PageSet::none(200);
        set.insert_run(60, 70);
        set.insert_run(199, 9);
        assert_eq!(
            (set.count(), set.next(0), set.next(130)),
            (71, Some(60), Some(199))
        );
        set.insert_run(64, 64);
        set.insert_run(u64::MAX, 1);
        assert_eq!(set.count(), 71);
        assert!(!set.contains(u64::MAX));
    }

    #[test]
    fn nothing_outside_of_a_block_is_touched() {
        let memory = vec![7u8; 8192];
        let block = RamBlock {
            name: "pc.ram".into(),
            len: 8192,
            host: memory.as_ptr() as u64,
            shared: false,
            file: None,
        };
        let mut data = [0; 2];
        assert!(block.read(8190, &mut data));
        assert_eq!(data, [7, 7]);
        assert!(!block.read(8191, &mut data));
        assert!(!block.write(u64::MAX, &data));
        assert_eq!(block.address(0, 8193), None);
        assert_eq!(block.pages(), 2);
    }
}
