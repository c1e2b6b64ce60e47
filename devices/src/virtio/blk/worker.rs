#![allow(unsafe_code)] // guest memory of several requests in one
//! One queue of the disk, its lane and its interrupt.
//!
//! ```text
//! kick -> pop -> parse -> merge -> lane.submit -> ... -> lane.reap -> status, used ring -> one interrupt
//! ```

use std::io;
use std::sync::Arc;
use std::time::Instant;

use block::{
    Account, Attachment, BlockError, Buffers, Done, Durability, ErrorAction, IoLane, Op, Token,
    Waker, WriteCache,
};

use super::merge::Group;
use super::props::Disk;
use super::request::{Data, Limits, Request, Status, parse};
use crate::disk_failure::{self, Failures};
use crate::ram::GuestRam;
use crate::virtio::gather::gather;
use crate::virtio::{Chain, Virtqueue};
use crate::worker::{QueueState, QueueWorker, Watch, WatchToken};

const KICK: WatchToken = WatchToken(0);
const LANE: WatchToken = WatchToken(1);

/// A request with the node.
struct InFlight {
    chain: Chain,
    /// The memory the request refers to, whatever is in force when it ends.
    memory: Arc<GuestRam>,
    account: Account,
    len: u64,
    /// End of what is written.
    end: u64,
    started: Instant,
    /// The slot of the next one in the same request of the node.
    next: Option<usize>,
}

/// The worker.
pub(super) struct BlkWorker {
    queue: Virtqueue,
    lane: Box<dyn IoLane>,
    waker: Waker,
    disk: Disk,
    node: Arc<Attachment>,
    failures: Failures,
    /// Requests with the node, by token; no more than the queue has entries.
    slots: Vec<Option<InFlight>>,
    free: Vec<usize>,
    /// Neighbours that will go to the node as one.
    group: Option<Group>,
    /// Lists with room, to be used again.
    chains: Vec<Chain>,
    buffers: Vec<Buffers>,
    done: Vec<Done>,
    quiet: bool,
    /// A failure of the host was logged; others since the start are not.
    failed: bool,
}

impl BlkWorker {
    /// # Errors
    /// When the host has no room for a lane.
    pub fn new(
        queue: Virtqueue,
        disk: Disk,
        node: Arc<Attachment>,
        failures: Failures,
    ) -> Result<Self, BlockError> {
        let waker = Waker::new()?;
        let lane = node.open_lane(u32::from(queue.size()), &waker)?;
        let depth = usize::from(queue.size());
        Ok(BlkWorker {
            queue,
            lane,
            waker,
            disk,
            node,
            failures,
            slots: (0..depth).map(|_| None).collect(),
            free: (0..depth).rev().collect(),
            group: None,
            chains: Vec::new(),
            buffers: Vec::new(),
            done: Vec::new(),
            quiet: false,
            failed: false,
        })
    }

    fn in_flight(&self) -> usize {
        self.slots.len().saturating_sub(self.free.len())
    }

