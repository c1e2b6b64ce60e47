//! A bus of logical units, with whoever comes and goes on it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use api_spec::{QmpError, QmpResult};
use block::{Attachment, BlockError, Waker};

use super::identity::{Identity, Wanted};
use super::sense::Sense;
use super::unit::{Parts, Unit};
use crate::bus::lock;
use crate::cx::EffectSink;
use crate::disk_failure::Failures;

/// Events that wait for the driver; more are only counted as missed.
const MOST_EVENTS: usize = 64;

/// Where a logical unit is. There is one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The target.
    pub target: u8,
    /// Its logical unit.
    pub lun: u16,
}

/// The largest numbers on a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusLimits {
    /// Of a channel.
    pub channel: u32,
    /// Of a target.
    pub target: u8,
    /// Of a logical unit.
    pub lun: u16,
}

/// What a controller tells its driver of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BusEvent {
    /// A logical unit came.
    Added(Place),
    /// A logical unit went.
    Removed(Place),
    /// A logical unit is another than it was.
    Changed {
        /// Which.
        place: Place,
        /// In what way.
        sense: Sense,
    },
}

/// Events that the driver has not heard of.
pub(super) struct Events {
    /// Leaf lock, held for a look or a change.
    waiting: Mutex<Waiting>,
    /// There is a driver that listens.
    live: AtomicBool,
    waker: Waker,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<BusEvent>,
    missed: bool,
}

impl Events {
    pub fn post(&self, event: BusEvent) {
        if !self.live.load(Ordering::Acquire) {
            return;
        }
        let mut waiting = lock(&self.waiting);
        match waiting.events.len() < MOST_EVENTS {
            true => waiting.events.push_back(event),
            false => waiting.missed = true,
        }
        drop(waiting);
        self.waker.wake();
    }
}

/// What the bus and its controller share.
pub(crate) struct Shared {
    limits: BusLimits,
    /// In order of their places. Leaf lock, held for a look-up or a copy.
    units: Mutex<Vec<Arc<Unit>>>,
    /// Rises when units come or go.
    generation: AtomicU64,
    /// Who wants to look when units come or go. Leaf lock, held for a walk or a change.
    watchers: Mutex<Vec<Waker>>,
    events: Arc<Events>,
}

impl Shared {
    /// Rises when units come or go.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// In order of their places.
    pub fn units(&self) -> Vec<Arc<Unit>> {
        lock(&self.units).clone()
    }

    /// Who is woken from now on when units come or go.
    pub fn set_watchers(&self, watchers: Vec<Waker>) {
        *lock(&self.watchers) = watchers;
    }

    /// Signalled when there are events to tell.
    pub fn waker(&self) -> &Waker {
        &self.events.waker
    }

    /// Whether somebody is to be told of events. Those that wait are forgotten when not.
    pub fn set_live(&self, live: bool) {
        self.events.live.store(live, Ordering::Release);
        if !live {
            *lock(&self.events.waiting) = Waiting::default();
        }
    }

    /// The next event, which stays, and whether others were missed before it.
    pub fn next_event(&self) -> (Option<BusEvent>, bool) {
        let waiting = lock(&self.events.waiting);
        (waiting.events.front().copied(), waiting.missed)
    }

    /// The driver knows of the next event, and of those that were missed.
    pub fn told_event(&self) {
        let mut waiting = lock(&self.events.waiting);
        waiting.events.pop_front();
        waiting.missed = false;
    }

    /// Events were missed, whatever they were; for restoring saved state.
    pub fn set_missed(&self, missed: bool) {
        lock(&self.events.waiting).missed = missed;
    }

    /// Whether the driver does not know all; for saving state.
    pub fn has_untold(&self) -> bool {
        let waiting = lock(&self.events.waiting);
        waiting.missed || !waiting.events.is_empty()
    }

    /// Power-on, or a reset of the controller.
    pub fn reset(&self) {
        for unit in self.units() {
            unit.reset();
        }
    }
}

/// The bus: takes logical units, before the machine starts and later.
pub struct ScsiBus {
    shared: Arc<Shared>,
}

/// A device for the bus.
pub(super) struct Newcomer {
    pub wanted: Wanted,
    pub id: String,
    pub identity: Identity,
    pub attachment: Option<Arc<Attachment>>,
    pub failures: Option<Failures>,
    pub effects: Arc<dyn EffectSink>,
}

