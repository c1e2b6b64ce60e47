//! The process that starts programs for us.
//!
//! A filter of system calls is inherited by programs, and so are the limits on files. A process
//! that has them starts nothing that is of use: not the scripts of a tap, not the program of
//! `exec:`. So a small process of ours is forked before anything is made or locked up
//! ([`start`]), and starts programs when the VMM asks ([`Launcher::start_program`]). With
//! `-sandbox spawn=deny` it is not there.
//!
//! ```text
//! Request --> packet with descriptors --> launcher --> program
//! Program <-- a line: it runs, it has ended <--'
//! ```
//! Each program has a line of its own, a socket that came with the request. Any thread can start
//! one, and nobody waits for another's.

mod birth;
mod exec;
mod packet;
mod protocol;
mod serve;

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;

pub use birth::start;
use packet::Wait;
use protocol::{ANSWER_MAX, Answer, KILL, ORDER_MAX, Order, Start};
pub use protocol::{Group, Lifetime};
pub use serve::PROGRAMS_MAX;

use crate::sys;

/// Starting a program takes a millisecond, and as long as its file system makes of it.
const PATIENCE_MS: i32 = 10_000;

/// Why nothing is started.
const DENIED: &str = "Programs may not be started (-sandbox spawn=deny)";

/// The way to the process; any thread.
#[derive(Debug, Clone)]
pub struct Launcher(Arc<Way>);

#[derive(Debug)]
enum Way {
    /// There is none.
    Denied,
    /// Its socket, and the process where it is a child of ours.
    Process(OwnedFd, Option<i32>),
}

impl Drop for Way {
    /// Nobody needs it any more: it ends, which takes a moment, and nothing is left of it.
    fn drop(&mut self) {
        if let Way::Process(socket, Some(child)) = self {
            sys::shut_down_socket(socket);
            exec::wait_for(*child);
        }
    }
}

impl Launcher {
    /// One that starts nothing: `spawn=deny`.
    pub fn denied() -> Self {
        Launcher(Arc::new(Way::Denied))
    }

    fn process(socket: OwnedFd, child: Option<i32>) -> Self {
        Launcher(Arc::new(Way::Process(socket, child)))
    }

    fn socket(&self) -> io::Result<&OwnedFd> {
        match &*self.0 {
            Way::Denied => Err(io::Error::new(io::ErrorKind::PermissionDenied, DENIED)),
            Way::Process(socket, _) => Ok(socket),
        }
    }

    /// Whether programs may be started at all.
    ///
    /// # Errors
    /// What every start says where they may not.
    pub fn check(&self) -> io::Result<()> {
        self.socket().map(drop)
    }

    /// Starts a program. Takes about a millisecond; ten seconds at most, where the host hangs.
    ///
    /// # Errors
    /// The system's when there is no such program; `PermissionDenied` with words that name the
    /// option where none may be started.
    pub fn start_program(&self, request: Request) -> io::Result<Program> {
        let socket = self.socket()?;
        let (order, fds) = request.into_order()?;
        let (near, id) = ask(socket, &order, &fds)?;
        Ok(Program {
            _launcher: self.clone(),
            line: near,
            id: u32::try_from(id).unwrap_or_default(),
            ended: None,
        })
    }

    /// The launcher leaves the directory it was started in, as a daemon does. Nothing where there
    /// is none.
    ///
    /// # Errors
    /// When it cannot.
    pub fn leave_directory(&self) -> io::Result<()> {
        self.tell(&Order::LeaveDirectory)
    }

    /// The machine is built: the launcher becomes the user that the VMM is, and goes below its
    /// root directory. Nothing where there is none.
    ///
    /// # Errors
    /// When it cannot.
    pub fn drop_privileges(&self) -> io::Result<()> {
        self.tell(&Order::DropPrivileges)
    }

    fn tell(&self, order: &Order) -> io::Result<()> {
        match &*self.0 {
            Way::Denied => Ok(()),
            Way::Process(socket, _) => ask(socket, order, &[]).map(drop),
        }
    }
}

/// Sends an order, and waits for the first answer. Gives the line, and the number it says.
fn ask(socket: &OwnedFd, order: &Order, fds: &[OwnedFd]) -> io::Result<(OwnedFd, i32)> {
    let bytes = order.encode();
    if bytes.len() > ORDER_MAX {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    let (near, far) = packet::pair()?;
    let along: Vec<BorrowedFd> = [far.as_fd()]
        .into_iter()
        .chain(fds.iter().map(AsFd::as_fd))
        .collect();
    hand_over(socket, &bytes, &along, PATIENCE_MS)?;
    drop(along);
    // With it the launcher's end would not be seen.
    drop(far);
    let mut ready = [sys::poll_entry(near.as_raw_fd(), libc::POLLIN)];
    sys::poll(&mut ready, Some(PATIENCE_MS))?;
    match answer(&near, Wait::No) {
        Ok(Answer::Done(value)) => Ok((near, value)),
        Ok(Answer::Failed(error)) => Err(io::Error::from_raw_os_error(error)),
        Ok(Answer::Refused(words)) => Err(io::Error::other(words)),
        Ok(Answer::Ended(_)) => Err(gone()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::from_raw_os_error(libc::ETIMEDOUT))
        }
        Err(error) => Err(error),
    }
}

