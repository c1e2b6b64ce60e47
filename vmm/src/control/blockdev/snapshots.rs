//! What snapshots of the whole machine do with disks.

use std::sync::Arc;

use block::{BlockError, BlockNode, Changes, Drained, Hold, SnapshotDisk, SnapshotView, Snapshots};

use super::GraphWork;
use super::change::snapshot_now;

/// The image that has the machine's state, which stays until this is dropped.
pub struct StateImage {
    node: StateNode,
    hold: Hold,
}

impl StateImage {
    /// Its node, for another thread.
    pub fn node(&self) -> StateNode {
        self.node.clone()
    }

    /// Its snapshots.
    ///
    /// # Errors
    /// When it has none.
    pub fn snapshots(&self) -> Result<&dyn Snapshots, String> {
        self.node.snapshots()
    }
}

/// The same, without keeping it in the graph.
#[derive(Clone)]
pub struct StateNode(Arc<dyn BlockNode>);

impl StateNode {
    /// Its snapshots.
    ///
    /// # Errors
    /// When it has none.
    pub fn snapshots(&self) -> Result<&dyn Snapshots, String> {
        let snapshots = self.0.image().and_then(|image| image.snapshots());
        snapshots.ok_or_else(|| "The image has no snapshots".to_owned())
    }
}

impl GraphWork {
    /// Does all of it while nobody else changes the graph or an image.
    ///
    /// # Errors
    /// Those of the work; and when the program ends before its turn comes.
    pub fn in_turn<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let turn = self.turn.clone();
        let done = turn.take(|| work(self).map_err(BlockError::Unsupported));
        done.map_err(|error| error.to_string())
    }

    /// The disks of these nodes, or all that are written.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn snapshot_disks(&self, nodes: Option<&[String]>) -> Result<Vec<SnapshotDisk>, String> {
        let disks = self.graph.snapshot_disks(nodes);
        disks.map_err(|error| error.to_string())
    }

    /// Refuses disks that are left to another program.
    ///
    /// # Errors
    /// The first one.
    pub fn check_active(&self, disks: &[SnapshotDisk]) -> Result<(), String> {
        let checked = self.graph.check_disks_active(disks);
        checked.map_err(|error| error.to_string())
    }

    /// A disk's image, for the machine's state.
    ///
    /// # Errors
    /// When it is gone.
    pub fn state_image(&self, disk: &SnapshotDisk) -> Result<StateImage, String> {
        let name = disk.image.as_deref().unwrap_or(&disk.node);
        let hold = self.graph.keep(name).map_err(|error| error.to_string())?;
        Ok(StateImage {
            node: StateNode(hold.node()),
            hold,
        })
    }

    /// Holds the requests of all devices above the image.
    ///
    /// # Errors
    /// When it is gone.
    pub fn quiet(&self, image: &StateImage) -> Result<Drained, String> {
        let drained = self.graph.drain(&[image.hold.name()]);
        drained.map_err(|error| error.to_string())
    }

    /// Makes a snapshot on all disks, or on none; `state` has so many bytes of machine state.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn keep_machine(
        &mut self,
        disks: &[SnapshotDisk],
        tag: &str,
        guest_ns: u64,
        state: (&SnapshotDisk, u64),
    ) -> Result<(), String> {
        let view = snapshot_now(tag.to_owned(), guest_ns);
        let (with_state, bytes) = state;
        self.change_disks(disks, |changes| {
            disks.iter().try_for_each(|disk| {
                let vm_state_size = if disk == with_state { bytes } else { 0 };
                let view = SnapshotView {
                    vm_state_size,
                    ..view.clone()
                };
                changes.add_to_machine(disk, &view)
            })
        })
    }

    /// Takes all disks back to a snapshot.
    ///
    /// # Errors
    /// In QEMU's words; disks before the one that failed are back.
    pub fn return_machine(&mut self, disks: &[SnapshotDisk], tag: &str) -> Result<(), String> {
        let resized = self.change_disks(disks, |changes| {
            let mut resized = Vec::new();
            for disk in disks {
                resized.extend(changes.return_to(disk, tag)?);
            }
            Ok(resized)
        })?;
        resized.iter().for_each(|watcher| watcher.resized());
        Ok(())
    }

    /// Forgets the oldest snapshot of that name on all disks that have one.
    ///
    /// # Errors
    /// In QEMU's words; disks before the one that failed have forgotten it.
    pub fn forget_machine(&mut self, disks: &[SnapshotDisk], tag: &str) -> Result<(), String> {
        self.change_disks(disks, |changes| {
            let mut disks = disks.iter();
            disks.try_for_each(|disk| changes.forget_named(disk, tag))
        })
    }

    fn change_disks<T>(
        &mut self,
        disks: &[SnapshotDisk],
        act: impl FnOnce(&mut Changes<'_>) -> Result<T, BlockError>,
    ) -> Result<T, String> {
        let names: Vec<&str> = disks.iter().map(|disk| disk.node.as_str()).collect();
        let GraphWork { graph, opener, .. } = self;
        let changed = graph.change(&names, opener, act);
        changed.map_err(|error| error.to_string())
    }
}
