//! One request queue, its lanes and its interrupt.
//!
//! ```text
//! kick -> pop -> parse -> Unit::begin -> steps: lane.submit -> ... -> lane.reap -> answer,
//! used ring -> one interrupt
//! ```

mod steps;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use block::{Account, Buffers, Done, Waker};

use super::config::Sizes;
use super::lanes::{Found, Lanes};
use super::orders::{Deed, Inbox, Order};
use super::request::{Answer, Out, Request, Response};
use crate::ram::GuestRam;
use crate::scsi::cdb::{Command, Transfer};
use crate::scsi::progress::{Io, Progress};
use crate::scsi::sense::Sense;
use crate::scsi::target::{self, Action};
use crate::scsi::{Shared, Unit};
use crate::virtio::{Chain, Virtqueue};
use crate::worker::{QueueState, QueueWorker, Watch, WatchToken};

const KICK: WatchToken = WatchToken(0);
const WAKE: WatchToken = WatchToken(1);

/// What data is given to a logical unit that is not there, as long as it is not told otherwise.
const PLAIN_BLOCK: u32 = 512;

/// A command with the medium.
struct InFlight {
    chain: Chain,
    /// The memory the command refers to, whatever is in force when it ends.
    memory: Arc<GuestRam>,
    /// Where its header and data are.
    request: Request,
    unit: Arc<Unit>,
    lane: usize,
    progress: Progress,
    /// The step with the medium.
    account: Account,
    len: u64,
    end: u64,
    started: Instant,
    /// Task management wants it to end with this.
    ending: Option<Response>,
    /// Who waits for its end.
    orders: Vec<Arc<Order>>,
}

/// The worker.
pub(super) struct RequestWorker {
    queue: Virtqueue,
    sizes: Sizes,
    shared: Arc<Shared>,
    lanes: Lanes,
    /// Signalled by lanes, by orders, and when units come or go.
    waker: Waker,
    inbox: Inbox,
    /// Commands with the medium, by token; no more than the queue has entries.
    slots: Vec<Option<InFlight>>,
    free: Vec<usize>,
    /// Commands that have more steps, to be begun after others had their turn.
    later: VecDeque<usize>,
    /// Lists with room, to be used again.
    chains: Vec<Chain>,
    buffers: Vec<Buffers>,
    done: Vec<Done>,
    quiet: bool,
    /// A failure of the host was logged; others since the start are not.
    failed: bool,
}

impl RequestWorker {
    /// `waker` is the one that `inbox` signals.
    pub fn new(
        queue: Virtqueue,
        sizes: Sizes,
        shared: Arc<Shared>,
        waker: Waker,
        inbox: Inbox,
    ) -> Self {
        let depth = usize::from(queue.size());
        RequestWorker {
            lanes: Lanes::new(u32::from(queue.size()), waker.clone()),
            queue,
            sizes,
            shared,
            waker,
            inbox,
            slots: (0..depth).map(|_| None).collect(),
            free: (0..depth).rev().collect(),
            later: VecDeque::new(),
            chains: Vec::new(),
            buffers: Vec::new(),
            done: Vec::new(),
            quiet: false,
            failed: false,
        }
    }

    fn in_flight(&self) -> usize {
        self.slots.len().saturating_sub(self.free.len())
    }

    /// Takes requests and gives answers, as far as that goes without waiting.
    fn serve(&mut self) {
        let memory = self.queue.memory();
        self.lanes.refresh(&self.shared);
        for slot in std::mem::take(&mut self.later) {
            self.advance(slot);
        }
        // Answers at once make room at once: the thread's other workers get their turn, too.
        let mut budget = self.slots.len().saturating_mul(2);
        loop {
            let taken = self.take(&memory, &mut budget);
            self.lanes.start();
            let ended = self.reap();
            // Whoever stopped for lack of room goes on when there is some.
            if taken < self.slots.len() || ended == 0 || budget == 0 {
                break;
            }
        }
        if budget == 0 && !self.quiet {
            // Kicks are still suppressed, so there is to be another look in any case.
            self.queue.kick_self();
        }
        // Requests that came before an order are to be in flight when it is carried out.
        if budget > 0 {
            for order in self.inbox.take() {
                self.carry_out(&order);
            }
        }
        if !self.later.is_empty() {
            self.waker.wake();
        }
        if self.lanes.has_retired() {
            let slots = &self.slots;
            let uses = |number| slots.iter().flatten().any(|flying| flying.lane == number);
            self.lanes.prune(uses);
        }
        self.queue.notify(&memory);
    }

