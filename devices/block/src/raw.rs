//! `raw`: the bytes of the node below as they are, or a window of them.
//!
//! Where nobody said that an image is raw and its first bytes only told nothing else, the guest
//! must not write a first sector that does: the next one who looks would take the image for
//! another format, with a backing file of the guest's choice, say.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::buffers::{Buffers, HostBuffer};
use crate::edge::Edge;
use crate::error::BlockError;
use crate::filter::Event;
use crate::format::probe;
use crate::gate::{Gate, Policy, Screen};
use crate::graph::Perms;
use crate::node::{Activity, BlockNode, Extent, IoLane, NodeInfo, SECTOR};
use crate::request::{Done, IoReq, Op, Token};
use crate::stats::Stats;
use crate::telling::{Events, TellingLane, tell};
use crate::waker::Waker;

/// A window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawWindow {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is; up to the end where it is not given.
    pub size: Option<u64>,
}

pub(crate) struct RawNode {
    below: Edge,
    window: RawWindow,
    screen: Screen,
    guard: Option<Arc<Guard>>,
    events: Events,
}

impl RawNode {
    pub fn open(
        below: Edge,
        window: RawWindow,
        probed: bool,
        mut policy: Policy,
        stats: Arc<Stats>,
    ) -> Result<Self, BlockError> {
        let info = below.info();
        if probed {
            // The first sector is written as a whole or not at all.
            policy.granule = policy.granule.max(SECTOR as u32);
        }
        let size = window_size(window, info.size)?;
        if !window.offset.is_multiple_of(info.granule.into()) {
            return Err(BlockError::OffsetNotSectors);
        }
        Ok(RawNode {
            below,
            window,
            screen: Screen::new(policy, size, stats).shifted(window.offset),
            guard: probed.then(Arc::default),
            events: Events::Unheard,
        })
    }

    /// The same, telling those below of its requests where they listen.
    pub fn telling(self, events: Events) -> Self {
        RawNode { events, ..self }
    }
}

/// Keeps a probed image from looking like something else.
#[derive(Default)]
struct Guard {
    told: AtomicBool,
}

impl Guard {
    /// For a write of the first sector: the buffers as they were looked at, because the guest may
    /// change its own meanwhile; `None` for any other request.
    ///
    /// # Errors
    /// EPERM, when the image would be another format's.
    fn check(&self, op: Op, buffers: &Buffers) -> io::Result<Option<Buffers>> {
        let Op::Write { offset, .. } = op else {
            return Ok(None);
        };
        if offset >= probe::PROBED as u64 {
            return Ok(None);
        }
        let mut bytes = vec![0; buffers.len() as usize];
        buffers.read_at(0, &mut bytes);
        let start = bytes.get(..probe::PROBED).unwrap_or(&bytes);
        let format = probe::format_of(start);
        if format == "raw" {
            let copy = HostBuffer::from_bytes(&bytes, 4096);
            return Ok(Some(Buffers::owned(copy)));
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            log::warn!(
                "A guest's write was refused that would make its disk a {format} image: the \
                 image's format was not specified, and it was taken for raw"
            );
        }
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }
}

/// A lane with the guard in front.
struct GuardLane<L> {
    inner: L,
    guard: Arc<Guard>,
    /// Buffers of requests that are done with copies.
    originals: Vec<(Token, Buffers)>,
}

impl<L> GuardLane<L> {
    fn ended(&mut self, done: &mut Done) {
        let mut originals = self.originals.iter();
        if let Some(at) = originals.position(|(token, _)| *token == done.token) {
            (_, done.request.buffers) = self.originals.swap_remove(at);
        }
    }
}

impl<L: IoLane> IoLane for GuardLane<L> {
    fn submit(&mut self, mut request: IoReq, token: Token) -> Option<Done> {
        match self.guard.check(request.op, &request.buffers) {
            Ok(None) => {}
            Ok(Some(copy)) => {
                let original = std::mem::replace(&mut request.buffers, copy);
                self.originals.push((token, original));
            }
            Err(error) => {
                return Some(Done {
                    token,
                    result: Err(error),
                    request,
                });
            }
        }
        let mut done = self.inner.submit(request, token)?;
        self.ended(&mut done);
        Some(done)
    }

    fn start(&mut self) {
        self.inner.start();
    }

    fn reap(&mut self, done: &mut Vec<Done>) {
        let before = done.len();
        self.inner.reap(done);
        for done in done.iter_mut().skip(before) {
            self.ended(done);
        }
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}

fn window_size(window: RawWindow, below: u64) -> Result<u64, BlockError> {
    let RawWindow { offset, size } = window;
    let left = below
        .checked_sub(offset)
        .ok_or(BlockError::OffsetBeyondEnd {
            offset,
            size: below,
        })?;
    let Some(len) = size else {
        return Ok(left / SECTOR * SECTOR);
    };
    if len > left {
        return Err(BlockError::WindowBeyondEnd {
            offset,
            len,
            size: below,
        });
    }
    if !len.is_multiple_of(SECTOR) {
        return Err(BlockError::SizeNotSectors);
    }
    Ok(len)
}

impl BlockNode for RawNode {
    fn info(&self) -> NodeInfo {
        NodeInfo {
            size: self.screen.size(),
            read_only: self.screen.policy().read_only,
            granule: self.below.info().granule.max(self.screen.policy().granule),
        }
    }

