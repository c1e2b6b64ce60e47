//! `pcie-root-port`: a bridge from the root complex to one slot.

use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::PciFunction;
use super::caps::{ExpressRole, LINK_ACTIVE, SLOT_PRESENT, Slot, express};
use super::config::{ConfigSpace, Identity, state::ConfigSpaceV1};
use super::msix::{Msix, state::MsixV1};
use crate::effect::Effect;
use crate::irq::IrqProvider;

/// The BAR with the port's own vector.
const MSIX_BAR: u8 = 0;

/// What can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootPortProps {
    /// Number in the link capabilities.
    pub port: u8,
    /// Chassis; with the slot number it has to be unique, which the machine sees to.
    pub chassis: u8,
    /// Slot number.
    pub slot: u16,
    /// Devices may come and go.
    pub hotplug: bool,
    /// One of several functions in its slot.
    pub multifunction: bool,
}

impl Default for RootPortProps {
    fn default() -> Self {
        RootPortProps {
            port: 0,
            chassis: 0,
            slot: 0,
            hotplug: true,
            multifunction: false,
        }
    }
}

/// 1b36:000c.
pub struct RootPort {
    config: ConfigSpace,
    msix: Msix,
    express: u16,
    occupied: bool,
}

impl RootPort {
    /// A port with an empty slot.
    ///
    /// # Errors
    /// When the accelerator has no interrupt route left.
    pub fn new(props: RootPortProps, irqs: &dyn IrqProvider) -> std::io::Result<Self> {
        let mut config = ConfigSpace::bridge(Identity {
            vendor: 0x1b36,
            device: 0x000c,
            revision: 0,
            class: 0x06_0400,
            subsystem_vendor: 0,
            subsystem: 0,
        });
        if props.multifunction {
            config.multifunction();
        }
        config.interrupt_pin(1);
        let no_room = || std::io::Error::other("No room for a capability");
        config.add_bridge_subsystem(0x1b36, 0).ok_or_else(no_room)?;
        let msix = Msix::new(&mut config, MSIX_BAR, 1, irqs)?;
        let role = ExpressRole::RootPort {
            port: props.port,
            slot: Slot {
                number: props.slot,
                hot_plug: props.hotplug,
            },
        };
        let express = config.add_express(role).ok_or_else(no_room)?;
        config.add_power_management().ok_or_else(no_room)?;
        Ok(RootPort {
            config,
            msix,
            express,
            occupied: false,
        })
    }

    /// Says whether a device is in the slot; tells the guest nothing (a machine being made).
    pub fn set_occupied(&mut self, occupied: bool) {
        self.occupied = occupied;
        let at = |offset: u16| self.express.saturating_add(offset);
        let (status, link) = (at(express::SLOT_STATUS), at(express::LINK_STATUS));
        self.config.set_bits(status, SLOT_PRESENT, occupied);
        self.config.set_bits(link, LINK_ACTIVE, occupied);
    }

    /// Whether a device is in the slot.
    pub fn occupied(&self) -> bool {
        self.occupied
    }
}

impl PciFunction for RootPort {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> Effect {
        let changed = self.config.write(offset, data);
        self.msix.config_written(&self.config);
        if changed.decode {
            Effect::Remap
        } else {
            Effect::None
        }
    }

    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn bar_read(&mut self, _bar: u8, offset: u64, data: &mut [u8]) {
        self.msix.read(offset, data);
    }

    fn bar_write(&mut self, _bar: u8, offset: u64, data: &[u8]) -> Effect {
        self.msix.write(offset, data);
        Effect::None
    }

    fn reset(&mut self) {
        self.config.reset();
        self.msix.reset();
        self.set_occupied(self.occupied);
    }

    fn state(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(self)
    }
}

/// Saved state.
pub mod state {
    use super::*;

    /// The registers; what is in the slot is the machine's to restore.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct RootPortV1 {
        /// Configuration space.
        pub config: ConfigSpaceV1,
        /// Its vector.
        pub msix: MsixV1,
    }
}

impl Snapshot for RootPort {
    type State = state::RootPortV1;
    const ID: &'static str = "pcie-root-port";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let RootPort {
            config,
            msix,
            express: _,
            occupied: _,
        } = self;
        state::RootPortV1 {
            config: config.save(),
            msix: msix.save(),
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let state::RootPortV1 { config, msix } = state;
        self.config.restore(config)?;
        self.msix.restore(msix)
    }
}
