//! set_link.

use std::sync::Arc;

use api_spec::{QmpError, QmpResult};
use devices::backend::net::Nic;

use crate::control::Control;

impl Control {
    /// Pulls or plugs the cable of the interface or netdev `name`.
    ///
    /// # Errors
    /// When there is none of that name.
    pub(in crate::control) fn move_link(&mut self, name: &str, up: bool) -> QmpResult<()> {
        let mut found = false;
        let mut moved = Vec::new();
        if let Some(netdev) = self.nets.find(name) {
            netdev.set_plugged_in(up);
            moved.extend(netdev.nic());
            found = true;
        }
        let nics = self.machine.iter().flat_map(|machine| machine.nics());
        for (_, nic) in nics.filter(|(_, nic)| nic.name() == name) {
            nic.set_link(up);
            moved.push(nic.clone());
            found = true;
        }
        for nic in moved {
            self.follow_link(&nic);
        }
        match found {
            true => Ok(()),
            false => Err(QmpError::device_not_found(name)),
        }
    }

    /// Lets others serve an interface's queues, where its link asks for it.
    pub(in crate::control) fn follow_link(&mut self, nic: &Arc<dyn Nic>) {
        if nic.wants_restart() {
            self.restart_nic(nic);
        }
    }

    /// Has an interface's workers give back what they have of the netdev, and start anew.
    pub(super) fn restart_nic(&mut self, nic: &Arc<dyn Nic>) {
        let Some(machine) = &mut self.machine else {
            return;
        };
        let same = |other: &Arc<dyn Nic>| Arc::as_ptr(other).addr() == Arc::as_ptr(nic).addr();
        let key = machine.nics().find(|(_, other)| same(other));
        if let Some(key) = key.map(|(key, _)| key.to_owned()) {
            machine.restart_queues(&key);
        }
    }
}
