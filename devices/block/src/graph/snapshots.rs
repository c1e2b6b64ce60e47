//! Disks as snapshots of the whole machine see them.

use std::sync::Arc;

use super::{Changes, Graph, Hold, Inner, NodeId, Role, SizeWatcher, lock};
use crate::error::BlockError;
use crate::image::{SnapshotView, Snapshots};
use crate::node::NodeExt;

/// A disk that a snapshot of the machine may be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotDisk {
    /// The node's name.
    pub node: String,
    /// The drive's name, or the node's where there is no drive: what messages call it.
    pub device: String,
    /// The drive's name, or nothing.
    pub drive: String,
    /// The node whose image keeps snapshots, itself or what it passes requests on to. `None` when
    /// there is none, or it is only read.
    pub image: Option<String>,
    /// What is kept there, oldest first.
    pub snapshots: Vec<SnapshotView>,
}

impl Graph {
    /// The disks that a snapshot of the machine is about: the nodes of these names, or all that
    /// are written and in use by a device or by nobody, those of drives and devices first.
    ///
    /// # Errors
    /// In QEMU's words, when there is no such node or none is named.
    pub fn snapshot_disks(
        &self,
        nodes: Option<&[String]>,
    ) -> Result<Vec<SnapshotDisk>, BlockError> {
        let inner = lock(&self.inner);
        let ids = match nodes {
            Some([]) => {
                return Err(BlockError::Unsupported(
                    "At least one device is required for snapshot".to_owned(),
                ));
            }
            Some(names) => {
                let find = |name: &String| {
                    let none = || format!("No block device node '{name}'");
                    let found = inner.find(name);
                    found.ok_or_else(|| BlockError::Unsupported(none()))
                };
                names.iter().map(find).collect::<Result<Vec<_>, _>>()?
            }
            None => inner.all_disks(),
        };
        Ok(ids
            .into_iter()
            .filter_map(|id| inner.snapshot_disk(id))
            .collect())
    }

    /// Refuses disks that are left to another program: what they have is that program's.
    ///
    /// # Errors
    /// The first one.
    pub fn check_disks_active(&self, disks: &[SnapshotDisk]) -> Result<(), BlockError> {
        let inner = lock(&self.inner);
        let inactive = |name: &str| inner.find(name).is_some_and(|id| !inner.is_active(id));
        let found = disks.iter().find(|disk| {
            inactive(&disk.node) || disk.image.as_ref().is_some_and(|image| inactive(image))
        });
        match found {
            None => Ok(()),
            Some(disk) => Err(BlockError::Unsupported(format!(
                "Device '{}' is inactive: another program may use it",
                disk.device
            ))),
        }
    }

    /// Holds a node, so that it stays, without doing anything to it.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn keep(&self, node: &str) -> Result<Hold, BlockError> {
        let mut inner = lock(&self.inner);
        let none = || BlockError::NoNode(node.to_owned());
        let id = inner.find(node).ok_or_else(none)?;
        self.hold_node(&mut inner, id)
    }
}

impl Inner {
    /// Written, and used by a back end or by nobody.
    fn all_disks(&self) -> Vec<NodeId> {
        let used = self.backends.values().filter_map(|backend| backend.root);
        let own = self.nodes.keys().copied();
        let own = own.filter(|id| !self.has_parents(*id));
        let mut all: Vec<NodeId> = Vec::new();
        for id in used.chain(own) {
            let written = self.nodes.get(&id).is_some_and(|entry| !entry.read_only);
            if written && !all.contains(&id) {
                all.push(id);
            }
        }
        all
    }

    fn snapshot_disk(&self, id: NodeId) -> Option<SnapshotDisk> {
        let entry = self.nodes.get(&id)?;
        let mut drives = self.backends.values().filter(|b| b.root == Some(id));
        let drive = drives.find(|backend| !backend.name.is_empty());
        let drive = drive.map_or_else(String::new, |backend| backend.name.clone());
        let device = match drive.is_empty() {
            true => entry.name.clone(),
            false => drive.clone(),
        };
        let image = self.snapshot_image(id).and_then(|id| self.nodes.get(&id));
        let snapshots = image.and_then(|entry| entry.node.image()?.snapshots());
        Some(SnapshotDisk {
            node: entry.name.clone(),
            device,
            drive,
            image: image.map(|entry| entry.name.clone()),
            snapshots: snapshots.map_or_else(Vec::new, |snapshots| snapshots.list()),
        })
    }

