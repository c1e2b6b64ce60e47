//! A channel that never blocks beyond its cancellation.
#![allow(unsafe_code)] // readv and writev at addresses of guest RAM

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use super::ahead::Ahead;
use super::answers::Answers;
use super::direct::{self, Stream};
use super::host::{Broken, Cancel, Channel, ChannelKind};
use super::pages::Span;
use super::splice::{Splicer, Step};
use crate::process::errno;
use crate::sys;

/// The kernel takes no more pieces at once (UIO_MAXIOV).
pub(super) const MOST_PIECES: usize = 1024;
/// Asked for as a socket's buffer; the host may give less. More than that leaves the caches.
const SOCKET_BUFFER: i32 = 1 << 20;

/// How a migration as a whole stands: cancelled, failed on some channel, or well.
#[derive(Debug, Clone)]
pub struct Fate {
    cancel: Cancel,
    failed: Cancel,
    first: Arc<Mutex<Option<Broken>>>,
}

impl Fate {
    /// Well, until `cancel` says otherwise.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new(cancel: Cancel) -> Result<Self, Broken> {
        let failed = Cancel::new().map_err(|error| failure("Cannot migrate", &error))?;
        Ok(Fate {
            cancel,
            failed,
            first: Arc::default(),
        })
    }

    /// What somebody else may cancel it by.
    pub const fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Readable when one channel has failed.
    pub const fn failure(&self) -> &Cancel {
        &self.failed
    }

    /// Ends everybody's waiting: one channel failed. The first reason counts.
    pub fn fail(&self, why: &Broken) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| why.clone());
        self.failed.cancel();
    }

    /// The reason that counts, where `own` is what one channel saw.
    pub fn reason(&self, own: Broken) -> Broken {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone().unwrap_or(own)
    }

    /// Whether it may go on.
    ///
    /// # Errors
    /// When it was cancelled or has failed elsewhere.
    pub fn check(&self) -> Result<(), Broken> {
        self.wait(None, 0, Some(0)).map(drop)
    }

    /// Waits for so many milliseconds.
    ///
    /// # Errors
    /// As [`Fate::check`].
    pub fn sleep(&self, milliseconds: i32) -> Result<(), Broken> {
        self.wait(None, 0, Some(milliseconds)).map(drop)
    }

    /// Waits until `fd` has one of `events` (or is closed), or so many milliseconds are over.
    fn wait(&self, fd: Option<RawFd>, events: i16, time: Option<i32>) -> Result<i16, Broken> {
        let mut fds = [
            sys::poll_entry(self.cancel.event().as_raw_fd(), libc::POLLIN),
            sys::poll_entry(self.failed.event().as_raw_fd(), libc::POLLIN),
            sys::poll_entry(fd.unwrap_or(-1), events),
        ];
        sys::poll(&mut fds, time).map_err(|error| failure("Cannot wait", &error))?;
        let [cancelled, failed, ready] = fds;
        if cancelled.revents != 0 {
            return Err(Broken::Cancelled);
        }
        if failed.revents != 0 {
            let other = Broken::Failed("Another channel failed".to_owned());
            return Err(self.reason(other));
        }
        Ok(ready.revents)
    }
}

/// Where bytes go.
pub trait Sink {
    /// Writes all of `head`, and then all of `data`.
    ///
    /// # Errors
    /// When the other side is gone, or it was cancelled.
    fn write(&mut self, head: &[u8], data: &[Span]) -> Result<(), Broken>;

    /// Which place `len` bytes of data should have. `None` when that does not matter.
    fn alignment(&self, _len: usize) -> Option<Alignment> {
        None
    }
}

/// Which places are better than others.
#[derive(Debug, Clone, Copy)]
pub struct Alignment {
    /// Where the stream begins in what it is in, bytes.
    pub begin: u64,
    /// Places in that are multiples of this.
    pub step: u64,
}

/// Where bytes come from.
pub trait Input {
    /// Fills `bytes`. False when there was nothing any more: the stream ended, right here or in
    /// the middle.
    ///
    /// # Errors
    /// When it cannot be read, or it was cancelled.
    fn read(&mut self, bytes: &mut [u8]) -> Result<bool, Broken>;

    /// Fills guest memory, as [`Input::read`] does.
    ///
    /// # Errors
    /// As [`Input::read`].
    fn read_pages(&mut self, data: &[Span]) -> Result<bool, Broken>;
}