    /// Takes requests and gives answers, as far as that goes without waiting.
    fn serve(&mut self) {
        let memory = self.queue.memory();
        // Answers at once make room at once: the thread's other workers get their turn, too.
        let mut budget = self.slots.len().saturating_mul(2);
        loop {
            let taken = self.take(&memory, &mut budget);
            self.send_group();
            self.lane.start();
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
        let limits = Limits {
            disk: &self.disk,
            size: self.node.info().size,
            durability: match self.node.write_cache() {
                WriteCache::Back => Durability::Cached,
                WriteCache::Through => Durability::Durable,
            },
        };
        match parse(&chain, memory, &limits) {
            Ok(Request::Io {
                op,
                data,
                account,
                len,
            }) => self.submit(chain, memory, (op, data), (account, len)),
            Ok(Request::GetId) => {
                let room = chain.writable.len().saturating_sub(1);
                let len = (self.disk.serial.len() as u64).min(room);
                let serial = self.disk.serial.get(..len as usize).unwrap_or(&[]);
                chain.writable.write(memory, 0, serial);
                self.answer(chain, memory, Status::Ok, len);
            }
            Ok(Request::Refused { status, account }) => {
                trace::point!(VIRTIO_BLK_REQ_REFUSED, status = status as u8);
                self.queue.bad_request("a request that the disk cannot do");
                if let Some(account) = account {
                    self.node.stats().invalid(account);
                }
                self.answer(chain, memory, status, 0);
            }
            Err(why) => {
                self.queue.break_down(why);
                self.chains.push(chain);
            }
        }
    }

    fn submit(
        &mut self,
        chain: Chain,
        memory: &Arc<GuestRam>,
        (op, data): (Op, Data),
        (account, len): (Account, u64),
    ) {
        let mut buffers = self.buffers.pop().unwrap_or_default();
        let gathered = match data {
            Data::None => true,
            Data::Readable(at, len) => gather(&chain.readable, memory, (at, len), &mut buffers),
            Data::Writable(at, len) => gather(&chain.writable, memory, (at, len), &mut buffers),
        };
        let slot = if gathered { self.free.pop() } else { None };
        let place = slot.and_then(|slot| Some((slot, self.slots.get_mut(slot)?)));
        let Some((slot, place)) = place else {
            // Neither happens: memory was checked, and a slot is free.
            self.answer(chain, memory, Status::IoError, 0);
            return;
        };
        let (at, bytes) = op.range(&buffers).unwrap_or_default();
        trace::point!(
            VIRTIO_BLK_HANDLE_RW,
            offset = trace::Hex(at),
            len = bytes,
            write = account == Account::Write
        );
        *place = Some(InFlight {
            chain,
            memory: memory.clone(),
            account,
            len,
            end: at.saturating_add(bytes),
            started: Instant::now(),
            next: None,
        });
        if let Some(group) = &mut self.group
            && self.disk.merging
            && group.takes(op, &buffers)
        {
            // SAFETY: `buffers` are of `memory`, which its slot holds until the request has ended.
            let last = unsafe { group.add(&buffers, slot) };
            if let Some(Some(last)) = self.slots.get_mut(last) {
                last.next = Some(slot);
            }
            buffers.clear();
            self.buffers.push(buffers);
            return;
        }
        self.send_group();
        self.group = Some(Group::new(op, buffers, slot));
    }

    /// Gives the node what was held back for its neighbours.
    fn send_group(&mut self) {
        if let Some((request, first)) = self.group.take().map(Group::into_request)
            && let Some(done) = self.lane.submit(request, Token(first as u64))
        {
            self.end(done);
        }
    }

    /// Answers what has ended; how many.
    fn reap(&mut self) -> usize {
        let mut done = std::mem::take(&mut self.done);
        self.lane.reap(&mut done);
        let count = done.len();
        for done in done.drain(..) {
            self.end(done);
        }
        self.done = done;
        count
    }

    fn end(&mut self, done: Done) {
        let Done {
            token,
            result,
            request,
        } = done;
        let mut buffers = request.buffers;
        buffers.clear();
        self.buffers.push(buffers);
        let mut next = usize::try_from(token.0).ok();
        while let Some(slot) = next {
            let Some(ended) = self.slots.get_mut(slot).and_then(Option::take) else {
                return;
            };
            self.free.push(slot);
            next = ended.next;
            self.end_one(ended, &result);
        }
    }

    /// Answers one of those that were one request of the node.
    fn end_one(&mut self, ended: InFlight, result: &io::Result<()>) {
        let InFlight {
            chain,
            memory,
            account,
            len,
            end,
            started,
            next: _,
        } = ended;
        let read = if account == Account::Read { len } else { 0 };
        trace::point!(
            VIRTIO_BLK_RW_COMPLETE,
            head = chain.head(),
            ok = result.is_ok()
        );
        // Also of a read that failed: part of the data may be there all the same.
        chain.writable.mark_dirty(&memory, 0, read);
        let failed = match result {
            Ok(()) => false,
            Err(error) => match self.failed(account, error) {
                ErrorAction::Report => true,
                ErrorAction::Ignore => false,
                ErrorAction::Stop => {
                    self.queue.keep(chain.head());
                    self.chains.push(chain);
                    return;
                }
            },
        };
        let stats = self.node.stats();
        stats.ended(account, len, started, failed);
        if account == Account::Write && !failed {
            stats.wrote_to(end);
        }
        match failed {
            false => self.answer(chain, &memory, Status::Ok, read),
            true => self.answer(chain, &memory, Status::IoError, 0),
        }
    }

    fn failed(&mut self, account: Account, error: &io::Error) -> ErrorAction {
        let action = self.failures.failed(disk_failure::kind(account), error);
        if !std::mem::replace(&mut self.failed, true) {
            log::warn!("A disk's request failed ({account:?}, {action:?}): {error}");
        }
        action
    }

    /// Writes the status and gives the chain back; `written` bytes of data came before it.
    fn answer(&mut self, chain: Chain, memory: &GuestRam, status: Status, written: u64) {
        let at = chain.writable.len().saturating_sub(1);
        trace::point!(
            VIRTIO_BLK_REQ_COMPLETE,
            head = chain.head(),
            status = status as u8
        );
        chain.writable.write(memory, at, &[status as u8]);
        let written = u32::try_from(written.saturating_add(1)).unwrap_or(u32::MAX);
        self.queue.complete(memory, chain.head(), written);
        self.chains.push(chain);
    }
}

impl QueueWorker for BlkWorker {
    fn register(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
        self.queue.watch((self.waker.fd(), LANE), KICK, watch)?;
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
