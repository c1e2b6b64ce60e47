//! What a node is to be.

use super::Role;
use crate::error::BlockError;
use crate::file::FileSpec;
use crate::filter::BlkdebugSpec;
use crate::gate::{DetectZeroes, Discard, Policy};
use crate::null::NullSpec;
use crate::raw::RawWindow;

/// A node to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name; made up where it is not given.
    pub name: Option<String>,
    /// It cannot be written; a node inside of another takes it over from that.
    pub read_only: Option<bool>,
    /// It falls back to read-only where it cannot be written; taken over likewise.
    pub auto_read_only: Option<bool>,
    /// Nodes that use it let others write; taken over likewise.
    pub force_share: Option<bool>,
    /// What it does with discards; a node inside of another leaves that to the other.
    pub discard: Option<Discard>,
    /// What it does with written zeroes.
    pub detect_zeroes: DetectZeroes,
    /// The page cache is passed by; taken over likewise.
    pub direct: Option<bool>,
    /// Flushes are not carried out; taken over likewise.
    pub no_flush: Option<bool>,
    /// Whether it is used at once (`active`), or left to another program; taken over likewise.
    pub active: Option<bool>,
    /// The driver.
    pub driver: DriverSpec,
}

/// The driver with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverSpec {
    /// `file`.
    File(FileSpec),
    /// `host_device`.
    HostDevice(FileSpec),
    /// `null-co`.
    Null(NullSpec),
    /// `raw`.
    Raw {
        /// The node below.
        file: Box<ChildSpec>,
        /// The part of it.
        window: RawWindow,
        /// Nobody said that it is raw: its first bytes told nothing else. The guest must not
        /// make it look like something else, or the next probe would take it for that.
        probed: bool,
    },
    /// An image format.
    Format(FormatSpec),
    /// Whatever the first bytes of the node below say.
    Probe {
        /// The node below.
        file: Box<ChildSpec>,
    },
    /// `throttle`.
    Throttle {
        /// The node below.
        file: Box<ChildSpec>,
        /// The group's name.
        group: String,
    },
    /// `copy-on-read`.
    CopyOnRead {
        /// The node below.
        file: Box<ChildSpec>,
    },
    /// `blkdebug`.
    Blkdebug {
        /// The node below.
        image: Box<ChildSpec>,
        /// What fails.
        spec: BlkdebugSpec,
    },
}

/// An image format with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatSpec {
    /// Which.
    pub kind: FormatKind,
    /// The node that its tables are in.
    pub file: Box<ChildSpec>,
    /// Its backing file; what the image says, where it is not given.
    pub backing: Option<BackingSpec>,
    /// Its data file; what the image says, where it is not given.
    pub data_file: Option<Box<ChildSpec>>,
    /// Options of qcow2.
    pub qcow2: Qcow2Options,
}

impl FormatSpec {
    /// A format without options.
    pub fn new(kind: FormatKind, file: ChildSpec) -> Self {
        FormatSpec {
            kind,
            file: Box::new(file),
            backing: None,
            data_file: None,
            qcow2: Qcow2Options::default(),
        }
    }
}

/// A backing file that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackingSpec {
    /// None, whatever the image says.
    Nothing,
    /// This one.
    Node(Box<ChildSpec>),
}

/// Image formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatKind {
    /// qcow2, versions 2 and 3.
    Qcow2,
    /// QEMU's older format with few features.
    Qed,
    /// VMware's; only read.
    Vmdk,
    /// Virtual PC's (VHD); only read.
    Vpc,
    /// Hyper-V's; only read.
    Vhdx,
}

impl FormatKind {
    /// All of them.
    pub const ALL: [FormatKind; 5] = [
        FormatKind::Qcow2,
        FormatKind::Qed,
        FormatKind::Vmdk,
        FormatKind::Vpc,
        FormatKind::Vhdx,
    ];

    /// Whether images can be written.
    pub const fn is_writable(self) -> bool {
        match self {
            FormatKind::Qcow2 | FormatKind::Qed => true,
            FormatKind::Vmdk | FormatKind::Vpc | FormatKind::Vhdx => false,
        }
    }

    /// Whether images can have a backing file.
    pub const fn has_backing(self) -> bool {
        match self {
            FormatKind::Qcow2 | FormatKind::Qed | FormatKind::Vmdk => true,
            FormatKind::Vpc | FormatKind::Vhdx => false,
        }
    }

    /// Its name in the interface.
    pub const fn name(self) -> &'static str {
        match self {
            FormatKind::Qcow2 => "qcow2",
            FormatKind::Qed => "qed",
            FormatKind::Vmdk => "vmdk",
            FormatKind::Vpc => "vpc",
            FormatKind::Vhdx => "vhdx",
        }
    }

    /// The format of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Options of qcow2 when it is opened (QEMU's names). Sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Qcow2Options {
    /// Put off refcounts, whatever the image says.
    pub lazy_refcounts: Option<bool>,
    /// Pass a guest's discards on to the file.
    pub pass_discard_request: Option<bool>,
    /// Pass on what deleting snapshots frees.
    pub pass_discard_snapshot: Option<bool>,
    /// Pass on all else that is freed.
    pub pass_discard_other: Option<bool>,
    /// A discard keeps the cluster's place in the file.
    pub discard_no_unref: Option<bool>,
    /// Metadata that writes are checked against; what holds for kinds that `overlap_flags` leaves
    /// open.
    pub overlap_check: Option<OverlapCheck>,
    /// The same, kind by kind.
    pub overlap_flags: OverlapFlags,
    /// Most memory for all tables.
    pub cache_size: Option<u64>,
    /// Most memory for L2 tables.
    pub l2_cache_size: Option<u64>,
    /// Bytes of an entry of that cache.
    pub l2_cache_entry_size: Option<u64>,
    /// Most memory for refcount blocks.
    pub refcount_cache_size: Option<u64>,
    /// Seconds after which unused tables leave memory.
    pub cache_clean_interval: Option<u64>,
}

