#![allow(unsafe_code)] // sockets and descriptors, beyond what std offers
//! The few system calls on sockets and descriptors that have no safe face elsewhere.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub(in crate::backend) fn check(result: i32) -> io::Result<i32> {
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

pub use descriptors::{read, write};

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

/// The kind of a socket (SOCK_STREAM and so on).
///
/// # Errors
/// ENOTSOCK for what is none.
pub fn socket_kind(fd: &impl AsRawFd) -> io::Result<i32> {
    option(fd, libc::SO_TYPE)
}

/// Lets others bind to the same address.
///
/// # Errors
/// Those of setsockopt(2).
pub fn reuse_address(fd: &impl AsRawFd) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)
}

/// Sends to groups from one of our own addresses.
///
/// # Errors
/// Those of setsockopt(2).
pub fn multicast_from(fd: &impl AsRawFd, own: std::net::Ipv4Addr) -> io::Result<()> {
    let value = i32::from_ne_bytes(own.octets());
    set_option(fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, value)
}

/// Nothing comes or goes through a connection from now on; whoever waits for it is woken.
///
/// # Errors
/// Those of shutdown(2).
pub fn shut_down(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) }).map(drop)
}

/// Whether bytes wait to be read, as far as can be told without taking them; `None` when the end
/// or an error does.
pub fn peek(fd: RawFd) -> Option<bool> {
    let mut byte = 0u8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let pointer: *mut u8 = &mut byte;
    // SAFETY: the kernel writes at most one byte to `byte`.
    let count = unsafe { libc::recv(fd, pointer.cast(), 1, flags) };
    match count {
        1.. => Some(true),
        0 => None,
        _ => {
            let kind = io::Error::last_os_error().kind();
            let later = matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            later.then_some(false)
        }
    }
}

/// Pieces of one message at most.
const PIECES: usize = 32;

/// Puts pieces of memory into a list for the kernel; `None` when there are too many.
fn pieces(head: &[u8], parts: &[block::IoPart], list: &mut [libc::iovec; PIECES]) -> Option<usize> {
    let head = (!head.is_empty()).then_some(libc::iovec {
        iov_base: head.as_ptr().cast_mut().cast(),
        iov_len: head.len(),
    });
    let rest = parts.iter().map(|part| libc::iovec {
        iov_base: part.address() as *mut libc::c_void,
        iov_len: part.len(),
    });
    let count = parts.len().checked_add(usize::from(head.is_some()))?;
    if count > PIECES {
        return None;
    }
    for (entry, piece) in list.iter_mut().zip(head.into_iter().chain(rest)) {
        *entry = piece;
    }
    Some(count)
}

const NO_PIECE: libc::iovec = libc::iovec {
    iov_base: std::ptr::null_mut(),
    iov_len: 0,
};

/// A message header for the first `count` pieces of a list.
fn message(list: &mut [libc::iovec; PIECES], count: usize) -> libc::msghdr {
    // SAFETY: all bytes zero are a valid msghdr: no name, no control data.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = list.as_mut_ptr();
    header.msg_iovlen = count as _;
    header
}

