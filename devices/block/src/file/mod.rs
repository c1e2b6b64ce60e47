//! `file` and `host_device`: regular files and block devices of the host.

mod create;
mod lane;
mod lock;
mod perform;
mod ranges;

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffers::{Buffers, HostBuffer};
use crate::engine;
use crate::error::BlockError;
use crate::gate::{Gate, Policy, Screen};
use crate::graph::{NodeSpec, Perms};
use crate::node::{Activity, BlockNode, Extent, ExtentKind, IoLane, NodeInfo, SECTOR};
use crate::null::sectors_up;
use crate::pool::Pool;
use crate::request::Op;
use crate::stats::Stats;
use crate::sys;
use crate::waker::Waker;
pub use create::{FileCreate, NewFile, Preallocation};
use lane::FileLane;
use lock::ImageLock;
use ranges::{Hold, Ranges};

/// How requests reach the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aio {
    /// System calls on a pool of threads.
    #[default]
    Threads,
    /// Linux AIO; only for direct I/O.
    Native,
    /// io_uring.
    IoUring,
}

/// Whether an image is locked against other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Locking {
    /// Where the host can.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Options of `file` and `host_device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Its path, as the opener understands it.
    pub filename: String,
    /// How requests reach the host.
    pub aio: Aio,
    /// Whether it is locked.
    pub locking: Locking,
}

/// Which of the two drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// `file`.
    Regular,
    /// `host_device`.
    Device,
}

impl FileKind {
    /// The driver's name.
    const fn name(self) -> &'static str {
        match self {
            FileKind::Regular => "file",
            FileKind::Device => "host_device",
        }
    }
}

/// Opens files by name (`/dev/fdset/N` among them) with the flags of open(2).
pub trait FileOpener {
    /// # Errors
    /// Those of open(2).
    fn open(&mut self, path: &str, flags: i32) -> io::Result<File>;

    /// A node from its description in JSON, as it stands after `json:` in an image's name of
    /// another one.
    ///
    /// # Errors
    /// When it makes no sense.
    fn json(&mut self, text: &str) -> Result<NodeSpec, BlockError> {
        Err(BlockError::Unsupported(format!(
            "A description in JSON is not understood here: {text}"
        )))
    }
}

impl<F: FnMut(&str, i32) -> io::Result<File>> FileOpener for F {
    fn open(&mut self, path: &str, flags: i32) -> io::Result<File> {
        self(path, flags)
    }
}

/// How a file is to be opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenMode {
    pub kind: FileKind,
    pub read_only: bool,
    /// Fall back to read-only.
    pub auto_read_only: bool,
    /// `cache.direct`.
    pub direct: bool,
}

/// An open file and what is known of it; shared by node, lanes and jobs.
pub(crate) struct HostFile {
    pub file: File,
    pub kind: FileKind,
    pub direct: bool,
    /// What direct I/O asks of addresses, and of offsets and lengths.
    pub memory_align: u32,
    pub align: u32,
    /// In use when `align` is more than a sector.
    pub ranges: Ranges,
    pub aio: Aio,
    /// Held while the length changes, or must not change. A leaf.
    pub length: Mutex<()>,
    /// The errno of a flush that failed; 0 before.
    pub lost: AtomicI32,
}

