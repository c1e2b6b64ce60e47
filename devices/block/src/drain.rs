//! The gate before a back end's node: while it is shut, new requests wait, and whoever shut it
//! waits for those in flight. That is how the graph changes under running devices.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::edge::EdgeLane;
use crate::node::IoLane;
use crate::request::{Done, IoReq, Token};
use crate::throttle::{BackendThrottle, ThrottleSwitch};
use crate::waker::Waker;

/// The gate of one back end; all its lanes pass it.
#[derive(Default)]
pub(crate) struct DrainGate {
    /// How many hold it shut.
    shut: AtomicUsize,
    /// Requests that have passed and not ended.
    in_flight: AtomicUsize,
    /// Lanes to be woken when it opens. A leaf.
    lanes: Mutex<Vec<Waker>>,
    idle: Condvar,
}

impl DrainGate {
    fn lanes(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request in, unless the gate is shut.
    fn enter(&self) -> bool {
        // First in, then the look at the gate: whoever shuts it does the two the other way round,
        // so that one of them sees the other.
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let open = self.shut.load(Ordering::SeqCst) == 0;
        if !open {
            self.leave(1);
        }
        open
    }

    fn leave(&self, count: usize) {
        let before = self.in_flight.fetch_sub(count, Ordering::SeqCst);
        if before == count && self.shut.load(Ordering::SeqCst) > 0 {
            let _lanes = self.lanes();
            self.idle.notify_all();
        }
    }

    /// Shuts it; what is in flight goes on, and is not held up by limits of nodes below.
    pub fn shut(self: &Arc<Self>) -> Shut {
        self.shut.fetch_add(1, Ordering::SeqCst);
        let hurried = self.lanes().clone();
        hurried.iter().for_each(Waker::hurry);
        Shut {
            gate: self.clone(),
            hurried,
        }
    }

    /// Has all lanes looked at anew.
    pub fn wake_lanes(&self) {
        self.lanes().iter().for_each(Waker::wake);
    }
}

/// Holds a gate shut until it is dropped.
pub(crate) struct Shut {
    gate: Arc<DrainGate>,
    /// Lanes that were there when it was shut.
    hurried: Vec<Waker>,
}

impl Shut {
    /// Waits until nothing is in flight. Blocks for the time of the requests in flight, which end
    /// on I/O threads; they wait for nobody.
    pub fn wait(&self) {
        let mut lanes = self.gate.lanes();
        while self.gate.in_flight.load(Ordering::SeqCst) > 0 {
            lanes = self
                .gate
                .idle
                .wait(lanes)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether it is that gate.
    pub fn is(&self, gate: &Arc<DrainGate>) -> bool {
        Arc::ptr_eq(&self.gate, gate)
    }
}

impl Drop for Shut {
    fn drop(&mut self) {
        self.hurried.iter().for_each(Waker::calm);
        if self.gate.shut.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.gate.wake_lanes();
        }
    }
}

/// A back end's lane: first its limits, then its gate.
pub(crate) struct RootLane {
    gate: Arc<DrainGate>,
    inner: EdgeLane,
    waker: Waker,
    throttle: BackendThrottle,
    /// Requests before the gate.
    waiting: VecDeque<(IoReq, Token)>,
}

impl RootLane {
    pub fn new(
        gate: &Arc<DrainGate>,
        throttle: &Arc<ThrottleSwitch>,
        inner: EdgeLane,
        waker: &Waker,
    ) -> Self {
        gate.lanes().push(waker.clone());
        RootLane {
            gate: gate.clone(),
            inner,
            waker: waker.clone(),
            throttle: BackendThrottle::new(throttle, waker),
            waiting: VecDeque::new(),
        }
    }

    /// Behind the limits.
    fn go(&mut self, request: IoReq, token: Token) -> Option<Done> {
        if !self.waiting.is_empty() || !self.gate.enter() {
            self.waiting.push_back((request, token));
            return None;
        }
        self.pass(request, token)
    }

    fn pass(&mut self, request: IoReq, token: Token) -> Option<Done> {
        let done = self.inner.submit(request, token)?;
        self.gate.leave(1);
        Some(done)
    }
}

impl IoLane for RootLane {
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done> {
        let (request, token) = self.throttle.admit(request, token)?;
        self.go(request, token)
    }

