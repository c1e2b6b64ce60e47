//! Text commands about snapshots of the machine, read into what they ask for.

use super::Verb as All;
use super::table::{Entry, entry};
use super::words::Words;

/// A command about snapshots of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// savevm.
    Save,
    /// loadvm.
    Load,
    /// delvm.
    Delete,
}

/// The commands.
pub(super) static COMMANDS: &[Entry] = &[
    entry(
        "delvm",
        None,
        All::Snapshot(Verb::Delete),
        "tag",
        "forget a snapshot of the machine",
    ),
    entry(
        "loadvm",
        None,
        All::Snapshot(Verb::Load),
        "tag",
        "take the machine back to a snapshot",
    ),
    entry(
        "savevm",
        None,
        All::Snapshot(Verb::Save),
        "[tag]",
        "keep the machine as a snapshot (without a name: the time)",
    ),
];

/// A whole command about snapshots of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotLine {
    /// Keep the machine.
    Save {
        /// The snapshot's name; the time, where there is none.
        tag: Option<String>,
    },
    /// Take it back.
    Load {
        /// The snapshot's name.
        tag: String,
    },
    /// Forget it.
    Delete {
        /// The snapshot's name.
        tag: String,
    },
}

impl SnapshotLine {
    /// Reads the words behind the command.
    ///
    /// # Errors
    /// The text to answer with when they make no sense.
    pub fn read(verb: Verb, mut words: Words) -> Result<Self, String> {
        let line = match verb {
            Verb::Save => SnapshotLine::Save { tag: words.next() },
            Verb::Load => SnapshotLine::Load {
                tag: words.need("string")?,
            },
            Verb::Delete => SnapshotLine::Delete {
                tag: words.need("string")?,
            },
        };
        words.end()?;
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Line, parse};
    use super::*;

    #[test]
    fn lines_are_read() {
        let tag = || "a b".to_owned();
        for (line, expected) in [
            ("savevm", SnapshotLine::Save { tag: None }),
            ("savevm \"a b\"", SnapshotLine::Save { tag: Some(tag()) }),
            ("loadvm \"a b\"", SnapshotLine::Load { tag: tag() }),
            ("delvm \"a b\"", SnapshotLine::Delete { tag: tag() }),
        ] {
            assert_eq!(parse(line), Ok(Line::Snapshot(expected)), "{line}");
        }
        for (line, text) in [
            (
                "loadvm",
                "loadvm: string expected\nTry \"help loadvm\" for more information\n",
            ),
            (
                "delvm",
                "delvm: string expected\nTry \"help delvm\" for more information\n",
            ),
            (
                "savevm a b",
                "savevm: extraneous characters at the end of line\n\
                 Try \"help savevm\" for more information\n",
            ),
        ] {
            assert_eq!(parse(line), Err(text.to_owned()), "{line}");
        }
    }
}