    /// Takes requests while there are some, there is room and `budget` lasts; how many, or as
    /// many as there are slots when it ended for lack of room. None while some are kept for the
    /// time after a stop: the machine is about to.
    fn take(&mut self, memory: &Arc<GuestRam>, budget: &mut usize) -> usize {
        let mut taken = 0;
        while !self.quiet && *budget > 0 && !self.queue.keeps_some() {
            if self.free.is_empty() {
                return self.slots.len();
            }
            let mut chain = self.chains.pop().unwrap_or_default();
            if !self.queue.pop(memory, &mut chain) {
                self.chains.push(chain);
                return taken;
            }
            *budget = budget.saturating_sub(1);
            taken = taken.saturating_add(1);
            self.begin(chain, memory);
        }
        taken
    }

    fn begin(&mut self, chain: Chain, memory: &Arc<GuestRam>) {
        let request = match Request::parse(&chain, memory, self.sizes) {
            Ok(request) => request,
            Err(why) => {
                self.queue.break_down(why);
                self.chains.push(chain);
                return;
            }
        };
        let refuse = |response| Answer {
            response,
            sense: None,
            residual: 0,
        };
        // There is no feature for data in both directions.
        if request.in_len > 0 && request.out_len > 0 {
            return self.answer(chain, memory, refuse(Response::Failure), 0);
        }
        let place = request.address.place();
        trace::point!(
            VIRTIO_SCSI_CMD_REQ,
            head = chain.head(),
            in_len = request.in_len,
            out_len = request.out_len
        );
        let found = place.map(|place| (place, self.lanes.find(place)));
        let (place, seat) = match found {
            Some((place, Found::Unit(seat))) => (place, Some(seat)),
            Some((place, Found::NoUnit)) => (place, None),
            Some((_, Found::NoTarget)) | None => {
                return self.answer(chain, memory, refuse(Response::BadTarget), 0);
            }
        };
        let unit = seat.and_then(|seat| self.lanes.unit(seat));
        let command = match Command::decode(request.block()) {
            Ok(command) => command,
            Err(sense) => return self.check(chain, memory, &request, sense),
        };
        let block = unit
            .as_ref()
            .map_or(PLAIN_BLOCK, |unit| unit.identity().block);
        let room = match command.transfer(block) {
            Transfer::None => 0,
            Transfer::In(len) if len <= request.in_len => len,
            Transfer::Out(len) if len <= request.out_len => 0,
            Transfer::In(_) | Transfer::Out(_) => {
                return self.answer(chain, memory, refuse(Response::Overrun), 0);
            }
        };
        let action = match &unit {
            Some(unit) => {
                let out = Out {
                    chain: &chain,
                    memory,
                    at: request.out_at,
                    len: request.out_len,
                };
                unit.begin(&command, &out)
            }
            None => target::decide_without_unit(&command, place.lun),
        };
        match (action, seat) {
            (Action::Check(sense), _) => {
                if let Some(attachment) = unit.as_ref().and_then(|unit| unit.attachment())
                    && let Some(account) = account_of(&command)
                {
                    attachment.stats().invalid(account);
                }
                self.check(chain, memory, &request, sense);
            }
            (Action::Good(data), _) => self.give(chain, memory, &request, &data, room),
            (Action::ReportLuns { select }, _) => {
                let data = target::list_luns(&self.lanes.luns(place.target), select);
                self.give(chain, memory, &request, &data, room);
            }
            (Action::Io(io), Some(seat)) => self.submit(chain, memory, request, seat, io),
            // Units carry out the rest themselves, and without one there is none.
            _ => self.check(chain, memory, &request, Sense::TARGET_FAILURE),
        }
    }

    /// Ends with data for the driver.
    fn give(&mut self, chain: Chain, memory: &GuestRam, request: &Request, data: &[u8], room: u64) {
        let len = usize::try_from(room).unwrap_or(usize::MAX).min(data.len());
        let data = data.get(..len).unwrap_or(&[]);
        let written = chain.writable.write(memory, request.in_at, data) as u64;
        let given = request.in_len.max(request.out_len);
        let used = request.out_len.max(written);
        let answer = Answer {
            response: Response::Ok,
            sense: None,
            residual: given.saturating_sub(used),
        };
        self.answer(chain, memory, answer, written);
    }

