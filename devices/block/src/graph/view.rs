//! What there is, for queries.

use std::sync::Arc;

use super::{
    BackendId, DriverSpec, Entry, Graph, Inner, MediaDevice, NodeId, NodeSpec, Role, TrayView,
    WriteCache, lock,
};
use crate::node::NodeInfo;
use crate::null::NullSpec;
use crate::on_error::{ErrorPolicy, IoStatus};
use crate::raw::RawWindow;
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
    /// Nodes below: part and name.
    pub children: Vec<(Role, String)>,
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
            children: entry
                .children
                .iter()
                .filter_map(|child| Some((child.role, name(&child.id)?)))
                .collect(),
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

    pub(super) fn filename(&self, entry: &Entry) -> String {
        match &entry.spec.driver {
            DriverSpec::File(file) | DriverSpec::HostDevice(file) => file.filename.clone(),
            DriverSpec::Null(null) => null_name(*null),
            DriverSpec::Probe { .. } => String::new(),
            DriverSpec::Throttle { .. } | DriverSpec::CopyOnRead { .. } => {
                self.filename_below(entry)
            }
            DriverSpec::Blkdebug { .. } => format!("blkdebug::{}", self.filename_below(entry)),
            DriverSpec::Format(_) => match self.below(entry, Role::Storage) {
                Some(below) => self.filename(below),
                None => String::new(),
            },
            DriverSpec::Raw { window, .. } => match self.below(entry, Role::Filtered) {
                Some(below) if *window == RawWindow::default() => self.filename(below),
                Some(below) => self.window_name(*window, below),
                None => String::new(),
            },
        }
    }

    fn filename_below(&self, entry: &Entry) -> String {
        let child = entry.children.first();
        let below = child.and_then(|child| self.nodes.get(&child.id));
        below.map_or_else(String::new, |below| self.filename(below))
    }

    pub(super) fn below(&self, entry: &Entry, role: Role) -> Option<&Entry> {
        let child = entry.children.iter().find(|child| child.role == role)?;
        self.nodes.get(&child.id)
    }

    fn window_name(&self, window: RawWindow, below: &Entry) -> String {
        let size = window.size.map(|size| format!("\"size\": {size}, "));
        format!(
            "json:{{\"driver\": \"raw\", \"offset\": {}, {}\"file\": {}}}",
            window.offset,
            size.unwrap_or_default(),
            self.json_name(below),
        )
    }

    fn json_name(&self, entry: &Entry) -> String {
        let name = self.filename(entry);
        match name.strip_prefix("json:") {
            Some(json) => json.to_owned(),
            None => format!(
                "{{\"driver\": \"{}\", \"filename\": {}}}",
                entry.spec.driver_name(),
                quoted(&name)
            ),
        }
    }
}

fn null_name(null: NullSpec) -> String {
    if null == NullSpec::default() {
        return "null-co://".to_owned();
    }
    let NullSpec {
        size,
        latency_ns,
        read_zeroes,
    } = null;
    let mut name = String::from("json:{\"driver\": \"null-co\"");
    if size != NullSpec::default().size {
        name.push_str(&format!(", \"size\": {size}"));
    }
    if latency_ns != 0 {
        name.push_str(&format!(", \"latency-ns\": {latency_ns}"));
    }
    if read_zeroes {
        name.push_str(", \"read-zeroes\": true");
    }
    name.push('}');
    name
}

/// A JSON string (RFC 8259, section 7).
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
