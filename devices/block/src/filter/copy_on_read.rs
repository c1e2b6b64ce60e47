//! `copy-on-read`: what a read finds not allocated in the node below is written there.
//!
//! Copying is reading and writing back. A write that came in between would be undone, so that
//! copies and writes that overlap exclude each other, whichever lanes they come from.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::blocking::{BlockingLane, Perform};
use crate::buffers::{Buffers, HostBuffer};
use crate::edge::Edge;
use crate::error::BlockError;
use crate::filter::Event;
use crate::gate::{Gate, Policy, Screen};
use crate::graph::Perms;
use crate::node::{Activity, BlockNode, Extent, ExtentKind, IoLane, NodeInfo};
use crate::pool::Pool;
use crate::request::{Durability, Op, Unmap};
use crate::stats::Stats;
use crate::waker::Waker;

/// Most bytes that are copied at once.
const CHUNK: u64 = 1 << 20;
/// Alignment of the copy's memory: satisfies direct I/O everywhere.
const ALIGN: usize = 4096;

pub(crate) struct CopyOnReadNode {
    inner: Arc<Inner>,
    screen: Screen,
    pool: Pool,
}

struct Inner {
    below: Edge,
    screen: Screen,
    busy: Busy,
}

impl CopyOnReadNode {
    pub fn open(below: Edge, policy: Policy, pool: &Pool, stats: Arc<Stats>) -> Self {
        let size = below.info().size;
        let screen = Screen::new(policy, size, stats);
        CopyOnReadNode {
            inner: Arc::new(Inner {
                below,
                screen: screen.clone(),
                busy: Busy::default(),
            }),
            screen,
            pool: pool.clone(),
        }
    }
}

impl Perform for Inner {
    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        match op {
            Op::Read { offset } => self.read(offset, buffers),
            Op::Flush => self.below.perform(op, buffers),
            Op::Write { .. } | Op::Discard { .. } | Op::WriteZeroes { .. } => {
                let (offset, len) = op.range(buffers).unwrap_or((0, 0));
                let _hold = self.busy.hold(offset, len, Use::Write);
                self.below.perform(op, buffers)
            }
        }
    }
}

impl Inner {
    fn read(&self, offset: u64, buffers: &Buffers) -> io::Result<()> {
        if self.screen.is_active() {
            self.fill(offset, buffers.len())?;
        }
        self.below.perform(Op::Read { offset }, buffers)
    }

    /// Copies what is not allocated in the range.
    fn fill(&self, offset: u64, len: u64) -> io::Result<()> {
        let (mut at, end) = (offset, offset.saturating_add(len));
        while at < end {
            let extent = self.below.extent(at, end.saturating_sub(at))?;
            if extent.len == 0 {
                break;
            }
            let len = extent.len.min(end.saturating_sub(at));
            let len = match extent.kind {
                ExtentKind::Data | ExtentKind::Zero => len,
                ExtentKind::Unallocated => {
                    let len = len.min(CHUNK);
                    self.copy(at, len)?;
                    len
                }
            };
            at = at.saturating_add(len);
        }
        Ok(())
    }

    fn copy(&self, offset: u64, len: u64) -> io::Result<()> {
        let _hold = self.busy.hold(offset, len, Use::Copy);
        // Somebody may have written it, or copied it, while this one waited.
        let extent = self.below.extent(offset, len)?;
        if extent.kind != ExtentKind::Unallocated {
            return Ok(());
        }
        let len = extent.len.min(len);
        let room = usize::try_from(len).map_err(io::Error::other)?;
        let memory = Buffers::owned(Arc::new(HostBuffer::new(room, ALIGN)));
        self.below.perform(Op::Read { offset }, &memory)?;
        let durability = Durability::Cached;
        if memory.is_zero() {
            let zeroes = Op::WriteZeroes {
                offset,
                len,
                unmap: Unmap::Keep,
                durability,
            };
            return self.below.perform(zeroes, &Buffers::new());
        }
        let write = Op::Write { offset, durability };
        self.below.perform(write, &memory)
    }
}

impl BlockNode for CopyOnReadNode {
    fn info(&self) -> NodeInfo {
        NodeInfo {
            size: self.screen.size(),
            read_only: self.screen.policy().read_only,
            ..self.inner.below.info()
        }
    }

    fn allocated(&self) -> Option<u64> {
        self.inner.below.node()?.allocated()
    }

    fn open_lane(&self, _depth: u32, waker: &Waker) -> Result<Box<dyn IoLane>, BlockError> {
        let lane = BlockingLane::new(self.inner.clone(), &self.pool, waker);
        Ok(Box::new(Gate::new(lane, self.screen.clone())))
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        self.screen
            .perform(op, buffers, |op| self.inner.perform(op, buffers))
    }

    fn extent(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let len = len.min(self.screen.size().saturating_sub(offset));
        self.inner.below.extent(offset, len)
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        let below = self.inner.below.node().ok_or(BlockError::Empty)?;
        below.resize(size)?;
        self.screen.set_size(below.info().size);
        Ok(())
    }

    fn set_perms(&self, _perms: Perms) -> Result<(), BlockError> {
        Ok(())
    }

    fn set_activity(&self, activity: Activity) -> Result<(), BlockError> {
        self.screen.set_size(self.inner.below.info().size);
        self.screen.set_activity(activity);
        Ok(())
    }

    fn event(&self, event: Event) {
        self.inner.below.event(event);
    }
}

/// How a range is used: writes get along with each other, copies with nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Write,
    Copy,
}

/// Ranges in use.
#[derive(Default)]
struct Busy {
    /// A leaf.
    ranges: Mutex<Ranges>,
    freed: Condvar,
}

#[derive(Default)]
struct Ranges {
    list: Vec<(u64, u64, u64, Use)>,
    next: u64,
}

struct Hold<'a> {
    busy: &'a Busy,
    id: u64,
}

impl Busy {
    fn ranges(&self) -> MutexGuard<'_, Ranges> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the range can be had. Whoever holds one waits for no other.
    fn hold(&self, offset: u64, len: u64, usage: Use) -> Hold<'_> {
        let end = offset.saturating_add(len);
        let mut ranges = self.ranges();
        let clash = |(_, start, stop, other): &(u64, u64, u64, Use)| {
            offset < *stop && *start < end && (usage == Use::Copy || *other == Use::Copy)
        };
        while ranges.list.iter().any(clash) {
            let waited = self.freed.wait(ranges);
            ranges = waited.unwrap_or_else(PoisonError::into_inner);
        }
        ranges.next = ranges.next.wrapping_add(1);
        let id = ranges.next;
        ranges.list.push((id, offset, end, usage));
        Hold { busy: self, id }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut ranges = self.busy.ranges();
        ranges.list.retain(|(id, ..)| *id != self.id);
        self.busy.freed.notify_all();
    }
}

#[cfg(test)]
#[path = "copy_on_read_test.rs"]
mod tests;
