//! The network itself: a safe face of libslirp.
#![allow(unsafe_code)] // a C library's interface

mod library;
mod outside;

pub use library::Library;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use library::{OPTIONS_VERSION, Options, Slirp, event};
use outside::{CALLBACKS, Outside};
use usernet::wire::{Config, HostForward, Protocol};

use crate::frames::Frames;

/// The library's answer when nothing of it waits for a time (its upper bound).
const IDLE_MS: u32 = 1000;

/// A network that serves.
pub struct Stack {
    library: Library,
    slirp: *mut Slirp,
    outside: Box<Outside>,
    streams: Vec<Stream>,
    /// Where the next frame is read into.
    room: Vec<u8>,
}

/// A guest forward into a stream.
pub struct Stream {
    server: libc::in_addr,
    port: u16,
    /// Behind a pointer that the library has.
    socket: Box<OwnedFd>,
    ended: bool,
}

impl Stack {
    /// Makes the network, without any forwards.
    ///
    /// # Errors
    /// When the library refuses, in words.
    pub fn new(library: Library, config: &Config, frames: Frames) -> Result<Self, String> {
        let outside = Box::new(Outside::new(frames));
        let texts = Texts::new(config)?;
        let options = options(config, &texts);
        let opaque = std::ptr::from_ref(&*outside).cast_mut().cast();
        // SAFETY: options and texts live across the call, callbacks for ever, `outside` until
        // after the cleanup.
        let slirp = unsafe { (library.new)(&raw const options, &raw const CALLBACKS, opaque) };
        if slirp.is_null() {
            return Err("libslirp refuses the configuration".to_owned());
        }
        let (streams, room) = (Vec::new(), vec![0; usernet::wire::FRAME_MAX]);
        Ok(Stack {
            library,
            slirp,
            outside,
            streams,
            room,
        })
    }

