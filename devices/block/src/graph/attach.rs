//! Devices on nodes.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::backend::{Backend, CacheSwitch};
use super::{BackendId, Graph, Inner, MediaDevice, NodeId, Perms, Removed, WriteCache, lock};
use crate::drain::{DrainGate, RootLane};
use crate::edge::Edge;
use crate::error::BlockError;
use crate::node::{BlockNode, IoLane, NodeInfo};
use crate::on_error::{ErrorAction, ErrorPolicy, ErrorState, Failed};
use crate::stats::Stats;
use crate::throttle::ThrottleSwitch;
use crate::waker::Waker;

/// Whether other devices may write what a device uses (`share-rw`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// They may not.
    Exclusive,
    /// They may; the guests see to it.
    Writers,
}

/// How a device uses a node. A node that cannot be written is only read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachOptions {
    /// Whether others may write.
    pub sharing: Sharing,
    /// Only read it, whatever the node can.
    pub read_only: bool,
}

impl AttachOptions {
    /// What the device does with a node, and lets others do.
    pub(super) fn perms(self, node_read_only: bool) -> Perms {
        let read_only = node_read_only || self.read_only;
        Perms::device(!read_only, self.sharing == Sharing::Writers)
    }
}

/// A device that tells its guest of a new size. Any thread; at once; called without locks of the
/// graph.
pub trait SizeWatcher: Send + Sync {
    /// The medium has another size.
    fn resized(&self);
}

/// A back end in the hands of one device. Dropping it gives the node back; a drive goes away with
/// it, and with the drive its nodes, which blocks while images are closed.
pub struct Attachment {
    edge: Edge,
    gate: Arc<DrainGate>,
    throttle: Arc<ThrottleSwitch>,
    stats: Arc<Stats>,
    errors: Arc<ErrorState>,
    /// The device's QOM path.
    device: String,
    may_write: Arc<AtomicBool>,
    write_cache: CacheSwitch,
    place: Option<(Weak<Mutex<Inner>>, BackendId)>,
    /// The drive stays when the device goes.
    kept: AtomicBool,
}

impl Attachment {
    /// A node that is in no graph.
    pub fn alone(node: Arc<dyn BlockNode>) -> Self {
        Attachment {
            edge: Edge::new(Some(node)),
            gate: Arc::default(),
            throttle: Arc::default(),
            stats: Arc::default(),
            errors: Arc::default(),
            device: String::new(),
            may_write: Arc::new(AtomicBool::new(true)),
            write_cache: CacheSwitch::new(WriteCache::Back),
            place: None,
            kept: AtomicBool::new(false),
        }
    }

    /// Says whether a drive is nobody's again when the device goes, rather than gone too: so it is
    /// while it is not sure yet that there will be a device.
    pub fn keep_drive(&self, kept: bool) {
        self.kept.store(kept, Ordering::Release);
    }

    /// What the medium is now; no bytes without one. Any thread.
    pub fn info(&self) -> NodeInfo {
        let info = self.edge.info();
        NodeInfo {
            read_only: info.read_only || !self.may_write.load(Ordering::Acquire),
            ..info
        }
    }

    /// Whether there is a medium.
    pub fn has_medium(&self) -> bool {
        self.edge.node().is_some()
    }

    /// A lane into the medium, whichever it is in time (see [`BlockNode::open_lane`]). Without a
    /// medium requests end with ENOMEDIUM.
    ///
    /// # Errors
    /// When the host has no room for one.
    pub fn open_lane(&self, depth: u32, waker: &Waker) -> Result<Box<dyn IoLane>, BlockError> {
        let lane = self.edge.open_lane(depth, waker)?;
        let lane = RootLane::new(&self.gate, &self.throttle, lane, waker);
        Ok(Box::new(lane))
    }

    /// Says who sees to exchanges of the medium on the device's side. Weak, because the device has
    /// the attachment.
    pub fn set_media(&self, media: Weak<dyn MediaDevice>) {
        if let Some((graph, id)) = &self.place
            && let Some(graph) = graph.upgrade()
            && let Some(backend) = lock(&graph).backends.get_mut(id)
        {
            backend.media = Some(media);
        }
    }

    /// Says who learns of another size of the medium. Weak, because the device has the attachment.
    pub fn watch_size(&self, watcher: Weak<dyn SizeWatcher>) {
        if let Some((graph, id)) = &self.place
            && let Some(graph) = graph.upgrade()
            && let Some(backend) = lock(&graph).backends.get_mut(id)
        {
            backend.size_watcher = Some(watcher);
        }
    }

    /// Where the device counts its requests.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// What is done about failures; at first what the drive was made with.
    pub fn error_policy(&self) -> ErrorPolicy {
        self.errors.policy()
    }

    /// Says what is done about failures from now on. Any thread.
    pub fn set_error_policy(&self, policy: ErrorPolicy) {
        self.errors.set_policy(policy);
    }

    /// Decides about a request that failed on the host. Any thread; takes no lock.
    pub fn failed(&self, failed: Failed, error: &io::Error) -> ErrorAction {
        self.errors.failed(failed, error)
    }

    /// The QOM path that the device gave.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Whether the device must not write.
    pub fn is_read_only(&self) -> bool {
        self.info().read_only
    }

