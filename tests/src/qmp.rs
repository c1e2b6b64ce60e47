//! A QMP client that hides nothing: bytes can be sent as they are, and every message is seen in its order.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::{seconds, sys};

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QmpError {
    /// Its class.
    pub class: String,
    /// Its words.
    pub desc: String,
}

impl std::fmt::Display for QmpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.class, self.desc)
    }
}

/// A connection to a monitor.
#[derive(Debug)]
pub struct Qmp {
    input: File,
    output: File,
    buffer: Vec<u8>,
    events: VecDeque<Value>,
    limit: Duration,
    next_id: u64,
}

impl Qmp {
    /// Connects to a path and negotiates.
    ///
    /// # Panics
    /// When that fails.
    pub fn connect(path: &Path) -> Self {
        let mut qmp = Self::connect_raw(path);
        qmp.negotiate();
        qmp
    }

    /// Connects to a path and says nothing yet; the greeting is unread.
    ///
    /// # Panics
    /// When nobody listens there.
    pub fn connect_raw(path: &Path) -> Self {
        Self::over_socket(
            UnixStream::connect(path)
                .expect("the monitor listens")
                .into(),
        )
    }

    /// Connects to a TCP address, without negotiating.
    ///
    /// # Panics
    /// When nobody listens there.
    pub fn connect_tcp(address: &str) -> Self {
        Self::over_socket(
            TcpStream::connect(address)
                .expect("the monitor listens")
                .into(),
        )
    }

    /// Speaks over a socket, without negotiating.
    ///
    /// # Panics
    /// When the descriptor cannot be duplicated.
    pub fn over_socket(socket: OwnedFd) -> Self {
        let output = socket.try_clone().expect("a descriptor");
        Self::over_pipes(socket, output)
    }

    /// Reads here and writes there, without negotiating.
    pub fn over_pipes(input: OwnedFd, output: OwnedFd) -> Self {
        Qmp {
            input: input.into(),
            output: output.into(),
            buffer: Vec::new(),
            events: VecDeque::new(),
            limit: seconds(30),
            next_id: 1,
        }
    }

    /// Another limit for each wait.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Reads the greeting, checks its shape and ends negotiation; returns what is inside it.
    ///
    /// # Panics
    /// On anything unexpected.
    pub fn negotiate(&mut self) -> Value {
        let greeting = self.greeting();
        self.exec("qmp_capabilities", json!({}));
        greeting
    }

    /// Reads the greeting and checks its shape.
    ///
    /// # Panics
    /// On anything else.
    pub fn greeting(&mut self) -> Value {
        let greeting = self.recv();
        let inside = greeting["QMP"].clone();
        assert!(inside["version"]["qemu"]["major"].is_u64(), "{greeting}");
        assert!(inside["version"]["package"].is_string(), "{greeting}");
        assert!(inside["capabilities"].is_array(), "{greeting}");
        inside
    }

