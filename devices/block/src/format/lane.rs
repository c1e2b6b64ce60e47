//! The lane of all formats.
//!
//! ```text
//! submit -> plan -> one piece below    -> its lane, with the request's own buffers -> ended
//!                -> several            -> their lanes, with slices; the last one   -> ended
//!                -> slow               -> pool, perform                            -> ready
//! ```

use std::io;
use std::sync::Arc;

use super::{Below, Format, Piece, Plan, What};
use crate::edge::EdgeLane;
use crate::error::BlockError;
use crate::node::IoLane;
use crate::pool::Pool;
use crate::port::{Port, Ticket};
use crate::request::{Done, IoReq, Token};
use crate::waker::Waker;

/// A planned request on its way.
struct Active<T> {
    token: Token,
    /// As it was asked for; without its buffers where they went below.
    request: IoReq,
    keep: T,
    /// Pieces below that have not ended.
    left: usize,
    result: io::Result<()>,
}

/// The lane.
pub(super) struct FormatLane<F: Format> {
    format: Arc<F>,
    pool: Pool,
    port: Arc<Port>,
    depth: u32,
    lanes: Vec<(Below, EdgeLane)>,
    /// Requests by number, which is the token below.
    slots: Vec<Option<Active<F::Keep>>>,
    free: Vec<usize>,
    pooled: usize,
    /// Lists to be used again.
    pieces: Vec<Piece>,
    ended: Vec<Done>,
}

impl<F: Format> FormatLane<F> {
    pub fn open(
        format: Arc<F>,
        pool: &Pool,
        depth: u32,
        waker: &Waker,
    ) -> Result<Self, BlockError> {
        let mut lane = FormatLane {
            format,
            pool: pool.clone(),
            port: Port::new(waker),
            depth,
            lanes: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            pooled: 0,
            pieces: Vec::new(),
            ended: Vec::new(),
        };
        // Nearly all that comes goes there; that it cannot be opened is told at once.
        lane.lane(Below::Data)?;
        Ok(lane)
    }

    fn lane(&mut self, below: Below) -> Result<&mut EdgeLane, BlockError> {
        let at = match self.lanes.iter().position(|(other, _)| *other == below) {
            Some(at) => at,
            None => {
                let edge = self.format.edge(below).ok_or(BlockError::Empty)?;
                let lane = edge.open_lane(self.depth, self.port.waker())?;
                self.lanes.push((below, lane));
                self.lanes.len().saturating_sub(1)
            }
        };
        let lane = self.lanes.get_mut(at).map(|(_, lane)| lane);
        lane.ok_or(BlockError::Empty)
    }

    fn hand_to_pool(&mut self, request: IoReq, token: Token) {
        self.pooled = self.pooled.saturating_add(1);
        let format = self.format.clone();
        let ticket = Ticket::new(token, request, (), &self.port);
        self.pool.run(Box::new(move || {
            // It lets go of the format before anybody learns of the end.
            ticket.perform(move |request| format.perform(request.op, &request.buffers));
        }));
    }

    fn insert(&mut self, active: Active<F::Keep>) -> usize {
        match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.slots.get_mut(slot) {
                    *place = Some(active);
                }
                slot
            }
            None => {
                self.slots.push(Some(active));
                self.slots.len().saturating_sub(1)
            }
        }
    }

    fn begin(
        &mut self,
        mut request: IoReq,
        token: Token,
        keep: F::Keep,
        pieces: &[Piece],
    ) -> Option<Done> {
        let below = |piece: &&Piece| matches!(piece.what, What::Below(..));
        let left = pieces.iter().filter(below).count();
        for piece in pieces.iter().filter(|piece| piece.what == What::Zeroes) {
            request.buffers.slice(piece.at, piece.len).zero_from(0);
        }
        // One piece is the whole request: its own buffers go below, and come back.
        let mut whole = match pieces {
            [piece] if below(&piece) => Some(std::mem::take(&mut request.buffers)),
            _ => None,
        };
        let started = request.started;
        let slot = self.insert(Active {
            token,
            request,
            keep,
            left,
            result: Ok(()),
        });
        if left == 0 {
            return self.finish(slot);
        }
        let mut done = None;
        for piece in pieces {
            let What::Below(below, op) = piece.what else {
                continue;
            };
            let buffers = match (whole.take(), self.slots.get(slot)) {
                (Some(buffers), _) => buffers,
                (None, Some(Some(active))) => active.request.buffers.slice(piece.at, piece.len),
                (None, _) => continue,
            };
            let request = IoReq {
                op,
                buffers,
                started,
            };
            let token = Token(slot as u64);
            if let Some(ended) = self.send(below, request, token) {
                done = self.piece_ended(ended);
            }
        }
        done
    }

    fn send(&mut self, below: Below, request: IoReq, token: Token) -> Option<Done> {
        match self.lane(below) {
            Ok(lane) => lane.submit(request, token),
            Err(error) => {
                log::error!("A node below an image cannot be used: {error}");
                Some(Done {
                    token,
                    result: Err(io::Error::from_raw_os_error(libc::EIO)),
                    request,
                })
            }
        }
    }

    /// A piece has ended; the request's end, when it was the last one.
    fn piece_ended(&mut self, ended: Done) -> Option<Done> {
        let slot = usize::try_from(ended.token.0).ok()?;
        let active = self.slots.get_mut(slot)?.as_mut()?;
        if active.request.buffers.is_empty() {
            active.request.buffers = ended.request.buffers;
        }
        if active.result.is_ok() {
            active.result = ended.result;
        }
        active.left = active.left.saturating_sub(1);
        if active.left > 0 {
            return None;
        }
        self.finish(slot)
    }

    fn finish(&mut self, slot: usize) -> Option<Done> {
        let active = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        let result = self.format.ended(active.keep, active.result);
        Some(Done {
            token: active.token,
            result,
            request: active.request,
        })
    }
}

impl<F: Format> IoLane for FormatLane<F> {
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done> {
        trace::point!(
            IMAGE_SUBMIT,
            op = request.op.name(),
            len = request.buffers.len()
        );
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.clear();
        let plan = self.format.plan(request.op, &request.buffers, &mut pieces);
        let done = match plan {
            Plan::Pieces(keep) => self.begin(request, token, keep, &pieces),
            Plan::Slow => {
                self.hand_to_pool(request, token);
                None
            }
        };
        self.pieces = pieces;
        done
    }

    fn start(&mut self) {
        self.lanes.iter_mut().for_each(|(_, lane)| lane.start());
    }

    fn reap(&mut self, done: &mut Vec<Done>) {
        let pooled = self.port.collect(done);
        self.pooled = self.pooled.saturating_sub(pooled);
        let mut ended = std::mem::take(&mut self.ended);
        for (_, lane) in &mut self.lanes {
            lane.reap(&mut ended);
        }
        for piece in ended.drain(..) {
            done.extend(self.piece_ended(piece));
        }
        self.ended = ended;
    }

    fn in_flight(&self) -> usize {
        let planned = self.slots.len().saturating_sub(self.free.len());
        planned.saturating_add(self.pooled)
    }
}

impl<F: Format> Drop for FormatLane<F> {
    fn drop(&mut self) {
        // Also what is planned: the format counts on hearing of its end.
        let mut done = Vec::new();
        while self.in_flight() > 0 {
            self.start();
            self.port.waker().wait();
            self.port.waker().clear();
            self.reap(&mut done);
            done.clear();
        }
        self.port.waker().wake();
    }
}
