//! Taps: TAP devices of the host, opened by name or passed in, macvtaps among the latter
//! (linux/if_tun.h).
//!
//! A tap is one queue of such a device. Frames go between the guest's memory and the kernel in one
//! system call each.
#![allow(unsafe_code)] // ioctls of taps, and reading into guest memory

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use block::Buffers;
use libc::{Ioctl, c_int, c_uint, c_ulong};
use thiserror::Error;

use super::{HEADER, NetPort, NetTraits, Offloads, Sent};
use crate::backend::socket::sys::set_nonblocking;

const DEVICE: &str = "/dev/net/tun";

/// C libraries differ in the type of a request's number, not in its bits.
const fn request(number: u32) -> Ioctl {
    number as Ioctl
}

const TUNSETIFF: Ioctl = request(0x4004_54ca);
const TUNGETFEATURES: Ioctl = request(0x8004_54cf);
const TUNSETOFFLOAD: Ioctl = request(0x4004_54d0);
const TUNGETIFF: Ioctl = request(0x8004_54d2);
const TUNSETSNDBUF: Ioctl = request(0x4004_54d4);
const TUNSETVNETHDRSZ: Ioctl = request(0x4004_54d8);
const TUNSETQUEUE: Ioctl = request(0x4004_54d9);

const IFF_TAP: u16 = 0x0002;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_ATTACH_QUEUE: u16 = 0x0200;
const IFF_DETACH_QUEUE: u16 = 0x0400;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

const TUN_F_CSUM: c_uint = 0x01;
const TUN_F_TSO4: c_uint = 0x02;
const TUN_F_TSO6: c_uint = 0x04;
const TUN_F_TSO_ECN: c_uint = 0x08;
const TUN_F_UFO: c_uint = 0x10;
const TUN_F_USO: c_uint = 0x60;

/// Parts of memory that one system call takes (IOV_MAX).
const PARTS: usize = 1024;

/// A limit of bytes on their way that is none.
pub const NO_SNDBUF: c_int = c_int::MAX;

/// Why there is no tap. The wording is QEMU's.
#[derive(Debug, Error)]
pub enum TapError {
    /// The host has no such thing, or we may not use it.
    #[error("could not open {DEVICE}: {}", errno_text::errno_text(.0))]
    Open(io::Error),
    /// The kernel has no headers before frames.
    #[error("vnet_hdr=1 requested, but no kernel support for IFF_VNET_HDR available")]
    NoHeaders,
    /// The kernel has one queue for each device only.
    #[error("multiqueue required, but no kernel support for IFF_MULTI_QUEUE available")]
    NoQueues,
    /// The name is no name for a device.
    #[error("'{0}' is not a name for a network device")]
    Name(String),
    /// The kernel refuses.
    #[error("could not configure {DEVICE} ({name}): {}", errno_text::errno_text(.error))]
    Configure {
        /// The device.
        name: String,
        /// What it says.
        error: io::Error,
    },
    /// The descriptor is no tap's.
    #[error("Unable to query TUNGETIFF on FD {fd}: {}", errno_text::errno_text(.error))]
    NoTap {
        /// Its number.
        fd: RawFd,
        /// What the kernel says.
        error: io::Error,
    },
    /// A device for packets without Ethernet, or with four bytes before each frame.
    #[error(
        "FD {0} is a tun device, or adds packet information: frames need IFF_TAP and IFF_NO_PI"
    )]
    NoFrames(RawFd),
    /// The kernel refuses a setting.
    #[error("{what} ioctl failed: {}", errno_text::errno_text(.error))]
    Setting {
        /// Which.
        what: &'static str,
        /// What it says.
        error: io::Error,
    },
}

/// How a tap is opened by name.
#[derive(Debug, Clone, Copy)]
pub struct TapOpen<'a> {
    /// The device's name; may have a `%d` for a number that the kernel finds.
    pub name: &'a str,
    /// Whether frames have headers; where nothing is said, if the kernel can.
    pub header: Option<bool>,
    /// Whether the device has several queues.
    pub multi_queue: bool,
}

/// One queue of a TAP device. Does not block.
#[derive(Debug)]
pub struct Tap {
    fd: Arc<OwnedFd>,
    name: String,
    traits: NetTraits,
    /// Its device has others.
    multi_queue: bool,
}

/// `struct ifreq` with flags.
#[repr(C)]
struct IfReq {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

impl IfReq {
    fn new(name: &str, flags: u16) -> Option<Self> {
        let mut bytes = [0; libc::IFNAMSIZ];
        let usable = !name.is_empty() && !name.contains(['/', '\0']);
        // The last byte ends the name.
        let room = bytes.get_mut(..name.len().min(libc::IFNAMSIZ))?;
        if !usable || name.len() >= libc::IFNAMSIZ {
            return None;
        }
        room.copy_from_slice(name.as_bytes());
        Some(IfReq {
            name: bytes,
            flags,
            rest: [0; 22],
        })
    }

