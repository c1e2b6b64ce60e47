//! From the driver to the back end: each chain is a header and a frame (Virtio 1.2, section
//! 5.1.6.2). Nothing is copied here.

use std::sync::Arc;

use block::Buffers;

use super::MAX_FRAME;
use crate::backend::net::{HEADER, NetPort, Sent};
use crate::ram::GuestRam;
use crate::virtio::gather::gather;
use crate::virtio::{Chain, Virtqueue};

/// What came of a look at the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing is left in the queue.
    Empty,
    /// Others are to have their turn.
    More,
    /// The back end has no room.
    Full,
}

/// The transmit queue of a pair.
pub(super) struct Transmit {
    pub queue: Virtqueue,
    /// Frames keep their header.
    header: bool,
    /// The back end had no room for it.
    held: Option<Chain>,
    chain: Chain,
    frame: Buffers,
}

impl Transmit {
    pub fn new(queue: Virtqueue, header: bool) -> Self {
        Transmit {
            queue,
            header,
            held: None,
            chain: Chain::new(),
            frame: Buffers::new(),
        }
    }

    /// Sends up to `most` frames; without a link, or with no `port`, they go nowhere. The driver
    /// is told at the end.
    pub fn run(
        &mut self,
        memory: &Arc<GuestRam>,
        mut port: Option<&mut (dyn NetPort + 'static)>,
        most: usize,
    ) -> (Progress, usize) {
        let mut sent = 0usize;
        let progress = loop {
            if sent >= most {
                break Progress::More;
            }
            let chain = match self.held.take() {
                Some(chain) => chain,
                None => {
                    let mut chain = std::mem::take(&mut self.chain);
                    if !self.queue.pop_quietly(memory, &mut chain) {
                        self.chain = chain;
                        break Progress::Empty;
                    }
                    chain
                }
            };
            match self.send(memory, &chain, port.as_deref_mut()) {
                Some(Sent::Done) => {
                    self.queue.complete(memory, chain.head(), 0);
                    self.chain = chain;
                    sent = sent.saturating_add(1);
                }
                Some(Sent::Full) => {
                    self.held = Some(chain);
                    break Progress::Full;
                }
                None => {
                    self.queue.break_down("a frame has no header");
                    break Progress::Empty;
                }
            }
        };
        self.frame.clear();
        self.queue.notify(memory);
        (progress, sent)
    }

    /// `None` when the driver broke the rules.
    fn send(
        &mut self,
        memory: &Arc<GuestRam>,
        chain: &Chain,
        port: Option<&mut (dyn NetPort + 'static)>,
    ) -> Option<Sent> {
        let len = chain.readable.len();
        let bare = len.checked_sub(HEADER as u64)?;
        let Some(port) = port.filter(|_| bare > 0 && bare <= MAX_FRAME) else {
            // Nowhere to go, or no frame that anybody takes.
            return Some(Sent::Done);
        };
        let part = match self.header {
            true => (0, len),
            false => (HEADER as u64, bare),
        };
        if !gather(&chain.readable, memory, part, &mut self.frame) {
            return Some(Sent::Done);
        }
        Some(port.send(&self.frame))
    }

    /// Puts back what was not sent; it comes again.
    pub fn stop(&mut self) {
        if let Some(chain) = self.held.take() {
            self.queue.put_back(&chain);
        }
    }
}
