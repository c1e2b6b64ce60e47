//! The host side of one character device, as the thread runs it.
//!
//! ```text
//!            client / slave opened           peer left
//!   closed ------------------------> open ------------> closed, and a server, a client that
//!   (output is dropped)                                 reconnects or a terminal waits again
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use tls::{Gate, Limits, Lobby, Session};

use super::shared::{Core, Door, DoorKeeper, OUT_RING};
use super::stream::{Input, Moved, Stream};
use super::terminal::SavedTerminal;
use super::{Source, sys};
use crate::backend::socket::{Attempt, Dialer, Listener, Place};

/// How often to look whether somebody opened a terminal, which the kernel does not tell.
const TERMINAL_LOOK: Duration = Duration::from_secs(1);
/// Reads or writes for one device before others have their turn.
const MOST_STEPS: usize = 16;
/// Bytes of one read or write at most.
pub(super) const CHUNK: usize = 16 << 10;
/// Clients let into the lobby before others have their turn.
const MOST_STRANGERS: usize = 16;

/// Which descriptor of a device an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Input,
    Output,
    Listener,
    Connecting,
    Lobby,
}

/// Tokens of a device: its key and the descriptor. Key 0 is not used.
const PARTS: [Part; 5] = [
    Part::Input,
    Part::Output,
    Part::Listener,
    Part::Connecting,
    Part::Lobby,
];

pub(super) fn token(key: usize, part: Part) -> Token {
    let index = PARTS.iter().position(|other| *other == part).unwrap_or(0);
    Token(key.wrapping_mul(PARTS.len()).wrapping_add(index))
}

pub(super) fn from_token(token: Token) -> (usize, Part) {
    let part = PARTS.get(token.0 % PARTS.len()).copied();
    (token.0 / PARTS.len(), part.unwrap_or(Part::Input))
}

/// What to do when there is no stream.
enum Link {
    /// Nothing: there never is one.
    Sink,
    /// Nothing: there is one from the beginning.
    Fixed {
        _terminal: Option<SavedTerminal>,
    },
    /// The stream is there; whether somebody is at the other end has to be asked.
    Terminal,
    Server(Listener),
    Client {
        dialer: Dialer,
        connecting: Option<OwnedFd>,
    },
}

/// What came of a turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// Output moved: more may follow soon.
    pub moved: bool,
    /// There is more to do right now.
    pub again: bool,
}

pub(super) struct HostPort {
    /// Goes first, before the descriptors do.
    _keeper: DoorKeeper,
    key: usize,
    pub core: Arc<Core>,
    link: Link,
    /// Where TLS is spoken, and where peers are until it is.
    lobby: Option<(Arc<Gate>, Lobby)>,
    stream: Option<Stream>,
    log: Option<File>,
    /// When to look without being called.
    deadline: Option<Instant>,
    complained: bool,
    /// A peer came, and the device was not woken since.
    came: bool,
}

impl HostPort {
    pub fn new(
        key: usize,
        core: Arc<Core>,
        keeper: DoorKeeper,
        source: Source,
        log: Option<File>,
        registry: &Registry,
    ) -> Self {
        let tokens = [token(key, Part::Input), token(key, Part::Output)];
        let (lobby, source) = match lobby(&source, token(key, Part::Lobby), registry) {
            Ok(lobby) => (lobby, source),
            Err(error) => {
                // Better nobody than anybody.
                log::error!("A socket cannot speak TLS: {error}");
                (None, Source::Null)
            }
        };
        let (link, stream) = match source {
            Source::Null | Source::Ringbuf { .. } => (Link::Sink, None),
            Source::File { output, input } => {
                let input = input.map_or(Input::None, |file| Input::Own(file.into()));
                let stream = Stream::new(output.into(), input, registry, tokens);
                (Link::Fixed { _terminal: None }, Some(stream))
            }
            Source::Stdio(stdio) => {
                let input = Input::Own(stdio.input);
                let stream = Stream::new(stdio.output, input, registry, tokens);
                let link = Link::Fixed {
                    _terminal: stdio.terminal,
                };
                (link, Some(stream))
            }
            Source::Pty(pty) => {
                let stream = Stream::new(pty.master, Input::Same, registry, tokens);
                (Link::Terminal, Some(stream))
            }
            Source::Server(listener) => {
                let fd = listener.as_raw_fd();
                let token = token(key, Part::Listener);
                if let Err(error) = registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
                {
                    log::error!("A socket cannot be listened on: {error}");
                }
                (Link::Server(listener), None)
            }
            Source::Client(dialer) => {
                let connecting = None;
                (Link::Client { dialer, connecting }, None)
            }
        };
        let mut port = HostPort {
            _keeper: keeper,
            key,
            core,
            link,
            lobby,
            stream,
            log,
            deadline: None,
            complained: false,
            came: false,
        };
        port.seek_peer(registry);
        port
    }

