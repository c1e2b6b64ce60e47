//! The few system calls that have no safe face elsewhere.
#![allow(unsafe_code)] // thin wrappers over libc

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The status flags of an open file (F_GETFL).
///
/// # Errors
/// Those of fcntl(2).
pub fn status_flags(fd: &impl AsRawFd) -> io::Result<i32> {
    // SAFETY: F_GETFL takes no pointer; the descriptor is open while `fd` is borrowed.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })
}

/// A duplicate of a descriptor that we got by number (inherited from our parent).
///
/// # Errors
/// EBADF when nothing is open under that number.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes no pointer and fails on a number that is not open.
    let copy = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: `copy` was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Whether a descriptor was inherited from our parent and not taken over yet: all that we open
/// or take over ourselves has FD_CLOEXEC, which no inherited one can have.
pub fn is_inherited(fd: RawFd) -> bool {
    // SAFETY: no pointers; fails on a number that is not open.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Takes over a descriptor inherited from our parent, and sets FD_CLOEXEC on it. Of standard input,
/// output and error a duplicate is made and they stay open: what is opened next must not get their
/// numbers, because messages go there.
///
/// # Errors
/// EBADF when nothing is open under that number, or what is there is ours.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    if !is_inherited(fd) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    if fd <= libc::STDERR_FILENO {
        return duplicate(fd);
    }
    // SAFETY: no pointers; fails on a number that is not open.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the descriptor is open and, as just checked, nobody's yet.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets O_NONBLOCK.
///
/// # Errors
/// Those of fcntl(2).
pub fn set_nonblocking(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// An entry for [`poll`].
pub fn poll_entry(fd: RawFd, events: i16) -> libc::pollfd {
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}

/// Waits until one of them is ready, or for so many milliseconds; a signal ends it early.
///
/// # Errors
/// Those of poll(2).
pub fn poll(fds: &mut [libc::pollfd], milliseconds: Option<i32>) -> io::Result<()> {
    let timeout = milliseconds.unwrap_or(-1);
    // SAFETY: the list lives across the call.
    match check(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Whether a descriptor takes output now, or has an error to tell.
pub fn takes_output(fd: std::os::fd::BorrowedFd<'_>) -> bool {
    let mut entry = [poll_entry(fd.as_raw_fd(), libc::POLLOUT)];
    poll(&mut entry, Some(0)).is_ok() && entry.iter().any(|entry| entry.revents != 0)
}

/// How many connections may wait to be accepted by a socket that listens.
///
/// # Errors
/// Those of listen(2).
pub fn set_backlog(fd: &impl AsRawFd, waiting: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::listen(fd.as_raw_fd(), waiting) }).map(drop)
}

/// Whether a socket waits for connections.
///
/// # Errors
/// Those of getsockopt(2): ENOTSOCK for what is none.
pub fn socket_listens(fd: &impl AsRawFd) -> io::Result<bool> {
    let mut value = 0i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the value has room for as many bytes as `len` says.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ACCEPTCONN,
            (&raw mut value).cast(),
            &mut len,
        )
    })?;
    Ok(value != 0)
}

/// The next bytes of a socket, which stay there; 0 at its end.
///
/// # Errors
/// Those of recv(2); EAGAIN when there are none.
pub fn peek(fd: &impl AsRawFd, data: &mut [u8]) -> io::Result<usize> {
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the buffer has the size given.
    let got = unsafe { libc::recv(fd.as_raw_fd(), data.as_mut_ptr().cast(), data.len(), flags) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// Ends both directions of a socket, for everybody who has it.
pub fn shut_down_socket(fd: &impl AsRawFd) {
    // SAFETY: no pointers. What is no socket, or closed, needs no end.
    unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Sets FD_CLOEXEC.
///
/// # Errors
/// Those of fcntl(2).
pub fn close_on_exec(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Who goes on after [`fork`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The caller, which now has this child.
    Parent(i32),
    /// The child.
    Child,
}

/// Splits the process. Only for use before any thread was started.
///
/// # Errors
/// Those of fork(2).
pub fn fork() -> io::Result<Forked> {
    // SAFETY: the caller is the only thread, so that no lock is held by one that vanishes.
    Ok(match check(unsafe { libc::fork() })? {
        0 => Forked::Child,
        child => Forked::Parent(child),
    })
}

/// Leaves the terminal: a new session, and nothing readable by others by default.
///
/// # Errors
/// Those of setsid(2).
pub fn new_session() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::setsid() })?;
    // SAFETY: no pointers; cannot fail.
    unsafe { libc::umask(0o027) };
    Ok(())
}

/// Ends this process at once, without running destructors or exit handlers.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: no pointers; does not return.
    unsafe { libc::_exit(status) }
}

