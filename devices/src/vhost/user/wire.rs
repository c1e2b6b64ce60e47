//! Messages of the protocol, with a time by which the peer must have taken or answered them.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::link::Hurry;

/// What the front end asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    GetFeatures = 1,
    SetFeatures = 2,
    SetOwner = 3,
    SetMemTable = 5,
    SetLogBase = 6,
    SetVringNum = 8,
    SetVringAddr = 9,
    SetVringBase = 10,
    GetVringBase = 11,
    SetVringKick = 12,
    SetVringCall = 13,
    SetVringErr = 14,
    GetProtocolFeatures = 15,
    SetProtocolFeatures = 16,
    GetQueueNum = 17,
    SetVringEnable = 18,
    SendRarp = 19,
    NetSetMtu = 20,
    SetStatus = 39,
}

const VERSION: u32 = 1;
const REPLY: u32 = 4;
const NEED_REPLY: u32 = 8;
/// Bytes before a message: request, flags, size of what follows.
const HEADER: usize = 12;
/// Most bytes of an answer that says nothing.
const MOST_SAID: usize = 64;

/// Whether a message is to be answered when it was carried out (REPLY_ACK).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ack {
    Wanted,
    No,
}

/// A connection. Its peer is trusted with nothing.
pub(super) struct Wire {
    socket: UnixStream,
}

impl Wire {
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Wire { socket })
    }

    pub fn send(
        &self,
        request: Request,
        ack: Ack,
        payload: &[u8],
        fds: &[RawFd],
        hurry: &Hurry,
    ) -> io::Result<()> {
        let flags = match ack {
            Ack::Wanted => VERSION | NEED_REPLY,
            Ack::No => VERSION,
        };
        let size = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(HEADER + payload.len());
        for word in [request as u32, flags, size] {
            message.extend_from_slice(&word.to_ne_bytes());
        }
        message.extend_from_slice(payload);
        let limit = Instant::now() + super::SET_UP_TIME;
        let (mut rest, mut fds) = (&message[..], fds);
        while !rest.is_empty() {
            match self.socket.send_with_fds(&[rest], fds) {
                Ok(sent) => {
                    rest = rest.get(sent..).unwrap_or(&[]);
                    fds = &[];
                }
                Err(error) => match error.errno() {
                    libc::EINTR => {}
                    libc::EAGAIN => self.wait(libc::POLLOUT, limit, hurry)?,
                    errno => return Err(io::Error::from_raw_os_error(errno)),
                },
            }
        }
        Ok(())
    }

    /// The answer to `request`, which has exactly `N` bytes.
    pub fn answer<const N: usize>(&self, request: Request, hurry: &Hurry) -> io::Result<[u8; N]> {
        let limit = Instant::now() + super::SET_UP_TIME;
        if self.answer_header(request, limit, hurry)? != N {
            return Err(broken(&format!("a wrong answer to {request:?}")));
        }
        let mut payload = [0; N];
        self.read(&mut payload, limit, hurry)?;
        Ok(payload)
    }

    /// The answer to `request`, whose content says nothing: back ends differ in what it is.
    pub fn acknowledged(&self, request: Request, hurry: &Hurry) -> io::Result<()> {
        let limit = Instant::now() + super::SET_UP_TIME;
        let len = self.answer_header(request, limit, hurry)?;
        let mut room = [0; MOST_SAID];
        let payload = room.get_mut(..len);
        let payload = payload.ok_or_else(|| broken(&format!("a long answer to {request:?}")))?;
        self.read(payload, limit, hurry)
    }

    /// The bytes that follow.
    fn answer_header(&self, request: Request, limit: Instant, hurry: &Hurry) -> io::Result<usize> {
        let mut header = [0; HEADER];
        self.read(&mut header, limit, hurry)?;
        let word = |at: usize| {
            let bytes = header
                .get(at..at + 4)
                .and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_ne_bytes)
        };
        let fits = word(0) == request as u32 && word(4) & (VERSION | REPLY) == VERSION | REPLY;
        if !fits {
            return Err(broken(&format!("a wrong answer to {request:?}")));
        }
        usize::try_from(word(8)).map_err(io::Error::other)
    }

    /// Descriptors that come along are dropped by the kernel, because there is no room for them.
    fn read(&self, into: &mut [u8], limit: Instant, hurry: &Hurry) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match (&self.socket).read(rest) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => done = done.saturating_add(got),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => self.wait(libc::POLLIN, limit, hurry)?,
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    fn wait(&self, events: i16, limit: Instant, hurry: &Hurry) -> io::Result<()> {
        loop {
            let (limit, hurried) = match hurry.limit() {
                Some(sooner) => (limit.min(sooner), true),
                None => (limit, false),
            };
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // Who is in a hurry already cannot be more so.
            let urgent = if hurried { -1 } else { hurry.fd() };
            let ready = poll(
                &mut [(self.socket.as_raw_fd(), events), (urgent, libc::POLLIN)],
                Some(left),
            )?;
            if ready & 1 != 0 {
                return Ok(());
            }
        }
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// What a peer did that it must not do.
pub(super) fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Waits until one of these is ready or the time is over: a bit for each that is. Negative
/// descriptors are left out.
#[allow(unsafe_code)] // poll(2)
pub(super) fn poll(fds: &mut [(RawFd, i16)], time: Option<Duration>) -> io::Result<u32> {
    let mut polled: Vec<libc::pollfd> = fds
        .iter()
        .map(|(fd, events)| libc::pollfd {
            fd: *fd,
            events: *events,
            revents: 0,
        })
        .collect();
    let milliseconds = time.map_or(-1, |time| {
        // Rounded up, or the last millisecond would be spent turning.
        i32::try_from(time.as_millis().saturating_add(1)).unwrap_or(i32::MAX)
    });
    // SAFETY: the list has as many entries as is said, and lives until the call ends.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as _, milliseconds) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::Interrupted => Ok(0),
            _ => Err(error),
        };
    }
    let ready = (0u32..).zip(&polled).filter(|(_, fd)| fd.revents != 0);
    Ok(ready.fold(0, |all, (bit, _)| all | 1 << bit))
}
