//! How monitors get their clients, and lose them.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api_spec::MonitorId;
use mio::Interest;
use mio::unix::SourceFd;
use tls::{Gate, Guest, Limits, Lobby};

use super::handle::lock;
use super::peer::{self, Client};
use super::{Endpoint, Monitor, MonitorOptions, Server, token};
use crate::connection::{Connection, Life, Stream};
use crate::endpoint::{listen, unwatch};
use crate::sys;

/// Those that are let into the lobby before others have their turn.
const MOST_STRANGERS: usize = 16;
/// After how long a client that could not be accepted is looked for again.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

impl Server {
    pub(super) fn add(&mut self, id: MonitorId, mut endpoint: Endpoint, options: MonitorOptions) {
        self.remove(id);
        let (mut log, mut gate) = (None, None);
        loop {
            endpoint = match endpoint {
                Endpoint::Logged(inner, file) => {
                    log = Some(Arc::new(file));
                    *inner
                }
                Endpoint::Secured(inner, wanted) => {
                    gate = Some(wanted);
                    *inner
                }
                plain => {
                    endpoint = plain;
                    break;
                }
            }
        }
        let lobby = match gate.map(|gate| self.lobby(id, gate)).transpose() {
            Ok(lobby) => lobby,
            // Better nobody than anybody.
            Err(e) => return log::error!("Monitor {} cannot speak TLS: {e}", id.0),
        };
        let monitor = Monitor {
            endpoint,
            options,
            connection: None,
            generation: 0,
            registered: (false, false),
            unpollable: false,
            listening: false,
            retry_at: None,
            unread: false,
            log,
            output_watched: false,
            lobby,
            client: None,
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
            Endpoint::Unix(listener, _) => listen(&self.poll, token(id), listener.as_raw_fd()),
            Endpoint::Tcp(listener) => listen(&self.poll, token(id), listener.as_raw_fd()),
            Endpoint::Connected(fd) => {
                return match fd.try_clone() {
                    Ok(fd) => self.receive(id, fd),
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
                                tls: None,
                            },
                        );
                    }
                    Err(e) => log::error!("Monitor {}: {e}", id.0),
                };
            }
            Endpoint::ConnectUnix(..) | Endpoint::ConnectTcp(..) => return self.connect_out(id),
            // Taken apart when it was added.
            Endpoint::Logged(..) | Endpoint::Secured(..) => return,
        };
        match result {
            Ok(()) => monitor.listening = true,
            Err(e) => log::error!("Monitor {} cannot listen: {e}", id.0),
        }
    }

    pub(super) fn accept(&mut self, id: MonitorId) {
        // Of those who have to shake hands first several may come in at once.
        for _ in 0..MOST_STRANGERS {
            let Some(monitor) = self.monitors.get_mut(&id) else {
                return;
            };
            if monitor.connection.is_some() {
                return;
            }
            let accepted = match &monitor.endpoint {
                Endpoint::Unix(listener, _) => listener.accept().map(|(s, _)| OwnedFd::from(s)),
                Endpoint::Tcp(listener) => listener.accept().map(|(s, _)| {
                    let _ = s.set_nodelay(true);
                    OwnedFd::from(s)
                }),
                _ => return self.greet(id),
            };
            match accepted {
                Ok(fd) => self.receive(id, fd),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return self.greet(id),
                Err(e) => {
                    // Out of descriptors, say. The poll does not tell of this client again.
                    log::warn!("Monitor {}: a client could not be accepted: {e}", id.0);
                    monitor.retry_at = Some(Instant::now() + ACCEPT_AGAIN);
                    return self.greet(id);
                }
            }
        }
        if let Some(monitor) = self.monitors.get_mut(&id)
            && monitor.connection.is_none()
        {
            // More may wait.
            monitor.retry_at = Some(Instant::now());
        }
    }

    /// Somebody is there: the client, or one who has to shake hands first.
    fn receive(&mut self, id: MonitorId, fd: OwnedFd) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        let Some((gate, lobby)) = &mut monitor.lobby else {
            self.stop_listening(id);
            return self.connected(id, Stream::socket(fd));
        };
        let who = peer::describe(&fd);
        let admitted = sys::set_nonblocking(fd.as_raw_fd())
            .map_err(|error| error.to_string())
            .and_then(|()| gate.open().map_err(|refusal| refusal.to_string()));
        match admitted {
            Ok(session) => lobby.admit(fd, session, who),
            Err(why) => log::warn!("Monitor {}: {who} is refused: {why}", id.0),
        }
        self.greet(id);
    }

    /// One client at a time: the next one waits in the backlog.
    fn stop_listening(&mut self, id: MonitorId) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        let listener = match &monitor.endpoint {
            Endpoint::Unix(l, _) => l.as_raw_fd(),
            Endpoint::Tcp(l) => l.as_raw_fd(),
            _ => return,
        };
        let _ = self.poll.registry().deregister(&mut SourceFd(&listener));
        monitor.listening = false;
    }

    /// Goes on with the handshakes. Whoever is done first is the client.
    pub(super) fn greet(&mut self, id: MonitorId) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        let Some((_, lobby)) = &mut monitor.lobby else {
            return;
        };
        lobby.turn();
        if monitor.connection.is_some() {
            return;
        }
        if let Some(Guest { fd, session }) = lobby.next_guest() {
            self.stop_listening(id);
            let tls = Some(session);
            return self.connected(
                id,
                Stream {
                    tls,
                    ..Stream::socket(fd)
                },
            );
        }
        // One who connects tries again when it came to nothing.
        let again = match &monitor.endpoint {
            Endpoint::ConnectUnix(_, again) | Endpoint::ConnectTcp(_, again) => *again,
            _ => None,
        };
        if lobby.is_empty() && monitor.retry_at.is_none() {
            monitor.retry_at = again.map(|wait| Instant::now() + wait);
        }
    }

    fn lobby(&self, id: MonitorId, gate: Arc<Gate>) -> io::Result<(Arc<Gate>, Lobby)> {
        let lobby = Lobby::new(format!("Monitor {}", id.0), Limits::default())?;
        let fd = lobby.as_raw_fd();
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&fd), token(id), Interest::READABLE)?;
        Ok((gate, lobby))
    }

    fn connected(&mut self, id: MonitorId, stream: Stream) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        let fd = stream.input.as_raw_fd();
        let client = Client::of(&stream);
        monitor.client = Some(client.clone());
        self.sink.client_came(id, &client);
        let _ = sys::set_nonblocking(fd);
        self.generation += 1;
        monitor.generation = self.generation;
        monitor.retry_at = None;
        let mut connection = Connection::new(stream, monitor.options.pretty, monitor.log.clone());
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

    pub(super) fn connect_out(&mut self, id: MonitorId) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        monitor.retry_at = None;
        // A unix connect is decided at once; a TCP one is given little time.
        let (result, again) = match &monitor.endpoint {
            Endpoint::ConnectUnix(path, again) => (sys::connect_unix(path), *again),
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
            Ok(fd) => self.receive(id, fd),
            Err(e) => {
                log::info!("Monitor {} cannot connect: {e}", id.0);
                monitor.retry_at = again.map(|wait| Instant::now() + wait);
            }
        }
    }

    pub(super) fn disconnect(&mut self, id: MonitorId) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        let Some(mut connection) = monitor.connection.take() else {
            return;
        };
        if let Some(client) = monitor.client.take() {
            self.sink.client_left(id, &client);
        }
        lock(&self.shared.connected).insert(id, false);
        monitor.unread = false;
        monitor.output_watched = false;
        connection.close();
        unwatch(&self.poll, &connection.stream);
        drop(connection);
        match &monitor.endpoint {
            // The poll tells of one that waits already. To let it in right here would give it
            // what the one before had still to say.
            Endpoint::Unix(..) | Endpoint::Tcp(..) => {
                if monitor.lobby.is_some() {
                    // Somebody may be through already, of whom no poll tells again.
                    monitor.retry_at = Some(Instant::now());
                }
                self.await_client(id);
            }
            Endpoint::ConnectUnix(_, again) | Endpoint::ConnectTcp(_, again) => {
                monitor.retry_at = again.map(|wait| Instant::now() + wait);
            }
            Endpoint::Connected(_)
            | Endpoint::Pair(..)
            | Endpoint::Logged(..)
            | Endpoint::Secured(..) => {}
        }
    }

    pub(super) fn remove(&mut self, id: MonitorId) {
        let Some(mut monitor) = self.monitors.remove(&id) else {
            return;
        };
        lock(&self.shared.connected).remove(&id);
        if let Some(connection) = &mut monitor.connection {
            if let Some(client) = &monitor.client {
                self.sink.client_left(id, client);
            }
            connection.close();
            unwatch(&self.poll, &connection.stream);
        }
        if let Some((_, lobby)) = &monitor.lobby {
            let _ = self
                .poll
                .registry()
                .deregister(&mut SourceFd(&lobby.as_raw_fd()));
        }
        if monitor.listening {
            let fd = match &monitor.endpoint {
                Endpoint::Unix(l, _) => l.as_raw_fd(),
                Endpoint::Tcp(l) => l.as_raw_fd(),
                _ => return,
            };
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
    }
}
