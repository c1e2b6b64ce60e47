//! The guest's generation id: in its memory, and told of when it changes.

use std::sync::Arc;

use anyhow::{Context, Result};
use devices::model::Generation;
use uuid::Uuid;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};

use super::Machine;
use crate::acpi::generation;

impl Machine {
    /// The generation id; there is one at most.
    pub fn generation(&self) -> Option<&Arc<Generation>> {
        let mut faces = self.devices.iter().map(|device| &device.face);
        faces.find_map(|face| face.generation())
    }

    /// Puts the id where the tables say that it is.
    pub(super) fn write_generation(&self) -> Result<()> {
        let Some(id) = self.generation().map(|generation| generation.id()) else {
            return Ok(());
        };
        let memory = self.ram.handle.memory();
        memory
            .write_slice(&id.to_bytes_le(), GuestAddress(generation::ID))
            .context("The generation id does not fit into guest memory")
    }

    /// The guest begins another life (it is a copy, or goes on from an older state): gives it
    /// the id `id`, and tells it. Nothing where it has none.
    ///
    /// # Errors
    /// When its memory has no place for it.
    pub fn renew_generation(&self, id: Uuid) -> Result<()> {
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
