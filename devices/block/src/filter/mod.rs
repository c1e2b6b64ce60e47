//! Filters: nodes over one node, with the same bytes.

mod blkdebug;
mod blocking;
mod copy_on_read;
mod throttle;

pub(crate) use blkdebug::BlkdebugNode;
pub use blkdebug::{BlkdebugSpec, Event, InjectError, IoType, SetState};
pub(crate) use copy_on_read::CopyOnReadNode;
pub(crate) use throttle::ThrottleNode;
