//! Requests of a lane that wait for their turn.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bucket::Direction;
use super::group::{Lanes, Member, Place, ThrottleGroup, Verdict};
use crate::buffers::Buffers;
use crate::error::BlockError;
use crate::request::{IoReq, Op, Token};
use crate::waker::Waker;

/// Whether discards count as writes: in the filter they do, in a back end not, as in QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Discards {
    Free,
    Counted,
}

/// What a request counts as; `None` for one that is not limited.
fn direction(op: Op, discards: Discards) -> Option<Direction> {
    match op {
        Op::Read { .. } => Some(Direction::Read),
        Op::Write { .. } | Op::WriteZeroes { .. } => Some(Direction::Write),
        Op::Discard { .. } => (discards == Discards::Counted).then_some(Direction::Write),
        Op::Flush => None,
    }
}

type Waiting = VecDeque<(IoReq, Token)>;

/// A lane's requests before their turn. While the lane's waker is hurried nothing waits.
pub(crate) struct ThrottleQueue {
    place: Place,
    /// Of its member.
    lanes: Lanes,
    waiting: [Waiting; 2],
    discards: Discards,
}

impl ThrottleQueue {
    pub fn new(member: &Member, discards: Discards, waker: &Waker) -> Self {
        member.lanes().add(waker);
        ThrottleQueue {
            place: member.place(waker),
            lanes: member.lanes().clone(),
            waiting: Default::default(),
            discards,
        }
    }

    /// The request back if it may go now; otherwise it comes from [`Self::next`] later.
    pub fn admit(&mut self, request: IoReq, token: Token) -> Option<(IoReq, Token)> {
        let Some(direction) = direction(request.op, self.discards) else {
            return Some((request, token));
        };
        let Some(waiting) = self.waiting.get_mut(direction.index()) else {
            return Some((request, token));
        };
        let hurry = self.place.waker().is_hurried();
        if waiting.is_empty() {
            let len = request.range().map_or(0, |(_, len)| len);
            if self.place.ask(direction, len, false, hurry) == Verdict::Go {
                return Some((request, token));
            }
        }
        waiting.push_back((request, token));
        None
    }

    /// The next request that may go now.
    pub fn next(&mut self) -> Option<(IoReq, Token)> {
        for direction in Direction::BOTH {
            let Some(waiting) = self.waiting.get_mut(direction.index()) else {
                continue;
            };
            let Some((request, _)) = waiting.front() else {
                continue;
            };
            let len = request.range().map_or(0, |(_, len)| len);
            let hurry = self.place.waker().is_hurried();
            let more = waiting.len() > 1;
            if self.place.ask(direction, len, more, hurry) == Verdict::Go {
                return waiting.pop_front();
            }
        }
        None
    }

    pub fn len(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// All that wait, in order of each direction.
    fn into_waiting(mut self) -> Waiting {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().flatten().collect()
    }
}

impl Drop for ThrottleQueue {
    fn drop(&mut self) {
        self.lanes.remove(self.place.waker());
    }
}

impl Member {
    /// Waits on the caller's thread until a request may go. When somebody waits for a lane of this
    /// member it may be for this request, which a lane further up has handed to a thread: it
    /// then goes within a second.
    ///
    /// # Errors
    /// When the host has no room for an event.
    pub fn wait(&self, op: Op, buffers: &Buffers, discards: Discards) -> io::Result<()> {
        let Some(direction) = direction(op, discards) else {
            return Ok(());
        };
        let waker = Waker::new().map_err(|error| io::Error::other(error.to_string()))?;
        let place = self.place(&waker);
        let len = op.range(buffers).map_or(0, |(_, len)| len);
        while place.ask(direction, len, false, self.lanes().any_hurried()) == Verdict::Wait {
            waker.wait();
            waker.clear();
        }
        Ok(())
    }
}

/// What limits a back end, to be changed while it runs. Shared by the back end and its lanes.
#[derive(Default)]
pub(crate) struct ThrottleSwitch {
    /// 0 while nothing ever limited it; another number with each change.
    version: AtomicU64,
    /// A leaf.
    member: Mutex<Option<Member>>,
}

impl ThrottleSwitch {
    fn member(&self) -> MutexGuard<'_, Option<Member>> {
        self.member.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group it is a member of.
    pub fn group(&self) -> Option<Arc<ThrottleGroup>> {
        self.member().as_ref().map(|member| member.group().clone())
    }

