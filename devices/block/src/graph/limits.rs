//! What is set on back ends and nodes while they run: limits, policies, what is watched for.

use std::sync::Arc;

use super::backend::Backend;
use super::{Graph, lock};
use crate::error::BlockError;
use crate::notice::Reporter;
use crate::on_error::ErrorPolicy;
use crate::stats::Stats;
use crate::throttle::{Limits, ThrottleGroup};

/// A back end by one of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendName<'a> {
    /// The drive of that name.
    Drive(&'a str),
    /// What the device has: its id, its QOM path, or that of its part which has it.
    Device(&'a str),
}

impl BackendName<'_> {
    pub(super) fn is(self, backend: &Backend) -> bool {
        match self {
            BackendName::Drive(name) => !name.is_empty() && backend.name == name,
            BackendName::Device(id) => {
                // Devices with an id of their own are known by it, parts of devices by their path.
                let path = |name: &str| match name.starts_with('/') {
                    true => name.to_owned(),
                    false => format!("/machine/peripheral/{name}"),
                };
                let device = backend.device.as_deref().map(path);
                let rest = device
                    .as_deref()
                    .and_then(|device| device.strip_prefix(&path(id)));
                rest.is_some_and(|rest| rest.is_empty() || is_part(rest))
            }
        }
    }

    /// As the client said it.
    pub fn text(&self) -> &str {
        match self {
            BackendName::Drive(name) | BackendName::Device(name) => name,
        }
    }
}

/// The part of a device that has the back end. A path above devices names none of them.
fn is_part(rest: &str) -> bool {
    rest == "/virtio-backend"
}

impl Graph {
    fn backend<T>(
        &self,
        name: BackendName<'_>,
        act: impl FnOnce(&Backend) -> Result<T, BlockError>,
    ) -> Result<T, BlockError> {
        let inner = lock(&self.inner);
        let found = inner.backends.values().find(|backend| name.is(backend));
        act(found.ok_or_else(|| BlockError::NoDevice(name.text().to_owned()))?)
    }

    /// The group of that name.
    pub fn throttle_group(&self, name: &str) -> Option<Arc<ThrottleGroup>> {
        lock(&self.inner).groups.find(name)
    }

    /// Makes a group, for an object. It is there as long as the object or members have it.
    ///
    /// # Errors
    /// When there is one of that name, or the limits make no sense.
    pub fn make_throttle_group(
        &self,
        name: &str,
        limits: Limits,
    ) -> Result<Arc<ThrottleGroup>, BlockError> {
        lock(&self.inner).groups.make(name, limits, &self.host.pool)
    }

    /// Limits a back end, from now on. `group` shares the limits with its other members, and is
    /// made if it is not there; without it the back end stays in the group it is in, or gets one
    /// of its own. Without limits it leaves its group.
    ///
    /// # Errors
    /// When there is no such back end, or the limits make no sense.
    pub fn set_throttle(
        &self,
        name: BackendName<'_>,
        limits: Limits,
        group: Option<&str>,
    ) -> Result<(), BlockError> {
        let inner = lock(&self.inner);
        let found = inner.backends.values().find(|backend| name.is(backend));
        let backend = found.ok_or_else(|| BlockError::NoDevice(name.text().to_owned()))?;
        limits.check()?;
        if !limits.any() {
            backend.throttle.set(None);
            backend.gate.wake_lanes();
            return Ok(());
        }
        let current = backend.throttle.group();
        let wanted = match group {
            Some(group) => inner.groups.find(group),
            None => current.clone().or_else(|| inner.groups.find(name.text())),
        };
        let group = match wanted {
            Some(group) => group,
            None => {
                let group = group.unwrap_or(name.text());
                inner.groups.make(group, limits, &self.host.pool)?
            }
        };
        group.set_limits(limits);
        backend.throttle.set(Some(&group));
        backend.gate.wake_lanes();
        Ok(())
    }

    /// Whether the back end has a medium.
    ///
    /// # Errors
    /// When there is no such back end.
    pub fn has_medium(&self, name: BackendName<'_>) -> Result<bool, BlockError> {
        self.backend(name, |backend| Ok(backend.root.is_some()))
    }

    /// Says what a device on the drive begins with doing about failures.
    ///
    /// # Errors
    /// When there is no such back end.
    pub fn set_error_policy(
        &self,
        name: BackendName<'_>,
        policy: ErrorPolicy,
    ) -> Result<(), BlockError> {
        self.backend(name, |backend| {
            backend.errors.set_policy(policy);
            Ok(())
        })
    }

    /// What clients call the back end of the device with this QOM path: the drive, its node, and
    /// what is done about failures. `None` when it has none.
    pub fn names_of(&self, device: &str) -> Option<(String, Option<String>, ErrorPolicy)> {
        let inner = lock(&self.inner);
        let has = |backend: &&Backend| backend.device.as_deref() == Some(device);
        let backend = inner.backends.values().find(has)?;
        let root = backend.root.and_then(|id| inner.nodes.get(&id));
        let node = root.map(|entry| entry.name.clone());
        Some((backend.name.clone(), node, backend.errors.policy()))
    }

    /// Nothing has failed yet, on all back ends: the machine goes on.
    pub fn reset_io_status(&self) {
        let inner = lock(&self.inner);
        let backends = inner.backends.values();
        backends.for_each(|backend| backend.errors.reset());
    }

    /// The counters of a back end.
    ///
    /// # Errors
    /// When there is no such back end.
    pub fn stats_of(&self, name: BackendName<'_>) -> Result<Arc<Stats>, BlockError> {
        self.backend(name, |backend| Ok(backend.stats.clone()))
    }

    /// Notices the first write on the node that ends behind `offset`, once
    /// ([`crate::Notice::WriteThreshold`]). 0 takes it back.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn set_write_threshold(&self, node: &str, offset: u64) -> Result<(), BlockError> {
        let inner = lock(&self.inner);
        let entry = inner.find(node).and_then(|id| inner.nodes.get(&id));
        let entry = entry.ok_or_else(|| BlockError::NoNodeDevice(node.to_owned()))?;
        let told = Reporter {
            node: node.into(),
            sink: self.host.notices.clone(),
        };
        entry.stats.set_write_threshold(offset, told);
        Ok(())
    }
}
