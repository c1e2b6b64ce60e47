//! Sparse extents: grains with two levels of tables, compressed or not. VMware, "Virtual Disk
//! Format 5.0", sections "Hosted Sparse Extents" and "Stream-Optimized Compressed Sparse
//! Extents". Numbers are little-endian.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::descriptor::MAX_LEN;
use crate::buffers::Buffers;
use crate::edge::Edge;
use crate::error::BlockError;
use crate::format::Below;
use crate::format::fields::{le16, le32, le64, read};
use crate::format::read_only::{Place, Run, become_another};
use crate::format::tables::{Tables, Wait};
use crate::node::{BlockNode, SECTOR};

const MAGIC: &[u8; 4] = b"KDMV";
const HEADER_LEN: u64 = SECTOR;
/// Flags of the header.
const ZEROED_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;
/// The directory's place is in the footer.
const AT_END: u64 = u64::MAX;
/// Types of markers.
const END_OF_STREAM: u32 = 0;
const FOOTER: u32 = 3;
const DEFLATE: u16 = 1;
/// Largest grain: 1 GiB; of compressed ones, which are held in memory, 16 MiB.
const MAX_GRAIN: u64 = 1 << 30;
const MAX_PACKED_GRAIN: u64 = 16 << 20;
const MAX_TABLE: u32 = 512;

fn bad(text: impl Into<String>) -> BlockError {
    BlockError::Unsupported(text.into())
}

fn get(file: &dyn BlockNode, offset: u64, len: u64) -> Result<Vec<u8>, BlockError> {
    let end = offset.checked_add(len);
    if end.is_none_or(|end| end > file.info().size) {
        return Err(bad(format!(
            "VMDK image is truncated: {len} bytes at {offset} are outside of the file"
        )));
    }
    read(file, offset, len).map_err(|error| BlockError::host("Could not read VMDK image", error))
}

/// The header of a sparse extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    flags: u32,
    /// Bytes of the disk.
    pub capacity: u64,
    /// Bytes.
    pub grain: u64,
    descriptor: u64,
    descriptor_len: u64,
    /// Entries of a grain table.
    entries: u64,
    /// In bytes.
    directory: u64,
}

impl Header {
    /// Whether an image that starts so is one.
    pub fn is(start: &[u8]) -> bool {
        start.starts_with(MAGIC)
    }

    /// Reads it, or the footer that stands for it.
    pub fn read(file: &dyn BlockNode) -> Result<Self, BlockError> {
        let bytes = get(file, 0, HEADER_LEN)?;
        if le64(&bytes, 56) != AT_END {
            return Self::parse(&bytes, file.info().size);
        }
        // A marker, the footer, and the marker of the stream's end.
        let size = file.info().size;
        let at = size.checked_sub(3 * SECTOR);
        let end = get(
            file,
            at.ok_or_else(|| bad("invalid VMDK footer"))?,
            3 * SECTOR,
        )?;
        let marker = |at: usize| {
            (
                le32(&end, at.saturating_add(8)),
                le32(&end, at.saturating_add(12)),
            )
        };
        let footer = end.get(512..1024).unwrap_or(&[]);
        let whole = Self::is(footer)
            && marker(0) == (0, FOOTER)
            && marker(1024) == (0, END_OF_STREAM)
            && le64(footer, 56) != AT_END;
        if !whole {
            return Err(bad("invalid VMDK footer"));
        }
        let mut header = Self::parse(footer, size)?;
        // The descriptor stays where the header has it.
        let first = |at| le64(&bytes, at).checked_mul(SECTOR);
        header.descriptor = first(28).unwrap_or(0);
        header.descriptor_len = first(36).unwrap_or(0);
        Ok(header)
    }

