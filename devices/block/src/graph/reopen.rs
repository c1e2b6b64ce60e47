//! Nodes with other options and other nodes below: what is to become of which node, checked
//! before anything is touched.

use std::collections::{BTreeMap, BTreeSet};

use super::surgery::{Log, User};
use super::{BackingSpec, ChildSpec, DriverSpec, Host, Inner, NodeId, NodeSpec, Role};
use crate::error::BlockError;
use crate::file::FileOpener;

/// What is to become of nodes.
#[derive(Default)]
pub(super) struct Plan {
    /// Nodes to make anew, with descriptions that name those below.
    nodes: BTreeMap<NodeId, NodeSpec>,
    /// What is below them then.
    below: BTreeMap<NodeId, Vec<(Role, NodeId)>>,
    /// Nodes that clients gave options for; these count.
    asked: BTreeSet<NodeId>,
    /// Users to lead elsewhere, from where, to where.
    pub leads: Vec<(User, NodeId, NodeId)>,
}

impl Inner {
    /// Plans other options for a node, as blockdev-reopen has them: what is not given is as if the
    /// node were made anew.
    ///
    /// # Errors
    /// In QEMU's words.
    pub(super) fn plan_reopen(&self, spec: NodeSpec, plan: &mut Plan) -> Result<(), BlockError> {
        let name = spec
            .name
            .clone()
            .ok_or_else(|| BlockError::Unsupported("node-name not specified".to_owned()))?;
        let id = self.find(&name).ok_or(BlockError::NoNode(name))?;
        plan.asked.insert(id);
        self.plan(id, spec, plan)
    }

    /// Plans that a node is only read, or written again.
    pub(super) fn plan_read_only(
        &self,
        id: NodeId,
        read_only: bool,
        plan: &mut Plan,
    ) -> Result<(), BlockError> {
        let mut spec = self.own_spec(id)?;
        spec.read_only = Some(read_only);
        spec.auto_read_only = Some(false);
        plan.asked.insert(id);
        self.plan(id, spec, plan)
    }

    /// Plans another backing file.
    pub(super) fn plan_backing(
        &self,
        id: NodeId,
        backing: Option<NodeId>,
        plan: &mut Plan,
    ) -> Result<(), BlockError> {
        let mut spec = self.own_spec(id)?;
        if let DriverSpec::Format(format) = &mut spec.driver {
            let reference = |id| BackingSpec::Node(Box::new(self.reference(id)));
            format.backing = Some(backing.map_or(BackingSpec::Nothing, reference));
        }
        plan.asked.insert(id);
        self.plan(id, spec, plan)
    }

    /// Plans that a node is made anew as it is, because something below it is another.
    pub(super) fn plan_again(&self, id: NodeId, plan: &mut Plan) -> Result<(), BlockError> {
        let spec = self.own_spec(id)?;
        self.plan(id, spec, plan)
    }

    /// A node's description, naming what is below it now.
    fn own_spec(&self, id: NodeId) -> Result<NodeSpec, BlockError> {
        let entry = self.nodes.get(&id).ok_or(BlockError::Empty)?;
        let mut spec = entry.spec.clone();
        spec.name = Some(entry.name.clone());
        if let DriverSpec::Format(format) = &mut spec.driver {
            let child = |role| entry.children.iter().find(|child| child.role == role);
            let below = |role| child(role).map(|child| Box::new(self.reference(child.id)));
            format.data_file = below(Role::Data);
            format.backing =
                Some(below(Role::Backing).map_or(BackingSpec::Nothing, BackingSpec::Node));
        }
        for (role, child) in spec.driver.slots() {
            if let Some(there) = entry.children.iter().find(|child| child.role == role) {
                *child = self.reference(there.id);
            }
        }
        Ok(spec)
    }

    fn reference(&self, id: NodeId) -> ChildSpec {
        ChildSpec::Reference(self.name(id).to_owned())
    }

