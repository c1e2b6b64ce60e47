//! Threads for system calls that block. They come when there is work and go when there has been
//! none for a while.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::timers::Timers;
use crate::waker::Waker;

/// What a thread of the pool runs until there has been no work for a while.
pub type ThreadBody = Box<dyn FnOnce() + Send>;
/// Starts a thread under a name. The host of the pool decides on stacks, signals and filters.
pub type Spawner = Arc<dyn Fn(&str, ThreadBody) -> io::Result<()> + Send + Sync>;
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// As many threads as QEMU has at most.
pub const DEFAULT_MOST: usize = 64;
const IDLE: Duration = Duration::from_secs(10);

/// The pool; clones are the same pool.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
    timers: Arc<Timers>,
}

struct Shared {
    spawner: Spawner,
    most: usize,
    /// Jobs and counts of threads; a leaf.
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    started: u64,
}

impl Pool {
    /// A pool without threads; it has `most` at a time.
    pub fn new(spawner: Spawner, most: usize) -> Self {
        Pool {
            timers: Arc::new(Timers::new(spawner.clone())),
            shared: Arc::new(Shared {
                spawner,
                most: most.max(1),
                state: Mutex::default(),
                wake: Condvar::new(),
            }),
        }
    }

    /// Signals `waker` at `due`, or soon after.
    pub(crate) fn wake_at(&self, due: Instant, waker: Waker) {
        self.timers.add(due, waker);
    }

    /// Threads there are now.
    pub fn threads(&self) -> usize {
        self.shared.state().threads
    }

    /// Has a job done soon. Never loses one: when the host gives not a single thread, it is done
    /// here and now.
    pub(crate) fn run(&self, job: Job) {
        let mut state = self.shared.state();
        state.jobs.push_back(job);
        if state.jobs.len() <= state.idle {
            drop(state);
            self.shared.wake.notify_one();
            return;
        }
        if state.threads >= self.shared.most {
            return;
        }
        state.threads += 1;
        state.started = state.started.wrapping_add(1);
        let name = format!("blk-{}", state.started);
        drop(state);
        let shared = self.shared.clone();
        if let Err(error) = (self.shared.spawner)(&name, Box::new(move || work(&shared))) {
            self.without_thread(&error);
        }
    }

    fn without_thread(&self, error: &io::Error) {
        let mut state = self.shared.state();
        state.threads = state.threads.saturating_sub(1);
        if state.threads > 0 {
            return;
        }
        log::warn!("No thread for block requests, doing them in place: {error}");
        while let Some(job) = state.jobs.pop_front() {
            drop(state);
            job();
            state = self.shared.state();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a thread out, also when its job panicked.
struct Leave<'a>(&'a Shared);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.threads = state.threads.saturating_sub(1);
    }
}

fn work(shared: &Shared) {
    let leave = Leave(shared);
    let mut state = shared.state();
    loop {
        if let Some(job) = state.jobs.pop_front() {
            drop(state);
            job();
            state = shared.state();
            continue;
        }
        state.idle += 1;
        let (back, timeout) = shared
            .wake
            .wait_timeout(state, IDLE)
            .unwrap_or_else(PoisonError::into_inner);
        state = back;
        state.idle = state.idle.saturating_sub(1);
        if timeout.timed_out() && state.jobs.is_empty() {
            // Counted out under the same lock, so that no job counts on this thread.
            state.threads = state.threads.saturating_sub(1);
            drop(state);
            std::mem::forget(leave);
            return;
        }
    }
}

/// A spawner for tests.
#[cfg(test)]
#[allow(clippy::disallowed_methods)]
pub(crate) fn test_pool() -> Pool {
    let spawner: Spawner = Arc::new(|name, body| {
        let builder = std::thread::Builder::new().name(name.to_owned());
        builder.spawn(body).map(drop)
    });
    Pool::new(spawner, 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn jobs_run_on_a_few_threads() {
        let pool = test_pool();
        let (sender, receiver) = mpsc::channel();
        for number in 0..100 {
            let sender = sender.clone();
            pool.run(Box::new(move || sender.send(number).unwrap()));
        }
        let mut seen: Vec<i32> = receiver.iter().take(100).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        assert!((1..=4).contains(&pool.threads()));
    }

    #[test]
    fn without_threads_jobs_are_done_in_place() {
        let pool = Pool::new(Arc::new(|_, _| Err(io::ErrorKind::OutOfMemory.into())), 4);
        let (sender, receiver) = mpsc::channel();
        pool.run(Box::new(move || sender.send(7).unwrap()));
        assert_eq!(receiver.recv(), Ok(7));
        assert_eq!(pool.threads(), 0);
    }

    #[test]
    fn a_job_that_panics_takes_its_thread_only() {
        let pool = Pool::new(test_pool().shared.spawner.clone(), 1);
        pool.run(Box::new(|| panic!("as the test wants it")));
        while pool.threads() > 0 {
            std::thread::yield_now();
        }
        let (sender, receiver) = mpsc::channel();
        pool.run(Box::new(move || sender.send(7).unwrap()));
        assert_eq!(receiver.recv(), Ok(7));
    }
}