/// A channel on which one thread works.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
    fate: Fate,
    /// Words of the other side are looked for while it takes no bytes.
    pub(super) listens: bool,
    /// What it said.
    pub(super) heard: Answers,
    /// It says no more.
    pub(super) deaf: bool,
    /// Of what the other side sends.
    ahead: Ahead,
    /// Pages are lent, not copied.
    splicer: Option<Splicer>,
    /// How it is written, where that goes past the page cache.
    direct: Option<Stream>,
}

impl Link {
    /// Over this channel.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub fn new(channel: Channel, fate: Fate) -> Result<Self, Broken> {
        match channel.kind {
            ChannelKind::Duplex | ChannelKind::OneWay => {
                sys::set_nonblocking(&channel.fd)
                    .map_err(|error| failure("Cannot use the channel", &error))?;
                widen(channel.fd.as_raw_fd());
            }
            ChannelKind::File { offset } => {
                let offset = libc::off_t::try_from(offset)
                    .map_err(|_| Broken::Failed(format!("Offset {offset} is too large")))?;
                // SAFETY: no pointers.
                let at = unsafe { libc::lseek(channel.fd.as_raw_fd(), offset, libc::SEEK_SET) };
                if at < 0 {
                    let error = io::Error::last_os_error();
                    return Err(failure("Cannot seek in the file", &error));
                }
            }
        }
        Ok(Link {
            channel,
            fate,
            listens: false,
            heard: Answers::default(),
            deaf: false,
            ahead: Ahead::default(),
            splicer: None,
            direct: None,
        })
    }

    /// What it is.
    pub const fn kind(&self) -> ChannelKind {
        self.channel.kind
    }

    /// Whether bytes go both ways.
    pub fn is_duplex(&self) -> bool {
        self.channel.kind == ChannelKind::Duplex
    }

    /// Whether more has come already than was asked for.
    pub fn has_more(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// How the migration stands.
    pub const fn fate(&self) -> &Fate {
        &self.fate
    }

    /// Its descriptor, for poll(2) while the link lives.
    pub fn raw_fd(&self) -> RawFd {
        self.channel.fd.as_raw_fd()
    }

    /// Files are written past the page cache from now on, where that is possible.
    pub fn leave_cache_alone(&mut self) {
        if let ChannelKind::File { offset } = self.channel.kind {
            self.direct = Stream::begin(&self.channel.fd, offset);
        }
    }

    /// Whether data is written from where it is in memory, where it has a place for that.
    pub fn is_gathered(&self) -> bool {
        self.alignment(usize::MAX).is_some()
    }

    /// Nothing written so far is kept back. What comes now goes through the cache.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn settle(&mut self) -> Result<(), Broken> {
        self.direct.take().map_or(Ok(()), Stream::finish)
    }

    /// Everything written so far is on the disk.
    ///
    /// # Errors
    /// Those of fsync(2).
    pub fn make_durable(&mut self) -> Result<(), Broken> {
        self.settle()?;
        if !matches!(self.channel.kind, ChannelKind::File { .. }) {
            return Ok(());
        }
        // SAFETY: no pointers.
        match unsafe { libc::fsync(self.channel.fd.as_raw_fd()) } {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                // What is no file after all.
                error if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
                error => Err(failure("Cannot write the file", &error)),
            },
        }
    }

    /// Ends both directions; whatever the other side waits for ends, too.
    pub fn shut_down(&self) {
        if !matches!(self.channel.kind, ChannelKind::File { .. }) {
            // SAFETY: no pointers. Pipes are no sockets: closing does it.
            unsafe { libc::shutdown(self.channel.fd.as_raw_fd(), libc::SHUT_RDWR) };
        }
    }

    /// Says that no more will come.
    pub fn finish(&self) {
        if self.is_duplex() {
            // SAFETY: no pointers.
            unsafe { libc::shutdown(self.channel.fd.as_raw_fd(), libc::SHUT_WR) };
        }
    }

    /// Lets what is still on its way come in, and forgets it, until the other side ends or so
    /// many milliseconds are over: closing a socket with bytes in it would take away what was
    /// said last.
    pub fn drain(&mut self, milliseconds: i32) {
        let end = std::time::Instant::now().checked_add(std::time::Duration::from_millis(
            u64::from(milliseconds.unsigned_abs()),
        ));
        let mut waste = vec![0; 64 << 10];
        while end.is_some_and(|end| std::time::Instant::now() < end) {
            let mut fds = [sys::poll_entry(self.channel.fd.as_raw_fd(), libc::POLLIN)];
            if sys::poll(&mut fds, Some(50)).is_err() {
                return;
            }
            if fds[0].revents != 0 && !matches!(self.read_some(&mut waste), Ok(Some(1..))) {
                return;
            }
        }
    }

    /// Writes something short whatever the migration's fate, as far as it goes within a second.
    pub fn farewell(&mut self, bytes: &[u8]) {
        let mut pieces = [libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        }];
        let mut left = advance(&mut pieces, 0);
        for _ in 0..20 {
            if left.is_empty() {
                return;
            }
            // SAFETY: the piece is `bytes`, borrowed for the call, and only read.
            match unsafe { self.move_pieces(left, libc::writev) } {
                Ok(Some(done)) => left = advance(left, done),
                Ok(None) => {
                    let fd = self.channel.fd.as_raw_fd();
                    let mut fds = [sys::poll_entry(fd, libc::POLLOUT)];
                    if sys::poll(&mut fds, Some(50)).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Takes in what the other side says, waiting for so many milliseconds until it says
    /// something.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn listen(&mut self, milliseconds: i32) -> Result<(), Broken> {
        if self.deaf {
            return Ok(());
        }
        let fd = self.channel.fd.as_raw_fd();
        if self.fate.wait(Some(fd), libc::POLLIN, Some(milliseconds))? != 0 {
            self.hear();
        }
        Ok(())
    }

    /// As [`Link::listen`], deaf for cancellation.
    pub fn listen_to_the_end(&mut self, milliseconds: i32) {
        let mut fds = [sys::poll_entry(self.channel.fd.as_raw_fd(), libc::POLLIN)];
        if !self.deaf && sys::poll(&mut fds, Some(milliseconds)).is_ok() && fds[0].revents != 0 {
            self.hear();
        }
    }

    fn hear(&mut self) {
        /// Far more than all words together.
        const MOST: usize = 16 << 10;
        let mut buffer = [0; 2048];
        while !self.deaf && self.heard.len() < MOST {
            match self.read_some(&mut buffer) {
                Ok(Some(0)) | Err(_) => self.deaf = true,
                Ok(None) => return,
                Ok(Some(got)) => self.heard.add(buffer.get(..got).unwrap_or_default()),
            }
        }
        // Whoever says that much has nothing to say.
        self.deaf |= self.heard.len() >= MOST;
    }

    /// `None` when there is nothing now.
    fn read_some(&mut self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        let piece = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: the piece is `bytes`, borrowed for the call.
        unsafe { self.move_pieces(&[piece], libc::readv) }
    }

    /// # Safety
    /// Each piece must be memory that `call` may use.
    unsafe fn move_pieces(
        &self,
        pieces: &[libc::iovec],
        call: unsafe extern "C" fn(libc::c_int, *const libc::iovec, libc::c_int) -> libc::ssize_t,
    ) -> io::Result<Option<usize>> {
        let count = pieces.len().min(MOST_PIECES);
        loop {
            // SAFETY: the caller answers for the pieces; there are at least `count`.
            let done = unsafe {
                call(
                    self.channel.fd.as_raw_fd(),
                    pieces.as_ptr(),
                    libc::c_int::try_from(count).unwrap_or(1),
                )
            };
            if let Ok(done) = usize::try_from(done) {
                return Ok(Some(done));
            }
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                error => return Err(error),
            }
        }
    }

    fn wait_to_write(&mut self) -> Result<(), Broken> {
        let listens = self.listens && !self.deaf;
        let events = match listens {
            true => libc::POLLOUT | libc::POLLIN,
            false => libc::POLLOUT,
        };
        let fd = self.channel.fd.as_raw_fd();
        let ready = self.fate.wait(Some(fd), events, None)?;
        if listens && ready & libc::POLLIN != 0 {
            self.hear();
            if let Some(reason) = self.heard.refusal() {
                return Err(reason);
            }
        }
        Ok(())
    }

    fn wait_to_read(&mut self) -> Result<(), Broken> {
        let fd = self.channel.fd.as_raw_fd();
        self.fate.wait(Some(fd), libc::POLLIN, None).map(drop)
    }

    /// False at the end of the stream. Where more has come than was asked for, some of it is read
    /// along: records are small, and a system call for each part of one is what takes its time.
    ///
    /// # Safety
    /// Each piece must be memory that may be written.
    unsafe fn fill(&mut self, mut pieces: Vec<libc::iovec>) -> Result<bool, Broken> {
        let lens = pieces.iter().map(|piece| piece.iov_len);
        let mut wanted = lens.fold(0, usize::saturating_add);
        let mut ahead = std::mem::take(&mut self.ahead);
        pieces.push(ahead.room());
        let mut left = advance(&mut pieces, 0);
        let filled = loop {
            // Not only where it has to wait: bytes may come faster than they are taken.
            self.fate.check()?;
            // SAFETY: the caller's promise; the last piece is `ahead`'s, which is here.
            match unsafe { self.move_pieces(left, libc::readv) } {
                Ok(Some(0)) => break false,
                Ok(Some(got)) if got >= wanted => {
                    ahead.has(got.saturating_sub(wanted));
                    break true;
                }
                Ok(Some(got)) => {
                    wanted = wanted.saturating_sub(got);
                    left = advance(left, got);
                }
                Ok(None) => self.wait_to_read()?,
                Err(error) => return Err(unread(&error)),
            }
        };
        self.ahead = ahead;
        Ok(filled)
    }
}