/// Makes `target` refer to what `source` refers to.
///
/// # Errors
/// Those of dup2(2).
pub fn redirect(source: &impl AsRawFd, target: RawFd) -> io::Result<()> {
    // SAFETY: no pointers; both numbers are checked by the kernel.
    check(unsafe { libc::dup2(source.as_raw_fd(), target) }).map(drop)
}

/// A pipe: its reading and its writing end.
///
/// # Errors
/// Those of pipe2(2).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two numbers.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: both were just made and belong to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Locks a whole file against other openers (an open file description lock).
///
/// # Errors
/// EAGAIN when somebody has it.
pub fn lock_file(file: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: all bytes zero are a valid flock: the range is the whole file.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    // SAFETY: `lock` lives across the call.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) }).map(drop)
}

/// Blocks `signals` in the calling thread, and so in all it starts later, and gives a descriptor
/// that is readable when one came.
///
/// # Errors
/// Those of signalfd(2).
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use and lives across all calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            check(libc::sigaddset(&mut set, *signal))?;
        }
        check(libc::pthread_sigmask(
            libc::SIG_BLOCK,
            &set,
            std::ptr::null_mut(),
        ))?;
        let fd = check(libc::signalfd(
            -1,
            &set,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Takes one of `signals`, which are blocked, if one came.
pub fn take_signal(signals: &[i32]) -> Option<Signal> {
    // SAFETY: the set is initialised by sigemptyset before use; all three live across the call;
    // all bytes zero are a valid siginfo_t, whose sender is read only after a signal was written
    // to it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let now: libc::timespec = std::mem::zeroed();
        let number = u32::try_from(libc::sigtimedwait(&set, &mut info, &now)).ok()?;
        let by_process = info.si_code <= 0;
        let sender = if by_process { info.si_pid() } else { 0 };
        Some(Signal {
            number,
            sender: u32::try_from(sender).unwrap_or(0),
        })
    }
}

/// Takes a variable out of the environment. Only for use before any thread was started.
pub fn remove_variable(name: &str) {
    // SAFETY: the caller is the only thread, so that nobody reads the environment meanwhile.
    unsafe { std::env::remove_var(name) };
}

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// Which one.
    pub number: u32,
    /// The process that sent it; 0 when it was the system (a key at the terminal).
    pub sender: u32,
}

/// Takes the next signal from a descriptor of [`signal_fd`].
pub fn next_signal(fd: &OwnedFd) -> Option<Signal> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    // SAFETY: the buffer has the size given.
    let got = unsafe { libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), info.len()) };
    if usize::try_from(got) != Ok(info.len()) {
        return None;
    }
    let word = |at: usize| {
        let bytes = info.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    Some(Signal {
        number: word(std::mem::offset_of!(libc::signalfd_siginfo, ssi_signo))?,
        sender: word(std::mem::offset_of!(libc::signalfd_siginfo, ssi_pid))?,
    })
}

/// An epoll set.
#[derive(Debug)]
pub struct Poll(OwnedFd);

/// Whether a descriptor is reported as long as it is readable, or once for each arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// As long as it is readable.
    Level,
    /// Once for each arrival.
    Edge,
}

