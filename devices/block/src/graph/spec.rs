//! What a node is to be.

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

/// A node below another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildSpec {
    /// One that is there, by name.
    Reference(String),
    /// One to make.
    Inline(NodeSpec),
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
        match self.driver {
            DriverSpec::File(_) => "file",
            DriverSpec::HostDevice(_) => "host_device",
            DriverSpec::Null(_) => "null-co",
            DriverSpec::Raw { .. } => "raw",
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
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_identifiers() {
        for good in ["a", "disk-0_x.y", "Z9", &"a".repeat(31)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "0a", "#block1", "a b", "ä", &"a".repeat(32)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
