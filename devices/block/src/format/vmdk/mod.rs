//! vmdk: VMware's images, only read. A descriptor says which extents follow each other; it is in
//! a file of its own, or in the only extent.

mod descriptor;
mod sparse;

use std::io;

use super::read_only::{Mapping, Place, ReadOnly, Run, become_another};
use super::tables::Wait;
use super::{Below, FormatNode, Linked, OpenFormat, fields};
use crate::buffers::Buffers;
use crate::edge::Edge;
use crate::error::BlockError;
use crate::graph::FormatKind;
use crate::image::{ImageView, Specific};
use crate::node::BlockNode;
use descriptor::{Descriptor, ExtentLine, ExtentType};
use sparse::{Header, Sparse};

/// Kinds of image whose descriptor is a file of its own.
const WITH_FILES: [&str; 4] = [
    "monolithicFlat",
    "vmfs",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
];

fn bad(text: impl Into<String>) -> BlockError {
    BlockError::Unsupported(text.into())
}

/// What an image is described by.
enum Described {
    /// Text that names other files.
    Apart(Descriptor),
    /// One file with all.
    Whole(Option<Descriptor>, Header),
}

impl Described {
    fn read(storage: &dyn BlockNode) -> Result<Self, BlockError> {
        let start = fields::read_up_to(storage, 0, descriptor::MAX_LEN)
            .map_err(|error| BlockError::host("Could not read VMDK image", error))?;
        if Header::is(&start) {
            let header = Header::read(storage)?;
            let descriptor = header.descriptor(storage)?;
            let descriptor = descriptor
                .map(|bytes| Descriptor::parse(&bytes))
                .transpose()?;
            return Ok(Described::Whole(descriptor, header));
        }
        if !descriptor::is_descriptor(&start) {
            let text = match start.starts_with(b"COWD") {
                true => "VMDK images of the kind COWD are not supported",
                false => "Image not in VMDK format",
            };
            return Err(bad(text));
        }
        let descriptor = Descriptor::parse(&start)?;
        if !WITH_FILES.contains(&descriptor.create_type.as_str()) {
            return Err(bad(format!(
                "Unsupported image type '{}'",
                descriptor.create_type
            )));
        }
        Ok(Described::Apart(descriptor))
    }

    fn descriptor(&self) -> Option<&Descriptor> {
        match self {
            Described::Apart(descriptor) => Some(descriptor),
            Described::Whole(descriptor, _) => descriptor.as_ref(),
        }
    }
}

/// What the image says is below it: its extents' files, and its parent, which is a vmdk image.
///
/// # Errors
/// When it is no such image, or of a kind that is not understood.
pub(super) fn linked(storage: &dyn BlockNode) -> Result<Linked, BlockError> {
    let described = Described::read(storage)?;
    let parent = described.descriptor().and_then(|d| d.parent.clone());
    let extents = match &described {
        Described::Apart(descriptor) => {
            let extents = descriptor.extents.iter();
            let files = extents.filter(|extent| extent.kind != ExtentType::Zero);
            files.map(|extent| extent.file.clone()).collect()
        }
        Described::Whole(..) => Vec::new(),
    };
    Ok(Linked {
        backing: parent.map(|name| (name, Some(FormatKind::Vmdk.name().to_owned()))),
        extents,
        ..Linked::default()
    })
}

/// Opens an image.
///
/// # Errors
/// When it is no such image, damaged, of a kind that is not understood, or its parent has changed.
pub(super) fn open(with: OpenFormat) -> Result<FormatNode<ReadOnly<Vmdk>>, BlockError> {
    let storage = with.storage.node().ok_or(BlockError::Empty)?;
    let described = Described::read(&*storage)?;
    if let (Some(descriptor), Some(backing)) = (described.descriptor(), &with.backing) {
        check_parent(descriptor, backing)?;
    }
    let descriptor = described.descriptor().cloned();
    let extents = match described {
        Described::Whole(_, header) => vec![Extent {
            start: 0,
            len: header.capacity,
            content: Content::Sparse(Sparse::new(header, with.storage.clone(), Below::Storage, 1)),
        }],
        Described::Apart(descriptor) => extents(&descriptor, &with.extents)?,
    };
    let size = extents
        .last()
        .map_or(0, |last| last.start.saturating_add(last.len));
    let map = Vmdk {
        storage: with.storage,
        backing: with.backing,
        files: with.extents,
        extents,
        descriptor,
    };
    let image = ReadOnly::new(map, size, with.screen);
    Ok(FormatNode::new(image, &with.pool))
}

/// An image is the difference to one content of its parent.
fn check_parent(descriptor: &Descriptor, backing: &Edge) -> Result<(), BlockError> {
    let parent = backing
        .node()
        .and_then(|node| node.image().map(|image| image.view()));
    match parent.and_then(|view| view.specific) {
        Some(Specific::Vmdk(parent)) if parent.cid != descriptor.parent_cid => Err(bad(format!(
            "The parent of a VMDK image has changed: its content id is {:08x}, not {:08x}",
            parent.cid, descriptor.parent_cid
        ))),
        Some(_) | None => Ok(()),
    }
}

