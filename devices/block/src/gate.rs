//! What all nodes do with a request before and after their own part: check its range, apply the
//! node's options, count it.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::node::IoLane;
use crate::request::{Done, Durability, IoReq, Op, Token, Unmap};
use crate::stats::Stats;

/// What a node does with discards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Discard {
    /// Nothing.
    #[default]
    Ignore,
    /// Storage is given back.
    Unmap,
}

/// What a node does with written zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DetectZeroes {
    /// It does not look.
    #[default]
    Off,
    /// It writes them as zeroes without data.
    On,
    /// And gives storage back.
    Unmap,
}

/// A node's options that concern single requests.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Policy {
    pub read_only: bool,
    pub discard: Discard,
    pub detect_zeroes: DetectZeroes,
    pub no_flush: bool,
    /// What offsets and lengths are multiples of.
    pub granule: u32,
}

/// A lane with its node's options in front of it.
pub(crate) struct Gate<L> {
    inner: L,
    policy: Policy,
    size: Arc<AtomicU64>,
    /// Added to offsets.
    base: u64,
    stats: Arc<Stats>,
}

impl<L: IoLane> Gate<L> {
    pub fn new(inner: L, policy: Policy, size: Arc<AtomicU64>, stats: Arc<Stats>) -> Self {
        Gate {
            inner,
            policy,
            size,
            base: 0,
            stats,
        }
    }

    /// The same for a window that begins at `base`.
    pub fn shifted(mut self, base: u64) -> Self {
        self.base = base;
        self
    }

    /// The request as the node below gets it; `Err` with its end when it does not.
    fn pass(&self, request: &IoReq) -> Result<Op, io::Result<()>> {
        if let Some((offset, len)) = request.range() {
            let end = offset.checked_add(len);
            let inside = end.is_some_and(|end| end <= self.size.load(Ordering::Acquire));
            if !inside || !(offset | len).is_multiple_of(self.policy.granule.max(1).into()) {
                return Err(Err(io::Error::from_raw_os_error(libc::EIO)));
            }
            if request.op.is_write() && self.policy.read_only {
                return Err(Err(io::Error::from_raw_os_error(libc::EPERM)));
            }
            if len == 0 {
                return Err(Ok(()));
            }
        }
        let op = match request.op {
            Op::Flush if self.policy.no_flush => return Err(Ok(())),
            Op::Discard { .. } if self.policy.discard == Discard::Ignore => return Err(Ok(())),
            Op::Read { .. } | Op::Flush | Op::Discard { .. } => request.op,
            Op::Write { offset, durability } => self.pass_write(request, offset, durability),
            Op::WriteZeroes {
                offset,
                len,
                unmap,
                durability,
            } => Op::WriteZeroes {
                offset,
                len,
                unmap: self.allowed(unmap),
                durability: self.needed(durability),
            },
        };
        op.shifted(self.base)
            .ok_or(Err(io::Error::from_raw_os_error(libc::EIO)))
    }

    fn pass_write(&self, request: &IoReq, offset: u64, durability: Durability) -> Op {
        let durability = self.needed(durability);
        let unmap = match self.policy.detect_zeroes {
            DetectZeroes::Off => return Op::Write { offset, durability },
            DetectZeroes::On => Unmap::Keep,
            DetectZeroes::Unmap => Unmap::May,
        };
        if !request.buffers.is_zero() {
            return Op::Write { offset, durability };
        }
        Op::WriteZeroes {
            offset,
            len: request.buffers.len(),
            unmap: self.allowed(unmap),
            durability,
        }
    }

    fn allowed(&self, unmap: Unmap) -> Unmap {
        match self.policy.discard {
            Discard::Ignore => Unmap::Keep,
            Discard::Unmap => unmap,
        }
    }

    fn needed(&self, durability: Durability) -> Durability {
        if self.policy.no_flush {
            Durability::Cached
        } else {
            durability
        }
    }

    fn ended(&self, done: Done) -> Done {
        self.stats.request_ended(&done.request, &done.result);
        done
    }
}

impl<L: IoLane> IoLane for Gate<L> {
    fn submit(&mut self, mut request: IoReq, token: Token) -> Option<Done> {
        match self.pass(&request) {
            Ok(op) => {
                request.op = op;
                let done = self.inner.submit(request, token)?;
                Some(self.ended(done))
            }
            Err(result) => Some(self.ended(Done {
                token,
                result,
                request,
            })),
        }
    }

    fn start(&mut self) {
        self.inner.start();
    }

    fn event_fd(&self) -> RawFd {
        self.inner.event_fd()
    }

    fn reap(&mut self, done: &mut Vec<Done>) {
        let before = done.len();
        self.inner.reap(done);
        for done in done.iter().skip(before) {
            self.stats.request_ended(&done.request, &done.result);
        }
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}

impl IoLane for Box<dyn IoLane> {
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done> {
        (**self).submit(request, token)
    }

    fn start(&mut self) {
        (**self).start();
    }

    fn event_fd(&self) -> RawFd {
        (**self).event_fd()
    }

    fn reap(&mut self, done: &mut Vec<Done>) {
        (**self).reap(done);
    }

    fn in_flight(&self) -> usize {
        (**self).in_flight()
    }
}
