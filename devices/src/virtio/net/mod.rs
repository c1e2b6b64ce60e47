//! `virtio-net-pci`: a network interface (Virtio 1.2, section 5.1) on a netdev.
//!
//! Each queue pair has a worker, which owns the pair's queues and the netdev's port; one more
//! serves the control queue. What the driver and commands change is in [`shared`]. Where another
//! party serves the queues (vhost), the pairs' workers are its own, and the control queue stays here.

mod announce;
mod config;
mod control;
mod filter;
mod props;
mod receive;
mod shared;
mod state;
mod transmit;
mod worker;

#[cfg(test)]
#[path = "net_test/mod.rs"]
mod tests;

use std::fmt::Write;
use std::io;
use std::sync::Arc;

use api_spec::{QmpError, QmpResult, VirtioNetPciProps};
use block::Waker;

pub use state::VirtioNetV1;

use super::{
    ActiveQueue, ActiveQueues, DeviceSignals, PlacedWorker, VirtioDevice, VirtioPci, VirtioTraits,
    Virtqueue, common,
};
use crate::backend::net::{NetAttachment, Nic, PortLease, VhostBackend};
use crate::cx::BuildCx;
use crate::model::registers::show;
use crate::ram::RamHandle;
use crate::vhost::{Membership, Writers};
use crate::worker::QueueState;
use config::{ConfigSpace, feature};
use control::{ControlState, ControlWorker};
use props::Choice;
use receive::Receive;
use shared::{Member, Shared};
use transmit::Transmit;
use worker::{Line, PairWorker, State};

const DEVICE_TYPE: u16 = 1;
/// PCI class "Ethernet controller".
const CLASS: u32 = 0x02_0000;
/// Entries of the control queue.
const CONTROL_SIZE: u16 = 64;
/// Bytes of a frame without its header, at most: what 64 KiB of payload need, and more.
const MAX_FRAME: u64 = 65536 + 4096;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The last byte of the first address that is given out by default.
pub const FIRST_MAC: u8 = 0x56;

/// An address that is given out by default.
pub const fn default_mac(last: u8) -> Mac {
    [0x52, 0x54, 0x00, 0x12, 0x34, last]
}

/// An address as people write it.
pub fn mac_text(mac: Mac) -> String {
    let mut text = String::new();
    for (place, byte) in mac.iter().enumerate() {
        let colon = if place == 0 { "" } else { ":" };
        let _ = write!(text, "{colon}{byte:02x}");
    }
    text
}

/// Builds the function, and what commands reach it by. Takes `cx.netdev`; without one, the
/// interface is on no network.
///
/// `cx.hints` may have `mac`, the last byte of an address that no interface has, and `nic-index`,
/// how many interfaces there are.
///
/// # Errors
/// For properties that make no sense or are not supported, in QEMU's words where it refuses them,
/// too; and when there are no interrupt routes left.
pub fn build(props: &VirtioNetPciProps, cx: &mut BuildCx) -> QmpResult<(VirtioPci, Arc<dyn Nic>)> {
    let mut transport = crate::virtio_pci_props!(props, cx)?;
    let netdev = cx.netdev.take();
    let choice = Choice::check(props, netdev.as_ref(), cx.hints.get("mac").copied())?;
    if let Some(vhost) = netdev.as_ref().and_then(NetAttachment::vhost) {
        let has = |bit: u64| vhost.features() & bit != 0;
        transport.event_idx &= has(common::feature::EVENT_IDX);
        transport.indirect_desc &= has(common::feature::INDIRECT_DESC);
    }
    // Keys that are no ids begin with a slash.
    let name = match cx.id.starts_with('/') {
        true => {
            let index = cx.hints.get("nic-index").copied().unwrap_or(0);
            format!("virtio-net-pci.{index}")
        }
        false => cx.id.clone(),
    };
    let shared = Shared::new(&cx.id, name, choice.mac, netdev, cx.effects.clone());
    let shared = Arc::new(shared);
    let vhost = shared.netdev.as_ref().and_then(NetAttachment::vhost);
    let blocker = vhost.map(|vhost| {
        vhost.set_mtu(choice.mtu);
        cx.writers
            .block(Box::new(move || vhost.migration_blocker()))
    });
    let nic: Arc<dyn Nic> = shared.clone();
    if let Some(netdev) = &shared.netdev {
        netdev.set_nic(&nic);
    }
    let net = Net {
        choice,
        shared,
        fell_back: false,
        _blocker: blocker,
    };
    let function = VirtioPci::new(Box::new(net), transport, cx)
        .map_err(|error| QmpError::generic(error.to_string()))?;
    Ok((function, nic))
}

/// The device behind the function.
struct Net {
    choice: Choice,
    shared: Arc<Shared>,
    /// It was told that the ports serve the queues where somebody else was to.
    fell_back: bool,
    _blocker: Option<Membership>,
}

