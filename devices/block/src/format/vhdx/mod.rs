//! vhdx: Hyper-V's images, only read. [MS-VHDX].
//!
//! Two headers, of which the one with the larger sequence number holds, two region tables that
//! tell where the block table (BAT) and the metadata are, and a log. Numbers are little-endian.

mod header;

use std::io;

use super::read_only::{Mapping, Place, ReadOnly, Run, become_another};
use super::tables::{Tables, Wait};
use super::{Below, FormatNode, Linked, OpenFormat};
use crate::edge::Edge;
use crate::error::BlockError;
use crate::graph::FormatKind;
use crate::image::ImageView;
use crate::node::BlockNode;
use header::Layout;
#[cfg(any(test, feature = "testing"))]
pub(crate) use header::put_checksums;

/// What the image says is below it: nothing, because images with a parent are refused.
///
/// # Errors
/// When it is no such image, or of a kind that is not understood.
pub(super) fn linked(storage: &dyn BlockNode) -> Result<Linked, BlockError> {
    Layout::read(storage)?;
    Ok(Linked::default())
}

/// Opens an image.
///
/// # Errors
/// When it is no such image, damaged, of a kind that is not understood, or its log has entries
/// that are not in the image yet.
pub(super) fn open(with: OpenFormat) -> Result<FormatNode<ReadOnly<Vhdx>>, BlockError> {
    let storage = with.storage.node().ok_or(BlockError::Empty)?;
    let layout = Layout::read(&*storage)?;
    let size = layout.disk_size;
    let map = Vhdx {
        tables: Tables::new(with.storage.clone(), 1),
        storage: with.storage,
        layout,
    };
    let image = ReadOnly::new(map, size, with.screen);
    Ok(FormatNode::new(image, &with.pool))
}

pub(super) struct Vhdx {
    storage: Edge,
    layout: Layout,
    tables: Tables,
}

/// States of blocks ([MS-VHDX] section 2.5.1.1).
const STATE: u64 = 7;
const FULLY_PRESENT: u64 = 6;
const PARTIALLY_PRESENT: u64 = 7;
/// The place, in units of its lowest bit: 1 MiB.
const PLACE: u64 = !0xf_ffff;

impl Mapping for Vhdx {
    const KIND: FormatKind = FormatKind::Vhdx;

    fn find(&self, offset: u64, len: u64, wait: Wait) -> io::Result<Option<Run>> {
        let damaged = || io::Error::from_raw_os_error(libc::EIO);
        let size = self.layout.block_size;
        let block = offset.checked_div(size).ok_or_else(damaged)?;
        let within = offset.checked_rem(size).ok_or_else(damaged)?;
        let entry = self.layout.entry_offset(block).ok_or_else(damaged)?;
        let Some(entry) = self.tables.get::<8>(entry, wait)? else {
            return Ok(None);
        };
        let entry = u64::from_le_bytes(entry);
        let len = len.min(size.saturating_sub(within));
        let place = match entry & STATE {
            FULLY_PRESENT => {
                let start = (entry & PLACE).saturating_add(within);
                let fits = start.saturating_add(len) <= self.storage.info().size;
                if entry & PLACE == 0 || !fits {
                    return Err(damaged());
                }
                Place::At(Below::Data, start)
            }
            // Only images with a parent have it.
            PARTIALLY_PRESENT => return Err(damaged()),
            // Not present, undefined, zero, unmapped.
            _ => Place::Zero,
        };
        Ok(Some(Run { len, place }))
    }

    fn reload(&self) -> Result<(), BlockError> {
        let storage = self.storage.node().ok_or(BlockError::Empty)?;
        if Layout::read(&*storage)? != self.layout {
            return Err(become_another());
        }
        self.tables.forget();
        Ok(())
    }

    fn edge(&self, below: Below) -> Option<&Edge> {
        match below {
            Below::Storage | Below::Data => Some(&self.storage),
            Below::Backing | Below::Extent(_) => None,
        }
    }

    fn view(&self) -> ImageView {
        ImageView {
            cluster_size: Some(self.layout.block_size),
            ..ImageView::default()
        }
    }
}
