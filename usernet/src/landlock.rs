//! Landlock: which files a thread, and those it starts, may open. Kernel documentation,
//! userspace-api/landlock; landlock(7).
#![allow(unsafe_code)] // three system calls that the C library does not know

use std::io;
use std::ops::BitOr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// What may be done with files: `LANDLOCK_ACCESS_FS_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights(u64);

impl Rights {
    /// Nothing.
    pub const NONE: Rights = Rights(0);
    /// A program is executed.
    pub const EXECUTE: Rights = Rights(1);
    /// A file is opened to be written.
    pub const WRITE: Rights = Rights(1 << 1 | 1 << 14);
    /// A file is opened to be read.
    pub const READ: Rights = Rights(1 << 2);
    /// A directory is listed.
    pub const LIST: Rights = Rights(1 << 3);
    /// A file, a socket or a FIFO is removed.
    pub const REMOVE: Rights = Rights(1 << 5);
    /// Regular files, directories, links, sockets and FIFOs are made, moved and removed.
    pub const MAKE: Rights =
        Rights(1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 13);
    /// A socket is made.
    pub const MAKE_SOCKET: Rights = Rights(1 << 9);
    /// A device is controlled (ioctl).
    pub const CONTROL: Rights = Rights(1 << 15);
    /// Everything, device nodes included.
    pub const ALL: Rights = Rights((1 << 16) - 1);
    /// All that a rule for something else than a directory can say.
    const FOR_FILES: Rights = Rights(1 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15);

    /// These and those.
    #[must_use]
    pub const fn or(self, others: Rights) -> Rights {
        Rights(self.0 | others.0)
    }

    /// These without those.
    #[must_use]
    pub const fn without(self, others: Rights) -> Rights {
        Rights(self.0 & !others.0)
    }

    const fn and(self, others: Rights) -> Rights {
        Rights(self.0 & others.0)
    }

    /// What this version of Landlock knows.
    const fn known(version: u32) -> Rights {
        Rights(match version {
            0..2 => (1 << 13) - 1,
            2 => (1 << 14) - 1,
            3..5 => (1 << 15) - 1,
            5.. => (1 << 16) - 1,
        })
    }
}

impl BitOr for Rights {
    type Output = Rights;

    fn bitor(self, other: Rights) -> Rights {
        self.or(other)
    }
}

/// Who else is out of reach: `LANDLOCK_SCOPE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Nobody.
    Nobody,
    /// Processes outside get no signals from us; where the kernel tells its own threads from
    /// strangers (`LANDLOCK_CREATE_RULESET_ERRATA`, the second).
    Signals,
    /// Nor can abstract sockets of theirs be connected to.
    SignalsAndAbstractSockets,
}

impl Scope {
    fn bits(self, version: u32) -> u64 {
        match self {
            _ if version < 6 => 0,
            Scope::Nobody => 0,
            Scope::Signals if !threads_are_no_strangers() => 0,
            Scope::Signals => 1 << 1,
            Scope::SignalsAndAbstractSockets => 3,
        }
    }
}

/// `struct landlock_ruleset_attr`, as of version 6.
#[repr(C)]
struct Attributes {
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

const ASK_VERSION: u32 = 1;
const ASK_ERRATA: u32 = 1 << 1;
const RULE_PATH_BENEATH: u32 = 1;

/// Rules, which hold for a thread once it says so.
#[derive(Debug)]
pub struct Ruleset {
    fd: OwnedFd,
    handled: Rights,
}

impl Ruleset {
    /// Rules under which of `handled` nothing is allowed, as far as the kernel knows it; `None`
    /// where it has no Landlock.
    ///
    /// # Errors
    /// Those of landlock_create_ruleset(2).
    pub fn new(handled: Rights, scope: Scope) -> io::Result<Option<Self>> {
        let version = version();
        if version == 0 {
            return Ok(None);
        }
        let handled = handled.and(Rights::known(version));
        let attributes = Attributes {
            fs: handled.0,
            net: 0,
            scoped: scope.bits(version),
        };
        // What a version does not know is not handed over.
        let size = match version {
            6.. => size_of::<Attributes>(),
            _ => size_of::<u64>(),
        };
        // SAFETY: `attributes` lives across the call and has at least `size` bytes.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const attributes,
                size,
                0,
            )
        };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0);
        let fd = fd.ok_or_else(io::Error::last_os_error)?;
        // SAFETY: just made, and ours.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Some(Ruleset { fd, handled }))
    }

    /// Allows this below a directory that is open, or with a file. A rule can only say what the
    /// rules are about, and for a file what makes sense there; the rest is left out.
    ///
    /// # Errors
    /// Those of landlock_add_rule(2).
    pub fn allow(&self, place: &impl AsRawFd, kind: Place, rights: Rights) -> io::Result<()> {
        let allowed = match kind {
            Place::Directory => rights,
            Place::File => rights.and(Rights::FOR_FILES),
        };
        let allowed = allowed.and(self.handled);
        if allowed == Rights::NONE {
            return Ok(());
        }
        let beneath = Beneath {
            allowed: allowed.0,
            parent: place.as_raw_fd(),
        };
        // SAFETY: `beneath` lives across the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.fd.as_raw_fd(),
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

    /// From here on these rules hold for the calling thread and all that it starts, beside those
    /// that hold already. Needs PR_SET_NO_NEW_PRIVS.
    ///
    /// # Errors
    /// Those of landlock_restrict_self(2).
    pub fn restrict(&self) -> io::Result<()> {
        // SAFETY: no pointers.
        let result =
            unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.fd.as_raw_fd(), 0) };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// What a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A directory and all below it.
    Directory,
    /// Anything else.
    File,
}

/// The version of Landlock that the kernel has; 0 for none.
pub fn version() -> u32 {
    u32::try_from(ask(ASK_VERSION)).unwrap_or(0)
}

fn threads_are_no_strangers() -> bool {
    const SECOND: i64 = 1 << 1;
    let errata = ask(ASK_ERRATA);
    errata >= 0 && errata & SECOND != 0
}

fn ask(flag: u32) -> i64 {
    // SAFETY: a null pointer and no size ask a question.
    unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Attributes>(),
            0,
            flag,
        )
    }
}
