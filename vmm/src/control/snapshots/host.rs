//! What a thread that works on a snapshot asks of control. It waits for control, which waits for
//! it at the end of the program only, and tells it so before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use api_spec::{QmpResult, RunState};

use crate::control::Control;
use crate::control::life::{Input, Release};
use crate::event::{Mail, MailSender};

/// How often a thread that waits looks whether the program ends.
const LOOK: Duration = Duration::from_millis(20);

/// Whether the program ends. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct End(Arc<AtomicBool>);

impl End {
    /// Nobody is answered any more.
    pub fn come(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_here(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Control, as such a thread has it.
pub struct Host {
    mail: MailSender,
    end: End,
}

impl Host {
    pub fn new(mail: MailSender, end: End) -> Self {
        Host { mail, end }
    }

    /// Where threads put what control has to see to.
    pub fn mail(&self) -> MailSender {
        self.mail.clone()
    }

    /// Whether there is no use in going on.
    pub fn is_over(&self) -> bool {
        self.end.is_here()
    }

    /// Has control do something, and waits for what comes of it.
    ///
    /// # Errors
    /// When the program ends.
    pub fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Control) -> T + Send + 'static,
    ) -> Result<T, String> {
        self.ask_later(move |control, answer| {
            // Nobody waits at the end of the program.
            let _ = answer.send(act(control));
        })
    }

    fn ask_later<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Control, Sender<T>) + Send + 'static,
    ) -> Result<T, String> {
        let (sender, receiver) = channel();
        let ask = move |control: &mut Control| act(control, sender);
        self.mail.send(Mail::Done(Box::new(ask)));
        self.wait(&receiver)
    }

    fn wait<T>(&self, receiver: &Receiver<T>) -> Result<T, String> {
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) if !self.is_over() => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err("The program ends".to_owned());
                }
            }
        }
    }

    /// Has the machine stand still: no processor runs, queues are back, disks are flushed.
    ///
    /// # Errors
    /// When it is held already, or the program ends.
    pub fn hold(&self, state: RunState) -> Result<Held<'_>, String> {
        let (before, held) = self.ask_later(move |control, answer: Sender<_>| {
            let before = control.life.state();
            let ticket = control.ticket(Box::new(move |result: QmpResult<()>| {
                let _ = answer.send((before, result));
            }));
            control.feed(Input::Hold(state, ticket));
        })?;
        held.map_err(|error| error.desc)?;
        Ok(Held {
            host: self,
            before,
            release: Release::Back,
        })
    }
}

/// A machine that stands still until this is dropped.
#[must_use = "it goes on when this is dropped"]
pub struct Held<'a> {
    host: &'a Host,
    before: RunState,
    release: Release,
}

impl Held<'_> {
    /// What it did before.
    pub fn before(&self) -> RunState {
        self.before
    }

    /// How it goes on; as before, unless this says otherwise.
    pub fn set_release(&mut self, release: Release) {
        self.release = release;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let release = self.release;
        let go_on = move |control: &mut Control| control.feed(Input::Release(release));
        self.host.mail.send(Mail::Done(Box::new(go_on)));
    }
}
