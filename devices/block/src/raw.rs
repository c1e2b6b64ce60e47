//! `raw`: the bytes of the node below as they are, or a window of them.

use std::io;
use std::sync::Arc;

use crate::buffers::Buffers;
use crate::edge::Edge;
use crate::error::BlockError;
use crate::filter::Event;
use crate::gate::{Gate, Policy, Screen};
use crate::graph::Perms;
use crate::node::{BlockNode, Extent, IoLane, NodeInfo, SECTOR};
use crate::request::Op;
use crate::stats::Stats;
use crate::waker::Waker;

/// A window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawWindow {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is; up to the end where it is not given.
    pub size: Option<u64>,
}

pub(crate) struct RawNode {
    below: Edge,
    window: RawWindow,
    screen: Screen,
}

impl RawNode {
    pub fn open(
        below: Edge,
        window: RawWindow,
        policy: Policy,
        stats: Arc<Stats>,
    ) -> Result<Self, BlockError> {
        let info = below.info();
        let size = window_size(window, info.size)?;
        if !window.offset.is_multiple_of(info.granule.into()) {
            return Err(BlockError::OffsetNotSectors);
        }
        Ok(RawNode {
            below,
            window,
            screen: Screen::new(policy, size, stats).shifted(window.offset),
        })
    }
}

fn window_size(window: RawWindow, below: u64) -> Result<u64, BlockError> {
    let RawWindow { offset, size } = window;
    let left = below
        .checked_sub(offset)
        .ok_or(BlockError::OffsetBeyondEnd {
            offset,
            size: below,
        })?;
    let Some(len) = size else {
        return Ok(left / SECTOR * SECTOR);
    };
    if len > left {
        return Err(BlockError::WindowBeyondEnd {
            offset,
            len,
            size: below,
        });
    }
    if !len.is_multiple_of(SECTOR) {
        return Err(BlockError::SizeNotSectors);
    }
    Ok(len)
}

impl BlockNode for RawNode {
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
        let lane = self.below.open_lane(depth, waker)?;
        Ok(Box::new(Gate::new(lane, self.screen.clone())))
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        self.screen
            .perform(op, buffers, |op| self.below.perform(op, buffers))
    }

    fn extent(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let len = len.min(self.screen.size().saturating_sub(offset));
        let offset = offset.saturating_add(self.window.offset);
        self.below.extent(offset, len)
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        if self.window.size.is_some() {
            return Err(BlockError::NoResize);
        }
        let below = self.below.node().ok_or(BlockError::Empty)?;
        let end = self.window.offset.checked_add(size);
        below.resize(end.ok_or(BlockError::NoResize)?)?;
        let size = window_size(self.window, below.info().size)?;
        self.screen.set_size(size);
        Ok(())
    }

    fn set_perms(&self, _perms: Perms) -> Result<(), BlockError> {
        Ok(())
    }

    fn event(&self, event: Event) {
        self.below.event(event);
    }
}