impl HostFile {
    fn length(&self) -> MutexGuard<'_, ()> {
        self.length.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// fdatasync(2). Once it has failed, the kernel may have dropped written data from its cache
    /// and say nothing more of it, so that no later flush can promise anything (fsync(2), notes).
    /// Direct I/O does not go through that cache.
    fn sync_data(&self) -> io::Result<()> {
        match self.lost.load(Ordering::Acquire) {
            0 => self.synced(self.file.sync_data()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// Whether a flush has failed, and every other one will.
    fn has_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire) != 0
    }

    /// The end of a flush, with what it means for later ones.
    fn synced(&self, result: io::Result<()>) -> io::Result<()> {
        match result {
            // The kernel tells of a loss once: another flush may have been told meanwhile.
            Ok(()) => match self.lost.load(Ordering::Acquire) {
                0 => Ok(()),
                code => Err(io::Error::from_raw_os_error(code)),
            },
            Err(error) => {
                if !self.direct && error.kind() != io::ErrorKind::Interrupted {
                    let code = error.raw_os_error().unwrap_or(libc::EIO);
                    self.lost.store(code, Ordering::Release);
                }
                Err(error)
            }
        }
    }

    /// The range that a write needs for itself, where blocks are larger than sectors.
    fn needed(&self, op: Op, buffers: &Buffers) -> Option<(u64, u64, Hold)> {
        let align = u64::from(self.align);
        let range = op.range(buffers).filter(|_| op.is_write());
        let (offset, len) = range.filter(|_| align > SECTOR)?;
        let end = offset.saturating_add(len);
        let whole = (offset | len).is_multiple_of(align);
        let (start, end) = (offset / align * align, end.next_multiple_of(align));
        let hold = if whole { Hold::Shared } else { Hold::Alone };
        Some((start, end, hold))
    }

    fn bytes(&self) -> io::Result<u64> {
        match self.kind {
            FileKind::Regular => Ok(self.file.metadata()?.len()),
            FileKind::Device => sys::device_size(&self.file),
        }
    }
}

pub(crate) struct FileNode {
    host: Arc<HostFile>,
    path: String,
    pool: Pool,
    screen: Screen,
    lock: Arc<NodeLock>,
}

/// An image's lock with the descriptor that has it. A node that takes the place of another one on
/// the same file takes it over: there is no moment without it.
struct NodeLock {
    image: ImageLock,
    host: Arc<HostFile>,
}

impl FileNode {
    pub fn open(
        spec: &FileSpec,
        mode: OpenMode,
        mut policy: Policy,
        opener: &mut dyn FileOpener,
        pool: &Pool,
        stats: Arc<Stats>,
        former: Option<&FileNode>,
    ) -> Result<Self, BlockError> {
        let path = &spec.filename;
        if spec.aio == Aio::Native && !mode.direct {
            return Err(BlockError::NativeNeedsDirect);
        }
        if path.is_empty() {
            return Err(BlockError::Unsupported(format!(
                "The '{}' block driver requires a file name",
                mode.kind.name()
            )));
        }
        let (file, read_only) = open_file(path, mode, opener)?;
        policy.read_only = read_only;
        check_kind(path, &file, mode.kind)?;
        let direct = mode.direct && set_direct(path, &file)?;
        let (memory_align, align) = match direct {
            true => probe_alignment(&file, mode.kind),
            false => (1, 1),
        };
        // Sectors are the smallest that direct I/O knows.
        policy.granule = if direct { SECTOR as u32 } else { 1 };
        engine::probe(spec.aio)?;
        let host = HostFile {
            file,
            kind: mode.kind,
            direct,
            memory_align,
            align,
            ranges: Ranges::default(),
            aio: spec.aio,
            length: Mutex::default(),
            lost: AtomicI32::new(former.map_or(0, |former| former.lost())),
        };
        let bytes = host
            .bytes()
            .map_err(|error| BlockError::host(format!("Could not get size of '{path}'"), error))?;
        let former = former.filter(|former| is_same(&former.host.file, &host.file));
        let host = Arc::new(host);
        let lock = match former {
            Some(former) => former.lock.clone(),
            None => Arc::new(NodeLock {
                image: ImageLock::new(&host.file, path, spec.locking)?,
                host: host.clone(),
            }),
        };
        Ok(FileNode {
            host,
            path: path.clone(),
            pool: pool.clone(),
            screen: Screen::new(policy, sectors_up(bytes), stats),
            lock,
        })
    }
}

impl FileNode {
    /// The errno of a flush that failed, which a new descriptor would not tell again.
    fn lost(&self) -> i32 {
        self.host.lost.load(Ordering::Acquire)
    }
}

fn is_same(one: &File, other: &File) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Opens for writing unless told otherwise; says whether it is read-only in the end.
fn open_file(
    path: &str,
    mode: OpenMode,
    opener: &mut dyn FileOpener,
) -> Result<(File, bool), BlockError> {
    let direct = if mode.direct { libc::O_DIRECT } else { 0 };
    // A pipe would keep us waiting for its other end. Of a device that does not wait, it would
    // say that there is no hurry for a medium either.
    let patience = match mode.kind {
        FileKind::Regular => libc::O_NONBLOCK,
        FileKind::Device => 0,
    };
    let mut open = |access: i32| {
        let file = opener.open(path, access | direct | patience | libc::O_CLOEXEC)?;
        let flags = sys::status_flags(&file)?;
        if flags & libc::O_NONBLOCK != 0 {
            sys::set_status_flags(&file, flags & !libc::O_NONBLOCK)?;
        }
        Ok(file)
    };
    if mode.kind == FileKind::Device && is_pipe(path) {
        return Err(BlockError::NotDevice(path.to_owned()));
    }
    let refused = |error: &io::Error| match error.raw_os_error() {
        Some(libc::EINVAL) if mode.direct => BlockError::Open {
            path: path.to_owned(),
            reason: "filesystem does not support O_DIRECT".to_owned(),
        },
        _ => BlockError::open(path, error),
    };
    if mode.read_only {
        let file = open(libc::O_RDONLY).map_err(|error| refused(&error))?;
        return Ok((file, true));
    }
    match open(libc::O_RDWR) {
        Ok(file) => Ok((file, false)),
        Err(error) if mode.auto_read_only && is_access_error(&error) => {
            let file = open(libc::O_RDONLY).map_err(|error| refused(&error))?;
            Ok((file, true))
        }
        Err(error) => Err(refused(&error)),
    }
}

fn is_pipe(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|there| there.file_type().is_fifo())
}

