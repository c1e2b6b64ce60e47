//! Block nodes and drives as clients and the command line have them: the block layer's graph
//! behind the interface's types and words.

mod activate;
mod change;
mod check;
mod convert;
mod convert_blkdebug;
mod create;
mod drive;
mod filename;
pub(in crate::control) mod limits;
pub mod media;
mod query;
mod snapshots;
mod temporary;
mod unit;

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

use api_spec::{
    BlockDeviceInfo, BlockIOThrottle, BlockInfo, BlockLatencyHistogramSetArgs, BlockStats,
    BlockdevOptions, QmpError, QmpResult,
};
use block::{
    Account, AttachOptions, Attachment, BackendName, BlockError, BlockNode, DriveOptions,
    ErrorPolicy, FileOpener, Graph, Limits, NodeSpec, NoticeSink, Pool,
};

use super::fds::Opener;
use crate::event::MailSender;
use crate::threads::{self, ThreadKind};
pub use change::GraphWork;
pub use check::{Check, ImageTurn};
pub use create::{NewImage, check_creatable};
pub use drive::DriveMade;
use drive::DriveText;
pub use snapshots::{StateImage, StateNode};
use unit::{Interface, Media, Unit};

/// Mode of files that are made; block nodes make none.
const MODE: u32 = 0o644;

impl FileOpener for Opener {
    fn open(&mut self, path: &str, flags: i32) -> io::Result<File> {
        Opener::open(self, path, flags, MODE)
    }

    fn json(&mut self, text: &str) -> Result<NodeSpec, BlockError> {
        convert::json::node(text).map_err(|error| BlockError::Unsupported(error.desc))
    }
}

/// Why something was refused: what a client is told, and a second line for people at the command
/// line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The answer.
    pub error: QmpError,
    /// What to look at.
    pub hint: Option<String>,
}

impl From<BlockError> for Refusal {
    fn from(error: BlockError) -> Self {
        Refusal {
            error: match &error {
                BlockError::NoDevice(name) => QmpError::device_not_found(name),
                _ => QmpError::generic(error.to_string()),
            },
            hint: error.hint(),
        }
    }
}

impl From<QmpError> for Refusal {
    fn from(error: QmpError) -> Self {
        Refusal { error, hint: None }
    }
}

impl From<Refusal> for QmpError {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.hint {
            Some(hint) => write!(f, "{}\n{hint}", self.error),
            None => self.error.fmt(f),
        }
    }
}

/// The threads of the block layer; they come and go with the work. `mail` learns when one panics.
pub fn pool(mail: MailSender) -> Pool {
    let spawner: block::Spawner = Arc::new(move |name, body| {
        threads::spawn(ThreadKind::Block, name, Some(mail.clone()), body).map(drop)
    });
    Pool::new(spawner, block::DEFAULT_MOST)
}

/// The nodes of a drive to make.
struct Root {
    spec: Option<NodeSpec>,
    overlay: Option<temporary::Overlay>,
    /// The file's name, for messages.
    file: String,
}

/// The refusal of a drive for a device: `owner` is the type whose property names the drive.
fn for_owner(error: BlockError, owner: &str) -> Refusal {
    match error {
        BlockError::NoDrive(name) => {
            let text = format!("Property '{owner}.drive' can't find value '{name}'");
            QmpError::generic(text).into()
        }
        error => error.into(),
    }
}

/// All block nodes and drives. Owned by control. Opening files may take the time of a few system
/// calls on the file system.
pub struct Blockdevs {
    graph: Graph,
    turn: ImageTurn,
    media_turn: Arc<Mutex<()>>,
    /// Places of drives.
    units: Vec<(Unit, String)>,
}

impl Blockdevs {
    /// None yet.
    pub fn new(pool: Pool) -> Self {
        Blockdevs {
            graph: Graph::new(pool),
            turn: ImageTurn::default(),
            media_turn: Arc::default(),
            units: Vec::new(),
        }
    }

