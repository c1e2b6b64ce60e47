#![allow(unsafe_code)] // terminals and socket options, which std does not offer
//! The few system calls that have no safe face elsewhere.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Makes reads and writes return instead of waiting.
///
/// # Errors
/// Those of fcntl(2).
pub fn set_nonblocking(fd: &impl AsRawFd) -> io::Result<()> {
    let flags = status_flags(fd)?;
    if flags & libc::O_NONBLOCK == 0 {
        // SAFETY: no pointers.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    }
    Ok(())
}

/// How a file was opened (F_GETFL).
///
/// # Errors
/// Those of fcntl(2).
pub fn status_flags(fd: &impl AsRawFd) -> io::Result<i32> {
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })
}

/// Reads; what the kernel says.
///
/// # Errors
/// Those of read(2).
pub fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `len` bytes to the buffer, which is ours.
    let count = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Writes; what the kernel says.
///
/// # Errors
/// Those of write(2).
pub fn write(fd: RawFd, data: &[u8]) -> io::Result<usize> {
    // SAFETY: the kernel reads at most `len` bytes of the slice.
    let count = unsafe { libc::write(fd, data.as_ptr().cast(), data.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// What poll(2) says of a descriptor right now, after at most `timeout_ms`.
pub fn poll(fd: RawFd, events: i16, timeout_ms: i32) -> i16 {
    let mut entry = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    // SAFETY: `entry` is one element and lives across the call.
    unsafe { libc::poll(&mut entry, 1, timeout_ms) };
    entry.revents
}

fn set_option(fd: &impl AsRawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` lives across the call and has the length given.
    check(unsafe {
        let value: *const i32 = &value;
        libc::setsockopt(fd.as_raw_fd(), level, name, value.cast(), len)
    })
    .map(drop)
}

fn option(fd: &impl AsRawFd, name: i32) -> io::Result<i32> {
    let mut value = 0i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` and `len` live across the call, and `len` is the size of `value`.
    check(unsafe {
        let value: *mut i32 = &mut value;
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            value.cast(),
            &mut len,
        )
    })?;
    Ok(value)
}

/// Asks the kernel to find out about dead peers.
///
/// # Errors
/// Those of setsockopt(2).
pub fn keep_alive(fd: &impl AsRawFd) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)
}

/// Sends small packets at once. Fails for what is not TCP.
///
/// # Errors
/// Those of setsockopt(2).
pub fn no_delay(fd: &impl AsRawFd) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// What became of a connection under way.
///
/// # Errors
/// Why it failed.
pub fn connect_result(fd: &impl AsRawFd) -> io::Result<()> {
    match option(fd, libc::SO_ERROR)? {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// The address family of a socket (AF_UNIX and so on).
///
/// # Errors
/// ENOTSOCK for what is none.
pub fn socket_domain(fd: &impl AsRawFd) -> io::Result<i32> {
    option(fd, libc::SO_DOMAIN)
}

/// Whether a socket listens.
///
/// # Errors
/// ENOTSOCK for what is none.
pub fn socket_listens(fd: &impl AsRawFd) -> io::Result<bool> {
    Ok(option(fd, libc::SO_ACCEPTCONN)? != 0)
}

/// Limits how many clients wait to be accepted.
///
/// # Errors
/// Those of listen(2).
pub fn limit_backlog(fd: &impl AsRawFd, count: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::listen(fd.as_raw_fd(), count) }).map(drop)
}

/// A new stream socket that does not block.
///
/// # Errors
/// Those of socket(2).
pub fn stream_socket(domain: i32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::socket(domain, kind, 0) })?;
    // SAFETY: just made, belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn connect(fd: &OwnedFd, address: *const libc::sockaddr, len: usize) -> io::Result<()> {
    let len = libc::socklen_t::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the callers point to `len` bytes of a socket address that lives across the call.
    check(unsafe { libc::connect(fd.as_raw_fd(), address, len) }).map(drop)
}

/// Begins to connect to a unix socket: `name` as it stands in the address.
///
/// # Errors
/// Those of connect(2).
pub fn connect_unix(fd: &OwnedFd, name: &[u8]) -> io::Result<()> {
    // SAFETY: all bytes zero are a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if name.len() > address.sun_path.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in address.sun_path.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    let pointer: *const libc::sockaddr_un = &address;
    let len = std::mem::offset_of!(libc::sockaddr_un, sun_path).saturating_add(name.len());
    connect(fd, pointer.cast(), len)
}

/// Begins to connect to an IP address.
///
/// # Errors
/// Those of connect(2); EINPROGRESS while it is under way.
pub fn connect_inet(fd: &OwnedFd, address: std::net::SocketAddr) -> io::Result<()> {
    match address {
        std::net::SocketAddr::V4(address) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            let pointer: *const libc::sockaddr_in = &raw;
            connect(fd, pointer.cast(), size_of::<libc::sockaddr_in>())
        }
        std::net::SocketAddr::V6(address) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            };
            let pointer: *const libc::sockaddr_in6 = &raw;
            connect(fd, pointer.cast(), size_of::<libc::sockaddr_in6>())
        }
    }
}

/// A duplicate of one of our own descriptors, by number.
///
/// # Errors
/// EBADF when it is closed.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; fails on a number that is not open.
    let copy = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: just made, belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

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
