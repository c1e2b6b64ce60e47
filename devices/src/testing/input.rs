//! What a fuzz target makes its decisions from.

use super::Buffer;

/// The input, taken from its front; zeroes behind its end.
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Input(data)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub(super) fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub(super) fn long(&mut self) -> u64 {
        (0..8).fold(0, |value, _| value << 8 | u64::from(self.byte()))
    }

    pub(super) fn bytes(&mut self, most: usize) -> Vec<u8> {
        let len = usize::from(self.word()) % (most + 1);
        (0..len).map(|_| self.byte()).collect()
    }

    /// A place that a buffer may have, mostly within `len` bytes from `data` on, and its length.
    pub(super) fn buffer(&mut self, data: u64, len: u64) -> Buffer {
        let kind = self.byte();
        let at = match kind & 6 {
            0 => self.long(),
            _ => data + u64::from(self.word()) % len,
        };
        let bytes = match kind & 24 {
            0 => self.long() as u32,
            8 => u32::from(self.byte()),
            _ => u32::from(self.word()) % 4096,
        };
        match kind & 1 {
            0 => Buffer::Out(at, bytes),
            _ => Buffer::In(at, bytes),
        }
    }
}
