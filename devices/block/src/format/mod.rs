//! Image formats.
//!
//! A format answers one question without blocking: where the bytes of a request are (`plan`).
//! What it cannot answer so, for lack of a table in memory or because more is to be done than
//! to read and write, is done whole by a thread of the pool (`perform`). There is one lane for all
//! formats ([`lane::FormatLane`]) and one node ([`FormatNode`]).

#[cfg(test)]
pub(crate) mod fake;
mod fields;
mod lane;
pub(crate) mod probe;
pub(crate) mod qcow2;
mod qed;
mod read_only;
mod tables;
mod vhdx;
mod vmdk;
mod vpc;

use std::io;
use std::sync::Arc;

use crate::buffers::Buffers;
use crate::edge::Edge;
use crate::error::BlockError;
use crate::gate::{Gate, Screen};
use crate::graph::{FormatKind, Perms, Qcow2Options};
use crate::image::Image;
use crate::node::{Activity, BlockNode, Extent, IoLane, NodeInfo};
use crate::notice::Reporter;
use crate::pool::Pool;
use crate::request::Op;
use crate::waker::Waker;
use lane::FormatLane;
pub use qed::{QedCreate, create as create_qed};
#[cfg(any(test, feature = "testing"))]
pub(crate) use vhdx::put_checksums as vhdx_checksums;

/// A node below a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Below {
    /// Where its tables are.
    Storage,
    /// Where its data are; the storage's edge, where they are not apart.
    Data,
    /// The backing file.
    Backing,
    /// One of several files that a format's data are in.
    Extent(u16),
}

/// A piece of a planned request: `len` bytes of its buffers from `at` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// First byte in the request's buffers.
    pub at: u64,
    /// Bytes.
    pub len: u64,
    /// What they are.
    pub what: What,
}

/// What becomes of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A read gives zeroes.
    Zeroes,
    /// `op` is done below, with the piece's bytes.
    Below(Below, Op),
}

/// Where a request goes. `T` is what the format keeps while it is on its way.
#[derive(Debug)]
pub(crate) enum Plan<T> {
    /// The pieces that were appended to the list. [`Format::ended`] is called with the keep.
    Pieces(T),
    /// As a whole to `perform`.
    Slow,
}

/// A format. Ranges were checked against its size, and writes against read-only.
pub(crate) trait Format: Image + Send + Sync + 'static {
    /// Kept for a planned request while it is on its way.
    type Keep: Send + 'static;

    /// Plans a request without blocking. `pieces` is empty; those of a read cover the buffers.
    fn plan(&self, op: Op, buffers: &Buffers, pieces: &mut Vec<Piece>) -> Plan<Self::Keep>;

    /// A planned request has ended below; gives its end for whoever asked. Does not block.
    ///
    /// # Errors
    /// `result`'s, or one of its own.
    fn ended(&self, keep: Self::Keep, result: io::Result<()>) -> io::Result<()>;

    /// A whole request on a thread that may block; requests of lanes go on meanwhile.
    ///
    /// # Errors
    /// The host's, and EIO for what makes no sense in the image.
    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()>;

    /// See [`BlockNode::extent`].
    ///
    /// # Errors
    /// The host's, and EIO for what makes no sense in the image.
    fn extent(&self, offset: u64, len: u64) -> io::Result<Extent>;

    /// See [`BlockNode::resize`]; sets the screen's size.
    ///
    /// # Errors
    /// When it cannot be another size.
    fn resize(&self, size: u64) -> Result<(), BlockError>;

    /// The way to a node below.
    fn edge(&self, below: Below) -> Option<&Edge>;

    /// Options, size and counters of its node.
    fn screen(&self) -> &Screen;
}

/// What an image says is below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Linked {
    /// Its backing file, and the format of that.
    pub backing: Option<(String, Option<String>)>,
    /// Its external data file.
    pub data_file: Option<String>,
    /// Files that its data are in, several of them.
    pub extents: Vec<String>,
}

/// All that an image is opened with.
pub(crate) struct OpenFormat {
    pub storage: Edge,
    pub data: Option<Edge>,
    /// As [`Linked::extents`] has them.
    pub extents: Vec<Edge>,
    pub backing: Option<Edge>,
    /// Of no bytes yet: the format sets the size.
    pub screen: Screen,
    pub pool: Pool,
    pub reporter: Reporter,
    pub qcow2: Qcow2Options,
    /// Whether the image is taken at once. If not, another program may be writing it: nothing is
    /// written, and what cannot be read waits for [`BlockNode::set_activity`].
    pub activity: Activity,
}

