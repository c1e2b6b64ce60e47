//! A serial console, read until something is there.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::{seconds, sys};

/// One end of a console.
#[derive(Debug)]
pub struct Serial {
    stream: UnixStream,
    seen: String,
    from: usize,
    limit: Duration,
    commands: u32,
}

impl Serial {
    /// Connects to a listening character device.
    ///
    /// # Panics
    /// When nobody listens there.
    pub fn connect(path: &Path) -> Self {
        Self::over(UnixStream::connect(path).expect("the console listens"))
    }

    /// Reads and writes this socket.
    pub fn over(stream: UnixStream) -> Self {
        Serial {
            stream,
            seen: String::new(),
            from: 0,
            limit: seconds(120),
            commands: 0,
        }
    }

    /// Another limit for each wait.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Everything that came so far.
    pub fn seen(&self) -> &str {
        &self.seen
    }

    /// Waits for `text` behind what was expected before; returns what came before it.
    ///
    /// # Panics
    /// When it does not come in time; tells what came instead.
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + self.limit;
        loop {
            if let Some(at) = self.seen[self.from..].find(text) {
                let before = self.seen[self.from..self.from + at].to_owned();
                self.from += at + text.len();
                return before;
            }
            assert!(
                self.more(end),
                "no {text:?} on the console, but:\n{}",
                self.seen
            );
        }
    }

    /// Whether `text` comes within `limit`.
    pub fn comes(&mut self, text: &str, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            if let Some(at) = self.seen[self.from..].find(text) {
                self.from += at + text.len();
                return true;
            }
            if !self.more(end) {
                return false;
            }
        }
    }

    /// Reads to the end of the stream.
    pub fn rest(&mut self) -> &str {
        let end = Instant::now() + self.limit;
        while self.more(end) {}
        &self.seen[self.from..]
    }

    /// Writes bytes.
    ///
    /// # Panics
    /// When the other end is gone.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream
            .write_all(bytes)
            .expect("the console takes bytes");
    }

    /// Runs a line in the guest's shell; returns what it printed.
    ///
    /// # Panics
    /// When it fails or takes too long.
    pub fn run(&mut self, line: &str) -> String {
        let (output, status) = self.try_run(line);
        assert_eq!(status, "0", "{line:?} printed {output:?}");
        output
    }

    /// The same, with its exit status.
    pub fn try_run(&mut self, line: &str) -> (String, String) {
        self.commands += 1;
        let mark = format!("done-{}", self.commands);
        // Quotes part the words, so that the echo of the line is not taken for its end.
        self.send(format!("echo be''gin; {line}; echo \"{mark}\"\"=$?=\"\n").as_bytes());
        self.expect("begin\r\n");
        let output = self.expect(&format!("{mark}="));
        let status = self.expect("=");
        (output.replace('\r', "").trim_end().to_owned(), status)
    }

    fn more(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || !sys::wait_readable(self.stream.as_fd(), left) {
            return false;
        }
        let mut bytes = [0; 16384];
        match self.stream.read(&mut bytes) {
            Ok(n @ 1..) => {
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
                true
            }
            _ => false,
        }
    }
}
