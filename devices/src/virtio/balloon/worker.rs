//! Serves a balloon's queues.
//!
//! A driver can ask for any amount of work with one kick. It is done in turns of bounded length,
//! so that others on the thread have theirs, and whoever takes the worker back does not wait
//! long: a chain that is not done then is begun again by the next worker, which does no harm.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Balloon;
use super::partial::Partial;
use super::stats;
use crate::discard::{Discarder, GUEST_PAGE};
use crate::ram::GuestRam;
use crate::virtio::{ActiveQueues, Chain, Virtqueue};
use crate::worker::{QueueState, QueueWorker, Watch, WatchToken};

/// Pages for the balloon in one turn.
const PAGES_PER_TURN: usize = 4096;
/// Bytes of free memory that are given back in one turn.
const BYTES_PER_TURN: u64 = 64 << 20;
/// Chains in one turn at most.
const CHAINS_PER_TURN: usize = 256;
/// Statistics that are read at most; there are sixteen kinds.
const MOST_STATS: usize = 64;
/// Bytes of a page number.
const NUMBER: usize = 4;
/// Page numbers read at once.
const BATCH: usize = 256;
/// The timer; queues have their number.
const POLL: WatchToken = WatchToken(1 << 16);

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Pages go into the balloon.
    Inflate,
    /// Pages come out of it.
    Deflate,
    /// Statistics.
    Stats,
    /// Hints at free pages.
    Hint,
    /// Reports of free pages.
    Report,
}

/// A queue and the chain that is being worked on.
struct Lane {
    role: Role,
    queue: Virtqueue,
    chain: Chain,
    /// Bytes of the chain that are done; `None` while there is no chain.
    at: Option<u64>,
}

/// What has been done in a turn.
struct Turn {
    pages: usize,
    bytes: u64,
    chains: usize,
}

impl Turn {
    fn is_over(&self) -> bool {
        self.pages >= PAGES_PER_TURN
            || self.bytes >= BYTES_PER_TURN
            || self.chains >= CHAINS_PER_TURN
    }
}

/// The worker.
pub struct BalloonWorker {
    balloon: Arc<Balloon>,
    lanes: Vec<Lane>,
    pages: Pages,
    quiet: bool,
}

/// What happens to the guest's pages.
struct Pages {
    discarder: Discarder,
    partial: Partial,
    /// Neighbours that are given back together: where they begin and end.
    run: Option<(u64, u64)>,
}

impl BalloonWorker {
    /// Takes the queues over; `roles` says what each is for.
    pub fn new(balloon: &Arc<Balloon>, active: ActiveQueues, roles: &[Role]) -> Self {
        let ActiveQueues {
            queues,
            ram,
            device,
            features: _,
            writers: _,
        } = active;
        let lane = |queue: crate::virtio::ActiveQueue| {
            Some(Lane {
                role: *roles.get(usize::from(queue.index))?,
                queue: Virtqueue::new(queue, &ram, &device),
                chain: Chain::new(),
                at: None,
            })
        };
        BalloonWorker {
            balloon: balloon.clone(),
            lanes: queues.into_iter().filter_map(lane).collect(),
            pages: Pages {
                discarder: Discarder::new(&ram),
                partial: Partial::default(),
                run: None,
            },
            quiet: false,
        }
    }

    fn serve(&mut self, role: Role) {
        if self.quiet {
            return;
        }
        self.pages.discarder.refresh();
        let mut turn = Turn {
            pages: 0,
            bytes: 0,
            chains: 0,
        };
        let index = |lanes: &[Lane], role| lanes.iter().position(|lane| lane.role == role);
        let (Some(at), deflate) = (index(&self.lanes, role), index(&self.lanes, Role::Deflate))
        else {
            return;
        };
        while let Some(lane) = self.lanes.get_mut(at) {
            if turn.is_over() {
                lane.queue.kick_self();
                break;
            }
            let memory = lane.queue.memory();
            if lane.at.is_none() && !lane.queue.pop(&memory, &mut lane.chain) {
                break;
            }
            lane.at = lane.at.or(Some(0));
            turn.chains = turn.chains.saturating_add(1);
            // What came out before this chain was offered must not be taken for being in still.
            if role == Role::Inflate
                && let Some(deflate) = deflate.and_then(|at| self.lanes.get_mut(at))
                && !deflate.drain_before(&mut self.pages, &mut turn)
            {
                deflate.queue.kick_self();
                if let Some(lane) = self.lanes.get_mut(at) {
                    lane.queue.kick_self();
                }
                break;
            }
            let Some(lane) = self.lanes.get_mut(at) else {
                break;
            };
            if lane.work(&memory, &self.balloon, &mut self.pages, &mut turn) {
                lane.at = None;
                lane.queue.complete(&memory, lane.chain.head(), 0);
            }
        }
        for lane in &mut self.lanes {
            let memory = lane.queue.memory();
            lane.queue.notify(&memory);
        }
    }