/// Which metadata writes are checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlapCheck {
    /// Nothing.
    None,
    /// What is in memory and never changes place.
    Constant,
    /// And what is in memory.
    Cached,
    /// And what has to be read.
    All,
}

/// Kinds of metadata that writes are, or are not, checked against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OverlapFlags {
    /// The header.
    pub main_header: Option<bool>,
    /// The L1 table in use.
    pub active_l1: Option<bool>,
    /// L2 tables in use.
    pub active_l2: Option<bool>,
    /// The refcount table.
    pub refcount_table: Option<bool>,
    /// Refcount blocks.
    pub refcount_block: Option<bool>,
    /// The snapshot table.
    pub snapshot_table: Option<bool>,
    /// L1 tables of snapshots.
    pub inactive_l1: Option<bool>,
    /// L2 tables of snapshots.
    pub inactive_l2: Option<bool>,
    /// The directory of bitmaps.
    pub bitmap_directory: Option<bool>,
}

/// A node below another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildSpec {
    /// One that is there, by name.
    Reference(String),
    /// One to make.
    Inline(NodeSpec),
}

impl DriverSpec {
    /// The nodes below that the description names, with their parts.
    pub(super) fn slots(&mut self) -> Vec<(Role, &mut ChildSpec)> {
        match self {
            DriverSpec::File(_) | DriverSpec::HostDevice(_) | DriverSpec::Null(_) => Vec::new(),
            DriverSpec::Raw { file, .. }
            | DriverSpec::Probe { file }
            | DriverSpec::Throttle { file, .. } => vec![(Role::Filtered, file)],
            DriverSpec::CopyOnRead { file } => vec![(Role::Copied, file)],
            DriverSpec::Blkdebug { image, .. } => vec![(Role::Image, image)],
            DriverSpec::Format(format) => {
                let mut slots = vec![(Role::Storage, &mut *format.file)];
                if let Some(data) = &mut format.data_file {
                    slots.push((Role::Data, data));
                }
                if let Some(BackingSpec::Node(backing)) = &mut format.backing {
                    slots.push((Role::Backing, backing));
                }
                slots
            }
        }
    }
}

impl NodeSpec {
    /// A node with a driver and no options.
    pub fn new(driver: DriverSpec) -> Self {
        NodeSpec {
            name: None,
            read_only: None,
            auto_read_only: None,
            force_share: None,
            discard: None,
            detect_zeroes: DetectZeroes::Off,
            direct: None,
            no_flush: None,
            active: None,
            driver,
        }
    }

    /// The same under a name.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Takes over from the node above what is not given.
    pub(super) fn inherit(&mut self, above: &NodeSpec) {
        self.read_only = self.read_only.or(above.read_only);
        self.auto_read_only = self.auto_read_only.or(above.auto_read_only);
        self.force_share = self.force_share.or(above.force_share);
        self.direct = self.direct.or(above.direct);
        self.no_flush = self.no_flush.or(above.no_flush);
        self.active = self.active.or(above.active);
        self.discard = self.discard.or(Some(Discard::Unmap));
    }

    /// Refuses options that do not go together.
    pub(super) fn check(&self) -> Result<(), BlockError> {
        let discard = self.discard.unwrap_or_default();
        if self.detect_zeroes == DetectZeroes::Unmap && discard != Discard::Unmap {
            return Err(BlockError::DetectZeroesNeedsDiscard);
        }
        if self.force_share == Some(true) && self.read_only != Some(true) {
            return Err(BlockError::ForceShareWritable);
        }
        match &self.name {
            Some(name) if !is_name(name) => Err(BlockError::InvalidName(name.clone())),
            Some(name) if name.len() > MAX_NAME => Err(BlockError::NameTooLong),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn policy(&self) -> Policy {
        Policy {
            read_only: self.read_only.unwrap_or(false),
            discard: self.discard.unwrap_or_default(),
            detect_zeroes: self.detect_zeroes,
            no_flush: self.no_flush.unwrap_or(false),
            granule: 1,
        }
    }

    /// The driver's name.
    pub fn driver_name(&self) -> &'static str {
        match &self.driver {
            DriverSpec::File(_) => "file",
            DriverSpec::HostDevice(_) => "host_device",
            DriverSpec::Null(_) => "null-co",
            DriverSpec::Raw { .. } => "raw",
            DriverSpec::Format(format) => format.kind.name(),
            // Never in the graph: it has become something else.
            DriverSpec::Probe { .. } => "",
            DriverSpec::Throttle { .. } => "throttle",
            DriverSpec::CopyOnRead { .. } => "copy-on-read",
            DriverSpec::Blkdebug { .. } => "blkdebug",
        }
    }
}

/// Longest name of a node.
const MAX_NAME: usize = 31;

/// Whether a node may be called so: a letter, then letters, digits and `-._`.
fn is_name(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_identifiers() {
        for good in ["a", "disk-0_x.y", "Z9", &"a".repeat(31)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "0a", "#block1", "a b", "ä"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
