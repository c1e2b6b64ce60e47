//! Sockets to guests (AF_VSOCK), on the host's side.
#![allow(unsafe_code)] // The standard library does not have them.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::seconds;

/// The end of the program when it fails: a test cannot go on without.
fn check(what: &str, result: libc::c_int) -> libc::c_int {
    assert!(result >= 0, "{what}: {}", io::Error::last_os_error());
    result
}

fn socket() -> OwnedFd {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let fd = check("socket", unsafe { libc::socket(libc::AF_VSOCK, kind, 0) });
    // SAFETY: the kernel just made it for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let limit = libc::timeval {
        tv_sec: seconds(60).as_secs() as i64,
        tv_usec: 0,
    };
    for option in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        // SAFETY: the structure is as long as is said.
        check("setsockopt", unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                option,
                (&raw const limit).cast(),
                size_of_val(&limit) as u32,
            )
        });
    }
    socket
}

fn address(cid: u32, port: u32) -> libc::sockaddr_vm {
    // SAFETY: numbers, for which zero is fine.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as u16;
    address.svm_cid = cid;
    address.svm_port = port;
    address
}

/// A stream to a guest.
///
/// # Panics
/// When there is nobody.
pub fn connect(cid: u32, port: u32) -> File {
    let (socket, address) = (socket(), address(cid, port));
    // SAFETY: the address is as long as is said.
    check("connect", unsafe {
        libc::connect(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as u32,
        )
    });
    socket.into()
}

/// Waits for guests.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// At this port.
    ///
    /// # Panics
    /// When somebody else is there.
    pub fn bind(port: u32) -> Self {
        let (socket, address) = (socket(), address(libc::VMADDR_CID_ANY, port));
        // SAFETY: the address is as long as is said.
        check("bind", unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        });
        // SAFETY: no pointers.
        check("listen", unsafe { libc::listen(socket.as_raw_fd(), 8) });
        Listener(socket)
    }

    /// The next connection, and whose it is.
    ///
    /// # Panics
    /// When nobody comes in time.
    pub fn accept(&self) -> (File, u32) {
        let mut from = address(0, 0);
        let mut len = size_of_val(&from) as u32;
        // SAFETY: the address is as long as is said.
        let fd = check("accept", unsafe {
            libc::accept(self.0.as_raw_fd(), (&raw mut from).cast(), &raw mut len)
        });
        // SAFETY: the kernel just made it for us.
        (unsafe { File::from_raw_fd(fd) }, from.svm_cid)
    }
}
