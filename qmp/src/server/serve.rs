//! Serving a client: its commands in, the answers out.

use std::os::fd::AsRawFd;

use api_spec::{Command, CommandContext, MonitorId, QmpResult, Responder, Value};
use mio::unix::SourceFd;
use mio::{Interest, Token};

use super::handle::Message;
use super::{Server, token};
use crate::connection::{Connection, Incoming, Life};
use crate::session::{Action, error_text, return_text};

/// Reads from one client before others have their turn.
const MOST_READS: usize = 64;
/// Beside a monitor's number in the token of its output, where that is a descriptor of its own.
const OUTPUT: usize = 1 << 32;

impl Server {
    pub(super) fn ready(&mut self, id: MonitorId, readable: bool, writable: bool) {
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

    /// Goes on with clients that sent more than one turn is enough for.
    pub(super) fn read_on(&mut self) {
        let unread = self.monitors.iter_mut().filter(|(_, m)| m.unread);
        let ids: Vec<_> = unread
            .map(|(id, monitor)| {
                monitor.unread = false;
                *id
            })
            .collect();
        for id in ids {
            self.read(id);
        }
    }

    /// Reads until nothing is there, no more may be taken in, or it is the turn of others.
    pub(super) fn read(&mut self, id: MonitorId) {
        let mut frames = Vec::new();
        let mut left = MOST_READS;
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
            if left == 0 {
                monitor.unread = true;
                break;
            }
            left = left.saturating_sub(1);
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

    pub(super) fn reply(&mut self, id: MonitorId, generation: u64, oob: bool, text: &str) {
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

    /// Watches for what the connection can use now.
    pub(super) fn update_interest(&mut self, id: MonitorId) {
        let Some(monitor) = self.monitors.get_mut(&id) else {
            return;
        };
        let Some(connection) = monitor.connection.as_mut() else {
            return;
        };
        if let Some(output) = &connection.stream.output {
            let wanted = connection.wants_output();
            if wanted != monitor.output_watched {
                let (registry, fd) = (self.poll.registry(), output.as_raw_fd());
                let token = Token(OUTPUT | token(id).0);
                // Files cannot be watched, but they take everything at once.
                let _ = match wanted {
                    true => registry.register(&mut SourceFd(&fd), token, Interest::WRITABLE),
                    false => registry.deregister(&mut SourceFd(&fd)),
                };
                monitor.output_watched = wanted;
            }
        }
        if monitor.unpollable || !connection.stream.socket {
            return;
        }
        let wanted = (connection.wants_input(), connection.wants_output());
        if wanted.0 && !monitor.registered.0 && connection.has_input() {
            // It came with what was read before; no poll tells of it.
            monitor.unread = true;
        }
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
}

fn answer_text(result: QmpResult<String>, id: Option<&Value>) -> String {
    match result {
        Ok(json) => return_text(&json, id),
        Err(error) => error_text(&error, id),
    }
}
