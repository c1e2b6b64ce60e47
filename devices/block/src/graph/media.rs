//! Media of back ends: taken out and put in while a device has the back end.

use std::sync::Arc;

use super::drained::Drained;
use super::{
    AttachOptions, Attachment, Backend, BackendId, BackendName, Entry, Graph, Hold, Inner, Perms,
    Removed, lock,
};
use crate::error::BlockError;
use crate::gate::DetectZeroes;

/// The guest locked the tray, and was asked to open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrayLocked;

/// A tray.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrayView {
    /// It is open.
    pub open: bool,
    /// The guest does not want it to open.
    pub locked: bool,
}

/// A device whose medium can be taken out, as whoever exchanges the medium needs it. Any thread;
/// at once; called without locks of the graph.
pub trait MediaDevice: Send + Sync {
    /// Its tray; `None` where media are put in without one.
    fn tray(&self) -> Option<TrayView>;

    /// Opens the tray; true when it moved. A lock of the guest counts unless `force` is set: the
    /// guest is asked to open it then, and may do so later.
    ///
    /// # Errors
    /// When the guest locked it.
    fn open_tray(&self, force: bool) -> Result<bool, TrayLocked>;

    /// Closes the tray on what is in it; true when it moved. The guest is told of a new medium.
    fn close_tray(&self) -> bool;

    /// Another medium is there, or none any more, and no tray moved for it.
    fn medium_changed(&self);
}

/// The place of a back end's medium.
#[derive(Clone)]
pub struct Slot {
    graph: Graph,
    id: BackendId,
    drive: String,
    device: Option<String>,
    removable: bool,
    media: Option<Arc<dyn MediaDevice>>,
}

impl Slot {
    /// The drive's name, or nothing.
    pub fn drive(&self) -> &str {
        &self.drive
    }

    /// The QOM path of the device that has it.
    pub fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// Whether its medium can be taken out: no device has it, or one that can live without.
    pub fn is_removable(&self) -> bool {
        self.removable
    }

    /// The device's side of it.
    pub fn media(&self) -> Option<&dyn MediaDevice> {
        self.media.as_deref()
    }

    /// The name of the node that is in it.
    pub fn medium(&self) -> Option<String> {
        let inner = lock(&self.graph.inner);
        let root = inner.backends.get(&self.id)?.root?;
        inner.nodes.get(&root).map(|entry| entry.name.clone())
    }

    /// How what is in it is opened, or what was in it last.
    pub fn habits(&self) -> Habits {
        self.habits_in(&lock(&self.graph.inner))
    }

    fn habits_in(&self, inner: &Inner) -> Habits {
        let Some(backend) = inner.backends.get(&self.id) else {
            return Habits::default();
        };
        let root = backend.root.and_then(|root| inner.nodes.get(&root));
        root.map(Habits::of).unwrap_or(backend.habits)
    }

    /// Holds what is in it, so that it stays when it is taken out.
    pub fn keep(&self) -> Option<Hold> {
        let mut inner = lock(&self.graph.inner);
        let root = inner.backends.get(&self.id)?.root?;
        let hold = self.graph.hold_node(&mut inner, root);
        hold.ok()
    }

    /// Holds the device's requests and waits until none is in flight. Blocks, for a worker thread.
    pub fn drain(&self) -> Drained {
        let inner = lock(&self.graph.inner);
        let gate = inner.backends.get(&self.id).map(|b| b.gate.clone());
        drop(inner);
        Drained::of(gate)
    }

    /// Takes the medium out, if there is one.
    ///
    /// # Errors
    /// When the device went away meanwhile.
    pub fn take_out(&self, _quiet: &Drained) -> Result<Removed, BlockError> {
        let mut inner = lock(&self.graph.inner);
        let mut removed = Removed::default();
        let habits = self.habits_in(&inner);
        let backend = inner.backends.get_mut(&self.id).ok_or(BlockError::Gone)?;
        let Some(root) = backend.root.take() else {
            return Ok(removed);
        };
        backend.habits = habits;
        backend.set_perms(Perms::NONE);
        backend.edge.set(None);
        inner.collect(root, &mut removed);
        Ok(removed)
    }

