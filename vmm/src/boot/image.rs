//! What a kernel file says about itself.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use linux_loader::loader::elf::PvhBootCapability;

/// How to enter it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bzImage with the 64-bit entry.
    BzImage64 {
        /// Where it is put.
        load: u32,
    },
    /// A bzImage that is entered in 32-bit mode.
    BzImage32 {
        /// Where it is put and entered.
        load: u32,
    },
    /// An ELF with a PVH entry.
    Pvh {
        /// The physical address of the entry.
        entry: u32,
    },
    /// An ELF of which only the entry is known.
    Elf64 {
        /// The physical address of the entry.
        entry: u64,
    },
}

/// A kernel file's header.
#[derive(Debug)]
pub struct Image {
    /// How to enter it.
    pub kind: Kind,
    /// Its setup header, from offset 0x1f1 of the file on (bzImage).
    pub header: Vec<u8>,
    /// Longest command line in bytes, without the end mark.
    pub cmdline_max: Option<u32>,
    /// The highest address an initrd may use.
    pub initrd_max: Option<u64>,
    /// Memory in segments without contents in the file: address and bytes (ELF).
    pub bss: Vec<(u64, u64)>,
    /// The first address behind everything it needs at start, 0 where unknown.
    pub end: u64,
}

/// `HdrS`.
const HEADER_MAGIC: u32 = 0x5372_6448;
const LOADED_HIGH: u8 = 1;
const KERNEL_64: u16 = 1;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const EM_X86_64: u16 = 62;
const XEN_PHYS32_ENTRY: u32 = 18;
/// More is no kernel.
const MAX_SEGMENTS: u16 = 64;
const MAX_NOTES: u64 = 1 << 20;

impl Image {
    /// Looks at the file's first page and, of an ELF, at its notes.
    pub fn read(file: &File) -> io::Result<Image> {
        let mut page = vec![0u8; 4096];
        let got = read_up_to(file, &mut page, 0)?;
        page.truncate(got);
        let bytes = Bytes(&page);
        if bytes.u32(0) == Some(0x464c_457f) {
            elf(file, &bytes).ok_or_else(invalid)
        } else if bytes.u32(0x202) == Some(HEADER_MAGIC) {
            bzimage(file, &bytes).ok_or_else(invalid)
        } else {
            Err(invalid())
        }
    }
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0usize;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(got as u64);
        match file.read_at(rest, at) {
            Ok(0) => break,
            Ok(more) => got = got.saturating_add(more),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// Little-endian numbers in bytes that may end too soon.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }
    fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }
    fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }
    fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }
    fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
}

fn bzimage(file: &File, bytes: &Bytes) -> Option<Image> {
    let version = bytes.u16(0x206)?;
    if version < 0x200 || bytes.u8(0x211)? & LOADED_HIGH == 0 {
        return None;
    }
    let sectors = u64::from(match bytes.u8(0x1f1)? {
        0 => 4,
        more => more,
    });
    if file.metadata().ok()?.len() <= (sectors + 1) * 512 {
        return None;
    }
    let since = |wanted: u16, value: Option<u32>| if version >= wanted { value } else { None };
    let load = bytes.u32(0x214)?;
    let long = version >= 0x20c && bytes.u16(0x236)? & KERNEL_64 != 0;
    // The header ends 0x202 bytes in, plus the second byte of the jump at 0x200.
    let end = usize::from(bytes.u8(0x201)?).checked_add(0x202)?;
    let needs = since(0x20a, bytes.u32(0x260)).map_or(0, u64::from);
    Some(Image {
        kind: if long {
            Kind::BzImage64 { load }
        } else {
            Kind::BzImage32 { load }
        },
        header: bytes.0.get(0x1f1..end)?.to_vec(),
        cmdline_max: since(0x206, bytes.u32(0x238)).filter(|max| *max > 0),
        initrd_max: since(0x203, bytes.u32(0x22c)).map(u64::from),
        bss: Vec::new(),
        end: u64::from(load).saturating_add(needs),
    })
}

fn elf(file: &File, bytes: &Bytes) -> Option<Image> {
    const CLASS_64_LITTLE: [u8; 2] = [2, 1];
    if bytes.array(4)? != CLASS_64_LITTLE || bytes.u16(18)? != EM_X86_64 {
        return None;
    }
    let (table, size, count) = (bytes.u64(32)?, bytes.u16(54)?, bytes.u16(56)?);
    if size != 56 || count > MAX_SEGMENTS {
        return None;
    }
    let mut headers = vec![0u8; usize::from(size) * usize::from(count)];
    let got = read_up_to(file, &mut headers, table).ok()?;
    if got < headers.len() {
        return None;
    }
    let entry = bytes.u64(24)?;
    let mut kind = Kind::Elf64 { entry };
    let (mut bss, mut end) = (Vec::new(), 0u64);
    for header in headers.chunks_exact(usize::from(size)) {
        let header = Bytes(header);
        let (offset, addr) = (header.u64(8)?, header.u64(24)?);
        let (in_file, in_memory) = (header.u64(32)?, header.u64(40)?);
        match header.u32(0)? {
            PT_LOAD => {
                end = end.max(addr.checked_add(in_memory)?);
                if in_memory > in_file {
                    bss.push((addr.checked_add(in_file)?, in_memory - in_file));
                }
            }
            PT_NOTE => {
                if let PvhBootCapability::PvhEntryPresent(at) = pvh_note(file, offset, in_file)? {
                    kind = Kind::Pvh {
                        entry: u32::try_from(at.0).ok()?,
                    };
                }
            }
            _ => {}
        }
    }
    Some(Image {
        kind,
        header: Vec::new(),
        cmdline_max: Some(0xffff),
        initrd_max: None,
        bss,
        end,
    })
}

/// Looks for the note that gives the PVH entry (Xen, public/elfnote.h).
fn pvh_note(file: &File, offset: u64, len: u64) -> Option<PvhBootCapability> {
    let mut notes = vec![0u8; usize::try_from(len.min(MAX_NOTES)).ok()?];
    let got = read_up_to(file, &mut notes, offset).ok()?;
    notes.truncate(got);
    let mut rest = notes.as_slice();
    loop {
        let note = Bytes(rest);
        let (Some(name), Some(value), Some(kind)) = (note.u32(0), note.u32(4), note.u32(8)) else {
            return Some(PvhBootCapability::PvhEntryNotPresent);
        };
        let (name, value) = (usize::try_from(name).ok()?, usize::try_from(value).ok()?);
        let at = 12usize.checked_add(name.checked_next_multiple_of(4)?)?;
        if kind == XEN_PHYS32_ENTRY && rest.get(12..16) == Some(b"Xen\0") && value >= 4 {
            let entry = u64::from(note.u32(at)?);
            return Some(PvhBootCapability::PvhEntryPresent(vm_memory::GuestAddress(
                entry,
            )));
        }
        let next = at.checked_add(value.checked_next_multiple_of(4)?)?;
        rest = rest.get(next..).unwrap_or_default();
    }
}
