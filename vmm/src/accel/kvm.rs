//! KVM: one virtual machine of the Linux kernel, with its interrupt controllers and timer in the
//! kernel.
#![allow(unsafe_code)] // unions of the kernel's

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use devices::bus::lock;
use devices::irq::IrqProvider;
use devices::map::{IoEvent, Space};
use devices::model::{LpcSetup, Piix3};
use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_SPEAKER_DUMMY,
    kvm_clock_data, kvm_irqchip, kvm_pit_config, kvm_pit_state2,
};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, NoDatamatch, VcpuFd, VmFd};
use vmstate::Section;

use super::kvm_irq::KvmIrqs;
use super::kvm_slots::Slots;
use super::saved::{self, Restored};
use super::{Accel, AccelError, AccelKind, AccelState, SlotLog};
use crate::layout;
use crate::memory::RamSlot;

/// The version that every kernel since 2.6.22 speaks.
const API_VERSION: i32 = 12;

/// A virtual machine.
pub struct KvmAccel {
    kvm: Kvm,
    vm: Arc<VmFd>,
    irqs: Arc<KvmIrqs>,
    slots: Arc<Slots>,
    /// What kvm-clock showed when it was stopped; a leaf.
    clock: Mutex<Option<kvm_clock_data>>,
    at_power_on: Chips,
}

/// Interrupt controllers and timer.
struct Chips {
    chips: [kvm_irqchip; 3],
    pit: kvm_pit_state2,
}

fn open() -> Result<Kvm, AccelError> {
    Kvm::new().map_err(|error| {
        let error = io::Error::from(error);
        if error.kind() == io::ErrorKind::PermissionDenied {
            AccelError::Forbidden { advice: advice() }
        } else {
            AccelError::Absent(error)
        }
    })
}

/// How a user gets to /dev/kvm.
fn advice() -> String {
    /// Read and write, for the group.
    const GROUP_MAY: u32 = 0o060;
    let data = std::fs::metadata("/dev/kvm");
    let data = data.map_or((0, 0), |data| (data.gid(), data.mode()));
    match data {
        // Nobody should be told to join root's.
        (1.., mode) if mode & GROUP_MAY == GROUP_MAY => {
            let group = group_name(data.0);
            format!("/dev/kvm belongs to the group {group}: add the user to it")
        }
        (_, mode) => format!(
            "/dev/kvm has mode {:o}: its group may not use it",
            mode & 0o777
        ),
    }
}

fn group_name(gid: u32) -> String {
    let gid = gid.to_string();
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let entry = groups
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&gid));
    let name = entry.and_then(|line| line.split(':').next());
    name.map_or(gid.clone(), str::to_owned)
}

