//! The control queue (Virtio 1.2, section 5.1.6.5). Commands are answered when the workers of the
//! queue pairs have acted upon them.

use std::io;
use std::sync::Arc;

use block::Waker;

use super::Mac;
use super::config::feature;
use super::filter::{MAX_MACS, MacList, RxFilter};
use super::shared::{Settings, Shared};
use crate::backend::net::{PortLease, VhostBackend};
use crate::ram::GuestRam;
use crate::virtio::{Chain, Segments, Virtqueue};
use crate::worker::{QueueState, QueueWorker, Watch, WatchToken};

const KICK: WatchToken = WatchToken(0);
const DONE: WatchToken = WatchToken(1);

const OK: u8 = 0;
const ERR: u8 = 1;
/// Bytes before the data: class and command.
const HEAD: u64 = 2;
/// Commands before others have their turn.
const MOST_COMMANDS: usize = 64;

/// Classes.
const RX: u8 = 0;
const MAC: u8 = 1;
const VLAN: u8 = 2;
const ANNOUNCE: u8 = 3;
const MQ: u8 = 4;
const GUEST_OFFLOADS: u8 = 5;

/// What a command changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    /// What the interface lets through.
    Filter,
    /// Something else.
    Other,
}

/// A command that is wrong or not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refused;

/// The data of a command, from its beginning to its end.
struct Data<'a> {
    memory: &'a GuestRam,
    segments: &'a Segments,
    at: u64,
}

impl Data<'_> {
    fn left(&self) -> u64 {
        self.segments.len().saturating_sub(self.at)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let mut bytes = [0; N];
        match self.segments.read(self.memory, self.at, &mut bytes) {
            got if got == N => {
                self.at = self.at.saturating_add(N as u64);
                Ok(bytes)
            }
            _ => Err(Refused),
        }
    }

    /// The rest, which must be that long.
    fn whole<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        match self.left() {
            left if left == N as u64 => self.take(),
            _ => Err(Refused),
        }
    }

    /// A table of addresses; of one with more than `most`, only that there are too many.
    fn macs(&mut self, most: usize) -> Result<MacList, Refused> {
        let count = u32::from_le_bytes(self.take()?);
        let bytes = u64::from(count).saturating_mul(6);
        if bytes > self.left() {
            return Err(Refused);
        }
        let mut list = MacList::default();
        if usize::try_from(count).is_ok_and(|count| count <= most) {
            for _ in 0..count {
                list.macs.push(self.take()?);
            }
        } else {
            list.overflow = true;
            self.at = self.at.saturating_add(bytes);
        }
        Ok(list)
    }
}

/// Carries a command out. `most_pairs` is 0 where there is only one pair to choose.
fn obey(settings: &mut Settings, data: &mut Data, most_pairs: u16) -> Result<Changed, Refused> {
    let [class, command] = data.take()?;
    match (class, command) {
        (RX, command) => {
            let [on] = data.take()?;
            *rx_mode(&mut settings.filter, command).ok_or(Refused)? = on != 0;
            Ok(Changed::Filter)
        }
        (MAC, 0) => {
            let unicast = data.macs(MAX_MACS)?;
            let room = MAX_MACS.saturating_sub(unicast.macs.len());
            let multicast = data.macs(room)?;
            if data.left() != 0 {
                return Err(Refused);
            }
            settings.filter.unicast = unicast;
            settings.filter.multicast = multicast;
            Ok(Changed::Filter)
        }
        (MAC, 1) => {
            let mac: Mac = data.whole()?;
            settings.mac = mac;
            Ok(Changed::Filter)
        }
        (VLAN, 0 | 1) => {
            let id = u16::from_le_bytes(data.whole()?);
            let known = settings.filter.vlans.set(id, command == 0);
            known.then_some(Changed::Filter).ok_or(Refused)
        }
        (ANNOUNCE, 0) => {
            let asked = std::mem::take(&mut settings.announce);
            asked.then_some(Changed::Other).ok_or(Refused)
        }
        (MQ, 0) => {
            let pairs = u16::from_le_bytes(data.whole()?);
            if pairs == 0 || pairs > most_pairs {
                return Err(Refused);
            }
            settings.pairs = pairs;
            Ok(Changed::Other)
        }
        (GUEST_OFFLOADS, 0) => {
            let wanted = u64::from_le_bytes(data.whole()?);
            let agreed = settings.features & feature::GUEST_OFFLOADS;
            let may = settings.features & feature::CTRL_GUEST_OFFLOADS != 0;
            if !may || wanted & !agreed != 0 {
                return Err(Refused);
            }
            settings.offloads = Some(wanted);
            Ok(Changed::Other)
        }
        _ => Err(Refused),
    }
}

