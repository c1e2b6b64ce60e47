//! Task management across queues: the control queue's worker gives orders, the workers of the
//! request queues carry them out for what they have in flight.
//!
//! An order is done when every queue has looked and everything it concerns has ended. A worker
//! that goes away counts as having looked, because nothing of it is in flight then; but the order
//! was carried out in part only, and is to be given again when the queues are served again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use block::Waker;

use super::request::Response;
use crate::bus::lock;
use crate::scsi::Place;

/// Which requests are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// One of a logical unit, by its tag.
    Task(Place, u64),
    /// All of a logical unit.
    Unit(Place),
    /// All of a target.
    Target(u8),
}

impl Whose {
    /// Whether a request is meant.
    pub fn is(self, place: Place, tag: u64) -> bool {
        match self {
            Whose::Task(wanted, number) => (wanted, number) == (place, tag),
            Whose::Unit(wanted) => wanted == place,
            Whose::Target(target) => target == place.target,
        }
    }
}

/// What becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// They end with this.
    End(Response),
    /// Whether there are any is asked.
    Find,
}

/// An order.
pub(super) struct Order {
    pub whose: Whose,
    pub deed: Deed,
    /// Queues that have not looked, and requests that have not ended.
    open: AtomicUsize,
    found: AtomicBool,
    /// A queue was being stopped, and may have requests that nobody looked at.
    partial: AtomicBool,
    /// Who waits for it.
    waker: Waker,
}

impl Order {
    /// There is such a request.
    pub fn find(&self) {
        self.found.store(true, Ordering::Release);
    }

    /// Whether there was such a request.
    pub fn found(&self) -> bool {
        self.found.load(Ordering::Acquire)
    }

    /// The queue that looks is being stopped.
    pub fn set_partial(&self) {
        self.partial.store(true, Ordering::Release);
    }

    /// Whether a queue did not look at all that was there: the order is to be given again.
    pub fn is_partial(&self) -> bool {
        self.partial.load(Ordering::Acquire)
    }

    /// One more request has to end.
    pub fn expect(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    /// A queue has looked, or a request has ended.
    pub fn one_done(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waker.wake();
        }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }
}

#[derive(Default)]
struct Post {
    orders: Vec<Arc<Order>>,
    closed: bool,
}

/// Orders for one queue. Whoever serves the queue holds it in an [`Inbox`].
pub(super) struct Letterbox {
    /// Leaf lock, held for a look.
    post: Mutex<Post>,
    /// So that a look needs no lock.
    full: AtomicBool,
    waker: Waker,
}

impl Letterbox {
    /// `waker` wakes the queue's worker.
    pub fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Letterbox {
            post: Mutex::default(),
            full: AtomicBool::new(false),
            waker,
        })
    }

    fn put(&self, order: &Arc<Order>) {
        let mut post = lock(&self.post);
        if post.closed {
            drop(post);
            order.set_partial();
            return order.one_done();
        }
        post.orders.push(order.clone());
        self.full.store(true, Ordering::Release);
        drop(post);
        self.waker.wake();
    }
}

/// A worker's end: takes no orders any more when it is dropped.
pub(super) struct Inbox(pub Arc<Letterbox>);

impl Inbox {
    /// What came since the last look.
    pub fn take(&self) -> Vec<Arc<Order>> {
        if !self.0.full.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut lock(&self.0.post).orders)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut post = lock(&self.0.post);
        post.closed = true;
        let orders = std::mem::take(&mut post.orders);
        drop(post);
        for order in orders {
            order.set_partial();
            order.one_done();
        }
    }
}

/// Gives an order to all queues; `waker` is woken when it is done, perhaps at once.
pub(super) fn give(
    boxes: &[Arc<Letterbox>],
    whose: Whose,
    deed: Deed,
    waker: &Waker,
) -> Arc<Order> {
    let order = Arc::new(Order {
        whose,
        deed,
        // One for whoever gives it, so that it is not done before all have it.
        open: AtomicUsize::new(boxes.len().saturating_add(1)),
        found: AtomicBool::new(false),
        partial: AtomicBool::new(false),
        waker: waker.clone(),
    });
    for queue in boxes {
        queue.put(&order);
    }
    order.one_done();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { target: 1, lun: 2 };

    #[test]
    fn an_order_is_done_when_all_have_looked_and_all_has_ended() {
        let waker = Waker::new().unwrap();
        let boxes: Vec<_> = (0..3)
            .map(|_| Letterbox::new(Waker::new().unwrap()))
            .collect();
        let inboxes: Vec<_> = boxes.iter().cloned().map(Inbox).collect();
        let order = give(&boxes, Whose::Unit(PLACE), Deed::Find, &waker);
        assert!(!order.is_done());
        let [first, second, third] = <[Inbox; 3]>::try_from(inboxes).ok().unwrap();
        let taken = first.take();
        assert_eq!(taken.len(), 1);
        taken[0].expect();
        taken[0].one_done();
        assert!(first.take().is_empty());
        // One that goes away has nothing in flight.
        drop(second);
        drop(third);
        assert!(!order.is_done());
        taken[0].one_done();
        assert!(order.is_done() && order.is_partial());
        // Queues that are gone do not hold up anybody.
        drop(first);
        let late = give(&boxes, Whose::Unit(PLACE), Deed::Find, &waker);
        assert!(late.is_done() && late.is_partial());
        assert!(give(&[], Whose::Unit(PLACE), Deed::Find, &waker).is_done());
    }

    #[test]
    fn orders_mean_tasks_units_and_targets() {
        let other = Place { target: 1, lun: 3 };
        assert!(Whose::Task(PLACE, 7).is(PLACE, 7));
        assert!(!Whose::Task(PLACE, 7).is(PLACE, 8));
        assert!(!Whose::Task(PLACE, 7).is(other, 7));
        assert!(Whose::Unit(PLACE).is(PLACE, 8) && !Whose::Unit(PLACE).is(other, 8));
        assert!(Whose::Target(1).is(other, 8) && !Whose::Target(0).is(other, 8));
    }
}
