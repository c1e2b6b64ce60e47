//! One connection's TLS. It reads and writes through whatever the caller hands in, and never
//! waits.

use std::io::{self, ErrorKind, Read, Write};

use rustls::Connection;

use crate::certificate::Certificate;
use crate::credentials::why_not;
use crate::{AllowLists, Refusal};

/// Encrypted output that may wait for the socket.
const WAITING: usize = 64 << 10;
/// Records taken in one go during the handshake before others have their turn.
const MOST_STEPS: usize = 32;

/// How far the handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The peer is let in.
    Done,
    /// It is the peer's turn.
    Waits,
}

/// TLS on one connection.
pub struct Session {
    connection: Connection,
    list: Option<(AllowLists, String)>,
    identity: Option<String>,
    /// The wire has come to its end, with or without a word.
    ended: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(mut connection: Connection, list: Option<(AllowLists, String)>) -> Self {
        connection.set_buffer_limit(Some(WAITING));
        Session {
            connection,
            list,
            identity: None,
            ended: false,
        }
    }

    /// The distinguished name that the peer's certificate proves, once the handshake is done.
    pub fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    /// Goes on with the handshake, as far as the wire gives and takes.
    ///
    /// # Errors
    /// When the peer left, spoke nonsense, has the wrong certificate or is not on the list. It
    /// was told so, as far as that goes.
    pub fn shake_hands(&mut self, wire: &mut (impl Read + Write)) -> Result<Progress, Refusal> {
        for _ in 0..MOST_STEPS {
            self.send(wire).map_err(|error| lost(&error))?;
            if !self.connection.is_handshaking() {
                // The peer's last word was read; ours may wait for room.
                return self.let_in().map(|()| Progress::Done);
            }
            match self.connection.read_tls(wire) {
                Ok(0) => return Err(Refusal::new("The peer left during the TLS handshake")),
                Ok(_) => {}
                Err(error) if is_later(&error) => return Ok(Progress::Waits),
                Err(error) => return Err(lost(&error)),
            }
            if let Err(error) = self.connection.process_new_packets() {
                // The alert that says what is wrong.
                let _ = self.send(wire);
                return Err(Refusal(format!(
                    "TLS handshake failed: {}",
                    why_not(&error)
                )));
            }
        }
        Err(Refusal::new(
            "TLS handshake failed: it comes in too many pieces",
        ))
    }

    fn let_in(&mut self) -> Result<(), Refusal> {
        let chain = self.connection.peer_certificates().unwrap_or_default();
        let subject = chain.first().and_then(|der| Certificate::read(der));
        self.identity = subject.map(|certificate| certificate.subject);
        let Some((lists, id)) = &self.list else {
            return Ok(());
        };
        match &self.identity {
            Some(identity) => lists.admit(id, identity),
            None => Err(Refusal::new("No certificate was found.")),
        }
    }

    /// Reads what the peer sent: `Ok(0)` at the end, which is not told from a lost connection.
    ///
    /// # Errors
    /// WouldBlock when there is nothing now; InvalidData for what is no TLS; those of the wire.
    pub fn read(&mut self, wire: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The wire ended without a word: to QMP that is all the same.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            if self.ended {
                return Ok(0);
            }
            if self.connection.read_tls(wire)? == 0 {
                self.ended = true;
            }
            if let Err(error) = self.connection.process_new_packets() {
                let _ = self.send(wire);
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
            // Answers of the protocol itself.
            if self.connection.wants_write() {
                self.send(wire)?;
            }
        }
    }

    /// Whether something was taken from the wire that [`Self::read`] gives without looking there.
    pub fn has_input(&mut self) -> bool {
        use io::BufRead;
        // A reader without anything says WouldBlock, unless it is at the end.
        self.connection.reader().fill_buf().is_ok()
    }

    /// Sends, and says how much of it was taken. What was taken may wait here, see
    /// [`Self::wants_output`].
    ///
    /// # Errors
    /// WouldBlock when nothing was taken; those of the wire.
    pub fn write(&mut self, wire: &mut (impl Read + Write), data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        let mut taken = 0usize;
        loop {
            match self.send(wire) {
                Ok(()) => {}
                // It is told with the next write.
                Err(_) if taken > 0 => return Ok(taken),
                Err(error) => return Err(error),
            }
            // The wire is full, then, and the poll tells when it takes more.
            let stuck = self.connection.wants_write();
            let rest = data.get(taken..).unwrap_or_default();
            if stuck || rest.is_empty() {
                break;
            }
            let count = self.connection.writer().write(rest)?;
            taken = taken.saturating_add(count);
            if count == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
        }
        match taken {
            0 => Err(ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }

    /// Sends what waits here, as far as the wire takes it.
    ///
    /// # Errors
    /// Those of the wire, without WouldBlock.
    pub fn send(&mut self, wire: &mut (impl Read + Write)) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(wire) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether output waits here until the wire takes more.
    pub fn wants_output(&self) -> bool {
        self.connection.wants_write()
    }

    /// Says goodbye (close_notify), as far as the wire takes it.
    pub fn close(&mut self, wire: &mut (impl Read + Write)) {
        self.connection.send_close_notify();
        let _ = self.send(wire);
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn lost(error: &io::Error) -> Refusal {
    Refusal(format!(
        "The connection was lost during the TLS handshake: {error}"
    ))
}

#[cfg(test)]
#[path = "session_test.rs"]
mod tests;
