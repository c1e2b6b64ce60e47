//! Text commands about what the guest has and does, read into what they ask for.

use api_spec::{Mode, WatchdogAction};

use super::Verb as All;
use super::table::{Entry, entry};
use super::words::Words;
use crate::cli::opts::c_number;

/// A command about the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// balloon.
    Balloon,
    /// watchdog_action.
    Watchdog,
}

/// The commands.
pub(super) static COMMANDS: &[Entry] = &[
    entry(
        "balloon",
        None,
        All::Guest(Verb::Balloon),
        "target",
        "ask the guest to keep so much memory (MiB)",
    ),
    entry(
        "watchdog_action",
        None,
        All::Guest(Verb::Watchdog),
        "[reset|shutdown|poweroff|pause|debug|none|inject-nmi]",
        "say what an expired watchdog does",
    ),
];

/// A whole command about the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestLine {
    /// Ask it to keep so many bytes of memory.
    Balloon {
        /// Bytes.
        value: i64,
    },
    /// Choose what an expired watchdog does.
    Watchdog(WatchdogAction),
}

impl GuestLine {
    /// Reads the words behind the command.
    ///
    /// # Errors
    /// The text to answer with when they make no sense.
    pub fn read(verb: Verb, mut words: Words) -> Result<Self, String> {
        let line = match verb {
            Verb::Balloon => GuestLine::Balloon {
                value: mebibytes(&mut words)?,
            },
            Verb::Watchdog => GuestLine::Watchdog(action(&mut words)?),
        };
        words.end()?;
        Ok(line)
    }
}

fn action(words: &mut Words) -> Result<WatchdogAction, String> {
    let name = words.need("string")?;
    let decoded = api_spec::decode_value(name.to_ascii_lowercase().into(), Mode::Strict);
    decoded.map_err(|_| format!("Error: invalid parameter value: {name}\n"))
}

/// A number of MiB, as bytes; what does not fit is as much as can be.
fn mebibytes(words: &mut Words) -> Result<i64, String> {
    let word = words.next().unwrap_or_default();
    let digits = word.strip_prefix('-').unwrap_or(&word);
    if digits.is_empty() {
        return Err(words.with_help("unexpected end of expression".into()));
    }
    let Some(number) = c_number(digits) else {
        let bad = digits.chars().find(|c| !c.is_ascii_digit()).unwrap_or('0');
        return Err(words.with_help(format!("invalid char '{bad}' in expression")));
    };
    let bytes = i64::try_from(number)
        .unwrap_or(i64::MAX)
        .saturating_mul(1 << 20);
    Ok(if digits.len() == word.len() {
        bytes
    } else {
        bytes.saturating_neg()
    })
}
