//! Changes of the graph under running devices, each whole or not at all. Block jobs and commands
//! put together what they need.

use std::sync::{Arc, MutexGuard};

use super::drained::Reach;
use super::reopen::Plan;
use super::surgery::{Log, User};
use super::{
    Backend, BackingSpec, Drained, DriverSpec, Graph, Host, Inner, NodeId, NodeSpec, Perms, Role,
    SizeWatcher, lock,
};
use crate::error::BlockError;
use crate::file::FileOpener;
use crate::image::{SnapshotView, Snapshots};
use crate::node::NodeExt;

impl Graph {
    /// Changes the graph while no request is in flight on the named nodes and drives and all below
    /// them (on none at all, without names; unknown ones do not matter). When `act` fails, all that it did is undone.
    /// Blocks, for a worker thread.
    ///
    /// # Errors
    /// Those of `act`.
    pub fn change<T>(
        &self,
        names: &[&str],
        opener: &mut dyn FileOpener,
        act: impl FnOnce(&mut Changes<'_>) -> Result<T, BlockError>,
    ) -> Result<T, BlockError> {
        let (quiet, mut inner) = self.quiet(names)?;
        let mut changes = Changes {
            graph: &mut inner,
            opener,
            host: &self.host,
            log: Log::default(),
        };
        let result = act(&mut changes);
        let log = changes.log;
        let left = match result {
            Ok(_) => inner.finish(log),
            Err(_) => inner.take_back(log),
        };
        drop(inner);
        drop(quiet);
        drop(left);
        result
    }

    /// Changes the size of a drive or node, and tells the devices above. Blocks, for a worker
    /// thread.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn resize(
        &self,
        device: Option<&str>,
        node: Option<&str>,
        size: i64,
        opener: &mut dyn FileOpener,
    ) -> Result<(), BlockError> {
        let names: Vec<&str> = device.into_iter().chain(node).collect();
        let resize = |changes: &mut Changes<'_>| changes.resize(device, node, size);
        let watchers = self.change(&names, opener, resize)?;
        watchers.iter().for_each(|watcher| watcher.resized());
        Ok(())
    }

    /// The graph with nothing in flight: waits without its lock, and looks again with it.
    pub(super) fn quiet(
        &self,
        names: &[&str],
    ) -> Result<(Drained, MutexGuard<'_, Inner>), BlockError> {
        let mut drained = Drained::of(None);
        loop {
            let inner = lock(&self.inner);
            let known = |name: &&&str| inner.find_reference(name).is_some();
            let there: Vec<&str> = names.iter().filter(known).copied().collect();
            let more = match there.is_empty() && !names.is_empty() {
                true => Vec::new(),
                false => inner.gates_above(&there, Reach::Below, &drained)?,
            };
            if more.is_empty() {
                return Ok((drained, inner));
            }
            drop(inner);
            drained.extend(more);
        }
    }
}

/// The graph while it is changed.
pub struct Changes<'a> {
    pub(super) graph: &'a mut Inner,
    opener: &'a mut dyn FileOpener,
    host: &'a Host,
    pub(super) log: Log,
}

