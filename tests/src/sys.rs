//! The system calls that the standard library has no words for.
#![allow(unsafe_code)] // Descriptor passing, polling, signals and fork hooks are raw system calls.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Waits until `fd` can be read or is at its end. False when the time is over.
pub fn wait_readable(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    wait_for(fd, libc::POLLIN, limit)
}

/// Waits until `fd` takes bytes or is broken. False when the time is over.
pub fn wait_writable(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    wait_for(fd, libc::POLLOUT, limit)
}

fn wait_for(fd: BorrowedFd<'_>, events: i16, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd {
            fd: fd.as_raw_fd(),
            events,
            revents: 0,
        };
        let millis = i32::try_from(left.as_millis())
            .unwrap_or(i32::MAX)
            .saturating_add(1);
        // SAFETY: one valid pollfd, alive during the call.
        let n = unsafe { libc::poll(&raw mut poll, 1, millis) };
        match n {
            1.. => return true,
            0 => return false,
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return false,
        }
    }
}

/// Sends `bytes` with descriptors attached; returns how many bytes went.
///
/// # Errors
/// Those of sendmsg(2).
pub fn send_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let payload = u32::try_from(std::mem::size_of_val(raw.as_slice())).map_err(io::Error::other)?;
    // SAFETY: CMSG_SPACE only computes.
    let space = unsafe { libc::CMSG_SPACE(payload) } as usize;
    // As u64 so that it is aligned for cmsghdr.
    let mut control = vec![0u64; space.div_ceil(8)];
    let mut piece = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    if !raw.is_empty() {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = space;
        // SAFETY: the control buffer has room for one header with `payload` bytes behind it, so the
        // first header is not null and the copy stays inside.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(payload) as usize;
            std::ptr::copy_nonoverlapping(
                raw.as_ptr().cast::<u8>(),
                libc::CMSG_DATA(header),
                payload as usize,
            );
        }
    }
    // SAFETY: message, piece, control and bytes live during the call.
    let n = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Sends a signal to one process.
pub fn kill(pid: u32, signal: i32) {
    if let Ok(pid) = i32::try_from(pid)
        && pid > 1
    {
        // SAFETY: no memory is involved; the pid is one process, not a group.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Whether a process with this id is there.
pub fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

/// The processes that a process started and has not reaped.
pub fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let mut found = Vec::new();
    for thread in threads.into_iter().flatten().flatten() {
        let list = std::fs::read_to_string(thread.path().join("children"));
        let list = list.unwrap_or_default();
        found.extend(
            list.split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    found
}

/// The process that starts programs for this one, if it has one.
pub fn launcher(pid: u32) -> Option<u32> {
    let is_one = |child: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{child}/comm"));
        name.is_ok_and(|name| name.trim_end() == "qvmd-launcher")
    };
    children(pid).into_iter().find(is_one)
}

/// The programs that a VMM runs: its children, and those of its launcher in the place of that.
pub fn programs(pid: u32) -> Vec<u32> {
    let launcher = launcher(pid);
    let own = children(pid);
    let own = own.into_iter().filter(|child| Some(*child) != launcher);
    own.chain(launcher.into_iter().flat_map(children)).collect()
}

/// Who we are; 0 is root.
pub fn user_id() -> u32 {
    // SAFETY: always succeeds, no memory involved.
    unsafe { libc::geteuid() }
}

/// A duplicate of a descriptor with a high number.
///
/// # Panics
/// When the host has none left.
pub fn out_of_the_way(fd: &OwnedFd) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: F_DUPFD_CLOEXEC takes no pointer.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 500) };
    assert!(copy >= 0, "{}", io::Error::last_os_error());
    // SAFETY: just made, belongs to nobody else.
    unsafe { OwnedFd::from_raw_fd(copy) }
}

/// What a child gets beyond its arguments.
#[derive(Debug, Default)]
pub struct ChildSetup {
    /// Descriptors and the numbers they have in the child.
    pub fds: Vec<(OwnedFd, RawFd)>,
    /// Limit of its address space in bytes.
    pub address_space: Option<u64>,
    /// Runs as this user and group, with no other groups.
    pub user: Option<u32>,
}

/// Arranges for `setup`, and that the child dies with the thread that starts it.
pub fn prepare(command: &mut Command, setup: ChildSetup) {
    let fds: Vec<(RawFd, RawFd)> = setup
        .fds
        .iter()
        .map(|(fd, number)| (fd.as_raw_fd(), *number))
        .collect();
    let (address_space, user) = (setup.address_space, setup.user);
    let keep = setup.fds;
    // SAFETY: the hook makes only async-signal-safe system calls and does not allocate.
    unsafe {
        command.pre_exec(move || {
            let _ = &keep;
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            for (from, to) in &fds {
                if from == to {
                    libc::fcntl(*from, libc::F_SETFD, 0);
                } else if libc::dup2(*from, *to) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            if let Some(bytes) = address_space {
                let limit = libc::rlimit {
                    rlim_cur: bytes,
                    rlim_max: bytes,
                };
                libc::setrlimit(libc::RLIMIT_AS, &raw const limit);
            }
            if let Some(id) = user
                && (libc::setgroups(0, std::ptr::null()) < 0
                    || libc::setgid(id) < 0
                    || libc::setuid(id) < 0)
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Puts a terminal into raw mode, so that it hands bytes through as they are.
pub fn make_raw(terminal: BorrowedFd<'_>) {
    // SAFETY: all-zero is a valid termios, and both calls only touch it.
    unsafe {
        let mut mode: libc::termios = std::mem::zeroed();
        libc::tcgetattr(terminal.as_raw_fd(), &raw mut mode);
        libc::cfmakeraw(&raw mut mode);
        libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, &raw const mode);
    }
}

/// Limits the address space of a process that runs.
///
/// # Panics
/// When it is gone, or somebody else's.
pub fn limit_address_space(pid: u32, bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    set_limit(pid, libc::RLIMIT_AS, &limit);
}

/// Lets a process that runs open no descriptors above this number until another one is given.
/// Those that it has stay.
///
/// # Panics
/// When it is gone, or somebody else's.
pub fn limit_descriptors(pid: u32, count: u64) {
    // Below the upper limit, which stays: only root could raise it again.
    let limit = libc::rlimit {
        rlim_cur: count,
        rlim_max: own_descriptors(),
    };
    set_limit(pid, libc::RLIMIT_NOFILE, &limit);
}

/// How many descriptors this process, and so those that it starts, may have at most.
pub fn own_descriptors() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is written during the call.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    assert_eq!(status, 0, "{}", io::Error::last_os_error());
    limit.rlim_max
}

fn set_limit(pid: u32, which: libc::__rlimit_resource_t, limit: &libc::rlimit) {
    let pid = libc::pid_t::try_from(pid).expect("a process");
    // SAFETY: the new limit is valid during the call, and the old one is not asked for.
    let status = unsafe { libc::prlimit(pid, which, &raw const *limit, std::ptr::null_mut()) };
    assert_eq!(status, 0, "{}", io::Error::last_os_error());
}
