//! Threads for system calls that block. They come when there is work and go when there has been
//! none for a while.
//!
//! ```text
//! run -> queue -> a thread that comes anyway | the last one that fell asleep | a new one
//! ```
//!
//! A thread that comes to work looks at the queue before it sleeps, so that nobody has to be woken
//! for what it will find there. Whoever takes a job and leaves others wakes the next one: many
//! short jobs are done by few threads, and many long ones by as many as there are.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
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
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    started: u64,
    /// Threads that will look for jobs before they sleep: woken, new, or about to be done.
    coming: usize,
    /// Threads that wait for jobs, by their numbers; the last to have worked comes last.
    asleep: Vec<(u64, Thread)>,
}

impl State {
    /// Wakes a thread where nobody comes for the jobs that are left.
    fn summon(&mut self) -> Option<Thread> {
        if self.jobs.is_empty() || self.coming > 0 {
            return None;
        }
        let (_, thread) = self.asleep.pop()?;
        self.coming += 1;
        Some(thread)
    }

    /// Takes a job, and whoever is to come for the next one.
    fn take(&mut self) -> Option<(Job, Option<Thread>)> {
        let job = self.jobs.pop_front()?;
        Some((job, self.summon()))
    }
}

thread_local! {
    /// The pool this thread belongs to.
    static HOME: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
    /// It counts as coming already.
    static COMING: Cell<bool> = const { Cell::new(false) };
}

/// The job that calls this is as good as done, and its thread comes for the next one at once. For
/// jobs that are about to tell somebody who will have another one in return.
pub(crate) fn nearly_done() {
    HOME.with_borrow(|home| {
        if let Some(shared) = home
            && !COMING.replace(true)
        {
            shared.state().coming += 1;
        }
    });
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
        let woken = state.summon();
        let enough = state.coming.saturating_add(state.asleep.len());
        if state.jobs.len() <= enough || state.threads >= self.shared.most {
            drop(state);
            if let Some(thread) = woken {
                thread.unpark();
            }
            return;
        }
        state.threads += 1;
        state.coming += 1;
        state.started = state.started.wrapping_add(1);
        let number = state.started;
        let name = format!("blk-{number}");
        drop(state);
        if let Some(thread) = woken {
            thread.unpark();
        }
        let shared = self.shared.clone();
        if let Err(error) = (self.shared.spawner)(&name, Box::new(move || work(&shared, number))) {
            self.without_thread(&error);
        }
    }

    fn without_thread(&self, error: &io::Error) {
        let mut state = self.shared.state();
        state.threads = state.threads.saturating_sub(1);
        state.coming = state.coming.saturating_sub(1);
        if state.threads > 0 {
            if let Some(thread) = state.summon() {
                thread.unpark();
            }
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

/// The life of a thread, which counts as coming from its start.
fn work(shared: &Arc<Shared>, number: u64) {
    HOME.set(Some(shared.clone()));
    COMING.set(true);
    let mut state = shared.state();
    loop {
        if COMING.take() {
            state.coming = state.coming.saturating_sub(1);
        }
        if let Some((job, next)) = state.take() {
            drop(state);
            if let Some(thread) = next {
                thread.unpark();
            }
            // Its ticket tells of a panic.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                log::error!("A block request's job panicked");
            }
            state = shared.state();
            continue;
        }
        state.asleep.push((number, std::thread::current()));
        let due = Instant::now() + IDLE;
        loop {
            drop(state);
            std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
            state = shared.state();
            let place = state.asleep.iter().position(|(other, _)| *other == number);
            let Some(place) = place else {
                // Woken, and counted as coming by whoever did it.
                COMING.set(true);
                break;
            };
            if Instant::now() >= due {
                state.asleep.remove(place);
                state.threads = state.threads.saturating_sub(1);
                // Whoever comes for the jobs may have counted on nobody else to be there.
                let next = state.summon();
                drop(state);
                if let Some(thread) = next {
                    thread.unpark();
                }
                HOME.set(None);
                return;
            }
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
    fn a_job_that_panics_is_its_own_affair() {
        let pool = Pool::new(test_pool().shared.spawner.clone(), 1);
        let (sender, receiver) = mpsc::channel();
        for _ in 0..3 {
            pool.run(Box::new(|| panic!("as the test wants it")));
            let sender = sender.clone();
            pool.run(Box::new(move || {
                nearly_done();
                sender.send(7).unwrap();
            }));
            assert_eq!(receiver.recv(), Ok(7));
        }
    }

    #[test]
    fn jobs_that_wait_for_each_other_run_at_the_same_time() {
        let pool = test_pool();
        let wait = Duration::from_secs(60);
        for round in 0..200 {
            let (sender, receiver) = mpsc::channel();
            // As many as there are threads, each of which goes on when all are there.
            let barrier = Arc::new(std::sync::Barrier::new(4));
            for number in 0..4 {
                let (barrier, sender) = (barrier.clone(), sender.clone());
                pool.run(Box::new(move || {
                    barrier.wait();
                    if round % 2 == 0 {
                        nearly_done();
                    }
                    sender.send(number).unwrap();
                }));
            }
            for _ in 0..4 {
                assert!(receiver.recv_timeout(wait).is_ok());
            }
        }
        assert_eq!(pool.threads(), 4);
    }

    #[test]
    fn one_job_after_the_other_needs_one_thread() {
        let pool = test_pool();
        let (sender, receiver) = mpsc::channel();
        for _ in 0..1000 {
            let sender = sender.clone();
            pool.run(Box::new(move || {
                nearly_done();
                sender.send(()).unwrap();
            }));
            assert!(receiver.recv().is_ok());
        }
        assert_eq!(pool.threads(), 1);
    }
}
