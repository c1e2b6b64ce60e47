//! Text commands about disks, read into what they ask for.

use api_spec::BlockdevChangeReadOnlyMode;

use super::words::Words;

/// A command about disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// change.
    Change,
    /// drive_add.
    DriveAdd,
    /// drive_del.
    DriveDel,
    /// eject.
    Eject,
}

/// A whole command about disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskLine {
    /// Put another medium in.
    Change {
        /// The drive.
        device: String,
        /// The file.
        file: String,
        /// Its format.
        format: Option<String>,
        /// Whether it can be written.
        mode: BlockdevChangeReadOnlyMode,
        /// A lock does not count.
        force: bool,
    },
    /// Make a drive, or a node.
    DriveAdd {
        /// As `-drive` or `-blockdev` have it.
        options: String,
        /// It is a node.
        node: bool,
    },
    /// Take a drive away.
    DriveDel {
        /// Which.
        id: String,
    },
    /// Take the medium out.
    Eject {
        /// The drive.
        device: String,
        /// A lock does not count.
        force: bool,
    },
}

/// What `info block` is to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockQuery {
    /// All nodes rather than devices.
    pub nodes: bool,
    /// And of images what is known.
    pub verbose: bool,
    /// One of them only.
    pub only: Option<String>,
}

impl BlockQuery {
    /// # Errors
    /// The text about what is wrong.
    pub fn read(mut words: Words) -> Result<Self, String> {
        let switches = words.switches("nv")?;
        let query = BlockQuery {
            nodes: switches.contains('n'),
            verbose: switches.contains('v'),
            only: words.next(),
        };
        words.end().map(|()| query)
    }
}

const DEVICE: &str = "block device name";

impl DiskLine {
    /// # Errors
    /// The text about what is wrong.
    pub fn read(verb: Verb, mut words: Words) -> Result<Self, String> {
        let line = match verb {
            Verb::Change => {
                let force = !words.switches("f")?.is_empty();
                DiskLine::Change {
                    device: words.need(DEVICE)?,
                    file: words.need("filename")?,
                    format: words.next(),
                    mode: mode(words.next())?,
                    force,
                }
            }
            Verb::DriveAdd => {
                let node = !words.switches("n")?.is_empty();
                // Where it would be plugged, of which nothing is left in QEMU either.
                words.need("string")?;
                DiskLine::DriveAdd {
                    options: words.need("string")?,
                    node,
                }
            }
            Verb::DriveDel => DiskLine::DriveDel {
                id: words.need(DEVICE)?,
            },
            Verb::Eject => {
                let force = !words.switches("f")?.is_empty();
                DiskLine::Eject {
                    device: words.need(DEVICE)?,
                    force,
                }
            }
        };
        words.end().map(|()| line)
    }
}

fn mode(word: Option<String>) -> Result<BlockdevChangeReadOnlyMode, String> {
    let Some(word) = word else {
        return Ok(BlockdevChangeReadOnlyMode::Retain);
    };
    let mut modes = BlockdevChangeReadOnlyMode::ALL.iter();
    let found = modes.find(|mode| mode.name() == word);
    found.copied().ok_or_else(|| {
        format!("Error: Parameter 'read-only-mode' does not accept value '{word}'\n")
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Line, parse};
    use super::*;

    fn disk(line: &str) -> Result<DiskLine, String> {
        match parse(line)? {
            Line::Disk(line) => Ok(line),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_are_read() {
        let text = str::to_owned;
        for (line, wanted) in [
            (
                "eject -f ide0",
                DiskLine::Eject {
                    device: text("ide0"),
                    force: true,
                },
            ),
            (
                "change cd \"a b.iso\"",
                DiskLine::Change {
                    device: text("cd"),
                    file: text("a b.iso"),
                    format: None,
                    mode: BlockdevChangeReadOnlyMode::Retain,
                    force: false,
                },
            ),
            (
                "change -f cd a.iso raw read-only",
                DiskLine::Change {
                    device: text("cd"),
                    file: text("a.iso"),
                    format: Some(text("raw")),
                    mode: BlockdevChangeReadOnlyMode::ReadOnly,
                    force: true,
                },
            ),
            (
                "drive_add 0 file=a,if=none",
                DiskLine::DriveAdd {
                    options: text("file=a,if=none"),
                    node: false,
                },
            ),
            (
                "drive_add -n 0:0 driver=null-co",
                DiskLine::DriveAdd {
                    options: text("driver=null-co"),
                    node: true,
                },
            ),
            ("drive_del x", DiskLine::DriveDel { id: text("x") }),
        ] {
            assert_eq!(disk(line), Ok(wanted), "{line}");
        }
        assert_eq!(
            parse("info block -nv x"),
            Ok(Line::InfoBlock(BlockQuery {
                nodes: true,
                verbose: true,
                only: Some(text("x")),
            }))
        );
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (line, message) in [
            ("eject", "eject: block device name expected"),
            ("eject -x a", "eject: unsupported option -x"),
            (
                "eject a b",
                "eject: extraneous characters at the end of line",
            ),
            ("change a", "change: filename expected"),
            ("drive_add 0", "drive_add: string expected"),
            ("drive_del", "drive_del: block device name expected"),
            (
                "info block a b",
                "info block: extraneous characters at the end of line",
            ),
            ("info block -x", "info block: unsupported option -x"),
        ] {
            let text = parse(line).unwrap_err();
            let command = line.trim_end_matches(|c: char| c != ' ').trim();
            assert!(text.starts_with(message), "{command}: {text}");
            assert!(text.contains("\nTry \"help "), "{text}");
        }
        let text = parse("change a b raw foo").unwrap_err();
        let wanted = "Error: Parameter 'read-only-mode' does not accept value 'foo'\n";
        assert_eq!(text, wanted);
    }
}
