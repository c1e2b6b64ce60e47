//! One client's session: pure decisions on what came in.
//!
//! ```text
//! Negotiating --qmp_capabilities--> Ready
//! ```

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use api_spec::{
    Command, Encode, ErrorClass, Object, QMPCapability, QmpCapabilitiesArgs, QmpError, QmpResult,
    Value, command_info, decode_command, decode_value,
};

use crate::framing::Frame;

/// In-band commands that may wait behind the one being carried out.
pub const QUEUE_LIMIT: usize = 8;

/// What the server has to do.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // taken apart at once, never stored
pub enum Action {
    /// Send this text.
    Send(String),
    /// Carry a command out and answer with its id.
    Run {
        /// The command.
        command: Command,
        /// Its id, to be echoed.
        id: Option<Value>,
        /// Descriptors that came with it.
        fds: Vec<OwnedFd>,
        /// Out of band: at once, whatever else is going on.
        oob: bool,
    },
}

/// The session.
#[derive(Debug, Default)]
pub struct Session {
    ready: bool,
    oob: bool,
    busy: bool,
    waiting: VecDeque<Request>,
}

#[derive(Debug)]
enum Request {
    Run {
        name: String,
        arguments: Option<Object>,
        id: Option<Value>,
        fds: Vec<OwnedFd>,
    },
    Refuse {
        error: QmpError,
        id: Option<Value>,
    },
}

impl Session {
    /// Whether capabilities were negotiated: events are sent from then on.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether more input can be taken in.
    pub fn wants_input(&self) -> bool {
        self.waiting.len() < QUEUE_LIMIT && (self.oob || !self.busy || self.waiting.is_empty())
    }

    /// Whether an in-band command is being carried out.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Takes a value in. Out-of-band commands become an action at once, others wait their turn.
    pub fn accept(&mut self, frame: Frame, fds: Vec<OwnedFd>) -> Option<Action> {
        match self.check(frame) {
            Ok(Envelope {
                name,
                arguments,
                id,
                oob: true,
            }) => Some(self.run_oob(&name, arguments, id, fds)),
            Ok(Envelope {
                name,
                arguments,
                id,
                oob: false,
            }) => {
                self.waiting.push_back(Request::Run {
                    name,
                    arguments,
                    id,
                    fds,
                });
                None
            }
            Err((error, id)) => {
                self.waiting.push_back(Request::Refuse { error, id });
                None
            }
        }
    }

    /// The next thing to do in band, if none is being done.
    pub fn next_action(&mut self) -> Option<Action> {
        if self.busy {
            return None;
        }
        Some(match self.waiting.pop_front()? {
            Request::Refuse { error, id } => Action::Send(error_text(&error, id.as_ref())),
            Request::Run {
                name,
                arguments,
                id,
                fds,
            } => match self.resolve(&name, arguments) {
                Ok(Some(command)) => {
                    self.busy = true;
                    Action::Run {
                        command,
                        id,
                        fds,
                        oob: false,
                    }
                }
                Ok(None) => Action::Send(return_text("{}", id.as_ref())),
                Err(error) => Action::Send(error_text(&error, id.as_ref())),
            },
        })
    }

    /// The in-band command being carried out was answered.
    pub fn answered(&mut self) {
        self.busy = false;
    }

    fn resolve(&mut self, name: &str, arguments: Option<Object>) -> QmpResult<Option<Command>> {
        trace::point!(HANDLE_QMP_COMMAND, name = name);
        match (self.ready, name) {
            (false, "qmp_capabilities") => self.negotiate(arguments).map(|()| None),
            (false, _) => Err(QmpError::new(
                ErrorClass::CommandNotFound,
                "Expecting capabilities negotiation with 'qmp_capabilities'",
            )),
            (true, "qmp_capabilities") => Err(QmpError::new(
                ErrorClass::CommandNotFound,
                "Capabilities negotiation is already complete, command ignored",
            )),
            (true, _) => decode_command(name, arguments).map(Some),
        }
    }