/// The queues of a pair, as far as the driver set them up.
#[derive(Default)]
struct Pair {
    receive: Option<ActiveQueue>,
    transmit: Option<ActiveQueue>,
}

/// What all workers need.
struct Ground {
    features: u64,
    ram: RamHandle,
    device: Arc<dyn DeviceSignals>,
    writers: Writers,
}

impl Net {
    /// The index of the control queue: behind the pairs that the driver knows of (Virtio 1.2,
    /// section 5.1.2).
    fn control_index(&self, features: u64) -> u16 {
        let pairs = match features & feature::MQ {
            0 => 1,
            _ => self.choice.pairs,
        };
        pairs.saturating_mul(2)
    }

    /// The port of a pair, for a worker.
    fn line(&self, pair: u16) -> Option<Line> {
        let netdev = self.shared.netdev.as_ref()?;
        let port = netdev.port(usize::from(pair))?;
        Some(Line {
            writable: duplicate(&port),
            port,
            header: netdev.netdev().traits().header,
        })
    }

    fn pair_worker(&self, pair: u16, queues: Pair, ground: &Ground) -> io::Result<PairWorker> {
        let waker = Waker::new().map_err(|error| io::Error::other(error.to_string()))?;
        let queue = |queue| Virtqueue::new(queue, &ground.ram, &ground.device);
        let line = self.line(pair);
        let header = line.as_ref().is_some_and(|line| line.header);
        let mergeable = ground.features & feature::MRG_RXBUF != 0;
        let receive = |active| Receive::new(queue(active), header, mergeable);
        let transmit = |active| Transmit::new(queue(active), header);
        Ok(PairWorker {
            pair,
            receive: queues.receive.map(receive),
            transmit: queues.transmit.map(transmit),
            line,
            member: Arc::new(Member::new(waker)),
            shared: self.shared.clone(),
            burst: self.choice.burst,
            state: State::new(&self.shared),
        })
    }

    /// Workers of the pairs, and who they are.
    fn pair_workers(
        &self,
        pairs: Vec<Pair>,
        ground: &Ground,
    ) -> io::Result<(Vec<PlacedWorker>, Vec<Arc<Member>>)> {
        let (mut workers, mut members) = (Vec::new(), Vec::new());
        for (pair, queues) in (0u16..).zip(pairs) {
            if queues.receive.is_none() && queues.transmit.is_none() {
                self.put_away(pair);
                continue;
            }
            let worker = self.pair_worker(pair, queues, ground)?;
            members.push(worker.member.clone());
            workers.push(PlacedWorker {
                thread: usize::from(pair),
                worker: Box::new(worker),
            });
        }
        Ok((workers, members))
    }

    /// Workers that hold the data queues while another party serves them. `None` when that
    /// refuses and the ports are to take its place: the queues are then where it stopped.
    fn served_by(
        &mut self,
        vhost: &dyn VhostBackend,
        data: &mut [ActiveQueue],
        ground: &Ground,
    ) -> io::Result<Option<Vec<PlacedWorker>>> {
        let copies = data.iter().map(ActiveQueue::copy).collect::<Option<_>>();
        vhost.use_pairs(self.shared.settings().pairs);
        let refused = vhost.start(ActiveQueues {
            features: ground.features,
            ram: ground.ram.clone(),
            queues: copies.ok_or_else(|| io::Error::other("a queue cannot be served"))?,
            device: ground.device.clone(),
            writers: ground.writers.clone(),
        });
        let error = match refused {
            Ok(workers) => return Ok(Some(workers)),
            Err(error) => error,
        };
        if vhost.insists() || self.line(0).is_none() {
            return Err(error);
        }
        if !std::mem::replace(&mut self.fell_back, true) {
            let id = self.shared.name();
            log::warn!(
                "unable to start vhost net for '{id}': {error}: falling back on userspace virtio"
            );
        }
        for queue in data {
            queue.catch_up(&ground.ram);
        }
        Ok(None)
    }

    /// The driver does not use this pair.
    fn put_away(&self, pair: u16) {
        let netdev = self.shared.netdev.as_ref();
        if let Some(mut port) = netdev.and_then(|netdev| netdev.port(usize::from(pair))) {
            port.set_enabled(false);
        }
    }

    /// The ports of all pairs, told of the settings, while another party serves the queues.
    fn ports(&self) -> Vec<(u16, PortLease)> {
        let Some(netdev) = &self.shared.netdev else {
            return Vec::new();
        };
        let mut ports: Vec<_> = (0..self.choice.pairs)
            .filter_map(|pair| Some((pair, netdev.port(usize::from(pair))?)))
            .collect();
        control::tell(&mut ports, &self.shared.settings());
        ports
    }

