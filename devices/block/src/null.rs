//! `null-co`: a node with nothing behind it, for tests and measurements.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vmm_sys_util::timerfd::TimerFd;

use crate::error::BlockError;
use crate::gate::{Gate, Policy};
use crate::graph::Perms;
use crate::node::{BlockNode, IoLane, NodeInfo, SECTOR};
use crate::request::{Done, IoReq, Op, Token};
use crate::stats::Stats;

/// Options of `null-co`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NullSpec {
    /// Bytes; rounded up to sectors.
    pub size: u64,
    /// How long a request takes.
    pub latency_ns: u64,
    /// Reads give zeroes rather than leave the buffers as they are.
    pub read_zeroes: bool,
}

impl Default for NullSpec {
    fn default() -> Self {
        NullSpec {
            size: 1 << 30,
            latency_ns: 0,
            read_zeroes: false,
        }
    }
}

pub(crate) struct NullNode {
    spec: NullSpec,
    policy: Policy,
    size: Arc<AtomicU64>,
    stats: Arc<Stats>,
}

impl NullNode {
    pub fn open(spec: NullSpec, policy: Policy, stats: Arc<Stats>) -> Self {
        NullNode {
            spec,
            policy,
            size: Arc::new(AtomicU64::new(sectors_up(spec.size))),
            stats,
        }
    }
}

/// Rounded up to sectors.
pub(crate) fn sectors_up(bytes: u64) -> u64 {
    bytes
        .checked_next_multiple_of(SECTOR)
        .unwrap_or(u64::MAX / SECTOR * SECTOR)
}

impl BlockNode for NullNode {
    fn info(&self) -> NodeInfo {
        NodeInfo {
            size: self.size.load(Ordering::Acquire),
            read_only: self.policy.read_only,
            granule: 1,
        }
    }

    fn allocated(&self) -> Option<u64> {
        Some(0)
    }

    fn open_lane(&self, _depth: u32) -> Result<Box<dyn IoLane>, BlockError> {
        let timer = TimerFd::new()
            .map_err(|error| BlockError::host("Could not make a timer", error.into()))?;
        let lane = NullLane {
            latency: Duration::from_nanos(self.spec.latency_ns),
            read_zeroes: self.spec.read_zeroes,
            timer,
            waiting: VecDeque::new(),
        };
        let (size, stats) = (self.size.clone(), self.stats.clone());
        Ok(Box::new(Gate::new(lane, self.policy, size, stats)))
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        self.size.store(sectors_up(size), Ordering::Release);
        Ok(())
    }

    fn set_perms(&self, _perms: Perms) -> Result<(), BlockError> {
        Ok(())
    }
}

struct NullLane {
    latency: Duration,
    read_zeroes: bool,
    /// Expires when the first of `waiting` is due.
    timer: TimerFd,
    /// In order of time.
    waiting: VecDeque<(Instant, Done)>,
}

impl NullLane {
    fn arm(&mut self) {
        let Some((due, _)) = self.waiting.front() else {
            return;
        };
        // A duration of zero would disarm it.
        let left = due.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_nanos(1));
        if let Err(error) = self.timer.reset(left, None) {
            log::error!("Could not set a timer: {error}");
        }
    }
}

impl IoLane for NullLane {
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done> {
        if self.read_zeroes && matches!(request.op, Op::Read { .. }) {
            request.buffers.zero_from(0);
        }
        // As in QEMU, there is no latency where there is no data to write.
        let slow = match request.op {
            Op::Read { .. } | Op::Write { .. } | Op::Flush => !self.latency.is_zero(),
            Op::Discard { .. } | Op::WriteZeroes { .. } => false,
        };
        let done = Done {
            token,
            result: Ok(()),
            request,
        };
        if !slow {
            return Some(done);
        }
        let now = Instant::now();
        let due = now.checked_add(self.latency).unwrap_or(now);
        self.waiting.push_back((due, done));
        if self.waiting.len() == 1 {
            self.arm();
        }
        None
    }

    fn start(&mut self) {}

    fn event_fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }

    fn reap(&mut self, done: &mut Vec<Done>) {
        let now = Instant::now();
        let before = self.waiting.len();
        while let Some((_, ended)) = self.waiting.pop_front_if(|(due, _)| *due <= now) {
            done.push(ended);
        }
        if self.waiting.is_empty() {
            if before > 0 {
                let _ = self.timer.clear();
            }
        } else {
            self.arm();
        }
    }

    fn in_flight(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::{Buffers, HostBuffer};
    use crate::sys;

    fn lane(spec: NullSpec) -> Box<dyn IoLane> {
        let node = NullNode::open(spec, Policy::default(), Arc::default());
        node.open_lane(4).unwrap()
    }

    fn read(lane: &mut dyn IoLane, memory: &Arc<HostBuffer>, token: u64) -> Option<Done> {
        let buffers = Buffers::owned(memory.clone());
        lane.submit(IoReq::new(Op::Read { offset: 0 }, buffers), Token(token))
    }

    #[test]
    fn buffers_stay_as_they_are_unless_zeroes_are_asked_for() {
        let memory = HostBuffer::from_bytes(&[1; 512], 8);
        let mut spec = NullSpec::default();
        let done = read(&mut lane(spec), &memory, 0).unwrap();
        done.result.unwrap();
        assert_eq!(memory.to_vec(), [1; 512]);
        spec.read_zeroes = true;
        let _ = read(&mut lane(spec), &memory, 0).unwrap();
        assert_eq!(memory.to_vec(), [0; 512]);
    }

    #[test]
    fn latency_is_kept_in_order() {
        let memory = HostBuffer::from_bytes(&[1; 512], 8);
        let mut lane = lane(NullSpec {
            latency_ns: 5_000_000,
            ..NullSpec::default()
        });
        let begin = Instant::now();
        for token in 0..3 {
            assert!(read(&mut lane, &memory, token).is_none());
        }
        let mut done = Vec::new();
        lane.reap(&mut done);
        assert!(done.is_empty());
        while lane.in_flight() > 0 {
            sys::wait_readable(lane.event_fd());
            lane.reap(&mut done);
        }
        assert!(begin.elapsed() >= Duration::from_millis(5));
        let tokens: Vec<u64> = done.iter().map(|done| done.token.0).collect();
        assert_eq!(tokens, [0, 1, 2]);
    }

    #[test]
    fn sizes_are_rounded_up_to_sectors() {
        assert_eq!(sectors_up(1_048_577), 1_049_088);
        assert_eq!(sectors_up(u64::MAX), u64::MAX - 511);
    }
}