impl Poll {
    /// An empty set.
    ///
    /// # Errors
    /// Those of epoll_create1(2).
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just made, belongs to nobody else.
        Ok(Poll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches `fd` for input under `token`.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn watch(&self, fd: &impl AsRawFd, token: u64, trigger: Trigger) -> io::Result<()> {
        let edge = if trigger == Trigger::Edge {
            libc::EPOLLET
        } else {
            0
        };
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | edge) as u32,
            u64: token,
        };
        let (set, fd) = (self.0.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: `event` lives across the call.
        check(unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, fd, &mut event) }).map(drop)
    }

    /// Waits until something came or `timeout_ms` passed (-1: for ever); returns the tokens.
    ///
    /// # Errors
    /// Those of epoll_wait(2), EINTR excepted.
    pub fn wait(&self, timeout_ms: i32) -> io::Result<impl Iterator<Item = u64> + use<>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        // SAFETY: the array has room for as many events as we say.
        let count =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), 8, timeout_ms) };
        let count = match check(count) {
            Ok(count) => usize::try_from(count).unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        Ok(events.into_iter().take(count).map(|event| event.u64))
    }
}

/// A file or directory as a place, without its contents (O_PATH).
///
/// # Errors
/// Those of open(2).
pub fn open_place(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH).open(path)
}

/// Removes a file from an open directory.
///
/// # Errors
/// Those of unlinkat(2).
pub fn remove_in(directory: &impl AsRawFd, name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends and lives across the call.
    check(unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// Device and inode of a file in an open directory; of a link its own.
///
/// # Errors
/// Those of fstatat(2).
pub fn identity_in(directory: &impl AsRawFd, name: &CStr) -> io::Result<(u64, u64)> {
    let mut found = std::mem::MaybeUninit::<libc::stat>::zeroed();
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    let directory = directory.as_raw_fd();
    // SAFETY: the name ends and lives across the call; `found` is written whole, and zeroes are
    // a stat as well.
    let found = unsafe {
        check(libc::fstatat(
            directory,
            name.as_ptr(),
            found.as_mut_ptr(),
            flags,
        ))?;
        found.assume_init()
    };
    Ok((found.st_dev, found.st_ino))
}

/// Names the process, as `ps` shows it (at most 15 bytes).
pub fn set_process_name(name: &str) {
    let mut bytes = [0u8; 16];
    for (to, from) in bytes
        .iter_mut()
        .take(15)
        .zip(name.bytes().filter(|byte| *byte != 0))
    {
        *to = from;
    }
    // SAFETY: the kernel reads at most 16 bytes, which end in a zero.
    unsafe { libc::prctl(libc::PR_SET_NAME, bytes.as_ptr()) };
}

/// When memory is locked into RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLock {
    /// All of it at once, what is mapped later included.
    Now,
    /// Each page when it is first touched.
    OnFault,
}

/// Keeps all memory of the process in RAM, now and later.
///
/// # Errors
/// Those of mlockall(2).
pub fn lock_memory(when: MemoryLock) -> io::Result<()> {
    let when = match when {
        MemoryLock::Now => 0,
        MemoryLock::OnFault => libc::MCL_ONFAULT,
    };
    // SAFETY: no pointers.
    check(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | when) }).map(drop)
}

/// Lets any amount of memory be locked (RLIMIT_MEMLOCK).
///
/// # Errors
/// Those of setrlimit(2): EPERM where the limit is lower and we may not raise it.
pub fn lift_memory_limit() -> io::Result<()> {
    let values = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `values` lives across the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const values) }).map(drop)
}

/// The calling thread's number, as in /proc/self/task.
pub fn thread_id() -> i32 {
    // Not by the C library's function: std names it as a weak symbol, and then a static link
    // leaves it out.
    // SAFETY: no pointers; cannot fail.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// Seconds by which local time is ahead of universal time at that time.
pub fn utc_offset(seconds: i64) -> i64 {
    // SAFETY: all bytes zero are a valid tm, and both arguments live across the call.
    unsafe {
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&seconds, &mut parts).is_null() {
            0
        } else {
            parts.tm_gmtoff
        }
    }
}