    fn negotiate(&mut self, arguments: Option<Object>) -> QmpResult<()> {
        let arguments = Value::Object(arguments.unwrap_or_default());
        let args: QmpCapabilitiesArgs = decode_value(arguments, api_spec::Mode::Strict)?;
        self.oob = args
            .enable
            .unwrap_or_default()
            .contains(&QMPCapability::Oob);
        self.ready = true;
        Ok(())
    }

    fn run_oob(
        &self,
        name: &str,
        arguments: Option<Object>,
        id: Option<Value>,
        fds: Vec<OwnedFd>,
    ) -> Action {
        let command = match command_info(name) {
            None => Err(QmpError::command_not_found(name)),
            Some(info) if !info.allow_oob => Err(QmpError::generic(format!(
                "The command {name} does not support OOB"
            ))),
            Some(_) => decode_command(name, arguments),
        };
        match command {
            Ok(command) => Action::Run {
                command,
                id,
                fds,
                oob: true,
            },
            Err(error) => Action::Send(error_text(&error, id.as_ref())),
        }
    }

    fn check(&self, frame: Frame) -> Result<Envelope, (QmpError, Option<Value>)> {
        let refuse = |text: &str| QmpError::generic(text);
        let mut object = match frame {
            Frame::Error(text) => return Err((QmpError::generic(text), None)),
            Frame::Value(Value::Object(object)) => object,
            Frame::Value(_) => return Err((refuse("QMP input must be a JSON object"), None)),
        };
        let id = object.shift_remove("id");
        match self.envelope(object) {
            Ok((name, arguments, oob)) => Ok(Envelope {
                name,
                arguments,
                id,
                oob,
            }),
            Err(error) => Err((error, id)),
        }
    }

    fn envelope(&self, object: Object) -> QmpResult<(String, Option<Object>, bool)> {
        let (mut command, mut arguments) = (None, None);
        for (key, value) in object {
            match key.as_str() {
                "execute" | "exec-oob" if key == "execute" || self.oob => {
                    let Value::String(name) = value else {
                        return Err(QmpError::generic(format!(
                            "QMP input member '{key}' must be a string"
                        )));
                    };
                    if command.is_some() {
                        let other = if key == "execute" {
                            "exec-oob"
                        } else {
                            "execute"
                        };
                        return Err(QmpError::generic(format!(
                            "QMP input member '{key}' clashes with '{other}'"
                        )));
                    }
                    command = Some((name, key == "exec-oob"));
                }
                "arguments" => {
                    let Value::Object(object) = value else {
                        return Err(QmpError::generic(
                            "QMP input member 'arguments' must be an object",
                        ));
                    };
                    arguments = Some(object);
                }
                _ => {
                    return Err(QmpError::generic(format!(
                        "QMP input member '{key}' is unexpected"
                    )));
                }
            }
        }
        match command {
            Some((name, oob)) => Ok((name, arguments, oob)),
            None => Err(QmpError::generic("QMP input lacks member 'execute'")),
        }
    }
}

struct Envelope {
    name: String,
    arguments: Option<Object>,
    id: Option<Value>,
    oob: bool,
}

/// The answer to a command that succeeded; `json` is its result.
pub fn return_text(json: &str, id: Option<&Value>) -> String {
    trace::point!(MONITOR_QMP_RESPOND, json = json);
    let mut text = String::with_capacity(json.len() + 32);
    text.push_str("{\"return\": ");
    text.push_str(json);
    push_id(&mut text, id);
    text
}

/// The answer to a command that failed.
pub fn error_text(error: &QmpError, id: Option<&Value>) -> String {
    trace::point!(
        MONITOR_QMP_ERROR,
        class = error.class.name(),
        desc = error.desc
    );
    let mut text = String::from("{\"error\": {\"class\": \"");
    text.push_str(error.class.name());
    text.push_str("\", \"desc\": ");
    error.desc.encode(&mut text);
    text.push('}');
    push_id(&mut text, id);
    text
}

fn push_id(text: &mut String, id: Option<&Value>) {
    if let Some(id) = id {
        text.push_str(", \"id\": ");
        id.encode(text);
    }
    text.push('}');
}

#[cfg(test)]
#[path = "session_test.rs"]
mod tests;
