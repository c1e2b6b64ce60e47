//! The command line: what it takes, and what becomes of what it does not take.

mod globals;
mod logs;
mod migratable;
mod options;
mod output;
mod privileges;
mod process;
mod refusals;
mod sandbox;
mod service;
