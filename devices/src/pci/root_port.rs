//! `pcie-root-port`: a bridge from the root complex to one slot.

use std::sync::Arc;

use api_spec::{PcieRootPortProps, QmpError, QmpResult};
use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::PciFunction;
use super::caps::{ExpressRole, LINK_ACTIVE, Slot, express};
use super::config::{ConfigSpace, Identity, state::ConfigSpaceV1};
use super::msix::{Msix, state::MsixV1};
use super::regs::{STATUS, status as pci_status};
use super::reserve::Reserve;
use super::slot::{Commanded, SlotState, Unplug};
use crate::cx::BuildCx;
use crate::effect::Effect;
use crate::irq::{Interrupt, IrqLine, IrqProvider};

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
    /// What firmware keeps free behind it.
    pub reserve: Reserve,
}

impl Default for RootPortProps {
    fn default() -> Self {
        RootPortProps {
            port: 0,
            chassis: 0,
            slot: 0,
            hotplug: true,
            multifunction: false,
            reserve: Reserve::default(),
        }
    }
}

/// Slot numbers have 13 bits (PCI Express Base 3.0, section 7.8.9).
const SLOTS: u16 = 1 << 13;

/// Builds the port that the properties describe.
///
/// # Errors
/// For what a port does not have, and when there are no interrupt routes left.
pub fn build(props: &PcieRootPortProps, cx: &BuildCx) -> QmpResult<RootPort> {
    let refuse = |name: &str, why: String| {
        Err(QmpError::generic(format!(
            "Property 'pcie-root-port.{name}' {why}"
        )))
    };
    if props.slot >= SLOTS {
        let most = SLOTS - 1;
        return refuse("slot", format!("cannot be {}: at most {most}", props.slot));
    }
    if let Some(file) = props.romfile.as_ref().filter(|file| !file.is_empty()) {
        return refuse("romfile", format!("cannot be '{file}': not supported"));
    }
    if props.failover_pair_id.is_some() {
        let desc = "failover primary device is not an Ethernet device";
        return Err(QmpError::generic(desc));
    }
    if props.acpi_index != 0 {
        return refuse(
            "acpi-index",
            format!("cannot be {}: not supported", props.acpi_index),
        );
    }
    let memory = props.mem_reserve.map(|size| u32::try_from(size.0));
    let Ok(memory) = memory.transpose() else {
        let desc = "PCI resource reserve cap: mem-reserve must be less than 4G";
        return Err(QmpError::generic(desc));
    };
    let props = RootPortProps {
        reserve: Reserve {
            buses: Some(props.bus_reserve).filter(|buses| *buses != u32::MAX),
            io: props.io_reserve.map(|size| size.0),
            memory,
            prefetchable: props.pref64_reserve.map(|size| size.0),
        },
        port: props.port,
        chassis: props.chassis,
        slot: props.slot,
        hotplug: props.hotplug,
        multifunction: props.multifunction,
    };
    RootPort::new(props, &*cx.irqs, cx.intx.clone())
        .map_err(|error| QmpError::generic(error.to_string()))
}

/// 1b36:000c.
pub struct RootPort {
    config: ConfigSpace,
    msix: Msix,
    express: u16,
    hot_plug: bool,
    occupied: bool,
    pin: Arc<dyn IrqLine>,
    /// The guest was interrupted for what is in slot status now.
    notified: bool,
}

impl RootPort {
    /// A port with an empty slot.
    ///
    /// # Errors
    /// When the accelerator has no interrupt route left.
    pub fn new(
        props: RootPortProps,
        irqs: &dyn IrqProvider,
        pin: Arc<dyn IrqLine>,
    ) -> std::io::Result<Self> {
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
        if !config.add_reserve(props.reserve) {
            return Err(no_room());
        }
        let mut port = RootPort {
            config,
            msix,
            express,
            hot_plug: props.hotplug,
            occupied: false,
            pin,
            notified: false,
        };
        port.update_passage();
        Ok(port)
    }

