//! From descriptions to nodes. New drivers are added here.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{
    Child, ChildSpec, DriverSpec, Entry, Host, Inner, NodeId, NodeSpec, Perms, Removed, Role,
};
use crate::edge::Edge;
use crate::error::BlockError;
use crate::file::{FileKind, FileNode, FileOpener, FileSpec, OpenMode};
use crate::filter::{BlkdebugNode, CopyOnReadNode, ThrottleNode};
use crate::gate::Policy;
use crate::node::{Activity, BlockNode};
use crate::null::NullNode;
use crate::raw::RawNode;
use crate::stats::Stats;
use crate::telling::Events;

/// Deepest nesting of nodes; no sensible graph comes near it.
const MAX_DEPTH: usize = 200;
/// Most nodes that are opened each inside of the one before, such as an image and all that are
/// below it: what takes stack. Longer chains are put together with references.
const MAX_NESTED: usize = 100;

impl Inner {
    /// Makes a node and those inside of its description. It is not held by anything yet.
    pub(super) fn open(
        &mut self,
        spec: NodeSpec,
        opener: &mut dyn FileOpener,
        host: &Host,
    ) -> Result<NodeId, BlockError> {
        let mut opening = Opening {
            graph: self,
            opener,
            host,
            depth: 0,
            removed: Removed::default(),
            former: None,
            activity: None,
        };
        opening.node(spec)
    }

    fn check_name(&self, name: &str) -> Result<(), BlockError> {
        if self.backends.values().any(|backend| backend.name == name) {
            return Err(BlockError::NameIsDrive(name.to_owned()));
        }
        match self.find(name) {
            Some(_) => Err(BlockError::DuplicateName(name.to_owned())),
            None => Ok(()),
        }
    }

    /// A name that users cannot give.
    fn make_up_name(&mut self) -> String {
        self.made_up = self.made_up.wrapping_add(1);
        format!("#block{:03}", self.made_up)
    }

    /// Whether a node injects faults at events, itself or by a filter's node below.
    fn events(&self, id: NodeId) -> Events {
        let Some(entry) = self.nodes.get(&id) else {
            return Events::Unheard;
        };
        match entry.spec.driver {
            DriverSpec::Blkdebug { .. } => Events::Heard,
            DriverSpec::Raw { .. }
            | DriverSpec::Throttle { .. }
            | DriverSpec::CopyOnRead { .. } => {
                let mut below = entry.children.iter();
                match below.any(|child| self.events(child.id) == Events::Heard) {
                    true => Events::Heard,
                    false => Events::Unheard,
                }
            }
            DriverSpec::File(_)
            | DriverSpec::HostDevice(_)
            | DriverSpec::Null(_)
            | DriverSpec::Format(_)
            | DriverSpec::Probe { .. } => Events::Unheard,
        }
    }

    fn depth(&self, id: NodeId) -> usize {
        let children = self.nodes.get(&id).map(|entry| entry.children.as_slice());
        let below = children
            .unwrap_or(&[])
            .iter()
            .map(|child| self.depth(child.id));
        below.max().unwrap_or(0).saturating_add(1)
    }
}

pub(super) struct Opening<'a> {
    pub graph: &'a mut Inner,
    pub opener: &'a mut dyn FileOpener,
    pub host: &'a Host,
    /// Nodes that are being opened, each inside of the one before.
    depth: usize,
    /// What was opened in vain.
    removed: Removed,
    /// The node whose place the next one takes.
    pub(super) former: Option<Arc<dyn BlockNode>>,
    /// Whether images are taken at once, where that is not asked of the descriptions.
    activity: Option<Activity>,
}

impl<'a> Opening<'a> {
    /// For nodes that are active or not, whatever their descriptions say.
    pub(super) fn with_activity(
        graph: &'a mut Inner,
        opener: &'a mut dyn FileOpener,
        host: &'a Host,
        activity: Activity,
    ) -> Self {
        Opening {
            graph,
            opener,
            host,
            depth: 0,
            removed: Removed::default(),
            former: None,
            activity: Some(activity),
        }
    }

    /// Makes a node and those inside of its description.
    pub(super) fn open(mut self, spec: NodeSpec) -> Result<NodeId, BlockError> {
        self.node(spec)
    }

    /// For a node that takes the place of another one.
    pub(super) fn again(
        graph: &'a mut Inner,
        opener: &'a mut dyn FileOpener,
        host: &'a Host,
        former: Arc<dyn BlockNode>,
        activity: Activity,
    ) -> Self {
        Opening {
            graph,
            opener,
            host,
            depth: 0,
            removed: Removed::default(),
            former: Some(former),
            activity: Some(activity),
        }
    }
}

