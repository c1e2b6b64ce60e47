//! The child's life: start, then one loop that waits for monitor, guest and network.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use usernet::wire::{self, Answer, Ask, Config, Failure, GuestForward, Reader, Started, Target};

use crate::frames::Frames;
use crate::launcher::Launcher;
use crate::sandbox;
use crate::stack::{Library, Stack};

/// How many frames are taken from the guest before the network is served again.
const FRAMES_AT_ONCE: usize = 256;

/// Serves until the monitor goes away.
///
/// # Errors
/// When the monitor's side fails or talks nonsense.
pub fn run(control: UnixStream, frames: OwnedFd) -> io::Result<()> {
    let mut reader = Reader::new();
    let Some(config) = reader.next::<Config>(&control)? else {
        return Ok(());
    };
    let streams = reader.take_fds();
    match start(&config, streams, frames) {
        Ok((stack, launcher)) => {
            wire::send(&control, &Started::Ready, &[])?;
            let served = Server {
                control,
                reader,
                stack,
            }
            .serve();
            drop(launcher);
            served
        }
        Err(failure) => wire::send(&control, &Started::Failed(failure), &[]),
    }
}

fn start(
    config: &Config,
    streams: Vec<OwnedFd>,
    frames: OwnedFd,
) -> Result<(Stack, Option<Launcher>), Failure> {
    let library = Library::load().map_err(Failure::Other)?;
    let launcher = launcher(config)?;
    let mut stack = Stack::new(library, config, Frames::new(frames)).map_err(Failure::Other)?;
    lead_out(&mut stack, config, streams, launcher.as_ref())?;
    for (index, forward) in config.host_forwards.iter().enumerate() {
        stack
            .add_host_forward(forward)
            .map_err(|_| Failure::HostForward(index))?;
    }
    sandbox::enter(config.tftp.as_deref()).map_err(Failure::Other)?;
    Ok((stack, launcher))
}

fn launcher(config: &Config) -> Result<Option<Launcher>, Failure> {
    let commands: Vec<String> = config
        .guest_forwards
        .iter()
        .filter_map(|forward| match &forward.to {
            Target::Command(command) => Some(command.clone()),
            Target::Stream => None,
        })
        .collect();
    if commands.is_empty() {
        return Ok(None);
    }
    let started = Launcher::start(commands);
    let words = |error: io::Error| format!("Cannot prepare programs for guest forwards: {error}");
    started
        .map(Some)
        .map_err(|error| Failure::Other(words(error)))
}

fn lead_out(
    stack: &mut Stack,
    config: &Config,
    streams: Vec<OwnedFd>,
    launcher: Option<&Launcher>,
) -> Result<(), Failure> {
    let mut streams = streams.into_iter();
    let mut paths = launcher.map_or(&[][..], Launcher::paths).iter();
    for (index, forward) in config.guest_forwards.iter().enumerate() {
        let GuestForward {
            server,
            port,
            ref to,
        } = *forward;
        let missing = || Failure::Other("A guest forward came without its stream".to_owned());
        let had = match to {
            Target::Command(_) => {
                let path = paths.next().ok_or_else(missing)?;
                stack.add_socket_forward(server, port, path)
            }
            Target::Stream => {
                let socket = UnixStream::from(streams.next().ok_or_else(missing)?);
                let blocking = socket.set_nonblocking(false);
                blocking.map_err(|error| Failure::Other(error.to_string()))?;
                stack.add_stream_forward(server, port, socket.into())
            }
        };
        if !had {
            return Err(Failure::GuestForward(index));
        }
    }
    Ok(())
}

struct Server {
    control: UnixStream,
    reader: Reader,
    stack: Stack,
}

impl Server {
    fn serve(mut self) -> io::Result<()> {
        let mut fds = Vec::new();
        loop {
            let ready = self.wait(&mut fds)?;
            let fixed = fds.split_off(self.first_fixed(&fds));
            self.stack.run(&mut fds, !ready);
            fds.clear();
            let is_ready =
                |index: usize| ready && fixed.get(index).is_some_and(|fd| fd.revents != 0);
            if is_ready(1) {
                self.stack.frames().flush();
                if !self.take_frames()? {
                    return Ok(());
                }
                // What waited for the guest to say where it is can go now.
                self.stack.run(&mut Vec::new(), false);
            }
            for index in 2..fixed.len() {
                if is_ready(index) {
                    self.stack.feed_stream(index.saturating_sub(2));
                }
            }
            if is_ready(0) && !self.answer()? {
                return Ok(());
            }
        }
    }

    /// Where control, frames and streams begin in the list, behind the network's own.
    fn first_fixed(&self, fds: &[libc::pollfd]) -> usize {
        let fixed = self.stack.streams().count().saturating_add(2);
        fds.len().saturating_sub(fixed)
    }

    /// Waits for whatever comes first. False when that failed.
    fn wait(&mut self, fds: &mut Vec<libc::pollfd>) -> io::Result<bool> {
        let network = self.stack.prepare(fds);
        let guest = self.stack.watch_guest();
        let poll = |fd, events| libc::pollfd {
            fd,
            events,
            revents: 0,
        };
        fds.push(poll(self.control.as_raw_fd(), libc::POLLIN));
        fds.push(self.frames_poll());
        for (fd, room) in self.stack.streams() {
            // Not even the end is waited for while there is no room.
            fds.push(poll(if room { fd } else { -1 }, libc::POLLIN));
        }
        let timeout = network.into_iter().chain(guest).min();
        let timeout = timeout.map_or(-1, |ms| i32::try_from(ms).unwrap_or(i32::MAX));
        match crate::poll(fds, timeout) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn frames_poll(&self) -> libc::pollfd {
        let frames = self.stack.frames();
        let events = match frames.backlog() {
            true => libc::POLLIN | libc::POLLOUT,
            false => libc::POLLIN,
        };
        libc::pollfd {
            fd: frames.fd(),
            events,
            revents: 0,
        }
    }

    /// False when the guest's side is gone.
    fn take_frames(&mut self) -> io::Result<bool> {
        for _ in 0..FRAMES_AT_ONCE {
            match self.stack.take_frame() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Answers what came on the control socket. False at its end.
    fn answer(&mut self) -> io::Result<bool> {
        let Some(ask) = self.reader.next::<Ask>(&self.control)? else {
            return Ok(false);
        };
        let mut next = Some(ask);
        while let Some(ask) = next {
            let answer = self.carry_out(&ask);
            wire::send(&self.control, &answer, &[])?;
            next = self.reader.buffered()?;
        }
        Ok(true)
    }

    fn carry_out(&mut self, ask: &Ask) -> Answer {
        match ask {
            Ask::AddHostForward(forward) => match self.stack.add_host_forward(forward) {
                Ok(()) => Ok(String::new()),
                Err(error) => Err(error.to_string()),
            },
            Ask::RemoveHostForward {
                protocol,
                host,
                host_port,
            } => match self.stack.remove_host_forward(*protocol, *host, *host_port) {
                true => Ok(String::new()),
                false => Err("There is no such forward".to_owned()),
            },
            Ask::Info => Ok(self.stack.info()),
        }
    }
}