    /// Says whether a device is in the slot; tells the guest nothing (a machine being made).
    pub fn set_occupied(&mut self, occupied: bool) {
        self.occupied = occupied;
        self.set_slot(SlotState::new(self.hot_plug, occupied));
    }

    /// A device was put into the slot: tells the guest.
    pub fn insert(&mut self) {
        self.occupied = true;
        self.change(SlotState::insert);
    }

    /// The device was taken out of the slot: tells the guest.
    pub fn remove(&mut self) {
        self.occupied = false;
        self.change(SlotState::remove);
    }

    /// Asks the guest to let go of what is in the slot, where it uses that.
    pub fn request_unplug(&mut self) -> Unplug {
        self.change(SlotState::request_unplug)
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut SlotState) -> T) -> T {
        let mut slot = self.slot();
        let result = change(&mut slot);
        self.set_slot(slot);
        result
    }

    fn slot(&self) -> SlotState {
        let word = |offset: u16| self.config.word(self.express.saturating_add(offset));
        SlotState {
            hot_plug: self.hot_plug,
            control: word(express::SLOT_CONTROL),
            status: word(express::SLOT_STATUS),
            link: word(express::LINK_STATUS) & LINK_ACTIVE != 0,
        }
    }

    fn set_slot(&mut self, slot: SlotState) {
        let at = |offset: u16| self.express.saturating_add(offset);
        let (control, status) = (at(express::SLOT_CONTROL), at(express::SLOT_STATUS));
        let link = at(express::LINK_STATUS);
        self.config.set_word(control, slot.control);
        self.config.set_word(status, slot.status);
        self.config.set_bits(link, LINK_ACTIVE, slot.link);
        self.update_passage();
        self.interrupt();
    }

    /// Nothing reaches a card without power. True when that changed.
    fn update_passage(&mut self) -> bool {
        let powered = self.slot().powered();
        self.config.set_cut_off(!powered)
    }

    /// Drives vector and pin: one message for each time that something comes up, a level on the
    /// pin for as long as it lasts.
    fn interrupt(&mut self) {
        let wanted = self.slot().wants_interrupt();
        if wanted && !self.notified && self.msix.enabled() {
            // Interrupt message number 0.
            if let Some(vector) = self.msix.vectors().first() {
                vector.signal();
            }
        }
        self.notified = wanted;
        self.drive_pin();
    }

    fn drive_pin(&mut self) {
        let asserted = self.notified && !self.msix.enabled();
        self.config
            .set_bits(STATUS, pci_status::INTERRUPT, asserted);
        self.pin.set(asserted && self.config.intx_enabled());
    }

    /// After a write to configuration space: what the slot does about it, and what it comes to.
    fn slot_written(&mut self, offset: u16, len: usize, before: SlotState) -> Commanded {
        let start = usize::from(offset);
        let control = usize::from(self.express.saturating_add(express::SLOT_CONTROL));
        let commanded = start < control + 2 && control < start.saturating_add(len);
        let answer = match commanded {
            true => self.change(|slot| slot.commanded(before.control)),
            false => Commanded::Nothing,
        };
        self.interrupt();
        answer
    }
}

