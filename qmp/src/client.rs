//! A small blocking client, for tests and tools.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use api_spec::Value;
use serde_json::json;

use crate::framing::{Frame, Splitter};
use descriptors::Wait;

/// A connection to a QMP server, past negotiation.
#[derive(Debug)]
pub struct Client {
    fd: OwnedFd,
    splitter: Splitter,
    frames: Vec<Frame>,
    events: VecDeque<Value>,
    greeting: Value,
    next_id: u64,
    timeout: Duration,
}

/// Why a call failed.
#[derive(Debug)]
pub enum ClientError {
    /// The connection failed, or the time was over.
    Io(io::Error),
    /// The server refused: class and description.
    Refused(String, String),
    /// The server broke the protocol.
    Protocol(String),
}

/// What came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// The server said something, or hung up.
    Message,
    /// The other descriptor can be read, or ended.
    Other,
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClientError::Io(e) => write!(f, "{e}"),
            ClientError::Refused(class, desc) => write!(f, "{class}: {desc}"),
            ClientError::Protocol(text) => write!(f, "Protocol error: {text}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        ClientError::Io(error)
    }
}

impl Client {
    /// Connects to a path, or to `HOST:PORT` where no such file is, and negotiates.
    ///
    /// # Errors
    /// When nobody listens or the server does not greet.
    pub fn connect(address: &str) -> Result<Self, ClientError> {
        let fd = match UnixStream::connect(Path::new(address)) {
            Ok(stream) => OwnedFd::from(stream),
            Err(e) if address.contains(':') && !address.starts_with('/') => {
                OwnedFd::from(TcpStream::connect(address).map_err(|_| e)?)
            }
            Err(e) => return Err(e.into()),
        };
        Self::over(fd)
    }

    /// Negotiates over a socket.
    ///
    /// # Errors
    /// When the server does not greet.
    pub fn over(fd: OwnedFd) -> Result<Self, ClientError> {
        let mut client = Client {
            fd,
            splitter: Splitter::default(),
            frames: Vec::new(),
            events: VecDeque::new(),
            greeting: Value::Null,
            next_id: 1,
            timeout: Duration::from_secs(60),
        };
        client.greeting = client.message(Instant::now() + client.timeout)?;
        if client.greeting.get("QMP").is_none() {
            return Err(ClientError::Protocol(format!(
                "no greeting but {}",
                client.greeting
            )));
        }
        client.execute("qmp_capabilities", None)?;
        Ok(client)
    }

    /// What the server said first.
    pub fn greeting(&self) -> &Value {
        &self.greeting
    }

    /// How long calls wait.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Runs a command.
    ///
    /// # Errors
    /// When the server refuses, the connection fails or the time is over.
    pub fn execute(&mut self, name: &str, arguments: Option<Value>) -> Result<Value, ClientError> {
        self.execute_with_fds(name, arguments, &[])
    }

    /// Runs a command with descriptors passed along.
    ///
    /// # Errors
    /// As [`Client::execute`].
    pub fn execute_with_fds(
        &mut self,
        name: &str,
        arguments: Option<Value>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Value, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        let mut request = json!({"execute": name, "id": id});
        if let Some(arguments) = arguments {
            request["arguments"] = arguments;
        }
        self.write(request.to_string().as_bytes(), fds)?;
        let deadline = Instant::now() + self.timeout;
        loop {
            let mut message = self.message(deadline)?;
            if message.get("event").is_some() {
                self.events.push_back(message);
            } else if message.get("id") != Some(&json!(id)) {
                return Err(ClientError::Protocol(format!(
                    "unexpected answer {message}"
                )));
            } else if let Some(error) = message.get("error") {
                let text = |key| {
                    error
                        .get(key)
                        .and_then(Value::as_str)
                        .unwrap_or("")
                        .to_string()
                };
                return Err(ClientError::Refused(text("class"), text("desc")));
            } else {
                return Ok(message["return"].take());
            }
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn write(&mut self, mut data: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        let mut fds = fds;
        while !data.is_empty() {
            let n = descriptors::send(&self.fd, data, fds, Wait::Yes)?;
            data = data.get(n..).unwrap_or_default();
            fds = &[];
        }
        Ok(())
    }

    /// The next event, kept or new.
    ///
    /// # Errors
    /// When the time is over or the connection ended.
    pub fn event(&mut self, timeout: Duration) -> Result<Value, ClientError> {
        match self.events.pop_front() {
            Some(event) => Ok(event),
            None => self.message(Instant::now() + timeout),
        }
    }

    /// Waits for an event of that name; others before it are dropped.
    ///
    /// # Errors
    /// When the time is over or the connection ended.
    pub fn wait_event(&mut self, name: &str, timeout: Duration) -> Result<Value, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            let event = self.event(deadline.saturating_duration_since(Instant::now()))?;
            if event["event"] == name {
                return Ok(event);
            }
        }
    }

    /// The next message as it comes: answer or event.
    ///
    /// # Errors
    /// When the time is over or the connection ended.
    pub fn message(&mut self, deadline: Instant) -> Result<Value, ClientError> {
        let mut buffer = [0u8; 16 << 10];
        loop {
            if !self.frames.is_empty() {
                return match self.frames.remove(0) {
                    Frame::Value(value) => Ok(value),
                    Frame::Error(text) => Err(ClientError::Protocol(text)),
                };
            }
            self.wait_readable(deadline)?;
            match descriptors::read(self.fd.as_raw_fd(), &mut buffer) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(n) => self
                    .splitter
                    .feed(buffer.get(..n).unwrap_or_default(), &mut self.frames),
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The events that were kept while calls waited for their answers.
    pub fn take_events(&mut self) -> Vec<Value> {
        self.events.drain(..).collect()
    }

    /// Waits until the server says something or `other` can be read.
    ///
    /// # Errors
    /// When poll fails.
    pub fn wait_with(&self, other: BorrowedFd<'_>) -> Result<Ready, ClientError> {
        if !self.events.is_empty() || !self.frames.is_empty() {
            return Ok(Ready::Message);
        }
        let mut polls = [readable(self.fd.as_raw_fd()), readable(other.as_raw_fd())];
        loop {
            poll(&mut polls, -1)?;
            match polls.map(|poll| poll.revents != 0) {
                [true, _] => return Ok(Ready::Message),
                [_, true] => return Ok(Ready::Other),
                _ => {}
            }
        }
    }

    fn wait_readable(&self, deadline: Instant) -> Result<(), ClientError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let ms = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        let mut polls = [readable(self.fd.as_raw_fd())];
        match poll(&mut polls, ms)? {
            Some(0) => Err(io::Error::from(ErrorKind::TimedOut).into()),
            _ => Ok(()),
        }
    }
}

fn readable(fd: RawFd) -> libc::pollfd {
    libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }
}

/// How many are ready; None when a signal came in between.
#[allow(unsafe_code)] // poll
fn poll(polls: &mut [libc::pollfd], ms: i32) -> io::Result<Option<i32>> {
    let count = libc::nfds_t::try_from(polls.len()).map_err(io::Error::other)?;
    // SAFETY: `polls` is a live slice of `count` entries.
    match unsafe { libc::poll(polls.as_mut_ptr(), count, ms) } {
        n if n >= 0 => Ok(Some(n)),
        _ => match io::Error::last_os_error() {
            error if error.kind() == ErrorKind::Interrupted => Ok(None),
            error => Err(error),
        },
    }
}