impl Sink for Link {
    fn write(&mut self, head: &[u8], data: &[Span]) -> Result<(), Broken> {
        if let Some(stream) = &mut self.direct {
            self.fate.check()?;
            return stream.write(head, data);
        }
        let head = libc::iovec {
            iov_base: head.as_ptr().cast_mut().cast(),
            iov_len: head.len(),
        };
        let bytes = data.iter().map(Span::len).fold(0, usize::saturating_add);
        let splicer = match Splicer::is_for(bytes) {
            true => self.splicer.take(),
            false => None,
        };
        let Some(splicer) = splicer else {
            let pieces = std::iter::once(head).chain(data.iter().map(piece));
            // SAFETY: `head` is borrowed, and spans are guest RAM; all of it is only read.
            return unsafe { self.write_all(&mut pieces.collect::<Vec<_>>()) };
        };
        // SAFETY: as above.
        unsafe {
            self.write_all(&mut [head])?;
            self.splice_all(splicer, data)
        }
    }

    fn alignment(&self, len: usize) -> Option<Alignment> {
        let stream = self.direct.as_ref()?;
        match self.channel.kind {
            ChannelKind::File { offset } if stream.would_lend(len) => Some(Alignment {
                begin: offset,
                step: direct::ALIGN as u64,
            }),
            _ => None,
        }
    }
}