    /// blockdev-add, `-blockdev`.
    ///
    /// # Errors
    /// In QEMU's words; nothing is left of the attempt.
    pub fn add(
        &mut self,
        options: BlockdevOptions,
        opener: &mut dyn FileOpener,
    ) -> Result<(), Refusal> {
        let spec = convert::node(options)?;
        Ok(self.graph.add(spec, opener)?)
    }

    /// blockdev-del.
    ///
    /// # Errors
    /// In QEMU's words, when the node is not there, is in use or was not made by blockdev-add.
    pub fn del(&mut self, node_name: &str) -> Result<(), Refusal> {
        drop(self.graph.del(node_name)?);
        Ok(())
    }

    /// `-drive`: makes a drive, and says which device it brings along.
    ///
    /// # Errors
    /// In QEMU's words; nothing is left of the attempt.
    pub fn drive(&mut self, text: &str, opener: &mut dyn FileOpener) -> Result<DriveMade, Refusal> {
        let read = DriveText::read(text)?;
        let place = read.place;
        self.forget_units();
        let unit = place.choose(&|unit| self.units.iter().any(|(taken, _)| *taken == unit))?;
        let id = match &read.id {
            Some(id) => id.clone(),
            None => unit.drive_name(place.media),
        };
        let options = DriveOptions {
            write_cache: read.write_cache,
        };
        let (error_policy, throttle) = (read.error_policy, read.throttle.clone());
        let can_be_empty = place.interface == Interface::None || place.media == Media::Cdrom;
        let root = self.root(read, opener)?;
        if root.spec.is_none() && !can_be_empty {
            return Err(BlockError::Empty.into());
        }
        self.graph.add_drive(&id, root.spec, options, opener)?;
        let made = self.set_up_drive(&id, error_policy, throttle);
        if made.is_err() {
            drop(self.graph.del_drive(&id)?);
        }
        made?;
        if root.overlay.is_none()
            && let Some(slot) = self.graph.slot(BackendName::Drive(&id))
        {
            self.warn_of_guess(&slot.medium().unwrap_or_default(), &root.file);
        }
        let controller = unit.controller().filter(|_| {
            let mut others = self.units.iter();
            !others.any(|(other, _)| (other.interface, other.bus) == (unit.interface, unit.bus))
        });
        self.units.push((unit, id.clone()));
        let device = unit.device(place.media, &id);
        Ok(DriveMade {
            devices: controller.into_iter().chain(device).collect(),
            id,
        })
    }

    /// The nodes of a drive, with what is kept until it has them.
    fn root(&self, read: DriveText, opener: &mut dyn FileOpener) -> Result<Root, Refusal> {
        let file = read.filename();
        let (snapshot, copies) = (read.snapshot, read.copy_on_read);
        let Some(mut spec) = read.node()? else {
            return Ok(Root {
                spec: None,
                overlay: None,
                file,
            });
        };
        // What is not written needs neither.
        let writes = spec.read_only != Some(true);
        let mut overlay = None;
        if snapshot && writes {
            let (above, kept) = self.overlay(spec, &file, opener)?;
            spec = above;
            overlay = Some(kept);
        }
        if copies && writes {
            spec = drive::copy_on_read(spec);
        }
        Ok(Root {
            spec: Some(spec),
            overlay,
            file,
        })
    }

    fn set_up_drive(
        &self,
        id: &str,
        error_policy: ErrorPolicy,
        throttle: Option<(Limits, Option<String>)>,
    ) -> Result<(), BlockError> {
        let name = BackendName::Drive(id);
        self.graph.set_error_policy(name, error_policy)?;
        if let Some((limits, group)) = throttle {
            let group = group.as_deref().unwrap_or(id);
            self.graph.set_throttle(name, limits, Some(group))?;
        }
        Ok(())
    }