    /// Makes it a member of a group, or of none. The caller wakes its lanes.
    pub fn set(&self, group: Option<&Arc<ThrottleGroup>>) {
        let mut member = self.member();
        let same = match (member.as_ref(), group) {
            (Some(member), Some(group)) => Arc::ptr_eq(member.group(), group),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if same {
            return;
        }
        *member = group.map(Member::new);
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// A back end's lane as a member of whichever group there is.
pub(crate) struct BackendThrottle {
    switch: Arc<ThrottleSwitch>,
    seen: u64,
    queue: Option<ThrottleQueue>,
    /// What waited in a group that the lane left: it stands in the next one's queue, or may go.
    moved: Waiting,
    waker: Waker,
}

impl BackendThrottle {
    pub fn new(switch: &Arc<ThrottleSwitch>, waker: &Waker) -> Self {
        BackendThrottle {
            switch: switch.clone(),
            seen: 0,
            queue: None,
            moved: Waiting::new(),
            waker: waker.clone(),
        }
    }

    /// The request back if it may go now; otherwise it comes from [`Self::next`] later. Without
    /// limits that is one load.
    pub fn admit(&mut self, request: IoReq, token: Token) -> Option<(IoReq, Token)> {
        self.look();
        match &mut self.queue {
            None => Some((request, token)),
            Some(queue) => queue.admit(request, token),
        }
    }

    /// Notices that the back end is limited otherwise.
    pub fn look(&mut self) {
        if self.switch.version.load(Ordering::Relaxed) != self.seen {
            self.follow();
        }
    }

    /// The next request that may go now.
    pub fn next(&mut self) -> Option<(IoReq, Token)> {
        self.look();
        while let Some((request, token)) = self.moved.pop_front() {
            let Some(queue) = &mut self.queue else {
                return Some((request, token));
            };
            if let Some(admitted) = queue.admit(request, token) {
                return Some(admitted);
            }
        }
        self.queue.as_mut()?.next()
    }

    pub fn len(&self) -> usize {
        let queue = self.queue.as_ref().map_or(0, ThrottleQueue::len);
        queue.saturating_add(self.moved.len())
    }

    fn follow(&mut self) {
        let member = self.switch.member();
        self.seen = self.switch.version.load(Ordering::Acquire);
        if let Some(queue) = self.queue.take() {
            self.moved.extend(queue.into_waiting());
        }
        self.queue = member
            .as_ref()
            .map(|member| ThrottleQueue::new(member, Discards::Free, &self.waker));
    }
}

/// Groups by name. They live as long as somebody has them: an object, or members.
#[derive(Default)]
pub(crate) struct ThrottleGroups(Mutex<Vec<std::sync::Weak<ThrottleGroup>>>);

impl ThrottleGroups {
    fn list(&self) -> MutexGuard<'_, Vec<std::sync::Weak<ThrottleGroup>>> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|group| group.strong_count() > 0);
        list
    }

    pub fn find(&self, name: &str) -> Option<Arc<ThrottleGroup>> {
        let list = self.list();
        let mut groups = list.iter().filter_map(std::sync::Weak::upgrade);
        groups.find(|group| group.name() == name)
    }

    /// # Errors
    /// When there is one of that name, or the limits make no sense.
    pub fn make(
        &self,
        name: &str,
        limits: super::Limits,
        pool: &crate::pool::Pool,
    ) -> Result<Arc<ThrottleGroup>, BlockError> {
        limits.check()?;
        if self.find(name).is_some() {
            let text = "A group with this name already exists";
            return Err(BlockError::Unsupported(text.to_owned()));
        }
        let group = Arc::new(ThrottleGroup::new(name, limits, pool));
        self.list().push(Arc::downgrade(&group));
        Ok(group)
    }
}
