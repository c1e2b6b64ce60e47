//! What is neither a device nor the machine's own: clock, accelerator, processors.

use vmstate::Section;

use super::super::Machine;

/// Gives the section of that kind and instance.
pub(super) type Take<'a> = dyn FnMut(&str, &str) -> Result<Section, String> + 'a;

impl Machine {
    pub(super) fn save_clock(&self) -> Option<Section> {
        None
    }

    pub(super) fn restore_clock(&self, _take: &mut Take) -> Result<(), String> {
        Ok(())
    }

    pub(super) fn save_processors(&self) -> Result<Vec<Section>, String> {
        Ok(Vec::new())
    }

    pub(super) fn restore_processors(&self, _take: &mut Take) -> Result<(), String> {
        Ok(())
    }
}
