//! query-rx-filter.

use api_spec::{QmpError, QmpResult, RxFilterInfo};

use crate::control::Control;

impl Control {
    /// query-rx-filter: of the interface `name`, or of all that have a filter.
    ///
    /// # Errors
    /// When there is no such interface, or it has no filter.
    pub(in crate::control) fn rx_filters(
        &self,
        name: Option<&str>,
    ) -> QmpResult<Vec<RxFilterInfo>> {
        let nics = || self.machine.iter().flat_map(|machine| machine.nics());
        let Some(name) = name else {
            return Ok(nics().filter_map(|(_, nic)| nic.rx_filter()).collect());
        };
        let found = nics().find(|(_, nic)| nic.name() == name);
        let (_, nic) =
            found.ok_or_else(|| QmpError::generic(format!("invalid net client name: {name}")))?;
        let filter = nic.rx_filter().ok_or_else(|| {
            QmpError::generic(format!(
                "net client({name}) doesn't support rx-filter querying"
            ))
        })?;
        Ok(vec![filter])
    }
}
