//! What kind of machine is wanted: the plan of the command line, checked and with every default
//! filled in, before anything of the host is touched.

use std::path::PathBuf;

use crate::accel::AccelKind;
use crate::cli::args::{Arg, CliError};
use crate::cli::opts::parse_size;
use crate::cli::plan::{MachinePlan, RtcBase};
use crate::clock::{WallBase, WallSource};
use crate::cpuid::CpuRequest;
use crate::cpuid::topology::Shifts;
use crate::layout::Board;
use crate::machine::topology::Topology;

/// RAM where `-m` says nothing.
const DEFAULT_RAM: u64 = 128 << 20;
/// The smallest RAM that a kernel or firmware can start in.
const SMALLEST_RAM: u64 = 1 << 20;

/// The highest id of an xAPIC; 255 means all of them (Intel SDM 3A, section 11.6.2).
const HIGHEST_APIC_ID: u32 = 254;

/// The types of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineKind {
    /// A PC with i440FX and PIIX.
    Pc,
    /// A PC with q35 and ICH9.
    Q35,
    /// No machine: QMP alone.
    None,
}

impl MachineKind {
    /// All of them, in the order of `-machine help`.
    pub const ALL: [MachineKind; 3] = [MachineKind::Pc, MachineKind::Q35, MachineKind::None];
    /// The one that is meant where none is named: as QEMU's x86-64 program without -machine, a
    /// PC. Ours is the q35.
    pub const DEFAULT: MachineKind = MachineKind::Q35;

    /// What it is built around; `None` for no machine.
    pub const fn board(self) -> Option<Board> {
        match self {
            MachineKind::Pc => Some(Board::I440fx),
            MachineKind::Q35 => Some(Board::Q35),
            MachineKind::None => None,
        }
    }

    /// The versioned name.
    pub const fn name(self) -> &'static str {
        match self {
            MachineKind::Pc => "pc-i440fx-10.0",
            MachineKind::Q35 => "pc-q35-10.0",
            MachineKind::None => "none",
        }
    }

    /// The name that always means the newest version.
    pub const fn alias(self) -> Option<&'static str> {
        match self {
            MachineKind::Pc => Some("pc"),
            MachineKind::Q35 => Some("q35"),
            MachineKind::None => None,
        }
    }

    /// One line on what it is.
    pub const fn description(self) -> &'static str {
        match self {
            MachineKind::Pc => "Standard PC (i440FX + PIIX, 1996)",
            MachineKind::Q35 => "Standard PC (Q35 + ICH9, 2009)",
            MachineKind::None => "empty machine",
        }
    }

    /// vCPUs at most.
    pub const fn max_cpus(self) -> u32 {
        match self {
            // The APIC ids of the xAPIC: x2APIC ids need interrupt remapping.
            MachineKind::Pc | MachineKind::Q35 => 255,
            MachineKind::None => 1,
        }
    }

    /// The type's name in the object model.
    pub const fn type_name(self) -> &'static str {
        match self {
            MachineKind::Pc => "pc-i440fx-10.0-machine",
            MachineKind::Q35 => "pc-q35-10.0-machine",
            MachineKind::None => "none-machine",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        MachineKind::ALL
            .into_iter()
            .find(|kind| kind.name() == name || kind.alias() == Some(name))
    }
}

/// Everything that the machine as such is made of.
#[derive(Debug, Clone)]
pub struct MachineSpec {
    /// Its type.
    pub kind: MachineKind,
    /// The accelerators to try, in order.
    pub accels: Vec<AccelKind>,
    /// Whether the user named them.
    pub accels_named: bool,
    /// Names of accelerators that are not here and were passed over.
    pub missing_accels: Vec<String>,
    /// The processors' model.
    pub cpu: CpuRequest,
    /// The text of `-cpu`, for the object tree.
    pub cpu_text: String,
    /// How many there are and how they are arranged.
    pub topology: Topology,
    /// Bytes of RAM, and whether the user said so.
    pub ram: (u64, Option<Arg>),
    /// The memory backend to use rather than one made for the purpose.
    pub memory_backend: Option<(String, Arg)>,
    /// RAM may be merged with equal pages.
    pub mem_merge: bool,
    /// RAM is in core dumps.
    pub dump_guest_core: bool,
    /// The kernel to boot.
    pub kernel: Option<PathBuf>,
    /// Its initrd.
    pub initrd: Option<PathBuf>,
    /// Its command line.
    pub append: String,
    /// What the RTC shows at start.
    pub rtc_base: WallBase,
    /// What the RTC follows.
    pub rtc_source: WallSource,
    /// Whether there is an i8042.
    pub i8042: bool,
    /// What would keep the machine from migrating is refused.
    pub only_migratable: bool,
}

