//! A whole request by system calls that block, on a thread of the pool. Short reads and writes
//! are gone on with, what direct I/O does not take as it is goes through memory of our own, and
//! what the host does not offer is made up for.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use super::{FileKind, HostFile};
use crate::buffers::{Buffers, HostBuffer, IoPart};
use crate::request::{Durability, Op, Unmap};
use crate::sys;

/// Most bytes through memory of our own at once.
const BOUNCE: u64 = 1 << 20;

/// Carries out `op`, of which the first `done` bytes are done already.
///
/// # Errors
/// The host's.
pub(super) fn perform(host: &HostFile, op: Op, buffers: &Buffers, done: u64) -> io::Result<()> {
    match op {
        Op::Read { offset } => read(host, buffers, offset, done),
        Op::Write { offset, durability } => write(host, buffers, offset, done, durability),
        Op::Flush => host.sync_data(),
        Op::Discard { offset, len } => discard(host, offset, len),
        Op::WriteZeroes {
            offset,
            len,
            unmap,
            durability,
        } => {
            write_zeroes(host, offset, len, unmap)?;
            match durability {
                Durability::Durable => host.sync_data(),
                Durability::Cached => Ok(()),
            }
        }
    }
}

/// Whether the host takes this range and memory as they are.
pub(super) fn is_clean(host: &HostFile, buffers: &Buffers, offset: u64) -> bool {
    !host.direct
        || ((offset | buffers.len()).is_multiple_of(host.align.into())
            && buffers.is_aligned(host.memory_align as usize))
}

