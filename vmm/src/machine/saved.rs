//! The machine as it is saved and restored: what it is made of, its RAM, the state of everything
//! in it.
//!
//! ```text
//! source                                     target
//! config() ------ what it is made of ------> check_config()
//!                                            prepare_incoming()
//! RAM, by ram_view() ----------------------> RAM, by ram_view()
//! save() -------- sections, by value ------> restore()
//! ```
//! Sections are told apart by kind and instance. The instance of a device is its place in the
//! object tree, or on its bus where the user gave it no id; all orders are this side's own.

mod blockers;
mod config;
mod gather;
#[cfg(test)]
#[path = "saved/golden_test.rs"]
pub(crate) mod golden_tests;
mod incoming;
mod outside;
mod own;
mod parts;
mod restore;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod rig;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Machine, RamBackend};
use crate::memory::Backend;
use crate::migration::ram::RamView;

/// What a machine is made of, as far as another one must be made of the same to take its state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    /// The versioned type, `pc-q35-10.0`.
    pub machine: String,
    /// What runs it, `kvm`.
    pub accel: String,
    /// Processors.
    pub cpus: u32,
    /// How they are arranged: sockets, dies, modules, cores, threads, and how many there can be.
    pub topology: [u32; 6],
    /// The text of `-cpu`.
    pub cpu: String,
    /// A kernel was loaded without firmware: the machine does that again after a reset.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kernel: bool,
    /// Compared only where a client asked for that (`validate-uuid`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Memory backends: name and bytes.
    pub ram: Vec<(String, u64)>,
    /// Devices that were plugged, the chipset's excluded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceConfig>,
}

/// One device of a [`MachineConfig`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    /// What its sections go by, unique in the machine.
    pub path: String,
    /// Its type.
    pub driver: String,
    /// The bus it is on, and its place there.
    pub place: String,
    /// What the guest sees of its properties, as they turned out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
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
}

#[cfg(test)]
#[path = "saved/saved_test.rs"]
mod tests;
