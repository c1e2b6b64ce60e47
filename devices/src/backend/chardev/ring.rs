//! A bounded queue of bytes.

/// Bytes in order of arrival, up to a fixed number. The memory is touched as far as it was used.
pub struct Ring {
    data: Box<[u8]>,
    start: usize,
    len: usize,
}

impl Ring {
    /// An empty one for at most `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Ring {
            data: vec![0; capacity].into_boxed_slice(),
            start: 0,
            len: 0,
        }
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that fit.
    pub fn capacity(&self) -> usize {
        self.data.len()
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.capacity().saturating_sub(self.len)
    }

    /// Appends what fits; returns how much that was.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        let (bytes, _) = bytes.split_at(taken);
        let end = self.wrap(self.start.saturating_add(self.len));
        let first = taken.min(self.capacity().saturating_sub(end));
        let (head, tail) = bytes.split_at(first);
        copy(self.data.get_mut(end..).unwrap_or_default(), head);
        copy(&mut self.data, tail);
        self.len = self.len.saturating_add(taken);
        taken
    }

    /// Appends everything; the oldest bytes make room.
    pub fn push_over(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(self.capacity());
        let (_, bytes) = bytes.split_at(bytes.len().saturating_sub(kept));
        self.consume(kept.saturating_sub(self.room()));
        self.push(bytes);
    }

    /// Copies the oldest bytes without taking them; returns how many.
    pub fn peek(&self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.len);
        let first = count.min(self.capacity().saturating_sub(self.start));
        let (head, tail) = into.split_at_mut(first);
        let from = self.data.get(self.start..).unwrap_or_default();
        copy(head, from.get(..first).unwrap_or_default());
        copy(tail, self.data.get(..count - first).unwrap_or_default());
        count
    }

    /// Takes the oldest bytes; returns how many.
    pub fn pop(&mut self, into: &mut [u8]) -> usize {
        let count = self.peek(into);
        self.consume(count);
        count
    }

    /// Drops the `count` oldest bytes.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.len);
        self.len -= count;
        // An empty ring begins at the front again, where its memory was touched already.
        self.start = match self.len {
            0 => 0,
            _ => self.wrap(self.start.saturating_add(count)),
        };
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.consume(self.len);
    }

    fn wrap(&self, at: usize) -> usize {
        at.checked_sub(self.capacity()).unwrap_or(at)
    }
}

/// Copies as much as both sides have.
fn copy(to: &mut [u8], from: &[u8]) {
    let count = to.len().min(from.len());
    to.split_at_mut(count)
        .0
        .copy_from_slice(from.split_at(count).0);
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_newest_bytes_stay_when_written_over() {
        let mut ring = Ring::new(4);
        ring.push_over(b"abc");
        ring.push_over(b"def");
        let mut out = [0; 8];
        assert_eq!(ring.pop(&mut out), 4);
        assert_eq!(&out[..4], b"cdef");
        ring.push_over(b"0123456789");
        assert_eq!(ring.pop(&mut out), 4);
        assert_eq!(&out[..4], b"6789");
    }

    proptest! {
        #[test]
        fn it_is_a_queue(capacity in 0usize..40, steps in prop::collection::vec((0usize..4, 0usize..50), 0..60)) {
            let mut ring = Ring::new(capacity);
            let mut model = VecDeque::new();
            let mut next = 0u8;
            for (kind, count) in steps {
                let bytes: Vec<u8> = (0..count).map(|i| next.wrapping_add(i as u8)).collect();
                match kind {
                    0 => {
                        let taken = ring.push(&bytes);
                        prop_assert_eq!(taken, count.min(capacity - model.len()));
                        model.extend(&bytes[..taken]);
                    }
                    1 => {
                        ring.push_over(&bytes);
                        model.extend(&bytes);
                        while model.len() > capacity {
                            model.pop_front();
                        }
                    }
                    2 => {
                        let mut out = vec![0; count];
                        let got = ring.pop(&mut out);
                        let expected: Vec<u8> = model.drain(..count.min(model.len())).collect();
                        prop_assert_eq!(&out[..got], &expected[..]);
                    }
                    _ => {
                        ring.consume(count);
                        model.drain(..count.min(model.len()));
                    }
                }
                next = next.wrapping_add(count as u8);
                prop_assert_eq!(ring.len(), model.len());
                prop_assert_eq!(ring.room(), capacity - model.len());
            }
        }
    }
}
