//! What every block node offers.

use std::os::fd::RawFd;

use crate::error::BlockError;
use crate::graph::Perms;
use crate::request::{Done, IoReq, Token};

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

/// A block node: something with numbered bytes.
///
/// Called on the control thread. Only `flush` and `resize` may block for the time of an I/O
/// request; the others take no longer than a few system calls. Nothing here panics, whatever the
/// image says.
pub trait BlockNode: Send + Sync {
    /// What it is now; any thread, at once. The size changes only through [`Self::resize`].
    fn info(&self) -> NodeInfo;

    /// Bytes of storage in use, where that is known.
    fn allocated(&self) -> Option<u64>;

    /// A lane for up to `depth` requests in flight at once (more are queued). Lanes are
    /// independent of each other: each is moved to the thread that uses it, and requests on two
    /// lanes are not ordered.
    ///
    /// # Errors
    /// When the host has no room for one.
    fn open_lane(&self, depth: u32) -> Result<Box<dyn IoLane>, BlockError>;

    /// Makes all completed writes durable. Blocks.
    ///
    /// # Errors
    /// When the host could not.
    fn flush(&self) -> Result<(), BlockError>;

    /// Changes the size. May block. Lanes see the new size with their next request.
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
}

/// A way into a node for one thread.
///
/// Whoever submits checks ranges as far as somebody else is to be told (the guest); the lane
/// checks them again and fails the request with EIO, as it does for offsets and lengths that are
/// not multiples of [`NodeInfo::granule`]. It never panics, never blocks except in
/// `drop`, and every request ends exactly once: as the value of `submit`, or later from `reap`.
/// Requests in flight are not ordered. A flush covers what was completed before it was submitted.
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

    /// Readable (level-triggered) while there is something to reap. Stays the same.
    fn event_fd(&self) -> RawFd;

    /// Appends what has ended since the last call, and goes on with what waits.
    fn reap(&mut self, done: &mut Vec<Done>);

    /// Requests submitted and not yet reaped.
    fn in_flight(&self) -> usize;
}
