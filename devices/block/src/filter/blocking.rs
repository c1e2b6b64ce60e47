//! A lane whose requests are done whole by threads of the pool.

use std::io;
use std::sync::Arc;

use crate::buffers::Buffers;
use crate::node::IoLane;
use crate::pool::Pool;
use crate::port::{Port, Ticket};
use crate::request::{Done, IoReq, Op, Token};
use crate::waker::Waker;

/// Does a whole request; blocks.
pub(super) trait Perform: Send + Sync {
    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()>;
}

pub(super) struct BlockingLane {
    node: Arc<dyn Perform>,
    pool: Pool,
    port: Arc<Port>,
    in_flight: usize,
}

impl BlockingLane {
    pub fn new(node: Arc<dyn Perform>, pool: &Pool, waker: &Waker) -> Self {
        BlockingLane {
            node,
            pool: pool.clone(),
            port: Port::new(waker),
            in_flight: 0,
        }
    }
}

impl IoLane for BlockingLane {
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done> {
        self.in_flight = self.in_flight.saturating_add(1);
        let ticket = Ticket::new(token, request, (), &self.port);
        let node = self.node.clone();
        self.pool.run(Box::new(move || {
            ticket.perform(|request| node.perform(request.op, &request.buffers));
        }));
        None
    }

    fn start(&mut self) {}

    fn reap(&mut self, done: &mut Vec<Done>) {
        let ended = self.port.collect(done);
        self.in_flight = self.in_flight.saturating_sub(ended);
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl Drop for BlockingLane {
    fn drop(&mut self) {
        let mut done = Vec::new();
        self.reap(&mut done);
        while self.in_flight > 0 {
            self.port.waker().wait();
            self.port.waker().clear();
            self.reap(&mut done);
        }
        // What was cleared may have been another lane's.
        self.port.waker().wake();
    }
}
