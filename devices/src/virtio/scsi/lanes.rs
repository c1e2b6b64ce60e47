//! The lanes of one queue: one into each logical unit that it has used, and who is where.

use std::sync::Arc;

use block::{BlockError, Done, IoLane, IoReq, Token, Waker};

use crate::scsi::{Place, Shared, Unit};

/// A logical unit that the driver may speak to.
struct Seat {
    place: Place,
    unit: Arc<Unit>,
    /// Its lane, once it was used.
    lane: Option<usize>,
}

struct Lane {
    unit: Arc<Unit>,
    lane: Box<dyn IoLane>,
    /// Requests wait for a start.
    begun: bool,
    /// Its unit is gone.
    retired: bool,
}

/// What is at an address.
pub(super) enum Found {
    /// A logical unit, by the number of its seat.
    Unit(usize),
    /// The target does not have it.
    NoUnit,
    /// There is no such target.
    NoTarget,
}

/// The lanes. All signal one waker.
pub(super) struct Lanes {
    depth: u32,
    waker: Waker,
    generation: u64,
    /// In order of their places.
    seats: Vec<Seat>,
    /// By number; a number is used again when its lane is gone.
    lanes: Vec<Option<Lane>>,
}

impl Lanes {
    pub fn new(depth: u32, waker: Waker) -> Self {
        Lanes {
            depth,
            waker,
            generation: 0,
            seats: Vec::new(),
            lanes: Vec::new(),
        }
    }

    /// Takes note of units that came or went; whether some did. Lanes of units that are gone stay
    /// until [`Self::prune`].
    pub fn refresh(&mut self, shared: &Shared) -> bool {
        let generation = shared.generation();
        if generation == self.generation {
            return false;
        }
        self.generation = generation;
        for lane in self.lanes.iter_mut().flatten() {
            lane.retired = true;
        }
        let units = shared.units().into_iter();
        let seats = units.map(|unit| Seat {
            place: unit.place(),
            lane: self.keep(&unit),
            unit,
        });
        self.seats = seats.collect();
        true
    }

    /// The number of the lane into a unit that stays.
    fn keep(&mut self, unit: &Arc<Unit>) -> Option<usize> {
        let into = |lane: &Lane| Arc::ptr_eq(&lane.unit, unit);
        let mut lanes = self.lanes.iter_mut().enumerate();
        let (number, lane) = lanes.find(|(_, lane)| lane.as_ref().is_some_and(into))?;
        if let Some(lane) = lane {
            lane.retired = false;
        }
        Some(number)
    }

    /// Closes the lanes of units that are gone, but for those that are in use still.
    pub fn prune(&mut self, in_use: impl Fn(usize) -> bool) {
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            if lane.as_ref().is_some_and(|lane| lane.retired) && !in_use(number) {
                *lane = None;
            }
        }
    }

    /// Whether there are lanes of units that are gone.
    pub fn has_retired(&self) -> bool {
        self.lanes.iter().flatten().any(|lane| lane.retired)
    }

    /// Who is at a place.
    pub fn find(&self, place: Place) -> Found {
        match self.seats.binary_search_by_key(&place, |seat| seat.place) {
            Ok(seat) => Found::Unit(seat),
            Err(_) if self.luns(place.target).is_empty() => Found::NoTarget,
            Err(_) => Found::NoUnit,
        }
    }

    /// The logical units of a target.
    pub fn luns(&self, target: u8) -> Vec<u16> {
        let own = self.seats.iter().filter(|seat| seat.place.target == target);
        own.map(|seat| seat.place.lun).collect()
    }

    /// The unit in a seat.
    pub fn unit(&self, seat: usize) -> Option<Arc<Unit>> {
        self.seats.get(seat).map(|seat| seat.unit.clone())
    }

    /// The number of the lane into the unit in a seat; `None` when the unit has no medium and
    /// never had a drive.
    ///
    /// # Errors
    /// When the host has no room for one.
    pub fn open(&mut self, seat: usize) -> Result<Option<usize>, BlockError> {
        let Some(seat) = self.seats.get_mut(seat) else {
            return Ok(None);
        };
        if seat.lane.is_none()
            && let Some(attachment) = seat.unit.attachment()
        {
            let lane = Lane {
                lane: attachment.open_lane(self.depth, &self.waker)?,
                unit: seat.unit.clone(),
                begun: false,
                retired: false,
            };
            let free = self.lanes.iter().position(Option::is_none);
            let number = free.unwrap_or(self.lanes.len());
            match self.lanes.get_mut(number) {
                Some(place) => *place = Some(lane),
                None => self.lanes.push(Some(lane)),
            }
            seat.lane = Some(number);
        }
        Ok(seat.lane)
    }

    /// Begins a request. A lane that is not there gives the request back.
    pub fn submit(
        &mut self,
        number: usize,
        request: IoReq,
        token: Token,
    ) -> Result<Option<Done>, IoReq> {
        match self.lanes.get_mut(number) {
            Some(Some(lane)) => {
                lane.begun = true;
                Ok(lane.lane.submit(request, token))
            }
            Some(None) | None => Err(request),
        }
    }

    /// Hands what was submitted to the host.
    pub fn start(&mut self) {
        for lane in self.lanes.iter_mut().flatten() {
            if std::mem::take(&mut lane.begun) {
                lane.lane.start();
            }
        }
    }

    /// Appends what has ended.
    pub fn reap(&mut self, done: &mut Vec<Done>) {
        for lane in self.lanes.iter_mut().flatten() {
            if lane.lane.in_flight() > 0 {
                lane.lane.reap(done);
            }
        }
    }
}