    /// Takes the drive away. A device that has it keeps the place, empty and without the name.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn abandon(&self, quiet: &Drained) -> Result<Removed, BlockError> {
        let removed = self.take_out(quiet)?;
        let mut inner = lock(&self.graph.inner);
        let backend = inner.backends.get_mut(&self.id).ok_or(BlockError::Gone)?;
        backend.name = String::new();
        if backend.device.is_none() {
            inner.backends.remove(&self.id);
        }
        Ok(removed)
    }

    /// Puts a node in.
    ///
    /// # Errors
    /// When there is a medium, no such node, other users of it do not get along with the device,
    /// or the device went away meanwhile. Nothing has changed then.
    pub fn put_in(&self, node: &str, _quiet: &Drained) -> Result<(), BlockError> {
        let mut inner = lock(&self.graph.inner);
        let found = inner.find(node);
        let root = found.ok_or_else(|| BlockError::NodeNotFound(node.to_owned()))?;
        let entry = inner.nodes.get(&root).ok_or(BlockError::Empty)?;
        let (read_only, node) = (entry.read_only, entry.node.clone());
        let backend = inner.backends.get_mut(&self.id).ok_or(BlockError::Gone)?;
        if backend.root.is_some() {
            return Err(BlockError::MediumThere);
        }
        backend.root = Some(root);
        backend.set_perms(backend.perms_on(read_only));
        if let Err(error) = inner.agree(root) {
            if let Some(backend) = inner.backends.get_mut(&self.id) {
                backend.root = None;
                backend.set_perms(Perms::NONE);
            }
            inner.refresh(root);
            return Err(error);
        }
        if let Some(backend) = inner.backends.get(&self.id) {
            backend.edge.set(Some(node));
        }
        Ok(())
    }
}

/// How a medium is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Habits {
    /// It is not written.
    pub read_only: bool,
    /// The page cache is passed by.
    pub direct: bool,
    /// Flushes are not carried out.
    pub no_flush: bool,
    /// What is done with written zeroes.
    pub detect_zeroes: DetectZeroes,
}

impl Habits {
    fn of(entry: &Entry) -> Self {
        Habits {
            read_only: entry.read_only,
            direct: entry.spec.direct.unwrap_or(false),
            no_flush: entry.spec.no_flush.unwrap_or(false),
            detect_zeroes: entry.spec.detect_zeroes,
        }
    }
}

impl Backend {
    /// What its device does with a node, and lets others do.
    fn perms_on(&self, read_only: bool) -> Perms {
        self.options
            .map_or(Perms::NONE, |options| options.perms(read_only))
    }
}

impl Graph {
    /// The place of a medium.
    pub fn slot(&self, name: BackendName<'_>) -> Option<Slot> {
        let inner = lock(&self.inner);
        let mut backends = inner.backends.iter();
        let (id, backend) = backends.find(|(_, backend)| name.is(backend))?;
        Some(Slot {
            graph: self.clone(),
            id: *id,
            drive: backend.name.clone(),
            device: backend.device.clone(),
            removable: backend.is_removable(),
            media: backend.media(),
        })
    }

    /// Whether a drive, a device or a job has the node itself.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn is_in_use(&self, node: &str) -> Result<bool, BlockError> {
        let inner = lock(&self.inner);
        let found = inner.find(node);
        let id = found.ok_or_else(|| BlockError::NodeNotFound(node.to_owned()))?;
        Ok(inner.backends.values().any(|b| b.root == Some(id)))
    }

    /// Gives a drive or node to a device whose medium can be taken out: it may be empty. Without
    /// `drive` the device gets an empty back end of its own.
    ///
    /// # Errors
    /// As [`Self::attach`], but for what is empty.
    pub fn attach_removable(
        &self,
        drive: Option<&str>,
        device: &str,
        options: AttachOptions,
    ) -> Result<Attachment, BlockError> {
        self.attach_to(drive, device, options, true)
    }
}

#[cfg(test)]
#[path = "media_test.rs"]
mod tests;
