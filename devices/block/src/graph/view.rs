//! What there is, for queries.

use std::sync::Arc;

use super::{
    BackendId, Entry, Graph, Inner, MediaDevice, NodeId, NodeSpec, Role, TrayView, WriteCache, lock,
};
use crate::image::{ImageView, SnapshotView};
use crate::node::{Activity, NodeInfo};
use crate::on_error::{ErrorPolicy, IoStatus};
use crate::stats::Stats;
use crate::throttle::Limits;

/// A node as queries see it.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// How it was made.
    pub spec: NodeSpec,
    /// Its driver's name.
    pub driver: &'static str,
    /// What it is called by its content: a path, or `json:` with its options.
    pub filename: String,
    /// What it is now.
    pub info: NodeInfo,
    /// Bytes of storage in use, where that is known.
    pub allocated: Option<u64>,
    /// What was done with it.
    pub stats: Arc<Stats>,
    /// Made with blockdev-add.
    pub owned: bool,
    /// Whether it is this program's at the moment.
    pub activity: Activity,
    /// Nodes below: part and name.
    pub children: Vec<(Role, String)>,
    /// What an image says of itself.
    pub image: Option<ImageView>,
    /// The backing file that the image names, as seen from here.
    pub full_backing: Option<String>,
    /// What is kept in the image.
    pub snapshots: Vec<SnapshotView>,
}

/// A back end as queries see it.
#[derive(Debug, Clone)]
pub struct BackendView {
    /// The drive's name, or nothing.
    pub name: String,
    /// The QOM path of the device that has it.
    pub device: Option<String>,
    /// Its node.
    pub root: Option<NodeView>,
    /// What the device did.
    pub stats: Arc<Stats>,
    /// How it treats writes.
    pub write_cache: WriteCache,
    /// Whether its medium can be taken out.
    pub removable: bool,
    /// The device's tray, if it has one.
    pub tray: Option<TrayView>,
    /// The group that limits it, with the limits.
    pub throttle: Option<(String, Limits)>,
    /// What is done about failures.
    pub error_policy: ErrorPolicy,
    /// Whether a failure stopped the machine.
    pub io_status: IoStatus,
}

impl Graph {
    /// All nodes in the order they were made.
    pub fn nodes(&self) -> Vec<NodeView> {
        let inner = lock(&self.inner);
        inner
            .nodes
            .values()
            .map(|entry| inner.view(entry))
            .collect()
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<NodeView> {
        let inner = lock(&self.inner);
        let entry = inner.nodes.get(&inner.find(name)?)?;
        Some(inner.view(entry))
    }

    /// All back ends in the order they were made.
    pub fn backends(&self) -> Vec<BackendView> {
        let inner = lock(&self.inner);
        let views = inner.backends.keys();
        let views: Vec<_> = views.filter_map(|id| inner.view_backend(*id)).collect();
        drop(inner);
        // Devices are asked without the lock.
        let with_tray = |(mut view, media): (BackendView, Option<Arc<dyn MediaDevice>>)| {
            view.tray = media.and_then(|media| media.tray());
            view
        };
        views.into_iter().map(with_tray).collect()
    }
}

impl Inner {
    fn view(&self, entry: &Entry) -> NodeView {
        let name = |id: &NodeId| self.nodes.get(id).map(|entry| entry.name.clone());
        NodeView {
            name: entry.name.clone(),
            spec: entry.spec.clone(),
            driver: entry.spec.driver_name(),
            filename: self.filename(entry),
            info: entry.node.info(),
            allocated: entry.node.allocated(),
            stats: entry.stats.clone(),
            owned: entry.owned,
            activity: entry.activity,
            children: entry
                .children
                .iter()
                .filter_map(|child| Some((child.role, name(&child.id)?)))
                .collect(),
            image: entry.node.image().map(|image| image.view()),
            full_backing: self.full_backing_name(entry),
            snapshots: entry
                .node
                .image()
                .and_then(|image| image.snapshots())
                .map_or_else(Vec::new, |snapshots| snapshots.list()),
        }
    }

    fn view_backend(&self, id: BackendId) -> Option<(BackendView, Option<Arc<dyn MediaDevice>>)> {
        let backend = self.backends.get(&id).filter(|b| b.is_listed())?;
        let root = backend.root.and_then(|root| self.nodes.get(&root));
        let view = BackendView {
            name: backend.name.clone(),
            device: backend.device.clone(),
            root: root.map(|entry| self.view(entry)),
            stats: backend.stats.clone(),
            write_cache: backend.write_cache.get(),
            throttle: backend.throttle.group().map(|group| {
                let limits = group.limits();
                (group.name().to_owned(), limits)
            }),
            error_policy: backend.errors.policy(),
            io_status: backend.errors.status(),
            removable: backend.is_removable(),
            tray: None,
        };
        Some((view, backend.media()))
    }
}
