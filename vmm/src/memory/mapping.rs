//! Memory maps of the host, and the advice given to its kernel about them.
#![allow(unsafe_code)] // mmap, madvise and mbind have no safe face

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;

use crate::migration::ram::RamBlock;

/// Transparent huge pages on x86.
const HUGE_PAGE: usize = 2 << 20;

/// How pages of a mapping relate to the file and to other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Writes stay in this process.
    Private,
    /// Writes reach the file and everybody who maps it.
    Shared,
}

/// What a mapping shows.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// Zeroes.
    Anonymous,
    /// A file from this offset on.
    File(&'a File, u64),
}

/// Memory mapped into this process; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    addr: *mut u8,
    len: usize,
}

// SAFETY: the mapping is plain memory that belongs to the process, not to a thread; nothing here
// reads or writes through the pointer.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// Advice of madvise(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Huge pages where possible.
    HugePages,
    /// Equal pages may be merged.
    Mergeable,
    /// Left out of core dumps.
    DontDump,
    /// Not copied when a program is started.
    DontFork,
}

impl Advice {
    const fn number(self) -> i32 {
        match self {
            Advice::HugePages => libc::MADV_HUGEPAGE,
            Advice::Mergeable => libc::MADV_MERGEABLE,
            Advice::DontDump => libc::MADV_DONTDUMP,
            Advice::DontFork => libc::MADV_DONTFORK,
        }
    }
}

impl Mapping {
    /// Maps `len` bytes for reading and writing, aligned to `align` (a power of two, at least a
    /// page; huge pages need 2 MiB).
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new(
        source: Source<'_>,
        sharing: Sharing,
        len: usize,
        align: usize,
        reserve: bool,
    ) -> io::Result<Self> {
        let align = align.max(HUGE_PAGE);
        let room = len.checked_add(align).ok_or(io::ErrorKind::OutOfMemory)?;
        // First only addresses, more than needed, so that an aligned part can be chosen.
        let none = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = check(unsafe { libc::mmap(null_mut(), room, libc::PROT_NONE, none, -1, 0) })?;
        let skip = base.align_offset(align).min(align);
        // SAFETY: `skip + len <= room`, so this stays in the mapping just made.
        let addr = unsafe { base.add(skip) };
        let (mut flags, fd, offset) = match source {
            Source::Anonymous => (libc::MAP_ANONYMOUS, -1, 0),
            Source::File(file, offset) => (0, file.as_raw_fd(), offset),
        };
        flags |= match sharing {
            Sharing::Private => libc::MAP_PRIVATE,
            Sharing::Shared => libc::MAP_SHARED,
        };
        if !reserve {
            flags |= libc::MAP_NORESERVE;
        }
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: replaces pages of the mapping made above, which nobody else knows of.
        let got =
            unsafe { libc::mmap(addr.cast(), len, prot, flags | libc::MAP_FIXED, fd, offset) };
        if let Err(error) = check(got) {
            // SAFETY: the mapping made above; nothing points into it.
            unsafe { libc::munmap(base.cast(), room) };
            return Err(error);
        }
        let page = page_size();
        let end = skip.saturating_add(len.next_multiple_of(page));
        // SAFETY: both ranges lie in the mapping made above, outside of [skip, skip + len).
        unsafe {
            if skip > 0 {
                libc::munmap(base.cast(), skip);
            }
            if end < room {
                libc::munmap(base.add(end).cast(), room - end);
            }
        }
        Ok(Mapping { addr, len })
    }

    /// Where it begins.
    pub fn addr(&self) -> *mut u8 {
        self.addr
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: the kernel refuses to map nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Advises the kernel.
    ///
    /// # Errors
    /// EINVAL where it was built without the feature.
    pub fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: the range is ours; none of these changes what it holds.
        done(unsafe { libc::madvise(self.addr.cast(), self.len, advice.number()) })
    }

