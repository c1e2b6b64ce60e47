//! Bytes that were read before anybody asked for them.

use super::pages::Span;

/// What was read along with what was wanted, and comes first in the next read.
#[derive(Debug, Default)]
pub struct Ahead {
    bytes: Vec<u8>,
    at: usize,
    end: usize,
}

impl Ahead {
    /// Enough for the heads of many records; little of a page, as that is copied once more.
    const ROOM: usize = 4096;

    /// Where more may be read to; there is nothing in it.
    pub fn room(&mut self) -> libc::iovec {
        self.bytes.resize(Self::ROOM, 0);
        (self.at, self.end) = (0, 0);
        libc::iovec {
            iov_base: self.bytes.as_mut_ptr().cast(),
            iov_len: self.bytes.len(),
        }
    }

    /// So much was read.
    pub fn has(&mut self, bytes: usize) {
        self.end = bytes.min(self.bytes.len());
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..self.end).unwrap_or_default()
    }

    /// Fills the beginning of `bytes`, and says how much of it.
    pub fn take(&mut self, bytes: &mut [u8]) -> usize {
        let len = bytes.len().min(self.rest().len());
        for (to, from) in bytes.iter_mut().zip(self.rest()) {
            *to = *from;
        }
        self.at = self.at.saturating_add(len);
        len
    }

    /// Fills the first bytes of guest memory, and says how many.
    pub fn take_pages(&mut self, data: &[Span]) -> usize {
        let mut done = 0usize;
        for span in data {
            let filled = span.fill_part(0, self.rest());
            self.at = self.at.saturating_add(filled);
            done = done.saturating_add(filled);
            if filled < span.len() {
                break;
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::fake::Memory;
    use crate::migration::pages::{Run, data_spans};

    fn with(bytes: &[u8]) -> Ahead {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.room().iov_len, Ahead::ROOM);
        ahead.bytes[..bytes.len()].copy_from_slice(bytes);
        ahead.has(bytes.len());
        ahead
    }

    #[test]
    fn what_is_there_comes_first_and_once() {
        let mut ahead = with(b"record");
        let (mut first, mut second) = ([0; 4], [0; 4]);
        assert_eq!((ahead.take(&mut first), &first), (4, b"reco"));
        assert_eq!((ahead.take(&mut second), &second), (2, b"rd\0\0"));
        assert_eq!(ahead.take(&mut first), 0);
    }

    #[test]
    fn pages_begin_with_it() {
        let memory = Memory::new(&[8]);
        let block = &memory.view.blocks[0];
        let run = |first| Run {
            first,
            count: 1,
            zero: false,
        };
        let spans = data_spans(block, &[run(5), run(2)]);
        let mut ahead = with(&[7; 10]);
        assert_eq!(ahead.take_pages(&spans), 10);
        assert_eq!(ahead.take_pages(&spans), 0);
        assert!(!crate::migration::pages::is_zero(block, 5));
        assert!(crate::migration::pages::is_zero(block, 2));
    }

    #[test]
    fn no_more_is_believed_than_there_is_room() {
        let mut ahead = with(b"");
        ahead.has(usize::MAX);
        assert_eq!(ahead.rest().len(), Ahead::ROOM);
    }
}
