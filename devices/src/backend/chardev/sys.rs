#![allow(unsafe_code)] // terminals, which std does not offer
//! System calls on terminals, and those that sockets share.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};

use crate::backend::socket::sys::check;
pub use crate::backend::socket::sys::{
    connect_result, duplicate, poll, read, set_nonblocking, shut_down, status_flags, write,
};
pub use descriptors::Wire;

/// The terminal settings of a descriptor.
pub type Termios = libc::termios;

/// Reads terminal settings.
///
/// # Errors
/// ENOTTY for what is no terminal.
pub fn terminal_settings(fd: &impl AsFd) -> io::Result<Termios> {
    // SAFETY: all bytes zero are a valid termios.
    let mut settings: Termios = unsafe { std::mem::zeroed() };
    // SAFETY: `settings` lives across the call.
    check(unsafe { libc::tcgetattr(fd.as_fd().as_raw_fd(), &mut settings) })?;
    Ok(settings)
}

/// Sets terminal settings at once.
///
/// # Errors
/// Those of tcsetattr(3).
pub fn set_terminal(fd: &impl AsFd, settings: &Termios) -> io::Result<()> {
    // SAFETY: `settings` lives across the call.
    check(unsafe { libc::tcsetattr(fd.as_fd().as_raw_fd(), libc::TCSANOW, settings) }).map(drop)
}

/// Settings under which every byte passes unchanged.
pub fn make_raw(settings: &mut Termios) {
    // SAFETY: changes the fields of a termios that we own.
    unsafe { libc::cfmakeraw(settings) };
}

/// A new pseudo-terminal: its master side and the path of the other.
///
/// # Errors
/// Those of posix_openpt(3).
pub fn open_pty() -> io::Result<(File, String)> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::posix_openpt(flags) })?;
    // SAFETY: just made, belongs to nobody else.
    let master = unsafe { File::from_raw_fd(fd) };
    // SAFETY: no pointers.
    check(unsafe { libc::grantpt(fd) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::unlockpt(fd) })?;
    let mut name = [0; 128];
    // SAFETY: the buffer has the length given.
    let error = unsafe { libc::ptsname_r(fd, name.as_mut_ptr(), name.len()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    // SAFETY: ptsname_r wrote a string that ends with zero, inside the buffer.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    Ok((master, name.to_string_lossy().into_owned()))
}
