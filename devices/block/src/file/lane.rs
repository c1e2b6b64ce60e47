//! A lane into a file: what the engine takes as it is goes to the kernel, all else to the pool.
//!
//! ```text
//! submit -> read at once (a few bytes that the host has in its cache) -> ended
//!        -> parked (another write covers the block)    -> route again when a range is let go
//!        -> backlog (the engine is full)               -> kernel when something has ended
//!        -> kernel -> ended in full                    -> ready
//!                  -> short, or refused for now        -> pool, for the rest
//!        -> pool   -> ended                            -> ready
//! ```

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::ranges::RangeHold;
use super::{Aio, HostFile, perform};
use crate::engine::{Call, Ended, Engine};
use crate::error::BlockError;
use crate::node::IoLane;
use crate::pool::Pool;
use crate::port::{Port, Ticket};
use crate::request::{Done, Durability, IoReq, Op, Token};
use crate::sys::{self, MAX_PARTS};
use crate::waker::Waker;

/// Most bytes that are read where the request came in: what takes longer to copy than to hand to
/// another thread is not worth it, and others wait meanwhile.
const MOST_AT_HAND: u64 = 64 << 10;
/// The same for the first one where nothing else is in flight: most likely it is the only one.
const MOST_ALONE: u64 = 1 << 20;
/// After a read for which the host had to go to the disk, so many are not tried; after the next
/// one twice as many, up to the most.
const FIRST_PAUSE: u32 = 1;
const MOST_PAUSE: u32 = 32;

/// Reads of what the host has in its cache, without another thread.
struct AtHand {
    /// False where the host cannot tell.
    able: bool,
    /// One with more bytes than others may have was read since the last start.
    large: bool,
    /// Reads that are not tried.
    skip: u32,
    pause: u32,
}

impl AtHand {
    fn new(host: &HostFile) -> Self {
        AtHand {
            able: host.aio == Aio::Threads && !host.direct,
            large: false,
            skip: 0,
            pause: FIRST_PAUSE,
        }
    }

    /// How many bytes of a request were read. The rest is to be done in another way.
    fn read(&mut self, host: &HostFile, request: &IoReq, alone: bool) -> u64 {
        let Op::Read { offset } = request.op else {
            return 0;
        };
        let len = request.buffers.len();
        let most = match alone && !self.large {
            true => MOST_ALONE,
            false => MOST_AT_HAND,
        };
        if !self.able || len > most {
            return 0;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return 0;
        }
        self.large |= len > MOST_AT_HAND;
        match sys::preadv_at_hand(&host.file, request.buffers.parts(), offset) {
            Ok(count) if count as u64 >= len => {
                self.pause = FIRST_PAUSE;
                count as u64
            }
            Ok(count) => count as u64,
            Err(error) => {
                match error.raw_os_error() {
                    Some(libc::EAGAIN) => {
                        self.skip = self.pause;
                        self.pause = self.pause.saturating_mul(2).min(MOST_PAUSE);
                    }
                    Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => self.able = false,
                    // Another thread will find out.
                    _ => {}
                }
                0
            }
        }
    }
}

/// A request on its way.
struct Active {
    token: Token,
    request: IoReq,
    /// Held until it has ended.
    range: Option<RangeHold>,
}

impl Active {
    fn end(self, result: io::Result<()>) -> Done {
        Done {
            token: self.token,
            result,
            request: self.request,
        }
    }
}

/// Requests in the kernel, by number.
#[derive(Default)]
struct Slots {
    list: Vec<Option<Active>>,
    free: Vec<usize>,
}

impl Slots {
    fn insert(&mut self, active: Active) -> usize {
        match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.list.get_mut(slot) {
                    *place = Some(active);
                }
                slot
            }
            None => {
                self.list.push(Some(active));
                self.list.len() - 1
            }
        }
    }

    fn remove(&mut self, slot: usize) -> Option<Active> {
        let active = self.list.get_mut(slot)?.take()?;
        self.free.push(slot);
        Some(active)
    }

    fn len(&self) -> usize {
        self.list.len() - self.free.len()
    }
}

