//! Formats that are only read: a map from the disk to the file is all there is to them.

use std::io;

use super::tables::Wait;
use super::{Below, Format, Piece, Plan, What};
use crate::buffers::Buffers;
use crate::edge::Edge;
use crate::error::BlockError;
use crate::gate::Screen;
use crate::graph::FormatKind;
use crate::image::{CheckReport, Image, ImageView, Repair};
use crate::node::{Extent, ExtentKind};
use crate::request::Op;

/// Where bytes of the disk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: they are zeroes.
    Zero,
    /// Not in this image: in its backing file, or zeroes.
    Backing,
    /// In a node below from that offset on.
    At(Below, u64),
    /// Compressed; [`Mapping::unpack`] gets them.
    Packed,
}

/// Bytes of the disk that are stored alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Bytes; not 0.
    pub len: u64,
    /// Where.
    pub place: Place,
}

/// The map of an image that is only read.
pub(crate) trait Mapping: Send + Sync + 'static {
    /// Which format.
    const KIND: FormatKind;

    /// Where the first of `len` bytes (not 0) from `offset` on are; `None` when a table is not in
    /// memory and the caller does not wait.
    ///
    /// # Errors
    /// The host's, and EIO for what makes no sense in the image.
    fn find(&self, offset: u64, len: u64, wait: Wait) -> io::Result<Option<Run>>;

    /// Fills `buffers` with `len` bytes from `offset` on, which are one packed run.
    ///
    /// # Errors
    /// The host's, and EIO for what makes no sense in the image.
    fn unpack(&self, offset: u64, len: u64, buffers: &Buffers) -> io::Result<()> {
        let _ = (offset, len, buffers);
        Err(io::Error::from_raw_os_error(libc::EIO))
    }

    /// Forgets what is in memory, because the image was another program's for a while.
    ///
    /// # Errors
    /// When it cannot be read, or has become another image ([`become_another`]).
    fn reload(&self) -> Result<(), BlockError>;

    /// The way to a node below.
    fn edge(&self, below: Below) -> Option<&Edge>;

    /// What the image says of itself.
    fn view(&self) -> ImageView;
}

/// An image that is only read.
pub(crate) struct ReadOnly<M> {
    map: M,
    screen: Screen,
}

impl<M: Mapping> ReadOnly<M> {
    /// `size` is the disk's.
    pub fn new(map: M, size: u64, screen: Screen) -> Self {
        screen.set_size(size);
        ReadOnly { map, screen }
    }

    fn run(&self, offset: u64, len: u64) -> io::Result<Run> {
        let run = self.map.find(offset, len, Wait::Yes)?;
        run.filter(|run| run.len > 0)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EIO))
    }

    /// Pieces of a read; `None` when they cannot be told without blocking.
    fn pieces(&self, offset: u64, len: u64, pieces: &mut Vec<Piece>) -> Option<()> {
        let mut at = 0;
        while at < len {
            let from = offset.checked_add(at)?;
            let left = len.saturating_sub(at);
            let run = self.map.find(from, left, Wait::No).ok().flatten()?;
            let len = run.len.min(left);
            match run.place {
                _ if len == 0 => return None,
                Place::Packed => return None,
                Place::Zero => pieces.push(zeroes(at, len)),
                Place::Backing => {
                    backing_pieces(self.map.edge(Below::Backing), from, at, len, pieces);
                }
                Place::At(below, offset) => pieces.push(read_piece(below, offset, at, len)),
            }
            at = at.saturating_add(len);
        }
        Some(())
    }

    fn read(&self, offset: u64, buffers: &Buffers) -> io::Result<()> {
        let mut at = 0;
        while at < buffers.len() {
            let left = buffers.len().saturating_sub(at);
            let from = offset.saturating_add(at);
            let run = self.run(from, left)?;
            let len = run.len.min(left);
            let part = buffers.slice(at, len);
            match run.place {
                Place::Zero => part.zero_from(0),
                Place::Backing => read_backing(self.map.edge(Below::Backing), from, &part)?,
                Place::At(below, offset) => {
                    let edge = self.map.edge(below);
                    let edge = edge.ok_or_else(|| io::Error::from_raw_os_error(libc::EIO))?;
                    edge.perform(Op::Read { offset }, &part)?;
                }
                Place::Packed => self.map.unpack(from, len, &part)?,
            }
            at = at.saturating_add(len);
        }
        Ok(())
    }
}

fn zeroes(at: u64, len: u64) -> Piece {
    Piece {
        at,
        len,
        what: What::Zeroes,
    }
}