    /// Binds the pages to come to host nodes (mbind(2)); `nodes` is a bit map.
    ///
    /// # Errors
    /// Those of mbind(2).
    pub fn bind(&self, mode: i32, nodes: &[u64]) -> io::Result<()> {
        const MPOL_MF_STRICT: u32 = 1;
        const MPOL_MF_MOVE: u32 = 2;
        let bits = nodes.len().saturating_mul(64).saturating_add(1);
        // SAFETY: the range is ours, `nodes` has the bits announced.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.addr,
                self.len,
                mode,
                nodes.as_ptr(),
                bits,
                MPOL_MF_STRICT | MPOL_MF_MOVE,
            )
        };
        done(-i32::from(result != 0))
    }

    /// Takes the pages of `[from, from + len)` from the host now.
    ///
    /// # Errors
    /// EFAULT or ENOMEM when it has none, and EINVAL before Linux 5.14.
    pub fn populate(&self, from: usize, len: usize) -> io::Result<()> {
        let inside = from.checked_add(len).is_some_and(|end| end <= self.len);
        if !inside {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: inside the mapping; populating writes back what is there.
        done(unsafe { libc::madvise(self.addr.add(from).cast(), len, libc::MADV_POPULATE_WRITE) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours. Whoever keeps pointers into it keeps it alive: see
        // `Backend::regions`, which lets it live for ever.
        unsafe { libc::munmap(self.addr.cast(), self.len) };
    }
}

/// Shows a file, from `offset` on, where a block of RAM was: private copies, made where the guest
/// writes. What was there is gone; what the kernel was told about it stays told.
///
/// # Errors
/// Those of mmap(2). The memory is as it was then.
pub fn show_file(block: &RamBlock, file: &File, offset: u64) -> io::Result<()> {
    let len = usize::try_from(block.len).map_err(|_| io::ErrorKind::InvalidInput)?;
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let told = advice_of(block.host);
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
    let addr = block.host as *mut libc::c_void;
    // SAFETY: the block is a mapping of ours that lives until the process ends (`RamBlock::host`),
    // and all of it is replaced by memory as readable and writable. Nobody holds references into
    // guest RAM, only pointers, and those stay valid.
    check(unsafe { libc::mmap(addr, len, prot, flags, file.as_raw_fd(), offset) })?;
    for advice in told {
        // SAFETY: the mapping just made; none of these changes what it holds.
        unsafe { libc::madvise(addr, len, advice.number()) };
    }
    Ok(())
}

/// What the kernel was told about the mapping at `addr` (proc_pid_smaps(5), VmFlags).
fn advice_of(addr: u64) -> Vec<Advice> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let mut inside = false;
    for line in smaps.lines() {
        let range = line.split(' ').next().and_then(|word| word.split_once('-'));
        if let Some((Some(first), Some(end))) = range.map(|(a, b)| (hex(a), hex(b))) {
            inside = (first..end).contains(&addr);
        }
        if let (true, Some(flags)) = (inside, line.strip_prefix("VmFlags:")) {
            let known = |flag| match flag {
                "hg" => Some(Advice::HugePages),
                "mg" => Some(Advice::Mergeable),
                "dd" => Some(Advice::DontDump),
                "dc" => Some(Advice::DontFork),
                _ => None,
            };
            return flags.split_whitespace().filter_map(known).collect();
        }
    }
    // Never copied when a program is started: it would take long.
    vec![Advice::DontFork]
}

/// A file that lives in memory only.
///
/// # Errors
/// Those of memfd_create(2).
pub fn memfd(huge: Option<u64>, sealable: bool) -> io::Result<File> {
    let mut flags = libc::MFD_CLOEXEC;
    if sealable {
        flags |= libc::MFD_ALLOW_SEALING;
    }
    if let Some(size) = huge {
        flags |= libc::MFD_HUGETLB;
        if size > 0 {
            flags |= size.trailing_zeros() << libc::MFD_HUGE_SHIFT;
        }
    }
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"memory-backend-memfd".as_ptr(), flags) };
    done(fd)?;
    // SAFETY: just made, belongs to nobody else.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Forbids to change the size of a memfd (and to lift the ban).
///
/// # Errors
/// Those of fcntl(2).
pub fn seal_size(file: &File) -> io::Result<()> {
    let seals = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: no pointers.
    done(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })
}

/// The page size of the file system that `file` lies on (huge on hugetlbfs).
pub fn file_page_size(file: &File) -> usize {
    const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;
    // SAFETY: all bytes zero are a valid statfs, and it lives across the call.
    let (result, info) = unsafe {
        let mut info: libc::statfs = std::mem::zeroed();
        (libc::fstatfs(file.as_raw_fd(), &mut info), info)
    };
    if result == 0 && i128::from(info.f_type) == i128::from(HUGETLBFS_MAGIC) {
        usize::try_from(info.f_bsize).unwrap_or(HUGE_PAGE)
    } else {
        page_size()
    }
}

/// Bytes of a page.
pub fn page_size() -> usize {
    // SAFETY: no pointers.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

fn check(addr: *mut libc::c_void) -> io::Result<*mut u8> {
    if addr == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(addr.cast())
    }
}

fn done(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_aligned_for_huge_pages() {
        for len in [4096, 1 << 20, (4 << 20) + 4096] {
            let mapping =
                Mapping::new(Source::Anonymous, Sharing::Private, len, 4096, true).unwrap();
            assert_eq!(mapping.addr().align_offset(HUGE_PAGE), 0);
            assert_eq!(mapping.len(), len);
            mapping.populate(0, 4096).unwrap();
            assert!(mapping.populate(len, 1).is_err());
        }
    }

    #[test]
    fn too_much_memory_is_refused() {
        let len = 1usize << 50;
        let error = Mapping::new(Source::Anonymous, Sharing::Private, len, 4096, true);
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::ENOMEM));
    }
}
