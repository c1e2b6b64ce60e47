//! A machine from its spec: memory, accelerator, processors, chipset.

use std::sync::Arc;

use anyhow::{Result, bail};
use arc_swap::ArcSwap;
use devices::map::MapBuilder;
use devices::pci::PciTopology;
use kvm_ioctls::Cap;

use super::chipset::{Chipset, Names};
use super::dirty::Foreign;
use super::plug::{Bus, BusKind, Hotplug, ISA_BUS, SYSTEM_BUS};
use super::slots::SlotMap;
use super::spec::MachineSpec;
use super::{Machine, RamBackend, SHADOW_SLOT};
use crate::accel::kvm::KvmAccel;
use crate::accel::qtest::QtestAccel;
use crate::accel::{Accel, AccelError, AccelKind, IoEvents, SharedMap};
use crate::boot::Boot;
use crate::clock::{ClockTimers, GuestClock, Motion};
use crate::cpuid::{CpuTemplate, HostCpu};
use crate::event::MailSender;
use crate::layout::{Board, RamLayout};
use crate::memory::{Backend, BackendOptions, MachineRam, RamSlot};
use crate::vcpu::{VcpuConfig, Vcpus};

/// The accelerator that was taken.
pub enum ChosenAccel {
    /// KVM.
    Kvm(Arc<KvmAccel>),
    /// No processor.
    Qtest(Arc<QtestAccel>),
}

impl ChosenAccel {
    fn face(&self) -> Arc<dyn Accel> {
        match self {
            ChosenAccel::Kvm(accel) => accel.clone(),
            ChosenAccel::Qtest(accel) => accel.clone(),
        }
    }
}

/// Processors and what was told of them.
struct Processors {
    vcpus: Vcpus,
    apic_ids: Vec<u32>,
    signature: (u32, u32),
    phys_bits: u32,
}

impl Machine {
    /// Makes a machine with its chipset and nothing plugged. `backend` is the object named by
    /// `memory-backend`.
    ///
    /// # Errors
    /// When the host has not what it takes: memory, /dev/kvm, the kernel's files.
    pub fn build(
        spec: MachineSpec,
        board: Board,
        backend: Option<Arc<Backend>>,
        uuid: Option<uuid::Uuid>,
        mail: &MailSender,
    ) -> Result<(Self, ChosenAccel)> {
        let size = backend
            .as_ref()
            .map_or(spec.ram.0, |backend| backend.options().size);
        // A missing kernel is said before anything costly is made.
        let boot = match &spec.kernel {
            Some(kernel) => {
                let (initrd, layout) = (spec.initrd.as_deref(), RamLayout::new(board, size));
                Some(Boot::open(kernel, initrd, &spec.append, layout)?)
            }
            None => None,
        };
        let ram_backend = match backend {
            Some(backend) => RamBackend::Object(backend),
            None => RamBackend::Own(Box::new(Backend::new(BackendOptions {
                merge: spec.mem_merge,
                dump: spec.dump_guest_core,
                ..BackendOptions::ram(size)
            })?)),
        };
        let ram = match &ram_backend {
            RamBackend::Own(backend) => MachineRam::new(board, backend)?,
            RamBackend::Object(backend) => MachineRam::new(board, backend)?,
        };
        let map: Arc<SharedMap> = Arc::new(ArcSwap::from_pointee(MapBuilder::new().build()));
        // A kernel without firmware finds plain RAM there. Mapped now, because that is cheaper
        // before the interrupt controllers are made.
        let shadow = boot.is_some().then_some(ram.shadow);
        let chosen = choose(&spec, shadow, &ram, &map, mail)?;
        let accel = chosen.face();
        let processors = processors(&spec, &chosen, &ram, &map, mail)?;
        let motion = match accel.kind() {
            AccelKind::Kvm => Motion::Host,
            AccelKind::Qtest => Motion::Stepped,
        };
        let clock = GuestClock::new(motion, spec.rtc_base, spec.rtc_source)?;
        let timers = Arc::new(ClockTimers(clock.clone()));
        let mut slots = SlotMap::root();
        let mut pci = PciTopology::new();
        let mut fixed = Vec::new();
        let chipset = Chipset::build(
            &super::chipset::Parts {
                spec: &spec,
                uuid,
                layout: ram.layout,
                ram: &ram.handle,
                irqs: accel.irqs(),
                accel: accel.kind(),
                clock: &clock,
                timers: &timers,
                mail,
            },
            &mut slots,
            &mut pci,
            &mut fixed,
        )?;
        let buses = vec![
            Bus {
                name: Names::of(board).root_bus.to_owned(),
                kind: BusKind::Pci {
                    port: None,
                    slots,
                    hotplug: match board {
                        Board::Q35 => Hotplug::None,
                        Board::I440fx => Hotplug::Acpi,
                    },
                },
            },
            Bus {
                name: ISA_BUS.to_owned(),
                kind: BusKind::Isa,
            },
            Bus {
                name: SYSTEM_BUS.to_owned(),
                kind: BusKind::System,
            },
        ];
        let machine = Machine {
            vcpus: processors.vcpus,
            apic_ids: processors.apic_ids,
            cpu_signature: processors.signature,
            phys_bits: processors.phys_bits,
            spec,
            accel,
            map,
            io_events: IoEvents::default(),
            ram,
            ram_backend,
            boot,
            uuid,
            clock,
            timers,
            mail: mail.clone(),
            chipset,
            fixed,
            pci,
            buses,
            devices: Vec::new(),
            anonymous: 0,
            leaving: Vec::new(),
            next_leave: 0,
            ready: false,
            io_thread: None,
            running: false,
            foreign: Foreign::default(),
            writers: devices::vhost::Writers::default(),
            shadow: shadow.into_iter().collect(),
        };
        machine
            .check_processors_migratable()
            .map_err(anyhow::Error::msg)?;
        Ok((machine, chosen))
    }
}