    fn parse(bytes: &[u8], file: u64) -> Result<Self, BlockError> {
        if !Self::is(bytes) {
            return Err(bad("Image not in VMDK format"));
        }
        let version = le32(bytes, 4);
        if !(1..=3).contains(&version) {
            return Err(bad(format!("Unsupported VMDK version {version}")));
        }
        let sectors = |at: usize| {
            let bytes = le64(bytes, at).checked_mul(SECTOR);
            bytes.ok_or_else(|| bad("VMDK header is damaged: a number is too large"))
        };
        let header = Header {
            flags: le32(bytes, 8),
            capacity: sectors(12)?,
            grain: sectors(20)?,
            descriptor: sectors(28)?,
            descriptor_len: sectors(36)?,
            entries: u64::from(le32(bytes, 44)),
            directory: sectors(56)?,
        };
        let most = match header.is_packed() {
            true => MAX_PACKED_GRAIN,
            false => MAX_GRAIN,
        };
        if !header.grain.is_power_of_two() || header.grain > most {
            return Err(bad("Invalid granularity, image may be corrupt"));
        }
        if header.entries == 0 || header.entries > MAX_TABLE.into() {
            return Err(bad("L2 table size too big"));
        }
        if header.is_packed() && le16(bytes, 77) != DEFLATE {
            return Err(bad("Unsupported compression of a VMDK image"));
        }
        if header.capacity >= 1 << 63 {
            return Err(bad("L1 size too big"));
        }
        let tables = header.capacity.div_ceil(header.covered());
        let end = tables
            .checked_mul(4)
            .and_then(|len| len.checked_add(header.directory));
        if end.is_none_or(|end| end > file) {
            return Err(bad(
                "VMDK image is truncated: its directory is outside of the file",
            ));
        }
        Ok(header)
    }

    /// The descriptor in the file; `None` where it has none.
    pub fn descriptor(&self, file: &dyn BlockNode) -> Result<Option<Vec<u8>>, BlockError> {
        if self.descriptor == 0 {
            return Ok(None);
        }
        let bytes = get(file, self.descriptor, self.descriptor_len.min(MAX_LEN))?;
        // A part of a larger image has but room for one.
        Ok(Some(bytes).filter(|bytes| bytes.first().is_some_and(|byte| *byte != 0)))
    }

    pub fn is_packed(&self) -> bool {
        self.flags & COMPRESSED != 0
    }

    /// Bytes of the disk that one table covers; not 0.
    fn covered(&self) -> u64 {
        // At most 2^39.
        self.grain.saturating_mul(self.entries).max(1)
    }
}

/// A sparse extent.
pub(super) struct Sparse {
    header: Header,
    file: Edge,
    below: Below,
    tables: Tables,
    /// The grain that was unpacked last, by its place. A leaf.
    unpacked: Mutex<Option<(u64, Arc<Vec<u8>>)>>,
}

/// What a table says of a grain.
enum Grain {
    NotLoaded,
    Missing,
    Zero,
    At(u64),
}

fn damaged() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

impl Sparse {
    /// One of `files` extents.
    pub fn new(header: Header, file: Edge, below: Below, files: usize) -> Self {
        Sparse {
            header,
            tables: Tables::new(file.clone(), files),
            file,
            below,
            unpacked: Mutex::default(),
        }
    }

    /// See [`super::Mapping::reload`].
    pub fn reload(&self) -> Result<(), BlockError> {
        let node = self.file.node().ok_or(BlockError::Empty)?;
        if Header::read(&*node)? != self.header {
            return Err(become_another());
        }
        self.tables.forget();
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        *unpacked = None;
        Ok(())
    }

    /// Bytes of a grain.
    pub fn grain_size(&self) -> u64 {
        self.header.grain
    }

    /// Whether grains are compressed.
    pub fn is_packed(&self) -> bool {
        self.header.is_packed()
    }

