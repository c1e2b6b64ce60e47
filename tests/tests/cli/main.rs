//! The command line: what it takes, and what becomes of what it does not take.

mod options;
mod output;
mod process;
mod refusals;