    /// Opens a port of the host; whether it could be had.
    pub fn add_host_forward(&mut self, forward: &HostForward) -> Result<(), std::io::Error> {
        let HostForward {
            protocol,
            host,
            host_port,
            guest,
            guest_port,
        } = *forward;
        // SAFETY: the stack is there; everything is passed by value.
        let result = unsafe {
            (self.library.add_hostfwd)(
                self.slirp,
                udp(protocol),
                address(host),
                host_port.into(),
                address(guest),
                guest_port.into(),
            )
        };
        if result < 0 {
            Err(std::io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Closes it again; whether it was there.
    pub fn remove_host_forward(&mut self, protocol: Protocol, host: Ipv4Addr, port: u16) -> bool {
        // SAFETY: the stack is there; everything is passed by value.
        let result = unsafe {
            (self.library.remove_hostfwd)(self.slirp, udp(protocol), address(host), port.into())
        };
        result >= 0
    }

    /// Leads an address of the guest's network to the socket of that path, one connection for
    /// each of the guest's; whether the address may be had.
    pub fn add_socket_forward(&mut self, server: Ipv4Addr, port: u16, path: &CStr) -> bool {
        let mut server = address(server);
        // SAFETY: the library copies the path, and may fill the address in.
        let result = unsafe {
            (self.library.add_unix)(self.slirp, path.as_ptr(), &raw mut server, port.into())
        };
        result >= 0
    }

    /// Leads an address of the guest's network into a stream; whether the address may be had.
    pub fn add_stream_forward(&mut self, server: Ipv4Addr, port: u16, socket: OwnedFd) -> bool {
        let mut server = address(server);
        let socket = Box::new(socket);
        let opaque = std::ptr::from_ref(&*socket).cast_mut().cast();
        // SAFETY: the socket's box lives as long as the stack; the address may be filled in.
        let result = unsafe {
            (self.library.add_guestfwd)(self.slirp, to_stream, opaque, &raw mut server, port.into())
        };
        self.streams.push(Stream {
            server,
            port,
            socket,
            ended: false,
        });
        result >= 0
    }

    /// The table of connections in words.
    pub fn info(&self) -> String {
        // SAFETY: the stack is there.
        let text = unsafe { (self.library.info)(self.slirp) };
        if text.is_null() {
            return String::new();
        }
        // SAFETY: a text that ends, allocated for us; GLib's allocator is the C library's.
        unsafe {
            let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
            libc::free(text.cast());
            copy
        }
    }

    /// Adds the descriptors that the network waits for, and says how long it may at most
    /// (milliseconds).
    pub fn prepare(&mut self, fds: &mut Vec<libc::pollfd>) -> Option<u32> {
        let mut timeout = u32::MAX;
        let opaque = std::ptr::from_mut(fds).cast();
        // SAFETY: `fds` is borrowed by nobody else during the call.
        unsafe { (self.library.fill)(self.slirp, &raw mut timeout, add_poll, opaque) };
        let timeout = (timeout < IDLE_MS).then_some(timeout);
        let timer = self.outside.next_timer();
        timeout.into_iter().chain(timer).min()
    }

    /// Does what is to be done after the wait for what [`Self::prepare`] added.
    pub fn run(&mut self, fds: &mut Vec<libc::pollfd>, failed: bool) {
        let opaque = std::ptr::from_mut(fds).cast();
        // SAFETY: `fds` is borrowed by nobody else during the call.
        unsafe { (self.library.poll)(self.slirp, failed.into(), get_events, opaque) };
        self.outside.run_timers();
    }

    /// The guest's side.
    pub fn frames(&self) -> std::cell::RefMut<'_, Frames> {
        self.outside.frames.borrow_mut()
    }

    /// Looks whether the guest takes its frames; see [`crate::clock`]. Milliseconds until it
    /// should be looked again.
    pub fn watch_guest(&self) -> Option<u32> {
        let seen = self.outside.frames.borrow().seen();
        self.outside.clock.borrow_mut().observe(seen)
    }

    /// Takes one frame from the guest. `Ok(false)` when there is none.
    ///
    /// # Errors
    /// When the guest's side is gone.
    pub fn take_frame(&mut self) -> std::io::Result<bool> {
        let got = self.outside.frames.borrow().receive(&mut self.room)?;
        let Some(frame) = got.and_then(|len| self.room.get(..len)) else {
            return Ok(false);
        };
        let len = c_int::try_from(frame.len()).unwrap_or(0);
        // SAFETY: the library reads `len` bytes and keeps none.
        unsafe { (self.library.input)(self.slirp, frame.as_ptr(), len) };
        Ok(true)
    }

    /// The streams, for waiting: descriptor and whether the guest has room for more.
    pub fn streams(&self) -> impl Iterator<Item = (c_int, bool)> {
        self.streams.iter().map(|stream| {
            // SAFETY: the stack is there.
            let room = unsafe {
                (self.library.can_receive)(self.slirp, stream.server, stream.port.into())
            };
            (stream.socket.as_raw_fd(), room > 0 && !stream.ended)
        })
    }

    /// Moves what came on a stream to the guest.
    pub fn feed_stream(&mut self, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else {
            return;
        };
        // SAFETY: the stack is there.
        let room =
            unsafe { (self.library.can_receive)(self.slirp, stream.server, stream.port.into()) };
        let mut bytes = [0u8; 16384];
        let room = room.min(bytes.len());
        if room == 0 {
            return;
        }
        // SAFETY: `bytes` has at least `room` bytes.
        let got = unsafe {
            libc::recv(
                stream.socket.as_raw_fd(),
                bytes.as_mut_ptr().cast(),
                room,
                libc::MSG_DONTWAIT,
            )
        };
        match c_int::try_from(got) {
            Ok(0) => stream.ended = true,
            Ok(got) if got > 0 => {
                // SAFETY: `got` bytes were just written there, no more than the guest has room for.
                unsafe {
                    (self.library.receive)(
                        self.slirp,
                        stream.server,
                        stream.port.into(),
                        bytes.as_ptr(),
                        got,
                    );
                }
            }
            _ => {}
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: made by `new`, used by nobody afterwards; `outside` is dropped after this.
        unsafe { (self.library.cleanup)(self.slirp) };
    }
}

fn udp(protocol: Protocol) -> c_int {
    match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
    }
}

fn address(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr {
        s_addr: u32::from_ne_bytes(address.octets()),
    }
}

fn address6(address: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr {
        s6_addr: address.octets(),
    }
}

/// The texts of a configuration as C has them.
struct Texts {
    hostname: Option<CString>,
    tftp_server_name: Option<CString>,
    tftp: Option<CString>,
    bootfile: Option<CString>,
    domain_name: Option<CString>,
    /// Pointers into `_dns`, and a null.
    dns_search: Vec<*const c_char>,
    _dns: Vec<CString>,
}

impl Texts {
    fn new(config: &Config) -> Result<Self, String> {
        let text = |text: &String| CString::new(text.as_str()).map_err(|error| error.to_string());
        let maybe = |value: &Option<String>| value.as_ref().map(text).transpose();
        let dns: Vec<CString> = config
            .dns_search
            .iter()
            .map(text)
            .collect::<Result<_, _>>()?;
        let ends = std::iter::once(std::ptr::null());
        Ok(Texts {
            hostname: maybe(&config.hostname)?,
            tftp_server_name: maybe(&config.tftp_server_name)?,
            tftp: maybe(&config.tftp)?,
            bootfile: maybe(&config.bootfile)?,
            domain_name: maybe(&config.domain_name)?,
            dns_search: dns.iter().map(|name| name.as_ptr()).chain(ends).collect(),
            _dns: dns,
        })
    }
}

fn options(config: &Config, texts: &Texts) -> Options {
    let pointer =
        |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    let (four, six) = (&config.ipv4, &config.ipv6);
    Options {
        version: OPTIONS_VERSION,
        restricted: config.restrict.into(),
        in_enabled: four.enabled,
        vnetwork: address(four.network),
        vnetmask: address(four.mask),
        vhost: address(four.host),
        in6_enabled: six.enabled,
        vprefix_addr6: address6(six.prefix),
        vprefix_len: six.prefix_len,
        vhost6: address6(six.host),
        vhostname: pointer(&texts.hostname),
        tftp_server_name: pointer(&texts.tftp_server_name),
        tftp_path: pointer(&texts.tftp),
        bootfile: pointer(&texts.bootfile),
        vdhcp_start: address(four.dhcp_start),
        vnameserver: address(four.dns),
        vnameserver6: address6(six.dns),
        vdnssearch: match config.dns_search.is_empty() {
            true => std::ptr::null(),
            false => texts.dns_search.as_ptr(),
        },
        vdomainname: pointer(&texts.domain_name),
        // The library's own choice.
        if_mtu: 0,
        if_mru: 0,
        disable_host_loopback: false,
        enable_emu: false,
        outbound_addr: std::ptr::null(),
        outbound_addr6: std::ptr::null(),
        disable_dns: false,
        disable_dhcp: false,
        later: [0; 8],
    }
}

unsafe extern "C" fn add_poll(fd: c_int, wanted: c_int, opaque: *mut c_void) -> c_int {
    // SAFETY: `prepare` hands over its list.
    let fds = unsafe { &mut *opaque.cast::<Vec<libc::pollfd>>() };
    let mut events = 0;
    // Errors and hang-ups are told unasked.
    for (theirs, ours) in [
        (event::IN, libc::POLLIN),
        (event::OUT, libc::POLLOUT),
        (event::PRI, libc::POLLPRI),
    ] {
        if wanted & theirs != 0 {
            events |= ours;
        }
    }
    fds.push(libc::pollfd {
        fd,
        events,
        revents: 0,
    });
    c_int::try_from(fds.len().saturating_sub(1)).unwrap_or(-1)
}

unsafe extern "C" fn get_events(index: c_int, opaque: *mut c_void) -> c_int {
    // SAFETY: `run` hands over its list.
    let fds = unsafe { &*opaque.cast::<Vec<libc::pollfd>>() };
    let Some(fd) = usize::try_from(index).ok().and_then(|index| fds.get(index)) else {
        return 0;
    };
    let mut events = 0;
    for (theirs, ours) in [
        (event::IN, libc::POLLIN),
        (event::OUT, libc::POLLOUT),
        (event::PRI, libc::POLLPRI),
        (event::ERR, libc::POLLERR),
        (event::HUP, libc::POLLHUP),
    ] {
        if fd.revents & ours != 0 {
            events |= theirs;
        }
    }
    events
}

/// Writes what the guest sent into a stream, whole: the library looks at no other answer. Waits
/// while the other side is slow, as long as it is there.
unsafe extern "C" fn to_stream(bytes: *const c_void, len: usize, opaque: *mut c_void) -> isize {
    // SAFETY: the library hands over `len` bytes, and the pointer it got with the forward.
    let (socket, mut rest) = unsafe {
        (
            &*opaque.cast::<OwnedFd>(),
            std::slice::from_raw_parts(bytes.cast::<u8>(), len),
        )
    };
    while !rest.is_empty() {
        // SAFETY: `rest` lives across the call.
        let sent = unsafe {
            libc::send(
                socket.as_raw_fd(),
                rest.as_ptr().cast(),
                rest.len(),
                libc::MSG_NOSIGNAL,
            )
        };
        match usize::try_from(sent) {
            Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
            Err(_) if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {
            }
            // Nobody is there any more: what the guest sends goes nowhere.
            Err(_) => break,
        }
    }
    isize::try_from(len).unwrap_or(isize::MAX)
}
