//! The wire of QMP, and nothing else: framing with limits, the session's state machine, a server
//! for any number of monitors, descriptor passing, events with rate limits, and a client.

#![cfg_attr(test, allow(clippy::disallowed_methods))] // tests may start threads

pub mod client;
mod connection;
mod endpoint;
mod events;
pub mod framing;
pub mod server;
pub mod session;
mod strict;
mod sys;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use server::{CommandSink, Endpoint, MonitorOptions, Server, ServerHandle};
