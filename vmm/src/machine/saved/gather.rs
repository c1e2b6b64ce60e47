//! Everything's state, by value.

use vmstate::{Section, StateAccess};

use super::super::Machine;
use super::own::Own;
use super::parts::Part;

/// The instance of the machine's own section.
pub(super) const MACHINE: &str = "/machine";

impl Machine {
    /// The state of everything that is not RAM and not on a disk. The machine is quiet: vCPUs
    /// are parked, queues are back.
    ///
    /// # Errors
    /// With the device that cannot be saved.
    pub fn save(&mut self) -> Result<Vec<Section>, String> {
        let own = Own(self).save_section(MACHINE);
        let own = own.map_err(|error| error.to_string())?;
        let mut sections = vec![own];
        sections.push(self.save_clock()?);
        for part in self.parts() {
            sections.push(save_part(&part)?);
        }
        sections.extend(self.save_processors()?);
        Ok(sections)
    }
}

fn save_part(part: &Part) -> Result<Section, String> {
    let saved = part.save().ok_or_else(|| stateless(&part.instance))?;
    saved.map_err(|error| format!("Device {}: {error}", part.instance))
}

pub(super) fn stateless(instance: &str) -> String {
    format!("Device {instance} has no state that could be saved")
}