    /// How writes are treated now; at first what the drive was made with.
    pub fn write_cache(&self) -> WriteCache {
        self.write_cache.get()
    }

    /// Says how the device treats writes from now on. Any thread; takes no lock.
    pub fn set_write_cache(&self, cache: WriteCache) {
        self.write_cache.set(cache);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Some((graph, id)) = self.place.take()
            && let Some(graph) = graph.upgrade()
        {
            let mut inner = lock(&graph);
            if self.kept.load(Ordering::Acquire) {
                let root = inner.backends.get(&id).and_then(|backend| backend.root);
                return inner.undo(id, root);
            }
            let removed = inner.remove_backend(id);
            drop(inner);
            drop(removed);
        }
    }
}

impl Graph {
    /// Gives the drive or node called `drive` to the device with the QOM path `device`.
    ///
    /// # Errors
    /// In QEMU's words, when it is not there, is empty, is taken, or others use it in a way that
    /// the device does not allow or the other way round.
    pub fn attach(
        &self,
        drive: &str,
        device: &str,
        options: AttachOptions,
    ) -> Result<Attachment, BlockError> {
        self.attach_to(Some(drive), device, options, false)
    }

    pub(super) fn attach_to(
        &self,
        drive: Option<&str>,
        device: &str,
        options: AttachOptions,
        removable: bool,
    ) -> Result<Attachment, BlockError> {
        let mut inner = lock(&self.inner);
        let (id, root) = match drive {
            Some(drive) => inner.backend_for(drive, device)?,
            None => (inner.empty_for(device), None),
        };
        let attached = inner.take(id, root, options, removable);
        if attached.is_err() {
            inner.undo(id, root);
        }
        attached?;
        let backend = inner.backends.get(&id).ok_or(BlockError::Empty)?;
        Ok(Attachment {
            edge: backend.edge.clone(),
            gate: backend.gate.clone(),
            throttle: backend.throttle.clone(),
            stats: backend.stats.clone(),
            errors: backend.errors.clone(),
            device: device.to_owned(),
            may_write: backend.may_write.clone(),
            write_cache: backend.write_cache.clone(),
            place: Some((Arc::downgrade(&self.inner), id)),
            kept: AtomicBool::new(false),
        })
    }
}

impl Graph {
    /// Takes the node away from the device with this QOM path, whoever still has its attachment.
    /// `None` when it had none.
    pub fn detach(&self, device: &str) -> Option<Removed> {
        let mut inner = lock(&self.inner);
        let has = |(_, backend): &(&BackendId, &Backend)| backend.device.as_deref() == Some(device);
        let found = inner.backends.iter().find(has).map(|(id, _)| *id);
        found.map(|id| inner.remove_backend(id))
    }
}

impl Inner {
    /// The drive of that name, or a new back end on the node of that name, now the device's.
    fn backend_for(
        &mut self,
        drive: &str,
        device: &str,
    ) -> Result<(BackendId, Option<NodeId>), BlockError> {
        if let Some(id) = self.find_backend(drive)
            && let Some(backend) = self.backends.get_mut(&id)
        {
            if backend.device.is_some() {
                return Err(BlockError::DriveTaken(drive.to_owned()));
            }
            backend.device = Some(device.to_owned());
            return Ok((id, backend.root));
        }
        let root = self
            .find(drive)
            .ok_or_else(|| BlockError::NoDrive(drive.to_owned()))?;
        let node = self.nodes.get(&root).map(|entry| entry.node.clone());
        let id = BackendId(self.number());
        let there = node.map(|node| (root, node));
        let mut backend = Backend::new(String::new(), there, WriteCache::Back);
        backend.device = Some(device.to_owned());
        self.backends.insert(id, backend);
        Ok((id, Some(root)))
    }

    /// A new back end without a medium, now the device's.
    fn empty_for(&mut self, device: &str) -> BackendId {
        let id = BackendId(self.number());
        let mut backend = Backend::new(String::new(), None, WriteCache::Back);
        backend.device = Some(device.to_owned());
        self.backends.insert(id, backend);
        id
    }

    fn take(
        &mut self,
        id: BackendId,
        root: Option<NodeId>,
        options: AttachOptions,
        removable: bool,
    ) -> Result<(), BlockError> {
        let entry = root.and_then(|root| self.nodes.get(&root));
        let read_only = entry.map(|entry| entry.read_only);
        if let Some(backend) = self.backends.get_mut(&id) {
            backend.options = Some(options);
            backend.removable = removable;
            backend.set_perms(read_only.map_or(Perms::NONE, |ro| options.perms(ro)));
            backend.habits.read_only |= options.read_only;
        }
        match root {
            Some(root) => self.agree(root),
            None if removable => Ok(()),
            None => Err(BlockError::Empty),
        }
    }

    /// After a refusal: the drive is free again, a back end of the device's own is gone.
    fn undo(&mut self, id: BackendId, root: Option<NodeId>) {
        let named = match self.backends.get_mut(&id) {
            Some(backend) => {
                backend.set_perms(Perms::NONE);
                backend.device = None;
                backend.options = None;
                backend.removable = false;
                !backend.name.is_empty()
            }
            None => false,
        };
        if named {
            root.into_iter().for_each(|root| self.refresh(root));
        } else {
            drop(self.remove_backend(id));
        }
    }
}