impl KvmAccel {
    /// Makes a virtual machine with this RAM, by slot, and without vCPUs.
    ///
    /// RAM comes before the interrupt controllers: each change of the kernel's list of slots
    /// waits for a grace period that making those begins (6 ms instead of 0.2 ms, measured).
    ///
    /// # Errors
    /// When /dev/kvm is absent, forbidden or too old.
    pub fn new(ram: &[(u32, RamSlot)]) -> Result<Self, AccelError> {
        let kvm = open()?;
        if kvm.get_api_version() != API_VERSION {
            return Err(AccelError::Missing("API version 12"));
        }
        for (cap, name) in [
            (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
            (Cap::Pit2, "KVM_CAP_PIT2"),
            (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
            (Cap::SignalMsi, "KVM_CAP_SIGNAL_MSI"),
            (Cap::IoeventfdNoLength, "KVM_CAP_IOEVENTFD_NO_LENGTH"),
        ] {
            if !kvm.check_extension(cap) {
                return Err(AccelError::Missing(name));
            }
        }
        let vm = create_vm(&kvm)?;
        // Both before the first vCPU; only Intel's KVM uses them.
        let address = usize::try_from(layout::TSS).unwrap_or(0);
        vm.set_tss_address(address)
            .map_err(AccelError::failed("KVM_SET_TSS_ADDR"))?;
        vm.set_identity_map_address(layout::IDENTITY_MAP)
            .map_err(AccelError::failed("KVM_SET_IDENTITY_MAP_ADDR"))?;
        let vm = Arc::new(vm);
        let slots = Slots::new(vm.clone(), ram)
            .map_err(AccelError::failed("KVM_SET_USER_MEMORY_REGION"))?;
        vm.create_irq_chip()
            .map_err(AccelError::failed("KVM_CREATE_IRQCHIP"))?;
        let pit = kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..Default::default()
        };
        vm.create_pit2(pit)
            .map_err(AccelError::failed("KVM_CREATE_PIT2"))?;
        let mut at_power_on = read_chips(&vm).map_err(AccelError::failed("KVM_GET_IRQCHIP"))?;
        make_pci_level_triggered(&mut at_power_on);
        for chip in &at_power_on.chips {
            vm.set_irqchip(chip)
                .map_err(AccelError::failed("KVM_SET_IRQCHIP"))?;
        }
        let irqs = KvmIrqs::new(vm.clone()).map_err(AccelError::failed("KVM_SET_GSI_ROUTING"))?;
        Ok(KvmAccel {
            kvm,
            vm,
            irqs: Arc::new(irqs),
            slots: Arc::new(slots),
            clock: Mutex::default(),
            at_power_on,
        })
    }

    /// Whether this user has KVM here.
    ///
    /// # Errors
    /// When /dev/kvm is absent, forbidden or too old.
    pub fn probe() -> Result<(), AccelError> {
        match open()?.get_api_version() {
            API_VERSION => Ok(()),
            _ => Err(AccelError::Missing("API version 12")),
        }
    }

    /// The kernel's KVM as such.
    pub fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    /// The virtual machine.
    pub fn vm(&self) -> &Arc<VmFd> {
        &self.vm
    }

    /// Makes a vCPU whose APIC id is `apic_id`.
    ///
    /// # Errors
    /// When the kernel has no more.
    pub fn create_vcpu(&self, apic_id: u32) -> Result<VcpuFd, AccelError> {
        self.vm
            .create_vcpu(u64::from(apic_id))
            .map_err(AccelError::failed("KVM_CREATE_VCPU"))
    }
}

fn create_vm(kvm: &Kvm) -> Result<VmFd, AccelError> {
    loop {
        match kvm.create_vm() {
            Ok(vm) => return Ok(vm),
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(AccelError::failed("KVM_CREATE_VM")(error)),
        }
    }
}

fn read_chips(vm: &VmFd) -> Result<Chips, kvm_ioctls::Error> {
    let mut chips = [
        KVM_IRQCHIP_PIC_MASTER,
        KVM_IRQCHIP_PIC_SLAVE,
        KVM_IRQCHIP_IOAPIC,
    ]
    .map(|chip_id| kvm_irqchip {
        chip_id,
        ..Default::default()
    });
    for chip in &mut chips {
        vm.get_irqchip(chip)?;
    }
    Ok(Chips {
        chips,
        pit: vm.get_pit2()?,
    })
}

/// The interrupts of PCI functions are level-triggered at the old controllers as well, for guests
/// without ACPI and I/O APIC. Firmware writes that to the edge/level registers (ICH9 datasheet,
/// section 13.4), and none runs before the kernel.
fn make_pci_level_triggered(chips: &mut Chips) {
    let levels = pci_levels();
    for chip in &mut chips.chips {
        let Some(level) = levels.get(chip.chip_id as usize) else {
            continue;
        };
        // SAFETY: these two chips are PICs, which were read as such; every value is valid.
        unsafe { chip.chip.pic.elcr |= level };
    }
}

/// Which inputs of the first and of the second PIC PCI functions use.
fn pci_levels() -> [u8; 2] {
    let links = LpcSetup::DEFAULT.links.iter().chain(&Piix3::LINKS);
    let mask = links.fold(0u16, |mask, irq| {
        mask | 1u16.checked_shl((*irq).into()).unwrap_or(0)
    });
    mask.to_le_bytes()
}

fn address(event: &IoEvent) -> IoEventAddress {
    match event.space {
        Space::Port => IoEventAddress::Pio(event.address),
        Space::Memory => IoEventAddress::Mmio(event.address),
    }
}

impl Accel for KvmAccel {
    fn kind(&self) -> AccelKind {
        AccelKind::Kvm
    }

