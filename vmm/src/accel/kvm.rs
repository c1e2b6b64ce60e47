//! KVM: one virtual machine of the Linux kernel, with its interrupt controllers and timer in the
//! kernel.
#![allow(unsafe_code)] // hands guest RAM to the kernel

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use devices::bus::lock;
use devices::irq::IrqProvider;
use devices::map::{IoEvent, Space};
use devices::model::{LpcSetup, Piix3};
use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_MEM_LOG_DIRTY_PAGES,
    KVM_MEM_READONLY, KVM_PIT_SPEAKER_DUMMY, kvm_clock_data, kvm_irqchip, kvm_pit_config,
    kvm_pit_state2, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, NoDatamatch, VcpuFd, VmFd};

use super::kvm_irq::KvmIrqs;
use super::{Accel, AccelError, AccelKind};
use crate::layout;
use crate::memory::RamSlot;

/// The version that every kernel since 2.6.22 speaks.
const API_VERSION: i32 = 12;

/// A virtual machine.
pub struct KvmAccel {
    kvm: Kvm,
    vm: Arc<VmFd>,
    irqs: Arc<KvmIrqs>,
    /// Slots in force; held for one ioctl. Leaf.
    slots: Mutex<HashMap<u32, kvm_userspace_memory_region>>,
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
            AccelError::Forbidden {
                group: device_group(),
            }
        } else {
            AccelError::Absent(error)
        }
    })
}

/// The name of the group that /dev/kvm belongs to.
fn device_group() -> String {
    let gid = std::fs::metadata("/dev/kvm")
        .map_or(0, |data| data.gid())
        .to_string();
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
        let mut slots = HashMap::new();
        for &(slot, ram) in ram {
            let region = region(slot, ram, 0);
            set_region(&vm, region).map_err(AccelError::failed("KVM_SET_USER_MEMORY_REGION"))?;
            slots.insert(slot, region);
        }
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
        let vm = Arc::new(vm);
        let irqs = KvmIrqs::new(vm.clone()).map_err(AccelError::failed("KVM_SET_GSI_ROUTING"))?;
        Ok(KvmAccel {
            kvm,
            vm,
            irqs: Arc::new(irqs),
            slots: Mutex::new(slots),
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

    /// Starts or stops the log of written pages of all slots.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn log_dirty_pages(&self, on: bool) -> io::Result<()> {
        let mut slots = lock(&self.slots);
        for region in slots.values_mut() {
            let log = if on { KVM_MEM_LOG_DIRTY_PAGES } else { 0 };
            region.flags = region.flags & KVM_MEM_READONLY | log;
            set_region(&self.vm, *region)?;
        }
        Ok(())
    }
}

fn region(slot: u32, ram: RamSlot, flags: u32) -> kvm_userspace_memory_region {
    let readonly = if ram.readonly { KVM_MEM_READONLY } else { 0 };
    kvm_userspace_memory_region {
        slot,
        flags: flags | readonly,
        guest_phys_addr: ram.guest,
        memory_size: ram.len,
        userspace_addr: ram.host,
    }
}

fn set_region(vm: &VmFd, region: kvm_userspace_memory_region) -> io::Result<()> {
    // SAFETY: the range is guest RAM, which stays mapped until the process ends (see
    // `MachineRam::new`), or the slot is being emptied.
    unsafe { vm.set_user_memory_region(region) }.map_err(io::Error::from)
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
        let mut slots = lock(&self.slots);
        let logging = |old: &kvm_userspace_memory_region| old.flags & KVM_MEM_LOG_DIRTY_PAGES;
        let flags = slots.values().next().map_or(0, logging);
        let region = region(slot, ram, flags);
        if slots.remove(&slot).is_some() {
            // The kernel moves and shrinks no slot in place.
            set_region(
                &self.vm,
                kvm_userspace_memory_region {
                    memory_size: 0,
                    ..region
                },
            )?;
        }
        set_region(&self.vm, region)?;
        slots.insert(slot, region);
        Ok(())
    }

    fn unmap_ram(&self, slot: u32) -> io::Result<()> {
        match lock(&self.slots).remove(&slot) {
            Some(old) => set_region(
                &self.vm,
                kvm_userspace_memory_region {
                    memory_size: 0,
                    ..old
                },
            ),
            None => Ok(()),
        }
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

    fn clock_start(&self) {
        if let Some(mut clock) = lock(&self.clock).take() {
            // Only the time counts; the rest says how it was taken.
            clock.flags = 0;
            if let Err(error) = self.vm.set_clock(&clock) {
                log::warn!("Cannot set kvm-clock: {error}");
            }
        }
    }

    fn clock_stop(&self) {
        match self.vm.get_clock() {
            Ok(clock) => *lock(&self.clock) = Some(clock),
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