    /// The driver's newest statistics are in the chain that is kept; others go back at once.
    fn take_stats(&mut self) {
        if self.quiet {
            return;
        }
        let Some(lane) = self.stats_lane() else {
            return;
        };
        let memory = lane.queue.memory();
        let mut chain = Chain::new();
        let mut got = false;
        for _ in 0..CHAINS_PER_TURN {
            if !lane.queue.pop(&memory, &mut chain) {
                break;
            }
            std::mem::swap(&mut lane.chain, &mut chain);
            if lane.at.replace(0).is_some() {
                lane.queue.complete(&memory, chain.head(), 0);
            }
            got = true;
        }
        if lane.queue.has_more(&memory) {
            lane.queue.kick_self();
        }
        lane.queue.notify(&memory);
        if got {
            let mut bytes = [0; MOST_STATS * stats::ENTRY];
            let count = lane.chain.readable.read(&memory, 0, &mut bytes);
            // After a stop it is the same chain that was looked at already.
            if !self.balloon.stats_kept.swap(false, Ordering::AcqRel) {
                self.balloon.told(bytes.get(..count).unwrap_or(&[]));
            }
            self.balloon.polling.again();
        }
    }

    /// Gives the chain that is kept back: the driver fills it again.
    fn poll_stats(&mut self) {
        let _ = self.balloon.polling.due().read();
        if !self.balloon.polling.enabled() {
            return;
        }
        let asked = self.stats_lane().is_some_and(|lane| {
            let memory = lane.queue.memory();
            let held = lane.at.take().is_some();
            if held {
                lane.queue.complete(&memory, lane.chain.head(), 0);
                lane.queue.notify(&memory);
            }
            held
        });
        if !asked {
            self.balloon.polling.again();
        }
    }

    fn stats_lane(&mut self) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.role == Role::Stats)
    }

    fn serve_queue(&mut self, role: Role) {
        match role {
            Role::Stats => self.take_stats(),
            Role::Inflate | Role::Deflate | Role::Hint | Role::Report => self.serve(role),
        }
    }
}

impl Lane {
    /// Goes on with the chain; whether it is done.
    fn work(
        &mut self,
        memory: &GuestRam,
        balloon: &Balloon,
        pages: &mut Pages,
        turn: &mut Turn,
    ) -> bool {
        match self.role {
            Role::Inflate | Role::Deflate => self.move_pages(memory, pages, turn),
            Role::Hint => {
                self.hint(memory, balloon);
                true
            }
            Role::Report => self.report(balloon, pages, turn),
            Role::Stats => true,
        }
    }

    /// Pages whose numbers are in the chain go in or come out.
    fn move_pages(&mut self, memory: &GuestRam, pages: &mut Pages, turn: &mut Turn) -> bool {
        if self.role == Role::Deflate && pages.partial.is_empty() {
            return true;
        }
        let mut at = self.at.unwrap_or(0);
        let mut done = false;
        while !done && turn.pages < PAGES_PER_TURN {
            let mut bytes = [0; NUMBER * BATCH];
            let count = self.chain.readable.read(memory, at, &mut bytes);
            let numbers = bytes.get(..count).unwrap_or(&[]).chunks_exact(NUMBER);
            for number in numbers.filter_map(|number| number.first_chunk::<NUMBER>()) {
                let address = u64::from(u32::from_le_bytes(*number)).saturating_mul(GUEST_PAGE);
                match self.role {
                    Role::Inflate => pages.give(address),
                    _ => pages.partial.take(address),
                }
            }
            at = at.saturating_add(count as u64);
            turn.pages = turn.pages.saturating_add(BATCH);
            done = count < bytes.len();
        }
        pages.flush();
        self.at = Some(at);
        done
    }

    /// Takes back all pages that are offered now; false when the turn is over before that.
    fn drain_before(&mut self, pages: &mut Pages, turn: &mut Turn) -> bool {
        let memory = self.queue.memory();
        while !turn.is_over() {
            if self.at.is_none() && !self.queue.pop(&memory, &mut self.chain) {
                return true;
            }
            self.at = self.at.or(Some(0));
            turn.chains = turn.chains.saturating_add(1);
            if self.move_pages(&memory, pages, turn) {
                self.at = None;
                self.queue.complete(&memory, self.chain.head(), 0);
            }
        }
        false
    }

