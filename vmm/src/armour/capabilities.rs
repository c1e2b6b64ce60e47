//! The capabilities of a thread: capabilities(7), capset(2).
#![allow(unsafe_code)] // capget and capset have no safe face

use std::io;

/// `_LINUX_CAPABILITY_VERSION_3`: two sets of 32.
const VERSION: u32 = 0x2008_0522;

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// CAP_DAC_OVERRIDE, to open files whoever they belong to.
pub const OPEN_ANY_FILE: u32 = 1 << 1;
/// CAP_NET_ADMIN, to make taps, and to open those of others.
pub const OPEN_TAPS: u32 = 1 << 12;
/// CAP_IPC_LOCK, to lock memory beyond the limit.
pub const LOCK_MEMORY: u32 = 1 << 14;

/// The calling thread has none from here on but those of `kept` that it has (of the first 32),
/// and can have no other again.
///
/// # Errors
/// Those of capget(2) and capset(2).
pub fn drop_all_but(kept: u32) -> io::Result<()> {
    let mut left = [Data::default(); 2];
    if kept != 0 {
        let permitted = get()?[0].permitted & kept;
        left[0].effective = permitted;
        left[0].permitted = permitted;
    }
    set(left)
}

/// Whatever the calling thread may have it has: a change of its user takes them out of effect.
/// Nothing is left for programs that it would execute.
///
/// # Errors
/// Those of capget(2) and capset(2).
pub fn use_all() -> io::Result<()> {
    let whole = |data: Data| Data {
        effective: data.permitted,
        permitted: data.permitted,
        inheritable: 0,
    };
    set(get()?.map(whole))
}

fn get() -> io::Result<[Data; 2]> {
    let header = [VERSION, 0];
    let mut data = [Data::default(); 2];
    // SAFETY: header and data have the shapes of version 3 and live across the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) };
    match result {
        0 => Ok(data),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(data: [Data; 2]) -> io::Result<()> {
    let header = [VERSION, 0];
    // SAFETY: header and data have the shapes of version 3 and live across the call.
    match unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
