//! Gives pages of guest RAM back to the host; what is read there afterwards is zeroes, or for
//! private mappings of files what the file has.
//!
//! Nothing outside of RAM is ever touched, whatever the guest asks for. What was discarded is
//! marked as changed, so that a migration under way sends it again.
#![allow(unsafe_code)] // madvise, fallocate and fstatfs have no safe face

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, PoisonError, RwLock};

use vm_memory::bitmap::Bitmap;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap};

use crate::ram::{GuestRam, RamHandle};
use crate::written::Written;
use vm_memory::GuestAddressSpace;

/// Bytes of the pages that guests speak of.
pub const GUEST_PAGE: u64 = 4096;

/// What a block of RAM is made of, which decides how its pages are given back.
#[derive(Debug, Clone)]
enum Backing {
    /// Anonymous memory of this process.
    Private,
    /// Anonymous memory that others may share.
    Shared,
    /// A file that keeps what the guest writes.
    File(Arc<File>),
    /// A file below private copies, which alone are given back: the file is not ours to change.
    Copies,
}

/// Addresses of this process where anonymous RAM was replaced by private copies of a file: first
/// and length. Rank: a leaf. Regions know nothing of it, as they were made before.
static COPIES: RwLock<Vec<(u64, u64)>> = RwLock::new(Vec::new());

/// RAM at these addresses of this process now shows private copies of a file (a machine restored
/// by mapping): what is given back there does not become zeroes.
pub fn declare_copies(address: u64, len: u64) {
    let mut copies = COPIES.write().unwrap_or_else(PoisonError::into_inner);
    copies.push((address, len));
}

fn is_copy(address: u64) -> bool {
    let copies = COPIES.read().unwrap_or_else(PoisonError::into_inner);
    let holds = |(first, len): &(u64, u64)| address.checked_sub(*first).is_some_and(|at| at < *len);
    copies.iter().any(holds)
}

/// One region of RAM.
#[derive(Debug, Clone)]
struct Block {
    base: u64,
    len: u64,
    /// Bytes of the host's pages.
    page: u64,
    /// Where in its file it begins; 0 where there is none.
    offset: u64,
    backing: Backing,
}

/// A whole page of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPage {
    /// Its guest address.
    pub base: u64,
    /// Bytes.
    pub len: u64,
}

/// A handle on guest RAM that gives pages back. Blocks for as long as the host's kernel needs:
/// use it on an I/O thread, a bounded number of bytes at a time.
pub struct Discarder {
    handle: RamHandle,
    ram: Arc<GuestRam>,
    blocks: Vec<Block>,
    failed: bool,
}

impl Discarder {
    /// For this RAM.
    pub fn new(handle: &RamHandle) -> Self {
        let ram = handle.memory().into_inner();
        Discarder {
            handle: handle.clone(),
            blocks: blocks(&ram),
            ram,
            failed: false,
        }
    }

    /// Looks whether RAM came or went since the last call.
    pub fn refresh(&mut self) {
        let now = self.handle.memory().into_inner();
        if !Arc::ptr_eq(&now, &self.ram) {
            self.blocks = blocks(&now);
            self.ram = now;
        }
    }

    /// The host's page that holds the guest's page at `address`; `None` outside of RAM, and
    /// where the host's page is not wholly this guest's.
    pub fn page_at(&self, address: u64) -> Option<HostPage> {
        self.block(address)?.page_at(address)
    }

    /// Gives back the whole pages of the host in `[address, address + len)`, as far as they are
    /// RAM; the rest is left alone. Returns how many bytes that were.
    pub fn discard(&mut self, address: u64, len: u64) -> u64 {
        let end = address.saturating_add(len);
        let mut at = address;
        let mut done = 0u64;
        while let Some(block) = (at < end).then(|| self.block(at)).flatten() {
            let stop = end.min(block.base.saturating_add(block.len));
            if let Some((from, len)) = block.whole_pages(at, stop) {
                match self.discard_in(block, from, len) {
                    Ok(()) => done = done.saturating_add(len),
                    Err(error) => {
                        if !std::mem::replace(&mut self.failed, true) {
                            log::warn!("Cannot give guest memory back: {error}");
                        }
                    }
                }
            }
            at = stop;
        }
        done
    }

    /// The same, where what is read afterwards has to be zeroes: private copies of files stay.
    pub fn discard_to_zero(&mut self, address: u64, len: u64) -> u64 {
        match self.block(address).map(|block| &block.backing) {
            None | Some(Backing::Copies) => 0,
            Some(Backing::Private) if self.shows_file(address) => 0,
            Some(Backing::Private | Backing::Shared | Backing::File(_)) => {
                self.discard(address, len)
            }
        }
    }

