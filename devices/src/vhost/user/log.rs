//! The log of pages that a peer writes: switched by whoever migrates the machine, carried out by
//! the link's thread.

use std::io;
use std::sync::PoisonError;

use super::PATIENCE;
use super::link::{Link, State};
use super::session::Session;
use crate::bus::lock;
use crate::vhost::{DirtyLog, Writer};

const CANNOT_LOG: &str = "the back end cannot log what it writes";

/// The log to mark, and how far the peer is with it.
#[derive(Default)]
pub(super) struct Logging {
    log: Option<DirtyLog>,
    /// Goes up with each change.
    asked: u64,
    /// The change that was carried out last.
    done: u64,
    /// Why the last one failed.
    failed: Option<String>,
}

impl Writer for Link {
    /// Waits until the peer does so, [`PATIENCE`] at most. Without a peer there is nothing to wait
    /// for: the next one begins with the log.
    fn set_log(&self, log: Option<&DirtyLog>) -> io::Result<()> {
        let mut state = lock(&self.state);
        let logging = &state.logging;
        if log.is_none() && logging.log.is_none() && logging.done == logging.asked {
            return Ok(());
        }
        state.logging.log = log.cloned();
        state.logging.asked = state.logging.asked.wrapping_add(1);
        let asked = state.logging.asked;
        // Fails only when the counter is full, and then it is readable anyway.
        let _ = self.wake.write(1);
        let waiting = |state: &mut State| state.is_there() && state.logging.done != asked;
        let waited = self.agreed.wait_timeout_while(state, PATIENCE, waiting);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if waiting(&mut state) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match state.logging.failed.take() {
            Some(why) => Err(io::Error::other(why)),
            None => Ok(()),
        }
    }
}

impl Link {
    /// Has the peer log as is wanted; whether there was something to do.
    ///
    /// # Errors
    /// When the peer is to go.
    pub(super) fn follow_log(&self, session: &mut Session) -> io::Result<bool> {
        let (log, asked) = {
            let logging = &lock(&self.state).logging;
            if session.log_change() == Some(logging.asked) {
                return Ok(false);
            }
            (logging.log.clone(), logging.asked)
        };
        let set = match log.is_some() && !session.can_log() {
            // It came while others log already.
            true if session.log_change().is_none() => {
                return Err(io::Error::other(CANNOT_LOG));
            }
            true => Err(CANNOT_LOG.to_owned()),
            false => {
                session.set_log(log, &self.hurry)?;
                Ok(())
            }
        };
        session.set_log_change(asked);
        let mut state = lock(&self.state);
        state.logging.done = asked;
        state.logging.failed = set.err();
        drop(state);
        self.agreed.notify_all();
        Ok(true)
    }
}
