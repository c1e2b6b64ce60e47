//! `blkdebug`: a node that makes requests fail, for tests.

mod config;
mod event;
mod rules;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffers::Buffers;
use crate::edge::{Edge, EdgeLane};
use crate::error::BlockError;
use crate::file::FileOpener;
use crate::gate::{Gate, Policy, Screen};
use crate::graph::Perms;
use crate::node::{Activity, BlockNode, Extent, IoLane, NodeInfo};
use crate::request::{Done, IoReq, Op, Token};
use crate::stats::Stats;
use crate::waker::Waker;
pub use event::Event;
use rules::{Asked, Fault, Rules};
pub use rules::{InjectError, IoType, SetState};

/// Options of `blkdebug` beside its node below.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlkdebugSpec {
    /// What fails.
    pub inject: Vec<InjectError>,
    /// What changes the state.
    pub set_state: Vec<SetState>,
    /// A file with more of both.
    pub config: Option<String>,
}

impl BlkdebugSpec {
    /// With what its file says, read now.
    ///
    /// # Errors
    /// When it cannot be read, or says what is not known.
    pub(crate) fn complete(
        mut self,
        opener: &mut dyn FileOpener,
    ) -> Result<BlkdebugSpec, BlockError> {
        if let Some(path) = self.config.take() {
            let flags = libc::O_RDONLY | libc::O_CLOEXEC;
            let file = opener
                .open(&path, flags)
                .map_err(|error| BlockError::host("Could not read blkdebug config file", error))?;
            config::read(file, &path, &mut self)?;
        }
        Ok(self)
    }
}

pub(crate) struct BlkdebugNode {
    below: Edge,
    faults: Arc<Faults>,
    screen: Screen,
}

/// A leaf.
struct Faults(Mutex<Rules>);

impl Faults {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of a request. The events that a request itself is happen first.
    fn check(&self, op: Op, buffers: &Buffers) -> Option<Fault> {
        let io_type = match op {
            Op::Read { .. } => IoType::Read,
            Op::Write { .. } => IoType::Write,
            Op::WriteZeroes { .. } => IoType::WriteZeroes,
            Op::Discard { .. } => IoType::Discard,
            Op::Flush => IoType::Flush,
        };
        let events: &[Event] = match op {
            Op::Read { .. } | Op::Discard { .. } => &[],
            Op::Write { .. } => &[Event::Pwritev],
            Op::WriteZeroes { .. } => &[Event::PwritevZero],
            Op::Flush => &[Event::FlushToOs, Event::FlushToDisk],
        };
        let (offset, len) = op.range(buffers).unwrap_or((0, 0));
        let mut rules = self.rules();
        events.iter().for_each(|event| rules.event(*event));
        rules.check(Asked {
            io_type,
            offset,
            len,
        })
    }

    fn ended(&self, op: Op) {
        match op {
            Op::Write { .. } | Op::WriteZeroes { .. } => self.rules().event(Event::PwritevDone),
            Op::Read { .. } | Op::Discard { .. } | Op::Flush => {}
        }
    }
}

impl BlkdebugNode {
    pub fn open(below: Edge, spec: BlkdebugSpec, policy: Policy, stats: Arc<Stats>) -> Self {
        let size = below.info().size;
        let BlkdebugSpec {
            inject, set_state, ..
        } = spec;
        BlkdebugNode {
            below,
            faults: Arc::new(Faults(Mutex::new(Rules::new(inject, set_state)))),
            screen: Screen::new(policy, size, stats),
        }
    }
}

impl BlockNode for BlkdebugNode {
    fn info(&self) -> NodeInfo {
        NodeInfo {
            size: self.screen.size(),
            read_only: self.screen.policy().read_only,
            ..self.below.info()
        }
    }

    fn allocated(&self) -> Option<u64> {
        self.below.node()?.allocated()
    }

    fn open_lane(&self, depth: u32, waker: &Waker) -> Result<Box<dyn IoLane>, BlockError> {
        let lane = BlkdebugLane {
            inner: self.below.open_lane(depth, waker)?,
            faults: self.faults.clone(),
            failed: Vec::new(),
            waker: waker.clone(),
        };
        Ok(Box::new(Gate::new(lane, self.screen.clone())))
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        self.screen.perform(op, buffers, |op| {
            let result = match self.faults.check(op, buffers) {
                Some(fault) => Err(io::Error::from_raw_os_error(fault.errno)),
                None => self.below.perform(op, buffers),
            };
            self.faults.ended(op);
            result
        })
    }

    fn extent(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let len = len.min(self.screen.size().saturating_sub(offset));
        let fault = self.faults.rules().check(Asked {
            io_type: IoType::BlockStatus,
            offset,
            len,
        });
        match fault {
            Some(fault) => Err(io::Error::from_raw_os_error(fault.errno)),
            None => self.below.extent(offset, len),
        }
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        let below = self.below.node().ok_or(BlockError::Empty)?;
        below.resize(size)?;
        self.screen.set_size(below.info().size);
        Ok(())
    }

    fn set_perms(&self, _perms: Perms) -> Result<(), BlockError> {
        Ok(())
    }

    fn set_activity(&self, activity: Activity) -> Result<(), BlockError> {
        self.screen.set_size(self.below.info().size);
        self.screen.set_activity(activity);
        Ok(())
    }

    fn event(&self, event: Event) {
        self.faults.rules().event(event);
        self.below.event(event);
    }
}

struct BlkdebugLane {
    inner: EdgeLane,
    faults: Arc<Faults>,
    /// Those that fail with the next look.
    failed: Vec<Done>,
    waker: Waker,
}

impl IoLane for BlkdebugLane {
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done> {
        let op = request.op;
        let Some(fault) = self.faults.check(op, &request.buffers) else {
            let done = self.inner.submit(request, token)?;
            self.faults.ended(op);
            return Some(done);
        };
        self.faults.ended(op);
        let done = Done {
            token,
            result: Err(io::Error::from_raw_os_error(fault.errno)),
            request,
        };
        if fault.immediately {
            return Some(done);
        }
        self.failed.push(done);
        self.waker.wake();
        None
    }

    fn start(&mut self) {
        self.inner.start();
    }

    fn reap(&mut self, done: &mut Vec<Done>) {
        let before = done.len();
        self.inner.reap(done);
        for done in done.iter().skip(before) {
            self.faults.ended(done.request.op);
        }
        done.append(&mut self.failed);
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight().saturating_add(self.failed.len())
    }
}

#[cfg(test)]
#[path = "blkdebug_test.rs"]
mod tests;
