//! Text commands about character devices, read into what they ask for.

use api_spec::{ChardevAddArgs, ChardevBackend, Decode, Mode, QmpError, Value, decode_value};

use super::Verb as All;
use super::table::{Entry, entry};
use super::words::Words;
use crate::cli::chardev;

/// A command about character devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// chardev-add.
    Add,
    /// chardev-change.
    Change,
    /// chardev-remove.
    Remove,
    /// chardev-send-break.
    SendBreak,
}

/// The commands.
pub(super) static COMMANDS: &[Entry] = &[
    entry(
        "chardev-add",
        None,
        All::Chardev(Verb::Add),
        "args",
        "make a character device",
    ),
    entry(
        "chardev-change",
        None,
        All::Chardev(Verb::Change),
        "id args",
        "give a character device another host side",
    ),
    entry(
        "chardev-remove",
        None,
        All::Chardev(Verb::Remove),
        "id",
        "remove a character device",
    ),
    entry(
        "chardev-send-break",
        None,
        All::Chardev(Verb::SendBreak),
        "id",
        "send a break to a character device",
    ),
];

/// A whole command about character devices.
#[derive(Debug, Clone, PartialEq)]
pub enum ChardevLine {
    /// Make one.
    Add(ChardevAddArgs),
    /// Give one another host side.
    Change(String, ChardevBackend),
    /// Remove one.
    Remove(String),
    /// Hold its line for a moment.
    SendBreak(String),
}

impl ChardevLine {
    /// Reads the words behind the command.
    ///
    /// # Errors
    /// The text to answer with when they make no sense.
    pub fn read(verb: Verb, mut words: Words) -> Result<Self, String> {
        let first = words.need("string")?;
        let line = match verb {
            Verb::Add => {
                words.end()?;
                let options = chardev::chardev(&first).map_err(wrong)?;
                ChardevLine::Add(decode(Value::Object(options))?)
            }
            Verb::Change => {
                let options = words.need("string")?;
                words.end()?;
                let backend = chardev::without_id(&options).map_err(wrong)?;
                ChardevLine::Change(first, decode(backend)?)
            }
            Verb::Remove => ChardevLine::Remove(first),
            Verb::SendBreak => ChardevLine::SendBreak(first),
        };
        words.end()?;
        Ok(line)
    }
}

fn decode<T: Decode>(value: Value) -> Result<T, String> {
    decode_value(value, Mode::Strict).map_err(|error: QmpError| wrong(error.desc))
}

fn wrong(text: String) -> String {
    format!("Error: {text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::hmp::{Line, parse};

    #[test]
    fn lines_are_read() {
        let read = |line: &str| match parse(line) {
            Ok(Line::Chardev(line)) => line,
            other => panic!("{line}: {other:?}"),
        };
        assert!(matches!(read("chardev-add null,id=a"), ChardevLine::Add(args) if args.id == "a"));
        let changed = read("chardev-change a socket,path=/x,server=on,wait=off");
        assert!(matches!(changed, ChardevLine::Change(id, _) if id == "a"));
        assert_eq!(read("chardev-remove a"), ChardevLine::Remove("a".into()));
        assert_eq!(
            read("chardev-send-break a"),
            ChardevLine::SendBreak("a".into())
        );
    }

    #[test]
    fn what_is_wrong_is_told() {
        let hint = |command: &str| format!("Try \"help {command}\" for more information\n");
        for (line, text) in [
            (
                "chardev-add null",
                "Error: chardev: no id specified\n".to_owned(),
            ),
            (
                "chardev-add foo,id=z",
                "Error: 'foo' is not a valid char driver name\n".into(),
            ),
            (
                "chardev-change a null,id=q",
                "Error: Unexpected 'id' parameter\n".into(),
            ),
            (
                "chardev-change a",
                format!(
                    "chardev-change: string expected\n{}",
                    hint("chardev-change")
                ),
            ),
            (
                "chardev-remove",
                format!(
                    "chardev-remove: string expected\n{}",
                    hint("chardev-remove")
                ),
            ),
            (
                "chardev-change p null extra",
                format!(
                    "chardev-change: extraneous characters at the end of line\n{}",
                    hint("chardev-change")
                ),
            ),
        ] {
            assert_eq!(parse(line).unwrap_err(), text, "{line}");
        }
    }
}
