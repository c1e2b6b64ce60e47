//! Work on other threads that is to be whole when the program ends: images that are being closed,
//! changes of the block graph.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use devices::bus::lock;

/// How much of it is under way.
#[derive(Default)]
pub(super) struct Unfinished(Arc<Count>);

#[derive(Default)]
struct Count {
    /// A leaf.
    underway: Mutex<usize>,
    less: Condvar,
}

/// A piece of such work, until it is dropped.
pub(super) struct Underway(Arc<Count>);

impl Unfinished {
    /// A piece of work begins.
    pub fn begin(&self) -> Underway {
        let mut underway = lock(&self.0.underway);
        *underway = underway.saturating_add(1);
        Underway(self.0.clone())
    }

    /// Waits until all is done. Blocks.
    pub fn wait(&self) {
        let underway = lock(&self.0.underway);
        let waited = self.0.less.wait_while(underway, |underway| *underway > 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let mut underway = lock(&self.0.underway);
        *underway = underway.saturating_sub(1);
        self.0.less.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    #[test]
    fn the_end_waits_for_work() {
        let unfinished = Unfinished::default();
        unfinished.wait();
        let (underway, done) = (unfinished.begin(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                done.store(true, Ordering::SeqCst);
                drop(underway);
            });
            unfinished.wait();
            assert!(done.load(Ordering::SeqCst));
        });
    }
}
