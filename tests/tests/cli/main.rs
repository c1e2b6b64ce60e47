//! The command line: what it takes, and what becomes of what it does not take.

mod globals;
mod options;
mod output;
mod process;
mod refusals;
