//! Images in memory, for tests and fuzz targets.

pub mod fuzz;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffers::Buffers;
use crate::edge::Edge;
use crate::error::BlockError;
use crate::format::{self, OpenFormat};
use crate::gate::{Discard, Policy, Screen};
use crate::graph::{FormatKind, Perms, Qcow2Options};
use crate::node::{BlockNode, Extent, ExtentKind, IoLane, NodeInfo, SECTOR};
use crate::notice::Reporter;
use crate::null::sectors_up;
use crate::pool::Pool;
use crate::request::{Done, IoReq, Op, Token};
use crate::waker::Waker;

/// What was done since the last flush.
#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Resize(u64),
}

#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    /// As of the last flush.
    durable: Vec<u8>,
    pending: Vec<Change>,
    flushes: u64,
    /// Writes until one fails.
    left: Option<u64>,
}

/// A node in memory. Clones are the same.
#[derive(Clone)]
pub struct MemoryNode {
    memory: Arc<Mutex<Memory>>,
    /// Largest size.
    most: u64,
    /// Keeps what a crash would leave.
    keeps: bool,
}

impl MemoryNode {
    /// A node of these bytes, filled up to sectors, that grows to at most `most`.
    pub fn new(mut bytes: Vec<u8>, most: u64) -> Self {
        bytes.resize(sectors_up(bytes.len() as u64) as usize, 0);
        let memory = Memory {
            bytes,
            ..Memory::default()
        };
        MemoryNode {
            memory: Arc::new(Mutex::new(memory)),
            most,
            keeps: false,
        }
    }

