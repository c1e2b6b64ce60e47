//! APIC ids, and the leaves that tell how processors are arranged.

use kvm_bindings::kvm_cpuid_entry2;

use crate::machine::topology::Topology;

/// Marks leaves that depend on the subleaf.
const INDEXED: u32 = 1;

/// How many bits number `count` things.
const fn bits(count: u32) -> u32 {
    match count {
        0 | 1 => 0,
        _ => 32 - (count - 1).leading_zeros(),
    }
}

/// Where each level begins in an APIC id (Intel SDM 3A, section 10.9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shifts {
    core: u32,
    module: u32,
    die: u32,
    package: u32,
}

impl Shifts {
    /// For this arrangement.
    pub fn new(topology: &Topology) -> Self {
        let core = bits(topology.threads);
        let module = core + bits(topology.cores);
        let die = module + bits(topology.modules);
        Shifts {
            core,
            module,
            die,
            package: die + bits(topology.dies),
        }
    }

    /// The APIC id of the vCPU `index`.
    pub fn apic_id(&self, topology: &Topology, index: u32) -> u32 {
        let [socket, die, module, core, thread] = topology.place(index);
        let at = |number: u32, shift: u32| number.checked_shl(shift).unwrap_or(0);
        at(socket, self.package)
            | at(die, self.die)
            | at(module, self.module)
            | at(core, self.core)
            | thread
    }

    /// Bits of an APIC id below the package number.
    pub fn package(&self) -> u32 {
        self.package
    }
}

/// Threads in a package.
pub fn threads_per_package(topology: &Topology) -> u32 {
    cores_per_package(topology).saturating_mul(topology.threads)
}

/// Cores in a package.
pub fn cores_per_package(topology: &Topology) -> u32 {
    topology
        .dies
        .saturating_mul(topology.modules)
        .saturating_mul(topology.cores)
}

/// Leaves 0xb and 0x1f; EDX, the APIC id, is filled in for each vCPU.
pub fn extended_topology(topology: &Topology, with_dies: bool) -> Vec<kvm_cpuid_entry2> {
    const SMT: u32 = 1;
    const CORE: u32 = 2;
    const MODULE: u32 = 3;
    const DIE: u32 = 5;
    let shifts = Shifts::new(topology);
    let per_module = topology.threads.saturating_mul(topology.cores);
    let per_die = per_module.saturating_mul(topology.modules);
    let all = threads_per_package(topology);
    // Each level says how many bits lead to the next one that is shown.
    let mut levels = vec![(SMT, shifts.core, topology.threads)];
    if with_dies {
        levels.push((CORE, shifts.module, per_module));
        if topology.modules > 1 {
            levels.push((MODULE, shifts.die, per_die));
        }
        if topology.dies > 1 {
            levels.push((DIE, shifts.package, all));
        }
    } else {
        levels.push((CORE, shifts.package, all));
    }
    levels.push((0, 0, 0));
    let function = if with_dies { 0x1f } else { 0xb };
    (0u32..)
        .zip(levels)
        .map(|(index, (kind, shift, count))| kvm_cpuid_entry2 {
            function,
            index,
            flags: INDEXED,
            eax: shift,
            ebx: count,
            ecx: index | kind << 8,
            ..Default::default()
        })
        .collect()
}

/// Adapts a cache's leaf (4, or AMD's 0x8000001d): who shares it, and how many cores there are.
pub fn share_cache(entry: &mut kvm_cpuid_entry2, topology: &Topology) {
    let shifts = Shifts::new(topology);
    let level = entry.eax >> 5 & 7;
    let width = if level >= 3 {
        shifts.package
    } else {
        shifts.core
    };
    let sharing = mask(width).min(0xfff);
    let keep = if entry.function == 4 { 0x3ff } else { 0x3fff };
    entry.eax = entry.eax & keep & 0x3fff | sharing << 14;
    if entry.function == 4 {
        entry.eax |= mask(shifts.package.saturating_sub(shifts.core)).min(0x3f) << 26;
    }
}

const fn mask(width: u32) -> u32 {
    match 1u32.checked_shl(width) {
        Some(count) => count - 1,
        None => u32::MAX,
    }
}

/// AMD's count of cores: leaf 0x80000008, ECX (AMD APM 3, appendix E.4.7).
pub fn amd_core_count(topology: &Topology) -> u32 {
    let threads = threads_per_package(topology);
    if threads <= 1 {
        return 0;
    }
    (threads - 1).min(0xff) | (Shifts::new(topology).package & 0xf) << 12
}

/// AMD's place of a thread: leaf 0x8000001e, EBX and ECX; EAX is the APIC id.
pub fn amd_place(topology: &Topology, index: u32) -> (u32, u32) {
    let [socket, die, module, core, _] = topology.place(index);
    let core = die
        .saturating_mul(topology.modules)
        .saturating_add(module)
        .saturating_mul(topology.cores)
        .saturating_add(core);
    let node = socket.saturating_mul(topology.dies).saturating_add(die);
    let ebx = core & 0xff | (topology.threads.saturating_sub(1) & 0xff) << 8;
    let ecx = node & 0xff | (topology.dies.saturating_sub(1) & 7) << 8;
    (ebx, ecx)
}
