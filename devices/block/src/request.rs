//! Requests and their completions.

use std::io;
use std::time::Instant;

use crate::buffers::Buffers;

/// Names a request on its lane; chosen by the caller, who can tell the ones in flight apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When the host has it; a flush makes it durable.
    Cached,
    /// When it is on stable storage (write-through).
    Durable,
}

/// Whether writing zeroes may give storage back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmap {
    /// Storage stays allocated where that can be had.
    Keep,
    /// Storage may be given back; reads give zeroes all the same.
    May,
}

/// What to do. Offsets and lengths are in bytes, multiples of [`crate::NodeInfo::granule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Fill the buffers from `offset` on.
    Read {
        /// First byte.
        offset: u64,
    },
    /// Write the buffers to `offset` on.
    Write {
        /// First byte.
        offset: u64,
        /// When it is done.
        durability: Durability,
    },
    /// Make durable what was completed before this was submitted.
    Flush,
    /// The data is of no use any more; what is read afterwards is not defined.
    Discard {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Write zeroes without having them in memory.
    WriteZeroes {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Whether storage may be given back.
        unmap: Unmap,
        /// When it is done.
        durability: Durability,
    },
}

impl Op {
    /// A name for each.
    pub const fn name(self) -> &'static str {
        match self {
            Op::Read { .. } => "read",
            Op::Write { .. } => "write",
            Op::Flush => "flush",
            Op::Discard { .. } => "discard",
            Op::WriteZeroes { .. } => "write-zeroes",
        }
    }

    /// The same with its offset moved up by `by`; `None` beyond the end of the numbers.
    pub fn shifted(self, by: u64) -> Option<Self> {
        Some(match self {
            Op::Read { offset } => Op::Read {
                offset: offset.checked_add(by)?,
            },
            Op::Write { offset, durability } => Op::Write {
                offset: offset.checked_add(by)?,
                durability,
            },
            Op::Flush => Op::Flush,
            Op::Discard { offset, len } => Op::Discard {
                offset: offset.checked_add(by)?,
                len,
            },
            Op::WriteZeroes {
                offset,
                len,
                unmap,
                durability,
            } => Op::WriteZeroes {
                offset: offset.checked_add(by)?,
                len,
                unmap,
                durability,
            },
        })
    }

    /// First byte and number of bytes, where `buffers` go with it; `None` for a flush.
    pub fn range(self, buffers: &Buffers) -> Option<(u64, u64)> {
        match self {
            Op::Read { offset } | Op::Write { offset, .. } => Some((offset, buffers.len())),
            Op::Flush => None,
            Op::Discard { offset, len } | Op::WriteZeroes { offset, len, .. } => {
                Some((offset, len))
            }
        }
    }

    /// Whether it changes what is stored.
    pub fn is_write(self) -> bool {
        match self {
            Op::Read { .. } | Op::Flush => false,
            Op::Write { .. } | Op::Discard { .. } | Op::WriteZeroes { .. } => true,
        }
    }
}

/// A request: what to do, with which memory.
#[derive(Debug)]
pub struct IoReq {
    /// What to do.
    pub op: Op,
    /// Memory of reads and writes; it travels with the request and comes back with its end.
    pub buffers: Buffers,
    /// When it was made, for statistics.
    pub started: Instant,
}

impl IoReq {
    /// A request that begins now.
    pub fn new(op: Op, buffers: Buffers) -> Self {
        IoReq {
            op,
            buffers,
            started: Instant::now(),
        }
    }

    /// First byte and number of bytes; `None` for a flush.
    pub fn range(&self) -> Option<(u64, u64)> {
        self.op.range(&self.buffers)
    }
}

/// The end of a request.
#[derive(Debug)]
#[must_use = "somebody waits for it"]
pub struct Done {
    /// Which one.
    pub token: Token,
    /// Done in full, or the host's error (an errno).
    pub result: io::Result<()>,
    /// The request, with its buffers. A node may have turned it into another on the way (zeroes
    /// that it detected, an offset that it moved); its token stands for it.
    pub request: IoReq,
}
