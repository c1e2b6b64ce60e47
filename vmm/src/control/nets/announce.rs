//! announce-self.

use api_spec::{AnnounceParameters, QmpResult};

use crate::control::Control;

impl Control {
    /// Makes interfaces say where they are.
    ///
    /// # Errors
    /// When a number is out of bounds.
    pub(in crate::control) fn announce(&mut self, parameters: AnnounceParameters) -> QmpResult<()> {
        let AnnounceParameters { interfaces, .. } = parameters;
        let chosen = |key: &str| {
            let named = |list: &Vec<String>| list.iter().any(|name| name == key);
            interfaces.as_ref().is_none_or(named)
        };
        let nics = self.machine.iter().flat_map(|machine| machine.nics());
        for (_, nic) in nics.filter(|(key, _)| chosen(key)) {
            nic.announce();
        }
        Ok(())
    }
}
