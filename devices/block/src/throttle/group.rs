//! Groups: members that share limits, and whose turn it is.
//!
//! A lane with requests that have to wait stands in its group's queue, one for reads and one for
//! writes. Members take turns, and the lanes of a member among themselves. Only the lane whose
//! turn it is looks at the clock: it is woken when the time has come, sends one request, and wakes
//! the next one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::bucket::{Buckets, Direction};
use super::config::Limits;
use crate::pool::Pool;
use crate::waker::Waker;

/// Lanes are called at least so often while they wait, so that no timer outlives its lane by long.
const CALL: Duration = Duration::from_secs(1);

/// Members that share limits. Any thread.
pub struct ThrottleGroup {
    name: String,
    pool: Pool,
    born: Instant,
    members: AtomicUsize,
    /// A leaf.
    state: Mutex<State>,
}

struct State {
    buckets: Buckets,
    queues: [Queue; 2],
    next: u64,
}

/// Who waits, in turn; nobody is in it without a lane.
#[derive(Default)]
struct Queue {
    members: VecDeque<Turn>,
    /// The lane that is to be woken, and when.
    called: Option<(LaneId, Duration)>,
}

struct Turn {
    member: MemberId,
    lanes: VecDeque<(LaneId, Waker)>,
}

/// A back end or a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemberId(u64);

/// A lane of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneId(u64);

impl std::fmt::Debug for ThrottleGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ThrottleGroup({})", self.name)
    }
}

