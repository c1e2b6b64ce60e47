//! Single steps of a change of the graph, each of which can be undone. Nothing is in flight on
//! the nodes concerned meanwhile.

use std::sync::Arc;

use super::open::Opening;
use super::{BackendId, Child, Host, Inner, NodeId, NodeSpec, Removed, Role};
use crate::error::BlockError;
use crate::file::FileOpener;
use crate::node::{Activity, BlockNode};

/// Who leads to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    /// A device, a drive, a job.
    Backend(BackendId),
    /// A node above.
    Node(NodeId, Role),
}

/// What a node was before another one took its place.
struct Former {
    node: Arc<dyn BlockNode>,
    spec: NodeSpec,
    read_only: bool,
    children: Vec<Child>,
}

/// What undoes a step.
enum Undo {
    /// The user led from the first to the second.
    Lead(User, NodeId, NodeId),
    /// The image was closed, after which it is not written.
    Closed(NodeId),
    /// Another node took its place.
    Replaced(NodeId, Box<Former>),
    /// It was made.
    Made(NodeId),
    /// The node has a snapshot more.
    Snapshot(NodeId, String),
}

/// What was done so far.
#[derive(Default)]
pub(super) struct Log {
    undo: Vec<Undo>,
    /// Nodes whose users changed, or that changed themselves.
    touched: Vec<NodeId>,
}

/// What is left over of a change: to be dropped without the graph's lock, because that closes
/// images.
#[derive(Default)]
pub(super) struct Leftover {
    _removed: Removed,
    _nodes: Vec<Arc<dyn BlockNode>>,
}

impl Inner {
    /// Everybody who leads to a node.
    pub(super) fn users_of(&self, id: NodeId) -> Vec<User> {
        let backends = self.backends.iter().filter(|(_, b)| b.root == Some(id));
        let above = self.nodes.iter().flat_map(|(above, entry)| {
            let edges = entry.children.iter().filter(|child| child.id == id);
            edges.map(|child| User::Node(*above, child.role))
        });
        let backends = backends.map(|(id, _)| User::Backend(*id));
        backends.chain(above).collect()
    }

    /// Leads a user of `from` to another node.
    pub(super) fn lead(&mut self, user: User, from: NodeId, to: NodeId, log: &mut Log) {
        self.set_lead(user, from, to);
        log.undo.push(Undo::Lead(user, from, to));
        log.touched.extend([from, to]);
    }

    fn set_lead(&mut self, user: User, from: NodeId, to: NodeId) {
        let node = self.nodes.get(&to).map(|entry| entry.node.clone());
        match user {
            User::Backend(id) => {
                if let Some(backend) = self.backends.get_mut(&id) {
                    backend.root = Some(to);
                    backend.edge.set(node);
                }
            }
            User::Node(above, role) => {
                let entry = self.nodes.get_mut(&above);
                let mut children = entry.into_iter().flat_map(|entry| &mut entry.children);
                if let Some(child) = children.find(|c| (c.role, c.id) == (role, from)) {
                    child.id = to;
                    child.edge.set(node);
                }
            }
        }
    }

    /// Closes an image whose place another one is about to take.
    pub(super) fn close_image(&mut self, id: NodeId, log: &mut Log) -> Result<(), BlockError> {
        let node = self.nodes.get(&id).map(|entry| entry.node.clone());
        let Some(image) = node.as_ref().and_then(|node| node.image()) else {
            return Ok(());
        };
        // Also where it fails: it may have been closed by half.
        log.undo.push(Undo::Closed(id));
        image.close()
    }

    /// Makes the node anew, with other options and perhaps other nodes below; `spec` names those
    /// below that are there. Images were closed before.
    pub(super) fn rebuild(
        &mut self,
        id: NodeId,
        spec: NodeSpec,
        opener: &mut dyn FileOpener,
        host: &Host,
        log: &mut Log,
    ) -> Result<(), BlockError> {
        let Some(entry) = self.nodes.get_mut(&id) else {
            return Ok(());
        };
        entry.aside = true;
        let (name, stats, former) = (entry.name.clone(), entry.stats.clone(), entry.node.clone());
        let activity = entry.activity;
        let mut opening = Opening::again(self, opener, host, former, activity);
        let made = opening.driver(&spec, &name, &stats);
        let Some(entry) = self.nodes.get_mut(&id) else {
            return Ok(());
        };
        entry.aside = false;
        let (node, children) = made.inspect_err(|_| log.touched.push(id))?;
        log.touched.push(id);
        log.touched
            .extend(entry.children.iter().map(|child| child.id));
        let former = Former {
            children: std::mem::replace(&mut entry.children, children),
            spec: std::mem::replace(&mut entry.spec, spec),
            read_only: std::mem::replace(&mut entry.read_only, node.info().read_only),
            node: std::mem::replace(&mut entry.node, node),
        };
        entry.told = false;
        entry.turned = entry.read_only && !former.read_only;
        log.undo.push(Undo::Replaced(id, Box::new(former)));
        self.lead_again(id);
        Ok(())
    }

