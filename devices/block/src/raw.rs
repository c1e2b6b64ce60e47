//! `raw`: the bytes of the node below as they are, or a window of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::BlockError;
use crate::gate::{Gate, Policy};
use crate::graph::Perms;
use crate::node::{BlockNode, IoLane, NodeInfo, SECTOR};
use crate::stats::Stats;

/// A window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawWindow {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is; up to the end where it is not given.
    pub size: Option<u64>,
}

pub(crate) struct RawNode {
    below: Arc<dyn BlockNode>,
    window: RawWindow,
    policy: Policy,
    size: Arc<AtomicU64>,
    stats: Arc<Stats>,
}

impl RawNode {
    pub fn open(
        below: Arc<dyn BlockNode>,
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
            policy,
            size: Arc::new(AtomicU64::new(size)),
            stats,
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
            size: self.size.load(Ordering::Acquire),
            read_only: self.policy.read_only,
            ..self.below.info()
        }
    }

    fn allocated(&self) -> Option<u64> {
        self.below.allocated()
    }

    fn open_lane(&self, depth: u32) -> Result<Box<dyn IoLane>, BlockError> {
        let lane = self.below.open_lane(depth)?;
        let (size, stats) = (self.size.clone(), self.stats.clone());
        let gate = Gate::new(lane, self.policy, size, stats).shifted(self.window.offset);
        Ok(Box::new(gate))
    }

    fn flush(&self) -> Result<(), BlockError> {
        if self.policy.no_flush {
            return Ok(());
        }
        self.below.flush()
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        if self.window.size.is_some() {
            return Err(BlockError::NoResize);
        }
        let below = self.window.offset.checked_add(size);
        self.below.resize(below.ok_or(BlockError::NoResize)?)?;
        let size = window_size(self.window, self.below.info().size)?;
        self.size.store(size, Ordering::Release);
        Ok(())
    }

    fn set_perms(&self, _perms: Perms) -> Result<(), BlockError> {
        Ok(())
    }
}