impl ThrottleGroup {
    pub(super) fn new(name: &str, limits: Limits, pool: &Pool) -> Self {
        ThrottleGroup {
            name: name.to_owned(),
            pool: pool.clone(),
            born: Instant::now(),
            members: AtomicUsize::new(0),
            state: Mutex::new(State {
                buckets: Buckets::new(limits, Duration::ZERO),
                queues: Default::default(),
                next: 0,
            }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether back ends or nodes are limited by it.
    pub fn has_members(&self) -> bool {
        self.members.load(Ordering::Relaxed) > 0
    }

    /// What it is limited to.
    pub fn limits(&self) -> Limits {
        *self.state().buckets.limits()
    }

    /// Limits it otherwise from now on; what was done before is forgotten.
    pub fn set_limits(&self, limits: Limits) {
        let now = self.now();
        let mut state = self.state();
        state.buckets = Buckets::new(limits, now);
        let State {
            buckets, queues, ..
        } = &mut *state;
        for direction in Direction::BOTH {
            if let Some(queue) = queues.get_mut(direction.index()) {
                queue.called = None;
                self.call(queue, buckets.wait(direction, now), now);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.born.elapsed()
    }

    pub(super) fn number(&self) -> u64 {
        let mut state = self.state();
        state.next = state.next.wrapping_add(1);
        state.next
    }

    /// Wakes the lane whose turn it is after `wait`, unless that is settled already.
    fn call(&self, queue: &mut Queue, wait: Duration, now: Duration) {
        let first = queue.members.front().and_then(|turn| turn.lanes.front());
        let Some((lane, waker)) = first else {
            queue.called = None;
            return;
        };
        let due = now.saturating_add(wait.min(CALL));
        if queue
            .called
            .is_some_and(|(called, at)| called == *lane && at <= due && at > now)
        {
            return;
        }
        queue.called = Some((*lane, due));
        match self.born.checked_add(due).filter(|_| !wait.is_zero()) {
            Some(at) => self.pool.wake_at(at, waker.clone()),
            None => waker.wake(),
        }
    }
}

/// A member: the requests of its lanes together take one turn.
pub(crate) struct Member {
    group: Arc<ThrottleGroup>,
    id: MemberId,
    lanes: Lanes,
}

/// The wakers of a member's lanes. A leaf.
#[derive(Clone, Default)]
pub(super) struct Lanes(Arc<Mutex<Vec<Waker>>>);

impl Lanes {
    fn list(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, waker: &Waker) {
        self.list().push(waker.clone());
    }

    pub fn remove(&self, waker: &Waker) {
        let mut list = self.list();
        if let Some(at) = list.iter().position(|other| other.is(waker)) {
            list.swap_remove(at);
        }
    }

    /// Whether somebody waits for one of them to become empty.
    pub fn any_hurried(&self) -> bool {
        self.list().iter().any(Waker::is_hurried)
    }
}

impl Member {
    pub fn new(group: &Arc<ThrottleGroup>) -> Self {
        group.members.fetch_add(1, Ordering::Relaxed);
        Member {
            id: MemberId(group.number()),
            group: group.clone(),
            lanes: Lanes::default(),
        }
    }

    pub(super) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    pub fn group(&self) -> &Arc<ThrottleGroup> {
        &self.group
    }

    pub(super) fn place(&self, waker: &Waker) -> Place {
        Place {
            lane: LaneId(self.group.number()),
            group: self.group.clone(),
            member: self.id,
            waker: waker.clone(),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.group.members.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A lane's place in its group.
pub(super) struct Place {
    group: Arc<ThrottleGroup>,
    member: MemberId,
    lane: LaneId,
    waker: Waker,
}

/// What is to be done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Go,
    /// The lane stands in the queue and is woken.
    Wait,
}

impl Place {
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Lets a request of `len` bytes go if it is this lane's turn and there is room; otherwise the
    /// lane stands in the queue. `more`: the lane has others of that direction that wait behind.
    /// One in a hurry always goes.
    pub fn ask(&self, direction: Direction, len: u64, more: bool, hurry: bool) -> Verdict {
        let group = &*self.group;
        let now = group.now();
        let mut state = group.state();
        let State {
            buckets, queues, ..
        } = &mut *state;
        let Some(queue) = queues.get_mut(direction.index()) else {
            return Verdict::Go;
        };
        let wait = buckets.wait(direction, now);
        let turn = queue.is_turn_of(self);
        let may_go = hurry || (turn && wait.is_zero());
        if !may_go {
            queue.stand(self);
            group.call(queue, wait, now);
            return Verdict::Wait;
        }
        buckets.account(direction, len);
        match more && !hurry {
            true => queue.pass_on(self),
            false if !more => queue.leave(self),
            false => {}
        }
        // Who is next may be in a hurry, too.
        let wait = match hurry {
            true => Duration::ZERO,
            false => buckets.wait(direction, now),
        };
        group.call(queue, wait, now);
        Verdict::Go
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let group = &*self.group;
        let now = group.now();
        let mut state = group.state();
        let State {
            buckets, queues, ..
        } = &mut *state;
        for direction in Direction::BOTH {
            if let Some(queue) = queues.get_mut(direction.index()) {
                queue.leave(self);
                group.call(queue, buckets.wait(direction, now), now);
            }
        }
    }
}

impl Queue {
    /// Whether it is that lane's turn, or nobody waits.
    fn is_turn_of(&self, place: &Place) -> bool {
        let first = self.members.front().and_then(|turn| turn.lanes.front());
        first.is_none_or(|(lane, _)| *lane == place.lane)
    }

    /// Stands at the end, unless it stands already.
    fn stand(&mut self, place: &Place) {
        let mine = |turn: &&mut Turn| turn.member == place.member;
        let turn = match self.members.iter_mut().find(mine) {
            Some(turn) => turn,
            None => {
                self.members.push_back(Turn {
                    member: place.member,
                    lanes: VecDeque::new(),
                });
                match self.members.back_mut() {
                    Some(turn) => turn,
                    None => return,
                }
            }
        };
        if !turn.lanes.iter().any(|(lane, _)| *lane == place.lane) {
            turn.lanes.push_back((place.lane, place.waker.clone()));
        }
    }

    /// The turn is another's: another member's, and then another lane's of this member.
    fn pass_on(&mut self, place: &Place) {
        self.leave(place);
        self.stand(place);
        let mine = |turn: &Turn| turn.member == place.member;
        if let Some(turn) = self
            .members
            .iter()
            .position(mine)
            .and_then(|at| self.members.remove(at))
        {
            self.members.push_back(turn);
        }
    }

    fn leave(&mut self, place: &Place) {
        let Some(at) = self
            .members
            .iter()
            .position(|turn| turn.member == place.member)
        else {
            return;
        };
        if let Some(turn) = self.members.get_mut(at) {
            let had = turn.lanes.len();
            turn.lanes.retain(|(lane, _)| *lane != place.lane);
            let left = turn.lanes.len();
            if left == 0 {
                self.members.remove(at);
            } else if left < had
                && at == 0
                && let Some(turn) = self.members.pop_front()
            {
                // It had its turn; its other lanes wait for the next one.
                self.members.push_back(turn);
            }
        }
    }
}