impl ScsiBus {
    /// An empty one.
    ///
    /// # Errors
    /// When the host has no descriptors left.
    pub(crate) fn new(limits: BusLimits) -> Result<Self, BlockError> {
        let events = Events {
            waiting: Mutex::default(),
            live: AtomicBool::new(false),
            waker: Waker::new()?,
        };
        Ok(ScsiBus {
            shared: Arc::new(Shared {
                limits,
                units: Mutex::default(),
                generation: AtomicU64::new(1),
                watchers: Mutex::default(),
                events: Arc::new(events),
            }),
        })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Its logical units, in order of their places.
    pub fn units(&self) -> Vec<Arc<Unit>> {
        self.shared.units()
    }

    /// Puts a logical unit on the bus.
    ///
    /// # Errors
    /// In QEMU's words, when its place is taken or is none, or there is none left.
    pub(super) fn add(&self, newcomer: Newcomer) -> QmpResult<Arc<Unit>> {
        let Newcomer {
            wanted,
            id,
            identity,
            attachment,
            failures,
            effects,
        } = newcomer;
        let mut units = lock(&self.shared.units);
        let place = self.choose(&units, wanted)?;
        let parts = Parts {
            place,
            id,
            identity,
            attachment,
            failures,
            effects,
        };
        let unit = Arc::new(Unit::new(parts, self.shared.events.clone()));
        let index = units.partition_point(|other| other.place() < place);
        units.insert(index, unit.clone());
        let siblings = same_target(&units, place);
        drop(units);
        self.changed(&siblings, BusEvent::Added(place));
        Ok(unit)
    }

    /// Takes a logical unit off the bus. Whether it was there.
    pub fn remove(&self, place: Place) -> bool {
        let mut units = lock(&self.shared.units);
        let count = units.len();
        units.retain(|unit| unit.place() != place);
        if units.len() == count {
            return false;
        }
        let siblings = same_target(&units, place);
        drop(units);
        self.changed(&siblings, BusEvent::Removed(place));
        true
    }

    fn changed(&self, siblings: &[Arc<Unit>], event: BusEvent) {
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
        if self.shared.events.live.load(Ordering::Acquire) {
            for unit in siblings {
                unit.attention().raise(Sense::LUNS_CHANGED);
            }
        }
        self.shared.events.post(event);
        for watcher in lock(&self.shared.watchers).iter() {
            watcher.wake();
        }
    }

    fn choose(&self, units: &[Arc<Unit>], wanted: Wanted) -> QmpResult<Place> {
        let limits = self.shared.limits;
        let refuse = |text: String| Err(QmpError::generic(text));
        if wanted.channel > limits.channel {
            return refuse(format!("bad scsi channel id: {}", wanted.channel));
        }
        let target = match wanted.target.map(|id| (id, u8::try_from(id))) {
            None => None,
            Some((_, Ok(target))) if target <= limits.target => Some(target),
            Some((id, _)) => return refuse(format!("bad scsi device id: {id}")),
        };
        let lun = match wanted.lun.map(|lun| (lun, u16::try_from(lun))) {
            None => None,
            Some((_, Ok(lun))) if lun <= limits.lun => Some(lun),
            Some((lun, _)) => return refuse(format!("bad scsi device lun: {lun}")),
        };
        let owner = |place: &Place| units.iter().find(|unit| unit.place() == *place);
        let free = |place: &Place| owner(place).is_none();
        let place = |target: u8, lun: u16| Place { target, lun };
        let none_left = |what: &str| QmpError::generic(format!("no free {what}"));
        match (target, lun) {
            (None, lun) => (0..=limits.target)
                .map(|target| place(target, lun.unwrap_or(0)))
                .find(free)
                .ok_or_else(|| none_left("target")),
            (Some(target), None) => (0..=limits.lun)
                .map(|lun| place(target, lun))
                .find(free)
                .ok_or_else(|| none_left("lun")),
            (Some(target), Some(lun)) => match owner(&place(target, lun)) {
                None => Ok(place(target, lun)),
                // Keys that are no ids begin with a slash.
                Some(unit) if unit.id().starts_with('/') => refuse("lun already used".into()),
                Some(unit) => refuse(format!("lun already used by '{}'", unit.id())),
            },
        }
    }
}

/// The logical units beside the one at `place`.
fn same_target(units: &[Arc<Unit>], place: Place) -> Vec<Arc<Unit>> {
    let beside = |unit: &&Arc<Unit>| unit.place().target == place.target && unit.place() != place;
    units.iter().filter(beside).cloned().collect()
}
