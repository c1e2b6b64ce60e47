//! The graph of nodes, and the back ends of devices on top of it.
//!
//! ```text
//! device -> back end -> node -> node below -> ...
//!                       ^ blockdev-add holds it too
//! ```
//!
//! A node lives as long as blockdev-add, a back end or a node above it holds it. Nothing else
//! holds nodes in the graph, so what lets go last takes a node and all below it away.
//!
//! Every edge says what its upper end does and what it lets others do ([`Perms`]). A change of
//! edges is made, checked down to the files (which ask other programs by their locks), and undone
//! when somebody does not agree.

mod activity;
mod attach;
mod backend;
mod change;
mod drained;
mod hold;
mod limits;
mod media;
mod names;
mod open;
mod open_format;
mod perms;
mod reopen;
mod settle;
mod snapshots;
mod spec;
mod surgery;
mod view;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::edge::Edge;
use crate::error::BlockError;
use crate::file::FileOpener;
use crate::node::{Activity, BlockNode, NodeExt};
use crate::notice::NoticeSink;
use crate::pool::Pool;
use crate::stats::Stats;
use crate::throttle::ThrottleGroups;
pub use attach::{AttachOptions, Attachment, Sharing, SizeWatcher};
use backend::Backend;
pub use backend::{DriveOptions, WriteCache};
pub use change::{Changes, without_backing};
pub use drained::Drained;
pub use hold::Hold;
pub use limits::BackendName;
pub use media::{Habits, MediaDevice, Slot, TrayLocked, TrayView};
pub use perms::{Perm, Perms, Role};
pub use snapshots::SnapshotDisk;
pub use spec::{
    BackingSpec, ChildSpec, DriverSpec, FormatKind, FormatSpec, NodeSpec, OverlapCheck,
    OverlapFlags, Qcow2Options,
};
pub use view::{BackendView, NodeView};

/// A node's number; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct NodeId(u64);

/// A back end's number; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct BackendId(u64);

/// A node in the graph.
struct Entry {
    name: String,
    node: Arc<dyn BlockNode>,
    stats: Arc<Stats>,
    /// As it was asked for, with what it took over.
    spec: NodeSpec,
    read_only: bool,
    /// Made with blockdev-add, and taken away with blockdev-del only.
    owned: bool,
    children: Vec<Child>,
    /// What all its users do together, as last agreed on.
    perms: Perms,
    /// The node was told of it.
    told: bool,
    /// It could be written before the change that is under way.
    turned: bool,
    /// Made inside of the description of another node: its part of that, without what it took
    /// over from there.
    given: Option<Box<NodeSpec>>,
    /// Another node takes its place at the moment: it uses those below no more.
    aside: bool,
    /// Whether it is this program's at the moment.
    activity: Activity,
}

/// An edge to a node below.
struct Child {
    role: Role,
    id: NodeId,
    /// The same as the parent has.
    edge: Edge,
}

/// Nodes that are in the graph no more, those above before those below. Dropping it makes what
/// was written durable, closes images and lets go of files, which blocks: for a worker thread.
#[derive(Default)]
pub struct Removed(Vec<Entry>);

impl std::fmt::Debug for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.0.iter().map(|entry| &entry.name);
        f.debug_list().entries(names).finish()
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        for entry in self.0.drain(..) {
            close(&entry);
        }
    }
}

fn close(entry: &Entry) {
    trace::point!(BDRV_CLOSE, node = entry.name);
    let closed = match entry.node.image() {
        Some(image) => image.close(),
        None if entry.read_only => Ok(()),
        None => entry
            .node
            .flush()
            .map_err(|error| BlockError::host("Could not flush", error)),
    };
    for result in [closed, entry.node.set_perms(Perms::NONE)] {
        if let Err(error) = result {
            log::error!("Node '{}': {error}", entry.name);
        }
    }
}

/// All nodes and back ends. Shared with attachments, which let go when they are dropped; clones
/// are the same graph.
#[derive(Clone)]
pub struct Graph {
    inner: Arc<Mutex<Inner>>,
    host: Host,
}

/// What nodes need from the program.
#[derive(Clone)]
struct Host {
    pool: Pool,
    notices: NoticeSink,
    /// Another program has all images that are opened from now on.
    incoming: Arc<AtomicBool>,
}