    fn irqs(&self) -> Arc<dyn IrqProvider> {
        self.irqs.clone()
    }

    fn map_ram(&self, slot: u32, ram: RamSlot) -> io::Result<()> {
        self.slots.map(slot, ram)
    }

    fn unmap_ram(&self, slot: u32) -> io::Result<()> {
        self.slots.unmap(slot)
    }

    fn add_io_event(&self, event: &IoEvent) -> io::Result<()> {
        self.vm
            .register_ioevent(&event.event, &address(event), NoDatamatch)
            .map_err(Into::into)
    }

    fn remove_io_event(&self, event: &IoEvent) -> io::Result<()> {
        self.vm
            .unregister_ioevent(&event.event, &address(event), NoDatamatch)
            .map_err(Into::into)
    }

    fn dirty_log(&self) -> Option<Arc<dyn SlotLog>> {
        Some(self.slots.clone())
    }
}

impl AccelState for KvmAccel {
    fn clock_start(&self) {
        if let Some(clock) = lock(&self.clock).take() {
            self.set_clock(clock);
            self.forget_ticks();
        }
    }

    fn clock_stop(&self) {
        let mut stopped = lock(&self.clock);
        if stopped.is_some() {
            return;
        }
        match self.vm.get_clock() {
            Ok(clock) => *stopped = Some(clock),
            Err(error) => log::warn!("Cannot read kvm-clock: {error}"),
        }
    }

    fn reset(&self) -> io::Result<()> {
        for chip in &self.at_power_on.chips {
            self.vm.set_irqchip(chip)?;
        }
        self.vm.set_pit2(&self.at_power_on.pit)?;
        Ok(())
    }

    fn parts(&self) -> &'static [(&'static str, &'static str)] {
        &saved::PARTS
    }

    fn save(&self) -> Result<Vec<Section>, String> {
        self.clock_stop();
        let clock = lock(&self.clock).ok_or("kvm-clock cannot be read")?;
        saved::save(&self.vm, &clock)
    }

    fn restore(&self, section: &Section) -> Result<(), String> {
        match saved::restore(&self.vm, section)? {
            Restored::Done => {}
            Restored::Clock(clock) => {
                // The kernel writes the date of its zero into the guest when the guest's register
                // for that is restored; it starts from here once more when the machine runs.
                self.set_clock(clock);
                *lock(&self.clock) = Some(clock);
            }
        }
        Ok(())
    }
}

impl KvmAccel {
    /// The kernel's timer ticks on while the machine is stopped, and would make up for ticks that
    /// nobody took: its period begins anew. One that ticks once is left alone.
    fn forget_ticks(&self) {
        let periodic = |pit: &kvm_pit_state2| matches!(pit.channels[0].mode, 2 | 3);
        if let Some(pit) = self.vm.get_pit2().ok().filter(periodic)
            && let Err(error) = self.vm.set_pit2(&pit)
        {
            log::warn!("Cannot start the timer anew: {error}");
        }
    }

    fn set_clock(&self, mut clock: kvm_clock_data) {
        // Only the time counts; the rest says how it was taken.
        clock.flags = 0;
        if let Err(error) = self.vm.set_clock(&clock) {
            log::warn!("Cannot set kvm-clock: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_interrupts_are_level_triggered_at_the_second_pic() {
        // Interrupts 10 and 11.
        assert_eq!(pci_levels(), [0, 0b1100]);
        let mut chips = Chips {
            chips: [
                KVM_IRQCHIP_PIC_MASTER,
                KVM_IRQCHIP_PIC_SLAVE,
                KVM_IRQCHIP_IOAPIC,
            ]
            .map(|chip_id| kvm_irqchip {
                chip_id,
                ..Default::default()
            }),
            pit: kvm_pit_state2::default(),
        };
        make_pci_level_triggered(&mut chips);
        // SAFETY: all bytes were zero or written as a PIC's; every value is valid.
        let seen = chips.chips.map(|chip| unsafe { chip.chip.pic.elcr });
        assert_eq!(seen, [0, 0b1100, 0]);
    }
}