    /// Where the bytes at `offset` of this extent are. See [`super::Mapping::find`].
    pub fn find(&self, offset: u64, len: u64, wait: Wait) -> io::Result<Option<Run>> {
        let within = offset.checked_rem(self.header.grain).ok_or_else(damaged)?;
        let grain = self.header.grain.saturating_sub(within);
        let table = self.header.covered();
        let table = table.saturating_sub(offset.checked_rem(table).ok_or_else(damaged)?);
        let (len, place) = match self.grain(offset, wait)? {
            (Grain::NotLoaded, _) => return Ok(None),
            (Grain::Missing, WholeTable(true)) => (len.min(table), Place::Backing),
            (Grain::Missing, WholeTable(false)) => (len.min(grain), Place::Backing),
            (Grain::Zero, _) => (len.min(grain), Place::Zero),
            (Grain::At(_), _) if self.header.is_packed() => (len.min(grain), Place::Packed),
            (Grain::At(at), _) => {
                let len = len.min(grain);
                let at = at.saturating_add(within);
                if at.saturating_add(len) > self.file.info().size {
                    return Err(damaged());
                }
                (len, Place::At(self.below, at))
            }
        };
        Ok(Some(Run { len, place }))
    }

    fn grain(&self, offset: u64, wait: Wait) -> io::Result<(Grain, WholeTable)> {
        let header = &self.header;
        let table = offset.checked_div(header.covered()).ok_or_else(damaged)?;
        let grain = offset.checked_div(header.grain).ok_or_else(damaged)?;
        let grain = grain.checked_rem(header.entries).ok_or_else(damaged)?;
        let entry = |base: u64, number: u64| {
            let at = base.saturating_add(number.saturating_mul(4));
            let entry = self.tables.get::<4>(at, wait);
            entry.map(|entry| entry.map(u32::from_le_bytes))
        };
        let table = match entry(header.directory, table)? {
            None => return Ok((Grain::NotLoaded, WholeTable(false))),
            Some(0) => return Ok((Grain::Missing, WholeTable(true))),
            Some(sector) => u64::from(sector).saturating_mul(SECTOR),
        };
        let grain = match entry(table, grain)? {
            None => Grain::NotLoaded,
            Some(0) => Grain::Missing,
            Some(1) if header.flags & ZEROED_GRAINS != 0 => Grain::Zero,
            Some(sector) => Grain::At(u64::from(sector).saturating_mul(SECTOR)),
        };
        Ok((grain, WholeTable(false)))
    }

    /// Fills `buffers` from the packed grain at `offset`.
    pub fn unpack(&self, offset: u64, len: u64, buffers: &Buffers) -> io::Result<()> {
        let (Grain::At(at), _) = self.grain(offset, Wait::Yes)? else {
            return Err(damaged());
        };
        let number = offset.checked_div(self.header.grain).ok_or_else(damaged)?;
        let within = offset.checked_rem(self.header.grain).ok_or_else(damaged)?;
        let grain = self.unpacked(at, number)?;
        let end = within.saturating_add(len);
        let bytes = grain.get(within as usize..end as usize);
        buffers.write_at(0, bytes.ok_or_else(damaged)?);
        Ok(())
    }

    fn unpacked(&self, at: u64, number: u64) -> io::Result<Arc<Vec<u8>>> {
        let last = || self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, grain)) = last().as_ref().filter(|(place, _)| *place == at) {
            return Ok(grain.clone());
        }
        let grain = Arc::new(self.inflate(at, number)?);
        *last() = Some((at, grain.clone()));
        Ok(grain)
    }

    fn inflate(&self, at: u64, number: u64) -> io::Result<Vec<u8>> {
        let node = self.file.there()?;
        let (at, len) = match self.header.flags & MARKERS {
            // Deflate does not make them longer than this.
            0 => {
                let left = node.info().size.saturating_sub(at);
                (at, self.header.grain.saturating_mul(2).min(left))
            }
            _ => {
                let marker = read(&*node, at, 12)?;
                let sectors = number.saturating_mul(self.header.grain / SECTOR);
                let len = u64::from(le32(&marker, 8));
                let fits = len <= self.header.grain.saturating_mul(2);
                if le64(&marker, 0) != sectors || len == 0 || !fits {
                    return Err(damaged());
                }
                (at.saturating_add(12), len)
            }
        };
        let bytes = read(&*node, at, len)?;
        let most = self.header.grain as usize;
        decompress_to_vec_zlib_with_limit(&bytes, most).map_err(|_| damaged())
    }
}

/// Whether a grain is missing because its whole table is.
struct WholeTable(bool);