/// The lane.
pub(super) struct FileLane {
    // The order matters for dropping: the engine's context ends before the file is closed.
    engine: Engine,
    host: Arc<HostFile>,
    pool: Pool,
    port: Arc<Port>,
    depth: usize,
    slots: Slots,
    pooled: usize,
    backlog: VecDeque<Active>,
    parked: VecDeque<(IoReq, Token)>,
    ended: Vec<Ended>,
    at_hand: AtHand,
}

/// Who takes a request.
enum Route {
    Kernel,
    Pool,
}

impl FileLane {
    pub fn open(
        host: Arc<HostFile>,
        pool: &Pool,
        depth: u32,
        waker: &Waker,
    ) -> Result<Self, BlockError> {
        let depth = depth.clamp(1, 4096);
        let fds = (host.file.as_raw_fd(), waker.fd());
        Ok(FileLane {
            engine: Engine::open(host.aio, depth, fds.0, fds.1)?,
            at_hand: AtHand::new(&host),
            host,
            pool: pool.clone(),
            port: Port::new(waker),
            depth: depth as usize,
            slots: Slots::default(),
            pooled: 0,
            backlog: VecDeque::new(),
            parked: VecDeque::new(),
            ended: Vec::new(),
        })
    }

    /// Sees to a request, of which the first `done` bytes are done already.
    fn route(&mut self, request: IoReq, token: Token, done: u64) {
        let range = match self.hold(&request) {
            Ok(range) => range,
            Err(()) => {
                self.parked.push_back((request, token));
                return;
            }
        };
        let route = self.way(&request);
        let active = Active {
            token,
            request,
            range,
        };
        match route {
            Route::Pool => self.hand_to_pool(active, done),
            Route::Kernel if self.backlog.is_empty() => self.hand_to_kernel(active),
            Route::Kernel => self.backlog.push_back(active),
        }
    }

    /// The range that a write needs for itself, where blocks are larger than sectors.
    fn hold(&self, request: &IoReq) -> Result<Option<RangeHold>, ()> {
        let Some((start, end, hold)) = self.host.needed(request.op, &request.buffers) else {
            return Ok(None);
        };
        let ranges = &self.host.ranges;
        let held = ranges.try_hold(start, end, hold, self.port.waker());
        held.map(Some).ok_or(())
    }

    fn way(&self, request: &IoReq) -> Route {
        let buffers = &request.buffers;
        let vectored = |offset| {
            buffers.parts().len() <= MAX_PARTS
                && buffers.len() <= i32::MAX as u64
                && perform::is_clean(&self.host, buffers, offset)
        };
        let kernel = match (self.host.aio, request.op) {
            (Aio::Threads, _) => false,
            (_, Op::Read { offset } | Op::Write { offset, .. }) => vectored(offset),
            // One that has to fail does so in the pool.
            (Aio::IoUring, Op::Flush) => !self.host.has_lost(),
            (Aio::Native, Op::Flush) => false,
            (_, Op::Discard { .. } | Op::WriteZeroes { .. }) => false,
        };
        if kernel { Route::Kernel } else { Route::Pool }
    }

    fn hand_to_pool(&mut self, active: Active, done: u64) {
        self.pooled = self.pooled.saturating_add(1);
        let host = self.host.clone();
        let Active {
            token,
            request,
            range,
        } = active;
        let ticket = Ticket::new(token, request, range, &self.port);
        self.pool.run(Box::new(move || {
            // It lets go of the file before anybody learns of the end.
            ticket.perform(move |request| {
                perform::perform(&host, request.op, &request.buffers, done)
            });
        }));
    }

    #[allow(unsafe_code)] // what the kernel gets are addresses
    fn hand_to_kernel(&mut self, active: Active) {
        if self.slots.len() >= self.depth {
            self.backlog.push_back(active);
            return;
        }
        let slot = self.slots.insert(active);
        let Some(Some(active)) = self.slots.list.get(slot) else {
            return;
        };
        let call = call(&active.request);
        // SAFETY: the list of parts and the memory belong to the slot, which is given up only
        // when the completion was collected; dropping the lane waits for that.
        let queued = unsafe { self.engine.push(slot, &call) };
        if !queued && let Some(active) = self.slots.remove(slot) {
            self.backlog.push_back(active);
        }
    }

