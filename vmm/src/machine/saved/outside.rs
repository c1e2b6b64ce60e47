//! What is neither a device nor the machine's own: clocks, accelerator, processors.

use vmstate::Section;

use super::super::Machine;
use crate::clock::GuestClock;

/// Gives the section of that kind and instance.
pub(super) type Take<'a> = dyn FnMut(&str, &str) -> Result<Section, String> + 'a;

impl Machine {
    pub(super) fn save_clock(&self) -> Result<Section, String> {
        self.clock.save()
    }

    /// Before devices, which set their timers by it.
    pub(super) fn restore_clock(&self, take: &mut Take) -> Result<(), String> {
        let (id, instance) = GuestClock::SECTION;
        self.clock.restore(&take(id, instance)?)
    }

    /// Why processors cannot be saved.
    pub(super) fn processor_blockers(&self) -> Vec<String> {
        self.vcpus.blockers()
    }

    pub(super) fn save_processors(&self) -> Result<Vec<Section>, String> {
        let mut sections = self.accel.save()?;
        sections.extend(self.vcpus.save()?);
        Ok(sections)
    }

    /// Behind devices, whose lines make no edges then, and the accelerator before the processors,
    /// whose clocks follow its own.
    pub(super) fn restore_processors(&self, take: &mut Take) -> Result<(), String> {
        for (id, instance) in self.accel.parts() {
            self.accel.restore(&take(id, instance)?)?;
        }
        for (id, instance) in self.vcpus.parts() {
            self.vcpus.restore(&take(id, &instance)?)?;
        }
        Ok(())
    }
}
