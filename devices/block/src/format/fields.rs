//! Fields of on-disk structures, and reads of them.

use std::io;

use crate::node::{BlockNode, NodeExt, SECTOR};

/// `N` bytes at `at`; zeroes for those that are not there.
pub(crate) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    let there = bytes.get(at..).unwrap_or(&[]);
    for (to, from) in out.iter_mut().zip(there) {
        *to = *from;
    }
    out
}

/// A little-endian number of 16 bits.
pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(bytes, at))
}

/// A little-endian number of 32 bits.
pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

/// A little-endian number of 64 bits.
pub(crate) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

/// A big-endian number of 32 bits.
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(field(bytes, at))
}

/// A big-endian number of 64 bits.
pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(field(bytes, at))
}

/// Puts `value` at `at`, where there is room.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    let room = bytes.get_mut(at..).unwrap_or(&mut []);
    for (to, from) in room.iter_mut().zip(value) {
        *to = *from;
    }
}

/// Reads `len` bytes, whatever the node's granule. Blocks. The caller bounds `len`.
///
/// # Errors
/// The host's; EIO beyond the end.
pub(crate) fn read(node: &dyn BlockNode, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let beyond = || io::Error::from_raw_os_error(libc::EIO);
    let end = offset.checked_add(len).ok_or_else(beyond)?;
    if end > node.info().size {
        return Err(beyond());
    }
    let start = offset / SECTOR * SECTOR;
    let end = end.checked_next_multiple_of(SECTOR).ok_or_else(beyond)?;
    let mut bytes = vec![0; end.saturating_sub(start) as usize];
    node.read_at(start, &mut bytes)?;
    bytes.drain(..offset.saturating_sub(start) as usize);
    bytes.truncate(len as usize);
    Ok(bytes)
}

/// As [`read`], up to the node's end.
///
/// # Errors
/// The host's.
pub(crate) fn read_up_to(node: &dyn BlockNode, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let left = node.info().size.saturating_sub(offset);
    read(node, offset, len.min(left))
}
