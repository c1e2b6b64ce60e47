//! What the program and the machine are.

use api_spec::*;

use crate::control::Control;
use crate::machine::spec::MachineKind;

/// The version of QEMU whose interface this is, and our own.
pub fn version() -> VersionInfo {
    VersionInfo {
        qemu: VersionTriple {
            major: 10,
            minor: 0,
            micro: 2,
        },
        package: concat!("qvmd ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

/// query-machines.
pub fn machines(_args: &QueryMachinesArgs) -> Vec<MachineInfo> {
    let describe = |kind: MachineKind| {
        let real = kind != MachineKind::None;
        MachineInfo {
            name: kind.name().to_owned(),
            alias: kind.alias().map(str::to_owned),
            is_default: (kind == MachineKind::DEFAULT).then_some(true),
            cpu_max: i64::from(kind.max_cpus()),
            hotpluggable_cpus: false,
            numa_mem_supported: false,
            deprecated: false,
            default_cpu_type: real.then(|| "qemu64-x86_64-cpu".to_owned()),
            default_ram_id: real.then(|| "pc.ram".to_owned()),
            acpi: real,
        }
    };
    MachineKind::ALL.into_iter().map(describe).collect()
}

/// query-command-line-options: the options that take keys.
pub fn command_line_options(only: Option<&str>) -> QmpResult<Vec<CommandLineOptionInfo>> {
    let wanted = |info: &&OptionInfo| only.is_none_or(|name| name == info.name);
    let describe = |info: &OptionInfo| CommandLineOptionInfo {
        option: info.name.to_owned(),
        parameters: parameters(info),
    };
    let list: Vec<_> = OPTIONS
        .iter()
        .filter(|info| info.has_arg)
        .filter(wanted)
        .map(describe)
        .collect();
    match only {
        Some(name) if list.is_empty() => {
            Err(QmpError::generic(format!("invalid option name: {name}")))
        }
        _ => Ok(list),
    }
}

/// The keys in an option's usage line: `[key=]value`, `,key=value`; those that say `on|off` and
/// nothing else are switches.
fn parameters(info: &OptionInfo) -> Vec<CommandLineParameterInfo> {
    let mut list: Vec<CommandLineParameterInfo> = Vec::new();
    for (at, _) in info.usage.match_indices('=') {
        let (before, behind) = info.usage.split_at(at);
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let name = before.rsplit(|c| !inside(c)).next().unwrap_or_default();
        if name.is_empty() || list.last().is_some_and(|last| last.name == name) {
            continue;
        }
        let values = behind.trim_start_matches(['=', ']']);
        let values = values.split([',', '[', ']']).next().unwrap_or_default();
        list.push(CommandLineParameterInfo {
            name: name.to_owned(),
            r#type: match values {
                "on|off" => CommandLineParameterType::Boolean,
                _ => CommandLineParameterType::String,
            },
            help: None,
            default: None,
        });
    }
    list
}

impl Control {
    pub(super) fn fd_sets(&self) -> Vec<FdsetInfo> {
        let member = |(fd, opaque)| FdsetFdInfo {
            fd: i64::from(fd),
            opaque,
        };
        let set = |set: crate::control::fds::FdSetInfo| FdsetInfo {
            fdset_id: set.id,
            fds: set.fds.into_iter().map(member).collect(),
        };
        self.fds.sets().into_iter().map(set).collect()
    }

    pub(super) fn cpus(&self) -> Vec<CpuInfoFast> {
        self.machine.as_ref().map_or_else(Vec::new, |m| m.cpus())
    }

    pub(super) fn memory_backends(&self) -> Vec<Memdev> {
        let own = self.machine.as_ref().and_then(|m| m.own_memory());
        let mut list = self.objects.memory_backends();
        list.extend(own.map(crate::control::objects::memdev));
        list
    }

    /// Presses the power button: the guest sees it while it runs.
    /// query-vm-generation-id.
    pub(super) fn generation_id(&self) -> QmpResult<GuidInfo> {
        let generation = self.machine.as_ref().and_then(|m| m.generation());
        let generation =
            generation.ok_or_else(|| QmpError::generic("VM Generation ID device not found"))?;
        Ok(GuidInfo {
            guid: generation.id().to_string(),
        })
    }

    pub(in crate::control) fn power_button(&mut self) {
        if let Some(machine) = &mut self.machine {
            machine.power_button();
        }
        self.emit(Event::Powerdown);
    }

    pub(in crate::control) fn nmi(&self) -> QmpResult<()> {
        self.machine()?.inject_nmi().map_err(QmpError::generic)
    }
}
