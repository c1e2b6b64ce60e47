//! The child and the thread that looks after it.
//!
//! ```text
//! open --> Child::start --> thread: spawn, configure, report --> answers, streams --> its end
//! worker -- ask --> control socket --> child --> the thread --> the worker, or its patience ends
//! drop --> the socket is shut --> the thread has the child killed, waits for it, and ends
//! ```
//!
//! The child is the launcher's, which ends it when its [`Program`] is dropped, or we are gone.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use devices::bus::lock;
use usernet::wire::{self, Answer, Ask, Config, Reader, Started};

use super::pump::{Pump, Pumps};
use crate::armour::launcher::{Launcher, Request};
use crate::control::nets::ControlLine;
use crate::sys;
use crate::threads::ThreadKind;

/// Loading the library and opening some ports takes milliseconds.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// A child that serves answers within a round of its loop.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

/// What a child is started with.
pub struct Birth {
    /// Who starts it.
    pub launcher: Launcher,
    /// The program.
    pub program: PathBuf,
    /// What it is to do.
    pub config: Config,
    /// Its end of the frames' socket.
    pub frames: OwnedFd,
    /// Its ends of the streams.
    pub streams: Vec<OwnedFd>,
    /// Our ends of them.
    pub pumps: Vec<Pump>,
}

/// Called when the child has ended without being told to.
pub type OnEnd = Box<dyn FnOnce(&str) + Send>;

/// A child that serves. Dropping it ends it and waits for that.
pub struct Child {
    line: Arc<Line>,
    thread: Option<JoinHandle<Option<()>>>,
}

/// The way to the child; any thread.
pub struct Line {
    socket: UnixStream,
    /// Who waits for answers, the oldest first. Held while an ask is sent, so that their order
    /// is one. A leaf.
    waiting: Mutex<VecDeque<SyncSender<Answer>>>,
    ending: AtomicBool,
}

impl Line {
    /// Asks something, and waits for the answer as long as the child may take. For workers.
    ///
    /// # Errors
    /// What the child says, or that it is gone or does not answer.
    pub fn ask(&self, ask: &Ask) -> Answer {
        let answers = self.send(ask).map_err(|_| gone())?;
        match answers.recv_timeout(ASK_PATIENCE) {
            Ok(answer) => answer,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                Err("The network does not answer".to_owned())
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }

    fn send(&self, ask: &Ask) -> io::Result<Receiver<Answer>> {
        let (sender, receiver) = sync_channel(1);
        let mut waiting = lock(&self.waiting);
        if self.ending.load(Ordering::Acquire) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // Does not block: the socket takes hundreds of these before the child reads one, and
        // refuses when it is full.
        wire::send(&self.socket, ask, &[])?;
        waiting.push_back(sender);
        Ok(receiver)
    }

    /// Nobody is answered any more.
    fn end(&self) {
        self.ending.store(true, Ordering::Release);
        lock(&self.waiting).clear();
    }
}

fn gone() -> String {
    "The network has ended".to_owned()
}

impl Child {
    /// Starts it; waits until it serves or says why it cannot.
    ///
    /// # Errors
    /// In words, when there is no process or it does not answer.
    pub fn start(
        id: &str,
        birth: Birth,
        control: &ControlLine,
        on_end: OnEnd,
    ) -> Result<(Self, Started), String> {
        let words = |error: io::Error| format!("Cannot start the network '{id}': {error}");
        let (near, far) = UnixStream::pair().map_err(words)?;
        let line = Arc::new(Line {
            socket: near,
            waiting: Mutex::default(),
            ending: AtomicBool::new(false),
        });
        let (report, reported) = channel();
        let keeper = line.clone();
        let body = move || live(&keeper, far, birth, &report, on_end);
        let thread = control.spawn(ThreadKind::Worker, &format!("usernet {id}"), body);
        let thread = Some(thread.map_err(words)?);
        let child = Child { line, thread };
        // The thread has limits of its own.
        match reported.recv() {
            Ok(Ok(started)) => Ok((child, started)),
            Ok(Err(error)) => Err(words(error)),
            Err(_) => Err(words(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// The way to it.
    pub fn line(&self) -> &Arc<Line> {
        &self.line
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.line.ending.store(true, Ordering::Release);
        // Fails when it is gone already.
        let _ = self.line.socket.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Report = Sender<io::Result<Started>>;

/// The thread's body.
fn live(line: &Line, far: UnixStream, birth: Birth, report: &Report, on_end: OnEnd) {
    let Birth {
        launcher,
        program,
        config,
        frames,
        streams,
        pumps,
    } = birth;
    let request = Request::new(program).fd(0, far).fd(1, frames);
    let mut process = match launcher.start_program(request) {
        Ok(process) => process,
        Err(error) => return drop(report.send(Err(error))),
    };
    let mut reader = Reader::new();
    let started = configure(line, &mut reader, &config, &streams);
    drop(streams);
    let serves = matches!(started, Ok(Started::Ready));
    let _ = report.send(started);
    if serves {
        let served = serve(line, &mut reader, pumps);
        if let Err(error) = served {
            log::debug!("The control socket of a network failed: {error}");
        }
    }
    let told = line.ending.load(Ordering::Acquire);
    line.end();
    // It may hang, or be on its way out.
    let status = match (told, process.try_wait()) {
        (false, Ok(Some(status))) => Ok(status),
        _ => process.kill().and_then(|()| process.wait()),
    };
    if serves && !told {
        on_end(&match status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        });
    }
}

/// Says what is to be done, and takes the answer.
fn configure(
    line: &Line,
    reader: &mut Reader,
    config: &Config,
    streams: &[OwnedFd],
) -> io::Result<Started> {
    let socket = &line.socket;
    socket.set_read_timeout(Some(START_PATIENCE))?;
    socket.set_write_timeout(Some(START_PATIENCE))?;
    let fds: Vec<_> = streams.iter().map(AsFd::as_fd).collect();
    wire::send(socket, config, &fds)?;
    let started = reader.next(socket)?;
    let started = started.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
    socket.set_nonblocking(true)?;
    Ok(started)
}

/// Passes answers on and moves what is in the streams, until the socket ends.
fn serve(line: &Line, reader: &mut Reader, pumps: Vec<Pump>) -> io::Result<()> {
    let mut pumps = Pumps::new(pumps)?;
    let mut fds = Vec::new();
    loop {
        fds.clear();
        fds.push(sys::poll_entry(line.socket.as_raw_fd(), libc::POLLIN));
        pumps.prepare(&mut fds);
        sys::poll(&mut fds, None)?;
        pumps.run();
        loop {
            match reader.next::<Answer>(&line.socket) {
                Ok(Some(answer)) => {
                    if let Some(waiting) = lock(&line.waiting).pop_front() {
                        // Fails when its patience was at an end.
                        let _ = waiting.try_send(answer);
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
}