fn is_access_error(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(code, Some(libc::EACCES | libc::EROFS | libc::EPERM))
}

fn check_kind(path: &str, file: &File, kind: FileKind) -> Result<(), BlockError> {
    let kind_of = file
        .metadata()
        .map_err(|error| BlockError::open(path, &error))?
        .file_type();
    match kind {
        FileKind::Regular if kind_of.is_dir() => Err(BlockError::open(
            path,
            &io::Error::from_raw_os_error(libc::EISDIR),
        )),
        FileKind::Regular if !kind_of.is_file() => Err(BlockError::NotRegular(path.to_owned())),
        FileKind::Device if kind_of.is_char_device() => Err(BlockError::Unsupported(format!(
            "'{path}' is a character device, which cannot be used as a disk"
        ))),
        FileKind::Device if !kind_of.is_block_device() => {
            Err(BlockError::NotDevice(path.to_owned()))
        }
        FileKind::Regular | FileKind::Device => Ok(()),
    }
}

/// A descriptor that was handed over may lack O_DIRECT.
fn set_direct(path: &str, file: &File) -> Result<bool, BlockError> {
    let refused = |error: io::Error| BlockError::open(path, &error);
    let flags = sys::status_flags(file).map_err(refused)?;
    if flags & libc::O_DIRECT == 0 {
        sys::set_status_flags(file, flags | libc::O_DIRECT).map_err(refused)?;
    }
    Ok(true)
}

/// What direct I/O asks of addresses and of offsets: what the kernel says, or else what it takes.
fn probe_alignment(file: &File, kind: FileKind) -> (u32, u32) {
    let floor = SECTOR as u32;
    if let Some((memory, offset)) = sys::direct_alignment(file) {
        return (memory, offset.max(floor));
    }
    if kind == FileKind::Device
        && let Ok((logical, _)) = sys::device_sectors(file)
    {
        return (logical.max(floor), logical.max(floor));
    }
    // Where even one byte works, the file system did not look, which says nothing.
    let takes = |len: usize| {
        let memory = Arc::new(HostBuffer::new(len, 4096));
        sys::preadv(file, Buffers::owned(memory).parts(), 0).is_ok()
    };
    let align = match [1usize, 512, 1024, 2048]
        .into_iter()
        .find(|len| takes(*len))
    {
        Some(1) | None => 4096,
        Some(align) => align as u32,
    };
    (align, align)
}