/// The first accelerator that works. Says of the others why not.
fn choose(
    spec: &MachineSpec,
    shadow: Option<RamSlot>,
    ram: &MachineRam,
    map: &Arc<SharedMap>,
    mail: &MailSender,
) -> Result<ChosenAccel> {
    for name in &spec.missing_accels {
        log::warn!("accelerator {name} is not available");
    }
    let mut last = None;
    for kind in &spec.accels {
        let made = match kind {
            AccelKind::Kvm => {
                let shadow = shadow.map(|slot| (SHADOW_SLOT, slot));
                let slots = (0u32..).zip(ram.slots.iter().copied()).chain(shadow);
                KvmAccel::new(&slots.collect::<Vec<_>>()).map(|a| ChosenAccel::Kvm(Arc::new(a)))
            }
            AccelKind::Qtest => QtestAccel::new(ram.handle.clone(), map.clone(), mail.clone())
                .map(|accel| ChosenAccel::Qtest(Arc::new(accel)))
                .map_err(AccelError::failed("qtest")),
        };
        match made {
            Ok(chosen) => return Ok(chosen),
            Err(error) if spec.accels.len() == 1 => return Err(error.into()),
            Err(error) => {
                log::warn!("{error}");
                last = Some(error);
            }
        }
    }
    match last {
        Some(error) => Err(error.into()),
        None => bail!("no accelerator found"),
    }
}

fn processors(
    spec: &MachineSpec,
    chosen: &ChosenAccel,
    ram: &MachineRam,
    map: &Arc<SharedMap>,
    mail: &MailSender,
) -> Result<Processors> {
    let topology = spec.topology;
    let accel = match chosen {
        ChosenAccel::Kvm(accel) => accel,
        ChosenAccel::Qtest(_) => {
            let shifts = crate::cpuid::topology::Shifts::new(&topology);
            let apic_id = |index| shifts.apic_id(&topology, index);
            return Ok(Processors {
                vcpus: Vcpus::idle(topology.cpus),
                apic_ids: (0..topology.cpus).map(apic_id).collect(),
                signature: (0, 0),
                phys_bits: 40,
            });
        }
    };
    let supported = accel
        .kvm()
        .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
        .map_err(AccelError::failed("KVM_GET_SUPPORTED_CPUID"))?;
    let host = HostCpu {
        supported: supported.as_slice().to_vec(),
        tsc_deadline: accel.kvm().check_extension(Cap::TscDeadlineTimer),
    };
    let template = CpuTemplate::build(&spec.cpu, &host, topology)?;
    for warning in &template.warnings {
        log::warn!("{warning}");
    }
    check_reach(ram.layout, template.phys_bits())?;
    let config = |index| {
        Ok(VcpuConfig {
            apic_id: template.apic_id(index),
            cpuid: template.for_vcpu(index)?,
        })
    };
    let configs = (0..topology.cpus).map(config).collect::<Result<Vec<_>>>()?;
    let apic_ids = configs.iter().map(|config| config.apic_id).collect();
    Ok(Processors {
        vcpus: Vcpus::start(accel, configs, map, mail)?,
        apic_ids,
        signature: template.signature(),
        phys_bits: template.phys_bits(),
    })
}

/// All RAM must be where the processors can address it.
fn check_reach(layout: RamLayout, phys_bits: u32) -> Result<()> {
    let limit = u64::MAX >> 64u32.saturating_sub(phys_bits).min(63);
    let last = layout.ranges().map(|range| range.last()).max().unwrap_or(0);
    if last > limit {
        bail!("Address space limit {limit:#x} < {last:#x} phys-bits too low ({phys_bits})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_ends_where_the_processors_reach_ends() {
        let check = |size, bits| {
            let checked = check_reach(RamLayout::new(Board::Q35, size), bits);
            checked.map_err(|error| error.to_string())
        };
        let most = (1 << 40) - (2 << 30);
        assert_eq!(check(most, 40), Ok(()));
        assert_eq!(
            check(most + 4096, 40).unwrap_err(),
            "Address space limit 0xffffffffff < 0x10000000fff phys-bits too low (40)"
        );
        assert_eq!(check(u64::MAX >> 1, 64), Ok(()));
    }
}
