//! System calls that std does not offer.
#![allow(unsafe_code)] // thin wrappers over libc

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use crate::buffers::IoPart;

/// Most parts of one vectored call (IOV_MAX).
pub const MAX_PARTS: usize = 1024;

fn count(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn signed(value: u64) -> io::Result<i64> {
    i64::try_from(value).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))
}

fn part_count(parts: &[IoPart]) -> i32 {
    parts.len().min(MAX_PARTS) as i32
}

/// preadv(2) of the first [`MAX_PARTS`] parts.
pub fn preadv(file: &File, parts: &[IoPart], offset: u64) -> io::Result<usize> {
    let offset = signed(offset)?;
    // SAFETY: an `IoPart` is an iovec whose memory may be written (see `Buffers::push`), and the
    // caller's borrow keeps the list and through it the memory alive.
    count(unsafe {
        libc::preadv(
            file.as_raw_fd(),
            parts.as_ptr().cast(),
            part_count(parts),
            offset,
        )
    })
}

/// posix_fadvise(2): the kernel lets go of what it has of the file in its cache, as far as that is
/// on the disk. Advice only.
pub fn drop_cache(file: &File) {
    // SAFETY: the descriptor is open; no memory is involved.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// preadv2(2) of the first [`MAX_PARTS`] parts, which does not wait for the disk: EAGAIN, or fewer
/// bytes, where it would have to (RWF_NOWAIT).
pub fn preadv_at_hand(file: &File, parts: &[IoPart], offset: u64) -> io::Result<usize> {
    let offset = signed(offset)?;
    // SAFETY: as for `preadv`.
    count(unsafe {
        libc::preadv2(
            file.as_raw_fd(),
            parts.as_ptr().cast(),
            part_count(parts),
            offset,
            libc::RWF_NOWAIT,
        )
    })
}

/// pwritev2(2) of the first [`MAX_PARTS`] parts.
pub fn pwritev(file: &File, parts: &[IoPart], offset: u64, flags: i32) -> io::Result<usize> {
    let offset = signed(offset)?;
    // SAFETY: as for `preadv`; the memory is only read.
    count(unsafe {
        libc::pwritev2(
            file.as_raw_fd(),
            parts.as_ptr().cast(),
            part_count(parts),
            offset,
            flags,
        )
    })
}

/// fallocate(2).
pub fn fallocate(file: &File, mode: i32, offset: u64, len: u64) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, signed(offset)?, signed(len)?) })
        .map(drop)
}

// linux/fs.h; libc does not have them.
const FS_IOC_GETFLAGS: libc::Ioctl = 0x8008_6601_u32 as libc::Ioctl;
const FS_IOC_SETFLAGS: libc::Ioctl = 0x4008_6602;
const FS_NOCOW_FL: libc::c_int = 0x0080_0000;
const FS_IOC_FSGETXATTR: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
const FS_IOC_FSSETXATTR: libc::Ioctl = 0x401c_5820;
const FS_XFLAG_EXTSIZE: u32 = 0x0000_0800;

/// struct fsxattr of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct FsXattr {
    flags: u32,
    extent_size: u32,
    rest: [u32; 5],
}

/// Asks the file system to overwrite the file's data in place.
pub fn set_nocow(file: &File) -> io::Result<()> {
    let mut flags: libc::c_int = 0;
    // SAFETY: the request writes one int.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETFLAGS, &mut flags) })?;
    flags |= FS_NOCOW_FL;
    // SAFETY: the request reads one int.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_SETFLAGS, &flags) }).map(drop)
}

/// Tells the file system how many bytes to allocate at a time.
pub fn set_extent_size(file: &File, bytes: u32) -> io::Result<()> {
    let mut attr = FsXattr::default();
    // SAFETY: the request writes one struct fsxattr.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR, &mut attr) })?;
    attr.flags |= FS_XFLAG_EXTSIZE;
    attr.extent_size = bytes;
    // SAFETY: the request reads one struct fsxattr.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSSETXATTR, &attr) }).map(drop)
}

const BLKDISCARD: libc::Ioctl = 0x1277;
const BLKZEROOUT: libc::Ioctl = 0x127f;
const BLKSSZGET: libc::Ioctl = 0x1268;
const BLKPBSZGET: libc::Ioctl = 0x127b;
const BLKGETSIZE64: libc::Ioctl = 0x8008_1272_u32 as libc::Ioctl;