    /// Takes a socket back, with the connection that it has now.
    pub fn into_socket(self, registry: &Registry) -> Option<(Source, Option<OwnedFd>)> {
        let HostPort {
            _keeper,
            link,
            lobby: _,
            stream,
            ..
        } = self;
        drop(_keeper);
        let connection = stream.map(|mut stream| {
            stream.unwatch(registry);
            stream.into_output()
        });
        match link {
            Link::Server(listener) => {
                let _ = registry.deregister(&mut SourceFd(&listener.as_raw_fd()));
                Some((Source::Server(listener), connection))
            }
            Link::Client { dialer, connecting } => {
                if let Some(fd) = connecting {
                    let _ = registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
                }
                Some((Source::Client(dialer), connection))
            }
            Link::Sink | Link::Fixed { .. } | Link::Terminal => None,
        }
    }

    /// Something is ready.
    pub fn ready(&mut self, part: Part, event: &Event, registry: &Registry) {
        match part {
            Part::Input | Part::Output => {
                if let Some(stream) = &mut self.stream {
                    stream.ready(event, part == Part::Output);
                }
            }
            Part::Listener => self.seek_peer(registry),
            Part::Connecting => self.connecting(registry),
            Part::Lobby => self.at_the_lobby(registry),
        }
    }

    /// When to look without being called.
    pub fn deadline(&self) -> Option<Instant> {
        let lobby = self.lobby.as_ref().and_then(|(_, lobby)| lobby.deadline());
        self.deadline.into_iter().chain(lobby).min()
    }

    /// Moves what can be moved.
    pub fn turn(&mut self, buffer: &mut [u8], registry: &Registry) -> Turn {
        let was_open = self.core.is_open();
        self.hear_knocks(registry);
        self.look_at_peer(registry);
        if let Some(stream) = &mut self.stream {
            stream.push_on();
        }
        let mut turn = self.flush(buffer);
        let (got, more) = self.fill(buffer, registry);
        turn.again |= more;
        let relief = self.core.take_relief();
        let came = std::mem::take(&mut self.came);
        if got || relief || came || was_open != self.core.is_open() {
            self.core.wake();
        }
        turn
    }

    /// The time has come.
    pub fn timeout(&mut self, registry: &Registry) {
        self.at_the_lobby(registry);
        if self.deadline.is_some_and(|at| at <= Instant::now()) {
            self.deadline = None;
            self.seek_peer(registry);
        }
    }

    /// Whether output still waits for a peer that is there.
    pub fn has_output(&self) -> bool {
        self.core.has_output()
    }

    /// Before the end.
    pub fn close(&mut self, registry: &Registry) {
        self.core.set_connection(None);
        if let Some(mut stream) = self.stream.take() {
            stream.close();
            stream.unwatch(registry);
        }
        if let Some((_, lobby)) = self.lobby.take() {
            let _ = registry.deregister(&mut SourceFd(&lobby.as_raw_fd()));
        }
        if let Link::Server(listener) = &self.link {
            let _ = registry.deregister(&mut SourceFd(&listener.as_raw_fd()));
        }
        *self.core.door() = None;
        // Nobody takes anything from here any more, not even for the log.
        self.core.set_open(false, true, None);
        self.core.wake();
    }

    /// Writes output until nothing is left or nothing goes any more.
    fn flush(&mut self, buffer: &mut [u8]) -> Turn {
        let mut turn = Turn::default();
        for _ in 0..MOST_STEPS {
            let reach = self.reaches();
            if reach == Reach::Waits {
                return turn;
            }
            let count = self.core.peek_output(buffer);
            let Some(data) = buffer.get(..count).filter(|data| !data.is_empty()) else {
                return turn;
            };
            let stream = self.stream.as_mut().filter(|_| reach == Reach::Peer);
            let done = match stream.map(|stream| stream.write(data)) {
                None => count,
                Some(Moved::Later) => return turn,
                Some(Moved::Bytes(done)) => done,
                Some(Moved::End(error)) => {
                    if matches!(self.link, Link::Fixed { .. }) {
                        self.complain("written", error);
                    } else if let Some(stream) = &mut self.stream {
                        stream.set_deaf();
                    }
                    count
                }
            };
            self.keep_log(data.get(..done).unwrap_or(data));
            self.core.consume_output(done);
            turn.moved = true;
        }
        turn.again = true;
        turn
    }

