//! Signals at a time, for lanes that hold requests back. One thread, there while something waits
//! and for a while longer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::pool::Spawner;
use crate::waker::Waker;

/// How long the thread stays without work.
const IDLE: Duration = Duration::from_secs(10);

/// All signals to come.
pub(crate) struct Timers {
    spawner: Spawner,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// A leaf.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: BinaryHeap<Reverse<Due>>,
    next: u64,
    running: bool,
}

/// One signal; ordered by time.
struct Due {
    at: Instant,
    number: u64,
    waker: Waker,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timers {
    pub fn new(spawner: Spawner) -> Self {
        Timers {
            spawner,
            shared: Arc::default(),
        }
    }

    /// Signals `waker` at `at`. Without a thread to wait it does so at once: whoever waits looks
    /// at the time and asks again.
    pub fn add(&self, at: Instant, waker: Waker) {
        let mut state = self.shared.state();
        let number = state.next;
        state.next = state.next.wrapping_add(1);
        state.waiting.push(Reverse(Due { at, number, waker }));
        if std::mem::replace(&mut state.running, true) {
            drop(state);
            self.shared.changed.notify_one();
            return;
        }
        drop(state);
        let shared = self.shared.clone();
        if let Err(error) = (self.spawner)("blk-timer", Box::new(move || run(&shared))) {
            log::warn!("No thread for delayed block requests: {error}");
            let mut state = self.shared.state();
            state.running = false;
            state
                .waiting
                .drain()
                .for_each(|Reverse(due)| due.waker.wake());
        }
    }
}

fn run(shared: &Shared) {
    let mut state = shared.state();
    loop {
        let now = Instant::now();
        while state.waiting.peek().is_some_and(|due| due.0.at <= now) {
            if let Some(Reverse(due)) = state.waiting.pop() {
                due.waker.wake();
            }
        }
        let left = match state.waiting.peek() {
            Some(due) => due.0.at.saturating_duration_since(now),
            None => IDLE,
        };
        let (back, timeout) = shared
            .changed
            .wait_timeout(state, left)
            .unwrap_or_else(PoisonError::into_inner);
        state = back;
        if timeout.timed_out() && state.waiting.is_empty() && left == IDLE {
            state.running = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::test_pool;

    #[test]
    fn wakers_are_signalled_in_time() {
        let pool = test_pool();
        let (late, soon) = (Waker::new().unwrap(), Waker::new().unwrap());
        let begin = Instant::now();
        pool.wake_at(begin + Duration::from_millis(60), late.clone());
        pool.wake_at(begin + Duration::from_millis(5), soon.clone());
        soon.wait();
        assert!(begin.elapsed() >= Duration::from_millis(5));
        assert!(!late.take());
        late.wait();
        assert!(begin.elapsed() >= Duration::from_millis(60));
    }

    #[test]
    fn without_a_thread_they_are_signalled_at_once() {
        let timers = Timers::new(Arc::new(|_, _| Err(std::io::ErrorKind::OutOfMemory.into())));
        let waker = Waker::new().unwrap();
        timers.add(Instant::now() + Duration::from_secs(600), waker.clone());
        assert!(waker.take());
    }
}