    /// Whether anonymous memory at this guest address was replaced since by a file.
    fn shows_file(&self, address: u64) -> bool {
        let region = self.ram.find_region(GuestAddress(address));
        region.is_some_and(|region| is_copy(region.as_ptr() as u64))
    }

    fn block(&self, address: u64) -> Option<&Block> {
        let holds = |block: &&Block| {
            address
                .checked_sub(block.base)
                .is_some_and(|at| at < block.len)
        };
        self.blocks.iter().find(holds)
    }

    /// `[from, from + len)` lies in `block` and is whole pages of the host.
    fn discard_in(&self, block: &Block, from: u64, len: u64) -> io::Result<()> {
        let inside = || io::Error::from(io::ErrorKind::InvalidInput);
        let region = self.ram.find_region(GuestAddress(from));
        let region = region.ok_or_else(inside)?;
        let at = from.checked_sub(region.start_addr().0).ok_or_else(inside)?;
        if at.checked_add(len).is_none_or(|end| end > region.len()) {
            return Err(inside());
        }
        let bytes = usize::try_from(len).map_err(|_| inside())?;
        let start = usize::try_from(at).map_err(|_| inside())?;
        match &block.backing {
            Backing::Private | Backing::Copies => advise(region, start, bytes, libc::MADV_DONTNEED),
            Backing::Shared => advise(region, start, bytes, libc::MADV_REMOVE),
            Backing::File(file) => punch(file, block.offset.saturating_add(at), len),
        }?;
        region.bitmap().mark_dirty(start, bytes);
        Ok(())
    }
}

impl Block {
    fn new(region: &GuestRegionMmap<Written>) -> Self {
        let shared = region.flags() & libc::MAP_SHARED != 0;
        let file = region.file_offset();
        Block {
            base: region.start_addr().0,
            len: region.len(),
            page: file.map_or(GUEST_PAGE, |at| page_size(at.file())),
            offset: file.map_or(0, |at| at.start()),
            backing: match (file, shared) {
                (None, false) => Backing::Private,
                (None, true) => Backing::Shared,
                (Some(at), true) => Backing::File(at.arc().clone()),
                (Some(_), false) => Backing::Copies,
            },
        }
    }

    /// Bytes from the beginning of a page of the host to this address.
    fn past_page_start(&self, address: u64) -> u64 {
        let in_file = address
            .saturating_sub(self.base)
            .saturating_add(self.offset);
        in_file % self.page.max(1)
    }

    fn page_at(&self, address: u64) -> Option<HostPage> {
        let base = address.checked_sub(self.past_page_start(address))?;
        let end = base.checked_add(self.page)?;
        let inside = base >= self.base && end <= self.base.saturating_add(self.len);
        inside.then_some(HostPage {
            base,
            len: self.page,
        })
    }

    /// The whole pages of the host in `[from, to)`, which lies in the block: where they begin,
    /// and how many bytes.
    fn whole_pages(&self, from: u64, to: u64) -> Option<(u64, u64)> {
        let first = match self.past_page_start(from) {
            0 => from,
            past => from.checked_add(self.page.checked_sub(past)?)?,
        };
        let last = to.checked_sub(self.past_page_start(to))?;
        let len = last.checked_sub(first).filter(|len| *len > 0)?;
        Some((first, len))
    }
}

fn blocks(ram: &GuestRam) -> Vec<Block> {
    ram.iter().map(Block::new).collect()
}

fn advise(region: &GuestRegionMmap<Written>, at: usize, len: usize, advice: i32) -> io::Result<()> {
    if at.checked_add(len).is_none_or(|end| end > region.size()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the range lies in the region's mapping, which lives as long as `region`. It is the
    // guest's memory: nobody on this side holds references into it, only raw pointers.
    let result = unsafe { libc::madvise(region.as_ptr().add(at).cast(), len, advice) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let offset = libc::off_t::try_from(offset).map_err(invalid)?;
    let len = libc::off_t::try_from(len).map_err(invalid)?;
    loop {
        // SAFETY: no pointers.
        if unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Bytes of the pages that a mapping of `file` is made of.
fn page_size(file: &File) -> u64 {
    const HUGETLBFS_MAGIC: i128 = 0x9584_58f6;
    // SAFETY: all bytes zero are a valid statfs, and it lives across the call.
    let (result, info) = unsafe {
        let mut info: libc::statfs = std::mem::zeroed();
        (libc::fstatfs(file.as_raw_fd(), &mut info), info)
    };
    if result == 0 && i128::from(info.f_type) == HUGETLBFS_MAGIC {
        return u64::try_from(info.f_bsize)
            .ok()
            .filter(|size| size.is_power_of_two())
            .map_or(GUEST_PAGE, |size| size.max(GUEST_PAGE));
    }
    GUEST_PAGE
}

#[cfg(test)]
#[path = "discard_test.rs"]
mod tests;