    fn start(&mut self) {
        self.inner.start();
    }

    fn reap(&mut self, done: &mut Vec<Done>) {
        let before = done.len();
        self.inner.reap(done);
        let ended = done.len().saturating_sub(before);
        if ended > 0 {
            self.gate.leave(ended);
        }
        self.throttle.look();
        if self.waiting.is_empty() && self.throttle.len() == 0 {
            return;
        }
        while !self.waiting.is_empty() && self.gate.enter() {
            if let Some((request, token)) = self.waiting.pop_front() {
                done.extend(self.pass(request, token));
            }
        }
        while let Some((request, token)) = self.throttle.next() {
            done.extend(self.go(request, token));
        }
        self.inner.start();
    }

    fn in_flight(&self) -> usize {
        let before = self.waiting.len().saturating_add(self.throttle.len());
        self.inner.in_flight().saturating_add(before)
    }
}

impl Drop for RootLane {
    fn drop(&mut self) {
        let mut lanes = self.gate.lanes();
        if let Some(at) = lanes.iter().position(|waker| waker.is(&self.waker)) {
            lanes.swap_remove(at);
        }
        drop(lanes);
        // What is in flight ends with the inner lane, before anybody else may count on it.
        self.waker.hurry();
        let mut ended = Vec::new();
        while self.inner.in_flight() > 0 {
            self.inner.start();
            self.waker.wait();
            self.waker.clear();
            self.inner.reap(&mut ended);
            if !ended.is_empty() {
                self.gate.leave(ended.len());
                ended.clear();
            }
        }
        self.waker.calm();
        self.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::Buffers;
    use crate::edge::Edge;
    use crate::gate::Policy;
    use crate::null::{NullNode, NullSpec};
    use crate::pool::test_pool;
    use crate::request::Op;
    use std::time::{Duration, Instant};

    #[test]
    fn a_shut_gate_keeps_requests_and_lets_those_in_flight_end() {
        let spec = NullSpec {
            latency_ns: 20_000_000,
            ..NullSpec::default()
        };
        let node = NullNode::open(spec, Policy::default(), &test_pool(), Arc::default());
        let edge = Edge::new(Some(Arc::new(node)));
        let waker = Waker::new().unwrap();
        let gate = Arc::new(DrainGate::default());
        let inner = edge.open_lane(4, &waker).unwrap();
        let mut lane = RootLane::new(&gate, &Arc::default(), inner, &waker);
        let request = || IoReq::new(Op::Flush, Buffers::new());
        assert!(lane.submit(request(), Token(1)).is_none());
        let shut = gate.shut();
        assert!(lane.submit(request(), Token(2)).is_none());
        let begin = Instant::now();
        let waits = std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                shut.wait();
                begin.elapsed()
            });
            let mut done = Vec::new();
            while done.is_empty() {
                waker.wait();
                waker.clear();
                lane.reap(&mut done);
            }
            assert_eq!(done[0].token, Token(1));
            waits.join().unwrap()
        });
        assert!(waits >= Duration::from_millis(15));
        assert_eq!(lane.in_flight(), 1);
        waker.clear();
        drop(shut);
        let mut done = Vec::new();
        while done.is_empty() {
            waker.wait();
            waker.clear();
            lane.reap(&mut done);
        }
        assert_eq!(done[0].token, Token(2));
        assert!(begin.elapsed() >= Duration::from_millis(35));
    }

    #[test]
    fn dropping_a_lane_counts_its_requests_out() {
        let spec = NullSpec {
            latency_ns: 5_000_000,
            ..NullSpec::default()
        };
        let node = NullNode::open(spec, Policy::default(), &test_pool(), Arc::default());
        let edge = Edge::new(Some(Arc::new(node)));
        let waker = Waker::new().unwrap();
        let gate = Arc::new(DrainGate::default());
        let inner = edge.open_lane(4, &waker).unwrap();
        let mut lane = RootLane::new(&gate, &Arc::default(), inner, &waker);
        assert!(
            lane.submit(IoReq::new(Op::Flush, Buffers::new()), Token(1))
                .is_none()
        );
        drop(lane);
        gate.shut().wait();
    }
}
