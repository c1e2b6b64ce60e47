//! set_link.

use api_spec::{QmpError, QmpResult};

use crate::control::Control;

impl Control {
    /// Pulls or plugs the cable of the interface or netdev `name`.
    ///
    /// # Errors
    /// When there is none of that name.
    pub(in crate::control) fn move_link(&mut self, name: &str, up: bool) -> QmpResult<()> {
        let mut found = false;
        if let Some(netdev) = self.nets.find(name) {
            netdev.set_plugged_in(up);
            found = true;
        }
        let nics = self.machine.iter().flat_map(|machine| machine.nics());
        for (_, nic) in nics.filter(|(_, nic)| nic.name() == name) {
            nic.set_link(up);
            found = true;
        }
        match found {
            true => Ok(()),
            false => Err(QmpError::device_not_found(name)),
        }
    }
}
