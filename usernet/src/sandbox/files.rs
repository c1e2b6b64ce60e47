//! Landlock: which files may be read. Kernel documentation, userspace-api/landlock.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// `struct landlock_ruleset_attr`, as of version 6.
#[repr(C)]
struct Ruleset {
    fs: u64,
    net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    parent: i32,
}

const VERSION_FLAG: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
/// Abstract sockets and signals of others (version 6).
const SCOPES: u64 = 3;

/// All rights over files that a version knows.
fn rights(version: i64) -> u64 {
    match version {
        ..2 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        3..5 => (1 << 15) - 1,
        5.. => (1 << 16) - 1,
    }
}

/// From here on only these files can be opened. Without Landlock in the kernel nothing happens:
/// the system call filter still lets files be opened for reading only.
///
/// # Errors
/// Those of the system calls.
pub fn restrict(tftp: Option<&str>) -> io::Result<()> {
    // SAFETY: a null pointer and no size ask for the version.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Ruleset>(),
            0,
            VERSION_FLAG,
        )
    };
    if version < 1 {
        return Ok(());
    }
    let scoped = if version >= 6 { SCOPES } else { 0 };
    let ruleset = Ruleset {
        fs: rights(version),
        net: 0,
        scoped,
    };
    // What a version does not know is not handed over.
    let size = if version >= 6 {
        size_of::<Ruleset>()
    } else {
        size_of::<u64>()
    };
    // SAFETY: `ruleset` lives across the call and has at least `size` bytes.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const ruleset,
            size,
            0,
        )
    };
    let fd = i32::try_from(fd)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(io::Error::last_os_error)?;
    // SAFETY: just made, and ours.
    let rules = unsafe { OwnedFd::from_raw_fd(fd) };
    if let Some(directory) = tftp {
        allow(&rules, Path::new(directory), READ_FILE | READ_DIR)?;
    }
    for directory in resolver_directories() {
        allow(&rules, &directory, READ_FILE)?;
    }
    // SAFETY: no pointers.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Where the list of name servers is, and where it really is.
fn resolver_directories() -> Vec<PathBuf> {
    let real = std::fs::canonicalize("/etc/resolv.conf").ok();
    let mut directories = vec![PathBuf::from("/etc")];
    directories.extend(real.as_deref().and_then(Path::parent).map(Path::to_owned));
    directories
}

/// What is not there cannot be read, and need not be allowed.
fn allow(rules: &OwnedFd, path: &Path, rights: u64) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: the name ends.
    let fd = unsafe {
        libc::open(
            name.as_ptr(),
            libc::O_PATH | libc::O_CLOEXEC | libc::O_DIRECTORY,
        )
    };
    if fd < 0 {
        return Ok(());
    }
    // SAFETY: just opened, and ours.
    let parent = unsafe { OwnedFd::from_raw_fd(fd) };
    let beneath = Beneath {
        allowed: rights,
        parent: parent.as_raw_fd(),
    };
    // SAFETY: `beneath` lives across the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            rules.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const beneath,
            0,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
