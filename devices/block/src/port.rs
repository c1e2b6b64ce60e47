//! Requests done by jobs of the pool, and how their ends come back to the lane.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::pool::nearly_done;
use crate::request::{Done, IoReq, Token};
use crate::waker::Waker;

/// Where jobs put what has ended.
pub(crate) struct Port {
    /// A leaf.
    done: Mutex<Vec<Done>>,
    waker: Waker,
}

impl Port {
    pub fn new(waker: &Waker) -> Arc<Self> {
        Arc::new(Port {
            done: Mutex::default(),
            waker: waker.clone(),
        })
    }

    fn done(&self) -> MutexGuard<'_, Vec<Done>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what has ended; whether the lane has to be woken. It takes all there is at once, so
    /// whoever put the first will have done it, or will do.
    fn put(&self, done: Done) -> bool {
        let mut ended = self.done();
        ended.push(done);
        ended.len() == 1
    }

    /// Appends what has ended; how many.
    pub fn collect(&self, done: &mut Vec<Done>) -> usize {
        let mut ended = self.done();
        let count = ended.len();
        done.append(&mut ended);
        count
    }

    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}

/// A request in the hands of a job, with what it holds. It comes back even when the job panics.
pub(crate) struct Ticket<K> {
    active: Option<(Token, IoReq, K)>,
    port: Arc<Port>,
}

impl<K> Ticket<K> {
    pub fn new(token: Token, request: IoReq, keeps: K, port: &Arc<Port>) -> Self {
        Ticket {
            active: Some((token, request, keeps)),
            port: port.clone(),
        }
    }

    /// Does it and gives it back.
    pub fn perform(mut self, by: impl FnOnce(&IoReq) -> io::Result<()>) {
        if let Some((_, request, _)) = &self.active {
            let result = by(request);
            self.end(result);
        }
    }

    fn end(&mut self, result: io::Result<()>) {
        let Some((token, request, keeps)) = self.active.take() else {
            return;
        };
        // Let go of before anybody learns of the end.
        drop(keeps);
        let done = Done {
            token,
            result,
            request,
        };
        nearly_done();
        if self.port.put(done) {
            self.port.waker.wake();
        }
    }
}

impl<K> Drop for Ticket<K> {
    fn drop(&mut self) {
        self.end(Err(io::Error::from_raw_os_error(libc::EIO)));
    }
}