    fn hint(&mut self, memory: &GuestRam, balloon: &Balloon) {
        let mut id = [0; 4];
        if self.chain.readable.read(memory, 0, &mut id) == id.len() {
            balloon.hint_number(u32::from_le_bytes(id));
        }
        for free in self.chain.writable.list() {
            balloon.hint_pages(free.address.0, free.len.into());
        }
    }

    /// Gives the buffers of the chain back to the host.
    fn report(&mut self, balloon: &Balloon, pages: &mut Pages, turn: &mut Turn) -> bool {
        // The guest expects to find what it filled them with, and only zeroes come back.
        if balloon.poison.load(Ordering::Acquire) != 0 {
            return true;
        }
        let at = self.at.unwrap_or(0);
        let left = BYTES_PER_TURN.saturating_sub(turn.bytes);
        for part in self.chain.writable.range(at, left) {
            pages
                .discarder
                .discard_to_zero(part.address.0, part.len.into());
        }
        turn.bytes = turn
            .bytes
            .saturating_add(left.min(self.chain.writable.len()));
        let at = at.saturating_add(left);
        self.at = Some(at);
        at >= self.chain.writable.len()
    }
}

impl Pages {
    /// The guest gave the page at `address`.
    fn give(&mut self, address: u64) {
        trace::point!(VIRTIO_BALLOON_HANDLE_OUTPUT, gpa = trace::Hex(address));
        let Some(page) = self.discarder.page_at(address) else {
            return;
        };
        if page.len > GUEST_PAGE {
            if self.partial.give(page, address) {
                self.discarder.discard(page.base, page.len);
            }
            return;
        }
        if let Some(run) = self.run.and_then(|run| joined(run, address)) {
            self.run = Some(run);
            return;
        }
        self.flush();
        self.run = Some((address, address.saturating_add(GUEST_PAGE)));
    }

    fn flush(&mut self) {
        if let Some((from, to)) = self.run.take() {
            self.discarder.discard(from, to.saturating_sub(from));
        }
    }
}

/// The run with the page at `address`: beside it, or in it already. A driver that names one page over and over costs no
/// system call each time.
fn joined((from, to): (u64, u64), address: u64) -> Option<(u64, u64)> {
    let end = address.saturating_add(GUEST_PAGE);
    if (from..to).contains(&address) {
        return Some((from, to));
    }
    if to == address {
        return Some((from, end));
    }
    (from == end).then_some((address, to))
}

impl QueueWorker for BalloonWorker {
    fn register(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
        for lane in &mut self.lanes {
            let token = WatchToken(lane.queue.index().into());
            watch
                .readable(lane.queue.kick_fd(), token)
                .inspect_err(|error| {
                    lane.queue
                        .break_down(&format!("cannot be watched: {error}"))
                })?;
        }
        watch.readable(self.balloon.polling.due().as_raw_fd(), POLL)?;
        for role in [
            Role::Deflate,
            Role::Inflate,
            Role::Stats,
            Role::Hint,
            Role::Report,
        ] {
            self.serve_queue(role);
        }
        Ok(())
    }

    fn on_event(&mut self, token: WatchToken, _watch: &mut dyn Watch) {
        if token == POLL {
            return self.poll_stats();
        }
        let is = |lane: &&Lane| u32::from(lane.queue.index()) == token.0;
        let Some(lane) = self.lanes.iter().find(is) else {
            return;
        };
        lane.queue.take_kick();
        let role = lane.role;
        self.serve_queue(role);
    }

    fn quiesce(&mut self, watch: &mut dyn Watch) {
        if std::mem::replace(&mut self.quiet, true) {
            return;
        }
        for lane in &mut self.lanes {
            watch.remove(lane.queue.kick_fd());
            // Not done with: it is taken again.
            if lane.at.take().is_some() {
                lane.queue.keep(lane.chain.head());
                if lane.role == Role::Stats {
                    self.balloon.stats_kept.store(true, Ordering::Release);
                }
            }
        }
        watch.remove(self.balloon.polling.due().as_raw_fd());
    }

    fn drained(&self) -> bool {
        true
    }

    fn into_state(self: Box<Self>) -> Vec<QueueState> {
        self.lanes.iter().map(|lane| lane.queue.state()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_named_over_and_over_stays_one_run() {
        let first = (0x4000, 0x5000);
        assert_eq!(joined(first, 0x4000), Some(first));
        let up = joined(first, 0x5000);
        assert_eq!(up, Some((0x4000, 0x6000)));
        assert_eq!(joined((0x4000, 0x6000), 0x5000), up);
        assert_eq!(joined(first, 0x3000), Some((0x3000, 0x5000)));
        for apart in [0, 0x2000, 0x6000, u64::MAX - 0xfff] {
            assert_eq!(joined(first, apart), None, "{apart:#x}");
        }
    }
}
