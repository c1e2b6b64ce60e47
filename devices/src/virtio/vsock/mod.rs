//! `vhost-vsock-pci`: sockets between guest and host (Virtio 1.2, section 5.10). The kernel serves
//! the receive and the transmit queue; the event queue is here.

mod events;
mod state;

#[cfg(test)]
mod vsock_test;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api_spec::{OnOffAuto, QmpError, QmpResult, VhostVsockPciProps};

use super::common::feature;
use super::{
    ActiveQueue, ActiveQueues, PlacedWorker, VirtioDevice, VirtioPci, VirtioPciProps, VirtioTraits,
    Virtqueue,
};
use crate::cx::BuildCx;
use crate::vhost::{Kernel, Kind, Membership, Party, Ring, VhostWorker, blocked_by_features};
use crate::worker::QueueState;
use events::EventWorker;

const DEVICE_TYPE: u16 = 19;
/// PCI class "communication, other".
const CLASS: u32 = 0x07_8000;
const QUEUE_SIZE: u16 = 128;
/// The first queue that is not the kernel's.
const EVENT_QUEUE: u16 = 2;
/// Feature bits (Virtio 1.2, section 5.10.3).
const SEQPACKET: u64 = 1 << 1;
/// Addresses from here on are guests'.
const FIRST_CID: u64 = 3;

/// What can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VsockProps {
    /// The guest's address; 3 at least.
    pub cid: u32,
    /// Whether sockets that keep record boundaries are offered.
    pub seqpacket: OnOffAuto,
    /// The transport.
    pub pci: VirtioPciProps,
}

/// The address that a property gives.
///
/// # Errors
/// For addresses that no guest can have.
pub fn check_cid(cid: u64) -> QmpResult<u32> {
    if cid < FIRST_CID {
        return Err(QmpError::generic(
            "guest-cid property must be greater than 2",
        ));
    }
    u32::try_from(cid).map_err(|_| QmpError::generic("guest-cid property must be a 32-bit number"))
}

/// Builds the function from a driver's properties, around `cx.vhost`.
///
/// # Errors
/// For an address that no guest can have or another one has, a descriptor that is none of
/// /dev/vhost-vsock, and what the transport does not have.
pub fn build(props: &VhostVsockPciProps, cx: &mut BuildCx) -> QmpResult<VirtioPci> {
    let pci = crate::virtio_pci_props!(props, cx)?;
    let cid = check_cid(props.guest_cid)?;
    let fd = cx.vhost.take();
    let fd = fd.ok_or_else(|| QmpError::generic("vhost-vsock: failed to open vhost device"))?;
    let kernel =
        Kernel::new(fd, Kind::Vsock).map_err(|error| QmpError::generic(error.to_string()))?;
    kernel.set_guest_cid(cid).map_err(|error| {
        let why = errno_text::errno_text(&error);
        QmpError::generic(format!("vhost-vsock: unable to set guest cid: {why}"))
    })?;
    let features = kernel.features();
    let seqpacket = props.seqpacket;
    let props = VsockProps {
        cid,
        seqpacket,
        pci,
    };
    with_party(Arc::new(kernel), features, props, cx)
}

/// Builds the function around a party that offers `features`.
///
/// # Errors
/// When it lacks what was asked for, and when there are no interrupt routes left.
pub fn with_party(
    party: Arc<dyn Party>,
    features: u64,
    mut props: VsockProps,
    cx: &BuildCx,
) -> QmpResult<VirtioPci> {
    if features & feature::VERSION_1 == 0 {
        let missing = feature::VERSION_1;
        return Err(QmpError::generic(format!(
            "vhost lacks feature mask {missing:#x} for backend"
        )));
    }
    if props.seqpacket == OnOffAuto::On && features & SEQPACKET == 0 {
        return Err(QmpError::generic(
            "vhost-vsock backend doesn't support seqpacket",
        ));
    }
    props.pci.event_idx &= features & feature::EVENT_IDX != 0;
    props.pci.indirect_desc &= features & feature::INDIRECT_DESC != 0;
    let seqpacket = match props.seqpacket {
        OnOffAuto::Off => 0,
        OnOffAuto::On | OnOffAuto::Auto => features & SEQPACKET,
    };
    let device = Vsock {
        party,
        cid: props.cid,
        features: seqpacket,
        restored: Arc::default(),
        _blocker: cx
            .writers
            .block(Box::new(move || blocked_by_features(features))),
    };
    VirtioPci::new(Box::new(device), props.pci, cx)
        .map_err(|error| QmpError::generic(error.to_string()))
}

struct Vsock {
    party: Arc<dyn Party>,
    cid: u32,
    features: u64,
    /// The state came from elsewhere: connections are gone, and the driver is to be told.
    restored: Arc<AtomicBool>,
    _blocker: Membership,
}

impl VirtioDevice for Vsock {
    fn traits(&self) -> VirtioTraits {
        VirtioTraits {
            device_type: DEVICE_TYPE,
            features: self.features,
            queue_sizes: vec![QUEUE_SIZE; 3],
            vectors: 3,
            class: CLASS,
            config_len: 8,
        }
    }

    fn config_read(&self, offset: usize, data: &mut [u8]) {
        let config = u64::from(self.cid).to_le_bytes();
        for (at, byte) in (offset..).zip(data) {
            *byte = config.get(at).copied().unwrap_or(0);
        }
    }

    fn start(&mut self, queues: ActiveQueues) -> io::Result<Vec<PlacedWorker>> {
        let ActiveQueues {
            features,
            ram,
            queues,
            device,
            writers,
        } = queues;
        let (events, data): (Vec<ActiveQueue>, Vec<ActiveQueue>) = queues
            .into_iter()
            .partition(|queue| queue.index == EVENT_QUEUE);
        let rings = data.into_iter().map(|queue| {
            let place = queue.index;
            Ring::new(queue, place)
        });
        let rings: Vec<Ring> = rings.collect::<io::Result<_>>()?;
        let mut workers = Vec::new();
        // The kernel runs both queues or none.
        if rings.len() == usize::from(EVENT_QUEUE) {
            let party = self.party.clone();
            let worker = VhostWorker::start(party, features, &ram, rings, &device, &writers)?;
            workers.push(PlacedWorker {
                thread: 0,
                worker: Box::new(worker),
            });
        }
        workers.extend(events.into_iter().map(|queue| PlacedWorker {
            thread: 0,
            worker: Box::new(EventWorker::new(
                Virtqueue::new(queue, &ram, &device),
                self.restored.clone(),
            )),
        }));
        Ok(workers)
    }

    fn stopped(&mut self, _states: &[QueueState]) {}

    fn reset(&mut self) {
        // A driver that begins anew has no connections to lose.
        self.restored.store(false, Ordering::Release);
    }

    fn state(&self) -> Option<&dyn vmstate::StateAccess> {
        Some(self)
    }

    fn state_mut(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(self)
    }
}