/// Sends `head` and then `frame` as one message, or as much of it as a stream takes. The memory
/// belongs to the guest, perhaps, which may change it meanwhile: then that is sent. E2BIG for a
/// frame in too many pieces.
///
/// # Errors
/// Those of sendmsg(2).
pub fn send(
    fd: RawFd,
    to: Option<&RawAddress>,
    head: &[u8],
    frame: &block::Buffers,
) -> io::Result<usize> {
    let mut list = [NO_PIECE; PIECES];
    let Some(count) = pieces(head, frame.parts(), &mut list) else {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    };
    let mut header = message(&mut list, count);
    if let Some(to) = to {
        header.msg_name = to.pointer();
        header.msg_namelen = to.len;
    }
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the header leads to `count` pieces that are valid while `head` and `frame` live
    // (see `Buffers::push`), and to a socket address that lives as long as `to`. The kernel reads.
    let sent = unsafe { libc::sendmsg(fd, &header, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Takes one message into `room`, and says how long it was, which is more than there is room for
/// when it was cut. E2BIG for a room in too many pieces.
///
/// # Errors
/// Those of recvmsg(2).
pub fn receive(fd: RawFd, room: &block::Buffers) -> io::Result<usize> {
    let mut list = [NO_PIECE; PIECES];
    let Some(count) = pieces(&[], room.parts(), &mut list) else {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    };
    let mut header = message(&mut list, count);
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: the header leads to `count` pieces that may be written while `room` lives (see
    // `Buffers::push`).
    let got = unsafe { libc::recvmsg(fd, &mut header, flags) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// A socket address as the kernel has it.
#[derive(Clone, Copy)]
pub struct RawAddress {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl RawAddress {
    fn pointer(&self) -> *mut libc::c_void {
        let pointer: *const libc::sockaddr_storage = &self.storage;
        pointer.cast_mut().cast()
    }

    /// Of a unix socket: `name` as it stands in the address.
    ///
    /// # Errors
    /// When the name is too long.
    pub fn unix(name: &[u8]) -> io::Result<Self> {
        let (address, len) = unix_address(name)?;
        Ok(Self::from_parts(&address, len))
    }

    /// Of an IP socket.
    pub fn inet(address: std::net::SocketAddr) -> Self {
        match address {
            std::net::SocketAddr::V4(address) => {
                let raw = raw_v4(address);
                Self::from_parts(&raw, size_of_val(&raw))
            }
            std::net::SocketAddr::V6(address) => {
                let raw = raw_v6(address);
                Self::from_parts(&raw, size_of_val(&raw))
            }
        }
    }

    /// From one of the kernel's types of socket addresses.
    fn from_parts<T: Copy>(raw: &T, len: usize) -> Self {
        // SAFETY: all bytes zero are a valid sockaddr_storage.
        let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let from: *const T = raw;
        let to: *mut libc::sockaddr_storage = &mut storage;
        let count = size_of::<T>().min(size_of::<libc::sockaddr_storage>());
        // SAFETY: both are valid for `count` bytes and do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), to.cast::<u8>(), count) };
        RawAddress {
            storage,
            len: len.min(count) as libc::socklen_t,
        }
    }
}

/// Connects a datagram socket, which takes no time.
///
/// # Errors
/// Those of connect(2).
pub fn connect_to(fd: &OwnedFd, address: &RawAddress) -> io::Result<()> {
    connect(
        fd,
        address.pointer().cast_const().cast(),
        address.len as usize,
    )
}

/// Binds a socket.
///
/// # Errors
/// Those of bind(2).
pub fn bind(fd: &OwnedFd, address: &RawAddress) -> io::Result<()> {
    // SAFETY: the address lives across the call and has the length given.
    check(unsafe { libc::bind(fd.as_raw_fd(), address.pointer().cast(), address.len) }).map(drop)
}

/// Opens what is at a path itself, whatever it is, and does nothing with it.
///
/// # Errors
/// Those of open(2).
pub fn open_as_it_is(path: &std::path::Path) -> io::Result<std::fs::File> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // Not by std: to it O_PATH is one of the access modes of musl, which it sets itself.
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: `path` ends with a zero and lives across the call.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags) })?;
    // SAFETY: it was just opened, and nobody else has it.
    Ok(unsafe { std::fs::File::from_raw_fd(fd) })
}

/// Gives the file behind a descriptor to a group.
///
/// # Errors
/// Those of fchownat(2).
pub fn change_group(file: &std::fs::File, group: u32) -> io::Result<()> {
    let (fd, flags) = (file.as_raw_fd(), libc::AT_EMPTY_PATH);
    // SAFETY: the path is a constant.
    check(unsafe { libc::fchownat(fd, c"".as_ptr(), u32::MAX, group, flags) }).map(drop)
}

/// Sets the permission bits of an open file; of a unix socket, those that its path will have.
///
/// # Errors
/// Those of fchmod(2).
pub fn change_mode(fd: &impl AsRawFd, mode: u32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) }).map(drop)
}

/// A new socket that does not block: SOCK_STREAM or SOCK_DGRAM.
///
/// # Errors
/// Those of socket(2).
pub fn socket(domain: i32, kind: i32) -> io::Result<OwnedFd> {
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
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
    let (address, len) = unix_address(name)?;
    let pointer: *const libc::sockaddr_un = &address;
    connect(fd, pointer.cast(), len)
}

fn unix_address(name: &[u8]) -> io::Result<(libc::sockaddr_un, usize)> {
    // SAFETY: all bytes zero are a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if name.len() > address.sun_path.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in address.sun_path.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    let len = std::mem::offset_of!(libc::sockaddr_un, sun_path).saturating_add(name.len());
    Ok((address, len))
}

fn raw_v4(address: std::net::SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(address.ip().octets()),
        },
        sin_zero: [0; 8],
    }
}

fn raw_v6(address: std::net::SocketAddrV6) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: address.port().to_be(),
        sin6_flowinfo: address.flowinfo(),
        sin6_addr: libc::in6_addr {
            s6_addr: address.ip().octets(),
        },
        sin6_scope_id: address.scope_id(),
    }
}

/// Begins to connect to an IP address.
///
/// # Errors
/// Those of connect(2); EINPROGRESS while it is under way.
pub fn connect_inet(fd: &OwnedFd, address: std::net::SocketAddr) -> io::Result<()> {
    connect_to(fd, &RawAddress::inet(address))
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