/// The switch that a command of class RX moves.
fn rx_mode(filter: &mut RxFilter, command: u8) -> Option<&mut bool> {
    Some(match command {
        0 => &mut filter.promisc,
        1 => &mut filter.all_multi,
        2 => &mut filter.all_uni,
        3 => &mut filter.no_multi,
        4 => &mut filter.no_uni,
        5 => &mut filter.no_broadcast,
        _ => return None,
    })
}

/// The worker of the control queue.
pub(super) struct ControlWorker {
    pub queue: Virtqueue,
    pub shared: Arc<Shared>,
    /// Signalled when a worker of a pair is further than it was.
    pub waker: Waker,
    /// Pairs that the driver may choose; 0 where it did not ask for more than one.
    pub most_pairs: u16,
    /// Ports whose queues are served by somebody else: they follow the settings here.
    pub ports: Vec<(u16, PortLease)>,
    /// The somebody.
    pub vhost: Option<Arc<dyn VhostBackend>>,
    pub state: ControlState,
}

/// What it is about.
#[derive(Default)]
pub(super) struct ControlState {
    /// Carried out up to this change, and not answered.
    pending: Option<(Chain, u64)>,
    chain: Chain,
    epoch: u64,
    quiet: bool,
}

impl ControlWorker {
    fn serve(&mut self) {
        let memory = self.queue.memory();
        let mut left = MOST_COMMANDS;
        loop {
            self.follow();
            if let Some((_, epoch)) = self.state.pending
                && !self.shared.all_saw(epoch)
            {
                break;
            }
            if let Some((chain, _)) = self.state.pending.take() {
                self.answer(&memory, chain, OK);
            }
            if left == 0 {
                self.queue.kick_self();
                break;
            }
            left = left.saturating_sub(1);
            let mut chain = std::mem::take(&mut self.state.chain);
            if !self.queue.pop(&memory, &mut chain) {
                self.state.chain = chain;
                break;
            }
            self.begin(&memory, chain);
        }
        self.queue.notify(&memory);
    }

    fn begin(&mut self, memory: &GuestRam, chain: Chain) {
        trace::point!(VIRTIO_NET_HANDLE_CTRL, head = chain.head());
        if chain.readable.len() < HEAD || chain.writable.is_empty() {
            self.queue
                .break_down("a command has no header or no room for its answer");
            return;
        }
        let mut data = Data {
            memory,
            segments: &chain.readable,
            at: 0,
        };
        let most = self.most_pairs;
        let obeyed = self
            .shared
            .change(|settings| obey(settings, &mut data, most));
        match obeyed {
            Ok(changed) => {
                if changed == Changed::Filter {
                    self.shared.filter_changed();
                }
                self.state.pending = Some((chain, self.shared.epoch()));
            }
            Err(Refused) => {
                self.queue.bad_request("a command that is not obeyed");
                self.answer(memory, chain, ERR);
            }
        }
    }

    fn answer(&mut self, memory: &GuestRam, chain: Chain, status: u8) {
        chain.writable.write(memory, 0, &[status]);
        self.queue.complete(memory, chain.head(), 1);
        self.state.chain = chain;
    }

    /// Has the ports, and who serves the queues in their place, follow the settings that no worker
    /// of a pair has.
    fn follow(&mut self) {
        let epoch = self.shared.epoch();
        let Some(vhost) = self.vhost.as_ref().filter(|_| epoch != self.state.epoch) else {
            return;
        };
        self.state.epoch = epoch;
        let settings = self.shared.settings();
        vhost.use_pairs(settings.pairs);
        tell(&mut self.ports, &settings);
    }
}

/// Tells ports, with the numbers of their pairs, what the driver chose.
pub(super) fn tell(ports: &mut [(u16, PortLease)], settings: &Settings) {
    for (pair, port) in ports {
        port.set_enabled(*pair < settings.pairs);
        port.set_guest_offloads(settings.guest_offloads());
    }
}

impl QueueWorker for ControlWorker {
    fn register(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
        self.queue.watch((self.waker.fd(), DONE), KICK, watch)?;
        self.serve();
        Ok(())
    }

    fn on_event(&mut self, token: WatchToken, _watch: &mut dyn Watch) {
        if self.state.quiet {
            return;
        }
        match token {
            KICK => self.queue.take_kick(),
            _ => self.waker.clear(),
        }
        self.serve();
    }

    fn quiesce(&mut self, watch: &mut dyn Watch) {
        if std::mem::replace(&mut self.state.quiet, true) {
            return;
        }
        watch.remove(self.queue.kick_fd());
        watch.remove(self.waker.fd());
        // What it asks for is done, or will be before the next frame.
        if let Some((chain, _)) = self.state.pending.take() {
            let memory = self.queue.memory();
            self.answer(&memory, chain, OK);
            self.queue.notify(&memory);
        }
    }

    fn drained(&self) -> bool {
        true
    }

    fn into_state(self: Box<Self>) -> Vec<QueueState> {
        vec![self.queue.state()]
    }
}
