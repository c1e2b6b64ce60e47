//! A network whose other end is the test: frames are datagrams of a pair of sockets.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use block::Buffers;

use crate::backend::net::{NetPort, Offloads, Sent};
use crate::bus::lock;

/// Bytes of a datagram, at most.
const MOST: usize = 100_000;

/// What a port was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Whether it is in use.
    pub enabled: Option<bool>,
    /// What the driver takes.
    pub offloads: Option<Offloads>,
}

/// A port whose frames are datagrams.
struct DatagramPort {
    socket: UnixDatagram,
    told: Arc<Mutex<Told>>,
    broken: Arc<AtomicBool>,
}

impl NetPort for DatagramPort {
    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn receive(&mut self, room: &Buffers) -> io::Result<Option<usize>> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        assert!(room.parts().len() <= 1024, "more than the host takes");
        let mut frame = vec![0; MOST];
        match self.socket.recv(&mut frame) {
            Ok(len) => Ok(Some(room.write_at(0, &frame[..len]))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, frame: &Buffers) -> Sent {
        let mut bytes = vec![0; frame.len() as usize];
        frame.read_at(0, &mut bytes);
        match self.socket.send(&bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Sent::Full,
            _ => Sent::Done,
        }
    }

    fn set_guest_offloads(&mut self, offloads: Offloads) {
        lock(&self.told).offloads = Some(offloads);
    }

    fn set_enabled(&mut self, enabled: bool) {
        lock(&self.told).enabled = Some(enabled);
    }
}

/// The test's end of a port.
pub struct Wire {
    socket: UnixDatagram,
    told: Arc<Mutex<Told>>,
    broken: Arc<AtomicBool>,
}

impl Wire {
    /// Sends a frame to the port.
    ///
    /// # Panics
    /// When there is no room.
    pub fn send(&self, frame: &[u8]) {
        assert!(self.offer(frame), "no room for a frame");
    }

    /// The same; false when there is no room, or no port any more.
    pub fn offer(&self, frame: &[u8]) -> bool {
        self.socket.send(frame).is_ok()
    }

    /// The next frame that the port sent.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; MOST];
        let len = self.socket.recv(&mut frame).ok()?;
        frame.truncate(len);
        Some(frame)
    }

    /// The port cannot receive any more.
    pub fn break_down(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    /// What the port was told.
    pub fn told(&self) -> Told {
        *lock(&self.told)
    }
}

/// A port and its other end.
///
/// # Panics
/// When the host is out of descriptors.
pub fn wire() -> (Box<dyn NetPort>, Wire) {
    let (ours, theirs) = UnixDatagram::pair().expect("a pair of sockets");
    for end in [&ours, &theirs] {
        end.set_nonblocking(true).expect("a socket");
    }
    let (told, broken) = (Arc::default(), Arc::default());
    let port = DatagramPort {
        socket: ours,
        told: Arc::clone(&told),
        broken: Arc::clone(&broken),
    };
    let wire = Wire {
        socket: theirs,
        told,
        broken,
    };
    (Box::new(port), wire)
}
