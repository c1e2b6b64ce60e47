//! The file of `mapped-ram`: a page of heads, records, RAM at fixed places, records again.
//! docs/migration-format.md describes it.
#![allow(unsafe_code)] // fcntl(2) with locks has no safe face

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bulk::crc::Crc;

use super::host::Broken;
use super::link::{Fate, Input, Sink, failure};
use super::pages::Span;
use super::wire::{Fields, Out, refuse};

/// Where the seal is.
pub const SEAL_AT: u64 = 64;
/// Bytes of the seal.
pub const SEAL_LEN: usize = 28;
/// Where the first records are.
pub const RECORDS_AT: u64 = 4096;
/// What places of RAM are multiples of, in the file.
pub const ALIGN: u64 = 2 << 20;
const SEAL: [u8; 8] = *b"QVMDSEAL";

/// Written last: the file is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// Where the records behind RAM begin. All from the stream's beginning.
    pub tail: u64,
    /// Where everything ends.
    pub end: u64,
}

impl Seal {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Out::default();
        out.bytes(&SEAL).u64(self.tail).u64(self.end);
        let crc = Crc::of(&out.0);
        out.u32(crc);
        out.0
    }

    /// From bytes.
    ///
    /// # Errors
    /// When the file was never completed.
    pub fn decode(bytes: &[u8; SEAL_LEN]) -> Result<Self, Broken> {
        let mut fields = Fields::new("seal", bytes);
        if fields.array::<8>("magic")? != SEAL {
            return Err(fields.refuse("magic", "the file was not completed"));
        }
        let tail = fields.u64("tail")?;
        let end = fields.u64("end")?;
        let sum = bytes.first_chunk::<24>().map(|start| Crc::of(start));
        if sum != Some(fields.u32("crc")?) {
            return Err(fields.refuse("crc", "does not match"));
        }
        if tail < RECORDS_AT || tail > end {
            return Err(fields.refuse("tail", &format!("{tail:#x} of {end:#x}")));
        }
        Ok(Seal { tail, end })
    }
}

/// Who may use the file at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Nobody.
    Write,
    /// Whoever reads.
    Read,
}

/// Locks the file from `offset` on, for as long as it is open or mapped.
///
/// # Errors
/// When somebody else uses it.
pub fn lock(file: &File, offset: u64, how: Use) -> Result<(), Broken> {
    let kind = match how {
        Use::Write => libc::F_WRLCK,
        Use::Read => libc::F_RDLCK,
    };
    // SAFETY: all bytes zero are a valid flock, and it lives across the call.
    let result = unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        lock.l_start = libc::off_t::try_from(offset).unwrap_or(0);
        libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock)
    };
    let error = io::Error::last_os_error();
    let busy = matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES));
    match result < 0 && busy {
        true => Err(Broken::Failed(
            "The file is in use by another process".to_owned(),
        )),
        // Not every file system has locks.
        false => Ok(()),
    }
}

/// Bytes of a file, one after the other.
#[derive(Debug)]
pub struct At {
    file: Arc<File>,
    at: u64,
    fate: Fate,
}

impl At {
    /// From `at` on.
    pub const fn new(file: Arc<File>, at: u64, fate: Fate) -> Self {
        At { file, at, fate }
    }

    /// Where it has come to.
    pub const fn position(&self) -> u64 {
        self.at
    }
}

impl Input for At {
    fn read(&mut self, bytes: &mut [u8]) -> Result<bool, Broken> {
        self.fate.check()?;
        match self.file.read_exact_at(bytes, self.at) {
            Ok(()) => {
                let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                self.at = self.at.saturating_add(len);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(failure("Cannot read the file", &error)),
        }
    }

    fn read_pages(&mut self, _: &[Span]) -> Result<bool, Broken> {
        // Pages have their places.
        Err(refuse("pages", "kind", "is out of place in a file"))
    }
}

impl Sink for At {
    fn write(&mut self, head: &[u8], data: &[Span]) -> Result<(), Broken> {
        let mut bytes = head.to_vec();
        for span in data {
            span.append_to(&mut bytes);
        }
        self.file
            .write_all_at(&bytes, self.at)
            .map_err(|error| failure("Cannot write the file", &error))?;
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.at = self.at.saturating_add(len);
        Ok(())
    }
}

/// Moves memory to or from a place in the file, all of it; false at the end of the file.
fn whole(
    span: &Span,
    mut step: impl FnMut(*mut libc::c_void, usize, usize) -> libc::ssize_t,
) -> io::Result<bool> {
    let mut done = 0;
    while done < span.len() {
        let address = (span.address() as *mut u8).wrapping_add(done);
        match usize::try_from(step(address.cast(), span.len().saturating_sub(done), done)) {
            Ok(0) => return Ok(false),
            Ok(some) => done = done.saturating_add(some),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(true)
}

fn position(at: u64, done: usize) -> libc::off_t {
    let done = u64::try_from(done).unwrap_or(u64::MAX);
    libc::off_t::try_from(at.saturating_add(done)).unwrap_or(libc::off_t::MAX)
}

/// Writes memory to a place in the file.
///
/// # Errors
/// Those of pwrite(2).
pub fn write_span(file: &File, span: &Span, at: u64) -> io::Result<()> {
    let fd = file.as_raw_fd();
    // SAFETY: `whole` gives pieces of the span, which is guest RAM; it is only read.
    let step = |from: *mut libc::c_void, len, done| unsafe {
        libc::pwrite(fd, from, len, position(at, done))
    };
    match whole(span, step)? {
        true => Ok(()),
        false => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Reads memory from a place in the file; false when the file ends there.
///
/// # Errors
/// Those of pread(2).
pub fn read_span(file: &File, span: &Span, at: u64) -> io::Result<bool> {
    let fd = file.as_raw_fd();
    // SAFETY: `whole` gives pieces of the span, which is guest RAM, writable.
    let step =
        |to: *mut libc::c_void, len, done| unsafe { libc::pread(fd, to, len, position(at, done)) };
    whole(span, step)
}

/// Makes a hole.
///
/// # Errors
/// Those of fallocate(2); EOPNOTSUPP where the file system has none.
pub fn punch(file: &File, at: u64, len: u64) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let number = |value| libc::off_t::try_from(value).map_err(|_| io::ErrorKind::InvalidInput);
    let (at, len) = (number(at)?, number(len)?);
    // SAFETY: no pointers.
    match unsafe { libc::fallocate(file.as_raw_fd(), mode, at, len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Writes bypass the page cache from now on, or no longer.
///
/// # Errors
/// EINVAL where the file system has no such thing.
pub fn set_direct(file: &File, on: bool) -> io::Result<()> {
    let flags = crate::sys::status_flags(file)?;
    let flags = match on {
        true => flags | libc::O_DIRECT,
        false => flags & !libc::O_DIRECT,
    };
    // SAFETY: no pointers.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
