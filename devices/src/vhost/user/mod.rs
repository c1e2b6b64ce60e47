//! vhost-user: another process serves the queues, told of them through a unix socket. This is the
//! side of the device, the front end (vhost-user protocol, as QEMU documents it).
//!
//! ```text
//! link's thread:   waiting -- a peer came --> negotiating --> idle -- rings to serve --> serving
//!                     ^                            |            |                           |
//!                     +--- peer went, or broke the rules, or did not answer ---------------+
//! I/O thread:      worker: register = hand the rings to the link, quiesce = ask for them back
//! ```
//!
//! Only the link's thread speaks to the peer, and waits for its answers. Nobody waits for that
//! thread longer than [`PATIENCE`]: a peer that does not answer by then is dropped, and its rings
//! stand where their used rings are. A peer that comes later gets the rings that are to be served.

mod link;
mod log;
mod peer;
mod session;
mod wire;
mod worker;

#[cfg(test)]
mod user_test;

pub use link::{Link, LinkOptions};
pub use peer::{Door, Peer};

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{MemoryTable, Ring};
use crate::backend::net::VhostBackend;
use crate::ram::RamHandle;
use crate::virtio::common::feature;
use crate::virtio::{ActiveQueue, ActiveQueues, PlacedWorker};
use vm_memory::GuestAddressSpace;
use worker::LinkWorker;

/// How long a peer may take with an answer when somebody waits for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it may take otherwise: to map all of the guest's memory, say.
const SET_UP_TIME: Duration = Duration::from_secs(30);

/// Most queue pairs.
pub const MAX_PAIRS: u16 = 1024;

/// Features of an interface that the peer has a say in (Virtio 1.2, sections 5.1.3 and 6).
const OWN_FEATURES: u64 = {
    let low = [
        0, 1, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 22, 24, 27, 28, 29,
    ];
    let high = [32, 33, 34, 35, 40, 54, 55, 56, 57, 60];
    bits(&low) | bits(&high)
};
/// What is offered while no peer has said anything yet: what all of them have.
const UNTOLD_FEATURES: u64 = feature::VERSION_1 | 1 << 15;

const fn bits(list: &[u32]) -> u64 {
    let (mut all, mut at) = (0, 0);
    while at < list.len() {
        all |= 1 << list[at];
        at += 1;
    }
    all
}

/// What is to be served.
pub(super) struct Assignment {
    /// Agreed on with the driver.
    features: u64,
    ram: RamHandle,
    rings: Vec<Ring>,
}

/// The queues of an interface, served through a link.
pub struct UserNet {
    link: Arc<Link>,
    pairs: u16,
}

impl UserNet {
    /// At most `pairs` queue pairs.
    pub fn new(link: Arc<Link>, pairs: u16) -> Self {
        UserNet { link, pairs }
    }
}

impl VhostBackend for UserNet {
    fn features(&self) -> u64 {
        let told = self.link.features().unwrap_or(UNTOLD_FEATURES);
        told & OWN_FEATURES | !OWN_FEATURES
    }

    fn start(&self, queues: ActiveQueues) -> io::Result<Vec<PlacedWorker>> {
        let ActiveQueues {
            features,
            ram,
            queues,
            device,
            writers,
        } = queues;
        MemoryTable::new(&ram.memory()).check_shared()?;
        let ring = |queue: ActiveQueue| {
            let place = queue.index;
            Ring::new(queue, place)
        };
        let rings = queues.into_iter().map(ring).collect::<io::Result<_>>()?;
        let assignment = Assignment {
            features,
            ram,
            rings,
        };
        let worker = LinkWorker::new(self.link.clone(), assignment, device, &writers)?;
        Ok(vec![PlacedWorker {
            thread: 0,
            worker: Box::new(worker),
        }])
    }

    fn queue_pairs(&self) -> u16 {
        self.pairs
    }

    fn use_pairs(&self, pairs: u16) {
        self.link.use_pairs(pairs);
    }

    fn set_mtu(&self, mtu: u16) {
        self.link.set_mtu(mtu);
    }

    fn announce(&self, mac: [u8; 6]) {
        self.link.announce(mac);
    }

    fn migration_blocker(&self) -> Option<String> {
        self.link.blocker()
    }
}