impl Link {
    /// Whole pages may be lent to the socket from now on: the machine does not run again before
    /// the other side says that it has them.
    pub fn lend_pages(&mut self) {
        if self.is_duplex() {
            // A host without descriptors has to copy.
            self.splicer = Splicer::new().ok();
        }
    }

    /// # Safety
    /// Each piece must be memory that may be read.
    unsafe fn write_all(&mut self, pieces: &mut [libc::iovec]) -> Result<(), Broken> {
        let mut left = advance(pieces, 0);
        while !left.is_empty() {
            self.fate.check()?;
            // SAFETY: the caller's promise.
            match unsafe { self.move_pieces(left, libc::writev) } {
                Ok(Some(done)) => left = advance(left, done),
                Ok(None) => self.wait_to_write()?,
                Err(error) => return Err(self.lost(&error)),
            }
        }
        Ok(())
    }

    /// # Safety
    /// The spans must stay mapped.
    unsafe fn splice_all(&mut self, mut splicer: Splicer, data: &[Span]) -> Result<(), Broken> {
        let mut pieces: Vec<libc::iovec> = data.iter().map(piece).collect();
        let mut left = advance(&mut pieces, 0);
        splicer.begin();
        loop {
            self.fate.check()?;
            // SAFETY: the caller's promise.
            match unsafe { splicer.step(&mut left, self.channel.fd.as_raw_fd()) } {
                Ok(Step::Done) => {
                    self.splicer = Some(splicer);
                    return Ok(());
                }
                Ok(Step::Full) => self.wait_to_write()?,
                Ok(Step::Unable) => {
                    let pieces = data.iter().map(piece);
                    // SAFETY: as above.
                    return unsafe { self.write_all(&mut pieces.collect::<Vec<_>>()) };
                }
                Err(error) => return Err(self.lost(&error)),
            }
        }
    }