    fn control_worker(
        &self,
        queue: ActiveQueue,
        vhost: Option<Arc<dyn VhostBackend>>,
        ports: Vec<(u16, PortLease)>,
        ground: &Ground,
    ) -> io::Result<ControlWorker> {
        let waker = Waker::new().map_err(|error| io::Error::other(error.to_string()))?;
        Ok(ControlWorker {
            queue: Virtqueue::new(queue, &ground.ram, &ground.device),
            shared: self.shared.clone(),
            waker,
            most_pairs: match ground.features & feature::MQ {
                0 => 0,
                _ => self.choice.pairs,
            },
            ports,
            vhost,
            state: ControlState::default(),
        })
    }
}

/// A second descriptor, because one can be watched for one thing at a time.
fn duplicate(port: &PortLease) -> Option<std::os::fd::OwnedFd> {
    let fd = port.fd();
    sys::duplicate(fd)
}

mod sys {
    #![allow(unsafe_code)] // the descriptor of a port

    use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

    /// `None` where there is no descriptor, or no room for one more.
    pub fn duplicate(fd: RawFd) -> Option<OwnedFd> {
        if fd < 0 {
            return None;
        }
        // SAFETY: the port that said so is borrowed by the caller, and has it open.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        borrowed.try_clone_to_owned().ok()
    }
}

impl VirtioDevice for Net {
    fn traits(&self) -> VirtioTraits {
        let Choice {
            pairs,
            rx_size,
            tx_size,
            ..
        } = self.choice;
        let mut queue_sizes: Vec<u16> = (0..pairs).flat_map(|_| [rx_size, tx_size]).collect();
        if self.choice.features & feature::CTRL_VQ != 0 {
            queue_sizes.push(CONTROL_SIZE);
        }
        VirtioTraits {
            device_type: DEVICE_TYPE,
            features: self.choice.features,
            queue_sizes,
            // One for each queue, and one for changes of the configuration.
            vectors: pairs.saturating_mul(2).saturating_add(2),
            class: CLASS,
            config_len: config::LEN,
        }
    }

    fn config_read(&self, offset: usize, data: &mut [u8]) {
        let settings = self.shared.settings();
        let space = ConfigSpace {
            mac: settings.mac,
            status: settings.status(),
            pairs: self.choice.pairs,
            mtu: self.choice.mtu,
            speed: self.choice.speed,
            duplex: self.choice.duplex,
        };
        let space = space.bytes();
        show(0, &space, offset as u64, data);
    }

    fn start(&mut self, active: ActiveQueues) -> io::Result<Vec<PlacedWorker>> {
        let ActiveQueues {
            features,
            ram,
            queues,
            device,
            writers,
        } = active;
        let ground = Ground {
            features,
            ram: ram.clone(),
            device: device.clone(),
            writers,
        };
        self.shared.change(|settings| settings.features = features);
        let control_index = self.control_index(features);
        let (mut control, mut data) = (None, Vec::new());
        for queue in queues {
            match queue.index {
                index if index == control_index && features & feature::CTRL_VQ != 0 => {
                    control = Some(queue);
                }
                index if index < control_index => data.push(queue),
                // The driver has no use for it.
                _ => {}
            }
        }
        let vhost = self.shared.vhost();
        let served = match &vhost {
            Some(vhost) => self.served_by(&**vhost, &mut data, &ground)?,
            None => None,
        };
        let vhost = vhost.filter(|_| served.is_some());
        self.shared.set_by_vhost(served.is_some());
        let (mut workers, members, ports) = match served {
            Some(workers) => (workers, Vec::new(), self.ports()),
            None => {
                let pairs = in_pairs(data, self.choice.pairs);
                let (workers, members) = self.pair_workers(pairs, &ground)?;
                (workers, members, Vec::new())
            }
        };
        let control = match control {
            Some(queue) => Some(self.control_worker(queue, vhost, ports, &ground)?),
            None => None,
        };
        let waker = control.as_ref().map(|control| control.waker.clone());
        self.shared.begin(members, waker, device);
        if let Some(control) = control {
            // Before the others: it is stopped first, so that what it did is seen by them.
            let worker = Box::new(control);
            workers.insert(0, PlacedWorker { thread: 0, worker });
        }
        Ok(workers)
    }

    fn stopped(&mut self, _states: &[QueueState]) {
        self.shared.end();
    }

    fn reset(&mut self) {
        self.shared.reset();
    }

    fn state(&self) -> Option<&dyn vmstate::StateAccess> {
        Some(self)
    }

    fn state_mut(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(self)
    }
}

/// Queues by pair: each has the one to receive first.
fn in_pairs(queues: Vec<ActiveQueue>, count: u16) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    pairs.resize_with(usize::from(count), Pair::default);
    for queue in queues {
        let Some(pair) = pairs.get_mut(usize::from(queue.index / 2)) else {
            continue;
        };
        match queue.index % 2 {
            0 => pair.receive = Some(queue),
            _ => pair.transmit = Some(queue),
        }
    }
    pairs
}
