#![allow(unsafe_code)] // host addresses of guest memory
//! From the back end to the driver (Virtio 1.2, section 5.1.6.3). A frame is read directly into
//! the driver's buffers; a page of ours behind them catches what does not fit, so that a frame that
//! is too long is known as such.
//!
//! ```text
//! buffers taken and not used yet: [chain][chain][chain]...        (stay taken from frame to frame)
//! room of one frame:              [header|..........][.....][spare room of ours]
//!                                  <---- reach ---->
//! ```
//!
//! With mergeable buffers the room is as many buffers as the latest frames needed; a longer frame
//! lands partly in the spare room, is copied from there, and makes the next room larger.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use block::{Buffers, HostBuffer};

use super::MAX_FRAME;
use super::filter::PEEK;
use super::shared::Settings;
use crate::backend::net::{HEADER, NetPort};
use crate::ram::GuestRam;
use crate::virtio::{Chain, Virtqueue};

/// Bytes of the spare room: any frame with its header.
const SPARE: usize = MAX_FRAME as usize + HEADER;
/// Bytes that the room begins with, and shrinks to.
const SMALL: u64 = 4096;
/// After so many frames that would have fitted into [`SMALL`], the room shrinks.
const PATIENCE: u32 = 256;
/// Parts of a room at most, with some to spare for buffers that lie in two pieces of memory: the
/// host takes 1024 in one vector.
const MAX_PARTS: usize = 960;
/// Looks at a queue that looks filled and is not, before others have their turn.
const MAX_TRIES: usize = 16;
/// Where the header has the number of buffers (Virtio 1.2, section 5.1.6).
const NUM_BUFFERS: u64 = 10;

/// What came of a look at the back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// No frame is left.
    Empty,
    /// Others are to have their turn.
    More,
    /// The driver gave no buffers. Kicks are asked for.
    Starved,
    /// The back end is broken.
    Broken,
}

/// A frame that was read, and waits for buffers for the rest of it.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// Bytes with the header.
    len: u64,
    /// Bytes that are in the first `chains` buffers.
    placed: u64,
    chains: usize,
    /// Where in the frame the spare room begins.
    spare_at: u64,
}

/// What keeps both kinds of memory alive.
struct Keeper {
    memory: Arc<GuestRam>,
    _spare: Arc<HostBuffer>,
}

/// The receive queue of a pair.
pub(super) struct Receive {
    pub queue: Virtqueue,
    /// Frames come with a header.
    header: bool,
    /// A frame may fill several buffers.
    mergeable: bool,
    /// Taken from the queue, in order.
    ready: VecDeque<Chain>,
    unused: Vec<Chain>,
    reach: u64,
    small_frames: u32,
    room: Buffers,
    spare: Arc<HostBuffer>,
    spare_buffers: Buffers,
    keeper: Option<Arc<Keeper>>,
    waiting: Option<Waiting>,
}

impl Receive {
    pub fn new(queue: Virtqueue, header: bool, mergeable: bool) -> Self {
        // Not aligned to pages: memory that nothing was read into is not taken from the host.
        let spare = Arc::new(HostBuffer::new(SPARE, 8));
        Receive {
            queue,
            header,
            mergeable,
            ready: VecDeque::new(),
            unused: Vec::new(),
            reach: SMALL,
            small_frames: 0,
            room: Buffers::new(),
            spare_buffers: Buffers::owned(spare.clone()),
            spare,
            keeper: None,
            waiting: None,
        }
    }

    /// Reads up to `most` frames. The driver is told at the end.
    pub fn run(
        &mut self,
        memory: &Arc<GuestRam>,
        port: &mut dyn NetPort,
        settings: &Settings,
        most: usize,
    ) -> (Progress, usize) {
        let (mut count, mut tries) = (0usize, 0usize);
        let progress = loop {
            if count >= most || tries >= MAX_TRIES {
                break Progress::More;
            }
            match self.one(memory, port, settings) {
                Ok(Step::Frame) => count = count.saturating_add(1),
                Ok(Step::None) => break Progress::Empty,
                // A buffer may have come just before kicks were asked for.
                Ok(Step::Starved) if self.queue.ask_for_kicks(memory) => {
                    tries = tries.saturating_add(1);
                }
                Ok(Step::Starved) => break Progress::Starved,
                Err(error) => {
                    log::warn!("A network back end cannot receive any more: {error}");
                    break Progress::Broken;
                }
            }
        };
        self.room.clear();
        self.queue.notify(memory);
        (progress, count)
    }