    /// The node whose image keeps what is written to `id`.
    fn snapshot_image(&self, id: NodeId) -> Option<NodeId> {
        let entry = self.nodes.get(&id).filter(|entry| !entry.read_only)?;
        if entry.node.image().is_some_and(|i| i.snapshots().is_some()) {
            return Some(id);
        }
        match entry.children.as_slice() {
            [child] if matches!(child.role, Role::Filtered | Role::Copied | Role::Image) => {
                self.snapshot_image(child.id)
            }
            _ => None,
        }
    }
}

impl Changes<'_> {
    /// Keeps the present content of a disk as part of a snapshot of the machine.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn add_to_machine(
        &mut self,
        disk: &SnapshotDisk,
        view: &SnapshotView,
    ) -> Result<(), BlockError> {
        let id = self.image_of(disk)?;
        let Some(entry) = self.graph.nodes.get(&id) else {
            return Err(BlockError::Empty);
        };
        let node = entry.node.clone();
        let failed = |error: BlockError| {
            let (name, device) = (&view.name, &disk.device);
            BlockError::Unsupported(format!(
                "Could not create snapshot '{name}' on '{device}': {error}"
            ))
        };
        node.flush()
            .map_err(|error| failed(BlockError::host("Could not flush", error)))?;
        let snapshots = node.image().and_then(|image| image.snapshots());
        let snapshots = snapshots.ok_or(BlockError::Empty)?;
        let made = snapshots.create(view).map_err(failed)?;
        self.log.snapshot(id, made);
        Ok(())
    }

    /// Takes a disk back to a snapshot, which is not undone. Gives the devices whose disk has
    /// another size now.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn return_to(
        &mut self,
        disk: &SnapshotDisk,
        name: &str,
    ) -> Result<Vec<Arc<dyn SizeWatcher>>, BlockError> {
        let id = self.image_of(disk)?;
        let before = self
            .graph
            .nodes
            .get(&id)
            .map(|entry| entry.node.info().size);
        self.with_named(disk, name, "load", |snapshots, id| snapshots.apply(id))?;
        let after = self
            .graph
            .nodes
            .get(&id)
            .map(|entry| entry.node.info().size);
        let mut devices = Vec::new();
        if before != after {
            self.graph.refresh(id);
            self.resized(id, &mut devices)?;
        }
        Ok(devices)
    }

    /// Forgets a snapshot of a disk, if there is one; not undone.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn forget_named(&mut self, disk: &SnapshotDisk, name: &str) -> Result<(), BlockError> {
        self.with_named(disk, name, "delete", |snapshots, id| snapshots.delete(id))
    }

    fn with_named(
        &mut self,
        disk: &SnapshotDisk,
        name: &str,
        what: &str,
        act: impl FnOnce(&dyn Snapshots, &str) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let id = self.image_of(disk)?;
        let node = self.graph.nodes.get(&id).map(|entry| entry.node.clone());
        let image = node.as_ref().and_then(|node| node.image());
        let snapshots = image.and_then(|image| image.snapshots());
        let snapshots = snapshots.ok_or(BlockError::Empty)?;
        let list = snapshots.list();
        let Some(found) = list.iter().find(|there| there.name == name) else {
            return Ok(());
        };
        act(snapshots, &found.id).map_err(|error| {
            BlockError::Unsupported(format!(
                "Could not {what} snapshot '{name}' on '{}': {error}",
                disk.device
            ))
        })
    }

    /// Where the disk's snapshots are, which may be another node than before.
    fn image_of(&self, disk: &SnapshotDisk) -> Result<NodeId, BlockError> {
        let id = self.find("", &disk.node)?;
        self.graph.snapshot_image(id).ok_or_else(|| {
            BlockError::Unsupported(format!(
                "Device '{}' is writable but does not support snapshots",
                disk.device
            ))
        })
    }
}

#[cfg(test)]
#[path = "snapshots_test.rs"]
mod tests;
