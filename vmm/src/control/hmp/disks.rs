//! Text commands about disks, read into what they ask for.

use api_spec::BlockdevChangeReadOnlyMode;

use super::Verb as All;
use super::table::{Entry, entry};
use super::words::Words;
use crate::cli::opts::{c_number, parse_mebibytes};

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
    /// block_resize.
    Resize,
    /// block_set_io_throttle.
    Throttle,
    /// snapshot_blkdev.
    Snapshot,
    /// snapshot_blkdev_internal.
    InternalSnapshot,
    /// snapshot_delete_blkdev_internal.
    DeleteSnapshot,
}

/// The commands.
pub(super) static COMMANDS: &[Entry] = &[
    entry(
        "block_resize",
        None,
        All::Disk(Verb::Resize),
        "device size",
        "change the size of a disk (MiB unless it has a suffix)",
    ),
    entry(
        "block_set_io_throttle",
        None,
        All::Disk(Verb::Throttle),
        "device bps bps_rd bps_wr iops iops_rd iops_wr",
        "limit a disk; 0 is no limit",
    ),
    entry(
        "change",
        None,
        All::Disk(Verb::Change),
        "[-f] device filename [format [read-only-mode]]",
        "put another medium into a device (-f: also a locked one)",
    ),
    entry(
        "drive_add",
        None,
        All::Disk(Verb::DriveAdd),
        "[-n] [[<domain>:]<bus>:]<slot> [file=file][,if=none][,id=name][,...]",
        "make a drive without a device (-n: a node)",
    ),
    entry(
        "drive_del",
        None,
        All::Disk(Verb::DriveDel),
        "device",
        "take a drive away; a device that has it stays without",
    ),
    entry(
        "eject",
        None,
        All::Disk(Verb::Eject),
        "[-f] device",
        "take the medium out of a device (-f: also out of a locked one)",
    ),
    entry(
        "snapshot_blkdev",
        None,
        All::Disk(Verb::Snapshot),
        "[-n] device [new-image-file] [format]",
        "put an overlay on top of a disk (-n: it is there already)",
    ),
    entry(
        "snapshot_blkdev_internal",
        None,
        All::Disk(Verb::InternalSnapshot),
        "device name",
        "keep a disk's content inside of its image",
    ),
    entry(
        "snapshot_delete_blkdev_internal",
        None,
        All::Disk(Verb::DeleteSnapshot),
        "device name [id]",
        "forget what was kept so",
    ),
];

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
    /// Change the size.
    Resize {
        /// The drive.
        device: String,
        /// Bytes.
        size: i64,
    },
    /// Limit it.
    Throttle {
        /// The drive.
        device: String,
        /// bps, bps_rd, bps_wr, iops, iops_rd, iops_wr.
        limits: [i64; 6],
    },
    /// Put an overlay on top.
    Snapshot {
        /// The drive.
        device: String,
        /// The overlay's file.
        file: String,
        /// Its format.
        format: Option<String>,
        /// It is there already.
        reuse: bool,
    },
    /// Keep the content inside of the image.
    InternalSnapshot {
        /// The drive.
        device: String,
        /// The snapshot.
        name: String,
    },
    /// Forget a snapshot inside of the image.
    DeleteSnapshot {
        /// The drive.
        device: String,
        /// The snapshot.
        name: String,
        /// Its id.
        id: Option<String>,
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
            Verb::Resize => DiskLine::Resize {
                device: words.need(DEVICE)?,
                size: size(&words.need("size")?)?,
            },
            Verb::Throttle => {
                let device = words.need(DEVICE)?;
                let mut limits = [0; 6];
                for limit in &mut limits {
                    *limit = number(&words.need("number")?)?;
                }
                DiskLine::Throttle { device, limits }
            }
            Verb::Snapshot => {
                let reuse = !words.switches("n")?.is_empty();
                DiskLine::Snapshot {
                    device: words.need(DEVICE)?,
                    file: words
                        .next()
                        .ok_or("Error: Parameter 'snapshot-file' is missing\n")?,
                    format: words.next(),
                    reuse,
                }
            }
            Verb::InternalSnapshot => DiskLine::InternalSnapshot {
                device: words.need(DEVICE)?,
                name: words.need("string")?,
            },
            Verb::DeleteSnapshot => DiskLine::DeleteSnapshot {
                device: words.need(DEVICE)?,
                name: words.need("string")?,
                id: words.next(),
            },
        };
        words.end().map(|()| line)
    }
}

/// Bytes, or mebibytes where no suffix says otherwise.
fn size(word: &str) -> Result<i64, String> {
    let bytes = parse_mebibytes(word).and_then(|size| i64::try_from(size).ok());
    bytes.ok_or_else(|| "invalid size\n".to_owned())
}

fn number(word: &str) -> Result<i64, String> {
    let number = c_number(word).and_then(|number| i64::try_from(number).ok());
    number.ok_or_else(|| {
        format!(
            "invalid char '{}' in expression\n",
            word.get(..1).unwrap_or("")
        )
    })
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
            (
                "block_resize x 2",
                DiskLine::Resize {
                    device: text("x"),
                    size: 2 << 20,
                },
            ),
            (
                "block_set_io_throttle x 1 2 3 4 5 0x6",
                DiskLine::Throttle {
                    device: text("x"),
                    limits: [1, 2, 3, 4, 5, 6],
                },
            ),
            (
                "snapshot_blkdev -n x o.qcow2 qcow2",
                DiskLine::Snapshot {
                    device: text("x"),
                    file: text("o.qcow2"),
                    format: Some(text("qcow2")),
                    reuse: true,
                },
            ),
            (
                "snapshot_blkdev_internal x s",
                DiskLine::InternalSnapshot {
                    device: text("x"),
                    name: text("s"),
                },
            ),
            (
                "snapshot_delete_blkdev_internal x s 1",
                DiskLine::DeleteSnapshot {
                    device: text("x"),
                    name: text("s"),
                    id: Some(text("1")),
                },
            ),
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
            ("block_resize x", "block_resize: size expected"),
            (
                "block_set_io_throttle x 0",
                "block_set_io_throttle: number expected",
            ),
            (
                "snapshot_blkdev_internal x",
                "snapshot_blkdev_internal: string expected",
            ),
            (
                "info block a b",
                "block: extraneous characters at the end of line",
            ),
            ("info block -x", "block: unsupported option -x"),
        ] {
            let text = parse(line).unwrap_err();
            let command = line.trim_end_matches(|c: char| c != ' ').trim();
            assert!(text.starts_with(message), "{command}: {text}");
            assert!(text.contains("\nTry \"help "), "{text}");
        }
        for (line, text) in [
            ("block_resize x y", "invalid size\n"),
            (
                "block_set_io_throttle x y 0 0 0 0 0",
                "invalid char 'y' in expression\n",
            ),
            (
                "snapshot_blkdev x",
                "Error: Parameter 'snapshot-file' is missing\n",
            ),
        ] {
            assert_eq!(parse(line).unwrap_err(), text);
        }
        let text = parse("change a b raw foo").unwrap_err();
        let wanted = "Error: Parameter 'read-only-mode' does not accept value 'foo'\n";
        assert_eq!(text, wanted);
    }
}
