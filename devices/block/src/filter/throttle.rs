//! `throttle`: a node whose requests are limited by a group.

use std::io;
use std::sync::Arc;

use crate::buffers::Buffers;
use crate::edge::{Edge, EdgeLane};
use crate::error::BlockError;
use crate::filter::Event;
use crate::gate::{Gate, Policy, Screen};
use crate::graph::Perms;
use crate::node::{Activity, BlockNode, Extent, IoLane, NodeInfo};
use crate::request::{Done, IoReq, Op, Token};
use crate::stats::Stats;
use crate::throttle::{Discards, Member, ThrottleGroup, ThrottleQueue};
use crate::waker::Waker;

pub(crate) struct ThrottleNode {
    below: Edge,
    member: Member,
    screen: Screen,
}

impl ThrottleNode {
    pub fn open(
        below: Edge,
        group: &Arc<ThrottleGroup>,
        policy: Policy,
        stats: Arc<Stats>,
    ) -> Self {
        let size = below.info().size;
        ThrottleNode {
            below,
            member: Member::new(group),
            screen: Screen::new(policy, size, stats),
        }
    }
}

impl BlockNode for ThrottleNode {
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
        let lane = ThrottleLane {
            inner: self.below.open_lane(depth, waker)?,
            queue: ThrottleQueue::new(&self.member, Discards::Counted, waker),
        };
        Ok(Box::new(Gate::new(lane, self.screen.clone())))
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        self.screen.perform(op, buffers, |op| {
            self.member.wait(op, buffers, Discards::Counted)?;
            self.below.perform(op, buffers)
        })
    }

    fn extent(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let len = len.min(self.screen.size().saturating_sub(offset));
        self.below.extent(offset, len)
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
        self.below.event(event);
    }
}

struct ThrottleLane {
    inner: EdgeLane,
    queue: ThrottleQueue,
}

impl IoLane for ThrottleLane {
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done> {
        let (request, token) = self.queue.admit(request, token)?;
        self.inner.submit(request, token)
    }

    fn start(&mut self) {
        self.inner.start();
    }

    fn reap(&mut self, done: &mut Vec<Done>) {
        self.inner.reap(done);
        if self.queue.len() == 0 {
            return;
        }
        while let Some((request, token)) = self.queue.next() {
            done.extend(self.inner.submit(request, token));
        }
        self.inner.start();
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight().saturating_add(self.queue.len())
    }
}
