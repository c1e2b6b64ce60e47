//! Nodes that are given up for another program, and taken again: the two sides of a migration have
//! the same images open, and one of them uses them.
//!
//! Giving up goes from the top down: all is written out first, and only when that has worked are
//! the locks let go of. Taking goes from the bottom up: locks first, and what may have changed is
//! read anew under them. Either is done whole or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::backend::Backend;
use super::open::Opening;
use super::{Entry, Graph, Host, Inner, NodeId, NodeSpec, Perms, SizeWatcher, lock};
use crate::error::BlockError;
use crate::file::FileOpener;
use crate::node::{Activity, NodeExt};

impl Graph {
    /// Whether another program has the images that are opened from now on, until they are
    /// activated: so it is while a machine waits for its migration.
    pub fn set_incoming(&self, incoming: bool) {
        self.host.incoming.store(incoming, Ordering::Release);
    }

    /// Whether some node is left to another program, or one that was opened now would be.
    pub fn any_inactive(&self) -> bool {
        if self.host.incoming.load(Ordering::Acquire) {
            return true;
        }
        let inner = lock(&self.inner);
        let mut entries = inner.nodes.values();
        entries.any(|entry| entry.activity == Activity::Inactive)
    }

    /// Gives up the named node and what is below it and used by no active node else, or all nodes.
    /// Blocks, for a worker thread; devices' requests wait meanwhile, and their writes fail with
    /// EPERM afterwards.
    ///
    /// # Errors
    /// When there is no such node, an active node above or the program itself uses it, or
    /// something cannot be written out. All is as it was then.
    pub fn deactivate(&self, name: Option<&str>) -> Result<(), BlockError> {
        // The most of it without the graph's lock.
        for (node, written) in self.written() {
            let flushed = written.flush();
            flushed.map_err(|error| {
                BlockError::host(format!("Could not flush node '{node}'"), error)
            })?;
        }
        let names: Vec<&str> = name.into_iter().collect();
        let (_quiet, mut inner) = self.quiet(&names)?;
        let order = match name {
            None => inner.all_downwards(),
            Some(name) => {
                let id = inner.find_named(name)?;
                if inner.has_active_parent(id, &BTreeSet::new()) {
                    return Err(BlockError::ActiveParent);
                }
                inner.only_used_below(id)
            }
        };
        inner.give_up(&order)
    }

    /// Takes the named node and all below it again, or all nodes. Blocks, for a worker thread.
    /// Devices whose medium has another size now are told.
    ///
    /// # Errors
    /// When there is no such node, another program has an image, or one cannot be read. None is
    /// taken then that was not before.
    pub fn activate(&self, name: Option<&str>) -> Result<(), BlockError> {
        let names: Vec<&str> = name.into_iter().collect();
        let (quiet, mut inner) = self.quiet(&names)?;
        let mut order = match name {
            None => inner.all_downwards(),
            Some(name) => {
                let id = inner.find_named(name)?;
                inner.downwards(&[id])
            }
        };
        order.reverse();
        let before = inner.sizes();
        inner.take_up(&order)?;
        let changed = inner.changed_sizes(&before);
        drop(inner);
        drop(quiet);
        changed.iter().for_each(|watcher| watcher.resized());
        Ok(())
    }
}

impl Entry {
    /// Tells the node what its users do. While it is left to another program they do nothing.
    pub(super) fn tell(&self, perms: Perms) -> Result<(), BlockError> {
        self.node.set_perms(match self.activity {
            Activity::Active => perms,
            Activity::Inactive => Perms::NONE,
        })
    }

    /// Writes out all that is held back.
    fn write_out(&self) -> Result<(), BlockError> {
        if !self.read_only {
            let flushed = self.node.flush();
            flushed.map_err(|error| BlockError::host("Could not flush", error))?;
        }
        self.node.set_activity(Activity::Inactive)
    }
}

impl Inner {
    /// Makes a node that is active whatever holds for others.
    pub(super) fn open_active(
        &mut self,
        spec: NodeSpec,
        opener: &mut dyn FileOpener,
        host: &Host,
    ) -> Result<NodeId, BlockError> {
        Opening::with_activity(self, opener, host, Activity::Active).open(spec)
    }

