//! What can go wrong with nodes; the wording is QEMU's, because clients match on it.

use errno_text::errno_text;
use std::io;

use thiserror::Error;

/// Why something was refused.
#[derive(Debug, Error)]
pub enum BlockError {
    /// The file cannot be opened.
    #[error("Could not open '{path}': {reason}")]
    Open {
        /// Its path.
        path: String,
        /// The host's words.
        reason: String,
    },
    /// `file` takes regular files only.
    #[error("'file' driver requires '{0}' to be a regular file")]
    NotRegular(String),
    /// `host_device` takes devices only.
    #[error("'host_device' driver requires '{0}' to be either a character or block device")]
    NotDevice(String),
    /// The host said no.
    #[error("{what}: {}", errno_text(.source))]
    Host {
        /// To what.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// Linux AIO blocks on the page cache.
    #[error("aio=native was specified, but it requires cache.direct=on, which was not specified.")]
    NativeNeedsDirect,
    /// Options that do not go together.
    #[error("force-share=on can only be used with read-only images")]
    ForceShareWritable,
    /// Options that do not go together.
    #[error(
        "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap"
    )]
    DetectZeroesNeedsDiscard,
    /// Node names are identifiers.
    #[error("Invalid node-name: '{0}'")]
    InvalidName(String),
    /// They have at most 31 characters.
    #[error("Node name too long")]
    NameTooLong,
    /// Root nodes have names.
    #[error("'node-name' must be specified for the root node")]
    NameMissing,
    /// The name is taken.
    #[error("Duplicate nodes with node-name='{0}'")]
    DuplicateName(String),
    /// The name is taken by a drive.
    #[error("node-name={0} is conflicting with a device id")]
    NameIsDrive(String),
    /// No node of that name.
    #[error("Failed to find node with node-name='{0}'")]
    NoNode(String),
    /// No node or drive of that name.
    #[error("Cannot find device='{0}' nor node-name='{0}'")]
    NoReference(String),
    /// No node of that name, where a medium is meant.
    #[error("Node '{0}' not found")]
    NodeNotFound(String),
    /// Only one medium fits.
    #[error("There already is a medium in the device")]
    MediumThere,
    /// The device was removed while something was done to it.
    #[error("The device is not there any more")]
    Gone,
    /// A device uses it.
    #[error("Node {0} is in use")]
    InUse(String),
    /// Another node uses it.
    #[error("Block device {0} is in use")]
    HasParents(String),
    /// It was not made with blockdev-add.
    #[error("Node {0} is not owned by the monitor")]
    NotOwned(String),
    /// Two users do not get along.
    #[error(
        "Permission conflict on node '{node}': permissions '{perms}' are both required by \
         {required_by} and unshared by {unshared_by}."
    )]
    Conflict {
        /// The node.
        node: String,
        /// The permissions.
        perms: String,
        /// Who has them.
        required_by: String,
        /// Who does not let others have them.
        unshared_by: String,
    },
    /// A writer above a node that cannot be written.
    #[error("Block node is read-only")]
    ReadOnly,
    /// A writer above a node that is to become read-only.
    #[error("Read-only block node '{0}' cannot support read-write users")]
    HasWriters(String),
    /// A node would be below itself.
    #[error("Making '{child}' a {role} child of '{parent}' would create a cycle")]
    Cycle {
        /// The node that would be below.
        child: String,
        /// As what.
        role: &'static str,
        /// The node that would be above.
        parent: String,
    },
    /// An option that stays as it was when the node was made.
    #[error("Cannot change the option '{0}'")]
    Fixed(String),
    /// The image has a backing file, and whoever reopens it has to say which node it is.
    #[error("backing is missing for '{0}'")]
    BackingMissing(String),
    /// A drive without a medium, by name.
    #[error("Device '{0}' has no medium")]
    DriveEmpty(String),
    /// An image that other images build upon does not change.
    #[error("Node '{node}' is busy: node is used as backing hd of '{overlay}'")]
    Busy {
        /// The node.
        node: String,
        /// An image on top of it.
        overlay: String,
    },
    /// Neither name is one.
    #[error("Cannot find device='{device}' nor node-name='{node}'")]
    NotFound {
        /// Where a drive was looked for.
        device: String,
        /// Where a node was looked for.
        node: String,
    },
    /// Other nodes are on top of it.
    #[error("Need a root block node")]
    NotRoot,
    /// What cannot be done while another program has the image; permissions in words.
    #[error("Permission '{0}' unavailable on inactive node")]
    Inactive(String),
    /// A node that is used above one that is not.
    #[error("Inactive '{child}' can't be a {role} child of active '{parent}'")]
    InactiveChild {
        /// The node below.
        child: String,
        /// As what.
        role: &'static str,
        /// The node above.
        parent: String,
    },
    /// What is used above keeps what is below.
    #[error("Node has active parent node")]
    ActiveParent,
    /// The program itself is writing it.
    #[error("Node '{0}' is being written and cannot be inactivated")]
    HeldForWriting(String),
    /// The image could not be taken again.
    #[error("Could not activate node '{node}' ('{file}'): {cause}")]
    Activate {
        /// The node.
        node: String,
        /// What it is called by its content.
        file: String,
        /// Why.
        cause: Box<BlockError>,
    },
    /// The image could not be given up.
    #[error("Could not inactivate node '{node}' ('{file}'): {cause}")]
    Inactivate {
        /// The node.
        node: String,
        /// What it is called by its content.
        file: String,
        /// Why.
        cause: Box<BlockError>,
    },
    /// No node of that name, for whoever activates it.
    #[error("Failed to find node with node-name='{0}'")]
    NotNamed(String),
    /// Another program uses the image.
    #[error("Failed to get {mode}\"{permission}\" lock")]
    Locked {
        /// `shared ` when the other program writes already, empty when it lets nobody.
        mode: &'static str,
        /// The permission.
        permission: &'static str,
        /// The image.
        path: String,
    },
    /// A drive of that name is there.
    #[error("Duplicate ID '{0}' for drive")]
    DuplicateDrive(String),
    /// A node has the drive's name.
    #[error("Device name '{0}' conflicts with an existing node name")]
    DriveIsNode(String),
    /// No back end of that name.
    #[error("Device '{0}' not found")]
    NoDevice(String),
    /// No node of that name, where it is called a device.
    #[error("Device '{0}' not found")]
    NoNodeDevice(String),
    /// The drive has no medium.
    #[error("Device has no medium")]
    NoMedium,
    /// No throttle group of that name.
    #[error("Throttle group '{0}' does not exist")]
    NoGroup(String),
    /// No drive or node of that name.
    #[error("Property 'virtio-blk-device.drive' can't find value '{0}'")]
    NoDrive(String),
    /// The drive has a device.
    #[error("Drive '{0}' is already in use by another device")]
    DriveTaken(String),
    /// The drive has no medium.
    #[error("Device needs media, but drive is empty")]
    Empty,
    /// A window of an image must be sectors.
    #[error("Specified size is not multiple of 512")]
    SizeNotSectors,
    /// Direct I/O goes by sectors.
    #[error("Specified offset is not multiple of 512, which cache.direct=on asks for")]
    OffsetNotSectors,
    /// The window begins behind the end.
    #[error("Offset ({offset}) cannot be greater than size of the containing file ({size})")]
    OffsetBeyondEnd {
        /// Where it begins.
        offset: u64,
        /// Bytes of the node below.
        size: u64,
    },
    /// The window ends behind the end.
    #[error(
        "The sum of offset ({offset}) and size ({len}) has to be smaller or equal to the  actual \
         size of the containing file ({size})"
    )]
    WindowBeyondEnd {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        len: u64,
        /// Bytes of the node below.
        size: u64,
    },
    /// The node has one size.
    #[error("Image format driver does not support resize")]
    NoResize,
    /// No such driver.
    #[error("Unknown driver '{0}'")]
    UnknownDriver(String),
    /// An option that is there for the interface's sake.
    #[error("{0}")]
    Unsupported(String),
}

impl BlockError {
    /// A second line for people, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            BlockError::Locked { path, .. } => {
                Some(format!("Is another process using the image [{path}]?"))
            }
            BlockError::Activate { cause, .. } => cause.hint(),
            _ => None,
        }
    }

    pub(crate) fn host(what: impl Into<String>, source: io::Error) -> Self {
        BlockError::Host {
            what: what.into(),
            source,
        }
    }

    /// A file could not be opened or looked at.
    pub fn open(path: &str, error: &io::Error) -> Self {
        BlockError::Open {
            path: path.to_owned(),
            reason: errno_text(error),
        }
    }
}