impl Opening<'_> {
    fn node(&mut self, spec: NodeSpec) -> Result<NodeId, BlockError> {
        spec.check()?;
        if let Some(name) = &spec.name {
            self.graph.check_name(name)?;
        }
        if self.depth >= MAX_NESTED {
            return Err(too_deep(MAX_NESTED));
        }
        self.depth = self.depth.saturating_add(1);
        let opened = self.node_here(spec);
        self.depth = self.depth.saturating_sub(1);
        opened
    }

    fn node_here(&mut self, mut spec: NodeSpec) -> Result<NodeId, BlockError> {
        let probed = self.probe(&mut spec)?;
        let name = match &spec.name {
            Some(name) => name.clone(),
            None => self.graph.make_up_name(),
        };
        let stats = Arc::new(Stats::default());
        let activity = self.activity(&spec);
        let opened = self.driver(&spec, &name, &stats);
        let (node, children) = match (opened, probed) {
            (Ok(opened), _) => opened,
            (Err(error), probed) => {
                if let Some(id) = probed {
                    self.graph.collect(id, &mut self.removed);
                }
                return Err(error);
            }
        };
        if self.graph.find(&name).is_some() {
            // A node inside of this one has taken the name.
            self.close(&children);
            return Err(BlockError::DuplicateName(name));
        }
        let id = NodeId(self.graph.number());
        let entry = Entry {
            name,
            read_only: node.info().read_only,
            node,
            stats,
            spec,
            owned: false,
            children,
            perms: Perms::NONE,
            told: true,
            turned: false,
            given: None,
            aside: false,
            activity,
        };
        let below: Vec<NodeId> = entry.children.iter().map(|child| child.id).collect();
        self.graph.nodes.insert(id, entry);
        // What a node does with those below it also while it has no users.
        let agreed = below
            .into_iter()
            .try_for_each(|child| self.graph.agree(child))
            .and_then(|()| self.graph.check_activity());
        if let Err(error) = agreed {
            self.graph.collect(id, &mut self.removed);
            return Err(error);
        }
        Ok(id)
    }

    /// Whether a node is this program's from the start.
    pub(super) fn activity(&self, spec: &NodeSpec) -> Activity {
        let incoming = self.host.incoming.load(Ordering::Acquire);
        self.activity
            .unwrap_or(match incoming || spec.active == Some(false) {
                true => Activity::Inactive,
                false => Activity::Active,
            })
    }

    pub(super) fn driver(
        &mut self,
        spec: &NodeSpec,
        name: &str,
        stats: &Arc<Stats>,
    ) -> Result<(Arc<dyn BlockNode>, Vec<Child>), BlockError> {
        let (node, children) = self.driver_itself(spec, name, stats)?;
        if self.activity(spec) == Activity::Inactive
            && let Err(error) = node.set_activity(Activity::Inactive)
        {
            self.close(&children);
            return Err(error);
        }
        Ok((node, children))
    }

    fn driver_itself(
        &mut self,
        spec: &NodeSpec,
        name: &str,
        stats: &Arc<Stats>,
    ) -> Result<(Arc<dyn BlockNode>, Vec<Child>), BlockError> {
        match &spec.driver {
            DriverSpec::Format(format) => self.format(spec, format, name, stats),
            DriverSpec::Probe { .. } => Err(BlockError::Empty),
            DriverSpec::File(file) => self.file(spec, file, FileKind::Regular, stats),
            DriverSpec::HostDevice(file) => self.file(spec, file, FileKind::Device, stats),
            DriverSpec::Null(null) => {
                let node = NullNode::open(*null, spec.policy(), &self.host.pool, stats.clone());
                Ok((Arc::new(node), Vec::new()))
            }
            DriverSpec::Raw {
                file,
                window,
                probed,
            } => {
                let child = self.child(spec, file, Role::Filtered)?;
                let edge = child.edge.clone();
                let mut policy = spec.policy();
                let falls_back = spec.auto_read_only.unwrap_or(false);
                policy.read_only |= falls_back && edge.info().read_only;
                let events = self.graph.events(child.id);
                let node = RawNode::open(edge, *window, *probed, policy, stats.clone());
                let node = node.map(|node| node.telling(events));
                self.with_children(node, vec![child])
            }
            DriverSpec::Throttle { file, group } => {
                let found = self.graph.groups.find(group);
                let group = found.ok_or_else(|| BlockError::NoGroup(group.clone()))?;
                let (child, policy) = self.filtered(spec, file, Role::Filtered)?;
                let edge = child.edge.clone();
                let node = ThrottleNode::open(edge, &group, policy, stats.clone());
                Ok((Arc::new(node), vec![child]))
            }
            DriverSpec::CopyOnRead { file } => {
                let (child, policy) = self.filtered(spec, file, Role::Copied)?;
                let edge = child.edge.clone();
                let node = CopyOnReadNode::open(edge, policy, &self.host.pool, stats.clone());
                Ok((Arc::new(node), vec![child]))
            }
            DriverSpec::Blkdebug {
                image,
                spec: faults,
            } => {
                let faults = faults.clone().complete(self.opener)?;
                let (child, policy) = self.filtered(spec, image, Role::Image)?;
                let edge = child.edge.clone();
                let node = BlkdebugNode::open(edge, faults, policy, stats.clone());
                Ok((Arc::new(node), vec![child]))
            }
        }
    }

    /// A filter's node below, and its options: it is written where that is.
    fn filtered(
        &mut self,
        spec: &NodeSpec,
        child: &ChildSpec,
        role: Role,
    ) -> Result<(Child, Policy), BlockError> {
        let child = self.child(spec, child, role)?;
        let mut policy = spec.policy();
        policy.read_only |= child.edge.info().read_only;
        Ok((child, policy))
    }

    fn file(
        &mut self,
        spec: &NodeSpec,
        file: &FileSpec,
        kind: FileKind,
        stats: &Arc<Stats>,
    ) -> Result<(Arc<dyn BlockNode>, Vec<Child>), BlockError> {
        let mode = OpenMode {
            kind,
            read_only: spec.read_only.unwrap_or(false),
            auto_read_only: spec.auto_read_only.unwrap_or(false),
            direct: spec.direct.unwrap_or(false),
        };
        let (policy, stats) = (spec.policy(), stats.clone());
        let former = self.former.take();
        let former = former
            .as_deref()
            .and_then(|node| (node as &dyn Any).downcast_ref());
        let pool = &self.host.pool;
        let node = FileNode::open(file, mode, policy, self.opener, pool, stats, former)?;
        Ok((Arc::new(node), Vec::new()))
    }

    /// Apart from what comes after, so that images upon images take little stack.
    fn inside(&mut self, above: &NodeSpec, spec: &NodeSpec) -> Result<NodeId, BlockError> {
        let mut spec = spec.clone();
        spec.inherit(above);
        self.node(spec)
    }

    /// What a node inside of another was given there.
    fn remember(&mut self, id: NodeId, given: &NodeSpec) {
        if let Some(entry) = self.graph.nodes.get_mut(&id) {
            entry.given = Some(Box::new(given.clone()));
        }
    }

    pub(super) fn child(
        &mut self,
        above: &NodeSpec,
        child: &ChildSpec,
        role: Role,
    ) -> Result<Child, BlockError> {
        let id = match child {
            ChildSpec::Reference(name) => self
                .graph
                .find_reference(name)
                .ok_or_else(|| BlockError::NoReference(name.clone()))?,
            ChildSpec::Inline(spec) => {
                let id = self.inside(above, spec)?;
                self.remember(id, spec);
                id
            }
        };
        if self.graph.depth(id).saturating_add(self.depth) > MAX_DEPTH {
            self.graph.collect(id, &mut self.removed);
            return Err(too_deep(MAX_DEPTH));
        }
        let node = self.graph.nodes.get(&id).map(|entry| entry.node.clone());
        let edge = Edge::new(node);
        Ok(Child { role, id, edge })
    }

    /// The node, or its error with the children let go of.
    fn with_children<N: BlockNode + 'static>(
        &mut self,
        node: Result<N, BlockError>,
        children: Vec<Child>,
    ) -> Result<(Arc<dyn BlockNode>, Vec<Child>), BlockError> {
        match node {
            Ok(node) => Ok((Arc::new(node), children)),
            Err(error) => {
                self.close(&children);
                Err(error)
            }
        }
    }

    pub(super) fn close(&mut self, children: &[Child]) {
        for child in children {
            self.graph.collect(child.id, &mut self.removed);
        }
    }
}

fn too_deep(most: usize) -> BlockError {
    BlockError::Unsupported(format!("More than {most} nodes above each other"))
}