    /// Refuses to do anything with a node that another program has.
    pub(super) fn check_active(&self, id: NodeId, perms: Perms) -> Result<(), BlockError> {
        match self.is_active(id) || !perms.is_used() {
            true => Ok(()),
            false => Err(BlockError::Inactive(perms.used_names())),
        }
    }

    pub(super) fn is_active(&self, id: NodeId) -> bool {
        let entry = self.nodes.get(&id);
        entry.is_none_or(|entry| entry.activity == Activity::Active)
    }

    /// Refuses active nodes on top of inactive ones.
    pub(super) fn check_activity(&self) -> Result<(), BlockError> {
        let active = |entry: &&Entry| entry.activity == Activity::Active && !entry.aside;
        for above in self.nodes.values().filter(active) {
            let mut children = above.children.iter();
            if let Some(child) = children.find(|child| !self.is_active(child.id)) {
                return Err(BlockError::InactiveChild {
                    child: self.name(child.id).to_owned(),
                    role: child.role.name(),
                    parent: above.name.clone(),
                });
            }
        }
        Ok(())
    }

    /// What becomes an overlay of an inactive node is inactive.
    pub(super) fn follow_activity(&mut self, base: NodeId, over: NodeId) -> Result<(), BlockError> {
        if self.is_active(base) || !self.is_active(over) {
            return Ok(());
        }
        if self.has_active_parent(over, &BTreeSet::new()) {
            return Err(BlockError::ActiveParent);
        }
        let order = self.only_used_below(over);
        self.give_up(&order)
    }

    fn find_named(&self, name: &str) -> Result<NodeId, BlockError> {
        self.find(name)
            .ok_or_else(|| BlockError::NotNamed(name.to_owned()))
    }

    fn all_downwards(&self) -> Vec<NodeId> {
        let all: Vec<NodeId> = self.nodes.keys().copied().collect();
        self.downwards(&all)
    }

    /// Whether an active node other than `leaving` uses it.
    fn has_active_parent(&self, id: NodeId, leaving: &BTreeSet<NodeId>) -> bool {
        let mut stay = self.nodes.iter().filter(|(above, entry)| {
            entry.activity == Activity::Active && !leaving.contains(above)
        });
        stay.any(|(_, entry)| entry.children.iter().any(|child| child.id == id))
    }

    /// The node, and of those below it the ones that nothing else uses; each before those below.
    fn only_used_below(&self, id: NodeId) -> Vec<NodeId> {
        let mut leaving = BTreeSet::new();
        let mut order = Vec::new();
        for below in self.downwards(&[id]) {
            if below == id || !self.has_active_parent(below, &leaving) {
                leaving.insert(below);
                order.push(below);
            }
        }
        order
    }

    /// Gives up the active ones of these nodes, which come each before those below it.
    fn give_up(&mut self, order: &[NodeId]) -> Result<(), BlockError> {
        let order: Vec<NodeId> = order
            .iter()
            .copied()
            .filter(|id| self.is_active(*id))
            .collect();
        for id in &order {
            self.check_not_held(*id)?;
        }
        let mut done: Vec<NodeId> = Vec::new();
        for id in &order {
            if let Err(cause) = self.set_out(*id) {
                // Their locks are still there.
                done.iter().rev().for_each(|id| self.set_in_again(*id));
                let cause = Box::new(cause);
                let (node, file) = self.named(*id);
                return Err(BlockError::Inactivate { node, file, cause });
            }
            done.push(*id);
        }
        for id in &order {
            let Some(entry) = self.nodes.get_mut(id) else {
                continue;
            };
            entry.activity = Activity::Inactive;
            if let Err(error) = entry.tell(entry.perms) {
                log::error!("Node '{}': {error}", entry.name);
            }
        }
        Ok(())
    }