/// What the lock protects: the structure. Rank: taken by control, and by whoever drops a device;
/// under it only the nodes' own leaves. Not on the data path.
#[derive(Default)]
pub(crate) struct Inner {
    nodes: BTreeMap<NodeId, Entry>,
    backends: BTreeMap<BackendId, Backend>,
    next: u64,
    made_up: u64,
    groups: ThrottleGroups,
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Graph {
    /// An empty graph. `pool` serves what blocks.
    pub fn new(pool: Pool) -> Self {
        let notices: NoticeSink = Arc::new(|notice| log::warn!("{notice:?}"));
        Graph {
            inner: Arc::default(),
            host: Host {
                pool,
                notices,
                incoming: Arc::default(),
            },
        }
    }

    /// The same, telling `sink` what nodes notice, rather than the log.
    pub fn with_notices(mut self, sink: NoticeSink) -> Self {
        self.host.notices = sink;
        self
    }

    /// Makes a node, and those inside of its description, for blockdev-add.
    ///
    /// # Errors
    /// In QEMU's words; nothing is left of the attempt.
    pub fn add(&self, spec: NodeSpec, opener: &mut dyn FileOpener) -> Result<(), BlockError> {
        if spec.name.is_none() {
            return Err(BlockError::NameMissing);
        }
        trace::point!(BDRV_OPEN_COMMON, node = spec.name.as_deref().unwrap_or(""));
        let mut inner = lock(&self.inner);
        let id = inner.open(spec, opener, &self.host)?;
        if let Some(entry) = inner.nodes.get_mut(&id) {
            entry.owned = true;
        }
        Ok(())
    }

    /// Takes a node away that was made with [`Self::add`].
    ///
    /// # Errors
    /// When it is not there, was not made so, or is in use.
    pub fn del(&self, name: &str) -> Result<Removed, BlockError> {
        let mut inner = lock(&self.inner);
        let id = inner
            .find(name)
            .ok_or_else(|| BlockError::NoNode(name.into()))?;
        if inner
            .backends
            .values()
            .any(|backend| backend.root == Some(id))
        {
            return Err(BlockError::InUse(name.into()));
        }
        inner.check_idle(id)?;
        let owned = inner.nodes.get(&id).is_some_and(|entry| entry.owned);
        if !owned {
            return Err(BlockError::NotOwned(name.into()));
        }
        if inner.has_parents(id) {
            return Err(BlockError::HasParents(name.into()));
        }
        if let Some(entry) = inner.nodes.get_mut(&id) {
            entry.owned = false;
        }
        let mut removed = Removed::default();
        inner.collect(id, &mut removed);
        Ok(removed)
    }

    /// Takes everything away, whoever has it: the program ends. Dropping it closes images, each
    /// before those below it. Devices have ended before.
    pub fn close(&self) -> Removed {
        let mut inner = lock(&self.inner);
        let backends: Vec<BackendId> = inner.backends.keys().copied().collect();
        for id in backends {
            if let Some(backend) = inner.backends.remove(&id) {
                backend.edge.set(None);
            }
        }
        let ids: Vec<NodeId> = inner.nodes.keys().copied().collect();
        for entry in inner.nodes.values_mut() {
            entry.owned = false;
        }
        let mut removed = Removed::default();
        ids.into_iter()
            .for_each(|id| inner.collect(id, &mut removed));
        removed
    }

    /// Whether a node or a drive has that name.
    pub fn has_name(&self, name: &str) -> bool {
        let inner = lock(&self.inner);
        inner.find(name).is_some() || inner.find_backend(name).is_some()
    }

    /// The node of that name.
    pub fn find(&self, name: &str) -> Option<Arc<dyn BlockNode>> {
        let inner = lock(&self.inner);
        let id = inner.find(name)?;
        inner.nodes.get(&id).map(|entry| entry.node.clone())
    }

    /// Nodes whose completed writes are to be made durable when the machine stops: those that are
    /// written. The caller flushes them where it may block.
    pub fn written(&self) -> Vec<(String, Arc<dyn BlockNode>)> {
        let inner = lock(&self.inner);
        let written = inner
            .nodes
            .values()
            .filter(|entry| entry.perms.writes() && entry.activity == Activity::Active);
        written
            .map(|entry| (entry.name.clone(), entry.node.clone()))
            .collect()
    }

    /// The same, of those alone that devices with these QOM paths have in hand and write.
    pub fn written_by(&self, devices: &[&str]) -> Vec<(String, Arc<dyn BlockNode>)> {
        let inner = lock(&self.inner);
        let writes = |backend: &&backend::Backend| {
            let device = backend.device.as_deref();
            device.is_some_and(|device| devices.contains(&device))
                && backend.perms.uses(Perm::Write)
        };
        let roots = inner.backends.values().filter(writes);
        let entries = roots.filter_map(|backend| inner.nodes.get(&backend.root?));
        entries
            .map(|entry| (entry.name.clone(), entry.node.clone()))
            .collect()
    }
}

impl Inner {
    fn number(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    fn find(&self, name: &str) -> Option<NodeId> {
        let named = |(_, entry): &(&NodeId, &Entry)| entry.name == name;
        self.nodes.iter().find(named).map(|(id, _)| *id)
    }

    /// A node by its own name or by that of the drive on top of it.
    fn find_reference(&self, name: &str) -> Option<NodeId> {
        let drive = self.backends.values().find(|b| b.name == name);
        drive
            .filter(|_| !name.is_empty())
            .and_then(|drive| drive.root)
            .or_else(|| self.find(name))
    }

    fn has_parents(&self, id: NodeId) -> bool {
        self.nodes
            .values()
            .any(|entry| entry.children.iter().any(|child| child.id == id))
    }

    /// Images that others build upon stay as they are.
    fn check_idle(&self, id: NodeId) -> Result<(), BlockError> {
        let on_top = self.nodes.values().find(|entry| {
            let mut children = entry.children.iter();
            children.any(|child| (child.id, child.role) == (id, Role::Backing))
        });
        match on_top {
            None => Ok(()),
            Some(overlay) => Err(BlockError::Busy {
                node: self.name(id).to_owned(),
                overlay: overlay.name.clone(),
            }),
        }
    }

    /// Removes the node if nothing holds it any more, and those below it likewise.
    fn collect(&mut self, id: NodeId, removed: &mut Removed) {
        let used = self
            .backends
            .values()
            .any(|backend| backend.root == Some(id));
        let owned = self.nodes.get(&id).is_none_or(|entry| entry.owned);
        if used || owned || self.has_parents(id) {
            // What it allowed its former user it need not allow any more.
            self.refresh(id);
            return;
        }
        if let Some(entry) = self.nodes.remove(&id) {
            let below: Vec<NodeId> = entry.children.iter().map(|child| child.id).collect();
            removed.0.push(entry);
            below
                .into_iter()
                .for_each(|child| self.collect(child, removed));
        }
    }
}

#[cfg(test)]
#[path = "graph_test.rs"]
mod tests;