/// A launcher that takes no orders is not waited for longer than one that gives no answer.
fn hand_over(
    socket: &OwnedFd,
    bytes: &[u8],
    along: &[BorrowedFd<'_>],
    patience_ms: i32,
) -> io::Result<()> {
    loop {
        match packet::send(socket, bytes, along, Wait::No) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other.map_err(or_gone),
        }
        let mut room = [sys::poll_entry(socket.as_raw_fd(), libc::POLLOUT)];
        sys::poll(&mut room, Some(patience_ms))?;
        if room.iter().all(|entry| entry.revents == 0) {
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
    }
}

fn answer(line: &OwnedFd, wait: Wait) -> io::Result<Answer> {
    let came = packet::receive(line, ANSWER_MAX, wait).map_err(or_gone)?;
    Answer::decode(&came.bytes).ok_or_else(gone)
}

/// What a socket says whose other end is gone.
fn or_gone(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPIPE | libc::ECONNRESET) => gone(),
        _ => error,
    }
}

fn gone() -> io::Error {
    let text = "The process that starts programs has ended";
    io::Error::new(io::ErrorKind::BrokenPipe, text)
}

/// A program to start. Unless something else is said its standard input is empty, and what it
/// says goes to our standard error: our standard output may carry a monitor.
#[derive(Debug)]
pub struct Request {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<OsString>,
    fds: Vec<(u16, OwnedFd)>,
    lifetime: Lifetime,
    group: Group,
}

impl Request {
    /// For a path, or a name to be searched for in PATH.
    pub fn new(program: impl Into<OsString>) -> Self {
        Request {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            fds: Vec::new(),
            lifetime: Lifetime::Line,
            group: Group::Ours,
        }
    }

    /// With these arguments as well.
    pub fn args<T: Into<OsString>>(mut self, words: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(words.into_iter().map(T::into));
        self
    }

    /// With this environment variable in the place of ours.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}").into());
        self
    }

    /// It has `fd` under this number.
    pub fn fd(mut self, number: u16, fd: impl Into<OwnedFd>) -> Self {
        self.fds.push((number, fd.into()));
        self
    }

    /// When it ends if not by itself; with its [`Program`] unless something else is said.
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Whom killing it reaches; it alone unless something else is said.
    pub fn group(mut self, group: Group) -> Self {
        self.group = group;
        self
    }

    fn into_order(mut self) -> io::Result<(Order, Vec<OwnedFd>)> {
        for number in [1, 2] {
            let has = self.fds.iter().any(|(target, _)| *target == number);
            // Where it is closed, the program has nothing there either.
            if !has && let Ok(fd) = io::stderr().as_fd().try_clone_to_owned() {
                self.fds.push((number, fd));
            }
        }
        let (targets, fds) = self.fds.into_iter().unzip();
        let start = Start {
            program: word(self.program)?,
            arguments: words(self.arguments)?,
            environment: words(self.environment)?,
            targets,
            lifetime: self.lifetime,
            group: self.group,
        };
        Ok((Order::Start(start), fds))
    }
}

fn words(words: Vec<OsString>) -> io::Result<Vec<CString>> {
    words.into_iter().map(word).collect()
}

fn word(word: OsString) -> io::Result<CString> {
    CString::new(word.into_vec()).map_err(|_| {
        let text = "nul byte found in provided data";
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

/// A program that was started. What lives as long as its line is killed when this is dropped;
/// nobody waits for that.
#[derive(Debug)]
pub struct Program {
    /// It ends when nobody has it any more.
    _launcher: Launcher,
    line: OwnedFd,
    id: u32,
    ended: Option<ExitStatus>,
}

impl Program {
    /// Its number. It may have ended, and the number may be another's.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When that is not to be known any more: the launcher has ended.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match self.end(Wait::No) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            other => other.map(Some),
        }
    }

    /// How it ends. Blocks until then.
    ///
    /// # Errors
    /// When that is not to be known any more: the launcher has ended.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.end(Wait::Yes)
    }

    fn end(&mut self, wait: Wait) -> io::Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let Answer::Ended(status) = answer(&self.line, wait)? else {
            return Err(gone());
        };
        let status = ExitStatus::from_raw(status);
        self.ended = Some(status);
        Ok(status)
    }

    /// Kills it, and its group where it leads one.
    ///
    /// # Errors
    /// When the launcher has ended.
    pub fn kill(&self) -> io::Result<()> {
        match self.ended {
            Some(_) => Ok(()),
            None => packet::send(&self.line, KILL, &[], Wait::No).map_err(or_gone),
        }
    }
}

#[cfg(test)]
#[path = "launcher_test.rs"]
mod tests;

#[cfg(test)]
pub(crate) use tests::on_a_thread;