    /// drive_add: a drive without a device.
    ///
    /// # Errors
    /// In QEMU's words; nothing is left of the attempt.
    pub fn hot_drive(&mut self, text: &str, opener: &mut dyn FileOpener) -> Result<(), Refusal> {
        let interface = DriveText::read(text)?.place.interface;
        if interface != Interface::None {
            let text = format!("Can't hot-add drive to type {}", interface.name());
            return Err(QmpError::generic(text).into());
        }
        self.drive(text, opener).map(drop)
    }

    /// Whether there is a node of that name.
    pub fn has_node(&self, name: &str) -> bool {
        self.graph.node(name).is_some()
    }

    /// Places of drives that are gone are free again. Those with a controller, which stays, are
    /// on the command line only.
    fn forget_units(&mut self) {
        let there: Vec<String> = self.graph.backends().into_iter().map(|b| b.name).collect();
        self.units
            .retain(|(unit, id)| unit.interface == Interface::Scsi || there.contains(id));
    }

    /// Takes a drive away that no device has.
    ///
    /// # Errors
    /// When it is not there or a device has it.
    pub fn del_drive(&mut self, id: &str) -> Result<(), Refusal> {
        drop(self.graph.del_drive(id)?);
        Ok(())
    }

    /// Gives the drive or node `drive` to a device. `device` is the QOM path that queries show
    /// (`/machine/peripheral/ID/virtio-backend`). The node is given back when the last clone of
    /// the attachment is dropped; a drive made with `-drive` goes away then. `owner` is the type
    /// whose property names the drive.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn attach(
        &mut self,
        drive: &str,
        device: &str,
        options: AttachOptions,
        owner: &str,
    ) -> Result<Arc<Attachment>, Refusal> {
        let attached = self.graph.attach(drive, device, options);
        attached
            .map(Arc::new)
            .map_err(|error| for_owner(error, owner))
    }

    /// The name of the drive that the device with this QOM path has, which is empty for a node;
    /// and how the device is shown.
    pub fn drive_of(&self, device: &str) -> (String, String) {
        let drives = self.graph.backends().into_iter();
        let mut own = drives.filter(|drive| drive.device.as_deref() == Some(device));
        let name = own.next().map_or_else(String::new, |drive| drive.name);
        (name, media::device_id(device).to_owned())
    }

    /// Whether there is a drive, not a node, of that name.
    pub fn is_drive(&self, name: &str) -> bool {
        let drives = self.graph.backends();
        !name.is_empty() && drives.iter().any(|drive| drive.name == name)
    }

    /// Takes the drive or node from the device with this QOM path, whoever still has the
    /// attachment. Only for devices whose queues are stopped. True when it had one.
    pub fn detach(&mut self, device: &str) -> bool {
        self.graph.detach(device).is_some()
    }

    /// The nodes and back ends themselves; the same graph.
    pub fn graph(&self) -> Graph {
        self.graph.clone()
    }

    /// The same, telling `sink` what nodes notice on their own.
    pub fn with_notices(mut self, sink: NoticeSink) -> Self {
        self.graph = self.graph.with_notices(sink);
        self
    }

    /// block_set_io_throttle.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn set_io_throttle(&mut self, args: &BlockIOThrottle) -> Result<(), Refusal> {
        let name = backend_name(args.device.as_deref(), args.id.as_deref())?;
        if !self.graph.has_medium(name)? {
            return Err(BlockError::NoMedium.into());
        }
        let limits = limits::of_command(args)?;
        Ok(self
            .graph
            .set_throttle(name, limits, args.group.as_deref())?)
    }

    /// block-latency-histogram-set.
    ///
    /// # Errors
    /// When there is no such device, or boundaries do not ascend.
    pub fn set_histograms(&self, args: &BlockLatencyHistogramSetArgs) -> Result<(), Refusal> {
        let stats = self.graph.stats_of(BackendName::Device(&args.id))?;
        let BlockLatencyHistogramSetArgs {
            id,
            boundaries: all,
            boundaries_read: read,
            boundaries_write: write,
            boundaries_zap: append,
            boundaries_flush: flush,
        } = args;
        let none = [all, read, write, append, flush]
            .iter()
            .all(|list| list.is_none());
        let single = [
            (read, "read", Some(Account::Read)),
            (write, "write", Some(Account::Write)),
            (append, "append write", None),
            (flush, "flush", Some(Account::Flush)),
        ];
        for (own, name, account) in single {
            let boundaries = own.as_ref().or(all.as_ref());
            if boundaries.is_none() && !none {
                continue;
            }
            let boundaries = boundaries.map(Vec::as_slice);
            let set = match account {
                Some(account) => stats.set_histogram(account, boundaries),
                None => stats.set_zone_append_histogram(boundaries),
            };
            if !set {
                let text = format!("Device '{id}' set {name} boundaries fail");
                return Err(QmpError::generic(text).into());
            }
        }
        Ok(())
    }

    /// block-set-write-threshold.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn set_write_threshold(&self, node: &str, offset: u64) -> Result<(), Refusal> {
        Ok(self.graph.set_write_threshold(node, offset)?)
    }

    /// The drive's name and its node's name, of the device with this QOM path; and whether its
    /// failures may stop the machine.
    pub fn failed_device(&self, device: &str) -> Option<(String, Option<String>, bool)> {
        let (drive, node, policy) = self.graph.names_of(device)?;
        Some((drive, node, policy.may_stop()))
    }

    /// The machine goes on: failures are history.
    pub fn reset_io_status(&self) {
        self.graph.reset_io_status();
    }

    /// Nodes that devices write, with their names: what is to be flushed when the guest stops.
    /// Flushing blocks, which is for a worker thread.
    pub fn written(&self) -> Vec<(String, Arc<dyn BlockNode>)> {
        self.graph.written()
    }

    /// The same, of the devices with these QOM paths.
    pub fn written_by(&self, devices: &[&str]) -> Vec<(String, Arc<dyn BlockNode>)> {
        self.graph.written_by(devices)
    }

    /// query-block.
    pub fn query_block(&self) -> Vec<BlockInfo> {
        let nodes = self.graph.nodes();
        let backends = self.graph.backends().into_iter();
        backends
            .map(|backend| query::block_info(backend, &nodes))
            .collect()
    }

    /// query-blockstats.
    pub fn query_blockstats(&self, query_nodes: bool) -> Vec<BlockStats> {
        let nodes = self.graph.nodes();
        match query_nodes {
            true => nodes
                .iter()
                .map(|node| query::node_stats(node, &nodes))
                .collect(),
            false => {
                let backends = self.graph.backends();
                let stats = |backend| query::device_stats(&backend, &nodes);
                backends.into_iter().map(stats).collect()
            }
        }
    }

    /// query-named-block-nodes; the newest first.
    pub fn query_named_block_nodes(&self, flat: bool) -> Vec<BlockDeviceInfo> {
        let depth = match flat {
            true => query::Depth::Flat,
            false => query::Depth::Nested,
        };
        let nodes = self.graph.nodes();
        let info = |node| query::node_info(node, &nodes, depth, block::WriteCache::Back);
        nodes.iter().rev().map(info).collect()
    }
}

/// The back end that `device` or `id` names.
///
/// # Errors
/// Unless it is just one of them.
fn backend_name<'a>(device: Option<&'a str>, id: Option<&'a str>) -> QmpResult<BackendName<'a>> {
    match (device, id) {
        (Some(drive), None) => Ok(BackendName::Drive(drive)),
        (None, Some(id)) => Ok(BackendName::Device(id)),
        (None, None) | (Some(_), Some(_)) => {
            Err(QmpError::generic("Need exactly one of 'device' and 'id'"))
        }
    }
}

#[cfg(test)]
#[path = "blockdev_test.rs"]
mod tests;
