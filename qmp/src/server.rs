//! The server: one thread that serves every monitor.
//!
//! Replies and events that other threads send travel through one queue, so that their order is
//! kept. The thread looks at it again for a few microseconds before it sleeps, which saves a
//! round trip through the scheduler for commands that are answered quickly.

mod clients;
mod handle;
mod peer;
mod serve;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use api_spec::{Command, CommandContext, MonitorId, QmpResult, Responder};
use mio::{Events, Poll, Token, Waker};
use tls::{Gate, Lobby};

use crate::connection::{Connection, Life};
pub use crate::endpoint::{Endpoint, stdio};
use crate::events::{Limiter, event_text};
pub use handle::ServerHandle;
use handle::{Message, Shared, lock};
pub use peer::{Client, ClientPlace};

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
    /// A client came: to be logged.
    fn client_came(&mut self, monitor: MonitorId, client: &Client) {
        log::info!("Monitor {}: client: {}", monitor.0, client.describe(None));
    }
    /// It left again: to be logged.
    fn client_left(&mut self, monitor: MonitorId, client: &Client) {
        log::info!(
            "Monitor {}: client left: {}",
            monitor.0,
            client.describe(None)
        );
    }
}

/// How a monitor behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct MonitorOptions {
    /// Indent what is sent.
    pub pretty: bool,
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
    /// Its client has sent more than one turn is enough for.
    unread: bool,
    /// What is sent to clients goes here as well.
    log: Option<Arc<File>>,
    /// The poll tells when the output, a descriptor of its own, takes more.
    output_watched: bool,
    /// Where TLS is spoken, and where those wait who did not finish the handshake.
    lobby: Option<(Arc<Gate>, Lobby)>,
    /// Who it is.
    client: Option<Client>,
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
            let unread = self.monitors.values().any(|monitor| monitor.unread);
            let timeout = if unread || self.spin() {
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
            self.read_on();
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
        let lobbies = self.monitors.values().filter_map(|m| m.lobby.as_ref());
        let strangers = lobbies.filter_map(|(_, lobby)| lobby.deadline());
        let next = retry
            .chain(strangers)
            .chain(self.limiter.deadline())
            .min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn timers(&mut self) {
        let now = Instant::now();
        for text in self.limiter.due(now) {
            self.fan_out(&text);
        }
        let late = |m: &Monitor| m.lobby.as_ref().and_then(|(_, lobby)| lobby.deadline());
        let late = |m: &Monitor| late(m).is_some_and(|at| at <= now);
        let late = self.monitors.iter().filter(|(_, m)| late(m));
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.greet(id);
        }
        let due: Vec<_> = self
            .monitors
            .iter()
            .filter(|(_, m)| m.retry_at.is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            match self.monitors.get_mut(&id) {
                Some(monitor) if monitor.listening => {
                    monitor.retry_at = None;
                    self.accept(id);
                }
                _ => self.connect_out(id),
            }
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
                Message::DropClient(id) => self.disconnect(id),
                Message::Remove(id) => self.remove(id),
                Message::Shutdown => return true,
            }
        }
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

    /// Gives clients a last, short chance to take what waits.
    fn close_all(&mut self) {
        for text in self.limiter.flush() {
            self.fan_out(&text);
        }
        let until = Instant::now() + Duration::from_millis(500);
        let mut events = Events::with_capacity(64);
        while Instant::now() < until {
            let waiting = self
                .monitors
                .values_mut()
                .filter_map(|m| m.connection.as_mut())
                .any(|c| c.flush() == Life::Open && c.wants_output());
            if !waiting {
                break;
            }
            // Whatever wakes it, all are looked at again.
            let _ = self.poll.poll(&mut events, Some(Duration::from_millis(5)));
        }
        let ids: Vec<_> = self.monitors.keys().copied().collect();
        for id in ids {
            self.remove(id);
        }
    }
}

fn token(id: MonitorId) -> Token {
    Token(id.0 as usize + 1)
}
