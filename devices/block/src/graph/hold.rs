//! Nodes in the hands of the program itself: of a job, or of a change that is under way.

use std::sync::{Arc, Mutex, Weak};

use super::backend::Backend;
use super::{BackendId, ChildSpec, Graph, Inner, NodeId, Perms, WriteCache, lock};
use crate::edge::Edge;
use crate::error::BlockError;
use crate::file::FileOpener;
use crate::node::BlockNode;

/// A hold of a node. The graph lists it nowhere, but the node stays and the permissions hold
/// until it is dropped, which may block while images are closed: for a worker thread.
pub struct Hold {
    edge: Edge,
    /// What the edge leads to, unless that is taken out.
    node: Arc<dyn BlockNode>,
    name: String,
    place: (Weak<Mutex<Inner>>, BackendId),
}

impl Hold {
    /// The node, or what has taken its place.
    pub fn node(&self) -> Arc<dyn BlockNode> {
        self.edge.node().unwrap_or_else(|| self.node.clone())
    }

    /// Its name, which may be made up.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(graph) = self.place.0.upgrade() {
            let removed = lock(&graph).remove_backend(self.place.1);
            drop(removed);
        }
    }
}

impl Graph {
    /// Takes hold of a node that is there, or of one that is made for it, to do with it what
    /// `perms` says.
    ///
    /// # Errors
    /// When it is not there or cannot be made, or other users do not agree.
    pub fn hold(
        &self,
        child: ChildSpec,
        perms: Perms,
        opener: &mut dyn FileOpener,
    ) -> Result<Hold, BlockError> {
        let mut inner = lock(&self.inner);
        let root = match child {
            ChildSpec::Reference(name) => inner
                .find_reference(&name)
                .ok_or(BlockError::NoReference(name))?,
            // What the program uses itself it uses at once.
            ChildSpec::Inline(spec) if perms.is_used() => {
                inner.open_active(spec, opener, &self.host)?
            }
            ChildSpec::Inline(spec) => inner.open(spec, opener, &self.host)?,
        };
        inner.check_active(root, perms)?;
        let hold = self.hold_node(&mut inner, root)?;
        if let Some(backend) = inner.backends.get_mut(&hold.place.1) {
            backend.perms = perms;
        }
        let agreed = inner.agree(root);
        drop(inner);
        // Without the lock, which letting go of the node takes.
        agreed.map(|()| hold)
    }

    /// A hold that does nothing and allows all.
    pub(super) fn hold_node(&self, inner: &mut Inner, root: NodeId) -> Result<Hold, BlockError> {
        let entry = inner.nodes.get(&root).ok_or(BlockError::Empty)?;
        let (node, name) = (entry.node.clone(), entry.name.clone());
        let there = Some((root, node.clone()));
        let backend = Backend::new(String::new(), there, WriteCache::Back);
        let id = BackendId(inner.number());
        let edge = backend.edge.clone();
        inner.backends.insert(id, backend);
        Ok(Hold {
            edge,
            node,
            name,
            place: (Arc::downgrade(&self.inner), id),
        })
    }
}
