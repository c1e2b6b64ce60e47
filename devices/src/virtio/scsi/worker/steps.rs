//! Commands with the medium: one step of the block layer after the other, to the command's end.

use std::io;

use block::{Account, Buffers, Done, ErrorAction, IoReq, Token};

use super::super::request::{Answer, Out, Response};
use super::{InFlight, RequestWorker};
use crate::disk_failure;
use crate::scsi::progress::{Memory, Step};
use crate::scsi::sense::Sense;
use crate::virtio::gather::gather;

/// Steps of one command that end at once, before others have their turn.
const MOST_STEPS: usize = 16;

/// How a step is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Bad,
}

impl RequestWorker {
    /// Begins the next steps of a command, as many as end at once.
    pub(super) fn advance(&mut self, slot: usize) {
        for _ in 0..MOST_STEPS {
            let Some(flying) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
                return;
            };
            let step = match flying.ending {
                Some(_) => None,
                None => flying.progress.next(),
            };
            let Some(step) = step else {
                return self.end(slot, Ok(()));
            };
            match self.begin_step(slot, step) {
                // Its end comes from the lane.
                Ok(None) => return,
                Ok(Some(done)) => {
                    if !self.step_ended(done) {
                        return;
                    }
                }
                Err(sense) => return self.end(slot, Err(sense)),
            }
        }
        self.later.push_back(slot);
    }

    fn begin_step(&mut self, slot: usize, step: Step) -> Result<Option<Done>, Sense> {
        let Some(flying) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return Err(Sense::TARGET_FAILURE);
        };
        let buffers = match (step.own_buffers(), &step.memory) {
            (Some(own), _) => own,
            (None, Memory::Initiator(len)) => {
                let mut buffers = self.buffers.pop().unwrap_or_default();
                let (segments, at) = match step.op.is_write() {
                    true => (&flying.chain.readable, flying.request.out_at),
                    false => (&flying.chain.writable, flying.request.in_at),
                };
                if !gather(segments, &flying.memory, (at, *len), &mut buffers) {
                    // Does not happen: memory and lengths were checked.
                    return Err(Sense::TARGET_FAILURE);
                }
                buffers
            }
            (None, Memory::None | Memory::Own(_)) => Buffers::new(),
        };
        let request = IoReq::new(step.op, buffers);
        flying.account = step.account;
        flying.len = step.len;
        flying.started = request.started;
        flying.end = request
            .range()
            .map_or(0, |(at, len)| at.saturating_add(len));
        let lane = flying.lane;
        self.lanes
            .submit(lane, request, Token(slot as u64))
            .map_err(|_| Sense::NO_UNIT)
    }

    /// Answers what has ended, and goes on where there is more to do; how many ended.
    pub(super) fn reap(&mut self) -> usize {
        let mut done = std::mem::take(&mut self.done);
        self.lanes.reap(&mut done);
        let count = done.len();
        for done in done.drain(..) {
            let slot = usize::try_from(done.token.0).unwrap_or(usize::MAX);
            if self.step_ended(done) {
                self.advance(slot);
            }
        }
        self.done = done;
        self.lanes.start();
        count
    }

    /// A step has ended; whether its command goes on.
    fn step_ended(&mut self, done: Done) -> bool {
        let Done {
            token,
            result,
            request,
        } = done;
        let mut buffers = request.buffers;
        buffers.clear();
        self.buffers.push(buffers);
        let slot = usize::try_from(token.0).unwrap_or(usize::MAX);
        let Some(flying) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return false;
        };
        let Some(error) = result.err() else {
            self.count(slot, Verdict::Good);
            return self.step_was_good(slot);
        };
        let aborted = flying.ending.is_some();
        match self.decide(slot, &error) {
            // What task management ended is not tried again.
            ErrorAction::Stop if !aborted => {
                self.keep(slot);
                false
            }
            ErrorAction::Ignore => {
                self.count(slot, Verdict::Good);
                self.step_was_good(slot)
            }
            ErrorAction::Report | ErrorAction::Stop => {
                self.count(slot, Verdict::Bad);
                self.end(slot, Err(Sense::of(&error)));
                false
            }
        }
    }

    /// What becomes of a step that the host failed, as the unit's policy has it.
    fn decide(&mut self, slot: usize, error: &io::Error) -> ErrorAction {
        let Some(flying) = self.slots.get(slot).and_then(Option::as_ref) else {
            return ErrorAction::Report;
        };
        let (account, failures) = (flying.account, flying.unit.failures());
        let action = failures.map_or(ErrorAction::Report, |failures| {
            failures.failed(disk_failure::kind(account), error)
        });
        if !std::mem::replace(&mut self.failed, true) {
            log::warn!("A disk's request failed ({account:?}, {action:?}): {error}");
        }
        action
    }

    fn count(&self, slot: usize, verdict: Verdict) {
        let flying = self.slots.get(slot).and_then(Option::as_ref);
        let attachment = flying.and_then(|flying| flying.unit.attachment());
        let (Some(flying), Some(attachment)) = (flying, attachment) else {
            return;
        };
        let stats = attachment.stats();
        let failed = verdict == Verdict::Bad;
        stats.ended(flying.account, flying.len, flying.started, failed);
        if flying.account == Account::Write && !failed {
            stats.wrote_to(flying.end);
        }
    }

    /// Whether the command goes on after a step that the host did not fail.
    fn step_was_good(&mut self, slot: usize) -> bool {
        let Some(flying) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return false;
        };
        let ended = flying.progress.ended(&Out {
            chain: &flying.chain,
            memory: &flying.memory,
            at: flying.request.out_at,
            len: flying.request.out_len,
        });
        match ended {
            Ok(()) => true,
            Err(sense) => {
                self.end(slot, Err(sense));
                false
            }
        }
    }

    /// The machine stops, and the whole command is taken again when it goes on.
    fn keep(&mut self, slot: usize) {
        let Some(kept) = self.slots.get_mut(slot).and_then(Option::take) else {
            return;
        };
        self.free.push(slot);
        let incoming = kept.progress.incoming().min(kept.request.in_len);
        let (memory, at) = (&kept.memory, kept.request.in_at);
        kept.chain.writable.mark_dirty(memory, at, incoming);
        self.queue.keep(kept.chain.head());
        self.chains.push(kept.chain);
    }

    /// A command has ended.
    fn end(&mut self, slot: usize, result: Result<(), Sense>) {
        let Some(ended) = self.slots.get_mut(slot).and_then(Option::take) else {
            return;
        };
        self.free.push(slot);
        let InFlight {
            chain,
            memory,
            request,
            progress,
            ending,
            orders,
            ..
        } = ended;
        let incoming = progress.incoming().min(request.in_len);
        // Part of the data may be there even when it failed.
        chain.writable.mark_dirty(&memory, request.in_at, incoming);
        let given = request.in_len.max(request.out_len);
        let good = result.is_ok() && ending.is_none();
        let used = match (good, incoming) {
            (true, 0) => request.out_len,
            (true, incoming) => incoming,
            (false, _) => 0,
        };
        let answer = Answer {
            response: ending.unwrap_or(Response::Ok),
            sense: result.err().filter(|_| ending.is_none()),
            residual: given.saturating_sub(used),
        };
        let written = if good { incoming } else { 0 };
        self.answer(chain, &memory, answer, written);
        for order in orders {
            order.one_done();
        }
    }
}