    /// Ends with CHECK CONDITION.
    fn check(&mut self, chain: Chain, memory: &GuestRam, request: &Request, sense: Sense) {
        let answer = Answer {
            response: Response::Ok,
            sense: Some(sense),
            residual: request.in_len.max(request.out_len),
        };
        self.answer(chain, memory, answer, 0);
    }

    /// Gives the chain back; `written` bytes of data are behind the answer.
    fn answer(&mut self, chain: Chain, memory: &GuestRam, answer: Answer, written: u64) {
        let front = answer.write(&chain, memory, self.sizes);
        // Data begins behind the whole room for the answer.
        let written = match written {
            0 => front,
            data => chain.writable.len().min(
                u64::from(self.sizes.sense)
                    .saturating_add(12)
                    .saturating_add(data),
            ),
        };
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        self.queue.complete(memory, chain.head(), written);
        self.chains.push(chain);
    }

    fn submit(
        &mut self,
        chain: Chain,
        memory: &Arc<GuestRam>,
        request: Request,
        seat: usize,
        io: Io,
    ) {
        let lane = self.lanes.open(seat);
        let (lane, unit) = match (lane, self.lanes.unit(seat)) {
            (Ok(Some(lane)), Some(unit)) => (lane, unit),
            (Err(error), _) => {
                log::warn!("A logical unit cannot be reached: {error}");
                return self.check(chain, memory, &request, Sense::TARGET_FAILURE);
            }
            (Ok(None), _) | (Ok(_), None) => {
                return self.check(chain, memory, &request, Sense::NO_MEDIUM);
            }
        };
        let slot = self.free.pop();
        let Some((slot, entry)) = slot.and_then(|slot| Some((slot, self.slots.get_mut(slot)?)))
        else {
            // Does not happen: requests are taken while there is a slot.
            return self.check(chain, memory, &request, Sense::TARGET_FAILURE);
        };
        *entry = Some(InFlight {
            chain,
            memory: memory.clone(),
            request,
            unit,
            lane,
            progress: Progress::new(io),
            account: Account::Flush,
            len: 0,
            end: 0,
            started: Instant::now(),
            ending: None,
            orders: Vec::new(),
        });
        self.advance(slot);
    }

    /// Task management: everything that came before it has been taken from the queue, unless
    /// that is being stopped.
    fn carry_out(&mut self, order: &Arc<Order>) {
        if self.quiet {
            order.set_partial();
        }
        // What is kept is not looked at: it is in the queue again when the machine goes on.
        if self.queue.keeps_some() {
            order.set_partial();
        }
        for flying in self.slots.iter_mut().flatten() {
            if !order.whose.is(flying.unit.place(), flying.request.tag) {
                continue;
            }
            match order.deed {
                Deed::Find => order.find(),
                Deed::End(response) => {
                    flying.ending.get_or_insert(response);
                    order.expect();
                    flying.orders.push(order.clone());
                }
            }
        }
        order.one_done();
    }
}

/// How a command is counted that made no sense.
fn account_of(command: &Command) -> Option<Account> {
    match command {
        Command::Read { .. } => Some(Account::Read),
        Command::Write { .. } | Command::WriteSame { .. } => Some(Account::Write),
        Command::Unmap { .. } => Some(Account::Unmap),
        _ => None,
    }
}

impl QueueWorker for RequestWorker {
    fn register(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
        self.queue.watch((self.waker.fd(), WAKE), KICK, watch)?;
        self.serve();
        Ok(())
    }

    fn on_event(&mut self, token: WatchToken, _watch: &mut dyn Watch) {
        match token {
            KICK => self.queue.take_kick(),
            _ => self.waker.clear(),
        }
        self.serve();
    }

    fn quiesce(&mut self, watch: &mut dyn Watch) {
        if !std::mem::replace(&mut self.quiet, true) {
            watch.remove(self.queue.kick_fd());
            // What is in flight is answered as ever, and waits for no limits.
            self.waker.hurry();
            self.serve();
        }
    }

    fn drained(&self) -> bool {
        self.in_flight() == 0
    }

    fn into_state(self: Box<Self>) -> Vec<QueueState> {
        vec![self.queue.state()]
    }
}
