//! vhost-net: the kernel moves frames between a tap and an interface's queues.
//!
//! Each queue pair has a vhost device of its own, with the receive queue as its ring 0 and the
//! transmit queue as its ring 1. The header before a frame is the tap's: 12 bytes, as
//! `TUNSETVNETHDRSZ` said.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::{Kernel, Kind, Party, Ring, VhostWorker, blocked_by_features};
use crate::backend::net::VhostBackend;
use crate::virtio::common::feature;
use crate::virtio::{ActiveQueue, ActiveQueues, PlacedWorker};

/// Features that vhost-net itself has a say in (Virtio 1.2, sections 5.1.3 and 6); the others are
/// between tap and driver.
const OWN_FEATURES: u64 = feature::INDIRECT_DESC
    | feature::EVENT_IDX
    | feature::VERSION_1
    | MRG_RXBUF
    | NOTIFY_ON_EMPTY
    | ACCESS_PLATFORM
    | RING_PACKED
    | IN_ORDER
    | RING_RESET
    | HASH_REPORT;
const MRG_RXBUF: u64 = 1 << 15;
const NOTIFY_ON_EMPTY: u64 = 1 << 24;
const ACCESS_PLATFORM: u64 = 1 << 33;
const RING_PACKED: u64 = 1 << 34;
const IN_ORDER: u64 = 1 << 35;
const RING_RESET: u64 = 1 << 40;
const HASH_REPORT: u64 = 1 << 57;

/// What can be chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetOptions {
    /// Microseconds that the kernel polls for work before it sleeps (`poll-us`).
    pub poll_us: u32,
    /// The ports do not take its place when the kernel refuses (`vhostforce`).
    pub force: bool,
}

/// Lets the kernel serve the queue pairs of an interface: `taps` are the queues of a tap, with a
/// header of 12 bytes, and `fds` as many descriptors of /dev/vhost-net.
///
/// # Errors
/// When the numbers differ, or a descriptor is none of vhost-net's; in QEMU's words.
pub fn vhost_net(
    taps: &[BorrowedFd],
    fds: Vec<OwnedFd>,
    options: NetOptions,
) -> io::Result<Arc<dyn VhostBackend>> {
    if taps.len() != fds.len() {
        return Err(io::Error::other(
            "The number of fds passed does not match the number of vhostfds passed",
        ));
    }
    let mut pairs: Vec<Arc<Kernel>> = Vec::new();
    for (tap, fd) in taps.iter().zip(fds) {
        let kind = Kind::Net {
            tap: tap.try_clone_to_owned()?,
            poll_us: options.poll_us,
        };
        pairs.push(Arc::new(Kernel::new(fd, kind)?));
    }
    let features = pairs.iter().fold(!0, |all, pair| all & pair.features());
    let pairs = pairs.into_iter().map(|pair| pair as Arc<dyn Party>);
    let paired = PairedParties::new(pairs.collect(), features);
    Ok(Arc::new(PairedParties {
        insists: options.force,
        ..paired
    }))
}

/// An interface's queues, served by one party for each pair.
pub(super) struct PairedParties {
    pairs: Vec<Arc<dyn Party>>,
    features: u64,
    /// What the parties said themselves.
    offered: u64,
    insists: bool,
}

impl PairedParties {
    /// Parties that offer `features`, as far as they have a say.
    pub(super) fn new(pairs: Vec<Arc<dyn Party>>, features: u64) -> Self {
        PairedParties {
            pairs,
            features: features | !OWN_FEATURES,
            offered: features,
            insists: false,
        }
    }
}

impl VhostBackend for PairedParties {
    fn features(&self) -> u64 {
        self.features
    }

    fn start(&self, queues: ActiveQueues) -> io::Result<Vec<PlacedWorker>> {
        let ActiveQueues {
            features,
            ram,
            queues,
            device,
            writers,
        } = queues;
        let mut rest = queues.into_iter().peekable();
        let mut workers = Vec::new();
        while let Some(first) = rest.next() {
            let pair = usize::from(first.index / 2);
            let beyond = || io::Error::other(format!("there is no back end for queue pair {pair}"));
            let party = self.pairs.get(pair).ok_or_else(beyond)?;
            let ring = |queue: ActiveQueue| {
                let place = queue.index % 2;
                Ring::new(queue, place)
            };
            let second = rest.next_if(|queue| usize::from(queue.index / 2) == pair);
            let mut rings = vec![ring(first)?];
            if let Some(second) = second {
                rings.push(ring(second)?);
            }
            // Those that run already stop when they are dropped.
            let party = party.clone();
            let worker = VhostWorker::start(party, features, &ram, rings, &device, &writers)?;
            workers.push(PlacedWorker {
                thread: pair,
                worker: Box::new(worker),
            });
        }
        Ok(workers)
    }

    fn queue_pairs(&self) -> u16 {
        u16::try_from(self.pairs.len()).unwrap_or(u16::MAX)
    }

    fn migration_blocker(&self) -> Option<String> {
        blocked_by_features(self.offered)
    }

    fn insists(&self) -> bool {
        self.insists
    }
}
