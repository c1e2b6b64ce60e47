//! Written by api-spec-gen; change `schema/` instead.

mod commands;
mod drivers;
mod tables;
mod types;

pub use commands::*;
pub use drivers::*;
pub use tables::*;
pub use types::*;

/// The answer of query-qmp-schema.
pub static QUERY_QMP_SCHEMA_JSON: &str = include_str!("qmp_schema.json");