    /// The same, which can crash.
    pub fn keeping(self) -> Self {
        let mut memory = self.memory();
        memory.durable = memory.bytes.clone();
        drop(memory);
        MemoryNode {
            keeps: true,
            ..self
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.memory().bytes.clone()
    }

    /// Flushes so far.
    pub fn flushes(&self) -> u64 {
        self.memory().flushes
    }

    /// Every write after `writes` more of them fails with ENOSPC; `None` takes that back.
    pub fn fail_after(&self, writes: Option<u64>) {
        self.memory().left = writes;
    }

    /// What is there after a crash now: what was flushed, and of the rest those sectors of which
    /// `keep` says so.
    pub fn crash(&self, mut keep: impl FnMut() -> bool) -> Vec<u8> {
        let memory = self.memory();
        let mut bytes = memory.durable.clone();
        for change in &memory.pending {
            match change {
                Change::Resize(size) => {
                    if keep() {
                        bytes.resize(*size as usize, 0);
                    }
                }
                Change::Write(offset, data) => {
                    for (i, sector) in data.chunks(SECTOR as usize).enumerate() {
                        if keep() {
                            let at = *offset as usize + i * SECTOR as usize;
                            let end = at + sector.len();
                            if bytes.len() < end {
                                bytes.resize(end, 0);
                            }
                            bytes[at..end].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        bytes
    }

    fn change(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut memory = self.memory();
        if let Some(left) = &mut memory.left {
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => return Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            }
        }
        let end = offset.saturating_add(data.len() as u64) as usize;
        let place = memory.bytes.get_mut(offset as usize..end);
        place.ok_or_else(beyond)?.copy_from_slice(data);
        if self.keeps {
            memory.pending.push(Change::Write(offset, data.to_vec()));
        }
        Ok(())
    }
}

fn beyond() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

impl BlockNode for MemoryNode {
    fn info(&self) -> NodeInfo {
        NodeInfo {
            size: self.memory().bytes.len() as u64,
            read_only: false,
            // As the strictest file has it.
            granule: SECTOR as u32,
        }
    }

    fn allocated(&self) -> Option<u64> {
        Some(self.info().size)
    }

    fn open_lane(&self, _depth: u32, _waker: &Waker) -> Result<Box<dyn IoLane>, BlockError> {
        Ok(Box::new(MemoryLane(self.clone())))
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        if let Some((offset, len)) = op.range(buffers) {
            let end = offset.checked_add(len).ok_or_else(beyond)?;
            if end > self.info().size || !(offset | len).is_multiple_of(SECTOR) {
                return Err(beyond());
            }
        }
        match op {
            Op::Read { offset } => {
                let memory = self.memory();
                buffers.write_at(0, memory.bytes.get(offset as usize..).unwrap_or(&[]));
                Ok(())
            }
            Op::Write { offset, .. } => {
                let mut data = vec![0; buffers.len() as usize];
                buffers.read_at(0, &mut data);
                self.change(offset, &data)
            }
            Op::WriteZeroes { offset, len, .. } => self.change(offset, &vec![0; len as usize]),
            // Worse than any file: what was discarded is something else.
            Op::Discard { offset, len } => self.change(offset, &vec![0xdd; len as usize]),
            Op::Flush => {
                let mut memory = self.memory();
                memory.flushes += 1;
                if self.keeps {
                    memory.durable = memory.bytes.clone();
                    memory.pending.clear();
                }
                Ok(())
            }
        }
    }

    fn extent(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let memory = self.memory();
        let end = offset.saturating_add(len).min(memory.bytes.len() as u64);
        let bytes = memory.bytes.get(offset as usize..end as usize);
        let bytes = bytes.unwrap_or(&[]);
        let zero = |chunk: &[u8]| chunk.iter().all(|byte| *byte == 0);
        let mut chunks = bytes.chunks(4096);
        let first = chunks.next().unwrap_or(&[]);
        let like = chunks.take_while(|chunk| zero(chunk) == zero(first));
        let more: usize = like.map(<[u8]>::len).sum();
        Ok(Extent {
            len: (first.len() + more) as u64,
            kind: match zero(first) {
                true => ExtentKind::Zero,
                false => ExtentKind::Data,
            },
        })
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        if size > self.most {
            let full = io::Error::from_raw_os_error(libc::ENOSPC);
            return Err(BlockError::host("Could not resize", full));
        }
        let size = sectors_up(size);
        let mut memory = self.memory();
        memory.bytes.resize(size as usize, 0);
        if self.keeps {
            memory.pending.push(Change::Resize(size));
        }
        Ok(())
    }

    fn set_perms(&self, _perms: Perms) -> Result<(), BlockError> {
        Ok(())
    }

    fn set_activity(&self, _: crate::node::Activity) -> Result<(), BlockError> {
        Ok(())
    }
}

struct MemoryLane(MemoryNode);

impl IoLane for MemoryLane {
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done> {
        let result = self.0.perform(request.op, &request.buffers);
        Some(Done {
            token,
            result,
            request,
        })
    }

    fn start(&mut self) {}

    fn reap(&mut self, _done: &mut Vec<Done>) {}

    fn in_flight(&self) -> usize {
        0
    }
}

/// A pool that has no threads and does all in place.
pub fn no_threads() -> Pool {
    Pool::new(Arc::new(|_, _| Err(io::ErrorKind::WouldBlock.into())), 1)
}

/// What an image in memory is opened with.
#[derive(Clone, Default)]
pub struct MemoryImage {
    /// It is only read.
    pub read_only: bool,
    /// Its backing file.
    pub backing: Option<Arc<dyn BlockNode>>,
    /// Other files of it.
    pub extents: Vec<Arc<dyn BlockNode>>,
    /// Its options.
    pub qcow2: Qcow2Options,
}

/// Opens an image.
///
/// # Errors
/// As every image.
pub fn open_image(
    kind: FormatKind,
    storage: Arc<dyn BlockNode>,
    with: &MemoryImage,
) -> Result<Arc<dyn BlockNode>, BlockError> {
    format::linked(kind, &*storage)?;
    let edge = |node: &Arc<dyn BlockNode>| Edge::new(Some(node.clone()));
    let policy = Policy {
        read_only: with.read_only,
        discard: Discard::Unmap,
        granule: 1,
        ..Policy::default()
    };
    format::open(
        kind,
        OpenFormat {
            storage: edge(&storage),
            data: None,
            extents: with.extents.iter().map(edge).collect(),
            backing: with.backing.as_ref().map(edge),
            screen: Screen::new(policy, 0, Arc::default()),
            pool: no_threads(),
            reporter: Reporter::silent(),
            qcow2: with.qcow2,
            activity: crate::node::Activity::Active,
        },
    )
}