    /// Jobs write on their own account.
    fn check_not_held(&self, id: NodeId) -> Result<(), BlockError> {
        let own = |backend: &&Backend| {
            backend.device.is_none() && backend.root == Some(id) && backend.perms.writes()
        };
        match self.backends.values().find(own) {
            None => Ok(()),
            Some(_) => Err(BlockError::HeldForWriting(self.name(id).to_owned())),
        }
    }

    fn set_out(&self, id: NodeId) -> Result<(), BlockError> {
        self.nodes.get(&id).map_or(Ok(()), Entry::write_out)
    }

    fn set_in_again(&self, id: NodeId) {
        let Some(entry) = self.nodes.get(&id) else {
            return;
        };
        if let Err(error) = entry.node.set_activity(Activity::Active) {
            log::error!("Node '{}' cannot be used any more: {error}", entry.name);
        }
    }

    /// Takes the inactive ones of these nodes, which come each after those below it.
    fn take_up(&mut self, order: &[NodeId]) -> Result<(), BlockError> {
        let order: Vec<NodeId> = order
            .iter()
            .copied()
            .filter(|id| !self.is_active(*id))
            .collect();
        let mut locked = Vec::new();
        let mut taken = Vec::new();
        let result = self
            .lock_all(&order, &mut locked)
            .and_then(|()| self.read_all(&order, &mut taken));
        if let Err((id, cause)) = result {
            taken.iter().rev().for_each(|id| {
                if let Err(error) = self.set_out(*id) {
                    log::error!("Node '{}': {error}", self.name(*id));
                }
            });
            locked.iter().rev().for_each(|id| self.unlock(*id));
            let cause = Box::new(cause);
            let (node, file) = self.named(id);
            return Err(BlockError::Activate { node, file, cause });
        }
        for id in order {
            if let Some(entry) = self.nodes.get_mut(&id) {
                entry.activity = Activity::Active;
            }
        }
        Ok(())
    }

    fn lock_all(
        &self,
        order: &[NodeId],
        locked: &mut Vec<NodeId>,
    ) -> Result<(), (NodeId, BlockError)> {
        for id in order {
            if let Some(entry) = self.nodes.get(id) {
                let taken = entry.node.set_perms(entry.perms);
                taken.map_err(|error| (*id, error))?;
                locked.push(*id);
            }
        }
        Ok(())
    }

    fn read_all(
        &self,
        order: &[NodeId],
        taken: &mut Vec<NodeId>,
    ) -> Result<(), (NodeId, BlockError)> {
        for id in order {
            if let Some(entry) = self.nodes.get(id) {
                let read = entry.node.set_activity(Activity::Active);
                read.map_err(|error| (*id, error))?;
                taken.push(*id);
            }
        }
        Ok(())
    }

    fn unlock(&self, id: NodeId) {
        let Some(entry) = self.nodes.get(&id) else {
            return;
        };
        if let Err(error) = entry.node.set_perms(Perms::NONE) {
            log::error!("Node '{}': {error}", entry.name);
        }
    }

    fn named(&self, id: NodeId) -> (String, String) {
        let entry = self.nodes.get(&id);
        let file = entry.map_or_else(String::new, |entry| self.filename(entry));
        (self.name(id).to_owned(), file)
    }

    fn sizes(&self) -> Vec<(NodeId, u64)> {
        let sizes = self.nodes.iter();
        sizes
            .map(|(id, entry)| (*id, entry.node.info().size))
            .collect()
    }

    /// Devices on nodes whose size is another than before.
    fn changed_sizes(&self, before: &[(NodeId, u64)]) -> Vec<Arc<dyn SizeWatcher>> {
        let changed = |id: NodeId| {
            let now = self.nodes.get(&id).map(|entry| entry.node.info().size);
            let mut before = before.iter();
            before.any(|(other, size)| *other == id && now != Some(*size))
        };
        let above = self.backends.values();
        let above = above.filter(|backend| backend.root.is_some_and(changed));
        above
            .filter_map(|backend| backend.size_watcher.as_ref()?.upgrade())
            .collect()
    }
}

#[cfg(test)]
#[path = "activity_test.rs"]
mod tests;
