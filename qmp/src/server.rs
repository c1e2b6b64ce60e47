//! The server: one thread that serves every monitor.
//!
//! Replies and events that other threads send travel through one queue, so that their order is
//! kept. The thread looks at it again for a few microseconds before it sleeps, which saves a
//! round trip through the scheduler for commands that are answered quickly.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use api_spec::{Command, CommandContext, Event, MonitorId, QmpResult, Responder, Value};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::connection::{Connection, Incoming, Life, Stream};
use crate::events::{Limiter, event_text};
use crate::session::{Action, error_text, return_text};
use crate::sys;

/// Who carries commands out. Called on the server's thread; never blocks.
pub trait CommandSink: Send {
    /// Hands a command over; it is answered through `responder`, from any thread.
    fn submit(&mut self, cx: CommandContext, command: Command, responder: Responder);
    /// Carries an out-of-band command out, on this thread.
    fn submit_oob(&mut self, cx: CommandContext, command: Command, responder: Responder) {
        self.submit(cx, command, responder);
    }
    /// Answers a command that only reads published state, if it is one.
    fn try_fast(&mut self, _command: &Command) -> Option<QmpResult<String>> {
        None
    }
}

/// Where a monitor's clients come from. The descriptors were opened by the caller.
#[derive(Debug)]
pub enum Endpoint {
    /// A unix socket that listens; the path is removed at the end.
    Unix(UnixListener, Option<PathBuf>),
    /// A TCP socket that listens.
    Tcp(TcpListener),
    /// A socket that is connected already.
    Connected(OwnedFd),
    /// Standard input and output, or the like: one descriptor for each direction.
    Pair(OwnedFd, OwnedFd),
    /// Connects to a path, again and again if told so.
    ConnectUnix(PathBuf, Option<Duration>),
    /// Connects to an address, again and again if told so.
    ConnectTcp(SocketAddr, Option<Duration>),
}

/// How a monitor behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct MonitorOptions {
    /// Indent what is sent.
    pub pretty: bool,
}

enum Message {
    Reply {
        monitor: MonitorId,
        generation: u64,
        oob: bool,
        text: String,
    },
    Event(Event, SystemTime),
    Add(MonitorId, Endpoint, MonitorOptions),
    Remove(MonitorId),
    Shutdown,
}

struct Shared {
    queue: Mutex<VecDeque<Message>>,
    /// Set while the thread sleeps or is about to: only then must it be woken.
    asleep: AtomicBool,
    waker: Waker,
    /// Monitors that have had a client, and whether they have one now.
    connected: Mutex<BTreeMap<MonitorId, bool>>,
    connection_made: Condvar,
}

