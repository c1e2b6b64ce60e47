//! A user's hold of a node, whose target can be exchanged.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffers::Buffers;
use crate::error::BlockError;
use crate::filter::Event;
use crate::node::{BlockNode, Extent, IoLane, NodeInfo};
use crate::request::{Done, IoReq, Op, Token};
use crate::waker::Waker;

/// A way from a user (a node above, a back end) to a node; clones are the same edge. Its target
/// is exchanged only while nothing is in flight on it; open lanes notice with their next request.
#[derive(Clone)]
pub(crate) struct Edge(Arc<Shared>);

struct Shared {
    /// A leaf.
    target: Mutex<Option<Arc<dyn BlockNode>>>,
    /// Goes up with each exchange.
    generation: AtomicU64,
}

impl Edge {
    /// An edge to `target`, or to nothing.
    pub fn new(target: Option<Arc<dyn BlockNode>>) -> Self {
        Edge(Arc::new(Shared {
            target: Mutex::new(target),
            generation: AtomicU64::new(0),
        }))
    }

    fn target(&self) -> MutexGuard<'_, Option<Arc<dyn BlockNode>>> {
        let target = self.0.target.lock();
        target.unwrap_or_else(PoisonError::into_inner)
    }

    /// The node it leads to.
    pub fn node(&self) -> Option<Arc<dyn BlockNode>> {
        self.target().clone()
    }

    /// The same, or the error of a drive without a medium.
    ///
    /// # Errors
    /// ENOMEDIUM.
    pub fn there(&self) -> io::Result<Arc<dyn BlockNode>> {
        self.node().ok_or_else(no_medium)
    }

    /// Leads elsewhere from now on. Nothing is in flight.
    pub fn set(&self, target: Option<Arc<dyn BlockNode>>) {
        let old = std::mem::replace(&mut *self.target(), target);
        self.0.generation.fetch_add(1, Ordering::AcqRel);
        // Not under the lock: it may be the last hold of a node.
        drop(old);
    }

    /// What the node is; without one, no bytes.
    pub fn info(&self) -> NodeInfo {
        let nothing = NodeInfo {
            size: 0,
            read_only: true,
            granule: 1,
        };
        self.node().map_or(nothing, |node| node.info())
    }

    /// See [`BlockNode::perform`].
    ///
    /// # Errors
    /// The node's; ENOMEDIUM without one.
    pub fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        self.there()?.perform(op, buffers)
    }

    /// See [`BlockNode::extent`].
    ///
    /// # Errors
    /// The node's; ENOMEDIUM without one.
    pub fn extent(&self, offset: u64, len: u64) -> io::Result<Extent> {
        self.there()?.extent(offset, len)
    }

    /// See [`BlockNode::event`].
    pub fn event(&self, event: Event) {
        if let Some(node) = self.node() {
            node.event(event);
        }
    }

    /// See [`BlockNode::open_lane`].
    ///
    /// # Errors
    /// The node's.
    pub fn open_lane(&self, depth: u32, waker: &Waker) -> Result<EdgeLane, BlockError> {
        let seen = self.0.generation.load(Ordering::Acquire);
        let inner = match self.node() {
            Some(node) => Some(node.open_lane(depth, waker)?),
            None => None,
        };
        Ok(EdgeLane {
            edge: self.clone(),
            seen,
            inner,
            left: Vec::new(),
            depth,
            waker: waker.clone(),
        })
    }
}

fn no_medium() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOMEDIUM)
}

/// A lane into whatever an edge leads to.
pub(crate) struct EdgeLane {
    edge: Edge,
    seen: u64,
    inner: Option<Box<dyn IoLane>>,
    /// Lanes of former targets with requests in flight, if there are any after all.
    left: Vec<Box<dyn IoLane>>,
    depth: u32,
    waker: Waker,
}

impl EdgeLane {
    /// Opens the lane anew when the edge leads elsewhere.
    fn follow(&mut self) -> Result<(), BlockError> {
        let generation = self.edge.0.generation.load(Ordering::Acquire);
        if generation == self.seen {
            return Ok(());
        }
        self.left
            .extend(self.inner.take().filter(|lane| lane.in_flight() > 0));
        if let Some(node) = self.edge.node() {
            self.inner = Some(node.open_lane(self.depth, &self.waker)?);
        }
        self.seen = generation;
        Ok(())
    }
}

impl IoLane for EdgeLane {
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done> {
        let error = match (self.follow(), &mut self.inner) {
            (Ok(()), Some(lane)) => return lane.submit(request, token),
            (Ok(()), None) => no_medium(),
            (Err(error), _) => {
                log::error!("A block node cannot be used: {error}");
                io::Error::from_raw_os_error(libc::EIO)
            }
        };
        Some(Done {
            token,
            result: Err(error),
            request,
        })
    }

    fn start(&mut self) {
        if let Some(lane) = &mut self.inner {
            lane.start();
        }
    }

    fn reap(&mut self, done: &mut Vec<Done>) {
        if let Some(lane) = &mut self.inner {
            lane.reap(done);
        }
        self.left.iter_mut().for_each(|lane| lane.reap(done));
        self.left.retain(|lane| lane.in_flight() > 0);
        // A node that was taken away is let go of, also where no request follows.
        if let Err(error) = self.follow() {
            log::debug!("A block node cannot be used yet: {error}");
        }
    }

    fn in_flight(&self) -> usize {
        let lanes = self.inner.iter().chain(&self.left);
        lanes.map(|lane| lane.in_flight()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Policy;
    use crate::null::{NullNode, NullSpec};
    use crate::pool::test_pool;

    fn null(latency_ns: u64) -> Arc<dyn BlockNode> {
        let spec = NullSpec {
            latency_ns,
            ..NullSpec::default()
        };
        Arc::new(NullNode::open(
            spec,
            Policy::default(),
            &test_pool(),
            Arc::default(),
        ))
    }

    #[test]
    fn lanes_follow_their_edge() {
        let edge = Edge::new(Some(null(5_000_000)));
        let waker = Waker::new().unwrap();
        let mut lane = edge.open_lane(4, &waker).unwrap();
        let request = || IoReq::new(Op::Flush, Buffers::new());
        assert!(lane.submit(request(), Token(1)).is_none());
        edge.set(Some(null(0)));
        assert!(lane.submit(request(), Token(2)).is_some());
        edge.set(None);
        let done = lane.submit(request(), Token(3)).unwrap();
        let code = done.result.unwrap_err().raw_os_error();
        assert_eq!(code, Some(libc::ENOMEDIUM));
        let mut done = Vec::new();
        while lane.in_flight() > 0 {
            waker.wait();
            waker.clear();
            lane.reap(&mut done);
        }
        assert_eq!(done.len(), 1, "what was in flight has ended, too");
        assert_eq!(edge.info().size, 0);
        let code = edge.perform(Op::Flush, &Buffers::new()).unwrap_err();
        assert_eq!(code.raw_os_error(), Some(libc::ENOMEDIUM));
    }
}
