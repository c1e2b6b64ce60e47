//! Saved state of KVM's interrupt controllers, timer and clock.
//!
//! Levels of interrupt lines are not among it: devices own them and drive them again when they are
//! restored, which is to be done before this. The controllers' own view of their inputs then comes
//! from here, so that a line that was high already makes no new edge.
#![allow(unsafe_code)] // unions of the kernel's

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_clock_data,
    kvm_ioapic_state, kvm_irqchip, kvm_pic_state, kvm_pit_channel_state, kvm_pit_state2,
};
use kvm_ioctls::VmFd;
use serde::{Deserialize, Serialize};
use vmstate::{Section, StateError};

use crate::mirror::{is_default, mirror};

const PIC: &str = "i8259";
const IOAPIC: &str = "ioapic";
const PIT: &str = "i8254";
const CLOCK: &str = "kvm-clock";
/// Instances.
const MASTER: &str = "/machine/master";
const SLAVE: &str = "/machine/slave";
const MACHINE: &str = "/machine";
const VERSION: u32 = 1;

/// Id and instance of every section.
pub const PARTS: [(&str, &str); 5] = [
    (PIC, MASTER),
    (PIC, SLAVE),
    (IOAPIC, MACHINE),
    (PIT, MACHINE),
    (CLOCK, MACHINE),
];

mirror! {
    /// An 8259A.
    PicV1 = kvm_pic_state {
        /// Inputs as they were last seen.
        last_irr: u8,
        irr: u8,
        imr: u8,
        isr: u8,
        priority_add: u8,
        irq_base: u8,
        read_reg_select: u8,
        poll: u8,
        special_mask: u8,
        /// Which initialization word comes next.
        init_state: u8,
        auto_eoi: u8,
        rotate_on_auto_eoi: u8,
        special_fully_nested_mode: u8,
        init4: u8,
        /// Edge or level, by input.
        elcr: u8,
        elcr_mask: u8,
    }
}

/// The I/O APIC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct IoapicV1 {
    #[serde(skip_serializing_if = "is_default")]
    base_address: u64,
    #[serde(skip_serializing_if = "is_default")]
    ioregsel: u32,
    #[serde(skip_serializing_if = "is_default")]
    id: u32,
    #[serde(skip_serializing_if = "is_default")]
    irr: u32,
    /// Redirection entries, in order of inputs.
    #[serde(skip_serializing_if = "is_default")]
    redirtbl: [u64; 24],
}

impl From<kvm_ioapic_state> for IoapicV1 {
    fn from(ioapic: kvm_ioapic_state) -> Self {
        let kvm_ioapic_state {
            base_address,
            ioregsel,
            id,
            irr,
            pad: _,
            redirtbl,
        } = ioapic;
        IoapicV1 {
            base_address,
            ioregsel,
            id,
            irr,
            // SAFETY: the other variant names the bits of the same number.
            redirtbl: redirtbl.map(|entry| unsafe { entry.bits }),
        }
    }
}

impl From<IoapicV1> for kvm_ioapic_state {
    fn from(ioapic: IoapicV1) -> Self {
        let IoapicV1 {
            base_address,
            ioregsel,
            id,
            irr,
            redirtbl,
        } = ioapic;
        let mut state = kvm_ioapic_state {
            base_address,
            ioregsel,
            id,
            irr,
            ..Default::default()
        };
        for (entry, bits) in state.redirtbl.iter_mut().zip(redirtbl) {
            entry.bits = bits;
        }
        state
    }
}

mirror! {
    /// A counter of the 8254. When it was loaded is not kept: the kernel begins its period anew.
    ChannelV1 = kvm_pit_channel_state {
        count: u32,
        latched_count: u16,
        count_latched: u8,
        status_latched: u8,
        status: u8,
        read_state: u8,
        write_state: u8,
        write_latch: u8,
        rw_mode: u8,
        mode: u8,
        bcd: u8,
        gate: u8,
    } without count_load_time
}

/// The 8254.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PitV1 {
    #[serde(skip_serializing_if = "is_default")]
    channels: [ChannelV1; 3],
    /// KVM_PIT_FLAGS_*.
    #[serde(skip_serializing_if = "is_default")]
    flags: u32,
}

/// kvm-clock. It goes on from here: like the virtual clock it stands still while the machine
/// does, so a guest's own idea of the date falls behind by that time, as under QEMU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ClockV1 {
    /// Nanoseconds.
    #[serde(skip_serializing_if = "is_default")]
    ns: u64,
}

