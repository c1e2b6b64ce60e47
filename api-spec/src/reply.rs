//! How a command is answered: now, later, from any thread, exactly once.

use std::marker::PhantomData;
use std::os::fd::OwnedFd;

use crate::{Encode, QmpError, QmpResult, to_json};

/// Names a monitor for as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MonitorId(pub u32);

/// Who sent a command, and the file descriptors that came with it.
#[derive(Debug)]
pub struct CommandContext {
    /// The monitor.
    pub monitor: MonitorId,
    /// Passed by SCM_RIGHTS with this command, in order.
    pub fds: Vec<OwnedFd>,
}

type Answer = Box<dyn FnOnce(QmpResult<String>) + Send>;

/// Carries the answer of one command back to its session. Dropping it unanswered is an answer too.
#[must_use = "every command must be answered"]
pub struct Responder(Option<Answer>);

impl Responder {
    /// Calls `answer` with the JSON text of the return value, or with the error.
    pub fn new(answer: impl FnOnce(QmpResult<String>) + Send + 'static) -> Self {
        Responder(Some(Box::new(answer)))
    }
    /// Answers.
    pub fn send(mut self, result: QmpResult<String>) {
        if let Some(answer) = self.0.take() {
            answer(result);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(answer) = self.0.take() {
            answer(Err(QmpError::generic("The command was abandoned")));
        }
    }
}

/// The typed answer of a command that is answered later.
#[must_use = "every command must be answered"]
pub struct Reply<T> {
    responder: Responder,
    value: PhantomData<fn(T)>,
}

impl<T: Encode> Reply<T> {
    /// Wraps a responder.
    pub fn new(responder: Responder) -> Self {
        Reply {
            responder,
            value: PhantomData,
        }
    }
    /// Answers with success or failure.
    pub fn send(self, result: QmpResult<T>) {
        self.responder.send(result.map(|value| to_json(&value)));
    }
}

/// What commands without a result return: `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Empty;

impl Encode for Empty {
    fn encode(&self, out: &mut String) {
        out.push_str("{}");
    }
}

/// JSON text that is ready made.
#[derive(Debug, Clone)]
pub struct RawJson(pub std::borrow::Cow<'static, str>);

impl Encode for RawJson {
    fn encode(&self, out: &mut String) {
        out.push_str(&self.0);
    }
}
