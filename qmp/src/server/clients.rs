//! How monitors get their clients, and lose them.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api_spec::MonitorId;
use mio::Interest;
use mio::unix::SourceFd;

use super::handle::lock;
use super::{Endpoint, Monitor, MonitorOptions, Server, token};
use crate::connection::{Connection, Life, Stream};
use crate::endpoint::{listen, unwatch};
use crate::sys;

/// After how long a client that could not be accepted is looked for again.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

impl Server {
    pub(super) fn add(&mut self, id: MonitorId, mut endpoint: Endpoint, options: MonitorOptions) {
        self.remove(id);
        let mut log = None;
        while let Endpoint::Logged(inner, file) = endpoint {
            endpoint = *inner;
            log = Some(Arc::new(file));
        }
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
            // Taken apart when it was added.
            Endpoint::Logged(..) => return,
        };
        match result {
            Ok(()) => monitor.listening = true,
            Err(e) => log::error!("Monitor {} cannot listen: {e}", id.0),
        }
    }

    pub(super) fn accept(&mut self, id: MonitorId) {
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
            Err(e) => {
                // Out of descriptors, say. The poll does not tell of this client again.
                log::warn!("Monitor {}: a client could not be accepted: {e}", id.0);
                monitor.retry_at = Some(Instant::now() + ACCEPT_AGAIN);
            }
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

    pub(super) fn disconnect(&mut self, id: MonitorId) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        let Some(connection) = monitor.connection.take() else {
            return;
        };
        log::info!("Monitor {}: client left", id.0);
        lock(&self.shared.connected).insert(id, false);
        monitor.unread = false;
        monitor.output_watched = false;
        unwatch(&self.poll, &connection.stream);
        drop(connection);
        match &monitor.endpoint {
            // The poll tells of one that waits already. To let it in right here would give it
            // what the one before had still to say.
            Endpoint::Unix(..) | Endpoint::Tcp(..) => self.await_client(id),
            Endpoint::ConnectUnix(_, again) | Endpoint::ConnectTcp(_, again) => {
                monitor.retry_at = again.map(|wait| Instant::now() + wait);
            }
            Endpoint::Connected(_) | Endpoint::Pair(..) | Endpoint::Logged(..) => {}
        }
    }

    pub(super) fn remove(&mut self, id: MonitorId) {
        let Some(mut monitor) = self.monitors.remove(&id) else {
            return;
        };
        lock(&self.shared.connected).remove(&id);
        if let Some(connection) = &monitor.connection {
            unwatch(&self.poll, &connection.stream);
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
}