impl Shared {
    fn post(&self, message: Message) {
        lock(&self.queue).push_back(message);
        if self.asleep.swap(false, Ordering::SeqCst) {
            let _ = self.waker.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Talks to the server from other threads.
#[derive(Clone)]
pub struct ServerHandle(Arc<Shared>);

impl ServerHandle {
    /// Adds a monitor.
    pub fn add_monitor(&self, id: MonitorId, endpoint: Endpoint, options: MonitorOptions) {
        self.0.post(Message::Add(id, endpoint, options));
    }
    /// Takes a monitor away, and its client with it.
    pub fn remove_monitor(&self, id: MonitorId) {
        self.0.post(Message::Remove(id));
    }
    /// Sends an event to every client that has negotiated.
    pub fn broadcast(&self, event: Event) {
        self.0.post(Message::Event(event, SystemTime::now()));
    }
    /// Sends what waits, closes everything, removes socket paths and ends the thread.
    pub fn shutdown(&self) {
        self.0.post(Message::Shutdown);
    }
    /// Whether a monitor has a client now.
    pub fn is_connected(&self, id: MonitorId) -> bool {
        lock(&self.0.connected).get(&id).copied().unwrap_or(false)
    }
    /// Waits until a monitor has had a client.
    pub fn wait_connected(&self, id: MonitorId) {
        let mut connected = lock(&self.0.connected);
        while !connected.contains_key(&id) {
            connected = self
                .0
                .connection_made
                .wait(connected)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

const WAKER: Token = Token(0);
/// How long a reply is waited for before the thread sleeps. About what two switches of context
/// cost; longer only takes time from whoever is to answer.
const SPIN: Duration = Duration::from_micros(40);

/// How long the thread looks again after a client said something, before it sleeps: clients send
/// one command after the other, and being woken costs more than both.
const LINGER: Duration = Duration::from_micros(60);

/// The server; [`Server::run`] is its thread's body.
pub struct Server {
    poll: Poll,
    shared: Arc<Shared>,
    sink: Box<dyn CommandSink>,
    version: String,
    monitors: BTreeMap<MonitorId, Monitor>,
    limiter: Limiter,
    generation: u64,
    in_flight: usize,
    /// Until when a client is expected to go on.
    linger_until: Option<Instant>,
    buffer: Vec<u8>,
}

struct Monitor {
    endpoint: Endpoint,
    options: MonitorOptions,
    connection: Option<Connection>,
    /// Tells replies to a client that has left from those to the present one.
    generation: u64,
    /// Interests registered for the connection: input, output.
    registered: (bool, bool),
    /// Descriptors that no poll can watch (files) are read at once.
    unpollable: bool,
    listening: bool,
    retry_at: Option<Instant>,
    connecting: bool,
}

impl Server {
    /// A server whose greeting names `package` and which hands commands to `sink`.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn new(sink: Box<dyn CommandSink>, package: &str) -> io::Result<(Self, ServerHandle)> {
        let poll = Poll::new()?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            asleep: AtomicBool::new(true),
            waker: Waker::new(poll.registry(), WAKER)?,
            connected: Mutex::default(),
            connection_made: Condvar::new(),
        });
        let mut version = String::from(
            "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2, \"minor\": 0, \"major\": 10}, \"package\": ",
        );
        api_spec::encode::encode_str(package, &mut version);
        version.push_str("}, \"capabilities\": [\"oob\"]}}");
        let server = Server {
            poll,
            shared: shared.clone(),
            sink,
            version,
            monitors: BTreeMap::new(),
            limiter: Limiter::default(),
            generation: 0,
            in_flight: 0,
            linger_until: None,
            buffer: vec![0; 16 << 10],
        };
        Ok((server, ServerHandle(shared)))
    }

    /// Serves until told to end.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(64);
        loop {
            if self.drain_messages() {
                break;
            }
            let timeout = if self.spin() {
                Some(Duration::ZERO)
            } else {
                self.timeout()
            };
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("Monitors cannot be served: {error}");
                break;
            }
            self.shared.asleep.store(false, Ordering::SeqCst);
            for event in &events {
                if event.token() != WAKER {
                    self.linger_until = Some(Instant::now() + LINGER);
                    let id = MonitorId((event.token().0 as u32).wrapping_sub(1));
                    self.ready(
                        id,
                        event.is_readable() || event.is_read_closed(),
                        event.is_writable(),
                    );
                }
            }
            self.timers();
        }
        self.close_all();
    }

    /// Waits a moment for an answer that is under way, and for a client that has just spoken.
    /// Whether to look again rather than to sleep.
    fn spin(&mut self) -> bool {
        if self.in_flight > 0 {
            let until = Instant::now() + SPIN;
            while Instant::now() < until {
                for _ in 0..32 {
                    std::hint::spin_loop();
                }
                if !lock(&self.shared.queue).is_empty() {
                    return true;
                }
            }
        }
        if self
            .linger_until
            .is_some_and(|until| Instant::now() < until)
        {
            // Whoever else wants this processor, the client for one, has it first.
            std::thread::yield_now();
            return true;
        }
        self.linger_until = None;
        self.shared.asleep.store(true, Ordering::SeqCst);
        let waiting = !lock(&self.shared.queue).is_empty();
        if waiting {
            self.shared.asleep.store(false, Ordering::SeqCst);
        }
        waiting
    }

    fn timeout(&self) -> Option<Duration> {
        let retry = self.monitors.values().filter_map(|m| m.retry_at);
        let next = retry.chain(self.limiter.deadline()).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn timers(&mut self) {
        let now = Instant::now();
        for text in self.limiter.due(now) {
            self.fan_out(&text);
        }
        let due: Vec<_> = self
            .monitors
            .iter()
            .filter(|(_, m)| m.retry_at.is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.connect_out(id);
        }
    }

    /// Whether the end was asked for.
    fn drain_messages(&mut self) -> bool {
        loop {
            let Some(message) = lock(&self.shared.queue).pop_front() else {
                return false;
            };
            match message {
                Message::Reply {
                    monitor,
                    generation,
                    oob,
                    text,
                } => {
                    self.in_flight = self.in_flight.saturating_sub(1);
                    self.reply(monitor, generation, oob, &text);
                }
                Message::Event(event, at) => {
                    let text = event_text(&event, at);
                    if let Some(text) = self.limiter.pass(&event, text, Instant::now()) {
                        self.fan_out(&text);
                    }
                }
                Message::Add(id, endpoint, options) => self.add(id, endpoint, options),
                Message::Remove(id) => self.remove(id),
                Message::Shutdown => return true,
            }
        }
    }

    fn reply(&mut self, id: MonitorId, generation: u64, oob: bool, text: &str) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        let Some(connection) = monitor.connection.as_mut() else {
            return;
        };
        if monitor.generation != generation {
            return;
        }
        let life = connection.send(text);
        if !oob {
            connection.session.answered();
        }
        if life == Life::Closed {
            return self.disconnect(id);
        }
        self.work(id);
        // What came in meanwhile, without a trip through the poll.
        self.read(id);
    }

    fn fan_out(&mut self, text: &str) {
        let mut closed = Vec::new();
        for (id, monitor) in &mut self.monitors {
            if let Some(connection) = monitor.connection.as_mut()
                && connection.session.is_ready()
                && connection.send_event(text) == Life::Closed
            {
                closed.push(*id);
            }
        }
        for id in closed {
            self.disconnect(id);
        }
        let ids: Vec<_> = self.monitors.keys().copied().collect();
        for id in ids {
            self.update_interest(id);
        }
    }

    fn add(&mut self, id: MonitorId, endpoint: Endpoint, options: MonitorOptions) {
        self.remove(id);
        let monitor = Monitor {
            endpoint,
            options,
            connection: None,
            generation: 0,
            registered: (false, false),
            unpollable: false,
            listening: false,
            retry_at: None,
            connecting: false,
        };
        self.monitors.insert(id, monitor);
        self.await_client(id);
    }

    /// Gets the next client, however this endpoint does that.
    fn await_client(&mut self, id: MonitorId) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        let result = match &mut monitor.endpoint {
            Endpoint::Unix(listener, _) => listen(&self.poll, id, listener.as_raw_fd()),
            Endpoint::Tcp(listener) => listen(&self.poll, id, listener.as_raw_fd()),
            Endpoint::Connected(fd) => {
                let stream = fd.try_clone().map(|fd| Stream {
                    input: fd,
                    output: None,
                    socket: true,
                });
                return match stream {
                    Ok(stream) => self.connected(id, stream),
                    Err(e) => log::error!("Monitor {}: {e}", id.0),
                };
            }
            Endpoint::Pair(input, output) => {
                let pair = input
                    .try_clone()
                    .and_then(|i| output.try_clone().map(|o| (i, o)));
                return match pair {
                    Ok((input, output)) => {
                        self.connected(
                            id,
                            Stream {
                                input,
                                output: Some(output),
                                socket: false,
                            },
                        );
                    }
                    Err(e) => log::error!("Monitor {}: {e}", id.0),
                };
            }
            Endpoint::ConnectUnix(..) | Endpoint::ConnectTcp(..) => return self.connect_out(id),
        };
        match result {
            Ok(()) => monitor.listening = true,
            Err(e) => log::error!("Monitor {} cannot listen: {e}", id.0),
        }
    }

