//! The control queue and the event queue (Virtio 1.2, sections 5.6.6.2 and 5.6.6.4).
//!
//! One request for task management is in work at a time. When the queues stop while it is, it goes
//! back to its queue and is done again later, which does no harm.

use std::io;
use std::sync::Arc;

use block::Waker;

use super::config::{EVENT_LEN, feature};
use super::orders::{Deed, Letterbox, Order, Whose, give};
use super::request::{Address, Response};
use crate::ram::GuestRam;
use crate::scsi::{BusEvent, Place, Shared};
use crate::virtio::{Chain, Virtqueue};
use crate::worker::{QueueState, QueueWorker, Watch, WatchToken};

const CONTROL: WatchToken = WatchToken(0);
const EVENTS: WatchToken = WatchToken(1);
const ORDER_DONE: WatchToken = WatchToken(2);
const BUS: WatchToken = WatchToken(3);

/// Types of requests.
const T_TMF: u32 = 0;
const T_AN_QUERY: u32 = 1;
const T_AN_SUBSCRIBE: u32 = 2;

/// Bytes of the requests.
const TMF_LEN: usize = 24;
const AN_LEN: usize = 16;

/// Requests before others have their turn.
const MOST_REQUESTS: usize = 64;

/// Events.
const EVENT_TRANSPORT_RESET: u32 = 1;
const EVENT_PARAM_CHANGE: u32 = 3;
const EVENTS_MISSED: u32 = 0x8000_0000;
/// Reasons of a transport reset.
const RESET_RESCAN: u32 = 1;
const RESET_REMOVED: u32 = 2;

/// Task management functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    AbortTask,
    AbortTaskSet,
    ClearTaskSet,
    NexusReset,
    UnitReset,
    QueryTask,
    QueryTaskSet,
}

impl Function {
    fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Function::AbortTask,
            1 => Function::AbortTaskSet,
            3 => Function::ClearTaskSet,
            4 => Function::NexusReset,
            5 => Function::UnitReset,
            6 => Function::QueryTask,
            7 => Function::QueryTaskSet,
            // CLEAR ACA: there is none.
            _ => return None,
        })
    }
}

/// Task management that waits for tasks to end.
struct Pending {
    chain: Chain,
    function: Function,
    place: Place,
    order: Arc<Order>,
}

/// The worker of both queues; the driver may leave each of them out.
pub(super) struct ControlWorker {
    pub control: Option<Virtqueue>,
    pub events: Option<Virtqueue>,
    pub features: u64,
    pub shared: Arc<Shared>,
    /// The request queues.
    pub boxes: Vec<Arc<Letterbox>>,
    /// Signalled when an order is done.
    pub waker: Waker,
    pub state: ControlState,
}

/// What it is about.
#[derive(Default)]
pub(super) struct ControlState {
    pending: Option<Pending>,
    chain: Chain,
    quiet: bool,
}

impl ControlWorker {
    fn serve_control(&mut self) {
        let Some(mut queue) = self.control.take() else {
            return;
        };
        let memory = queue.memory();
        let done = |pending: &mut Pending| pending.order.is_done() && !pending.order.is_partial();
        if let Some(pending) = self.state.pending.take_if(done) {
            self.finish(&mut queue, &memory, pending);
        }
        let mut left = MOST_REQUESTS;
        while self.state.pending.is_none() && !self.state.quiet {
            if left == 0 {
                queue.kick_self();
                break;
            }
            left = left.saturating_sub(1);
            let mut chain = std::mem::take(&mut self.state.chain);
            if !queue.pop(&memory, &mut chain) {
                self.state.chain = chain;
                break;
            }
            self.begin(&mut queue, &memory, chain);
        }
        queue.notify(&memory);
        self.control = Some(queue);
    }

