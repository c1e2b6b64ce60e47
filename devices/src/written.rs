//! Which pages of a region of guest RAM this process wrote.

use std::sync::atomic::{AtomicU64, Ordering};

use vm_memory::bitmap::{Bitmap, NewBitmap, RefSlice, WithBitmapSlice};

/// Bytes of a page.
const PAGE: usize = 4096;
/// In a word.
const BITS: usize = 64;

/// A bit for each page, 64 to a word, and above them one for each word that may have any: whoever
/// takes them looks at few. Any thread; nothing that is marked meanwhile is lost.
#[derive(Debug, Default)]
pub struct Written {
    words: Vec<AtomicU64>,
    touched: Vec<AtomicU64>,
    pages: usize,
}

impl Written {
    /// Gives `found` the number of each word that is not zero, and the word; begins anew.
    pub fn take(&self, mut found: impl FnMut(usize, u64)) {
        for (group, touched) in self.touched.iter().enumerate() {
            if touched.load(Ordering::SeqCst) == 0 {
                continue;
            }
            // First this one: who marks a page marks the word first.
            let mut bits = touched.swap(0, Ordering::SeqCst);
            while bits != 0 {
                let bit = usize::try_from(bits.trailing_zeros()).unwrap_or(0);
                bits &= bits.saturating_sub(1);
                let index = group.saturating_mul(BITS).saturating_add(bit);
                let word = self.words.get(index);
                match word.map_or(0, |word| word.swap(0, Ordering::SeqCst)) {
                    0 => {}
                    word => found(index, word),
                }
            }
        }
    }

    /// Forgets all.
    pub fn reset(&self) {
        self.take(|_, _| {});
    }

    fn mark(&self, index: usize, mask: u64) {
        if let Some(word) = self.words.get(index) {
            word.fetch_or(mask, Ordering::SeqCst);
        }
        let bit = 1 << (index % BITS);
        // Looked at first: most of what is written was written before.
        if let Some(touched) = self.touched.get(index / BITS)
            && touched.load(Ordering::SeqCst) & bit == 0
        {
            touched.fetch_or(bit, Ordering::SeqCst);
        }
    }
}

impl<'a> WithBitmapSlice<'a> for Written {
    type S = RefSlice<'a, Self>;
}

impl Bitmap for Written {
    fn mark_dirty(&self, offset: usize, len: usize) {
        let (Some(end), Some(most)) = (len.checked_sub(1), self.pages.checked_sub(1)) else {
            return;
        };
        let first = offset / PAGE;
        let last = (offset.saturating_add(end) / PAGE).min(most);
        if first > last {
            return;
        }
        for index in first / BITS..=last / BITS {
            let mut mask = u64::MAX;
            if index == first / BITS {
                mask &= u64::MAX << (first % BITS);
            }
            if index == last / BITS {
                mask &= u64::MAX >> (BITS - 1 - last % BITS);
            }
            self.mark(index, mask);
        }
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let page = offset / PAGE;
        let word = self.words.get(page / BITS);
        word.is_some_and(|word| word.load(Ordering::SeqCst) >> (page % BITS) & 1 == 1)
    }

    fn slice_at(&self, offset: usize) -> RefSlice<'_, Self> {
        RefSlice::new(self, offset)
    }
}

impl NewBitmap for Written {
    fn with_len(len: usize) -> Self {
        let pages = len.div_ceil(PAGE);
        let none = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Written {
            words: none(pages.div_ceil(BITS)),
            touched: none(pages.div_ceil(BITS).div_ceil(BITS)),
            pages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn pages(written: &Written) -> Vec<usize> {
        let mut pages = Vec::new();
        written.take(|index, word| {
            let set = (0..BITS).filter(|bit| word >> bit & 1 == 1);
            pages.extend(set.map(|bit| index * BITS + bit));
        });
        pages
    }

    #[test]
    fn what_is_marked_is_taken_once() {
        let written = Written::with_len(10_000 * PAGE + 1);
        written.mark_dirty(0, 0);
        assert!(pages(&written).is_empty());
        written.mark_dirty(5 * PAGE - 1, 2);
        written.mark_dirty(63 * PAGE, 1);
        written.mark_dirty(127 * PAGE, 130 * PAGE);
        written.mark_dirty(9_999 * PAGE, 100 * PAGE);
        written.mark_dirty(10_001 * PAGE, 1);
        written.mark_dirty(usize::MAX, usize::MAX);
        assert!(written.dirty_at(4 * PAGE) && written.dirty_at(6 * PAGE - 1));
        assert!(!written.dirty_at(6 * PAGE) && !written.dirty_at(10_001 * PAGE));
        let mut wanted = vec![4, 5, 63];
        wanted.extend(127..257);
        wanted.extend([9_999, 10_000]);
        assert_eq!(pages(&written), wanted);
        assert!(pages(&written).is_empty());
        written.slice_at(3 * PAGE).mark_dirty(PAGE, 1);
        assert_eq!(pages(&written), [4]);
        written.mark_dirty(0, 10_000 * PAGE);
        written.reset();
        assert!(!written.dirty_at(64 * PAGE));
        assert!(pages(&written).is_empty());
        Written::default().mark_dirty(0, 1);
    }

    #[test]
    fn what_is_marked_meanwhile_is_not_lost() {
        let written = Written::with_len(64 * 64 * PAGE);
        let done = AtomicBool::new(false);
        let mut seen = vec![0u32; 64 * 64];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for page in (0..64 * 64).cycle().take(64 * 64 * 20) {
                    written.mark_dirty(page * PAGE, 1);
                    // Seen, or still there: a page that is marked is never neither.
                    if page % 97 == 0 {
                        std::thread::yield_now();
                    }
                }
                done.store(true, Ordering::SeqCst);
            });
            let mut last = false;
            while !last {
                last = done.load(Ordering::SeqCst);
                pages(&written).iter().for_each(|page| seen[*page] += 1);
            }
        });
        assert!(seen.iter().all(|times| *times > 0));
        // No word is left without the bit that leads to it.
        assert!((0..64 * 64).all(|page| !written.dirty_at(page * PAGE)));
    }
}
