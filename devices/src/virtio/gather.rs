#![allow(unsafe_code)] // host addresses of guest memory
//! Guest memory for requests, without copying it.

use std::sync::Arc;

use block::Buffers;

use crate::ram::GuestRam;
use crate::virtio::Segments;

/// Makes `buffers` refer to `len` bytes of `segments` from `offset` on. False when a part is
/// outside memory, which was ruled out when the chain was read.
pub(super) fn gather(
    segments: &Segments,
    memory: &Arc<GuestRam>,
    (offset, len): (u64, u64),
    buffers: &mut Buffers,
) -> bool {
    buffers.begin(memory.clone());
    segments.host(memory, offset, len, |pointer, len| {
        // SAFETY: `Segments::host` gives addresses inside of the mappings that `memory` holds,
        // and `memory` is the buffers' keeper. Guest memory is never borrowed as a Rust slice.
        unsafe { buffers.push(pointer, len) };
    }) && buffers.len() == len
}

/// Makes `buffers` refer to what `more` refers to as well, behind what they have.
///
/// # Safety
/// The memory of `more` lives as long as the keeper of `buffers` does, or as anybody uses `buffers`.
pub(super) unsafe fn append(buffers: &mut Buffers, more: &Buffers) {
    for part in more.parts() {
        // SAFETY: as the caller promises; others may change it at any time, as `more` has it.
        unsafe { buffers.push(part.address() as *mut u8, part.len()) };
    }
}