    fn name(&self) -> String {
        let end = self.name.iter().position(|byte| *byte == 0);
        let name = self.name.get(..end.unwrap_or(self.name.len()));
        String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
    }
}

impl Tap {
    /// Opens a queue of the device of that name, which is made where there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(how: TapOpen) -> Result<Self, TapError> {
        let TapOpen {
            name,
            header,
            multi_queue,
        } = how;
        let file = File::options().read(true).write(true).open(DEVICE);
        let fd = OwnedFd::from(file.map_err(TapError::Open)?);
        let mut features: c_uint = 0;
        // SAFETY: the kernel writes one integer into `features`.
        let asked = check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNGETFEATURES, &mut features) });
        let can = |flag: u16| asked.is_ok() && features & c_uint::from(flag) != 0;
        if header == Some(true) && !can(IFF_VNET_HDR) {
            return Err(TapError::NoHeaders);
        }
        if multi_queue && !can(IFF_MULTI_QUEUE) {
            return Err(TapError::NoQueues);
        }
        let header = header.unwrap_or(true) && can(IFF_VNET_HDR);
        let flag = |on: bool, flag: u16| if on { flag } else { 0 };
        let flags =
            IFF_TAP | IFF_NO_PI | flag(header, IFF_VNET_HDR) | flag(multi_queue, IFF_MULTI_QUEUE);
        let mut request = IfReq::new(name, flags).ok_or_else(|| TapError::Name(name.to_owned()))?;
        // SAFETY: the kernel reads and writes the `ifreq`, which is as large as it expects.
        let made = check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFF, &mut request) });
        made.map_err(|error| TapError::Configure {
            name: name.to_owned(),
            error,
        })?;
        Self::set_up(fd, request.name(), header, multi_queue)
    }

    /// A queue that somebody else opened.
    ///
    /// # Errors
    /// When it is none, or its frames come in another shape.
    pub fn passed(fd: OwnedFd) -> Result<Self, TapError> {
        let number = fd.as_raw_fd();
        let mut request = IfReq {
            name: [0; libc::IFNAMSIZ],
            flags: 0,
            rest: [0; 22],
        };
        // SAFETY: the kernel writes the `ifreq`, which is as large as it expects.
        let asked = check(unsafe { libc::ioctl(number, TUNGETIFF, &mut request) });
        asked.map_err(|error| TapError::NoTap { fd: number, error })?;
        if request.flags & IFF_TAP == 0 || request.flags & IFF_NO_PI == 0 {
            return Err(TapError::NoFrames(number));
        }
        let header = request.flags & IFF_VNET_HDR != 0;
        let multi_queue = request.flags & IFF_MULTI_QUEUE != 0;
        Self::set_up(fd, request.name(), header, multi_queue)
    }

    fn set_up(
        fd: OwnedFd,
        name: String,
        header: bool,
        multi_queue: bool,
    ) -> Result<Self, TapError> {
        let setting = |what| move |error| TapError::Setting { what, error };
        set_nonblocking(&fd).map_err(setting("O_NONBLOCK"))?;
        let mut offloads = Offloads::default();
        if header {
            set_number(&fd, TUNSETVNETHDRSZ, HEADER as c_int)
                .map_err(setting("TUNSETVNETHDRSZ"))?;
            offloads = probe(&fd);
        }
        Ok(Tap {
            fd: Arc::new(fd),
            name,
            traits: NetTraits { header, offloads },
            multi_queue,
        })
    }

    /// Limits the bytes that are on their way: [`NO_SNDBUF`] for no limit.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_sndbuf(&self, bytes: c_int) -> Result<(), TapError> {
        set_number(&self.fd, TUNSETSNDBUF, bytes).map_err(|error| TapError::Setting {
            what: "TUNSETSNDBUF",
            error,
        })
    }

    /// Keeps the queue open beyond the tap. Closing its last one may take long, for the kernel takes
    /// the device down then: whoever has time for that drops this last.
    pub fn keeper(&self) -> Arc<OwnedFd> {
        self.fd.clone()
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it can.
    pub fn traits(&self) -> NetTraits {
        self.traits
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl NetPort for Tap {
    fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn receive(&mut self, room: &Buffers) -> io::Result<Option<usize>> {
        let parts = room.parts();
        let count = parts.len().min(PARTS) as c_int;
        loop {
            // SAFETY: the parts are laid out as iovecs and may be written for as long as `room`
            // lives; there are at least `count` of them.
            let got = unsafe { libc::readv(self.fd(), parts.as_ptr().cast(), count) };
            match usize::try_from(got) {
                Ok(len) => return Ok(Some(len)),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    match error.kind() {
                        io::ErrorKind::WouldBlock => return Ok(None),
                        io::ErrorKind::Interrupted => {}
                        _ => return Err(error),
                    }
                }
            }
        }
    }

    fn send(&mut self, frame: &Buffers) -> Sent {
        if frame.parts().len() > PARTS {
            return self.send_gathered(frame);
        }
        loop {
            let parts = frame.parts();
            // SAFETY: the parts are laid out as iovecs and may be read for as long as `frame`
            // lives; there are as many as is said.
            let sent =
                unsafe { libc::writev(self.fd(), parts.as_ptr().cast(), parts.len() as c_int) };
            if sent >= 0 {
                return Sent::Done;
            }
            match io::Error::last_os_error().kind() {
                io::ErrorKind::WouldBlock => return Sent::Full,
                io::ErrorKind::Interrupted => {}
                // The device is down or gone, or the guest's header is nonsense.
                _ => return Sent::Done,
            }
        }
    }

    fn set_guest_offloads(&mut self, offloads: Offloads) {
        if !self.traits.header {
            return;
        }
        let bits = offload_bits(offloads);
        if set_offloads(&self.fd, bits).is_err() {
            // UFO comes and goes with kernels.
            let _ = set_offloads(&self.fd, bits & !TUN_F_UFO);
        }
    }

    fn set_enabled(&mut self, enabled: bool) {
        if !self.multi_queue {
            return;
        }
        let flags = match enabled {
            true => IFF_ATTACH_QUEUE,
            false => IFF_DETACH_QUEUE,
        };
        if let Some(request) = IfReq::new(&self.name, flags) {
            // Fails where it is so already.
            // SAFETY: the kernel reads the `ifreq`, which is as large as it expects.
            let _ = unsafe { libc::ioctl(self.fd(), TUNSETQUEUE, &request) };
        }
    }
}

impl Tap {
    /// Sends a frame in more parts than one call takes.
    fn send_gathered(&self, frame: &Buffers) -> Sent {
        // No device takes more.
        const MOST: u64 = 128 << 10;
        let Ok(len) = usize::try_from(frame.len().min(MOST)) else {
            return Sent::Done;
        };
        let mut bytes = vec![0; len];
        frame.read_at(0, &mut bytes);
        // SAFETY: the kernel reads as many bytes as there are.
        let sent = unsafe { libc::write(self.fd(), bytes.as_ptr().cast(), bytes.len()) };
        let full = sent < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock;
        if full { Sent::Full } else { Sent::Done }
    }
}

/// Which offloads the kernel knows: nothing else says so than trying.
fn probe(fd: &OwnedFd) -> Offloads {
    let knows = |bits: c_uint| set_offloads(fd, TUN_F_CSUM | bits).is_ok();
    let tso = TUN_F_TSO4 | TUN_F_TSO6;
    let offloads = Offloads {
        csum: knows(0),
        tso4: knows(TUN_F_TSO4),
        tso6: knows(TUN_F_TSO6),
        ecn: knows(TUN_F_TSO4 | TUN_F_TSO_ECN),
        ufo: knows(TUN_F_UFO),
        uso: knows(tso | TUN_F_USO),
    };
    // Until a driver says otherwise.
    let _ = set_offloads(fd, 0);
    offloads
}

fn offload_bits(offloads: Offloads) -> c_uint {
    let Offloads {
        csum,
        tso4,
        tso6,
        ecn,
        ufo,
        uso,
    } = offloads;
    if !csum {
        return 0;
    }
    let bit = |on: bool, bits: c_uint| if on { bits } else { 0 };
    TUN_F_CSUM
        | bit(tso4, TUN_F_TSO4)
        | bit(tso6, TUN_F_TSO6)
        | bit(ecn && (tso4 || tso6), TUN_F_TSO_ECN)
        | bit(ufo, TUN_F_UFO)
        | bit(uso, TUN_F_USO)
}

fn set_offloads(fd: &OwnedFd, bits: c_uint) -> io::Result<()> {
    // SAFETY: the argument is a number.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETOFFLOAD, c_ulong::from(bits)) })
}

fn set_number(fd: &OwnedFd, request: Ioctl, value: c_int) -> io::Result<()> {
    // SAFETY: the kernel reads one integer.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, &value) })
}

fn check(result: c_int) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_do_not_fit_are_refused() {
        assert!(IfReq::new("", 0).is_none());
        assert!(IfReq::new("a/b", 0).is_none());
        assert!(IfReq::new("sixteen-letters-", 0).is_none());
        let name = "fifteen-letters";
        assert_eq!(
            IfReq::new(name, 0).map(|req| req.name()).as_deref(),
            Some(name)
        );
    }

    #[test]
    fn what_is_no_tap_is_refused() {
        let null = File::options().read(true).write(true).open("/dev/null");
        let error = Tap::passed(null.unwrap().into()).unwrap_err().to_string();
        assert!(
            error.starts_with("Unable to query TUNGETIFF on FD "),
            "{error}"
        );
        assert!(
            error.ends_with(": Inappropriate ioctl for device"),
            "{error}"
        );
    }

    #[test]
    fn offloads_need_checksums() {
        let all = Offloads::ALL;
        assert_eq!(offload_bits(all), 0x7f);
        assert_eq!(offload_bits(Offloads { csum: false, ..all }), 0);
        let lone = Offloads {
            csum: true,
            ecn: true,
            ..Offloads::default()
        };
        assert_eq!(offload_bits(lone), TUN_F_CSUM);
    }
}