    /// Starts what is queued. What the kernel does not take at once is tried again after the
    /// next event.
    fn start_engine(&mut self) {
        if self.engine.start().is_err() {
            self.port.waker().wake();
        }
    }

    fn refill(&mut self) {
        for _ in 0..self.backlog.len() {
            if self.slots.len() >= self.depth {
                break;
            }
            if let Some(active) = self.backlog.pop_front() {
                self.hand_to_kernel(active);
            }
        }
        for _ in 0..self.parked.len() {
            if let Some((request, token)) = self.parked.pop_front() {
                self.route(request, token, 0);
            }
        }
        self.start_engine();
    }

    /// What becomes of a request that the kernel has ended with `result`.
    fn kernel_ended(&mut self, slot: usize, result: i64, done: &mut Vec<Done>) {
        let Some(active) = self.slots.remove(slot) else {
            return;
        };
        let expected = active.request.buffers.len();
        match u64::try_from(result) {
            Ok(count) if count >= expected => {
                let result = match active.request.op {
                    Op::Flush => self.host.synced(Ok(())),
                    _ => Ok(()),
                };
                done.push(active.end(result));
            }
            Ok(count) => self.hand_to_pool(active, count),
            Err(_) => {
                let code = i32::try_from(result.unsigned_abs()).unwrap_or(libc::EIO);
                let mut result = Err(io::Error::from_raw_os_error(code));
                match (code, active.request.op) {
                    (libc::EAGAIN | libc::EINTR | libc::EOPNOTSUPP, _) => {
                        return self.hand_to_pool(active, 0);
                    }
                    (_, Op::Flush) => result = self.host.synced(result),
                    _ => {}
                }
                done.push(active.end(result));
            }
        }
    }

    fn collect(&mut self, done: &mut Vec<Done>) {
        let mut ended = std::mem::take(&mut self.ended);
        self.engine.collect(&mut ended);
        for (slot, result) in ended.drain(..) {
            self.kernel_ended(slot, result, done);
        }
        self.ended = ended;
        let pooled = self.port.collect(done);
        self.pooled = self.pooled.saturating_sub(pooled);
    }
}

fn call(request: &IoReq) -> Call<'_> {
    let parts = request.buffers.parts();
    match request.op {
        Op::Read { offset } => Call::Read { parts, offset },
        Op::Write { offset, durability } => Call::Write {
            parts,
            offset,
            flags: match durability {
                Durability::Durable => libc::RWF_DSYNC,
                Durability::Cached => 0,
            },
        },
        Op::Flush | Op::Discard { .. } | Op::WriteZeroes { .. } => Call::Sync,
    }
}

impl IoLane for FileLane {
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done> {
        trace::point!(
            FILE_SUBMIT,
            op = request.op.name(),
            len = request.buffers.len()
        );
        let alone = self.in_flight() == 0;
        let read = self.at_hand.read(&self.host, &request, alone);
        if read == 0 || request.buffers.len() > read {
            self.route(request, token, read);
            return None;
        }
        Some(Done {
            token,
            result: Ok(()),
            request,
        })
    }

    fn start(&mut self) {
        self.at_hand.large = false;
        self.start_engine();
    }

    fn reap(&mut self, done: &mut Vec<Done>) {
        self.collect(done);
        self.refill();
    }

    fn in_flight(&self) -> usize {
        self.slots.len() + self.pooled + self.backlog.len() + self.parked.len()
    }
}

impl Drop for FileLane {
    fn drop(&mut self) {
        self.backlog.clear();
        self.parked.clear();
        let mut done = Vec::new();
        while self.slots.len() + self.pooled > 0 {
            self.start_engine();
            self.port.waker().wait();
            self.port.waker().clear();
            self.collect(&mut done);
            done.clear();
        }
        // What was cleared may have been another lane's.
        self.port.waker().wake();
    }
}