impl BlockNode for FileNode {
    fn info(&self) -> NodeInfo {
        NodeInfo {
            size: self.screen.size(),
            read_only: self.screen.policy().read_only,
            granule: self.screen.policy().granule,
        }
    }

    fn allocated(&self) -> Option<u64> {
        // st_blocks counts 512 bytes whatever the file system's blocks are.
        let blocks = self.host.file.metadata().ok()?.blocks();
        blocks.checked_mul(512)
    }

    fn open_lane(&self, depth: u32, waker: &Waker) -> Result<Box<dyn IoLane>, BlockError> {
        let lane = FileLane::open(self.host.clone(), &self.pool, depth, waker)?;
        Ok(Box::new(Gate::new(lane, self.screen.clone())))
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        self.screen.perform(op, buffers, |op| {
            let _range = match self.host.needed(op, buffers) {
                Some((start, end, hold)) => Some(self.host.ranges.hold(start, end, hold)?),
                None => None,
            };
            perform::perform(&self.host, op, buffers, 0)
        })
    }

    fn extent(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let end = offset.saturating_add(len).min(self.screen.size());
        let left = end.saturating_sub(offset);
        let data = |len| Extent {
            len,
            kind: ExtentKind::Data,
        };
        if left == 0 || self.host.kind == FileKind::Device {
            return Ok(data(left));
        }
        let zero = |len| Extent {
            len,
            kind: ExtentKind::Zero,
        };
        match sys::seek(&self.host.file, offset, libc::SEEK_DATA) {
            Ok(start) if start > offset => Ok(zero(start.min(end).saturating_sub(offset))),
            Ok(_) => {
                let hole = sys::seek(&self.host.file, offset, libc::SEEK_HOLE).unwrap_or(end);
                Ok(data(hole.min(end).saturating_sub(offset).max(1)))
            }
            // No data from there on.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(zero(left)),
            // The file system does not know.
            Err(_) => Ok(data(left)),
        }
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        let failed = |error| BlockError::host(format!("Could not resize '{}'", self.path), error);
        if self.screen.policy().read_only {
            return Err(BlockError::ReadOnly);
        }
        if !self.screen.is_active() {
            return Err(BlockError::Inactive("resize".to_owned()));
        }
        let _length = self.host.length();
        match self.host.kind {
            FileKind::Regular => self.host.file.set_len(size).map_err(failed)?,
            FileKind::Device => {
                let there = self.host.bytes().map_err(failed)?;
                if size > there {
                    return Err(BlockError::Unsupported("Cannot grow device files".into()));
                }
            }
        }
        self.screen.set_size(sectors_up(size));
        Ok(())
    }

    fn set_perms(&self, perms: Perms) -> Result<(), BlockError> {
        self.lock.image.set(&self.lock.host.file, perms)
    }

    fn set_activity(&self, activity: Activity) -> Result<(), BlockError> {
        if activity == Activity::Active {
            let bytes = self.host.bytes().map_err(|error| {
                BlockError::host(format!("Could not get size of '{}'", self.path), error)
            })?;
            if self.host.kind == FileKind::Regular {
                // Another host may have written it: what this one has in its cache is no use.
                sys::drop_cache(&self.host.file);
            }
            self.screen.set_size(sectors_up(bytes));
        }
        self.screen.set_activity(activity);
        Ok(())
    }
}

#[cfg(test)]
#[path = "host_test.rs"]
mod host_tests;
#[cfg(test)]
#[path = "file_test.rs"]
mod tests;