fn range_ioctl(file: &File, request: libc::Ioctl, offset: u64, len: u64) -> io::Result<()> {
    let range = [offset, len];
    // SAFETY: both requests read two u64 from the pointer.
    check(unsafe { libc::ioctl(file.as_raw_fd(), request, range.as_ptr()) }).map(drop)
}

/// Tells a block device that its data in the range is of no use any more.
pub fn discard_device(file: &File, offset: u64, len: u64) -> io::Result<()> {
    range_ioctl(file, BLKDISCARD, offset, len)
}

/// Writes zeroes to a block device.
pub fn zero_device(file: &File, offset: u64, len: u64) -> io::Result<()> {
    range_ioctl(file, BLKZEROOUT, offset, len)
}

/// Bytes of a block device.
pub fn device_size(file: &File) -> io::Result<u64> {
    let mut size = 0u64;
    // SAFETY: the request writes one u64.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64, &mut size) })?;
    Ok(size)
}

/// Bytes of a block device's logical and physical sectors.
pub fn device_sectors(file: &File) -> io::Result<(u32, u32)> {
    let (mut logical, mut physical) = (0u32, 0u32);
    // SAFETY: the request writes one int.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BLKSSZGET, &mut logical) })?;
    // SAFETY: the request writes one int.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BLKPBSZGET, &mut physical) })?;
    Ok((logical, physical))
}

/// What O_DIRECT asks of memory addresses and of offsets, where the kernel tells (statx(2)).
pub fn direct_alignment(file: &File) -> Option<(u32, u32)> {
    // SAFETY: statx is a plain struct of integers.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is an empty C string, which AT_EMPTY_PATH allows; `stat` is ours.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            &mut stat,
        )
    };
    let known = result == 0
        && stat.stx_mask & libc::STATX_DIOALIGN != 0
        && stat.stx_dio_mem_align.is_power_of_two()
        && stat.stx_dio_offset_align.is_power_of_two();
    known.then_some((stat.stx_dio_mem_align, stat.stx_dio_offset_align))
}

/// lseek(2); only for SEEK_DATA and SEEK_HOLE: nobody uses the file's own position.
pub fn seek(file: &File, offset: u64, whence: i32) -> io::Result<u64> {
    let offset = i64::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::ENXIO))?;
    // SAFETY: no memory is passed.
    let at = unsafe { libc::lseek(file.as_raw_fd(), offset, whence) };
    u64::try_from(at).map_err(|_| io::Error::last_os_error())
}

/// The status flags (F_GETFL).
pub fn status_flags(file: &File) -> io::Result<i32> {
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) })
}

/// Sets the status flags (F_SETFL).
pub fn set_status_flags(file: &File, flags: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

/// What to do with one byte's lock of the open file description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteLock {
    /// Hold it together with others.
    Share,
    /// Let go of it.
    Release,
}

fn flock(kind: i32, byte: u64) -> io::Result<libc::flock> {
    // SAFETY: flock is a plain struct of integers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = signed(byte)?;
    lock.l_len = 1;
    Ok(lock)
}

/// Locks or unlocks a byte (F_OFD_SETLK).
pub fn lock_byte(file: &File, byte: u64, what: ByteLock) -> io::Result<()> {
    let kind = match what {
        ByteLock::Share => libc::F_RDLCK,
        ByteLock::Release => libc::F_UNLCK,
    };
    let lock = flock(kind, byte)?;
    // SAFETY: the command reads the struct.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) }).map(drop)
}

