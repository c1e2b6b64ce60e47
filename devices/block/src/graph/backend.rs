//! Back ends: what a device has in hand. `-drive` makes them under a name; a device that uses a
//! node directly gets one without.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::{
    AttachOptions, BackendId, Graph, Habits, Inner, MediaDevice, NodeId, NodeSpec, Perm, Perms,
    Removed, SizeWatcher, lock,
};
use crate::drain::DrainGate;
use crate::edge::Edge;
use crate::error::BlockError;
use crate::file::FileOpener;
use crate::node::BlockNode;
use crate::on_error::ErrorState;
use crate::stats::Stats;
use crate::throttle::ThrottleSwitch;

/// Whether writes are done when the host has them, or when they are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteCache {
    /// They are cached; a flush makes them durable.
    Back,
    /// They are durable.
    Through,
}

/// The switch of a back end's write cache, which its device turns on any thread.
#[derive(Debug, Clone)]
pub(super) struct CacheSwitch(Arc<AtomicBool>);

impl CacheSwitch {
    pub fn new(cache: WriteCache) -> Self {
        CacheSwitch(Arc::new(AtomicBool::new(cache == WriteCache::Back)))
    }

    pub fn get(&self) -> WriteCache {
        match self.0.load(Ordering::Relaxed) {
            true => WriteCache::Back,
            false => WriteCache::Through,
        }
    }

    pub fn set(&self, cache: WriteCache) {
        self.0.store(cache == WriteCache::Back, Ordering::Relaxed);
    }
}

/// Options of a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriveOptions {
    /// How a device on it begins.
    pub write_cache: WriteCache,
}

/// A back end.
pub(super) struct Backend {
    /// The drive's name; empty where a device uses a node.
    pub name: String,
    pub root: Option<NodeId>,
    /// Leads to the root.
    pub edge: Edge,
    pub gate: Arc<DrainGate>,
    pub throttle: Arc<ThrottleSwitch>,
    /// The device that has it: its QOM path.
    pub device: Option<String>,
    pub stats: Arc<Stats>,
    pub errors: Arc<ErrorState>,
    pub write_cache: CacheSwitch,
    pub perms: Perms,
    /// Whether the device may write: it was told when it got the medium, whatever becomes of the
    /// node's options.
    pub may_write: Arc<AtomicBool>,
    /// How the device uses what is in it.
    pub options: Option<AttachOptions>,
    /// The device can live without a medium.
    pub removable: bool,
    /// The device, if media can be taken out of it.
    pub media: Option<Weak<dyn MediaDevice>>,
    /// The device, if it tells its guest of a new size.
    pub size_watcher: Option<Weak<dyn SizeWatcher>>,
    /// How the last medium was opened, while there is none.
    pub habits: Habits,
}

impl Backend {
    /// One that no device has.
    pub fn new(
        name: String,
        root: Option<(NodeId, Arc<dyn BlockNode>)>,
        write_cache: WriteCache,
    ) -> Self {
        let (root, node) = root.unzip();
        Backend {
            name,
            root,
            edge: Edge::new(node),
            gate: Arc::default(),
            throttle: Arc::default(),
            device: None,
            stats: Arc::default(),
            errors: Arc::default(),
            write_cache: CacheSwitch::new(write_cache),
            perms: Perms::NONE,
            may_write: Arc::default(),
            options: None,
            removable: false,
            media: None,
            size_watcher: None,
            habits: Habits::default(),
        }
    }

    /// What its device does from now on.
    pub fn set_perms(&mut self, perms: Perms) {
        self.perms = perms;
        self.may_write
            .store(perms.uses(Perm::Write), Ordering::Release);
    }

    /// Whether its medium can be taken out: no device has it, or one that can live without.
    pub fn is_removable(&self) -> bool {
        self.device.is_none() || self.removable
    }

    /// The device, if media can be taken out of it.
    pub fn media(&self) -> Option<Arc<dyn MediaDevice>> {
        self.media.as_ref().and_then(Weak::upgrade)
    }

    /// Whether clients know of it: a [`super::Hold`] is nobody's drive.
    pub fn is_listed(&self) -> bool {
        !self.name.is_empty() || self.device.is_some()
    }

    /// For messages.
    pub fn describe(&self) -> String {
        let name = match &self.device {
            Some(device) if self.name.is_empty() => device,
            None if self.name.is_empty() => return "an unnamed block device".to_owned(),
            Some(_) | None => &self.name,
        };
        format!("block device '{name}'")
    }
}

impl Graph {
    /// Makes a drive, with a node or empty.
    ///
    /// # Errors
    /// When the name is taken or the node cannot be made; nothing is left of the attempt.
    pub fn add_drive(
        &self,
        name: &str,
        spec: Option<NodeSpec>,
        options: DriveOptions,
        opener: &mut dyn FileOpener,
    ) -> Result<(), BlockError> {
        let mut inner = lock(&self.inner);
        if inner.backends.values().any(|backend| backend.name == name) {
            return Err(BlockError::DuplicateDrive(name.to_owned()));
        }
        if inner.find(name).is_some() {
            return Err(BlockError::DriveIsNode(name.to_owned()));
        }
        let root = match spec {
            Some(spec) => {
                let id = inner.open(spec, opener, &self.host)?;
                inner.nodes.get(&id).map(|entry| (id, entry.node.clone()))
            }
            None => None,
        };
        let id = BackendId(inner.number());
        let backend = Backend::new(name.to_owned(), root, options.write_cache);
        inner.backends.insert(id, backend);
        Ok(())
    }

    /// Takes a drive away that no device has.
    ///
    /// # Errors
    /// When it is not there or a device has it.
    pub fn del_drive(&self, name: &str) -> Result<Removed, BlockError> {
        let mut inner = lock(&self.inner);
        let found = inner
            .find_backend(name)
            .and_then(|id| Some((id, inner.backends.get(&id)?)));
        let (id, backend) = found.ok_or_else(|| BlockError::NoReference(name.to_owned()))?;
        if backend.device.is_some() {
            return Err(BlockError::DriveTaken(name.to_owned()));
        }
        Ok(inner.remove_backend(id))
    }
}

impl Inner {
    pub(super) fn find_backend(&self, name: &str) -> Option<BackendId> {
        let named = |(_, backend): &(&BackendId, &Backend)| backend.name == name;
        let found = self.backends.iter().find(named).map(|(id, _)| *id);
        found.filter(|_| !name.is_empty())
    }

    /// Removes a back end and the nodes that only it held.
    pub(super) fn remove_backend(&mut self, id: BackendId) -> Removed {
        let mut removed = Removed::default();
        if let Some(root) = self.backends.remove(&id).and_then(|backend| backend.root) {
            self.collect(root, &mut removed);
        }
        removed
    }
}
