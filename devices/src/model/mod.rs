//! Device models that are not virtio: one device a file.

mod debug_exit;
mod fw_cfg;
mod hotplug_ports;
mod i6300esb;
mod i8042;
pub mod isa_serial;
mod lpc;
mod piix3;
mod piix4_pm;
mod pm;
mod port61;
mod port92;
mod pvpanic;
mod pvpanic_pci;
pub(crate) mod registers;
mod rtc;
pub mod serial;
pub mod shadow;
mod timed;
mod vmgenid;

#[cfg(test)]
mod fw_cfg_test;
#[cfg(test)]
mod serial_test;

pub use debug_exit::DebugExit;
pub use fw_cfg::{FwCfg, FwCfgError, Machine as FwCfgMachine, key as fw_cfg_key};
pub use i8042::I8042;
pub use lpc::{Lpc, Setup as LpcSetup};
pub use piix3::Piix3;
pub use piix4_pm::Piix4Pm;
pub use port61::Port61;
pub use port92::Port92;
pub use pvpanic::Pvpanic;
pub use rtc::{CmosMemory, Rtc};
pub use vmgenid::{Generation, GenerationState};

/// Saved state of the devices.
pub mod state {
    pub use super::fw_cfg::state::FwCfgV1;
    pub use super::hotplug_ports::state::HotplugPortsV1;
    pub use super::i6300esb::I6300esbV1;
    pub use super::i8042::state::I8042V1;
    pub use super::lpc::state::LpcV1;
    pub use super::piix3::state::Piix3V1;
    pub use super::piix4_pm::state::Piix4PmV1;
    pub use super::pm::state::PmV1;
    pub use super::port61::state::Port61V1;
    pub use super::port92::state::Port92V1;
    pub use super::rtc::state::RtcV1;
    pub use super::vmgenid::state::VmgenidV1;
}

pub mod build {
    //! Devices that a user asks for.
    pub use super::debug_exit::build as isa_debug_exit;
    pub use super::i6300esb::build as i6300esb;
    pub use super::pvpanic::build as pvpanic;
    pub use super::pvpanic_pci::build as pvpanic_pci;
}
