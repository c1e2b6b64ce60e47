//! Memory of requests: lists of host addresses with something that keeps them alive.
//!
//! The memory is mostly guest RAM, which the guest changes at will. It is therefore never
//! borrowed as a slice, only copied with raw pointers; whatever the guest does at the same time
//! changes values, never the program's footing.
#![allow(unsafe_code)] // raw pointers to shared memory

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::any::Any;
use std::ptr;
use std::sync::Arc;

/// Keeps memory alive while requests refer to it (the RAM mapping in force, an allocation).
pub type Keeper = Arc<dyn Any + Send + Sync>;

/// One piece of memory, laid out as the kernel's iovec.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub struct IoPart(libc::iovec);

// SAFETY: it is an address and a length; who may use the memory is settled by `Buffers`.
unsafe impl Send for IoPart {}
// SAFETY: as above; there is no interior mutability.
unsafe impl Sync for IoPart {}

impl IoPart {
    /// Its address as a number.
    pub fn address(&self) -> usize {
        self.0.iov_base as usize
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.0.iov_len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn pointer(&self) -> *mut u8 {
        self.0.iov_base.cast()
    }

    /// The bytes from `offset` on, at most `len`.
    fn window(&self, offset: usize, len: usize) -> Self {
        let offset = offset.min(self.len());
        let len = len.min(self.len().saturating_sub(offset));
        IoPart(libc::iovec {
            iov_base: self.pointer().wrapping_add(offset).cast(),
            iov_len: len,
        })
    }
}

/// The memory of one request. Empty for requests without data.
#[derive(Clone, Default)]
pub struct Buffers {
    parts: Vec<IoPart>,
    len: u64,
    keeper: Option<Keeper>,
}

impl std::fmt::Debug for Buffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffers({} bytes in {})", self.len, self.parts.len())
    }
}

impl Buffers {
    /// No memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// The whole of an allocation.
    pub fn owned(memory: Arc<HostBuffer>) -> Self {
        let mut buffers = Buffers::new();
        let (pointer, len) = (memory.pointer, memory.len());
        buffers.begin(memory);
        // SAFETY: the allocation lives as long as the keeper, which is the allocation.
        unsafe { buffers.push(pointer, len) };
        buffers
    }

    /// Forgets all parts, keeps the room of the list, and takes the keeper of the next ones.
    pub fn begin(&mut self, keeper: Keeper) {
        self.clear();
        self.keeper = Some(keeper);
    }

    /// Forgets parts and keeper.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.len = 0;
        self.keeper = None;
    }

    /// Appends a part.
    ///
    /// # Safety
    /// `len` bytes at `pointer` may be read and written for as long as the keeper given to
    /// [`Self::begin`] lives. Others may change them at any time; nobody has a Rust reference to
    /// them.
    pub unsafe fn push(&mut self, pointer: *mut u8, len: usize) {
        if len > 0 {
            self.len = self.len.saturating_add(len as u64);
            self.parts.push(IoPart(libc::iovec {
                iov_base: pointer.cast(),
                iov_len: len,
            }));
        }
    }

    /// Bytes in all parts.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The parts.
    pub fn parts(&self) -> &[IoPart] {
        &self.parts
    }

    /// The bytes from `offset` on, at most `len` of them, as a list of its own with the same
    /// keeper.
    pub fn slice(&self, offset: u64, len: u64) -> Buffers {
        let parts = self.window(offset, len);
        Buffers {
            len: parts.iter().map(|part| part.len() as u64).sum(),
            parts,
            keeper: self.keeper.clone(),
        }
    }

    /// The parts from `offset` on, at most `len` bytes of them.
    pub fn window(&self, offset: u64, len: u64) -> Vec<IoPart> {
        let mut out = Vec::with_capacity(self.parts.len());
        self.each(offset, len, |part| {
            out.push(part);
            true
        });
        out
    }

    /// Whether every part begins and ends at a multiple of `align`, a power of two.
    pub fn is_aligned(&self, align: usize) -> bool {
        let mask = align.saturating_sub(1);
        self.parts
            .iter()
            .all(|part| (part.address() | part.len()) & mask == 0)
    }

    /// Copies out of the memory from `offset` on; returns how many bytes there were.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> usize {
        let mut done = 0usize;
        self.each(offset, into.len() as u64, |part| {
            if let Some(to) = into.get_mut(done..done.saturating_add(part.len())) {
                // SAFETY: the part is valid for its length (see `push`), `to` is as long, and a
                // Rust slice never overlaps memory nobody has a reference to.
                unsafe { ptr::copy_nonoverlapping(part.pointer(), to.as_mut_ptr(), part.len()) };
                done = done.saturating_add(part.len());
            }
            true
        });
        done
    }

    /// Copies into the memory from `offset` on; returns how many bytes fitted.
    pub fn write_at(&self, offset: u64, from: &[u8]) -> usize {
        let mut done = 0usize;
        self.each(offset, from.len() as u64, |part| {
            if let Some(bytes) = from.get(done..done.saturating_add(part.len())) {
                // SAFETY: as for `read_at`, the other way round.
                unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), part.pointer(), part.len()) };
                done = done.saturating_add(part.len());
            }
            true
        });
        done
    }

    /// Fills the memory from `offset` to its end with zeroes.
    pub fn zero_from(&self, offset: u64) {
        self.each(offset, u64::MAX, |part| {
            // SAFETY: the part is valid for its length.
            unsafe { ptr::write_bytes(part.pointer(), 0, part.len()) };
            true
        });
    }

    /// Whether all bytes are zero, as far as one look can tell.
    pub fn is_zero(&self) -> bool {
        let mut chunk = [0u8; 4096];
        let mut zero = true;
        self.each(0, u64::MAX, |part| {
            let mut at = 0;
            while zero && at < part.len() {
                let piece = part.window(at, chunk.len());
                // SAFETY: the piece is valid for its length, which is at most the chunk's.
                unsafe {
                    ptr::copy_nonoverlapping(piece.pointer(), chunk.as_mut_ptr(), piece.len());
                }
                zero = chunk.iter().take(piece.len()).all(|byte| *byte == 0);
                at = at.saturating_add(piece.len());
            }
            zero
        });
        zero
    }

    /// Calls `each` with the parts that cover `len` bytes from `offset` on, while it says so.
    fn each(&self, offset: u64, len: u64, mut each: impl FnMut(IoPart) -> bool) {
        let end = offset.saturating_add(len).min(self.len);
        let mut at = 0u64;
        for part in &self.parts {
            let next = at.saturating_add(part.len() as u64);
            let (first, last) = (at.max(offset), next.min(end));
            if first < last {
                let window = part.window((first - at) as usize, (last - first) as usize);
                if !each(window) {
                    return;
                }
            }
            at = next;
            if at >= end {
                return;
            }
        }
    }
}

