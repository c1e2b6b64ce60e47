//! vCPUs held back, so that they write less memory than can be sent (auto-converge).
//!
//! A thread takes all of them out of the guest again and again, for a part of the time: after each
//! slice in which they may run they rest for as long as the percentage says.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Phase, Turn, Vcpu, Vcpus, Want, run};
use crate::threads::{self, ThreadKind};

/// For how long they run in between.
const SLICE: Duration = Duration::from_millis(10);
/// They never stand still altogether.
const MOST: u8 = 99;

/// The thread, while there is one.
#[derive(Default)]
pub struct Throttle(Mutex<Option<Ticker>>);

struct Ticker {
    percent: Arc<AtomicU8>,
    /// Ends it when dropped.
    alive: Sender<()>,
    thread: JoinHandle<Option<()>>,
}

/// How long they rest after a slice.
fn rest(percent: u8) -> Duration {
    let percent = u32::from(percent.min(MOST));
    SLICE * percent / 100u32.saturating_sub(percent)
}

impl Vcpus {
    /// Holds all vCPUs back by so many percent of their time, at most 99; 0 ends it. They park as
    /// fast as ever.
    pub fn throttle(&self, percent: u8) {
        let percent = percent.min(MOST);
        let mut ticker = self.throttle.lock();
        if percent == 0 || self.list.is_empty() {
            if let Some(Ticker { alive, thread, .. }) = ticker.take() {
                drop(alive);
                // It waits for nobody: this takes no time.
                let _ = thread.join();
            }
            return;
        }
        match &*ticker {
            Some(ticker) => ticker.percent.store(percent, Ordering::Relaxed),
            None => *ticker = self.start_ticker(percent),
        }
    }

    fn start_ticker(&self, percent: u8) -> Option<Ticker> {
        let (alive, ended) = channel::<()>();
        let percent = Arc::new(AtomicU8::new(percent));
        let shared = percent.clone();
        let vcpus: Vec<Arc<Vcpu>> = self.list.iter().map(|(vcpu, _)| vcpu.clone()).collect();
        let body = move || {
            let mut wait = SLICE;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                let rest = rest(shared.load(Ordering::Relaxed));
                for vcpu in &vcpus {
                    vcpu.ask_to_rest(rest);
                }
                wait = SLICE.saturating_add(rest);
            }
        };
        match threads::spawn(ThreadKind::Migration, "CPU throttle", None, body) {
            Ok(thread) => Some(Ticker {
                percent,
                alive,
                thread,
            }),
            Err(error) => {
                log::warn!("Cannot hold processors back: {error}");
                None
            }
        }
    }
}

impl Throttle {
    fn lock(&self) -> MutexGuard<'_, Option<Ticker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vcpu {
    fn ask_to_rest(&self, rest: Duration) {
        let mut turn = self.turn();
        if turn.want != Want::Run {
            return;
        }
        turn.rest = Some(rest);
        self.page.set_immediate_exit(true);
        if turn.phase == Phase::Running {
            run::kick(self.tid.load(Ordering::Acquire));
        }
    }

    /// Rests if that was asked for, until somebody wants it to park.
    pub(super) fn rest<'a>(&'a self, mut turn: MutexGuard<'a, Turn>) -> MutexGuard<'a, Turn> {
        let Some(rest) = turn.rest.take() else {
            return turn;
        };
        let waited = self
            .changed
            .wait_timeout_while(turn, rest, |turn| turn.want == Want::Run);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_are_parts_of_the_time() {
        assert_eq!(rest(50), SLICE);
        assert_eq!(rest(20), SLICE / 4);
        assert_eq!(rest(99), SLICE * 99);
        assert_eq!(rest(200), SLICE * 99);
    }
}