    /// Throws up to `most` frames away: there is no link.
    pub fn discard(&mut self, port: &mut dyn NetPort, most: usize) -> (Progress, usize) {
        self.waiting = None;
        let mut count = 0usize;
        while count < most {
            match port.receive(&self.spare_buffers) {
                Ok(Some(_)) => count = count.saturating_add(1),
                Ok(None) => return (Progress::Empty, count),
                Err(error) => {
                    log::warn!("A network back end cannot receive any more: {error}");
                    return (Progress::Broken, count);
                }
            }
        }
        (Progress::More, count)
    }

    /// Puts back what was taken and not used; a frame that waits is lost, as networks may do.
    pub fn stop(&mut self) {
        self.waiting = None;
        while let Some(chain) = self.ready.pop_back() {
            self.queue.put_back(&chain);
        }
    }

    fn one(
        &mut self,
        memory: &Arc<GuestRam>,
        port: &mut dyn NetPort,
        settings: &Settings,
    ) -> io::Result<Step> {
        if let Some(waiting) = self.waiting.take() {
            return Ok(self.place(memory, waiting));
        }
        let chains = self.prepare(memory);
        if chains == 0 {
            return Ok(Step::Starved);
        }
        let before = if self.header { 0 } else { HEADER as u64 };
        let Some(got) = port.receive(&self.room)? else {
            return Ok(Step::None);
        };
        let len = before.saturating_add(got as u64);
        // What the room has of the driver's memory, with the part before the frame.
        let reach = self.room.len().saturating_sub(SPARE as u64);
        let spare_at = reach.saturating_add(before);
        let frame = Waiting {
            len,
            placed: len.min(spare_at),
            chains,
            spare_at,
        };
        let cut = got as u64 > self.room.len();
        if cut || len <= HEADER as u64 || !self.wants(memory, settings, frame) {
            return Ok(Step::Frame);
        }
        self.adapt(frame);
        if len > spare_at && !self.mergeable {
            // It does not fit: the driver said that it takes no such frames.
            return Ok(Step::Frame);
        }
        Ok(self.place(memory, frame))
    }

    /// Makes the room of the next frame: how many buffers it has.
    fn prepare(&mut self, memory: &Arc<GuestRam>) -> usize {
        let keeper = match &self.keeper {
            Some(keeper) if Arc::ptr_eq(&keeper.memory, memory) => keeper.clone(),
            _ => {
                let keeper = Arc::new(Keeper {
                    memory: memory.clone(),
                    _spare: self.spare.clone(),
                });
                self.keeper = Some(keeper.clone());
                keeper
            }
        };
        self.room.begin(keeper);
        let mut skip = if self.header { 0 } else { HEADER as u64 };
        let mut used = 0usize;
        loop {
            if used == self.ready.len() && !self.take(memory) {
                break;
            }
            let Some(chain) = self.ready.get(used) else {
                break;
            };
            let parts = chain.writable.list().len();
            if used > 0 && self.room.parts().len().saturating_add(parts) > MAX_PARTS {
                break;
            }
            let room = &mut self.room;
            let len = chain.writable.len().saturating_sub(skip);
            chain.writable.host(memory, skip, len, |pointer, len| {
                // SAFETY: `Segments::host` gives addresses inside of the mappings that `memory`
                // holds, which the keeper holds. Guest memory is never borrowed as a Rust slice.
                unsafe { room.push(pointer, len) };
            });
            skip = 0;
            used = used.saturating_add(1);
            let all = used >= usize::from(self.queue.size());
            if !self.mergeable || all || self.room.len() >= self.reach {
                break;
            }
        }
        // SAFETY: the keeper of `room` holds the spare room as well.
        unsafe { crate::virtio::gather::append(&mut self.room, &self.spare_buffers) };
        used
    }

    /// Takes one more buffer from the queue. Such that are of no use break the device down, as
    /// they do with QEMU.
    fn take(&mut self, memory: &GuestRam) -> bool {
        let mut chain = self.unused.pop().unwrap_or_default();
        if !self.queue.pop_quietly(memory, &mut chain) {
            self.unused.push(chain);
            return false;
        }
        if chain.writable.len() < HEADER as u64 {
            self.queue
                .break_down("a receive buffer has no room for a header");
            return false;
        }
        if chain.writable.list().len() > MAX_PARTS {
            self.queue.break_down("a receive buffer has too many parts");
            return false;
        }
        self.ready.push_back(chain);
        true
    }