    fn begin(&mut self, queue: &mut Virtqueue, memory: &GuestRam, chain: Chain) {
        let mut bytes = [0; TMF_LEN];
        let got = chain.readable.read(memory, 0, &mut bytes);
        let [a, b, c, d, rest @ ..] = bytes;
        let room = chain.writable.len();
        match (u32::from_le_bytes([a, b, c, d]), got) {
            (T_TMF, TMF_LEN) if room >= 1 => self.manage(queue, memory, chain, &rest),
            (T_AN_QUERY | T_AN_SUBSCRIBE, AN_LEN..) if room >= 5 => {
                // No events are there to be told of that way.
                let answer = [0, 0, 0, 0, Response::Ok as u8];
                self.answer(queue, memory, chain, &answer);
            }
            (T_TMF | T_AN_QUERY | T_AN_SUBSCRIBE, _) | (_, 0..4) => {
                queue.break_down("a request or the room for its answer is too short");
                self.state.chain = chain;
            }
            // Not known: there is nothing to say.
            (_, _) => self.answer(queue, memory, chain, &[]),
        }
    }

    fn answer(&mut self, queue: &mut Virtqueue, memory: &GuestRam, chain: Chain, bytes: &[u8]) {
        let written = chain.writable.write(memory, 0, bytes);
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        queue.complete(memory, chain.head(), written);
        self.state.chain = chain;
    }

    /// Begins task management; `rest` is the request behind its type.
    fn manage(
        &mut self,
        queue: &mut Virtqueue,
        memory: &GuestRam,
        chain: Chain,
        rest: &[u8; TMF_LEN - 4],
    ) {
        let (number, rest) = split::<4>(rest);
        let (address, rest) = split::<8>(rest);
        let (tag, _) = split::<8>(rest);
        let refusal = match self.check(Address(address), u32::from_le_bytes(number)) {
            Ok((function, place)) => {
                let tag = u64::from_le_bytes(tag);
                let (whose, deed) = order_of(function, place, tag);
                let order = give(&self.boxes, whose, deed, &self.waker);
                let pending = Pending {
                    chain,
                    function,
                    place,
                    order,
                };
                let whole = pending.order.is_done() && !pending.order.is_partial();
                match whole {
                    true => self.finish(queue, memory, pending),
                    false => self.state.pending = Some(pending),
                }
                return;
            }
            Err(refusal) => refusal,
        };
        self.answer(queue, memory, chain, &[refusal as u8]);
    }

    /// What is to be done to whom, if that makes sense.
    fn check(&self, address: Address, number: u32) -> Result<(Function, Place), Response> {
        let place = address.place().ok_or(Response::BadTarget)?;
        let units = self.shared.units();
        if !units.iter().any(|unit| unit.place().target == place.target) {
            return Err(Response::BadTarget);
        }
        let function = Function::of(number).ok_or(Response::Rejected)?;
        let there = units.iter().any(|unit| unit.place() == place);
        match there || function == Function::NexusReset {
            true => Ok((function, place)),
            false => Err(Response::IncorrectLun),
        }
    }

    /// All tasks have ended that had to.
    fn finish(&mut self, queue: &mut Virtqueue, memory: &GuestRam, pending: Pending) {
        let Pending {
            chain,
            function,
            place,
            order,
        } = pending;
        let response = match function {
            Function::QueryTask | Function::QueryTaskSet if order.found() => Response::Succeeded,
            Function::QueryTask
            | Function::QueryTaskSet
            | Function::AbortTask
            | Function::AbortTaskSet
            | Function::ClearTaskSet => Response::Ok,
            Function::UnitReset | Function::NexusReset => {
                let all = function == Function::NexusReset;
                for unit in self.shared.units() {
                    let own = unit.place();
                    if own == place || all && own.target == place.target {
                        unit.reset();
                    }
                }
                Response::Ok
            }
        };
        self.answer(queue, memory, chain, &[response as u8]);
    }

    /// Tells the driver of what it does not know, as far as it has buffers for it.
    fn serve_events(&mut self) {
        let Some(queue) = self.events.as_mut().filter(|_| !self.state.quiet) else {
            return;
        };
        let memory = queue.memory();
        loop {
            let (event, missed) = self.shared.next_event();
            let wanted = match event {
                Some(event) => event_bytes(event, self.features),
                None if missed => Some((0, [0; 8], 0)),
                None => break,
            };
            let Some((kind, address, reason)) = wanted else {
                self.shared.told_event();
                continue;
            };
            if !queue.pop(&memory, &mut self.state.chain) {
                break;
            }
            let kind = kind | if missed { EVENTS_MISSED } else { 0 };
            let mut bytes = [0; EVENT_LEN];
            let parts = [&kind.to_le_bytes()[..], &address, &reason.to_le_bytes()];
            for (to, from) in bytes.iter_mut().zip(parts.concat()) {
                *to = from;
            }
            if self.state.chain.writable.write(&memory, 0, &bytes) < EVENT_LEN {
                queue.break_down("a buffer for events is too short");
                break;
            }
            queue.complete(&memory, self.state.chain.head(), EVENT_LEN as u32);
            self.shared.told_event();
        }
        queue.notify(&memory);
    }

