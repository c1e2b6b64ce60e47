//! Limits on bytes and requests per second, with bursts, shared by the members of a group.

mod bucket;
mod config;
mod group;
mod lane;

#[cfg(test)]
mod throttle_test;

pub use config::{Limits, Measure, Rate};
pub(crate) use group::Member;
pub use group::ThrottleGroup;
pub(crate) use lane::{BackendThrottle, Discards, ThrottleGroups, ThrottleQueue, ThrottleSwitch};
