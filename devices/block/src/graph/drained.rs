//! Quiet below a set of nodes, while the graph changes there.

use std::sync::Arc;

use super::{Graph, Inner, NodeId, lock};
use crate::drain::{DrainGate, Shut};
use crate::error::BlockError;

/// Nothing is in flight from any device on the nodes it was made for, until it is dropped.
#[must_use = "requests flow again when it is dropped"]
pub struct Drained {
    gates: Vec<Shut>,
}

impl Drained {
    /// Shuts one gate and waits until nothing is in flight. Blocks.
    pub(super) fn of(gate: Option<Arc<DrainGate>>) -> Self {
        let gates: Vec<Shut> = gate.iter().map(DrainGate::shut).collect();
        gates.iter().for_each(Shut::wait);
        Drained { gates }
    }

    /// Holds more gates, and waits until nothing is in flight there either. Blocks.
    pub(super) fn extend(&mut self, more: Vec<Shut>) {
        more.iter().for_each(Shut::wait);
        self.gates.extend(more);
    }

    fn holds(&self, gate: &Arc<DrainGate>) -> bool {
        self.gates.iter().any(|shut| shut.is(gate))
    }
}

impl Graph {
    /// Holds new requests of all devices above the named nodes (all there are, without names) and
    /// waits until none is in flight. Blocks, for a worker thread, without the graph's lock.
    ///
    /// # Errors
    /// When there is no such node or drive.
    pub fn drain(&self, names: &[&str]) -> Result<Drained, BlockError> {
        let mut drained = Drained { gates: Vec::new() };
        loop {
            let more = lock(&self.inner).gates_above(names, &drained)?;
            if more.is_empty() {
                return Ok(drained);
            }
            drained.extend(more);
        }
    }
}

impl Inner {
    /// Shuts the gates above the named nodes that `drained` does not hold yet.
    pub(super) fn gates_above(
        &self,
        names: &[&str],
        drained: &Drained,
    ) -> Result<Vec<Shut>, BlockError> {
        let find = |name: &&str| {
            let found = self.find_reference(name);
            found.ok_or_else(|| BlockError::NoReference((*name).to_owned()))
        };
        let ids = names.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let gates = self.backends.values().filter(|backend| {
            names.is_empty() || ids.iter().any(|id| self.is_below(*id, backend.root))
        });
        let new = gates.filter(|backend| !drained.holds(&backend.gate));
        Ok(new.map(|backend| backend.gate.shut()).collect())
    }

    /// Whether `id` is `top` or below it.
    pub(super) fn is_below(&self, id: NodeId, top: Option<NodeId>) -> bool {
        let Some(top) = top else {
            return false;
        };
        let children = self.nodes.get(&top).map(|entry| entry.children.as_slice());
        top == id
            || children
                .unwrap_or(&[])
                .iter()
                .any(|child| self.is_below(id, Some(child.id)))
    }
}