    fn watch_all(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
        watch.readable(self.waker.fd(), ORDER_DONE)?;
        if let Some(queue) = &self.control {
            watch.readable(queue.kick_fd(), CONTROL)?;
        }
        if let Some(queue) = &self.events {
            watch.readable(queue.kick_fd(), EVENTS)?;
            watch.readable(self.shared.waker().fd(), BUS)?;
        }
        Ok(())
    }
}

/// The first bytes, and what follows.
fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    bytes
        .split_first_chunk()
        .map_or(([0; N], &[]), |(first, rest)| (*first, rest))
}

fn order_of(function: Function, place: Place, tag: u64) -> (Whose, Deed) {
    match function {
        Function::AbortTask => (Whose::Task(place, tag), Deed::End(Response::Aborted)),
        Function::AbortTaskSet | Function::ClearTaskSet => {
            (Whose::Unit(place), Deed::End(Response::Aborted))
        }
        Function::UnitReset => (Whose::Unit(place), Deed::End(Response::Reset)),
        Function::NexusReset => (Whose::Target(place.target), Deed::End(Response::Reset)),
        Function::QueryTask => (Whose::Task(place, tag), Deed::Find),
        Function::QueryTaskSet => (Whose::Unit(place), Deed::Find),
    }
}

/// An event as the driver gets it: kind, address and reason. `None` when it did not ask for such.
fn event_bytes(event: BusEvent, features: u64) -> Option<(u32, [u8; 8], u32)> {
    let (feature, kind, place, reason) = match event {
        BusEvent::Added(place) => (feature::HOTPLUG, EVENT_TRANSPORT_RESET, place, RESET_RESCAN),
        BusEvent::Removed(place) => (
            feature::HOTPLUG,
            EVENT_TRANSPORT_RESET,
            place,
            RESET_REMOVED,
        ),
        BusEvent::Changed { place, sense } => {
            let reason = u32::from(sense.asc) | u32::from(sense.ascq) << 8;
            (feature::CHANGE, EVENT_PARAM_CHANGE, place, reason)
        }
    };
    (features & feature != 0).then(|| (kind, Address::of(place).0, reason))
}

impl QueueWorker for ControlWorker {
    fn register(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
        if let Err(error) = self.watch_all(watch) {
            let queue = self.control.as_mut().or(self.events.as_mut());
            if let Some(queue) = queue {
                queue.break_down(&format!("cannot be watched: {error}"));
            }
            return Err(error);
        }
        self.serve_control();
        self.serve_events();
        Ok(())
    }

    fn on_event(&mut self, token: WatchToken, _watch: &mut dyn Watch) {
        match token {
            CONTROL | EVENTS => {
                let queue = match token {
                    CONTROL => &self.control,
                    _ => &self.events,
                };
                if let Some(queue) = queue {
                    queue.take_kick();
                }
            }
            ORDER_DONE => self.waker.clear(),
            _ => self.shared.waker().clear(),
        }
        match token {
            CONTROL | ORDER_DONE => self.serve_control(),
            _ => self.serve_events(),
        }
    }

    fn quiesce(&mut self, watch: &mut dyn Watch) {
        if std::mem::replace(&mut self.state.quiet, true) {
            return;
        }
        for queue in [&self.control, &self.events].into_iter().flatten() {
            watch.remove(queue.kick_fd());
        }
        if self.events.is_some() {
            watch.remove(self.shared.waker().fd());
        }
        self.serve_control();
        if self.state.pending.take().is_some()
            && let Some(queue) = &mut self.control
        {
            queue.unpop();
        }
    }

    fn drained(&self) -> bool {
        self.state.pending.is_none()
    }

    fn into_state(self: Box<Self>) -> Vec<QueueState> {
        let queues = [self.control, self.events];
        queues.into_iter().flatten().map(|q| q.state()).collect()
    }
}