    /// Whether the driver wants a frame that was read.
    fn wants(&self, memory: &GuestRam, settings: &Settings, frame: Waiting) -> bool {
        if settings.filter.promisc {
            return true;
        }
        let mut head = [0; HEADER + PEEK];
        let end = usize::try_from(frame.len)
            .unwrap_or(usize::MAX)
            .min(head.len());
        let placed = usize::try_from(frame.placed).unwrap_or(usize::MAX).min(end);
        let mut at = 0usize;
        for chain in &self.ready {
            let rest = head.get_mut(at..placed).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            at = at.saturating_add(chain.writable.read(memory, 0, rest));
        }
        self.spare_buffers
            .read_at(0, head.get_mut(placed..end).unwrap_or_default());
        let mut peek = [0; PEEK];
        for (to, from) in peek.iter_mut().zip(head.iter().skip(HEADER)) {
            *to = *from;
        }
        settings
            .filter
            .takes(&peek, &settings.mac, settings.by_vlan())
    }

    fn adapt(&mut self, frame: Waiting) {
        if frame.len > frame.spare_at {
            self.reach = SPARE as u64;
            self.small_frames = 0;
        } else if frame.len > SMALL {
            self.small_frames = 0;
        } else if self.reach > SMALL {
            self.small_frames = self.small_frames.saturating_add(1);
            if self.small_frames > PATIENCE {
                self.reach = SMALL;
                self.small_frames = 0;
            }
        }
    }

    /// Gives the frame to the driver, once there are buffers for all of it.
    fn place(&mut self, memory: &Arc<GuestRam>, mut frame: Waiting) -> Step {
        while frame.placed < frame.len {
            if frame.chains >= usize::from(self.queue.size()) {
                // All that the driver can give is too little.
                return Step::Frame;
            }
            if frame.chains == self.ready.len() && !self.take(memory) {
                self.waiting = Some(frame);
                return Step::Starved;
            }
            let Some(chain) = self.ready.get(frame.chains) else {
                break;
            };
            let copied = self.copy_spare(memory, chain, frame);
            frame.placed = frame.placed.saturating_add(copied);
            frame.chains = frame.chains.saturating_add(1);
        }
        self.finish(memory, frame.len);
        Step::Frame
    }

    /// Copies what belongs into `chain` from the spare room; how many bytes that are.
    fn copy_spare(&self, memory: &GuestRam, chain: &Chain, frame: Waiting) -> u64 {
        let mut chunk = [0; 4096];
        let from = frame.placed.saturating_sub(frame.spare_at);
        let left = frame.len.saturating_sub(frame.placed);
        let room = chain.writable.len().min(left);
        let mut done = 0u64;
        while done < room {
            let most = usize::try_from(room.saturating_sub(done)).unwrap_or(usize::MAX);
            let part = chunk.get_mut(..most.min(4096)).unwrap_or_default();
            let got = self.spare_buffers.read_at(from.saturating_add(done), part);
            let Some(data) = part.get(..got).filter(|data| !data.is_empty()) else {
                break;
            };
            chain.writable.write(memory, done, data);
            done = done.saturating_add(got as u64);
        }
        room
    }

    /// Gives back the buffers that the frame fills.
    fn finish(&mut self, memory: &GuestRam, len: u64) {
        trace::point!(VIRTIO_NET_RECEIVE, len = len);
        let mut count = 0u16;
        let mut left = len;
        for chain in &self.ready {
            count = count.saturating_add(1);
            left = left.saturating_sub(chain.writable.len());
            if left == 0 {
                break;
            }
        }
        self.write_header(memory, count);
        let mut left = len;
        let filled = self.ready.drain(..usize::from(count)).map(|chain| {
            let here = chain.writable.len().min(left);
            left = left.saturating_sub(here);
            chain.writable.mark_dirty(memory, 0, here);
            let used = (chain.head(), u32::try_from(here).unwrap_or(u32::MAX));
            self.unused.push(chain);
            used
        });
        // A driver that sees the first buffer counts on the others.
        self.queue.complete_together(memory, filled);
    }

    /// The header is in the first buffer, which has room for it.
    fn write_header(&self, memory: &GuestRam, count: u16) {
        let Some(first) = self.ready.front() else {
            return;
        };
        if self.header {
            first
                .writable
                .write(memory, NUM_BUFFERS, &count.to_le_bytes());
        } else {
            let mut header = [0; HEADER];
            let [.., low, high] = &mut header;
            [*low, *high] = count.to_le_bytes();
            first.writable.write(memory, 0, &header);
        }
    }
}

/// What came of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A frame was given to the driver, or dropped.
    Frame,
    /// There is none.
    None,
    /// There are too few buffers.
    Starved,
}
