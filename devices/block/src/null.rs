//! `null-co`: a node with nothing behind it, for tests and measurements.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::buffers::Buffers;
use crate::error::BlockError;
use crate::gate::{Gate, Policy, Screen};
use crate::graph::Perms;
use crate::node::{Activity, BlockNode, Extent, ExtentKind, IoLane, NodeInfo, SECTOR};
use crate::pool::Pool;
use crate::request::{Done, IoReq, Op, Token};
use crate::stats::Stats;
use crate::waker::Waker;

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
    screen: Screen,
    pool: Pool,
}

impl NullNode {
    pub fn open(spec: NullSpec, policy: Policy, pool: &Pool, stats: Arc<Stats>) -> Self {
        NullNode {
            spec,
            screen: Screen::new(policy, sectors_up(spec.size), stats),
            pool: pool.clone(),
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
            size: self.screen.size(),
            read_only: self.screen.policy().read_only,
            granule: 1,
        }
    }

    fn allocated(&self) -> Option<u64> {
        Some(0)
    }

    fn open_lane(&self, _depth: u32, waker: &Waker) -> Result<Box<dyn IoLane>, BlockError> {
        let lane = NullLane {
            latency: Duration::from_nanos(self.spec.latency_ns),
            read_zeroes: self.spec.read_zeroes,
            pool: self.pool.clone(),
            waker: waker.clone(),
            waiting: VecDeque::new(),
        };
        Ok(Box::new(Gate::new(lane, self.screen.clone())))
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        self.screen.perform(op, buffers, |op| {
            if is_slow(op) {
                std::thread::sleep(Duration::from_nanos(self.spec.latency_ns));
            }
            if self.spec.read_zeroes && matches!(op, Op::Read { .. }) {
                buffers.zero_from(0);
            }
            Ok(())
        })
    }

    fn extent(&self, offset: u64, len: u64) -> io::Result<Extent> {
        Ok(Extent {
            len: len.min(self.screen.size().saturating_sub(offset)),
            kind: match self.spec.read_zeroes {
                true => ExtentKind::Zero,
                false => ExtentKind::Data,
            },
        })
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        self.screen.set_size(sectors_up(size));
        Ok(())
    }

    fn set_perms(&self, _perms: Perms) -> Result<(), BlockError> {
        Ok(())
    }

    fn set_activity(&self, activity: Activity) -> Result<(), BlockError> {
        self.screen.set_activity(activity);
        Ok(())
    }
}

/// As in QEMU, there is no latency where there is no data to write.
fn is_slow(op: Op) -> bool {
    match op {
        Op::Read { .. } | Op::Write { .. } | Op::Flush => true,
        Op::Discard { .. } | Op::WriteZeroes { .. } => false,
    }
}

struct NullLane {
    latency: Duration,
    read_zeroes: bool,
    pool: Pool,
    waker: Waker,
    /// In order of time.
    waiting: VecDeque<(Instant, Done)>,
}

impl NullLane {
    fn arm(&mut self) {
        if let Some((due, _)) = self.waiting.front() {
            self.pool.wake_at(*due, self.waker.clone());
        }
    }
}

impl IoLane for NullLane {
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done> {
        if self.read_zeroes && matches!(request.op, Op::Read { .. }) {
            request.buffers.zero_from(0);
        }
        let slow = is_slow(request.op) && !self.latency.is_zero();
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

    fn reap(&mut self, done: &mut Vec<Done>) {
        let now = Instant::now();
        let before = done.len();
        while let Some((_, ended)) = self.waiting.pop_front_if(|(due, _)| *due <= now) {
            done.push(ended);
        }
        if done.len() > before {
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
    use crate::buffers::HostBuffer;
    use crate::pool::test_pool;

    fn lane(spec: NullSpec, waker: &Waker) -> Box<dyn IoLane> {
        let node = NullNode::open(spec, Policy::default(), &test_pool(), Arc::default());
        node.open_lane(4, waker).unwrap()
    }

    fn read(lane: &mut dyn IoLane, memory: &Arc<HostBuffer>, token: u64) -> Option<Done> {
        let buffers = Buffers::owned(memory.clone());
        lane.submit(IoReq::new(Op::Read { offset: 0 }, buffers), Token(token))
    }

    #[test]
    fn buffers_stay_as_they_are_unless_zeroes_are_asked_for() {
        let memory = HostBuffer::from_bytes(&[1; 512], 8);
        let mut spec = NullSpec::default();
        let waker = Waker::new().unwrap();
        let done = read(&mut lane(spec, &waker), &memory, 0).unwrap();
        done.result.unwrap();
        assert_eq!(memory.to_vec(), [1; 512]);
        spec.read_zeroes = true;
        let _ = read(&mut lane(spec, &waker), &memory, 0).unwrap();
        assert_eq!(memory.to_vec(), [0; 512]);
    }

    #[test]
    fn latency_is_kept_in_order() {
        let memory = HostBuffer::from_bytes(&[1; 512], 8);
        let waker = Waker::new().unwrap();
        let spec = NullSpec {
            latency_ns: 5_000_000,
            ..NullSpec::default()
        };
        let mut lane = lane(spec, &waker);
        let begin = Instant::now();
        for token in 0..3 {
            assert!(read(&mut lane, &memory, token).is_none());
        }
        let mut done = Vec::new();
        lane.reap(&mut done);
        assert!(done.is_empty());
        while lane.in_flight() > 0 {
            waker.wait();
            waker.clear();
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