    fn plan(&self, id: NodeId, mut spec: NodeSpec, plan: &mut Plan) -> Result<(), BlockError> {
        let entry = self.nodes.get(&id).ok_or(BlockError::Empty)?;
        keep_fixed(&entry.spec, &mut spec)?;
        // The name is there already, and may be a made up one.
        let unnamed = NodeSpec {
            name: None,
            ..spec.clone()
        };
        unnamed.check()?;
        self.complete(id, &mut spec)?;
        let above = spec.clone();
        let mut below = Vec::new();
        for (role, child) in spec.driver.slots() {
            let there = entry.children.iter().find(|child| child.role == role);
            let there = there.map(|child| child.id);
            let target = match child {
                ChildSpec::Reference(name) => self.find_child(name)?,
                ChildSpec::Inline(inner) => {
                    let there = self.same_inline(there, role, inner)?;
                    let mut inner = inner.clone();
                    inner.name = Some(self.name(there).to_owned());
                    inner.inherit(&above);
                    plan.asked.insert(there);
                    self.plan(there, inner, plan)?;
                    there
                }
            };
            *child = self.reference(target);
            below.push((role, target));
            if there == Some(target) && !plan.asked.contains(&target) {
                self.plan_inherited(target, &above, plan)?;
            }
        }
        plan.below.insert(id, below);
        plan.nodes.insert(id, spec);
        Ok(())
    }

    /// What an image names itself stays, where nothing else is said.
    fn complete(&self, id: NodeId, spec: &mut NodeSpec) -> Result<(), BlockError> {
        let entry = self.nodes.get(&id).ok_or(BlockError::Empty)?;
        let DriverSpec::Format(format) = &mut spec.driver else {
            return Ok(());
        };
        let child = |role| entry.children.iter().find(|child| child.role == role);
        if format.data_file.is_none() {
            format.data_file = child(Role::Data).map(|child| Box::new(self.reference(child.id)));
        }
        if format.backing.is_none() {
            let image = entry.node.image().map(|image| image.view());
            let named = image.is_some_and(|view| view.backing_file.is_some());
            if named || child(Role::Backing).is_some() {
                return Err(BlockError::BackingMissing(entry.name.clone()));
            }
            format.backing = Some(BackingSpec::Nothing);
        }
        Ok(())
    }

    fn find_child(&self, name: &str) -> Result<NodeId, BlockError> {
        self.find_reference(name)
            .ok_or_else(|| BlockError::NotFound {
                device: String::new(),
                node: name.to_owned(),
            })
    }

    /// Options of a node inside are for the one that was made so.
    fn same_inline(
        &self,
        there: Option<NodeId>,
        role: Role,
        inner: &NodeSpec,
    ) -> Result<NodeId, BlockError> {
        let fixed = |option: &str| BlockError::Fixed(format!("{}.{option}", role.name()));
        let id = there.ok_or_else(|| fixed("driver"))?;
        let entry = self.nodes.get(&id).ok_or(BlockError::Empty)?;
        let is_same = entry.given.is_some() && entry.spec.driver_name() == inner.driver_name();
        if !is_same {
            return Err(fixed("driver"));
        }
        match &inner.name {
            Some(name) if *name != entry.name => Err(BlockError::Fixed("node-name".to_owned())),
            Some(_) | None => Ok(id),
        }
    }

    /// A node that takes options over from the one above it gets the new ones.
    fn plan_inherited(
        &self,
        id: NodeId,
        above: &NodeSpec,
        plan: &mut Plan,
    ) -> Result<(), BlockError> {
        let entry = self.nodes.get(&id).ok_or(BlockError::Empty)?;
        let Some(mut spec) = entry.given.as_deref().cloned() else {
            return Ok(());
        };
        let own = self.own_spec(id)?;
        spec.driver = own.driver.clone();
        spec.name = own.name.clone();
        spec.inherit(above);
        match spec == own {
            true => Ok(()),
            false => self.plan(id, spec, plan),
        }
    }

