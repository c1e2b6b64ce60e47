//! Agreement on what may be done with nodes: computed from the top down, told to the nodes, and
//! given back as it was when one of them objects.

use std::collections::{BTreeMap, BTreeSet};

use super::{Inner, NodeId, Perms};
use crate::error::BlockError;

/// A user who is not in the graph yet.
type Newcomer = (NodeId, Perms, String);

impl Inner {
    /// Agrees anew on what may be done with the node and those below it.
    ///
    /// # Errors
    /// When its users do not get along. Nothing has changed then; the caller undoes the cause.
    pub(super) fn agree(&mut self, id: NodeId) -> Result<(), BlockError> {
        self.settle(&[id], None)
    }

    /// The same with one user more.
    pub(super) fn agree_with(
        &mut self,
        id: NodeId,
        perms: Perms,
        who: String,
    ) -> Result<(), BlockError> {
        self.settle(&[id], Some(&(id, perms, who)))
    }

    /// As [`Self::agree`], after users went away, which nobody can object to.
    pub(super) fn refresh(&mut self, id: NodeId) {
        if let Err(error) = self.agree(id) {
            log::warn!("Could not give permissions back: {error}");
        }
    }

    /// Agrees on several nodes and all below them at once.
    ///
    /// # Errors
    /// As [`Self::agree`].
    pub(super) fn settle(
        &mut self,
        touched: &[NodeId],
        newcomer: Option<&Newcomer>,
    ) -> Result<(), BlockError> {
        let order = self.downwards(touched);
        let mut wanted = BTreeMap::new();
        for id in &order {
            let perms = self.together(*id, &wanted, newcomer)?;
            wanted.insert(*id, perms);
        }
        let mut told: Vec<NodeId> = Vec::new();
        for id in order {
            let Some(entry) = self.nodes.get(&id) else {
                continue;
            };
            let perms = wanted.get(&id).copied().unwrap_or(Perms::NONE);
            if entry.perms == perms && entry.told {
                continue;
            }
            if let Err(error) = entry.tell(perms) {
                self.tell_again(&told);
                return Err(error);
            }
            told.push(id);
        }
        for (id, perms) in wanted {
            if let Some(entry) = self.nodes.get_mut(&id) {
                entry.perms = perms;
                entry.told = true;
                entry.turned = false;
            }
        }
        Ok(())
    }

    /// After a refusal: nodes hear once more what held before.
    fn tell_again(&self, told: &[NodeId]) {
        for entry in told.iter().rev().filter_map(|id| self.nodes.get(id)) {
            if let Err(error) = entry.tell(entry.perms) {
                log::error!("Node '{}': {error}", entry.name);
            }
        }
    }

    /// These nodes and all below, each before those below it.
    pub(super) fn downwards(&self, touched: &[NodeId]) -> Vec<NodeId> {
        let mut seen = BTreeSet::new();
        let mut order = Vec::new();
        for id in touched {
            self.visit(*id, &mut seen, &mut order);
        }
        order.reverse();
        order
    }

    fn visit(&self, id: NodeId, seen: &mut BTreeSet<NodeId>, order: &mut Vec<NodeId>) {
        if !seen.insert(id) {
            return;
        }
        if let Some(entry) = self.nodes.get(&id) {
            for child in &entry.children {
                self.visit(child.id, seen, order);
            }
            order.push(id);
        }
    }

    /// What all users of a node do together.
    fn together(
        &self,
        id: NodeId,
        wanted: &BTreeMap<NodeId, Perms>,
        newcomer: Option<&Newcomer>,
    ) -> Result<Perms, BlockError> {
        let mut users = self.users(id, wanted);
        let newcomer = newcomer.filter(|(on, _, _)| *on == id);
        users.extend(newcomer.map(|(_, perms, who)| (*perms, who.clone())));
        for (one, (perms, unshared_by)) in users.iter().enumerate() {
            for (two, (other, required_by)) in users.iter().enumerate() {
                if one != two
                    && let Some(names) = perms.refused(*other)
                {
                    return Err(BlockError::Conflict {
                        node: self.name(id).to_owned(),
                        perms: names,
                        required_by: required_by.clone(),
                        unshared_by: unshared_by.clone(),
                    });
                }
            }
        }
        let together = |all: Perms, (perms, _): &(Perms, String)| all.and_also(*perms);
        let all = users.iter().fold(Perms::NONE, together);
        match self.nodes.get(&id) {
            Some(entry) if all.writes() && entry.read_only && entry.turned => {
                Err(BlockError::HasWriters(entry.name.clone()))
            }
            Some(entry) if all.writes() && entry.read_only => Err(BlockError::ReadOnly),
            Some(_) | None => Ok(all),
        }
    }

    /// What the users of a node do, each with its description, the newest first. `wanted` says
    /// what those above are about to do.
    fn users(&self, id: NodeId, wanted: &BTreeMap<NodeId, Perms>) -> Vec<(Perms, String)> {
        let backends = self.backends.values().rev();
        let devices = backends
            .filter(|backend| backend.root == Some(id))
            .map(|backend| {
                let who = backend.describe();
                (backend.perms, self.as_child(id, &who, "root"))
            });
        let entry = self.nodes.get(&id);
        let shares = entry.is_some_and(|entry| entry.spec.force_share == Some(true));
        let active = self.nodes.iter().rev().filter(|(_, above)| !above.aside);
        let above = active.flat_map(|(above_id, above)| {
            let edges = above.children.iter().filter(|child| child.id == id);
            edges.map(move |child| {
                let perms = wanted.get(above_id).copied().unwrap_or(above.perms);
                let perms = child.role.perms(perms, above.read_only);
                let perms = match shares {
                    true => perms.sharing_all(),
                    false => perms,
                };
                let who = format!("node '{}'", above.name);
                (perms, self.as_child(id, &who, child.role.name()))
            })
        });
        devices.chain(above).collect()
    }

    pub(super) fn as_child(&self, id: NodeId, who: &str, role: &str) -> String {
        let name = self.name(id);
        format!("{who} (uses node '{name}' as '{role}' child)")
    }

    /// A node's name.
    pub(super) fn name(&self, id: NodeId) -> &str {
        self.nodes.get(&id).map_or("", |entry| entry.name.as_str())
    }
}
