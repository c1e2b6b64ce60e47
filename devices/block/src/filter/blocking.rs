//! A lane whose requests are done whole by threads of the pool.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffers::Buffers;
use crate::node::IoLane;
use crate::pool::Pool;
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

/// Where threads put what has ended.
struct Port {
    /// A leaf.
    done: Mutex<Vec<Done>>,
    /// Jobs that have not put theirs yet.
    running: AtomicUsize,
    waker: Waker,
}

impl Port {
    fn done(&self) -> MutexGuard<'_, Vec<Done>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request on a thread; it comes back even when the job panics.
struct Ticket {
    request: Option<(IoReq, Token)>,
    port: Arc<Port>,
}

impl Ticket {
    fn end(&mut self, result: io::Result<()>) {
        if let Some((request, token)) = self.request.take() {
            self.port.done().push(Done {
                token,
                result,
                request,
            });
            self.port.running.fetch_sub(1, Ordering::SeqCst);
            self.port.waker.wake();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end(Err(io::Error::from_raw_os_error(libc::EIO)));
    }
}

impl BlockingLane {
    pub fn new(node: Arc<dyn Perform>, pool: &Pool, waker: &Waker) -> Self {
        BlockingLane {
            node,
            pool: pool.clone(),
            port: Arc::new(Port {
                done: Mutex::default(),
                running: AtomicUsize::new(0),
                waker: waker.clone(),
            }),
            in_flight: 0,
        }
    }
}

impl IoLane for BlockingLane {
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done> {
        self.in_flight = self.in_flight.saturating_add(1);
        self.port.running.fetch_add(1, Ordering::SeqCst);
        let mut ticket = Ticket {
            request: Some((request, token)),
            port: self.port.clone(),
        };
        let node = self.node.clone();
        self.pool.run(Box::new(move || {
            let result = match &ticket.request {
                Some((request, _)) => node.perform(request.op, &request.buffers),
                None => Ok(()),
            };
            ticket.end(result);
        }));
        None
    }

    fn start(&mut self) {}

    fn reap(&mut self, done: &mut Vec<Done>) {
        let mut ended = self.port.done();
        self.in_flight = self.in_flight.saturating_sub(ended.len());
        done.append(&mut ended);
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl Drop for BlockingLane {
    fn drop(&mut self) {
        while self.port.running.load(Ordering::SeqCst) > 0 {
            self.port.waker.wait();
            self.port.waker.clear();
        }
        // What was cleared may have been another lane's.
        self.port.waker.wake();
    }
}