    fn allocated(&self) -> Option<u64> {
        self.below.node()?.allocated()
    }

    fn open_lane(&self, depth: u32, waker: &Waker) -> Result<Box<dyn IoLane>, BlockError> {
        let lane = self.below.open_lane(depth, waker)?;
        let lane = TellingLane::new(lane, &self.below, self.events);
        let screen = self.screen.clone();
        Ok(match &self.guard {
            None => Box::new(Gate::new(lane, screen)),
            Some(guard) => {
                let lane = GuardLane {
                    inner: lane,
                    guard: guard.clone(),
                    originals: Vec::new(),
                };
                Box::new(Gate::new(lane, screen))
            }
        })
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        self.screen.perform(op, buffers, |op| {
            let copy = match &self.guard {
                Some(guard) => guard.check(op, buffers)?,
                None => None,
            };
            if self.events == Events::Heard {
                tell(&self.below, op);
            }
            self.below.perform(op, copy.as_ref().unwrap_or(buffers))
        })
    }

    fn extent(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let len = len.min(self.screen.size().saturating_sub(offset));
        let offset = offset.saturating_add(self.window.offset);
        self.below.extent(offset, len)
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        if self.window.size.is_some() {
            let text = "Cannot resize fixed-size raw disks";
            return Err(BlockError::Unsupported(text.to_owned()));
        }
        let below = self.below.node().ok_or(BlockError::Empty)?;
        let end = self.window.offset.checked_add(size);
        below.resize(end.ok_or(BlockError::NoResize)?)?;
        let size = window_size(self.window, below.info().size)?;
        self.screen.set_size(size);
        Ok(())
    }

    fn set_perms(&self, _perms: Perms) -> Result<(), BlockError> {
        Ok(())
    }

    fn set_activity(&self, activity: Activity) -> Result<(), BlockError> {
        if activity == Activity::Active {
            let size = window_size(self.window, self.below.info().size)?;
            self.screen.set_size(size);
        }
        self.screen.set_activity(activity);
        Ok(())
    }

    fn event(&self, event: Event) {
        self.below.event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeExt;
    use crate::request::Durability;
    use crate::testing::MemoryNode;

    fn raw(probed: bool) -> RawNode {
        let below = MemoryNode::new(vec![0; 4096], 4096);
        let edge = Edge::new(Some(Arc::new(below)));
        let window = RawWindow::default();
        RawNode::open(edge, window, probed, Policy::default(), Arc::default()).unwrap()
    }

    fn sector(start: &[u8]) -> Vec<u8> {
        let mut bytes = start.to_vec();
        bytes.resize(1024, 0);
        bytes
    }

    #[test]
    fn a_probed_image_does_not_become_another_format() {
        let node = raw(true);
        assert_eq!(node.info().granule, 512);
        for magic in [
            &b"QFI\xfb\0\0\0\x03"[..],
            b"QED\0",
            b"KDMV",
            b"# Disk DescriptorFile\nversion=1\n",
            b"vhdxfile",
            b"conectix",
            b"LUKS\xba\xbe\0\x01",
            b"WithoutFreeSpace",
        ] {
            let error = node.write_at(0, &sector(magic)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
            node.write_at(512, &sector(magic)).unwrap();
        }
        let mut first = [1; 512];
        node.read_at(0, &mut first).unwrap();
        assert_eq!(first, [0; 512], "nothing was written");
        node.write_at(0, &sector(b"\xeb\x63\x90")).unwrap();
        node.read_at(0, &mut first).unwrap();
        assert!(first.starts_with(b"\xeb\x63\x90"));
        // Not by halves, either.
        assert!(node.write_at(0, b"QFI").is_err());
    }

    #[test]
    fn an_image_that_is_said_to_be_raw_holds_what_it_likes() {
        raw(false)
            .write_at(0, &sector(b"QFI\xfb\0\0\0\x03"))
            .unwrap();
    }

    #[test]
    fn lanes_are_guarded_and_give_the_buffers_back() {
        let node = raw(true);
        let waker = Waker::new().unwrap();
        let mut lane = node.open_lane(4, &waker).unwrap();
        let mut write = |start: &[u8]| {
            let memory = HostBuffer::from_bytes(&sector(start), 512);
            let buffers = Buffers::owned(memory);
            let address = buffers.parts()[0].address();
            let op = Op::Write {
                offset: 0,
                durability: Durability::Cached,
            };
            let done = lane.submit(IoReq::new(op, buffers), Token(1)).unwrap();
            assert_eq!(done.request.buffers.parts()[0].address(), address);
            done.result.map_err(|error| error.raw_os_error())
        };
        assert_eq!(write(b"QFI\xfb\0\0\0\x02"), Err(Some(libc::EPERM)));
        assert_eq!(write(b"harmless"), Ok(()));
        let mut first = [0; 512];
        node.read_at(0, &mut first).unwrap();
        assert!(first.starts_with(b"harmless"));
    }
}