/// Reads once; `None` when a signal came in between.
fn once(result: io::Result<usize>) -> io::Result<Option<u64>> {
    match result {
        Ok(count) => Ok(Some(count as u64)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

/// The parts from `done` on.
fn rest(buffers: &Buffers, done: u64) -> Cow<'_, [IoPart]> {
    match done {
        0 => Cow::Borrowed(buffers.parts()),
        _ => Cow::Owned(buffers.window(done, buffers.len())),
    }
}

fn too_large() -> io::Error {
    io::Error::from_raw_os_error(libc::EFBIG)
}

fn read(host: &HostFile, buffers: &Buffers, offset: u64, mut done: u64) -> io::Result<()> {
    while done < buffers.len() {
        let at = offset.checked_add(done).ok_or_else(too_large)?;
        let left = buffers.len().saturating_sub(done);
        let count = if is_clean(host, buffers, at) {
            once(sys::preadv(&host.file, &rest(buffers, done), at))?
        } else {
            read_bounced(host, buffers, done, at, left.min(BOUNCE))?
        };
        match count {
            // The end of the file: what a disk of full sectors has beyond it are zeroes.
            Some(0) => {
                buffers.zero_from(done);
                return Ok(());
            }
            Some(count) => done = done.saturating_add(count),
            None => {}
        }
    }
    Ok(())
}

/// The aligned range around `len` bytes at `at`.
fn around(host: &HostFile, at: u64, len: u64) -> io::Result<(u64, u64)> {
    let align = u64::from(host.align).max(1);
    let start = at / align * align;
    let end = at
        .checked_add(len)
        .and_then(|end| end.checked_next_multiple_of(align))
        .ok_or_else(too_large)?;
    Ok((start, end))
}

fn bounce(host: &HostFile, start: u64, end: u64) -> (Arc<HostBuffer>, Buffers) {
    let align = host.align.max(host.memory_align).max(4096) as usize;
    let memory = Arc::new(HostBuffer::new(end.saturating_sub(start) as usize, align));
    let buffers = Buffers::owned(memory.clone());
    (memory, buffers)
}

fn read_bounced(
    host: &HostFile,
    buffers: &Buffers,
    done: u64,
    at: u64,
    len: u64,
) -> io::Result<Option<u64>> {
    let (start, end) = around(host, at, len)?;
    let (memory, own) = bounce(host, start, end);
    let Some(got) = once(sys::preadv(&host.file, own.parts(), start))? else {
        return Ok(None);
    };
    // Of what came, the part from `at` on.
    let skip = at.saturating_sub(start);
    let useful = got.saturating_sub(skip).min(len);
    let bytes = memory.to_vec();
    let from = bytes.get(skip as usize..skip.saturating_add(useful) as usize);
    buffers.write_at(done, from.unwrap_or(&[]));
    Ok(Some(useful))
}

fn write(
    host: &HostFile,
    buffers: &Buffers,
    offset: u64,
    mut done: u64,
    durability: Durability,
) -> io::Result<()> {
    let mut flags = match durability {
        Durability::Durable => libc::RWF_DSYNC,
        Durability::Cached => 0,
    };
    let mut sync = false;
    while done < buffers.len() {
        let at = offset.checked_add(done).ok_or_else(too_large)?;
        let left = buffers.len().saturating_sub(done);
        let result = if is_clean(host, buffers, at) {
            once(sys::pwritev(&host.file, &rest(buffers, done), at, flags))
        } else {
            write_bounced(host, buffers, done, at, left.min(BOUNCE), flags)
        };
        match result {
            Ok(Some(0)) => return Err(io::Error::from_raw_os_error(libc::EIO)),
            Ok(Some(count)) => done = done.saturating_add(count),
            Ok(None) => {}
            Err(error) if flags != 0 && error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                (flags, sync) = (0, true);
            }
            Err(error) => return Err(error),
        }
    }
    if sync { host.sync_data() } else { Ok(()) }
}

/// Writes `len` bytes of `buffers` from `done` on to `at` through memory of our own. Where they
/// are parts of blocks, the rest of the blocks is read first; the lane holds the range.
fn write_bounced(
    host: &HostFile,
    buffers: &Buffers,
    done: u64,
    at: u64,
    len: u64,
    flags: i32,
) -> io::Result<Option<u64>> {
    let (start, end) = around(host, at, len)?;
    let (memory, own) = bounce(host, start, end);
    if (start, end) != (at, at.saturating_add(len)) {
        read(host, &own, start, 0)?;
    }
    let mut data = vec![0; len as usize];
    buffers.read_at(done, &mut data);
    own.write_at(at.saturating_sub(start), &data);
    write_back(host, &own, start, at.saturating_add(len), flags)?;
    drop(memory);
    Ok(Some(len))
}

/// Writes whole blocks; a file that ended inside of them, at `data_end` at the latest, ends there
/// again.
fn write_back(
    host: &HostFile,
    own: &Buffers,
    start: u64,
    data_end: u64,
    flags: i32,
) -> io::Result<()> {
    let end = start.saturating_add(own.len());
    let regular = host.kind == FileKind::Regular;
    // Until the end is where it belongs again: a new size in between would be cut off.
    let length = match regular && host.file.metadata()?.len() < end {
        true => Some(host.length()),
        false => None,
    };
    let before = match length {
        Some(_) => Some(host.file.metadata()?.len()),
        None => None,
    };
    let mut done = 0;
    while done < own.len() {
        let parts = own.window(done, own.len());
        let at = start.saturating_add(done);
        match once(sys::pwritev(&host.file, &parts, at, flags))? {
            Some(0) => return Err(io::Error::from_raw_os_error(libc::EIO)),
            Some(count) => done = done.saturating_add(count),
            None => {}
        }
    }
    match before {
        Some(before) if before.max(data_end) < end => host.file.set_len(before.max(data_end)),
        Some(_) | None => Ok(()),
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(
        code,
        Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::ENOSYS | libc::EINVAL | libc::ENODEV)
    )
}

/// Lets `request` fail only for a reason other than that the host does not have it.
fn tried(mut request: impl FnMut() -> io::Result<()>) -> io::Result<bool> {
    loop {
        match request() {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_unsupported(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
const ZERO_RANGE: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;

/// A host that cannot discard has not failed: it was only a hint.
fn discard(host: &HostFile, offset: u64, len: u64) -> io::Result<()> {
    tried(|| match host.kind {
        FileKind::Regular => sys::fallocate(&host.file, PUNCH_HOLE, offset, len),
        FileKind::Device => sys::discard_device(&host.file, offset, len),
    })
    .map(drop)
}

fn write_zeroes(host: &HostFile, offset: u64, len: u64, unmap: Unmap) -> io::Result<()> {
    let allocate = |mode| tried(|| sys::fallocate(&host.file, mode, offset, len));
    if unmap == Unmap::May && allocate(PUNCH_HOLE)? {
        return Ok(());
    }
    let done = match host.kind {
        FileKind::Regular => allocate(ZERO_RANGE)?,
        FileKind::Device => tried(|| sys::zero_device(&host.file, offset, len))?,
    };
    if done {
        return Ok(());
    }
    write_zero_bytes(host, offset, len)
}

fn write_zero_bytes(host: &HostFile, offset: u64, len: u64) -> io::Result<()> {
    let align = host.align.max(4096) as usize;
    let memory = Arc::new(HostBuffer::new(len.min(BOUNCE) as usize, align));
    let mut done = 0u64;
    while done < len {
        let at = offset.checked_add(done).ok_or_else(too_large)?;
        let left = len.saturating_sub(done).min(memory.len() as u64);
        let piece = match left == memory.len() as u64 {
            true => Buffers::owned(memory.clone()),
            false => Buffers::owned(Arc::new(HostBuffer::new(left as usize, align))),
        };
        write(host, &piece, at, 0, Durability::Cached)?;
        done = done.saturating_add(left);
    }
    Ok(())
}
