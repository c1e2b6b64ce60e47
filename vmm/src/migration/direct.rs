//! Writing files past the page cache.
//!
//! What is saved is on the disk before it is said to be there, so the cache would be one copy more and nothing else.
//! Where the file system cannot do without it, everything goes through it as ever, and nobody notices.
//!
//! Threads write what was gathered while more is. Much memory at an aligned place is written from where it is; what the
//! guest changes meanwhile is in the log of pages and comes again. Everything else is copied into buffers, and so is all
//! where the file system has checksums: copies stay as they are while they are written.
#![allow(unsafe_code)] // fstatfs(2), fallocate(2) and pwritev(2)

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::host::Broken;
use super::link::{MOST_PIECES, advance, failure, piece};
use super::pages::Span;
use super::placed::set_direct;
use crate::sys;
use crate::threads::{self, ThreadKind};

/// What places, lengths and addresses are multiples of: enough for every usual disk.
pub const ALIGN: usize = 4096;
/// Memory of fewer bytes is copied: it is less than a turn of the disk.
const LEAST_LENT: usize = 256 << 10;
/// Bytes of a buffer. Less costs more turns of the disk.
const BUFFER: usize = 4 << 20;
/// Threads that write: one's end is the other's middle.
const WRITERS: usize = 2;
/// Buffers: one for each writer, one that is filled, and one that waits.
const MOST_BUFFERS: usize = WRITERS + 2;
/// Room is asked for in such steps, bytes: it is then found in few pieces, and the file's length stays as it is while
/// several threads write.
const STEP: u64 = 256 << 20;
/// Number of btrfs, ZFS and bcachefs (statfs(2), `f_type`): what changes while they write it does not match its
/// checksum.
const CHECKSUMS: [u32; 3] = [0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e];

/// Whether the file is one to try it with: regular, and written where it is told to be.
pub fn is_fit(file: &File) -> bool {
    let regular = file.metadata().is_ok_and(|found| found.is_file());
    regular && !appends(file)
}

/// Whether everything goes to the file's end, wherever it is told to go.
pub fn appends(file: &File) -> bool {
    sys::status_flags(file).is_ok_and(|flags| flags & libc::O_APPEND != 0)
}

/// Whether memory may change while it is written.
pub fn takes_changing_memory(file: &File) -> bool {
    // SAFETY: all bytes zero are a valid statfs, and it lives across the call.
    let found = unsafe {
        let mut found: libc::statfs = std::mem::zeroed();
        (libc::fstatfs(file.as_raw_fd(), &raw mut found) == 0).then_some(found.f_type)
    };
    found.is_some_and(|kind| !CHECKSUMS.contains(&(kind as u32)))
}

/// Whether this error says that the file cannot be written past the cache after all.
pub fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EFAULT)
    )
}

/// Bytes into a file, one after the other.
#[derive(Debug)]
pub struct Stream {
    file: Arc<File>,
    /// What comes before the first aligned place; `at` is not aligned before it is full.
    lead: usize,
    /// Where the buffer's beginning goes.
    at: u64,
    buffer: Buffer,
    /// How long the file was, and how far there is room.
    found: u64,
    room: Option<u64>,
    writers: Option<Writers>,
    /// Whether memory is written from where it is.
    lends: bool,
}

impl Stream {
    /// From `offset` on. `None` where that is not possible: the file is as it was.
    pub fn begin(fd: &impl AsFd, offset: u64) -> Option<Self> {
        let file = File::from(fd.as_fd().try_clone_to_owned().ok()?);
        if !is_fit(&file) {
            return None;
        }
        let found = file.metadata().ok()?.len();
        let past = usize::try_from(offset % ALIGN as u64).ok()?;
        let lead = ALIGN.saturating_sub(past) % ALIGN;
        set_direct(&file, true).ok()?;
        let file = Arc::new(file);
        let lends = takes_changing_memory(&file);
        let writers = Writers::start(&file);
        if lead != 0 || writers.is_none() {
            set_direct(&file, false).ok()?;
        }
        Some(Stream {
            file,
            lead,
            at: offset,
            buffer: Buffer::new(),
            found,
            room: Some(offset),
            writers: Some(writers?),
            lends,
        })
    }

    /// Whether so many bytes of memory are better off at a place that is a multiple of [`ALIGN`].
    pub const fn would_lend(&self, len: usize) -> bool {
        self.lends && len >= LEAST_LENT
    }