fn extents(descriptor: &Descriptor, files: &[Edge]) -> Result<Vec<Extent>, BlockError> {
    let mut all = Vec::new();
    let mut start = 0u64;
    let mut file = 0u16;
    for line in &descriptor.extents {
        let content = match line.kind {
            ExtentType::Zero => Content::Zero,
            ExtentType::Flat | ExtentType::Sparse => {
                let edge = files.get(usize::from(file));
                let edge = edge.ok_or_else(|| bad("VMDK image has too few files"))?;
                let below = Below::Extent(file);
                file = file.saturating_add(1);
                content(line, edge, below, files.len())?
            }
        };
        all.push(Extent {
            start,
            len: line.len,
            content,
        });
        let end = start.checked_add(line.len).filter(|end| *end < 1 << 63);
        start = end.ok_or_else(|| bad("VMDK image is too large"))?;
    }
    all.retain(|extent| extent.len > 0);
    Ok(all)
}

fn content(
    line: &ExtentLine,
    edge: &Edge,
    below: Below,
    files: usize,
) -> Result<Content, BlockError> {
    let node = edge.node().ok_or(BlockError::Empty)?;
    let (capacity, content) = match line.kind {
        ExtentType::Sparse => {
            let header = Header::read(&*node)?;
            let sparse = Sparse::new(header.clone(), edge.clone(), below, files);
            (header.capacity, Content::Sparse(sparse))
        }
        ExtentType::Flat | ExtentType::Zero => {
            let room = node.info().size.saturating_sub(line.offset);
            (room, Content::Flat(below, line.offset))
        }
    };
    if capacity < line.len {
        return Err(bad(format!(
            "VMDK extent '{}' is truncated: {} bytes of {}",
            line.file, capacity, line.len
        )));
    }
    Ok(content)
}

/// A part of the disk.
struct Extent {
    start: u64,
    len: u64,
    content: Content,
}

enum Content {
    /// From that byte of a file on.
    Flat(Below, u64),
    Sparse(Sparse),
    Zero,
}

pub(super) struct Vmdk {
    storage: Edge,
    backing: Option<Edge>,
    files: Vec<Edge>,
    /// In order, without gaps.
    extents: Vec<Extent>,
    descriptor: Option<Descriptor>,
}

impl Vmdk {
    /// The extent at `offset`, and what of that is before it.
    fn extent(&self, offset: u64) -> io::Result<(&Extent, u64)> {
        let at = self
            .extents
            .partition_point(|extent| extent.start <= offset);
        let extent = at.checked_sub(1).and_then(|at| self.extents.get(at));
        let extent = extent.ok_or_else(|| io::Error::from_raw_os_error(libc::EIO))?;
        Ok((extent, offset.saturating_sub(extent.start)))
    }
}

impl Mapping for Vmdk {
    const KIND: FormatKind = FormatKind::Vmdk;

    fn find(&self, offset: u64, len: u64, wait: Wait) -> io::Result<Option<Run>> {
        let (extent, within) = self.extent(offset)?;
        let len = len.min(extent.len.saturating_sub(within));
        let place = match &extent.content {
            Content::Zero => Place::Zero,
            Content::Flat(below, start) => Place::At(*below, start.saturating_add(within)),
            Content::Sparse(sparse) => return sparse.find(within, len, wait),
        };
        Ok(Some(Run { len, place }))
    }

    fn unpack(&self, offset: u64, len: u64, buffers: &Buffers) -> io::Result<()> {
        let (extent, within) = self.extent(offset)?;
        match &extent.content {
            Content::Sparse(sparse) => sparse.unpack(within, len, buffers),
            Content::Flat(..) | Content::Zero => Err(io::Error::from_raw_os_error(libc::EIO)),
        }
    }

    fn reload(&self) -> Result<(), BlockError> {
        let storage = self.storage.node().ok_or(BlockError::Empty)?;
        let described = Described::read(&*storage)?;
        if described.descriptor() != self.descriptor.as_ref() {
            return Err(become_another());
        }
        for extent in &self.extents {
            if let Content::Sparse(sparse) = &extent.content {
                sparse.reload()?;
            }
        }
        Ok(())
    }

    fn edge(&self, below: Below) -> Option<&Edge> {
        match below {
            Below::Storage | Below::Data => Some(&self.storage),
            Below::Backing => self.backing.as_ref(),
            Below::Extent(number) => self.files.get(usize::from(number)),
        }
    }

    fn view(&self) -> ImageView {
        let parent = self.descriptor.as_ref().and_then(|d| d.parent.clone());
        let sparse = self
            .extents
            .iter()
            .find_map(|extent| match &extent.content {
                Content::Sparse(sparse) => Some(sparse),
                Content::Flat(..) | Content::Zero => None,
            });
        ImageView {
            cluster_size: sparse.map(Sparse::grain_size),
            backing_format: parent.as_ref().map(|_| FormatKind::Vmdk.name().to_owned()),
            backing_file: parent,
            compressed: sparse.is_some_and(Sparse::is_packed),
            specific: self.descriptor.as_ref().map(|d| Specific::Vmdk(d.view())),
            ..ImageView::default()
        }
    }
}
