//! Text commands about logs and trace points, read into what they ask for.

use super::Verb as All;
use super::table::{Entry, entry};
use super::words::Words;
use crate::logging::items::{self, Items};

/// A command about logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// log.
    Log,
    /// logfile.
    LogFile,
    /// trace-event.
    TraceEvent,
}

/// The commands.
pub(super) static COMMANDS: &[Entry] = &[
    entry(
        "log",
        Some("logitem"),
        All::Log(Verb::Log),
        "item1[,...]",
        "log these items, and no others (help: what there is; none: as little as at first)",
    ),
    entry(
        "logfile",
        None,
        All::Log(Verb::LogFile),
        "filename",
        "log there; the same name again: another file, after a rotation",
    ),
    entry(
        "trace-event",
        None,
        All::Log(Verb::TraceEvent),
        "name on|off [vcpu]",
        "let trace points speak or not",
    ),
];

/// A whole command about logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogLine {
    /// Log so much.
    Items(Items),
    /// Log as little as at first.
    Nothing,
    /// Which items there are.
    Help,
    /// Log there.
    File(String),
    /// Switch trace points.
    TraceEvent {
        /// A name or a pattern.
        name: String,
        /// Let them speak.
        on: bool,
    },
}

impl LogLine {
    /// Reads the words behind the command.
    ///
    /// # Errors
    /// The text to answer with when they make no sense.
    pub fn read(verb: Verb, mut words: Words) -> Result<Self, String> {
        let line = match verb {
            Verb::Log => {
                let text = words.need("string")?;
                words.end()?;
                match text.as_str() {
                    "none" => LogLine::Nothing,
                    "help" | "?" => LogLine::Help,
                    // As QEMU does: what there is, whatever was wrong.
                    _ => LogLine::Items(Items::read(&text).map_err(|_| help())?),
                }
            }
            Verb::LogFile => LogLine::File(words.need("filename")?),
            Verb::TraceEvent => {
                let name = words.need("string")?;
                let on = match words.next().as_deref() {
                    Some("on") => true,
                    Some("off") => false,
                    _ => return Err(words.with_help("Expected 'on' or 'off'".into())),
                };
                // There is no point of one processor.
                words.next();
                LogLine::TraceEvent { name, on }
            }
        };
        words.end()?;
        Ok(line)
    }
}

/// The text of `log help`.
pub fn help() -> String {
    let all = items::help();
    let (head, rest) = all.split_once('\n').unwrap_or((&all, ""));
    format!("{head}\n{:<15} remove all logs\n{rest}", "none")
}

#[cfg(test)]
mod tests {
    use super::super::{Line, parse};
    use super::*;

    #[test]
    fn lines_are_read() {
        for (line, expected) in [
            ("log none", Ok(LogLine::Nothing)),
            ("logitem help", Ok(LogLine::Help)),
            (
                "log info,guest_errors",
                Ok(LogLine::Items(Items::read("info,guest_errors").unwrap())),
            ),
            ("logfile /tmp/x", Ok(LogLine::File("/tmp/x".into()))),
            (
                "trace-event virtio_* off",
                Ok(LogLine::TraceEvent {
                    name: "virtio_*".into(),
                    on: false,
                }),
            ),
            (
                "log",
                Err("log: string expected\nTry \"help log\" for more information\n".into()),
            ),
            ("log foo", Err(help())),
            (
                "log info x",
                Err("log: extraneous characters at the end of line\n\
                     Try \"help log\" for more information\n"
                    .into()),
            ),
            (
                "trace-event virtio_notify xx",
                Err("Expected 'on' or 'off'\n\
                     Try \"help trace-event\" for more information\n"
                    .into()),
            ),
        ] {
            assert_eq!(parse(line), expected.map(Line::Log), "{line}");
        }
    }
}