    /// The other side may have said why.
    fn lost(&mut self, error: &io::Error) -> Broken {
        if self.listens {
            self.hear();
        }
        let lost = failure("The link was lost", error);
        self.heard.refusal().unwrap_or(lost)
    }
}

impl Input for Link {
    fn read(&mut self, bytes: &mut [u8]) -> Result<bool, Broken> {
        let done = self.ahead.take(bytes);
        let rest = bytes.get_mut(done..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(true);
        }
        let piece = libc::iovec {
            iov_base: rest.as_mut_ptr().cast(),
            iov_len: rest.len(),
        };
        // SAFETY: the piece is a part of `bytes`, borrowed for the call.
        unsafe { self.fill(vec![piece]) }
    }

    fn read_pages(&mut self, data: &[Span]) -> Result<bool, Broken> {
        let done = self.ahead.take_pages(data);
        let mut pieces: Vec<libc::iovec> = data.iter().map(piece).collect();
        let rest = advance(&mut pieces, done).to_vec();
        if rest.is_empty() {
            return Ok(true);
        }
        // SAFETY: spans are guest RAM, writable and mapped for as long as the process lives.
        unsafe { self.fill(rest) }
    }
}

/// Guest RAM as the kernel wants it.
pub(super) fn piece(span: &Span) -> libc::iovec {
    libc::iovec {
        iov_base: span.address() as *mut libc::c_void,
        iov_len: span.len(),
    }
}

/// What is left of the pieces when so many bytes are done; empty ones go.
pub(super) fn advance(pieces: &mut [libc::iovec], done: usize) -> &mut [libc::iovec] {
    let mut done = done;
    let mut whole = 0;
    for piece in pieces.iter_mut() {
        if piece.iov_len <= done {
            done = done.saturating_sub(piece.iov_len);
            whole += 1;
            continue;
        }
        piece.iov_base = piece.iov_base.cast::<u8>().wrapping_add(done).cast();
        piece.iov_len = piece.iov_len.saturating_sub(done);
        break;
    }
    pieces.get_mut(whole..).unwrap_or_default()
}

/// Larger buffers mean fewer turns of both sides. A wish: pipes and other channels have none.
fn widen(fd: RawFd) {
    let size = SOCKET_BUFFER;
    for option in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
        // SAFETY: the option is an int, which lives across the call.
        unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                option,
                (&raw const size).cast(),
                std::mem::size_of::<i32>() as libc::socklen_t,
            );
        }
    }
}

/// Why nothing came in. Where the host cannot write what it has read, the link is well.
fn unread(error: &io::Error) -> Broken {
    let what = match error.raw_os_error() {
        Some(libc::EFAULT) => "Guest memory cannot be written: its file may have no room",
        _ => "The link was lost",
    };
    failure(what, error)
}

/// What failed, and what the host says about it.
pub(super) fn failure(what: &str, error: &io::Error) -> Broken {
    Broken::Failed(format!("{what}: {}", errno(error)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn memory_that_cannot_be_written_is_not_the_links_fault() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"page").unwrap();
        let channel = Channel {
            fd: reader.into(),
            kind: ChannelKind::OneWay,
        };
        let fate = Fate::new(Cancel::new().unwrap()).unwrap();
        let mut link = Link::new(channel, fate).unwrap();
        let nowhere = libc::iovec {
            iov_base: std::ptr::without_provenance_mut(8),
            iov_len: 4,
        };
        // SAFETY: nothing is mapped there: the kernel refuses it, as it does a page without room.
        let error = unsafe { link.fill(vec![nowhere]) }.unwrap_err();
        let words = "Guest memory cannot be written: its file may have no room: Bad address";
        assert_eq!(error, Broken::Failed(words.to_owned()));
        let lost = unread(&io::Error::from_raw_os_error(libc::ECONNRESET));
        let words = "The link was lost: Connection reset by peer";
        assert_eq!(lost, Broken::Failed(words.to_owned()));
    }
}