/// What a restored section asks for beyond what was done.
pub enum Restored {
    /// Nothing.
    Done,
    /// kvm-clock is to start from here.
    Clock(kvm_clock_data),
}

/// Everything, with kvm-clock standing at `clock`.
pub fn save(vm: &VmFd, clock: &kvm_clock_data) -> Result<Vec<Section>, String> {
    let pack = |result: Result<Section, StateError>| result.map_err(|error| error.to_string());
    let pic = |chip_id, instance| {
        let chip = chip(vm, chip_id)?;
        // SAFETY: the kernel filled in a PIC, as asked; every value is valid.
        let state = PicV1::from(unsafe { chip.chip.pic });
        pack(Section::pack(PIC, instance, VERSION, &state))
    };
    let ioapic = chip(vm, KVM_IRQCHIP_IOAPIC)?;
    // SAFETY: the kernel filled in an I/O APIC, as asked; every value is valid.
    let ioapic = IoapicV1::from(unsafe { ioapic.chip.ioapic });
    let kvm_pit_state2 {
        channels,
        flags,
        reserved: _,
    } = vm.get_pit2().map_err(failed("KVM_GET_PIT2"))?;
    let pit = PitV1 {
        channels: channels.map(ChannelV1::from),
        flags,
    };
    let clock = ClockV1 { ns: clock.clock };
    Ok(vec![
        pic(KVM_IRQCHIP_PIC_MASTER, MASTER)?,
        pic(KVM_IRQCHIP_PIC_SLAVE, SLAVE)?,
        pack(Section::pack(IOAPIC, MACHINE, VERSION, &ioapic))?,
        pack(Section::pack(PIT, MACHINE, VERSION, &pit))?,
        pack(Section::pack(CLOCK, MACHINE, VERSION, &clock))?,
    ])
}

/// Puts one section in.
pub fn restore(vm: &VmFd, section: &Section) -> Result<Restored, String> {
    let text = |error: StateError| error.to_string();
    let set = |chip: kvm_irqchip| {
        let set = vm.set_irqchip(&chip).map_err(failed("KVM_SET_IRQCHIP"));
        set.map(|()| Restored::Done)
    };
    match (section.id.as_str(), section.instance.as_str()) {
        (PIC, MASTER | SLAVE) => {
            let state: PicV1 = section.unpack(PIC, VERSION).map_err(text)?;
            let mut chip = kvm_irqchip {
                chip_id: match section.instance.as_str() {
                    MASTER => KVM_IRQCHIP_PIC_MASTER,
                    _ => KVM_IRQCHIP_PIC_SLAVE,
                },
                ..Default::default()
            };
            chip.chip.pic = state.into();
            set(chip)
        }
        (IOAPIC, MACHINE) => {
            let state: IoapicV1 = section.unpack(IOAPIC, VERSION).map_err(text)?;
            let mut chip = kvm_irqchip {
                chip_id: KVM_IRQCHIP_IOAPIC,
                ..Default::default()
            };
            chip.chip.ioapic = state.into();
            set(chip)
        }
        (PIT, MACHINE) => {
            let PitV1 { channels, flags } = section.unpack(PIT, VERSION).map_err(text)?;
            let state = kvm_pit_state2 {
                channels: channels.map(kvm_pit_channel_state::from),
                flags,
                reserved: [0; 9],
            };
            vm.set_pit2(&state).map_err(failed("KVM_SET_PIT2"))?;
            Ok(Restored::Done)
        }
        (CLOCK, MACHINE) => {
            let ClockV1 { ns } = section.unpack(CLOCK, VERSION).map_err(text)?;
            Ok(Restored::Clock(kvm_clock_data {
                clock: ns,
                ..Default::default()
            }))
        }
        (id, instance) => Err(format!("Unknown section '{id}' of instance '{instance}'")),
    }
}

fn chip(vm: &VmFd, chip_id: u32) -> Result<kvm_irqchip, String> {
    let mut chip = kvm_irqchip {
        chip_id,
        ..Default::default()
    };
    vm.get_irqchip(&mut chip)
        .map_err(failed("KVM_GET_IRQCHIP"))?;
    Ok(chip)
}

fn failed(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> String {
    move |error| format!("{what}: {error}")
}

#[cfg(test)]
#[path = "saved_test.rs"]
mod tests;