    /// Adds all of `head`, and then all of `data`.
    ///
    /// # Errors
    /// When something before could not be written.
    pub fn write(&mut self, head: &[u8], data: &[Span]) -> Result<(), Broken> {
        let mut rest = head;
        while !rest.is_empty() {
            let room = self.make_room()?.min(rest.len());
            let (now, later) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            self.buffer.bytes.extend_from_slice(now);
            rest = later;
        }
        let len = data.iter().map(Span::len).fold(0, usize::saturating_add);
        if self.would_lend(len) && self.is_aligned() {
            return self.pass_on(data, len);
        }
        for span in data {
            let mut done = 0;
            while let Some(rest) = span.from(done).filter(|rest| !rest.is_empty()) {
                let room = self.make_room()?;
                let now = rest.up_to(room);
                now.append_to(&mut self.buffer.bytes);
                done = done.saturating_add(now.len());
            }
        }
        Ok(())
    }

    /// Writes everything that is left. The descriptor is behind it then, and goes through the cache again.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn finish(mut self) -> Result<(), Broken> {
        self.drain()?;
        let rest = self.buffer.filled();
        set_direct(&self.file, false).map_err(|error| cannot(&error))?;
        self.file
            .write_all_at(rest, self.at)
            .map_err(|error| cannot(&error))?;
        let end = self.at.saturating_add(rest.len() as u64);
        self.cut(end).map_err(|error| cannot(&error))?;
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(end))
            .map(drop)
            .map_err(|error| cannot(&error))
    }

    /// How much more the buffer takes; at least a byte.
    fn make_room(&mut self) -> Result<usize, Broken> {
        let filled = self.buffer.filled().len();
        let most = match self.lead {
            0 => BUFFER,
            lead => lead,
        };
        match most.saturating_sub(filled) {
            0 => {
                self.pass_on(&[], 0)?;
                Ok(BUFFER)
            }
            room => Ok(room),
        }
    }

    /// Whether what comes next has an aligned place. Then so has the buffer.
    fn is_aligned(&self) -> bool {
        self.lead == 0 && self.buffer.filled().len().is_multiple_of(ALIGN)
    }

    /// Has the buffer written, and behind it memory of `len` bytes; takes another one.
    fn pass_on(&mut self, lent: &[Span], len: usize) -> Result<(), Broken> {
        let len = self.buffer.filled().len().saturating_add(len) as u64;
        if self.lead != 0 {
            // By itself in its page, so that no page is written in both ways.
            let lead = self.file.write_all_at(self.buffer.filled(), self.at);
            lead.and_then(|()| self.file.sync_data())
                .map_err(|error| cannot(&error))?;
            self.lead = 0;
            self.buffer.clear();
            // What it would not do now it did before: if need be the cache does as well.
            let _ = set_direct(&self.file, true);
        } else {
            self.find_room(self.at.saturating_add(len));
            let writers = self.writers.as_mut().ok_or_else(lost)?;
            let next = writers.buffer()?;
            writers.write(Order {
                buffer: std::mem::replace(&mut self.buffer, next),
                lent: lent.to_vec(),
                at: self.at,
            })?;
        }
        self.at = self.at.saturating_add(len);
        Ok(())
    }

    /// A wish: without it, it takes longer.
    fn find_room(&mut self, end: u64) {
        let Some(room) = self.room.filter(|room| *room < end) else {
            return;
        };
        let number = |value| libc::off_t::try_from(value).unwrap_or(libc::off_t::MAX);
        let fd = self.file.as_raw_fd();
        // SAFETY: no pointers.
        let got = unsafe { libc::fallocate(fd, 0, number(room), number(STEP)) } == 0;
        self.room = got.then(|| room.saturating_add(STEP));
    }

    /// All that was passed on is written.
    fn drain(&mut self) -> Result<(), Broken> {
        match self.writers.as_mut() {
            Some(writers) => writers.drain(),
            None => Ok(()),
        }
    }

    /// Gives room that was not needed back.
    fn cut(&self, end: u64) -> io::Result<()> {
        let wanted = end.max(self.found);
        match self.file.metadata()?.len() > wanted {
            true => self.file.set_len(wanted),
            false => Ok(()),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Waits for them: whatever they write is written before anybody else goes on with the file.
        let Some(writers) = self.writers.take() else {
            return;
        };
        drop(writers);
        let end = self.at.saturating_add(self.buffer.filled().len() as u64);
        // Given up, or done already.
        let _ = set_direct(&self.file, false);
        let _ = self.cut(end);
    }
}

/// An aligned buffer: what a vector has from the first aligned address on. It never grows, so it never moves.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    from: usize,
}

impl Buffer {
    fn new() -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(BUFFER.saturating_add(ALIGN));
        let from = bytes.as_ptr().align_offset(ALIGN).min(ALIGN);
        bytes.resize(from, 0);
        Buffer { bytes, from }
    }

    fn filled(&self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.bytes.truncate(self.from);
    }
}