/// What the image in `storage` says is below it.
///
/// # Errors
/// When it is no such image, or damaged.
pub(crate) fn linked(kind: FormatKind, storage: &dyn BlockNode) -> Result<Linked, BlockError> {
    #[cfg(test)]
    if let Some(linked) = fake::linked(storage) {
        return Ok(linked);
    }
    match kind {
        FormatKind::Qcow2 => qcow2::linked(storage),
        FormatKind::Qed => qed::linked(storage),
        FormatKind::Vmdk => vmdk::linked(storage),
        FormatKind::Vpc => vpc::linked(storage),
        FormatKind::Vhdx => vhdx::linked(storage),
    }
}

/// Opens an image.
///
/// # Errors
/// When it is no such image, damaged, or of a kind that is not understood.
pub(crate) fn open(kind: FormatKind, with: OpenFormat) -> Result<Arc<dyn BlockNode>, BlockError> {
    #[cfg(test)]
    let with = match fake::open(with) {
        Ok(node) => return Ok(node),
        Err(with) => with,
    };
    Ok(match kind {
        FormatKind::Qcow2 => return qcow2::open(with),
        FormatKind::Qed => Arc::new(qed::open(with)?),
        FormatKind::Vmdk => Arc::new(vmdk::open(with)?),
        FormatKind::Vpc => Arc::new(vpc::open(with)?),
        FormatKind::Vhdx => Arc::new(vhdx::open(with)?),
    })
}

/// The node of a format.
pub(crate) struct FormatNode<F> {
    format: Arc<F>,
    pool: Pool,
}

impl<F: Format> FormatNode<F> {
    pub fn new(format: F, pool: &Pool) -> Self {
        FormatNode {
            format: Arc::new(format),
            pool: pool.clone(),
        }
    }
}

impl<F: Format> FormatNode<F> {
    /// An image that could not be closed is used as before.
    fn go_on(&self) {
        if let Err(error) = self.format.reopen(self.format.screen().policy().read_only) {
            log::error!("An image cannot be used any more: {error}");
        }
    }
}

impl<F: Format> BlockNode for FormatNode<F> {
    fn info(&self) -> NodeInfo {
        let screen = self.format.screen();
        NodeInfo {
            size: screen.size(),
            read_only: screen.policy().read_only,
            granule: 1,
        }
    }

    fn allocated(&self) -> Option<u64> {
        let extents = (0..=u16::MAX).map(Below::Extent);
        let own = [Below::Storage, Below::Data].into_iter().chain(extents);
        let mut nodes: Vec<Arc<dyn BlockNode>> = Vec::new();
        for edge in own.map_while(|below| self.format.edge(below)) {
            let node = edge.node()?;
            if !nodes.iter().any(|other| Arc::ptr_eq(other, &node)) {
                nodes.push(node);
            }
        }
        let sizes = nodes.iter().map(|node| node.allocated());
        sizes.sum()
    }

    fn open_lane(&self, depth: u32, waker: &Waker) -> Result<Box<dyn IoLane>, BlockError> {
        let lane = FormatLane::open(self.format.clone(), &self.pool, depth, waker)?;
        Ok(Box::new(Gate::new(lane, self.format.screen().clone())))
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        let screen = self.format.screen();
        screen.perform(op, buffers, |op| self.format.perform(op, buffers))
    }

    fn extent(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let left = self.format.screen().size().saturating_sub(offset);
        self.format.extent(offset, len.min(left))
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        if self.format.screen().policy().read_only {
            return Err(BlockError::ReadOnly);
        }
        if !self.format.screen().is_active() {
            return Err(BlockError::Inactive("resize".to_owned()));
        }
        self.format.resize(size)
    }

    fn set_perms(&self, _perms: Perms) -> Result<(), BlockError> {
        Ok(())
    }

    fn set_activity(&self, activity: Activity) -> Result<(), BlockError> {
        let screen = self.format.screen();
        match activity {
            Activity::Active => self.format.reopen(screen.policy().read_only)?,
            Activity::Inactive => {
                if let Err(error) = self.format.close() {
                    self.go_on();
                    return Err(error);
                }
            }
        }
        screen.set_activity(activity);
        Ok(())
    }

    fn image(&self) -> Option<&dyn Image> {
        Some(&*self.format)
    }
}

#[cfg(test)]
mod bad_input_test;
#[cfg(test)]
mod interop_test;