    /// The descriptor that is written to.
    pub fn as_output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// When the other side is gone.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the monitor takes bytes");
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)
    }

    /// Sends bytes with descriptors.
    ///
    /// # Panics
    /// When not all of it goes.
    pub fn send_fds(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let n = sys::send_with_fds(self.output.as_fd(), bytes, fds).expect("descriptors go");
        assert_eq!(n, bytes.len());
    }

    /// The next line as it came, with its end; None when the connection is at its end.
    ///
    /// # Panics
    /// When nothing comes in time.
    pub fn recv_bytes(&mut self) -> Option<Vec<u8>> {
        match self.line(self.limit) {
            Line::Bytes(line) => Some(line),
            Line::End => None,
            Line::Late => panic!(
                "no answer in {:?}, only {:?}",
                self.limit,
                String::from_utf8_lossy(&self.buffer)
            ),
        }
    }

    /// What one read gives.
    ///
    /// # Panics
    /// When nothing comes in time.
    pub fn read_once(&mut self) -> Vec<u8> {
        assert!(
            sys::wait_readable(self.input.as_fd(), self.limit),
            "nothing came"
        );
        let mut bytes = vec![0; 65536];
        let n = self.input.read(&mut bytes).expect("bytes");
        bytes.truncate(n);
        bytes
    }

    /// The next message, whatever it is. Checks the framing: one line, ended by CR LF, ASCII only.
    ///
    /// # Panics
    /// When none comes in time, or on wrong framing.
    pub fn recv(&mut self) -> Value {
        let line = self.recv_bytes().expect("an answer, not the end");
        parse(&line)
    }

    /// The next message within `limit`, if one comes.
    ///
    /// # Panics
    /// On wrong framing.
    pub fn recv_within(&mut self, limit: Duration) -> Option<Value> {
        match self.line(limit) {
            Line::Bytes(line) => Some(parse(&line)),
            Line::End | Line::Late => None,
        }
    }

    /// The next answer; events before it are kept.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn answer(&mut self) -> Value {
        loop {
            let message = self.recv();
            if message.get("event").is_none() {
                return message;
            }
            check_event(&message);
            self.events.push_back(message);
        }
    }

    /// Sends one command, answered or refused.
    ///
    /// # Errors
    /// The refusal.
    ///
    /// # Panics
    /// When the answer has not the shape or the id that it must have.
    pub fn try_exec(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.try_exec_fds(command, arguments, &[])
    }

    /// The same with descriptors.
    ///
    /// # Errors
    /// The refusal.
    pub fn try_exec_fds(
        &mut self,
        command: &str,
        arguments: Value,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Value, QmpError> {
        let id = self.next_id;
        self.next_id += 1;
        let mut request = Map::new();
        request.insert("execute".into(), command.into());
        if arguments
            .as_object()
            .is_none_or(|members| !members.is_empty())
        {
            request.insert("arguments".into(), arguments);
        }
        request.insert("id".into(), id.into());
        let text = Value::Object(request).to_string();
        if fds.is_empty() {
            self.send(text.as_bytes());
        } else {
            self.send_fds(text.as_bytes(), fds);
        }
        let answer = self.answer();
        assert_eq!(answer["id"], json!(id), "answer to {text}: {answer}");
        outcome(&answer)
    }

    /// Sends one command that must succeed.
    ///
    /// # Panics
    /// When it is refused.
    pub fn exec(&mut self, command: &str, arguments: Value) -> Value {
        match self.try_exec(command, arguments.clone()) {
            Ok(value) => value,
            Err(error) => panic!("{command} {arguments} was refused: {error}"),
        }
    }

    /// Sends one command without arguments that must succeed.
    ///
    /// # Panics
    /// When it is refused.
    pub fn query(&mut self, command: &str) -> Value {
        self.exec(command, json!({}))
    }

    /// Sends one command that must be refused; returns why.
    ///
    /// # Panics
    /// When it succeeds.
    pub fn refused(&mut self, command: &str, arguments: Value) -> QmpError {
        match self.try_exec(command, arguments.clone()) {
            Ok(value) => panic!("{command} {arguments} succeeded: {value}"),
            Err(error) => error,
        }
    }

    /// Runs a line of the text monitor.
    pub fn hmp(&mut self, line: &str) -> String {
        let text = self.exec("human-monitor-command", json!({"command-line": line}));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// The next event of this name; others before it are dropped.
    ///
    /// # Panics
    /// When it does not come in time.
    pub fn event(&mut self, name: &str) -> Value {
        let limit = self.limit;
        self.event_within(name, limit)
            .unwrap_or_else(|| panic!("no event {name}"))
    }

    /// The same, if it comes within `limit`.
    pub fn event_within(&mut self, name: &str, limit: Duration) -> Option<Value> {
        let end = Instant::now() + limit;
        loop {
            while let Some(event) = self.events.pop_front() {
                if event["event"] == name {
                    return Some(event);
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            let message = self.recv_within(left)?;
            if message.get("event").is_some() {
                check_event(&message);
                self.events.push_back(message);
            }
        }
    }

    /// Events that came with answers and were not asked for.
    pub fn pending_events(&mut self) -> Vec<Value> {
        self.events.drain(..).collect()
    }

    /// Checks that nothing is said for a while.
    ///
    /// # Panics
    /// When something is.
    pub fn assert_silent(&mut self, limit: Duration) {
        if let Some(message) = self.recv_within(limit) {
            panic!("unexpected {message}");
        }
    }

    /// Checks that the other side closes the connection, after at most some more messages.
    ///
    /// # Panics
    /// When it stays open.
    pub fn assert_end(&mut self) {
        let end = Instant::now() + self.limit;
        while Instant::now() < end {
            match self.line(self.limit) {
                Line::End => return,
                Line::Bytes(_) => {}
                Line::Late => break,
            }
        }
        panic!("the connection is still open");
    }

    fn line(&mut self, limit: Duration) -> Line {
        let end = Instant::now() + limit;
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                return Line::Bytes(self.buffer.drain(..=at).collect());
            }
            let left = end.saturating_duration_since(Instant::now());
            if !sys::wait_readable(self.input.as_fd(), left) {
                return Line::Late;
            }
            let mut bytes = vec![0; 65536];
            match self.input.read(&mut bytes) {
                Ok(n @ 1..) => self.buffer.extend_from_slice(&bytes[..n]),
                _ => return Line::End,
            }
        }
    }
}

enum Line {
    Bytes(Vec<u8>),
    End,
    Late,
}

fn parse(line: &[u8]) -> Value {
    let text = String::from_utf8_lossy(line);
    assert!(line.ends_with(b"\r\n"), "no CR LF at the end of {text:?}");
    assert!(line.is_ascii(), "not ASCII: {text}");
    serde_json::from_slice(line).unwrap_or_else(|e| panic!("{e} in {text}"))
}

/// What an answer says.
///
/// # Errors
/// The refusal in it.
///
/// # Panics
/// When it has not the shape of an answer.
pub fn outcome(answer: &Value) -> Result<Value, QmpError> {
    let members = answer.as_object().expect("an object");
    for key in members.keys() {
        assert!(
            ["return", "error", "id"].contains(&key.as_str()),
            "member {key} in {answer}"
        );
    }
    if let Some(value) = members.get("return") {
        return Ok(value.clone());
    }
    let error = answer["error"].as_object().expect("return or error");
    // Some clients decode the members into a map of strings.
    let text = |key: &str| error[key].as_str().expect("a string").to_owned();
    assert_eq!(error.len(), 2, "{answer}");
    Err(QmpError {
        class: text("class"),
        desc: text("desc"),
    })
}

/// Every event has a time, and `data` only where it has something to say.
fn check_event(event: &Value) {
    let time = &event["timestamp"];
    assert!(
        time["seconds"].is_i64() && time["microseconds"].is_i64(),
        "no time in {event}"
    );
    assert!(
        event
            .get("data")
            .is_none_or(|data| data.as_object().is_some_and(|d| !d.is_empty())),
        "empty data in {event}"
    );
}
