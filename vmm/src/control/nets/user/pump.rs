//! Guest forwards into character devices: bytes between a stream of the child's and a front end.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use devices::backend::chardev::{CharFrontend, CharWaker};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::sys;

/// Bytes that are on their way in one direction.
const MOST: usize = 16 << 10;

/// One of them.
pub struct Pump {
    front: CharFrontend,
    stream: UnixStream,
    to_guest: Vec<u8>,
    to_host: Vec<u8>,
    ended: bool,
}

impl Pump {
    /// Between a front end and our end of a stream.
    ///
    /// # Errors
    /// When the stream cannot be made non-blocking.
    pub fn new(front: CharFrontend, stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        front.set_frontend_open(true);
        Ok(Pump {
            front,
            stream,
            to_guest: Vec::new(),
            to_host: Vec::new(),
            ended: false,
        })
    }

    /// Moves what can be moved.
    fn run(&mut self) {
        while self.send_to_guest() || self.send_to_host() {}
    }

    /// Whether to look again.
    fn send_to_guest(&mut self) -> bool {
        if self.to_guest.is_empty() {
            let mut bytes = [0; MOST];
            let got = self.front.read(&mut bytes);
            self.to_guest
                .extend_from_slice(bytes.get(..got).unwrap_or_default());
        }
        if self.to_guest.is_empty() || self.ended {
            return false;
        }
        match (&self.stream).write(&self.to_guest) {
            Ok(sent) => {
                self.to_guest.drain(..sent.min(self.to_guest.len()));
                true
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Whether to look again.
    fn send_to_host(&mut self) -> bool {
        if self.to_host.is_empty() && !self.ended {
            let mut bytes = [0; MOST];
            match (&self.stream).read(&mut bytes) {
                Ok(0) => self.ended = true,
                Ok(got) => self
                    .to_host
                    .extend_from_slice(bytes.get(..got).unwrap_or_default()),
                Err(error) => return self.failed(&error),
            }
        }
        let sent = self.front.write(&self.to_host).min(self.to_host.len());
        self.to_host.drain(..sent);
        sent > 0
    }

    fn failed(&mut self, error: &io::Error) -> bool {
        match error.kind() {
            io::ErrorKind::WouldBlock => false,
            io::ErrorKind::Interrupted => true,
            _ => {
                self.ended = true;
                false
            }
        }
    }

    /// What is to be waited for, beside the front end's wake.
    fn events(&self) -> i16 {
        let mut events = 0;
        if self.to_host.is_empty() {
            events |= libc::POLLIN;
        }
        if !self.to_guest.is_empty() {
            events |= libc::POLLOUT;
        }
        events
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.front.set_waker(None);
        self.front.set_frontend_open(false);
    }
}

/// All pumps of a network.
pub struct Pumps {
    list: Vec<Pump>,
    wake: Arc<Wake>,
}

struct Wake(EventFd);

impl CharWaker for Wake {
    fn wake(&self) {
        // Fails only when the counter is about to overflow, and then it is readable anyway.
        let _ = self.0.write(1);
    }
}

impl Pumps {
    /// Lets them be woken.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new(list: Vec<Pump>) -> io::Result<Self> {
        let wake = Arc::new(Wake(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?));
        for pump in &list {
            pump.front.set_waker(Some(wake.clone()));
        }
        let mut pumps = Pumps { list, wake };
        pumps.run();
        Ok(pumps)
    }

    /// Adds what is to be waited for.
    pub fn prepare(&self, fds: &mut Vec<libc::pollfd>) {
        if self.list.is_empty() {
            return;
        }
        fds.push(sys::poll_entry(self.wake.0.as_raw_fd(), libc::POLLIN));
        for pump in self.list.iter().filter(|pump| !pump.ended) {
            let events = pump.events();
            if events != 0 {
                fds.push(sys::poll_entry(pump.stream.as_raw_fd(), events));
            }
        }
    }

    /// Moves what can be moved.
    pub fn run(&mut self) {
        // Empty when it was something else.
        let _ = self.wake.0.read();
        for pump in &mut self.list {
            pump.run();
        }
    }
}
