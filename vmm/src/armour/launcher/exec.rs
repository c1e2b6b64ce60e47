//! From the launcher to a program: fork, and what is done between that and exec.
#![allow(unsafe_code)] // fork, exec, pidfd_open, waitpid and kill have no safe face

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::ptr;

use super::protocol::{Group, Lifetime, Start, TARGET_LIMIT};
use crate::sys;

/// A process that was forked and is about to become its program.
#[derive(Debug)]
pub struct Process {
    pid: libc::pid_t,
    group: Group,
    /// Readable when it has ended.
    pub end: OwnedFd,
    /// Ends when it has become its program; the system's error comes where it cannot.
    pub report: File,
}

impl Process {
    /// Forks it. `fds` are for the targets of `start`, in their order; those of the first three
    /// that are not among them are `null`.
    ///
    /// # Errors
    /// When the host gives no process or no descriptor.
    pub fn start(start: &Start, fds: &[OwnedFd], null: &OwnedFd) -> io::Result<Self> {
        let places = places(start, fds, null)?;
        let words = Words::new(start);
        let (report, told) = sys::pipe()?;
        let told = above(&told)?;
        // SAFETY: what runs in the child until exec makes system calls with memory that was
        // prepared, and nothing else: whatever threads there are, no lock is taken.
        let pid = unsafe {
            let parent = libc::getpid();
            match libc::fork() {
                -1 => return Err(io::Error::last_os_error()),
                0 => become_program(start, parent, &places, &words, told.as_raw_fd()),
                pid => pid,
            }
        };
        drop(told);
        match pidfd(pid) {
            Ok(end) => Ok(Process {
                pid,
                group: start.group,
                end,
                report: File::from(report),
            }),
            Err(error) => {
                kill(pid, start.group);
                wait_for(pid);
                Err(error)
            }
        }
    }

    /// Its number.
    pub fn id(&self) -> i32 {
        self.pid
    }

    /// Kills it. It was not waited for, so its number is its own.
    pub fn kill(&self) {
        kill(self.pid, self.group);
    }

    /// The status it ended with, if it has. To be asked until there is one.
    pub fn reap(&self) -> Option<i32> {
        let mut status = 0;
        // SAFETY: `status` lives across the call.
        match unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) } {
            0 => None,
            pid if pid == self.pid => Some(status),
            // Somebody else has it: nothing will be known of it.
            _ => Some(libc::SIGKILL),
        }
    }
}

/// Where the kernel cannot kill it, it is another user's (a set-user-ID program): it goes on.
fn kill(pid: libc::pid_t, group: Group) {
    // SAFETY: no pointers. The group is not there before the process has made it.
    unsafe {
        if group == Group::Leader {
            libc::kill(-pid, libc::SIGKILL);
        }
        libc::kill(pid, libc::SIGKILL);
    }
}

/// Waits for a child that is about to end, however it does.
pub fn wait_for(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: `status` lives across the call.
    while unsafe { libc::waitpid(pid, &mut status, 0) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

/// A descriptor that is readable when the process has ended.
///
/// # Errors
/// Those of pidfd_open(2).
pub fn pidfd(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match RawFd::try_from(fd) {
        // SAFETY: just made, belongs to nobody else.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A copy whose number no program's descriptor has.
fn above(fd: &impl AsRawFd) -> io::Result<OwnedFd> {
    let lowest = RawFd::from(TARGET_LIMIT);
    // SAFETY: no pointers; the descriptor is open.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// What the program has where.
fn places(start: &Start, fds: &[OwnedFd], null: &OwnedFd) -> io::Result<Vec<(OwnedFd, RawFd)>> {
    let mut places = Vec::new();
    for target in 0..3 {
        if !start.targets.contains(&target) {
            places.push((above(null)?, RawFd::from(target)));
        }
    }
    for (target, fd) in start.targets.iter().zip(fds) {
        places.push((above(fd)?, RawFd::from(*target)));
    }
    Ok(places)
}

/// Its words, as exec takes them.
struct Words {
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    /// What those of the environment point to; those of the arguments point into the order.
    _variables: Vec<CString>,
}

impl Words {
    fn new(start: &Start) -> Self {
        let variables = environment(start);
        let arguments = std::iter::once(&start.program).chain(&start.arguments);
        let end = || std::iter::once(ptr::null());
        Words {
            arguments: arguments.map(|word| word.as_ptr()).chain(end()).collect(),
            environment: variables
                .iter()
                .map(|word| word.as_ptr())
                .chain(end())
                .collect(),
            _variables: variables,
        }
    }
}

/// Ours, and what the order adds in the place of what had the same name.
fn environment(start: &Start) -> Vec<CString> {
    let name = |word: &[u8]| word.split(|byte| *byte == b'=').next().map(<[u8]>::to_vec);
    let added: Vec<_> = start
        .environment
        .iter()
        .map(|word| name(word.as_bytes()))
        .collect();
    let inherited = std::env::vars_os().filter_map(|(key, value)| {
        let mut word = key;
        word.push("=");
        word.push(value);
        let word = word.into_vec();
        (!added.contains(&name(&word))).then(|| CString::new(word).ok())?
    });
    inherited.chain(start.environment.iter().cloned()).collect()
}

/// The child. Begins with what a program would have from a shell: no signal is blocked, as all
/// are in the launcher, none is ignored for our sake, and no descriptor is open but its own.
///
/// # Safety
/// Only between fork and exec.
unsafe fn become_program(
    start: &Start,
    parent: libc::pid_t,
    places: &[(OwnedFd, RawFd)],
    words: &Words,
    report: RawFd,
) -> ! {
    // SAFETY: all of these may be called between fork and exec; the set is initialised by
    // sigemptyset, and the lists end with a null.
    unsafe {
        if start.group == Group::Leader {
            libc::setpgid(0, 0);
        }
        if start.lifetime == Lifetime::Line {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() != parent {
                libc::_exit(1);
            }
        }
        // Rust's runtime ignores it.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        // They are only marked. Kernels that cannot do so leave them, and ours are marked anyway.
        libc::syscall(
            libc::SYS_close_range,
            3,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
        let placed = places
            .iter()
            .all(|(fd, target)| libc::dup2(fd.as_raw_fd(), *target) >= 0);
        if placed {
            libc::execvpe(
                start.program.as_ptr(),
                words.arguments.as_ptr(),
                words.environment.as_ptr(),
            );
        }
        let error = (*libc::__errno_location()).to_ne_bytes();
        libc::write(report, error.as_ptr().cast(), error.len());
        libc::_exit(127)
    }
}
