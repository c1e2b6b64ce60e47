#![allow(unsafe_code)] // getrandom(2), which std does not offer
//! The kernel's random numbers.

use std::io;

/// Fills the front of `buffer` and returns how much; 0 while the kernel's pool is not seeded.
///
/// # Errors
/// As the kernel has it.
pub fn fill(buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `len` bytes to the buffer, which is ours.
    let count = unsafe {
        libc::getrandom(
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::GRND_NONBLOCK,
        )
    };
    usize::try_from(count).or_else(|_| match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        error => Err(error),
    })
}