impl PciFunction for RootPort {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> Effect {
        let before = self.slot();
        let changed = self.config.write(offset, data);
        self.msix.config_written(&self.config);
        let commanded = self.slot_written(offset, data.len(), before);
        let switched = before.powered() != self.slot().powered();
        match commanded {
            Commanded::LetGo => Effect::Ejected,
            _ if changed.decode || switched => Effect::Remap,
            Commanded::Kept => Effect::Kept,
            Commanded::Nothing => Effect::None,
        }
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
            hot_plug: _,
            occupied: _,
            pin: _,
            notified: _,
        } = self;
        state::RootPortV1 {
            config: config.save(),
            msix: msix.save(),
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let state::RootPortV1 { config, msix } = state;
        self.config.restore(config)?;
        self.msix.restore(msix)?;
        self.update_passage();
        // What there is to tell, was told before the state was saved.
        self.notified = self.slot().wants_interrupt();
        self.drive_pin();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use api_spec::decode::Size;

    use super::*;
    use crate::testing::{FakeGuest, conformance};

    fn props() -> PcieRootPortProps {
        PcieRootPortProps {
            port: 3,
            chassis: 2,
            slot: 5,
            hotplug: true,
            bus_reserve: u32::MAX,
            io_reserve: None,
            mem_reserve: None,
            pref64_reserve: None,
            addr: None,
            romfile: None,
            rombar: -1,
            multifunction: true,
            failover_pair_id: None,
            acpi_index: 0,
        }
    }

    #[test]
    fn conforms() {
        let guest = FakeGuest::new();
        conformance::pci_function(conformance::AfterReset::Fresh, || {
            Arc::new(Mutex::new(build(&props(), &guest.cx("rp")).unwrap()))
        });
    }

    #[test]
    fn properties_reach_the_registers() {
        let guest = FakeGuest::new();
        let port = build(&props(), &guest.cx("rp")).unwrap();
        let at = |offset: u16| port.express + offset;
        assert_eq!(port.config.dword(at(0x0c)) >> 24, 3);
        let slot = port.config.dword(at(express::SLOT_CAPABILITIES));
        assert_eq!((slot >> 19, slot & 0x4007f), (5, 0x4007b));
        assert_eq!(port.config.byte(0x0e), 0x81);
        let fixed = PcieRootPortProps {
            hotplug: false,
            multifunction: false,
            ..props()
        };
        let port = build(&fixed, &guest.cx("rp")).unwrap();
        let slot = port.config.dword(port.express + express::SLOT_CAPABILITIES);
        assert_eq!(slot & 0x4007f, 0);
        assert_eq!(port.config.byte(0x0e), 0x01);
        assert_eq!(port.config.reserve(), Reserve::default());
        let roomy = PcieRootPortProps {
            bus_reserve: 2,
            io_reserve: Some(Size(4096)),
            mem_reserve: Some(Size(4 << 20)),
            pref64_reserve: Some(Size(1 << 33)),
            ..props()
        };
        let port = build(&roomy, &guest.cx("rp")).unwrap();
        let reserve = Reserve {
            buses: Some(2),
            io: Some(4096),
            memory: Some(4 << 20),
            prefetchable: Some(1 << 33),
        };
        assert_eq!(port.config.reserve(), reserve);
    }

    #[test]
    fn what_a_port_does_not_have_is_refused() {
        let guest = FakeGuest::new();
        let with = |change: &dyn Fn(&mut PcieRootPortProps)| {
            let mut props = props();
            change(&mut props);
            build(&props, &guest.cx("rp")).map(|_| ())
        };
        for (change, error) in [
            (
                &(|props: &mut PcieRootPortProps| props.slot = 8192)
                    as &dyn Fn(&mut PcieRootPortProps),
                "Property 'pcie-root-port.slot' cannot be 8192: at most 8191",
            ),
            (
                &|props| props.mem_reserve = Some(Size(4 << 30)),
                "PCI resource reserve cap: mem-reserve must be less than 4G",
            ),
            (
                &|props| props.romfile = Some("x.rom".into()),
                "Property 'pcie-root-port.romfile' cannot be 'x.rom': not supported",
            ),
            (
                &|props| props.failover_pair_id = Some("net0".into()),
                "failover primary device is not an Ethernet device",
            ),
            (
                &|props| props.acpi_index = 1,
                "Property 'pcie-root-port.acpi-index' cannot be 1: not supported",
            ),
        ] {
            assert_eq!(with(change).unwrap_err().desc, error);
        }
        let accepted = |props: &mut PcieRootPortProps| {
            props.slot = 8191;
            props.romfile = Some(String::new());
            props.rombar = 0;
        };
        assert_eq!(with(&accepted), Ok(()));
    }
}
