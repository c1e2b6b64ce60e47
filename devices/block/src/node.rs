//! What every block node offers.

use std::any::Any;
use std::io;
use std::sync::Arc;

use crate::buffers::{Buffers, HostBuffer};
use crate::error::BlockError;
use crate::filter::Event;
use crate::graph::Perms;
use crate::image::Image;
use crate::request::{Done, Durability, IoReq, Op, Token};
use crate::waker::Waker;

/// The unit of sizes and offsets.
pub const SECTOR: u64 = 512;

/// What a node is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeInfo {
    /// Bytes; a multiple of [`SECTOR`].
    pub size: u64,
    /// It cannot be written.
    pub read_only: bool,
    /// What offsets and lengths of requests must be multiples of: a sector, or one byte.
    pub granule: u32,
}

/// Whether this program uses an image, or leaves it to another one (a migration's other side).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It may be read and written, and is locked against others as its users ask for.
    Active,
    /// It is not locked and not written, and nothing of it is held back. What is read of it may be
    /// out of date.
    Inactive,
}

/// How bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    /// In this node.
    Data,
    /// They read as zeroes, and take no storage as far as is known.
    Zero,
    /// Not in this node: its backing file's are read, or zeroes where it has none.
    Unallocated,
}

/// A run of bytes that are stored alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes; 0 only at the node's end.
    pub len: u64,
    /// How.
    pub kind: ExtentKind,
}

/// A block node: something with numbered bytes.
///
/// Any thread. `perform`, `extent` and `resize` may block for the time of I/O requests and are for
/// worker threads; the others take no longer than a few system calls. Nothing here panics,
/// whatever the image says.
pub trait BlockNode: Any + Send + Sync {
    /// What it is now. The size changes only through [`Self::resize`].
    fn info(&self) -> NodeInfo;

    /// Bytes of storage in use, where that is known.
    fn allocated(&self) -> Option<u64>;

    /// A lane for up to `depth` requests in flight at once (more are queued), which signals
    /// `waker`. Lanes are independent of each other: each is moved to the thread that uses it,
    /// and requests on two lanes are not ordered.
    ///
    /// # Errors
    /// When the host has no room for one.
    fn open_lane(&self, depth: u32, waker: &Waker) -> Result<Box<dyn IoLane>, BlockError>;

    /// Carries out a whole request on the caller's thread. Blocks. Checks what a lane checks, and
    /// is ordered to requests of lanes as those of two lanes are.
    ///
    /// # Errors
    /// The host's, as at the end of a request.
    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()>;

    /// How the bytes from `offset` on are stored: the first run of at most `len` bytes. Blocks.
    ///
    /// # Errors
    /// The host's.
    fn extent(&self, offset: u64, len: u64) -> io::Result<Extent>;

    /// Changes the size. Blocks. Lanes see the new size with their next request.
    ///
    /// # Errors
    /// When the node cannot be another size.
    fn resize(&self, size: u64) -> Result<(), BlockError>;

    /// Takes note of what its users do and of what they let others do, before they begin. A node
    /// on a file holds locks for it against other programs.
    ///
    /// # Errors
    /// When another program does not allow it; the node then stays as it was.
    fn set_perms(&self, perms: Perms) -> Result<(), BlockError>;

    /// Gives the image up, or takes it again. Called while nothing is in flight; those above are
    /// told before those below when it is given up, and after them when it is taken. Blocks: when
    /// it is given up, all that is held back is written before; when it is taken, all that may
    /// have changed is read anew. Locks are the affair of [`Self::set_perms`].
    ///
    /// # Errors
    /// The host's, and what opening an image can fail with. It is as it was then; an image that
    /// could not be read anew stays inactive.
    fn set_activity(&self, activity: Activity) -> Result<(), BlockError>;

    /// What it offers as an image beyond its bytes; `None` for what is no image format.
    fn image(&self) -> Option<&dyn Image> {
        None
    }

    /// A node above is about to do that, for those that inject faults then. Filters pass it on.
    fn event(&self, _event: Event) {}
}

/// Blocking requests in a convenient form.
pub trait NodeExt: BlockNode {
    /// Makes all completed writes durable.
    ///
    /// # Errors
    /// When the host could not.
    fn flush(&self) -> io::Result<()> {
        self.perform(Op::Flush, &Buffers::new())
    }

    /// Fills `data` from `offset` on.
    ///
    /// # Errors
    /// The host's; EIO beyond the end.
    fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let memory = Arc::new(HostBuffer::new(data.len(), ALIGN));
        let buffers = Buffers::owned(memory);
        self.perform(Op::Read { offset }, &buffers)?;
        buffers.read_at(0, data);
        Ok(())
    }

    /// Writes `data` from `offset` on.
    ///
    /// # Errors
    /// The host's; EIO beyond the end.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let buffers = Buffers::owned(HostBuffer::from_bytes(data, ALIGN));
        let durability = Durability::Cached;
        self.perform(Op::Write { offset, durability }, &buffers)
    }
}

/// Satisfies direct I/O everywhere.
const ALIGN: usize = 4096;

impl<N: BlockNode + ?Sized> NodeExt for N {}

/// A way into a node for one thread.
///
/// Whoever submits checks ranges as far as somebody else is to be told (the guest); the lane
/// checks them again and fails the request with EIO, as it does for offsets and lengths that are
/// not multiples of [`NodeInfo::granule`]. It never panics, never blocks except in
/// `drop`, and every request ends exactly once: as the value of `submit`, or later from `reap`.
/// Requests in flight are not ordered. A flush covers what was completed before it was submitted.
///
/// A lane signals the [`Waker`] it was opened with when there is something to reap.
///
/// Dropping a lane waits until nothing of it is in flight any more, so that no memory is touched
/// afterwards; completions not yet reaped are lost then. Whoever must not wait reaps first until
/// `in_flight` is zero.
pub trait IoLane: Send {
    /// Begins a request. A request that can be answered at once is; its end is the value.
    /// Otherwise it may wait for [`Self::start`].
    fn submit(&mut self, request: IoReq, token: Token) -> Option<Done>;

    /// Hands what was submitted to the host; called once after a batch.
    fn start(&mut self);

    /// Appends what has ended since the last call, and goes on with what waits. The owner has
    /// cleared the waker before.
    fn reap(&mut self, done: &mut Vec<Done>);

    /// Requests submitted and not yet reaped.
    fn in_flight(&self) -> usize;
}