/// Whether another open file description holds a lock on the byte (F_OFD_GETLK).
pub fn is_locked_by_other(file: &File, byte: u64) -> io::Result<bool> {
    let mut lock = flock(libc::F_WRLCK, byte)?;
    // SAFETY: the command reads and writes the struct.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) })?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

/// Waits until `fd` is readable.
pub fn wait_readable(fd: RawFd) {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd, which is ours.
    unsafe { libc::poll(&mut poll, 1, -1) };
}

/// Linux AIO (`io_setup` and the like), which glibc does not wrap.
pub mod aio {
    use super::*;

    /// Result of a request, as the kernel lays it out (linux/aio_abi.h).
    #[repr(C)]
    #[derive(Debug, Clone, Copy, Default)]
    pub struct Event {
        /// What the request was called.
        pub data: u64,
        /// The request's address.
        pub obj: u64,
        /// Bytes, or a negative errno.
        pub res: i64,
        /// Unused.
        pub res2: i64,
    }

    const PREADV: u16 = 7;
    const PWRITEV: u16 = 8;
    const FLAG_RESFD: u32 = 1;

    /// A context of the kernel. Dropping it waits for what is in flight.
    #[derive(Debug)]
    pub struct Context(libc::c_ulong);

    /// One vectored request.
    #[derive(Debug)]
    pub struct Request<'a> {
        /// Comes back in [`Event::data`].
        pub data: u64,
        /// Whether it writes.
        pub write: bool,
        /// RWF flags.
        pub flags: i32,
        /// The file.
        pub fd: RawFd,
        /// The memory.
        pub parts: &'a [IoPart],
        /// Where in the file.
        pub offset: u64,
        /// The eventfd to signal.
        pub event: RawFd,
    }

    /// `struct iocb` of linux/aio_abi.h, little endian; not every C library declares it.
    #[repr(C)]
    #[derive(Default)]
    struct ControlBlock {
        data: u64,
        key: u32,
        rw_flags: i32,
        opcode: u16,
        priority: i16,
        fd: u32,
        parts: u64,
        part_count: u64,
        offset: i64,
        reserved: u64,
        flags: u32,
        event: u32,
    }

    impl Context {
        /// For `depth` requests in flight.
        pub fn new(depth: u32) -> io::Result<Self> {
            let mut id: libc::c_ulong = 0;
            // SAFETY: the kernel writes the id, which must be zero before.
            let result = unsafe { libc::syscall(libc::SYS_io_setup, depth, &mut id) };
            check(result as i32)?;
            Ok(Context(id))
        }

        /// Starts requests in order; returns how many the kernel took, at least one.
        ///
        /// # Safety
        /// The lists of parts and their memory stay valid until the events were taken or the
        /// context was dropped, and the descriptors stay open until then.
        pub unsafe fn submit(&self, requests: &[Request<'_>]) -> io::Result<usize> {
            let mut blocks = Vec::with_capacity(requests.len());
            for request in requests {
                blocks.push(ControlBlock {
                    data: request.data,
                    rw_flags: request.flags,
                    opcode: if request.write { PWRITEV } else { PREADV },
                    fd: request.fd as u32,
                    parts: request.parts.as_ptr() as u64,
                    part_count: part_count(request.parts) as u64,
                    offset: signed(request.offset)?,
                    flags: FLAG_RESFD,
                    event: request.event as u32,
                    ..ControlBlock::default()
                });
            }
            let list: Vec<_> = blocks.iter_mut().map(|block| &raw mut *block).collect();
            // SAFETY: the kernel copies the control blocks; what they point to is valid until
            // the requests have ended, as the caller promises.
            let result =
                unsafe { libc::syscall(libc::SYS_io_submit, self.0, list.len(), list.as_ptr()) };
            count(result as isize)
        }

        /// Takes events that are there; does not wait.
        pub fn take(&self, events: &mut [Event]) -> io::Result<usize> {
            let mut timeout = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // SAFETY: the kernel writes at most as many events as there is room for.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.0,
                    0,
                    events.len(),
                    events.as_mut_ptr(),
                    &raw mut timeout,
                )
            };
            count(result as isize)
        }
    }

    impl Drop for Context {
        fn drop(&mut self) {
            // SAFETY: the context is ours and not used after this.
            unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_seen_by_other_descriptions_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let other = file.reopen().unwrap();
        lock_byte(file.as_file(), 100, ByteLock::Share).unwrap();
        assert!(is_locked_by_other(&other, 100).unwrap());
        assert!(!is_locked_by_other(file.as_file(), 100).unwrap());
        assert!(!is_locked_by_other(&other, 101).unwrap());
        lock_byte(file.as_file(), 100, ByteLock::Release).unwrap();
        assert!(!is_locked_by_other(&other, 100).unwrap());
    }
}
