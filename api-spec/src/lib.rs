//! The interface as data: every command, event, type, driver, object and option of the program,
//! generated from `schema/*.json`, with the decoding and encoding they share.

pub mod decode;
pub mod encode;
pub mod error;
mod generated;
pub mod globals;
pub mod keyval;
pub mod reply;
pub mod tables;

pub use decode::{Decode, Mode, decode_value};
pub use encode::{Encode, to_json};
pub use error::{ErrorClass, QmpError, QmpResult};
pub use generated::*;
pub use reply::{CommandContext, MonitorId, Reply, Responder};
pub use tables::{CommandInfo, DriverInfo, Example, OptionInfo, PropertyInfo, RateLimit};

/// A JSON value.
pub type Value = serde_json::Value;
/// A JSON object; members keep their order.
pub type Object = serde_json::Map<String, Value>;

#[cfg(test)]
#[path = "lib_test.rs"]
mod tests;