    fn reaches(&self) -> Reach {
        match &self.stream {
            Some(stream) if self.core.is_open() && stream.may_write() => Reach::Peer,
            Some(_) if self.core.is_open() => Reach::Waits,
            _ => Reach::Nobody,
        }
    }

    /// Reads input while the device takes it. Whether some came, and whether there is more.
    fn fill(&mut self, buffer: &mut [u8], registry: &Registry) -> (bool, bool) {
        let mut got = false;
        for _ in 0..MOST_STEPS {
            let Some(stream) = self.stream.as_mut().filter(|stream| stream.may_read()) else {
                return (got, false);
            };
            if !self.core.is_taken() || !self.core.is_open() {
                return (got, false);
            }
            let room = self.core.input_room().min(buffer.len());
            let Some(part) = buffer.get_mut(..room).filter(|part| !part.is_empty()) else {
                return (got, false);
            };
            match stream.read(part) {
                Moved::Later => return (got, false),
                Moved::Bytes(count) => {
                    self.core.push_input(part.get(..count).unwrap_or_default());
                    got = true;
                }
                Moved::End(error) => {
                    if matches!(self.link, Link::Fixed { .. }) {
                        self.complain("read", error);
                        if let Some(stream) = &mut self.stream {
                            stream.end_input(registry);
                        }
                    } else {
                        self.peer_left(registry);
                    }
                    return (got, false);
                }
            }
        }
        (got, true)
    }