impl MachineSpec {
    /// Checks the plan.
    ///
    /// # Errors
    /// For unknown names and values, and for what contradicts itself.
    pub fn check(plan: MachinePlan) -> Result<Self, CliError> {
        let kind = match &plan.kind {
            None => MachineKind::DEFAULT,
            Some((name, arg)) => MachineKind::from_name(name).ok_or_else(|| {
                let hint = "Use -machine help to list supported machines";
                arg.error(format!("unsupported machine type: \"{name}\"\n{hint}"))
            })?,
        };
        let accels_named = !plan.accels.is_empty();
        let (accels, missing_accels) = accelerators(&plan)?;
        let cpu_text = plan.cpu.as_ref().map_or("qemu64", |arg| arg.value.as_str());
        let cpu =
            CpuRequest::parse(cpu_text).map_err(|error| CliError::plain(error.to_string()))?;
        let topology = plan
            .smp
            .resolve(kind.name(), kind.max_cpus())
            .map_err(|error| CliError::plain(error.to_string()))?;
        check_apic_ids(&topology)?;
        let (size, arg) = match plan.memory {
            Some((size, arg)) => (size, Some(arg)),
            None => (DEFAULT_RAM, None),
        };
        if size < SMALLEST_RAM {
            let message = format!("memory size {size:#x} is too small: at least 1 MiB");
            return Err(arg.map_or_else(
                || CliError::plain(message.clone()),
                |arg| arg.error(&message),
            ));
        }
        if plan.kernel.is_none() {
            let needs = "only allowed with -kernel option";
            if plan.append.is_some() {
                return Err(CliError::plain(format!("-append {needs}")));
            }
            if plan.initrd.is_some() {
                return Err(CliError::plain(format!("-initrd {needs}")));
            }
        }
        let mut spec = MachineSpec {
            kind,
            accels,
            accels_named,
            missing_accels,
            cpu,
            cpu_text: cpu_text.to_owned(),
            topology,
            ram: (size, arg),
            memory_backend: None,
            mem_merge: true,
            dump_guest_core: true,
            kernel: plan.kernel,
            initrd: plan.initrd,
            append: plan.append.unwrap_or_default(),
            rtc_base: match plan.rtc.base {
                RtcBase::Utc => WallBase::Utc,
                RtcBase::LocalTime => WallBase::LocalTime,
                RtcBase::At(seconds) => WallBase::At(seconds),
            },
            rtc_source: match plan.rtc.virtual_clock {
                true => WallSource::Vm,
                false => WallSource::Host,
            },
            i8042: true,
            only_migratable: plan.only_migratable,
        };
        for (key, value, arg) in plan.properties {
            spec.set(&key.replace('_', "-"), &value, &arg)?;
        }
        Ok(spec)
    }

    /// One property of `-machine`.
    fn set(&mut self, key: &str, value: &str, arg: &Arg) -> Result<(), CliError> {
        let flag = || flag(key, value, arg);
        let only = |accepted: &[&str]| match accepted.contains(&value) {
            true => Ok(()),
            false => Err(arg.error(format!(
                "Property '{key}' cannot be '{value}': not supported"
            ))),
        };
        match key {
            "memory-backend" => self.memory_backend = Some((value.to_owned(), arg.clone())),
            "mem-merge" => self.mem_merge = flag()?,
            "dump-guest-core" => self.dump_guest_core = flag()?,
            "i8042" => self.i8042 = flag()?,
            // What the machine has, or has not, whatever is said: only that is accepted.
            "kernel-irqchip" | "acpi" | "pit" | "pic" => only(&["on"])?,
            "usb"
            | "hpet"
            | "smm"
            | "vmport"
            | "graphics"
            | "nvdimm"
            | "hmat"
            | "sata"
            | "smbus"
            | "cxl"
            | "suppress-vmdesc"
            | "enforce-config-section" => {
                only(&["off", "auto"])?;
            }
            "memory-encryption"
            | "confidential-guest-support"
            | "firmware"
            | "dtb"
            | "pflash0"
            | "pflash1" => {
                return Err(arg.error(format!("Property '{key}' is not supported")));
            }
            "max-ram-below-4g" => {
                parse_size(value).ok_or_else(|| {
                    arg.error(format!("Parameter '{key}' expects a non-negative number"))
                })?;
                return Err(arg.error(format!("Property '{key}' is not supported")));
            }
            _ => {
                let kind = self.kind.type_name();
                return Err(arg.error(format!("Property '{kind}.{key}' not found")));
            }
        }
        Ok(())
    }
}

fn flag(key: &str, value: &str, arg: &Arg) -> Result<bool, CliError> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(arg.error(format!("Parameter '{key}' expects 'on' or 'off'"))),
    }
}

/// Levels that are no powers of two leave gaps between APIC ids, so that fewer processors fit than
/// the machine has numbers for.
fn check_apic_ids(topology: &Topology) -> Result<(), CliError> {
    let shifts = Shifts::new(topology);
    let highest = shifts.apic_id(topology, topology.maxcpus.saturating_sub(1));
    match highest > HIGHEST_APIC_ID {
        true => Err(CliError::plain(format!(
            "Invalid CPU topology: it takes APIC ids up to {highest}, and the highest is \
             {HIGHEST_APIC_ID}"
        ))),
        false => Ok(()),
    }
}

/// The accelerators asked for. Several are tried in turn; one that is not here is an error only
/// where no other one is named, as with `-accel kvm -accel tcg`.
fn accelerators(plan: &MachinePlan) -> Result<(Vec<AccelKind>, Vec<String>), CliError> {
    if plan.accels.is_empty() {
        return Ok((vec![AccelKind::Kvm], Vec::new()));
    }
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (name, arg) in &plan.accels {
        match AccelKind::from_name(name) {
            Some(kind) => found.push(kind),
            None if plan.accels.len() == 1 => {
                return Err(arg.error(format!("invalid accelerator {name}")));
            }
            None => missing.push(name.clone()),
        }
    }
    if found.is_empty() {
        let (_, arg) = &plan.accels[0];
        return Err(arg.error(format!("invalid accelerator {}", missing.join(", "))));
    }
    Ok((found, missing))
}

#[cfg(test)]
#[path = "spec_test.rs"]
mod tests;
