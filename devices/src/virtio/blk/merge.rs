#![allow(unsafe_code)] // host addresses of guest memory
//! Requests that came together and lie beside each other on the disk become one request of the node: fewer
//! calls of the host, and larger ones.

use block::{Buffers, IoReq, Op};

use crate::virtio::gather::append;

/// As many parts as one call of the host takes (UIO_MAXIOV).
const MOST_PARTS: usize = 1024;
/// Bytes of a request to which nothing is added any more. Up to there, each step to larger ones was measured to
/// be faster: fewer threads have to be woken.
const ENOUGH: u64 = 32 << 20;

/// Requests on their way to the node, in one.
pub(super) struct Group {
    op: Op,
    buffers: Buffers,
    first: usize,
    last: usize,
}

impl Group {
    /// Of one request.
    pub fn new(op: Op, buffers: Buffers, slot: usize) -> Self {
        Group {
            op,
            buffers,
            first: slot,
            last: slot,
        }
    }

    /// Whether a request does the same as this one where this one ends.
    pub fn takes(&self, op: Op, buffers: &Buffers) -> bool {
        let parts = self.buffers.parts().len();
        let len = self.buffers.len();
        // Nothing else has its data in memory.
        matches!(op, Op::Read { .. } | Op::Write { .. })
            && self.op.shifted(len) == Some(op)
            && len.saturating_add(buffers.len()) <= ENOUGH
            && parts.saturating_add(buffers.parts().len()) <= MOST_PARTS
    }

    /// Adds one that it takes; gives the slot of the one before it.
    ///
    /// # Safety
    /// The memory of `buffers` lives until the request has ended.
    pub unsafe fn add(&mut self, buffers: &Buffers, slot: usize) -> usize {
        // SAFETY: the request alone uses the group's buffers, and the caller promises the rest.
        unsafe { append(&mut self.buffers, buffers) };
        std::mem::replace(&mut self.last, slot)
    }

    /// The request, and the slot of the first one.
    pub fn into_request(self) -> (IoReq, usize) {
        (IoReq::new(self.op, self.buffers), self.first)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use block::{Durability, HostBuffer};

    use super::*;

    fn memory(len: u64) -> Buffers {
        Buffers::owned(Arc::new(HostBuffer::new(len as usize, 4096)))
    }

    fn write(offset: u64) -> Op {
        let durability = Durability::Cached;
        Op::Write { offset, durability }
    }

    #[test]
    fn neighbours_become_one() {
        let mut group = Group::new(write(4096), memory(512), 7);
        let (second, third) = (memory(1024), memory(512));
        assert!(group.takes(write(4608), &second));
        // SAFETY: both live longer than the group.
        assert_eq!(unsafe { group.add(&second, 3) }, 7);
        assert!(group.takes(write(5632), &third));
        // SAFETY: as above.
        assert_eq!(unsafe { group.add(&third, 9) }, 3);
        let (request, first) = group.into_request();
        assert_eq!((request.op, first), (write(4096), 7));
        assert_eq!(request.range(), Some((4096, 2048)));
        assert_eq!(request.buffers.parts().len(), 3);
    }

    #[test]
    fn others_do_not() {
        let group = Group::new(write(4096), memory(512), 0);
        let data = memory(512);
        for op in [
            write(4096),
            write(5120),
            write(3584),
            Op::Read { offset: 4608 },
            Op::Write {
                offset: 4608,
                durability: Durability::Durable,
            },
            Op::Flush,
        ] {
            assert!(!group.takes(op, &data), "{op:?}");
        }
        let group = Group::new(Op::Flush, Buffers::new(), 0);
        assert!(!group.takes(Op::Flush, &Buffers::new()));
        let group = Group::new(write(u64::MAX - 511), memory(512), 0);
        assert!(!group.takes(write(0), &data));
    }

    #[test]
    fn there_is_an_end_to_it() {
        let group = Group::new(write(0), memory(ENOUGH - 512), 0);
        assert!(group.takes(write(ENOUGH - 512), &memory(512)));
        assert!(!group.takes(write(ENOUGH - 512), &memory(1024)));
        let (mut group, more) = (Group::new(write(0), memory(512), 0), memory(512));
        for i in 1..MOST_PARTS as u64 {
            assert!(group.takes(write(i * 512), &more));
            // SAFETY: it lives longer than the group.
            unsafe { group.add(&more, i as usize) };
        }
        assert!(!group.takes(write(MOST_PARTS as u64 * 512), &more));
    }
}
