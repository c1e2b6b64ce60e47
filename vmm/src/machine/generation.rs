//! The guest's generation id: in its memory, and told of when it changes.

use std::sync::Arc;

use anyhow::Context;
use devices::model::Generation;
use uuid::Uuid;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};
use vmstate::Section;

use super::Machine;
use crate::acpi::generation;

impl Machine {
    /// The generation id; there is one at most.
    pub fn generation(&self) -> Option<&Arc<Generation>> {
        let mut faces = self.devices.iter().map(|device| &device.face);
        faces.find_map(|face| face.generation())
    }

    /// Puts the id where the tables say that it is.
    pub(super) fn write_generation(&self) -> anyhow::Result<()> {
        let Some(id) = self.generation().map(|generation| generation.id()) else {
            return Ok(());
        };
        let memory = self.ram.handle.memory();
        memory
            .write_slice(&id.to_bytes_le(), GuestAddress(generation::ID))
            .context("The generation id does not fit into guest memory")
    }

    /// [`Machine::restore`] of a state that may be restored more than once: the guest is told that
    /// it begins another life. The id chosen for this machine, if `own`, is new unless it is the
    /// one that was saved; otherwise one is drawn.
    ///
    /// # Errors
    /// As [`Machine::restore`].
    pub fn restore_copy(&mut self, sections: Vec<Section>, own: bool) -> Result<(), String> {
        let chosen = self.generation().map(|generation| generation.id());
        self.restore(sections)?;
        let saved = self.generation().map(|generation| generation.id());
        let id = chosen.filter(|_| own && chosen != saved);
        let renewed = self.renew_generation(id.unwrap_or_else(Uuid::new_v4));
        renewed.map_err(|error| format!("{error:#}"))
    }

    /// The guest begins another life (it is a copy, or goes on from an older state): gives it
    /// the id `id`, and tells it. Nothing where it has none.
    ///
    /// # Errors
    /// When its memory has no place for it.
    pub fn renew_generation(&self, id: Uuid) -> anyhow::Result<()> {
        let Some(generation) = self.generation() else {
            return Ok(());
        };
        generation.set(id);
        if self.boot.is_none() {
            // Nobody told the guest of a place.
            return Ok(());
        }
        self.write_generation()?;
        self.chipset.general_event(generation::EVENT);
        Ok(())
    }
}