fn read_piece(below: Below, offset: u64, at: u64, len: u64) -> Piece {
    Piece {
        at,
        len,
        what: What::Below(below, Op::Read { offset }),
    }
}

/// Pieces of a read of bytes that are not in an image: those of its backing file, and zeroes
/// where that ends.
pub(crate) fn backing_pieces(
    backing: Option<&Edge>,
    offset: u64,
    at: u64,
    len: u64,
    pieces: &mut Vec<Piece>,
) {
    let size = backing.map_or(0, |edge| edge.info().size);
    let there = size.saturating_sub(offset).min(len);
    if there > 0 {
        pieces.push(read_piece(Below::Backing, offset, at, there));
    }
    if there < len {
        pieces.push(zeroes(at.saturating_add(there), len.saturating_sub(there)));
    }
}

/// The same, carried out. Blocks.
///
/// # Errors
/// The host's.
pub(crate) fn read_backing(
    backing: Option<&Edge>,
    offset: u64,
    buffers: &Buffers,
) -> io::Result<()> {
    let size = backing.map_or(0, |edge| edge.info().size);
    let there = size.saturating_sub(offset).min(buffers.len());
    if let Some(edge) = backing.filter(|_| there > 0) {
        edge.perform(Op::Read { offset }, &buffers.slice(0, there))?;
    }
    buffers.zero_from(there);
    Ok(())
}

impl<M: Mapping> Format for ReadOnly<M> {
    type Keep = ();

    fn plan(&self, op: Op, buffers: &Buffers, pieces: &mut Vec<Piece>) -> Plan<()> {
        let planned = match op {
            Op::Read { offset } => self.pieces(offset, buffers.len(), pieces),
            // Nothing is written, so there is nothing to make durable.
            Op::Flush => Some(()),
            Op::Write { .. } | Op::Discard { .. } | Op::WriteZeroes { .. } => None,
        };
        match planned {
            Some(()) => Plan::Pieces(()),
            None => Plan::Slow,
        }
    }

    fn ended(&self, (): (), result: io::Result<()>) -> io::Result<()> {
        result
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        match op {
            Op::Read { offset } => self.read(offset, buffers),
            Op::Flush => Ok(()),
            Op::Write { .. } | Op::Discard { .. } | Op::WriteZeroes { .. } => {
                Err(io::Error::from_raw_os_error(libc::EPERM))
            }
        }
    }

    fn extent(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let kind = |place| match place {
            Place::Zero => ExtentKind::Zero,
            Place::Backing => ExtentKind::Unallocated,
            Place::At(..) | Place::Packed => ExtentKind::Data,
        };
        if len == 0 {
            let kind = ExtentKind::Zero;
            return Ok(Extent { len, kind });
        }
        let first = self.run(offset, len)?;
        let mut extent = Extent {
            len: first.len.min(len),
            kind: kind(first.place),
        };
        // A shorter run than there is does no harm; this only bounds the time.
        for _ in 0..1024 {
            let left = len.saturating_sub(extent.len);
            let at = offset.saturating_add(extent.len);
            // Damage further on is told to whoever asks there.
            match self.map.find(at, left.max(1), Wait::Yes) {
                Ok(Some(run)) if left > 0 && kind(run.place) == extent.kind => {
                    extent.len = extent.len.saturating_add(run.len.min(left));
                }
                Ok(_) | Err(_) => break,
            }
        }
        Ok(extent)
    }

    fn resize(&self, _size: u64) -> Result<(), BlockError> {
        Err(BlockError::NoResize)
    }

    fn edge(&self, below: Below) -> Option<&Edge> {
        self.map.edge(below)
    }

    fn screen(&self) -> &Screen {
        &self.screen
    }
}

impl<M: Mapping> Image for ReadOnly<M> {
    fn view(&self) -> ImageView {
        self.map.view()
    }

    fn check(&self, _repair: Repair) -> Result<CheckReport, BlockError> {
        Err(BlockError::Unsupported(
            "This image format does not support checks".to_owned(),
        ))
    }

    fn change_backing(&self, _file: Option<&str>, _format: Option<&str>) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn close(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn reopen(&self, read_only: bool) -> Result<(), BlockError> {
        match read_only {
            true => self.map.reload(),
            false => Err(only_read(M::KIND)),
        }
    }
}

/// The words for an image that is not the one that was opened.
pub(crate) fn become_another() -> BlockError {
    BlockError::Unsupported("The image has become another one".to_owned())
}

/// The words for a format that cannot be written.
pub(crate) fn only_read(kind: FormatKind) -> BlockError {
    BlockError::Unsupported(format!(
        "Driver '{}' can only be used for read-only devices",
        kind.name()
    ))
}
