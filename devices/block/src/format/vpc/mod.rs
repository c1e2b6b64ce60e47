//! vpc: Virtual PC's and Hyper-V's older images (VHD), only read. Microsoft, "Virtual Hard Disk
//! Image Format Specification", version 1.0.
//!
//! A fixed image is the disk's bytes and then a footer; a dynamic one starts with a copy of the
//! footer and has blocks, each with a bitmap in front, that a table tells the places of. Numbers
//! are big-endian.

mod header;

use std::io;

use super::read_only::{Mapping, Place, ReadOnly, Run, become_another};
use super::tables::{Tables, Wait};
use super::{Below, FormatNode, Linked, OpenFormat};
use crate::edge::Edge;
use crate::error::BlockError;
use crate::graph::FormatKind;
use crate::image::ImageView;
use crate::node::{BlockNode, SECTOR};
use header::{Dynamic, Footer, Kind};

/// An entry of the table for a block that is not there.
const UNUSED: u32 = u32::MAX;

/// What the image says is below it: nothing, because images with a parent are refused.
///
/// # Errors
/// When it is no such image, or of a kind that is not understood.
pub(super) fn linked(storage: &dyn BlockNode) -> Result<Linked, BlockError> {
    Footer::find(storage)?;
    Ok(Linked::default())
}

/// Opens an image.
///
/// # Errors
/// When it is no such image, damaged, or of a kind that is not understood.
pub(super) fn open(with: OpenFormat) -> Result<FormatNode<ReadOnly<Vpc>>, BlockError> {
    let storage = with.storage.node().ok_or(BlockError::Empty)?;
    let footer = Footer::find(&*storage)?;
    let layout = match footer.kind {
        Kind::Fixed => {
            footer.check_fixed(storage.info().size)?;
            Layout::Fixed
        }
        Kind::Dynamic => Layout::Dynamic {
            header: Dynamic::read(&*storage, &footer)?,
            tables: Tables::new(with.storage.clone(), 1),
        },
    };
    let size = footer.size;
    let map = Vpc {
        storage: with.storage,
        footer,
        layout,
    };
    let image = ReadOnly::new(map, size, with.screen);
    Ok(FormatNode::new(image, &with.pool))
}

pub(super) struct Vpc {
    storage: Edge,
    footer: Footer,
    layout: Layout,
}

enum Layout {
    /// The bytes as they are.
    Fixed,
    /// Blocks.
    Dynamic { header: Dynamic, tables: Tables },
}

impl Mapping for Vpc {
    const KIND: FormatKind = FormatKind::Vpc;

    fn find(&self, offset: u64, len: u64, wait: Wait) -> io::Result<Option<Run>> {
        let Layout::Dynamic { header, tables } = &self.layout else {
            let place = Place::At(Below::Data, offset);
            return Ok(Some(Run { len, place }));
        };
        let damaged = || io::Error::from_raw_os_error(libc::EIO);
        let block = offset.checked_div(header.block_size).ok_or_else(damaged)?;
        let within = offset.checked_rem(header.block_size).ok_or_else(damaged)?;
        let entry = header.entry_offset(block).ok_or_else(damaged)?;
        let Some(entry) = tables.get::<4>(entry, wait)? else {
            return Ok(None);
        };
        let len = len.min(header.block_size.saturating_sub(within));
        let place = match u32::from_be_bytes(entry) {
            UNUSED => Place::Zero,
            sector => {
                let start = u64::from(sector).saturating_mul(SECTOR);
                let start = start.saturating_add(header.bitmap_size);
                let start = start.saturating_add(within);
                if start.saturating_add(len) > self.storage.info().size {
                    return Err(damaged());
                }
                Place::At(Below::Data, start)
            }
        };
        Ok(Some(Run { len, place }))
    }

    fn reload(&self) -> Result<(), BlockError> {
        let storage = self.storage.node().ok_or(BlockError::Empty)?;
        let footer = Footer::find(&*storage)?;
        let same = match &self.layout {
            Layout::Fixed => {
                footer.check_fixed(storage.info().size)?;
                true
            }
            Layout::Dynamic { header, tables } => {
                tables.forget();
                Dynamic::read(&*storage, &self.footer)? == *header
            }
        };
        match same && footer == self.footer {
            true => Ok(()),
            false => Err(become_another()),
        }
    }

    fn edge(&self, below: Below) -> Option<&Edge> {
        match below {
            Below::Storage | Below::Data => Some(&self.storage),
            Below::Backing | Below::Extent(_) => None,
        }
    }

    fn view(&self) -> ImageView {
        ImageView {
            cluster_size: match &self.layout {
                Layout::Fixed => None,
                Layout::Dynamic { header, .. } => Some(header.block_size),
            },
            ..ImageView::default()
        }
    }
}
