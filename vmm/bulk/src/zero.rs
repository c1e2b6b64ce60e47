//! Pages of zeroes.
#![allow(unsafe_code)] // memory that the guest writes meanwhile is no slice

/// Words of a page.
const WORDS: usize = 4096 / 8;

/// A page, of 4 KiB.
pub type Page = [u64; WORDS];

/// Whether a page is all zeroes.
///
/// # Safety
/// `page` is aligned for its type, and what it points to stays readable. Others may write there meanwhile: any value
/// will do then.
pub unsafe fn is_zero(page: *const Page) -> bool {
    /// Looked at between two decisions: wide enough for the compiler to use vectors.
    const STEP: usize = 32;
    let words = page.cast::<u64>();
    let mut at = 0;
    while at < WORDS {
        let mut any = 0u64;
        let mut word = 0;
        while word < STEP {
            // SAFETY: inside of the page, as STEP divides WORDS; the caller vouches for the page.
            any |= unsafe { words.add(at + word).read() };
            word += 1;
        }
        if any != 0 {
            return false;
        }
        at += STEP;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_counts() {
        let mut page: Page = [0; WORDS];
        // SAFETY: a page of our own.
        assert!(unsafe { is_zero(&raw const page) });
        for at in 0..WORDS {
            page[at] = 1 << (at % 64);
            // SAFETY: as above.
            assert!(!unsafe { is_zero(&raw const page) }, "word {at}");
            page[at] = 0;
        }
    }
}
