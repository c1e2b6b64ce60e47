//! What all nodes do with a request before and after their own part: check its range, apply the
//! node's options, count it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::buffers::Buffers;
use crate::node::{Activity, IoLane};
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

/// A node's options, size and counters, as all its lanes need them.
#[derive(Clone)]
pub(crate) struct Screen {
    shared: Arc<Shared>,
    /// Added to offsets.
    base: u64,
    pub stats: Arc<Stats>,
}

struct Shared {
    /// Read when a lane is opened. A leaf.
    policy: Mutex<Policy>,
    size: AtomicU64,
    /// Another program has the image: it is not written.
    inactive: AtomicBool,
}

impl Screen {
    pub fn new(policy: Policy, size: u64, stats: Arc<Stats>) -> Self {
        let (policy, size) = (Mutex::new(policy), AtomicU64::new(size));
        Screen {
            shared: Arc::new(Shared {
                policy,
                size,
                inactive: AtomicBool::new(false),
            }),
            base: 0,
            stats,
        }
    }

    /// The node's options now.
    pub fn policy(&self) -> Policy {
        let policy = self.shared.policy.lock();
        *policy.unwrap_or_else(PoisonError::into_inner)
    }

    /// Other options, for lanes that are opened from now on.
    pub fn set_policy(&self, policy: Policy) {
        let mut place = self
            .shared
            .policy
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *place = policy;
    }

    /// The same for a window that begins at `base`.
    pub fn shifted(mut self, base: u64) -> Self {
        self.base = base;
        self
    }

    pub fn size(&self) -> u64 {
        self.shared.size.load(Ordering::Acquire)
    }

    pub fn set_size(&self, size: u64) {
        self.shared.size.store(size, Ordering::Release);
    }

    /// Whether the node is in use by this program: if not, nothing is written, and there is
    /// nothing to flush.
    pub fn set_activity(&self, activity: Activity) {
        let inactive = activity == Activity::Inactive;
        self.shared.inactive.store(inactive, Ordering::Release);
    }

    /// See [`Self::set_activity`].
    pub fn is_active(&self) -> bool {
        !self.shared.inactive.load(Ordering::Acquire)
    }

    /// A whole request by `inner`, which blocks.
    pub fn perform(
        &self,
        op: Op,
        buffers: &Buffers,
        inner: impl FnOnce(Op) -> io::Result<()>,
    ) -> io::Result<()> {
        let started = Instant::now();
        let result = match self.pass(&self.policy(), op, buffers) {
            Ok(op) => inner(op),
            Err(result) => result,
        };
        let range = op.range(buffers);
        self.stats.op_ended(op, range, started, &result);
        result
    }

    /// The request as the node below gets it; `Err` with its end when it does not.
    fn pass(&self, policy: &Policy, op: Op, buffers: &Buffers) -> Result<Op, io::Result<()>> {
        if let Some((offset, len)) = op.range(buffers) {
            let end = offset.checked_add(len);
            let inside = end.is_some_and(|end| end <= self.size());
            if !inside || !(offset | len).is_multiple_of(policy.granule.max(1).into()) {
                return Err(Err(io::Error::from_raw_os_error(libc::EIO)));
            }
            if op.is_write() && (policy.read_only || !self.is_active()) {
                return Err(Err(io::Error::from_raw_os_error(libc::EPERM)));
            }
            if len == 0 {
                return Err(Ok(()));
            }
            if matches!(op, Op::Write { .. } | Op::WriteZeroes { .. }) {
                self.stats.about_to_write(offset.saturating_add(len));
            }
        }
        let op = match op {
            Op::Flush if policy.no_flush || !self.is_active() => return Err(Ok(())),
            Op::Discard { .. } if policy.discard == Discard::Ignore => return Err(Ok(())),
            Op::Read { .. } | Op::Flush | Op::Discard { .. } => op,
            Op::Write { offset, durability } => policy.pass_write(buffers, offset, durability),
            Op::WriteZeroes {
                offset,
                len,
                unmap,
                durability,
            } => Op::WriteZeroes {
                offset,
                len,
                unmap: policy.allowed(unmap),
                durability: policy.needed(durability),
            },
        };
        op.shifted(self.base)
            .ok_or(Err(io::Error::from_raw_os_error(libc::EIO)))
    }
}

impl Policy {
    fn pass_write(&self, buffers: &Buffers, offset: u64, durability: Durability) -> Op {
        let durability = self.needed(durability);
        let unmap = match self.detect_zeroes {
            DetectZeroes::Off => return Op::Write { offset, durability },
            DetectZeroes::On => Unmap::Keep,
            DetectZeroes::Unmap => Unmap::May,
        };
        if !buffers.is_zero() {
            return Op::Write { offset, durability };
        }
        Op::WriteZeroes {
            offset,
            len: buffers.len(),
            unmap: self.allowed(unmap),
            durability,
        }
    }

    fn allowed(&self, unmap: Unmap) -> Unmap {
        match self.discard {
            Discard::Ignore => Unmap::Keep,
            Discard::Unmap => unmap,
        }
    }

    fn needed(&self, durability: Durability) -> Durability {
        if self.no_flush {
            Durability::Cached
        } else {
            durability
        }
    }
}

/// A lane with its node's options in front of it.
pub(crate) struct Gate<L> {
    inner: L,
    screen: Screen,
    policy: Policy,
}

impl<L: IoLane> Gate<L> {
    pub fn new(inner: L, screen: Screen) -> Self {
        let policy = screen.policy();
        Gate {
            inner,
            screen,
            policy,
        }
    }

    fn ended(&self, done: Done) -> Done {
        self.screen.stats.request_ended(&done.request, &done.result);
        done
    }
}

impl<L: IoLane> IoLane for Gate<L> {
    fn submit(&mut self, mut request: IoReq, token: Token) -> Option<Done> {
        match self.screen.pass(&self.policy, request.op, &request.buffers) {
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

    fn reap(&mut self, done: &mut Vec<Done>) {
        let before = done.len();
        self.inner.reap(done);
        for done in done.iter().skip(before) {
            self.screen.stats.request_ended(&done.request, &done.result);
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

    fn reap(&mut self, done: &mut Vec<Done>) {
        (**self).reap(done);
    }

    fn in_flight(&self) -> usize {
        (**self).in_flight()
    }
}