impl Changes<'_> {
    /// Makes a node, which goes away again unless something uses it in the end. Gives its name.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn open(&mut self, spec: NodeSpec) -> Result<String, BlockError> {
        let id = self.graph.open(spec, self.opener, self.host)?;
        self.log.made(id);
        Ok(self.graph.name(id).to_owned())
    }

    /// Other options for nodes, all at once: blockdev-reopen.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn reopen(&mut self, specs: Vec<NodeSpec>) -> Result<(), BlockError> {
        let mut plan = Plan::default();
        for spec in specs {
            self.graph.plan_reopen(spec, &mut plan)?;
        }
        self.carry_out(plan)
    }

    /// Another backing file for an image, or none; what is written in the image stays.
    ///
    /// # Errors
    /// When there are no such nodes, there would be a cycle, or users do not agree.
    pub fn set_backing(&mut self, node: &str, backing: Option<&str>) -> Result<(), BlockError> {
        let id = self.find("", node)?;
        let backing = backing.map(|name| self.find("", name)).transpose()?;
        let mut plan = Plan::default();
        self.graph.plan_backing(id, backing, &mut plan)?;
        self.carry_out(plan)
    }

    /// Leads all users of a node to another one; edges between `new` and what is below it stay as
    /// they are.
    ///
    /// # Errors
    /// When there are no such nodes, there would be a cycle, or users do not agree.
    pub fn replace(&mut self, old: &str, new: &str) -> Result<(), BlockError> {
        let (old, new) = (self.find("", old)?, self.find("", new)?);
        let mut plan = Plan::default();
        self.plan_replace(old, new, &mut plan);
        self.carry_out(plan)
    }

    fn plan_replace(&self, old: NodeId, new: NodeId, plan: &mut Plan) {
        let users = self.graph.users_of(old).into_iter();
        let users = users.filter(|user| !matches!(user, User::Node(id, _) if *id == new));
        plan.leads.extend(users.map(|user| (user, old, new)));
    }

    /// Puts an overlay on top of a node or drive: its users write to the overlay from then on,
    /// and it is only read.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn snapshot(&mut self, node: &str, overlay: &str) -> Result<(), BlockError> {
        let base = self.find_medium(node)?;
        self.graph.check_idle(base)?;
        let over = self.find(overlay, overlay)?;
        self.check_overlay(over)?;
        self.graph.follow_activity(base, over)?;
        let mut plan = Plan::default();
        self.graph.plan_backing(over, Some(base), &mut plan)?;
        if over != base
            && !self
                .graph
                .nodes
                .get(&base)
                .is_some_and(|entry| entry.read_only)
        {
            self.graph.plan_read_only(base, true, &mut plan)?;
        }
        self.plan_replace(base, over, &mut plan);
        self.carry_out(plan)
    }

    fn check_overlay(&self, id: NodeId) -> Result<(), BlockError> {
        let refused = |text: &str| Err(BlockError::Unsupported(text.to_owned()));
        if self.graph.backends.values().any(|b| b.root == Some(id)) {
            return refused("The overlay is already in use");
        }
        self.graph.check_idle(id)?;
        let Some(entry) = self.graph.nodes.get(&id) else {
            return Ok(());
        };
        if entry
            .children
            .iter()
            .any(|child| child.role == Role::Backing)
        {
            return refused("The overlay already has a backing image");
        }
        match &entry.spec.driver {
            DriverSpec::Format(format) if format.kind.has_backing() => Ok(()),
            _ => refused("The overlay does not support backing images"),
        }
    }

    /// Keeps the present content of a drive or node in its image.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn take_snapshot(&mut self, device: &str, view: &SnapshotView) -> Result<(), BlockError> {
        let id = self.find_root(device)?;
        self.graph.check_idle(id)?;
        let entry = self.graph.nodes.get(&id).ok_or(BlockError::Empty)?;
        let refused = |text: String| Err(BlockError::Unsupported(text));
        if entry.read_only {
            return refused(format!("Device '{device}' is read only"));
        }
        self.graph.check_active(id, Perms::storage(true))?;
        let node = entry.node.clone();
        let Some(snapshots) = node.image().and_then(|image| image.snapshots()) else {
            return refused(format!(
                "Block format '{}' used by device '{device}' does not support internal snapshots",
                entry.spec.driver_name()
            ));
        };
        let name = &view.name;
        if name.is_empty() {
            return refused("Name is empty".to_owned());
        }
        if snapshots.list().iter().any(|there| there.name == *name) {
            return refused(format!(
                "Snapshot with name '{name}' already exists on device '{device}'"
            ));
        }
        node.flush()
            .map_err(|error| BlockError::host("Could not flush", error))?;
        let made = snapshots.create(view).map_err(|error| {
            log::error!("Snapshot '{name}': {error}");
            BlockError::Unsupported(format!(
                "Failed to create snapshot '{name}' on device '{device}': {error}"
            ))
        })?;
        self.log.snapshot(id, made);
        Ok(())
    }

    /// Forgets a snapshot in an image, which is not undone; gives what it was.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn delete_snapshot(
        &mut self,
        device: &str,
        id: Option<&str>,
        name: Option<&str>,
    ) -> Result<SnapshotView, BlockError> {
        self.with_snapshot(device, id, name, |snapshots, id| snapshots.delete(id))
    }

    /// Goes back to a snapshot in an image that no device has, which is not undone; gives what it
    /// was.
    ///
    /// # Errors
    /// In QEMU's words, or when a device has the image: its guest would not know what happened.
    pub fn apply_snapshot(
        &mut self,
        device: &str,
        id: Option<&str>,
        name: Option<&str>,
    ) -> Result<SnapshotView, BlockError> {
        let root = self.find_root(device)?;
        let has =
            |backend: &Backend| backend.device.is_some() && self.graph.is_below(root, backend.root);
        if self.graph.backends.values().any(has) {
            return Err(BlockError::InUse(self.graph.name(root).to_owned()));
        }
        self.with_snapshot(device, id, name, |snapshots, id| snapshots.apply(id))
    }

    /// Does something with the snapshot of that id, that name, or both.
    fn with_snapshot(
        &mut self,
        device: &str,
        id: Option<&str>,
        name: Option<&str>,
        act: impl FnOnce(&dyn Snapshots, &str) -> Result<(), BlockError>,
    ) -> Result<SnapshotView, BlockError> {
        let refused = |text: String| BlockError::Unsupported(text);
        let root = self.find_root(device)?;
        if id.is_none() && name.is_none() {
            return Err(refused("Name or id must be provided".to_owned()));
        }
        self.graph.check_idle(root)?;
        let entry = self.graph.nodes.get(&root).ok_or(BlockError::Empty)?;
        let snapshots = entry.node.image().and_then(|image| image.snapshots());
        let snapshots = snapshots.ok_or_else(|| {
            refused("Failed to get a snapshot list: Operation not supported".to_owned())
        })?;
        let fits = |there: &SnapshotView| {
            id.is_none_or(|id| id == there.id) && name.is_none_or(|name| name == there.name)
        };
        let found = snapshots.list().into_iter().find(fits).ok_or_else(|| {
            refused(format!(
                "Snapshot with id '{}' and name '{}' does not exist on device '{device}'",
                id.unwrap_or("null"),
                name.unwrap_or("null"),
            ))
        })?;
        if entry.read_only {
            return Err(refused(format!("Device '{device}' is read only")));
        }
        self.graph.check_active(root, Perms::storage(true))?;
        act(snapshots, &found.id)?;
        Ok(found)
    }

    /// Changes the size of a node; gives the devices that are to be told.
    fn resize(
        &mut self,
        device: Option<&str>,
        node: Option<&str>,
        size: i64,
    ) -> Result<Vec<Arc<dyn SizeWatcher>>, BlockError> {
        let id = self.find_either(device, node)?;
        let size = u64::try_from(size).map_err(|_| {
            BlockError::Unsupported("Parameter 'size' expects a >0 size".to_owned())
        })?;
        self.graph.check_idle(id)?;
        let entry = self.graph.nodes.get(&id).ok_or(BlockError::Empty)?;
        if entry.read_only {
            return Err(BlockError::Unsupported("Image is read-only".to_owned()));
        }
        self.graph.check_active(id, Perms::resizer())?;
        let node = entry.node.clone();
        let who = self.graph.as_child(id, "an unnamed block device", "root");
        self.graph.agree_with(id, Perms::resizer(), who)?;
        let resized = node.resize(size);
        self.graph.refresh(id);
        resized?;
        let mut devices = Vec::new();
        self.resized(id, &mut devices)?;
        Ok(devices)
    }

    /// Those above whose size is that of what is below them.
    pub(super) fn resized(
        &mut self,
        id: NodeId,
        devices: &mut Vec<Arc<dyn SizeWatcher>>,
    ) -> Result<(), BlockError> {
        for user in self.graph.users_of(id) {
            match user {
                User::Backend(backend) => {
                    let backend = self.graph.backends.get(&backend);
                    let watcher =
                        backend.and_then(|backend| backend.size_watcher.as_ref()?.upgrade());
                    devices.extend(watcher);
                }
                User::Node(above, Role::Filtered | Role::Copied | Role::Image) => {
                    let mut plan = Plan::default();
                    self.graph.plan_again(above, &mut plan)?;
                    self.carry_out(plan)?;
                    self.resized(above, devices)?;
                }
                User::Node(..) => {}
            }
        }
        Ok(())
    }

    /// Writes another name of the backing file into an image below a device: change-backing-file.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn rename_backing(
        &mut self,
        device: &str,
        image: &str,
        file: &str,
    ) -> Result<(), BlockError> {
        let root = self.find_root(device)?;
        let id = self.find("", image)?;
        let entry = self.graph.nodes.get(&id).ok_or(BlockError::Empty)?;
        let backing = entry.children.iter().find(|c| c.role == Role::Backing);
        let Some(backing) = backing.and_then(|child| self.graph.nodes.get(&child.id)) else {
            return Err(BlockError::Unsupported(
                "not allowing backing file change on an image without a backing file".to_owned(),
            ));
        };
        if !self.graph.is_below(id, Some(root)) {
            return Err(BlockError::Unsupported(format!(
                "'{device}' and image file are not in the same chain"
            )));
        }
        self.graph.check_active(id, Perms::storage(true))?;
        let format = backing.spec.driver_name();
        let read_only = entry.read_only;
        if read_only {
            self.set_read_only(id, false)?;
        }
        let node = self.graph.nodes.get(&id).map(|entry| entry.node.clone());
        let changed = match node.as_ref().and_then(|node| node.image()) {
            Some(image) => image.change_backing(Some(file), Some(format)),
            None => Err(BlockError::Empty),
        };
        if read_only {
            self.set_read_only(id, true)?;
        }
        changed
    }

    fn set_read_only(&mut self, id: NodeId, read_only: bool) -> Result<(), BlockError> {
        let mut plan = Plan::default();
        self.graph.plan_read_only(id, read_only, &mut plan)?;
        self.carry_out(plan)
    }

    fn carry_out(&mut self, plan: Plan) -> Result<(), BlockError> {
        self.graph
            .carry_out(plan, self.opener, self.host, &mut self.log)
    }

    /// A drive's node, or a node.
    fn find_either(&self, device: Option<&str>, node: Option<&str>) -> Result<NodeId, BlockError> {
        let found = self.graph.find_backend(device.unwrap_or(""));
        match found.and_then(|id| self.graph.backends.get(&id)) {
            Some(backend) => backend
                .root
                .ok_or_else(|| BlockError::DriveEmpty(backend.name.clone())),
            None => {
                node.and_then(|node| self.graph.find(node))
                    .ok_or_else(|| BlockError::NotFound {
                        device: device.unwrap_or("").to_owned(),
                        node: node.unwrap_or("").to_owned(),
                    })
            }
        }
    }

    pub(super) fn find(&self, device: &str, node: &str) -> Result<NodeId, BlockError> {
        self.find_either(Some(device), Some(node))
    }

    /// What is on a drive, or a node.
    fn find_medium(&self, name: &str) -> Result<NodeId, BlockError> {
        self.find(name, name)
    }

    /// The same, where no node is above.
    fn find_root(&self, name: &str) -> Result<NodeId, BlockError> {
        let id = self.find(name, name)?;
        match self.graph.has_parents(id) {
            true => Err(BlockError::NotRoot),
            false => Ok(id),
        }
    }
}

impl Graph {
    /// What blockdev-snapshot-sync needs of the node that an overlay is made for.
    ///
    /// # Errors
    /// In QEMU's words, when there is none or it is busy.
    pub fn overlay_base(
        &self,
        device: Option<&str>,
        node: Option<&str>,
    ) -> Result<super::NodeView, BlockError> {
        let name = {
            let mut inner = lock(&self.inner);
            let changes = Changes {
                graph: &mut inner,
                opener: &mut |_: &str, _: i32| Err(std::io::ErrorKind::Unsupported.into()),
                host: &self.host,
                log: Log::default(),
            };
            let id = changes.find_either(device, node)?;
            changes.graph.check_idle(id)?;
            changes.graph.name(id).to_owned()
        };
        self.node(&name).ok_or(BlockError::NoNode(name))
    }
}

/// An overlay that is opened before it has its backing file.
pub fn without_backing(mut spec: NodeSpec) -> NodeSpec {
    if let DriverSpec::Format(format) = &mut spec.driver {
        format.backing = Some(BackingSpec::Nothing);
    }
    spec
}

#[cfg(test)]
#[path = "change_test.rs"]
mod tests;
