//! Questions from the thread of a migration to control. Whoever asks waits; an answer that is
//! never given ends the wait as well.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use devices::bus::lock;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::wait;
use crate::control::Control;
use crate::event::{Mail, MailSender};
use crate::migration::host::{Broken, Cancel};

struct Place<T> {
    /// A leaf.
    answer: Mutex<Option<T>>,
    given: EventFd,
}

/// Where the answer goes. Dropping it tells that there is none.
pub(super) struct Answer<T>(Arc<Place<T>>);

impl<T> Answer<T> {
    /// Answers.
    pub fn give(self, answer: T) {
        *lock(&self.0.answer) = Some(answer);
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        // Full is as good as set.
        let _ = self.0.given.write(1);
    }
}

/// The way to control, from the thread of one migration.
#[derive(Clone)]
pub(super) struct Line {
    mail: MailSender,
    /// The program ends: nobody answers any more.
    gone: Cancel,
}

impl Line {
    /// A way that is cut by `gone`.
    pub fn new(mail: MailSender, gone: Cancel) -> Self {
        Line { mail, gone }
    }

    /// Has control do something, in order with everything else.
    pub fn tell(&self, what: impl FnOnce(&mut Control) + Send + 'static) {
        self.mail.send(Mail::Done(Box::new(what)));
    }

    /// Asks control and waits for the answer.
    ///
    /// # Errors
    /// When the program ends meanwhile.
    pub fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Control, Answer<T>) + Send + 'static,
    ) -> Result<T, Broken> {
        let place = Arc::new(place().map_err(wait::failed("Cannot ask"))?);
        let answer = Answer(place.clone());
        self.tell(move |control| what(control, answer));
        let given = Given(place.given.as_raw_fd());
        wait::ready(&given, libc::POLLIN, None, &self.gone)?;
        let answer = lock(&place.answer).take();
        answer.ok_or_else(|| Broken::Failed("The program does not answer".to_owned()))
    }
}

struct Given(i32);

impl AsRawFd for Given {
    fn as_raw_fd(&self) -> i32 {
        self.0
    }
}

fn place<T>() -> io::Result<Place<T>> {
    Ok(Place {
        answer: Mutex::new(None),
        given: EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use super::*;
    use crate::event::Mailbox;

    #[test]
    fn who_is_not_answered_does_not_wait() {
        let mailbox = Mailbox::new().unwrap();
        let gone = Cancel::new().unwrap();
        let line = Line::new(mailbox.sender(), gone.clone());
        std::thread::scope(|scope| {
            let asks = scope.spawn(|| line.ask(|_, answer: Answer<u32>| answer.give(3)));
            let mut mail = VecDeque::new();
            while mail.is_empty() {
                std::thread::sleep(Duration::from_millis(1));
                mailbox.take(&mut mail);
            }
            // Thrown away unopened, as behind the end.
            drop(mail);
            assert!(matches!(asks.join().unwrap(), Err(Broken::Failed(_))));
            let asks = scope.spawn(|| line.ask(|_, answer: Answer<u32>| answer.give(3)));
            gone.cancel();
            assert_eq!(asks.join().unwrap(), Err(Broken::Cancelled));
        });
    }

    #[test]
    fn answers_arrive() {
        let place = Arc::new(place::<u32>().unwrap());
        Answer(place.clone()).give(7);
        assert_eq!(lock(&place.answer).take(), Some(7));
        assert_eq!(place.given.read().unwrap(), 1);
    }
}
