//! What becomes of data, told to nodes below that inject faults then.

use crate::edge::Edge;
use crate::filter::Event;
use crate::node::IoLane;
use crate::request::{Done, IoReq, Op, Token};

/// Whether somebody below listens to events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Events {
    Heard,
    Unheard,
}

/// Tells of a request for data.
pub(crate) fn tell(below: &Edge, op: Op) {
    match op {
        Op::Read { .. } => below.event(Event::ReadAio),
        Op::Write { .. } => below.event(Event::WriteAio),
        Op::Flush | Op::Discard { .. } | Op::WriteZeroes { .. } => {}
    }
}

/// A lane that tells of its requests where somebody listens.
pub(crate) struct TellingLane<L> {
    inner: L,
    listener: Option<Edge>,
}

impl<L> TellingLane<L> {
    pub fn new(inner: L, below: &Edge, events: Events) -> Self {
        TellingLane {
            inner,
            listener: (events == Events::Heard).then(|| below.clone()),
        }
    }
}

impl<L: IoLane> IoLane for TellingLane<L> {
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done> {
        if let Some(below) = &self.listener {
            tell(below, request.op);
        }
        self.inner.submit(request, token)
    }

    fn start(&mut self) {
        self.inner.start();
    }

    fn reap(&mut self, done: &mut Vec<Done>) {
        self.inner.reap(done);
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}
