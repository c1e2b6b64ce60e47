//! The machine as it is saved and restored: what it is made of, its RAM, the state of everything
//! in it.

use serde::{Deserialize, Serialize};

use super::{Machine, RamBackend};
use crate::memory::Backend;
use crate::migration::ram::{RamBlock, RamView};

/// What a machine is made of, as far as another one must be made of the same to take its state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    /// The versioned type, `pc-q35-10.0`.
    pub machine: String,
    /// Processors.
    pub cpus: u32,
    /// Memory backends: name and bytes.
    pub ram: Vec<(String, u64)>,
}

impl Machine {
    /// All RAM as it travels.
    pub fn ram_view(&self) -> RamView {
        let backend: &Backend = match &self.ram_backend {
            RamBackend::Own(backend) => backend,
            RamBackend::Object(backend) => backend,
        };
        RamView {
            blocks: vec![backend.block()],
        }
    }

    /// What it is made of.
    pub fn config(&self) -> MachineConfig {
        let block = |block: RamBlock| (block.name, block.len);
        MachineConfig {
            machine: self.spec.kind.name().to_owned(),
            cpus: u32::try_from(self.cpu_count()).unwrap_or(u32::MAX),
            ram: self.ram_view().blocks.into_iter().map(block).collect(),
        }
    }
}