    /// Finds out who is there, where nobody tells.
    fn look_at_peer(&mut self, registry: &Registry) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        match self.link {
            Link::Terminal => {
                let there = sys::poll(stream.output(), libc::POLLIN, 0) & libc::POLLHUP == 0;
                if there && !self.core.is_open() {
                    stream.revive();
                    self.drop_output();
                    self.core.set_open(true, false, None);
                } else if !there && (!stream.may_read() || !self.core.is_taken()) {
                    // What was typed before is read first.
                    self.terminal_left();
                }
                let watch = !self.core.is_open() && self.core.is_taken();
                self.deadline = match self.deadline {
                    Some(at) if watch => Some(at),
                    _ => watch.then(|| Instant::now() + TERMINAL_LOOK),
                };
            }
            // With nobody to read for, the end of the stream would not be noticed.
            Link::Server(_) | Link::Client { .. } if stream.hung_up() && !self.core.is_taken() => {
                self.peer_left(registry);
            }
            Link::Server(_) | Link::Client { .. } | Link::Sink | Link::Fixed { .. } => {}
        }
    }

    fn terminal_left(&mut self) {
        if self.core.is_open() {
            self.core.set_open(false, false, None);
            // To look for the next one.
            self.core.set_dirty();
        }
    }

    fn peer_left(&mut self, registry: &Registry) {
        if matches!(self.link, Link::Terminal) {
            return self.terminal_left();
        }
        self.core.set_connection(None);
        if let Some(mut stream) = self.stream.take() {
            stream.close();
            stream.unwatch(registry);
        }
        self.drop_output();
        self.core.set_open(false, self.log.is_none(), None);
        // For what was written meanwhile.
        self.core.set_dirty();
        self.core.wake();
        if let Link::Client { dialer, .. } = &self.link {
            self.deadline = dialer.again().map(|wait| Instant::now() + wait);
        } else {
            self.seek_peer(registry);
        }
    }

    /// Output waits although nobody is there: for somebody at the door, or for the log.
    fn hear_knocks(&mut self, registry: &Registry) {
        if self.stream.is_some() || !self.core.has_output() {
            return;
        }
        match &self.link {
            // After an error clients are left alone for a while.
            Link::Server(_) if self.deadline.is_none() => self.seek_peer(registry),
            Link::Client {
                connecting: Some(fd),
                ..
            } if sys::poll(fd.as_raw_fd(), libc::POLLOUT, 0) != 0 => self.connecting(registry),
            Link::Server(_) | Link::Client { .. } => {
                self.core.set_swallow(self.log.is_none());
            }
            Link::Sink | Link::Fixed { .. } | Link::Terminal => {}
        }
    }

    /// Gets the next peer, if there is none.
    fn seek_peer(&mut self, registry: &Registry) {
        let seeks = matches!(self.link, Link::Server(_) | Link::Client { .. });
        if self.stream.is_none() && seeks {
            self.at_the_door(|port| port.next_peer(registry));
        }
    }

    /// Lets somebody in, or finds that nobody is there. Devices that write meanwhile wait for
    /// the outcome.
    fn at_the_door(&mut self, act: impl FnOnce(&mut Self)) {
        let core = self.core.clone();
        let mut door = core.door();
        act(self);
        *door = self.next_door();
        if self.stream.is_none() {
            core.set_swallow(self.log.is_none());
        }
    }

    /// Where the next peer comes in.
    fn next_door(&self) -> Option<Door> {
        let (fd, events) = match &self.link {
            _ if self.stream.is_some() => return None,
            // A stranger there is none to keep output for.
            _ if self.lobby.is_some() => return None,
            Link::Server(listener) if self.deadline.is_none() => {
                (listener.as_raw_fd(), libc::POLLIN)
            }
            Link::Client {
                connecting: Some(fd),
                ..
            } => (fd.as_raw_fd(), libc::POLLOUT),
            _ => return None,
        };
        Some(Door { fd, events })
    }

    fn next_peer(&mut self, registry: &Registry) {
        if matches!(self.link, Link::Server(_)) {
            // Those that came before.
            self.greet(registry);
            if self.stream.is_some() {
                return;
            }
        }
        match &mut self.link {
            Link::Sink | Link::Fixed { .. } | Link::Terminal => {}
            Link::Server(listener) => match listener.accept() {
                Ok(fd) if self.lobby.is_some() => self.receive(fd, registry),
                Ok(fd) => {
                    let peer = listener.describe_client(&fd);
                    self.connected(fd, peer, None, registry);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    // Out of descriptors, or a client that left at once: others may wait.
                    log::warn!("A client could not be accepted: {error}");
                    self.deadline = Some(Instant::now() + TERMINAL_LOOK);
                }
            },
            Link::Client { dialer, connecting } => {
                let busy = self
                    .lobby
                    .as_ref()
                    .is_some_and(|(_, lobby)| !lobby.is_empty());
                if connecting.is_none() && !busy {
                    let attempt = dialer.attempt();
                    self.attempted(attempt, registry);
                }
            }
        }
    }

    fn attempted(&mut self, attempt: io::Result<Attempt>, registry: &Registry) {
        let Link::Client { dialer, connecting } = &mut self.link else {
            return;
        };
        match attempt {
            Ok(Attempt::Connected(fd)) if self.lobby.is_some() => self.receive(fd, registry),
            Ok(Attempt::Connected(fd)) => {
                let peer = dialer.describe_peer(&fd);
                self.connected(fd, peer, None, registry);
            }
            Ok(Attempt::UnderWay(fd)) => {
                let token = token(self.key, Part::Connecting);
                let raw = fd.as_raw_fd();
                match registry.register(&mut SourceFd(&raw), token, Interest::WRITABLE) {
                    Ok(()) => *connecting = Some(fd),
                    Err(error) => self.not_connected(&error),
                }
            }
            Err(error) => self.not_connected(&error),
        }
    }

    fn not_connected(&mut self, error: &io::Error) {
        let Link::Client { dialer, .. } = &self.link else {
            return;
        };
        log::info!("Cannot connect to {}: {error}", dialer.describe());
        let now = Instant::now();
        self.deadline = if dialer.has_more() {
            Some(now)
        } else {
            dialer.again().map(|wait| now + wait)
        };
    }

    /// A connection under way is made, or is not.
    fn connecting(&mut self, registry: &Registry) {
        self.at_the_door(|port| port.connection_outcome(registry));
    }

    fn connection_outcome(&mut self, registry: &Registry) {
        let Link::Client { connecting, .. } = &mut self.link else {
            return;
        };
        let Some(fd) = connecting.take() else {
            return;
        };
        let _ = registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
        let result = sys::connect_result(&fd).map(|()| Attempt::Connected(fd));
        self.attempted(result, registry);
    }

    /// A peer has to shake hands first. More of them may be at the door of a server.
    fn receive(&mut self, fd: OwnedFd, registry: &Registry) {
        let mut next = Some(fd);
        for left in (0..MOST_STRANGERS).rev() {
            let (Some(fd), Some((gate, lobby))) = (next.take(), &mut self.lobby) else {
                break;
            };
            let who = match Place::of_peer(&fd) {
                Place::Unix(_) | Place::Fd(_) => "a peer".to_owned(),
                Place::Inet(address) => address.to_string(),
            };
            match gate.open() {
                Ok(session) => lobby.admit(fd, session, who),
                Err(refusal) => log::warn!("{who} is refused: {refusal}"),
            }
            match &self.link {
                Link::Server(listener) if left > 0 => match listener.accept() {
                    Ok(fd) => next = Some(fd),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // Out of descriptors, say: the poll does not tell of them again.
                    Err(_) => self.deadline = Some(Instant::now() + TERMINAL_LOOK),
                },
                // Others may wait, and the poll does not tell of them again.
                Link::Server(_) => self.deadline = Some(Instant::now()),
                _ => {}
            }
        }
        self.greet(registry);
    }

    fn at_the_lobby(&mut self, registry: &Registry) {
        if self.lobby.is_some() {
            self.at_the_door(|port| port.greet(registry));
        }
    }

    /// Goes on with the handshakes. Whoever is done first comes in.
    fn greet(&mut self, registry: &Registry) {
        let Some((_, lobby)) = &mut self.lobby else {
            return;
        };
        lobby.turn();
        if self.stream.is_some() {
            return;
        }
        if let Some(guest) = lobby.next_guest() {
            let peer = match &self.link {
                Link::Server(listener) => listener.describe_client(&guest.fd),
                Link::Client { dialer, .. } => dialer.describe_peer(&guest.fd),
                Link::Sink | Link::Fixed { .. } | Link::Terminal => String::new(),
            };
            let identity = guest.session.identity().unwrap_or("no certificate");
            log::info!("TLS peer at {peer}: {identity}");
            return self.connected(guest.fd, peer, Some(guest.session), registry);
        }
        // A client whose handshake failed tries again.
        if let Link::Client { dialer, connecting } = &self.link
            && connecting.is_none()
            && self.deadline.is_none()
            && lobby.is_empty()
        {
            self.deadline = dialer.again().map(|wait| Instant::now() + wait);
        }
    }

    fn connected(
        &mut self,
        fd: OwnedFd,
        peer: String,
        session: Option<Box<Session>>,
        registry: &Registry,
    ) {
        let tokens = [token(self.key, Part::Input), token(self.key, Part::Output)];
        self.core.set_connection(Some(fd.as_raw_fd()));
        let stream = Stream::new(fd, Input::Same, registry, tokens);
        self.stream = Some(stream.secured(session));
        self.deadline = None;
        self.complained = false;
        // Output that waits was written when the peer had come already.
        self.core.set_open(true, false, Some(peer));
        // The device is to know, and the peer may have sent something already.
        self.came = true;
        self.core.set_dirty();
    }

    /// Output for a peer that has left goes to the log alone.
    fn drop_output(&mut self) {
        let mut buffer = [0; 4096];
        // As much as there can have been, and not what a busy device adds meanwhile.
        for _ in 0..OUT_RING.div_ceil(buffer.len()) {
            let count = self.core.peek_output(&mut buffer);
            if count == 0 {
                return;
            }
            self.keep_log(buffer.get(..count).unwrap_or_default());
            self.core.consume_output(count);
        }
    }

    fn keep_log(&mut self, data: &[u8]) {
        if let Some(Err(error)) = self.log.as_mut().map(|log| log.write_all(data)) {
            self.complain("logged", Some(error));
        }
    }

    /// Once, so that a full disk does not fill the log too.
    fn complain(&mut self, what: &str, error: Option<io::Error>) {
        if let Some(error) = error
            && !std::mem::replace(&mut self.complained, true)
        {
            log::warn!("Output or input of a character device cannot be {what}: {error}");
        }
    }
}

/// What a socket with TLS needs.
fn lobby(
    source: &Source,
    token: Token,
    registry: &Registry,
) -> io::Result<Option<(Arc<Gate>, Lobby)>> {
    let (gate, name) = match source {
        Source::Server(listener) => (listener.gate(), listener.describe()),
        Source::Client(dialer) => (dialer.gate(), dialer.describe()),
        _ => return Ok(None),
    };
    let Some(gate) = gate else {
        return Ok(None);
    };
    let lobby = Lobby::new(name, Limits::default())?;
    let fd = lobby.as_raw_fd();
    registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
    Ok(Some((gate.clone(), lobby)))
}

/// Where output goes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// To a peer.
    Peer,
    /// To a peer that takes none right now.
    Waits,
    /// Nowhere, except for the log.
    Nobody,
}