/// What is written at once: a buffer, and memory behind it.
#[derive(Debug)]
struct Order {
    buffer: Buffer,
    lent: Vec<Span>,
    at: u64,
}

/// Threads that write.
#[derive(Debug)]
struct Writers {
    orders: Option<Sender<Order>>,
    done: Receiver<(Buffer, io::Result<()>)>,
    threads: Vec<JoinHandle<Option<()>>>,
    /// How many buffers there are beside the one that is filled, and how many of them are on their way.
    buffers: usize,
    away: usize,
    free: Vec<Buffer>,
}

impl Writers {
    fn start(file: &Arc<File>) -> Option<Self> {
        let (orders, inbox) = channel();
        let (report, done) = channel();
        let inbox = Arc::new(Mutex::new(inbox));
        let mut writers = Writers {
            orders: Some(orders),
            done,
            threads: Vec::new(),
            buffers: 0,
            away: 0,
            free: Vec::new(),
        };
        for number in 0..WRITERS {
            let (file, inbox, report) = (file.clone(), inbox.clone(), report.clone());
            let body = move || serve(&file, &inbox, &report);
            let name = format!("file-write-{number}");
            let thread = threads::spawn(ThreadKind::Migration, &name, None, body).ok()?;
            writers.threads.push(thread);
        }
        Some(writers)
    }

    fn write(&mut self, order: Order) -> Result<(), Broken> {
        let orders = self.orders.as_ref().ok_or_else(lost)?;
        orders.send(order).map_err(|_| lost())?;
        self.away = self.away.saturating_add(1);
        Ok(())
    }

    /// An empty one, waited for where all are on their way.
    fn buffer(&mut self) -> Result<Buffer, Broken> {
        if let Some(buffer) = self.free.pop() {
            return Ok(buffer);
        }
        if self.buffers.saturating_add(1) < MOST_BUFFERS {
            self.buffers = self.buffers.saturating_add(1);
            return Ok(Buffer::new());
        }
        self.wait()
    }

    fn wait(&mut self) -> Result<Buffer, Broken> {
        let (mut buffer, result) = self.done.recv().map_err(|_| lost())?;
        self.away = self.away.saturating_sub(1);
        result.map_err(|error| cannot(&error))?;
        buffer.clear();
        Ok(buffer)
    }

    fn drain(&mut self) -> Result<(), Broken> {
        while self.away > 0 {
            let buffer = self.wait()?;
            self.free.push(buffer);
        }
        Ok(())
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.orders = None;
        for thread in self.threads.drain(..) {
            // What went wrong was told.
            let _ = thread.join();
        }
    }
}

fn serve(file: &File, inbox: &Mutex<Receiver<Order>>, report: &Sender<(Buffer, io::Result<()>)>) {
    loop {
        // The lock is held while there is nothing to do: the other one waits for the same.
        let order = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(order) = order else { return };
        let result = write_all(file, order.buffer.filled(), &order.lent, order.at);
        if report.send((order.buffer, result)).is_err() {
            return;
        }
    }
}

/// Past the cache, or through it where that is refused.
fn write_all(file: &File, bytes: &[u8], lent: &[Span], at: u64) -> io::Result<()> {
    match write_pieces(file, bytes, lent, at) {
        Err(error) if is_refusal(&error) => {
            set_direct(file, false)?;
            write_pieces(file, bytes, lent, at)
        }
        result => result,
    }
}

fn write_pieces(file: &File, bytes: &[u8], lent: &[Span], at: u64) -> io::Result<()> {
    let bytes = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut pieces: Vec<libc::iovec> = std::iter::once(bytes)
        .chain(lent.iter().map(piece))
        .collect();
    let mut left = advance(&mut pieces, 0);
    let mut at = at;
    while !left.is_empty() {
        let count = libc::c_int::try_from(left.len().min(MOST_PIECES)).unwrap_or(1);
        let place = libc::off_t::try_from(at).unwrap_or(libc::off_t::MAX);
        // SAFETY: the first piece is `bytes`, borrowed for the call, and the others are guest RAM, mapped for as long as
        // the process lives; all of it is only read.
        let done = unsafe { libc::pwritev(file.as_raw_fd(), left.as_ptr(), count, place) };
        match usize::try_from(done) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(done) => {
                at = at.saturating_add(done as u64);
                left = advance(left, done);
            }
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(())
}

fn cannot(error: &io::Error) -> Broken {
    failure("Cannot write the file", error)
}

fn lost() -> Broken {
    Broken::Failed("A thread that writes the file ended".to_owned())
}

#[cfg(test)]
#[path = "direct_test.rs"]
mod tests;
