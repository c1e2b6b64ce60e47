//! The command line: QEMU's options, each decoded into the same types as its QMP command.

pub mod args;
pub mod chardev;
mod config;
mod confine;
pub mod decode;
pub mod help;
mod later;
pub mod migration;
pub mod net;
pub mod opts;
pub mod order;
pub mod plan;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use api_spec::OPTIONS;

use args::{CliError, Shape, scan};
use plan::Plan;

use crate::logging;

pub use order::Order;

/// What the command line asks for.
pub enum Request {
    /// This text, and nothing else.
    Print(String),
    /// A running program.
    Run(Box<Order>),
}

/// Reads the words behind the program's name, and the files of options among them. Nothing else
/// of the host is touched, so that a mistake in the last option is found before the first one has
/// any effect. Only `-msg` counts at once: messages look as it says from there on.
///
/// # Errors
/// What is wrong, with the option to blame.
pub fn parse(words: &[String]) -> Result<Request, CliError> {
    let mut args = Vec::new();
    for arg in scan(words, shape)? {
        match arg.name {
            "config" => args.extend(config::read(&arg, shape)?),
            _ => args.push(arg),
        }
    }
    let mut plan = Plan::default();
    for arg in args {
        if let Some(text) = help::asked_for(&arg) {
            return Ok(Request::Print(text));
        }
        decode::take(&mut plan, arg)?;
        logging::set_timestamp(plan.process.timestamp);
    }
    if let (true, Some(guest)) = (plan.process.log_guest_name, &plan.identity.guest) {
        logging::set_guest_name(guest);
    }
    Ok(Request::Run(Box::new(Order::check(plan)?)))
}

/// Looks an option up, under its second names too.
fn shape(name: &str) -> Option<Shape> {
    let canonical = match name {
        "M" => "machine",
        "h" => "help",
        other => other,
    };
    let info = OPTIONS.iter().find(|info| info.name == canonical)?;
    Some(Shape {
        name: info.name,
        takes_value: info.has_arg,
    })
}

#[cfg(test)]
#[path = "cli_test.rs"]
mod tests;