/// Memory of our own, aligned for direct I/O.
pub struct HostBuffer {
    pointer: *mut u8,
    layout: Layout,
}

// SAFETY: it owns its allocation, and all access is by copying through `&self`; overlapping
// copies from two threads change values only, as with guest memory.
unsafe impl Send for HostBuffer {}
// SAFETY: as above.
unsafe impl Sync for HostBuffer {}

impl HostBuffer {
    /// `len` zero bytes (at least one) at a multiple of `align`, which is made a power of two.
    pub fn new(len: usize, align: usize) -> Self {
        let align = align.clamp(1, 1 << 20).next_power_of_two();
        let len = len.clamp(1, isize::MAX as usize - (1 << 20));
        let layout = Layout::from_size_align(len, align).unwrap_or(Layout::new::<u64>());
        // SAFETY: the layout's size is not zero.
        let pointer = unsafe { alloc_zeroed(layout) };
        if pointer.is_null() {
            handle_alloc_error(layout);
        }
        HostBuffer { pointer, layout }
    }

    /// A copy of `data`.
    pub fn from_bytes(data: &[u8], align: usize) -> Arc<Self> {
        let buffer = Arc::new(Self::new(data.len(), align));
        Buffers::owned(buffer.clone()).write_at(0, data);
        buffer
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.layout.size()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// A copy of what is in it.
    pub fn to_vec(self: &Arc<Self>) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        Buffers::owned(self.clone()).read_at(0, &mut bytes);
        bytes
    }
}

impl Drop for HostBuffer {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout.
        unsafe { dealloc(self.pointer, self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Parts of these lengths in one allocation, each followed by a gap of one byte.
    fn scattered(lengths: &[usize]) -> Buffers {
        let total = lengths.iter().map(|len| len + 1).sum::<usize>();
        let memory = Arc::new(HostBuffer::new(total, 8));
        let mut buffers = Buffers::new();
        buffers.begin(memory.clone());
        let mut at = 0;
        for len in lengths {
            // SAFETY: within the allocation, which is the keeper.
            unsafe { buffers.push(memory.pointer.add(at), *len) };
            at += len + 1;
        }
        buffers
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            lengths in proptest::collection::vec(0usize..40, 1..8),
            offset in 0u64..100,
            data in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let buffers = scattered(&lengths);
            let total = lengths.iter().sum::<usize>();
            prop_assert_eq!(buffers.len(), total as u64);
            let room = total.saturating_sub(offset as usize).min(data.len());
            prop_assert_eq!(buffers.write_at(offset, &data), room);
            let mut back = vec![0xff; data.len()];
            prop_assert_eq!(buffers.read_at(offset, &mut back), room);
            prop_assert_eq!(&back[..room], &data[..room]);
            prop_assert_eq!(buffers.is_zero(), data[..room].iter().all(|byte| *byte == 0));
            let window = buffers.window(offset, 30);
            let bytes = window.iter().map(IoPart::len).sum::<usize>();
            prop_assert_eq!(bytes, total.saturating_sub(offset as usize).min(30));
            buffers.zero_from(0);
            prop_assert!(buffers.is_zero());
        }
    }

    #[test]
    fn allocations_are_aligned() {
        let buffers = Buffers::owned(HostBuffer::from_bytes(&[1; 4096], 4096));
        assert!(buffers.is_aligned(4096));
        assert!(!scattered(&[3, 512]).is_aligned(512));
        assert!(HostBuffer::new(0, 0).len() == 1);
    }
}