    /// All users of a node go to what is in its place now.
    fn lead_again(&mut self, id: NodeId) {
        for user in self.users_of(id) {
            self.set_lead(user, id, id);
        }
    }

    /// The steps are done: lets go of what they replaced.
    pub(super) fn finish(&mut self, log: Log) -> Leftover {
        let mut left = Leftover::default();
        for undo in log.undo {
            match undo {
                Undo::Replaced(_, former) => {
                    let below: Vec<NodeId> = former.children.iter().map(|c| c.id).collect();
                    left._nodes.push(former.node);
                    self.collect_all(&below, &mut left._removed);
                }
                Undo::Lead(_, id, _) | Undo::Made(id) => {
                    self.collect_all(&[id], &mut left._removed);
                }
                Undo::Closed(_) | Undo::Snapshot(..) => {}
            }
        }
        left
    }

    fn collect_all(&mut self, ids: &[NodeId], removed: &mut Removed) {
        for id in ids {
            self.collect(*id, removed);
        }
    }

    /// Takes the steps back, the last one first.
    pub(super) fn take_back(&mut self, log: Log) -> Leftover {
        let mut left = Leftover::default();
        let mut made = Vec::new();
        for undo in log.undo.into_iter().rev() {
            match undo {
                Undo::Lead(user, from, to) => self.set_lead(user, to, from),
                Undo::Closed(id) => self.open_image_again(id),
                Undo::Replaced(id, former) => {
                    let below = self.put_back(id, *former, &mut left);
                    made.extend(below);
                }
                Undo::Made(id) => made.push(id),
                Undo::Snapshot(id, snapshot) => self.forget_snapshot(id, &snapshot),
            }
        }
        for id in &log.touched {
            if let Some(entry) = self.nodes.get_mut(id) {
                entry.told = false;
            }
        }
        if let Err(error) = self.settle(&log.touched, None) {
            log::error!("A change of the block graph could not be undone: {error}");
        }
        self.collect_all(&made, &mut left._removed);
        left
    }

    /// Gives the nodes that were below what goes.
    fn put_back(&mut self, id: NodeId, former: Former, left: &mut Leftover) -> Vec<NodeId> {
        let Some(entry) = self.nodes.get_mut(&id) else {
            return Vec::new();
        };
        let Former {
            node,
            spec,
            read_only,
            children,
        } = former;
        let newer = std::mem::replace(&mut entry.node, node);
        if let Some(image) = newer.image()
            && let Err(error) = image.close()
        {
            log::error!("Node '{}': {error}", entry.name);
        }
        entry.spec = spec;
        entry.read_only = read_only;
        let below = std::mem::replace(&mut entry.children, children);
        left._nodes.push(newer);
        self.lead_again(id);
        below.into_iter().map(|child| child.id).collect()
    }

    fn open_image_again(&self, id: NodeId) {
        let Some(entry) = self.nodes.get(&id) else {
            return;
        };
        if entry.activity == Activity::Inactive {
            return;
        }
        if let Some(image) = entry.node.image()
            && let Err(error) = image.reopen(entry.read_only)
        {
            log::error!("Node '{}' cannot be used any more: {error}", entry.name);
        }
    }

    fn forget_snapshot(&self, id: NodeId, snapshot: &str) {
        let node = self.nodes.get(&id).map(|entry| &entry.node);
        let snapshots = node.and_then(|node| node.image()?.snapshots());
        if let Some(Err(error)) = snapshots.map(|snapshots| snapshots.delete(snapshot)) {
            log::error!("A snapshot could not be taken back: {error}");
        }
    }
}

impl Log {
    /// A node was made that is taken away with the change.
    pub fn made(&mut self, id: NodeId) {
        self.undo.push(Undo::Made(id));
    }

    /// A snapshot was made that is deleted with the change.
    pub fn snapshot(&mut self, id: NodeId, snapshot: String) {
        self.undo.push(Undo::Snapshot(id, snapshot));
    }

    /// Nodes whose users changed, or that changed themselves.
    pub fn touched(&self) -> &[NodeId] {
        &self.touched
    }
}
