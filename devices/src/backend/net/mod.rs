//! Networks: the seam between an interface (NIC, a device) and a netdev (the host's side).
//!
//! ```text
//! control:  netdev_add --> Netdev::new(ports or vhost)
//!                            | attach           one NIC at a time
//!                            v
//!           device_add --> NetAttachment --> the NIC's workers own a PortLease each while they run
//! ```

mod dgram;
mod framing;
mod hub;
mod link;
mod messages;
mod netdev;
mod server;
mod stream;
mod tap;
mod wire;

#[cfg(test)]
#[path = "socket_test.rs"]
mod socket_tests;

pub use dgram::DgramSocket;
pub use hub::{Hub, Hubs};
pub use link::{LinkNames, LinkNews, LinkTell, Way, open_link};
pub use messages::MessagePort;
pub use netdev::{NetAttachment, Netdev, NetdevOptions, PortLease, PortStore};
pub use server::{NetGuard, NetHandle, NetServer};
pub use tap::{NO_SNDBUF, Tap, TapError, TapOpen};

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use api_spec::RxFilterInfo;
use block::Buffers;

use crate::virtio::{ActiveQueues, PlacedWorker};

/// Bytes of the virtio-net header that stands before a frame where [`NetTraits::header`] says so
/// (`struct virtio_net_hdr_v1`, Virtio 1.2, section 5.1.6).
pub const HEADER: usize = 12;

/// What a netdev can do for headers that ask for it. Feature bits of Virtio 1.2, section 5.1.3.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Partial checksums.
    pub csum: bool,
    /// TCP over IPv4 in large segments.
    pub tso4: bool,
    /// TCP over IPv6 in large segments.
    pub tso6: bool,
    /// TCP with ECN in large segments.
    pub ecn: bool,
    /// UDP in fragments.
    pub ufo: bool,
    /// UDP in large segments (USO4 and USO6).
    pub uso: bool,
}

impl Offloads {
    /// All of them.
    pub const ALL: Offloads = Offloads {
        csum: true,
        tso4: true,
        tso6: true,
        ecn: true,
        ufo: true,
        uso: true,
    };
}

/// Fixed facts of a netdev.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetTraits {
    /// Frames begin with a header of [`HEADER`] bytes, both ways. Without, the interface neither
    /// offers nor takes offloads, and frames are bare Ethernet without a checksum sequence.
    pub header: bool,
    /// What it takes from the guest, and may give to it.
    pub offloads: Offloads,
}

/// What became of a frame that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// It is away, or was dropped: networks may do that.
    Done,
    /// There is no room: the same frame is to be sent again when the descriptor is writable, or
    /// after it was readable.
    Full,
}

/// The host's end of one queue pair. Owned by a worker of an I/O thread while that runs. Nothing
/// of it blocks.
pub trait NetPort: Send {
    /// Readable when `receive` may have a frame; the same descriptor for the port's whole life.
    /// Where several descriptors are behind it, it is an epoll set of theirs.
    fn fd(&self) -> RawFd;
    /// Puts the next frame into `room`, header first where there is one, and says how long it is.
    /// `None` when there is none. A frame longer than `room` is dropped or cut.
    ///
    /// # Errors
    /// When the back end is broken for good: the worker then stops asking.
    fn receive(&mut self, room: &Buffers) -> io::Result<Option<usize>>;
    /// Sends one frame, header first where there is one. `frame` is copied or sent when this
    /// returns [`Sent::Done`].
    fn send(&mut self, frame: &Buffers) -> Sent;
    /// Sends what is left of a frame that was taken as sent and is away only in part. Whether
    /// nothing is left; `receive` does it, too.
    fn flush(&mut self) -> bool {
        true
    }
    /// Says which offloads frames from `receive` may use: what the driver took.
    fn set_guest_offloads(&mut self, _offloads: Offloads) {}
    /// Says whether the driver uses this queue pair. Where not, nobody asks for its frames, and the
    /// ports in use get them all. A port begins in use.
    fn set_enabled(&mut self, _enabled: bool) {}
}

/// Serves the data queues of an interface in the NIC's place: the kernel or another process.
pub trait VhostBackend: Send + Sync {
    /// Virtio features that it offers, of those an interface may have.
    fn features(&self) -> u64;
    /// Makes workers for these queues, which hold what the other party serves: `register` hands
    /// the queues over, `quiesce` asks for them back, `into_state` says where they stopped.
    ///
    /// # Errors
    /// When the other party is not there or refuses. What it did until then stands in the rings,
    /// and it does no more.
    fn start(&self, queues: ActiveQueues) -> io::Result<Vec<PlacedWorker>>;
    /// Queue pairs that it serves at most.
    fn queue_pairs(&self) -> u16;
    /// Says how many queue pairs the driver uses; said before each start, and when that changes.
    /// Where the netdev has ports, those are told, too.
    fn use_pairs(&self, _pairs: u16) {}
    /// Says what the interface's property `host_mtu` is, where it has one; before the first start.
    fn set_mtu(&self, _mtu: u16) {}
    /// Tells the network where the interface with this address is, for a driver that cannot.
    fn announce(&self, _mac: [u8; 6]) {}
    /// Why a machine with it cannot migrate at the moment, in QEMU's words.
    fn migration_blocker(&self) -> Option<String> {
        None
    }
    /// Whether nobody else may serve them when it refuses.
    fn insists(&self) -> bool {
        true
    }
}

/// An interface, for commands. Calls come from the control thread and never block.
pub trait Nic: Send + Sync {
    /// Its name among interfaces: its id, or one that was made up for it.
    fn name(&self) -> &str;
    /// The netdev behind it came or went, or somebody pulled the plug (set_link).
    fn set_link(&self, up: bool);
    /// Whether its queues are to start anew, because others are to serve them than do now: a link
    /// that is down is nothing that other parties know of.
    fn wants_restart(&self) -> bool {
        false
    }
    /// query-rx-filter; `None` where the interface has no such thing. Afterwards
    /// NIC_RX_FILTER_CHANGED may be sent again.
    fn rx_filter(&self) -> Option<RxFilterInfo>;
    /// Tells the network where the interface is (announce-self): by the driver where it can, else
    /// with a frame of its own.
    fn announce(&self);
    /// The address that it has without its driver's doing; `None` where it has none.
    fn mac(&self) -> Option<[u8; 6]> {
        None
    }
    /// As `info network` has it: `model=virtio-net-pci,macaddr=...`.
    fn describe(&self) -> String;
}

/// Shared by everybody who looks at it.
pub type SharedNetdev = Arc<Netdev>;