    /// Carries a plan out: images are closed from the top down, and nodes made anew from the
    /// bottom up; then all users agree.
    ///
    /// # Errors
    /// When something cannot be opened or somebody does not agree; the caller takes back what is
    /// in the log.
    pub(super) fn carry_out(
        &mut self,
        plan: Plan,
        opener: &mut dyn FileOpener,
        host: &Host,
        log: &mut Log,
    ) -> Result<(), BlockError> {
        self.check_cycles(&plan)?;
        let mut order: Vec<NodeId> = Vec::new();
        for id in plan.nodes.keys() {
            self.visit_planned(*id, &plan, &mut order);
        }
        for id in order.iter().rev() {
            self.close_image(*id, log)?;
        }
        for id in order {
            if let Some(spec) = plan.nodes.get(&id) {
                self.rebuild(id, spec.clone(), opener, host, log)?;
            }
        }
        for (user, from, to) in plan.leads {
            self.lead(user, from, to, log);
        }
        self.check_activity()?;
        self.settle(log.touched(), None)
    }

    /// Planned nodes, those below before those above.
    fn visit_planned(&self, id: NodeId, plan: &Plan, order: &mut Vec<NodeId>) {
        if order.contains(&id) {
            return;
        }
        for (_, child) in self.planned_below(id, plan) {
            self.visit_planned(child, plan, order);
        }
        if plan.nodes.contains_key(&id) {
            order.push(id);
        }
    }

    /// What is below a node once the plan is carried out.
    fn planned_below(&self, id: NodeId, plan: &Plan) -> Vec<(Role, NodeId)> {
        let mut below = match (plan.below.get(&id), self.nodes.get(&id)) {
            (Some(below), _) => below.clone(),
            (None, Some(entry)) => entry.children.iter().map(|c| (c.role, c.id)).collect(),
            (None, None) => Vec::new(),
        };
        for (user, from, to) in &plan.leads {
            for (role, child) in &mut below {
                if (*user, *from) == (User::Node(id, *role), *child) {
                    *child = *to;
                }
            }
        }
        below
    }

    fn check_cycles(&self, plan: &Plan) -> Result<(), BlockError> {
        let led = plan.leads.iter().filter_map(|(user, _, _)| match user {
            User::Node(id, _) => Some(*id),
            User::Backend(_) => None,
        });
        for id in plan.nodes.keys().copied().chain(led) {
            for (role, child) in self.planned_below(id, plan) {
                if self.reaches(child, id, plan, &mut BTreeSet::new()) {
                    return Err(BlockError::Cycle {
                        child: self.name(child).to_owned(),
                        role: role.name(),
                        parent: self.name(id).to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    fn reaches(&self, from: NodeId, to: NodeId, plan: &Plan, seen: &mut BTreeSet<NodeId>) -> bool {
        if from == to {
            return true;
        }
        seen.insert(from)
            && self
                .planned_below(from, plan)
                .into_iter()
                .any(|(_, child)| self.reaches(child, to, plan, seen))
    }
}

/// Refuses changes of what cannot change, and keeps what clients cannot say.
fn keep_fixed(old: &NodeSpec, new: &mut NodeSpec) -> Result<(), BlockError> {
    let check = |same: bool, option: &str| match same {
        true => Ok(()),
        false => Err(BlockError::Fixed(option.to_owned())),
    };
    check(old.driver_name() == new.driver_name(), "driver")?;
    check(
        old.force_share.unwrap_or(false) == new.force_share.unwrap_or(false),
        "force-share",
    )?;
    match (&old.driver, &mut new.driver) {
        (DriverSpec::File(old), DriverSpec::File(new))
        | (DriverSpec::HostDevice(old), DriverSpec::HostDevice(new)) => {
            check(old.filename == new.filename, "filename")?;
            check(old.aio == new.aio, "aio")?;
            check(old.locking == new.locking, "locking")
        }
        (DriverSpec::Null(old), DriverSpec::Null(new)) => {
            check(old.size == new.size, "size")?;
            check(old.latency_ns == new.latency_ns, "latency-ns")?;
            check(old.read_zeroes == new.read_zeroes, "read-zeroes")
        }
        (DriverSpec::Raw { probed, .. }, DriverSpec::Raw { probed: kept, .. }) => {
            // Whoever names raw now knows what it is.
            *kept &= *probed;
            Ok(())
        }
        (DriverSpec::Blkdebug { spec: old, .. }, DriverSpec::Blkdebug { spec: new, .. }) => {
            check(old == new, "inject-error")
        }
        _ => Ok(()),
    }
}