    fn accept(&mut self, id: MonitorId) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        let accepted = match &monitor.endpoint {
            Endpoint::Unix(listener, _) => listener.accept().map(|(s, _)| OwnedFd::from(s)),
            Endpoint::Tcp(listener) => listener.accept().map(|(s, _)| {
                let _ = s.set_nodelay(true);
                OwnedFd::from(s)
            }),
            _ => return,
        };
        match accepted {
            Ok(fd) => {
                let listener = match &monitor.endpoint {
                    Endpoint::Unix(l, _) => l.as_raw_fd(),
                    Endpoint::Tcp(l) => l.as_raw_fd(),
                    _ => return,
                };
                // One client at a time: the next one waits in the backlog.
                let _ = self.poll.registry().deregister(&mut SourceFd(&listener));
                monitor.listening = false;
                self.connected(
                    id,
                    Stream {
                        input: fd,
                        output: None,
                        socket: true,
                    },
                );
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => log::warn!("Monitor {}: a client could not be accepted: {e}", id.0),
        }
    }

    fn connected(&mut self, id: MonitorId, stream: Stream) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        let fd = stream.input.as_raw_fd();
        match sys::peer(fd) {
            Some((pid, uid)) => log::info!("Monitor {}: client of process {pid}, user {uid}", id.0),
            None => log::info!("Monitor {}: client", id.0),
        }
        let _ = sys::set_nonblocking(fd);
        self.generation += 1;
        monitor.generation = self.generation;
        monitor.connecting = false;
        monitor.retry_at = None;
        let mut connection = Connection::new(stream, monitor.options.pretty);
        let life = connection.send(&self.version);
        let registered =
            self.poll
                .registry()
                .register(&mut SourceFd(&fd), token(id), Interest::READABLE);
        monitor.unpollable = registered.is_err();
        monitor.registered = (registered.is_ok(), false);
        monitor.connection = Some(connection);
        lock(&self.shared.connected).insert(id, true);
        self.shared.connection_made.notify_all();
        if life == Life::Closed {
            return self.disconnect(id);
        }
        self.read(id);
    }

    fn connect_out(&mut self, id: MonitorId) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        monitor.retry_at = None;
        // A unix connect to a live listener does not wait; a TCP one is given little time.
        let (result, again) = match &monitor.endpoint {
            Endpoint::ConnectUnix(path, again) => {
                (UnixStream::connect(path).map(OwnedFd::from), *again)
            }
            Endpoint::ConnectTcp(address, again) => {
                let limit = Duration::from_millis(200);
                (
                    TcpStream::connect_timeout(address, limit).map(OwnedFd::from),
                    *again,
                )
            }
            _ => return,
        };
        match result {
            Ok(fd) => self.connected(
                id,
                Stream {
                    input: fd,
                    output: None,
                    socket: true,
                },
            ),
            Err(e) => {
                log::info!("Monitor {} cannot connect: {e}", id.0);
                monitor.retry_at = again.map(|wait| Instant::now() + wait);
            }
        }
    }

    fn ready(&mut self, id: MonitorId, readable: bool, writable: bool) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        let Some(connection) = monitor.connection.as_mut() else {
            return self.accept(id);
        };
        if writable && connection.flush() == Life::Closed {
            return self.disconnect(id);
        }
        if readable || writable {
            self.read(id);
        }
    }

    /// Reads until nothing is there or no more may be taken in.
    fn read(&mut self, id: MonitorId) {
        let mut frames = Vec::new();
        loop {
            let Some(monitor) = self.monitors.get_mut(&id) else {
                return;
            };
            let Some(connection) = monitor.connection.as_mut() else {
                return;
            };
            if !connection.wants_input() {
                break;
            }
            match connection.read(&mut self.buffer, &mut frames) {
                Ok(Some(Life::Open)) => {
                    self.accept_frames(id, &mut frames);
                }
                Ok(None) => break,
                Ok(Some(Life::Closed)) if monitor.unpollable || !connection.stream.socket => {
                    // The end of standard input: answers still go out.
                    let fd = connection.stream.input.as_raw_fd();
                    let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
                    monitor.registered = (false, false);
                    break;
                }
                Ok(Some(Life::Closed)) | Err(_) => return self.disconnect(id),
            }
        }
        self.update_interest(id);
    }

    fn accept_frames(&mut self, id: MonitorId, frames: &mut Vec<Incoming>) {
        for (frame, fds) in frames.drain(..) {
            let Some(connection) = self.connection(id) else {
                return;
            };
            if let Some(action) = connection.session.accept(frame, fds) {
                self.act(id, action);
            }
            self.work(id);
        }
    }

    /// Does whatever is next in band.
    fn work(&mut self, id: MonitorId) {
        while let Some(action) = self.connection(id).and_then(|c| c.session.next_action()) {
            self.act(id, action);
        }
    }

    fn connection(&mut self, id: MonitorId) -> Option<&mut Connection> {
        self.monitors.get_mut(&id)?.connection.as_mut()
    }

    fn act(&mut self, id: MonitorId, action: Action) {
        match action {
            Action::Send(text) => {
                if self
                    .connection(id)
                    .is_some_and(|c| c.send(&text) == Life::Closed)
                {
                    self.disconnect(id);
                }
            }
            Action::Run {
                command,
                id: command_id,
                fds,
                oob,
            } => {
                let cx = CommandContext { monitor: id, fds };
                self.run_command(cx, command, command_id, oob);
            }
        }
    }

    fn run_command(
        &mut self,
        cx: CommandContext,
        command: Command,
        command_id: Option<Value>,
        oob: bool,
    ) {
        let id = cx.monitor;
        if let Some(result) = self.sink.try_fast(&command) {
            let Some(connection) = self.connection(id) else {
                return;
            };
            let life = connection.send(&answer_text(result, command_id.as_ref()));
            if !oob {
                connection.session.answered();
            }
            if life == Life::Closed {
                self.disconnect(id);
            }
            return;
        }
        let Some(generation) = self.monitors.get(&id).map(|m| m.generation) else {
            return;
        };
        let shared = self.shared.clone();
        let responder = Responder::new(move |result| {
            let text = answer_text(result, command_id.as_ref());
            shared.post(Message::Reply {
                monitor: id,
                generation,
                oob,
                text,
            });
        });
        self.in_flight += 1;
        if oob {
            self.sink.submit_oob(cx, command, responder);
        } else {
            self.sink.submit(cx, command, responder);
        }
    }

    fn disconnect(&mut self, id: MonitorId) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        let Some(connection) = monitor.connection.take() else {
            return;
        };
        log::info!("Monitor {}: client left", id.0);
        lock(&self.shared.connected).insert(id, false);
        let fd = connection.stream.input.as_raw_fd();
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        drop(connection);
        match &monitor.endpoint {
            Endpoint::Unix(..) | Endpoint::Tcp(..) => {
                self.await_client(id);
                self.accept(id);
            }
            Endpoint::ConnectUnix(_, again) | Endpoint::ConnectTcp(_, again) => {
                monitor.retry_at = again.map(|wait| Instant::now() + wait);
            }
            Endpoint::Connected(_) | Endpoint::Pair(..) => {}
        }
    }

    /// Watches for what the connection can use now.
    fn update_interest(&mut self, id: MonitorId) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        let Some(connection) = monitor.connection.as_ref() else {
            return;
        };
        if monitor.unpollable || !connection.stream.socket {
            return;
        }
        let wanted = (connection.wants_input(), connection.wants_output());
        if wanted == monitor.registered {
            return;
        }
        let fd = connection.stream.input.as_raw_fd();
        let interest = match wanted {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        };
        let registry = self.poll.registry();
        let had = monitor.registered != (false, false);
        let _ = match (had, interest) {
            (true, Some(interest)) => registry.reregister(&mut SourceFd(&fd), token(id), interest),
            (false, Some(interest)) => registry.register(&mut SourceFd(&fd), token(id), interest),
            (true, None) => registry.deregister(&mut SourceFd(&fd)),
            (false, None) => Ok(()),
        };
        monitor.registered = wanted;
    }

    fn remove(&mut self, id: MonitorId) {
        let Some(mut monitor) = self.monitors.remove(&id) else {
            return;
        };
        lock(&self.shared.connected).remove(&id);
        if let Some(connection) = &monitor.connection {
            let fd = connection.stream.input.as_raw_fd();
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
        if monitor.listening {
            let fd = match &monitor.endpoint {
                Endpoint::Unix(l, _) => l.as_raw_fd(),
                Endpoint::Tcp(l) => l.as_raw_fd(),
                _ => return,
            };
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
        if let Endpoint::Unix(_, path) = &mut monitor.endpoint
            && let Some(path) = path.take()
        {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Gives clients a last, short chance to take what waits.
    fn close_all(&mut self) {
        for text in self.limiter.flush() {
            self.fan_out(&text);
        }
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until {
            let waiting = self
                .monitors
                .values_mut()
                .filter_map(|m| m.connection.as_mut())
                .any(|c| c.flush() == Life::Open && c.wants_output());
            if !waiting {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let ids: Vec<_> = self.monitors.keys().copied().collect();
        for id in ids {
            self.remove(id);
        }
    }
}

fn answer_text(result: QmpResult<String>, id: Option<&Value>) -> String {
    match result {
        Ok(json) => return_text(&json, id),
        Err(error) => error_text(&error, id),
    }
}

fn token(id: MonitorId) -> Token {
    Token(id.0 as usize + 1)
}

fn listen(poll: &Poll, id: MonitorId, fd: RawFd) -> io::Result<()> {
    sys::set_nonblocking(fd)?;
    poll.registry()
        .register(&mut SourceFd(&fd), token(id), Interest::READABLE)
}

/// Duplicates of standard input and output.
///
/// # Errors
/// When they are closed.
pub fn stdio() -> io::Result<Endpoint> {
    Ok(Endpoint::Pair(duplicate(0)?, duplicate(1)?))
}

#[allow(unsafe_code)] // takes a number for a descriptor
fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl makes a new descriptor that nothing else owns.
    unsafe {
        let copy = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3);
        if copy < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(copy))
        }
    }
}
