//! The commands by area: one method each, as short as can be. What they do is in the parts of
//! [`Control`](super::Control).

mod block;
mod chardev;
mod chardev_text;
mod control;
mod disk_text;
mod dump;
mod graph;
mod guest_text;
mod info;
mod jobs;
mod logs;
mod machine;
mod media;
mod migration;
mod migration_text;
mod net;
mod net_text;
mod objects;
mod qom;
mod run_state;
mod text;

use api_spec::reply::Empty;
use api_spec::{QmpError, QmpResult, Reply};

pub(super) use disk_text::human;
pub use info::version;

/// Empty answer of a command that worked.
const DONE: QmpResult<Empty> = Ok(Empty);

/// Nothing, as commands without a result answer.
pub(in crate::control) fn empty(result: QmpResult<()>) -> QmpResult<Empty> {
    result.map(|()| Empty)
}

/// Answers with nothing, or with what went wrong.
fn answer(reply: Reply<Empty>) -> super::Waiter {
    Box::new(move |result| reply.send(result.map(|()| Empty)))
}

fn refused(error: impl std::fmt::Display) -> QmpError {
    QmpError::generic(error.to_string())
}
