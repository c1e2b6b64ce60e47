//! Processor models: from `-cpu` to what the CPUID instruction answers on each vCPU.

pub mod features;
mod request;
pub mod topology;

use kvm_bindings::{CpuId, kvm_cpuid_entry2};
use thiserror::Error;

use crate::machine::topology::Topology;
use features::{F1_ECX, F1_EDX, F6_EAX, F7_EBX, FEATURES, Register, Word, X1_ECX, X1_EDX, X7_EDX};
pub use request::{CpuRequest, Model, help};
use topology::Shifts;

/// Why a processor cannot be had; QEMU's wording.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CpuError {
    /// No such model.
    #[error("unable to find CPU model '{0}'")]
    UnknownModel(String),
    /// No such property.
    #[error("Property '{model}-x86_64-cpu.{name}' not found")]
    UnknownProperty {
        /// The model.
        model: &'static str,
        /// The property.
        name: String,
    },
    /// A switch that is neither on nor off.
    #[error("Parameter '{0}' expects 'on' or 'off'")]
    NotASwitch(String),
    /// A number that is none.
    #[error("Parameter '{0}' expects uint64")]
    NotANumber(String),
    /// A vendor that is not 12 characters.
    #[error("Property 'vendor' must have 12 characters")]
    Vendor,
    /// A width of addresses that no processor has.
    #[error("phys-bits should be between 32 and {max}  (but is {found})")]
    PhysBits {
        /// The host's width.
        max: u32,
        /// The width asked for.
        found: u64,
    },
    /// `enforce`, and the host lacks something.
    #[error("Host doesn't support requested features")]
    Unsupported,
    /// More entries than the kernel takes.
    #[error("CPUID has too many entries")]
    TooMany,
}

/// What the host offers.
pub struct HostCpu {
    /// KVM_GET_SUPPORTED_CPUID.
    pub supported: Vec<kvm_cpuid_entry2>,
    /// Whether the local APIC has a TSC-deadline timer (KVM_CAP_TSC_DEADLINE_TIMER).
    pub tsc_deadline: bool,
}

/// CPUID for all vCPUs of a machine, but for what differs between them.
pub struct CpuTemplate {
    entries: Vec<kvm_cpuid_entry2>,
    topology: Topology,
    shifts: Shifts,
    /// What was asked for and the host lacks, one line each.
    pub warnings: Vec<String>,
}

/// Register of an entry.
fn register(entry: &mut kvm_cpuid_entry2, register: Register) -> &mut u32 {
    match register {
        Register::Eax => &mut entry.eax,
        Register::Ebx => &mut entry.ebx,
        Register::Ecx => &mut entry.ecx,
        Register::Edx => &mut entry.edx,
    }
}

const HYPERVISOR: u32 = 1 << 31;
const TSC_DEADLINE: u32 = 1 << 24;
const XSAVE: u32 = 1 << 26;
const HT: u32 = 1 << 28;
const CMP_LEGACY: u32 = 1 << 1;
const INVTSC: u32 = 1 << 8;
const KVM_FIRST: u32 = 0x4000_0000;
const KVM_LAST: u32 = 0x4000_00ff;
const EXTENDED: u32 = 0x8000_0000;

impl CpuTemplate {
    /// Builds the template.
    ///
    /// # Errors
    /// When the request contradicts the host and insists.
    pub fn build(
        request: &CpuRequest,
        host: &HostCpu,
        topology: Topology,
    ) -> Result<Self, CpuError> {
        let mut template = CpuTemplate {
            entries: host.supported.clone(),
            topology,
            shifts: Shifts::new(&topology),
            warnings: Vec::new(),
        };
        let mut supported = CpuTemplate {
            entries: host.supported.clone(),
            ..template.copy()
        };
        supported.change(F1_ECX, |ecx| {
            let deadline = if host.tsc_deadline { TSC_DEADLINE } else { 0 };
            ecx | deadline | HYPERVISOR
        });
        template.select_features(request, &mut supported);
        if request.enforce && !template.warnings.is_empty() {
            return Err(CpuError::Unsupported);
        }
        template.identify(request);
        template.set_phys_bits(request)?;
        template.drop_leaves(request);
        template.fit_xsave();
        template.arrange();
        if template.entries.len() > kvm_bindings::KVM_MAX_CPUID_ENTRIES {
            return Err(CpuError::TooMany);
        }
        Ok(template)
    }

    fn copy(&self) -> CpuTemplate {
        CpuTemplate {
            entries: Vec::new(),
            topology: self.topology,
            shifts: self.shifts,
            warnings: Vec::new(),
        }
    }

    /// What CPUID answers on the vCPU `index`.
    ///
    /// # Errors
    /// Never for a template that was built.
    pub fn for_vcpu(&self, index: u32) -> Result<CpuId, CpuError> {
        let apic_id = self.apic_id(index);
        let mut entries = self.entries.clone();
        for entry in &mut entries {
            match entry.function {
                1 => entry.ebx = entry.ebx & 0x00ff_ffff | (apic_id & 0xff) << 24,
                0xb | 0x1f => entry.edx = apic_id,
                0x8000_001e => {
                    entry.eax = apic_id;
                    (entry.ebx, entry.ecx) = topology::amd_place(&self.topology, index);
                    entry.edx = 0;
                }
                _ => {}
            }
        }
        CpuId::from_entries(&entries).map_err(|_| CpuError::TooMany)
    }

    /// The APIC id of the vCPU `index`.
    pub fn apic_id(&self, index: u32) -> u32 {
        self.shifts.apic_id(&self.topology, index)
    }

    /// Leaf 1, EAX and EDX: family, model and stepping, and the oldest features.
    pub fn signature(&self) -> (u32, u32) {
        self.find(1, 0)
            .map_or((0, 0), |entry| (entry.eax, entry.edx))
    }

    /// Width of guest physical addresses.
    pub fn phys_bits(&self) -> u32 {
        let leaf = self.find(0x8000_0008, 0).map(|entry| entry.eax & 0xff);
        leaf.filter(|bits| *bits > 0).unwrap_or(36)
    }

    fn find(&self, function: u32, index: u32) -> Option<&kvm_cpuid_entry2> {
        self.entries
            .iter()
            .find(|entry| (entry.function, entry.index) == (function, index))
    }

    fn word(&self, word: Word) -> u32 {
        let entry = self.find(word.function, word.index).copied();
        entry.map_or(0, |mut entry| *register(&mut entry, word.register))
    }

    fn change(&mut self, word: Word, f: impl FnOnce(u32) -> u32) {
        let place = self
            .entries
            .iter_mut()
            .find(|entry| (entry.function, entry.index) == (word.function, word.index));
        if let Some(entry) = place {
            let value = register(entry, word.register);
            *value = f(*value);
        }
    }

    fn amd(&self) -> bool {
        // "Auth" and "Hygo".
        self.find(0, 0)
            .is_some_and(|leaf| matches!(leaf.ebx, 0x6874_7541 | 0x6f67_7948))
    }

    /// Sets every feature word: the model's, or all of the host's, with what was switched.
    fn select_features(&mut self, request: &CpuRequest, supported: &mut CpuTemplate) {
        for (word, _) in FEATURES {
            let host = supported.word(*word);
            let (on, off) = request.switched(*word);
            let base = request.model.features(*word, host, request.migratable);
            let wanted = (base | on) & !off;
            for bit in (0..32).filter(|bit| on & !off & !host & 1 << bit != 0) {
                let name = features::name_of(*word, bit).unwrap_or("?");
                self.warnings.push(format!(
                    "host doesn't support requested feature: {}.{name} [bit {bit}]",
                    features::describe(*word)
                ));
            }
            self.change(*word, |_| wanted & host);
        }
        if !request.features_off(F1_ECX, HYPERVISOR) {
            self.change(F1_ECX, |ecx| ecx | HYPERVISOR);
        }
    }

    /// Name, family and levels.
    fn identify(&mut self, request: &CpuRequest) {
        if let Some(identity) = request.identity() {
            if let Some(leaf) = self.entries.iter_mut().find(|entry| entry.function == 0) {
                leaf.eax = leaf.eax.min(identity.level);
                if let Some([b, d, c]) = identity.vendor {
                    (leaf.ebx, leaf.edx, leaf.ecx) = (b, d, c);
                }
            }
            if let Some(signature) = identity.signature {
                self.change(
                    Word {
                        register: Register::Eax,
                        ..F1_EDX
                    },
                    |_| signature,
                );
            }
            self.change(extended_level(), |level| level.min(identity.extended_level));
            if let Some(name) = &identity.name {
                self.set_brand(name);
            }
            let (level, extended) = (self.word(basic_level()), self.word(extended_level()));
            self.entries.retain(|entry| match entry.function {
                0..KVM_FIRST => entry.function <= level,
                KVM_FIRST..EXTENDED => true,
                EXTENDED.. => entry.function <= extended,
            });
        }
        for (register, shift) in [(request.family, 8), (request.model_number, 4)] {
            // Both are kept in two parts (Intel SDM 2A, CPUID, figure 3-6).
            let Some(number) = register else { continue };
            let (low, high) = if shift == 8 {
                (number.min(15), number.saturating_sub(15))
            } else {
                (number & 15, number >> 4)
            };
            let (high_shift, mask) = if shift == 8 { (20, 0xff) } else { (16, 0xf) };
            self.change(
                Word {
                    register: Register::Eax,
                    ..F1_EDX
                },
                |eax| {
                    eax & !(0xf << shift | mask << high_shift)
                        | (low & 0xf) << shift
                        | (high & mask) << high_shift
                },
            );
        }
        if let Some(stepping) = request.stepping {
            self.change(
                Word {
                    register: Register::Eax,
                    ..F1_EDX
                },
                |eax| eax & !0xf | stepping & 0xf,
            );
        }
    }

    /// The 48 characters of leaves 0x80000002 to 0x80000004.
    fn set_brand(&mut self, name: &str) {
        let mut text = [0u8; 48];
        for (place, byte) in text.iter_mut().zip(name.bytes().take(47)) {
            *place = byte;
        }
        for (function, part) in (0x8000_0002u32..).zip(text.chunks_exact(16)) {
            let mut words = part.chunks_exact(4).map(|four| {
                four.first_chunk()
                    .map_or(0, |four| u32::from_le_bytes(*four))
            });
            self.entries.retain(|entry| entry.function != function);
            let mut next = || words.next().unwrap_or(0);
            self.entries.push(kvm_cpuid_entry2 {
                function,
                eax: next(),
                ebx: next(),
                ecx: next(),
                edx: next(),
                ..Default::default()
            });
        }
    }

    fn set_phys_bits(&mut self, request: &CpuRequest) -> Result<(), CpuError> {
        let host = self.phys_bits();
        let bits = match request.phys_bits {
            Some(found) => match u32::try_from(found) {
                Ok(bits) if (32..=host).contains(&bits) => bits,
                _ => return Err(CpuError::PhysBits { max: host, found }),
            },
            None if request.host_phys_bits => host,
            None => host.min(40),
        };
        let word = Word {
            function: 0x8000_0008,
            index: 0,
            register: Register::Eax,
        };
        // The third byte, a width for guests of guests, is left out.
        self.change(word, |eax| eax & 0xff00 | bits);
        Ok(())
    }

    /// Takes out what is not to be seen.
    fn drop_leaves(&mut self, request: &CpuRequest) {
        let (kvm, pmu) = (request.kvm, request.pmu);
        let topology_1f = self.word(basic_level()) >= 0x1f
            && (self.topology.dies > 1 || self.topology.modules > 1);
        let invtsc = self.word(X7_EDX) & INVTSC != 0;
        self.entries.retain(|entry| match entry.function {
            KVM_FIRST..=KVM_LAST => kvm,
            0xa | 0x8000_0022 => pmu,
            // Made anew below.
            0xb | 0x1f => false,
            // Monitor lines, SGX, processor trace: not offered.
            5 | 0x12 | 0x14 => false,
            // The frequencies there are the host's; guests would derive the local APIC timer's
            // from them, and KVM's runs at 1 GHz.
            0x15 | 0x16 => false,
            _ => true,
        });
        if !topology_1f {
            self.change(basic_level(), |level| match level {
                0x1f => 0x1e,
                other => other,
            });
        }
        self.change(F6_EAX, |eax| eax & 4);
        if !invtsc {
            self.change(X7_EDX, |edx| edx & !INVTSC);
        }
        self.entries
            .extend(topology::extended_topology(&self.topology, false));
        if topology_1f {
            self.entries
                .extend(topology::extended_topology(&self.topology, true));
        }
    }

    /// Leaf 0xd shows only the state of features that are there (Intel SDM 1, section 13.2).
    fn fit_xsave(&mut self) {
        if self.word(F1_ECX) & XSAVE == 0 {
            self.entries.retain(|entry| entry.function != 0xd);
            return;
        }
        let mut mask = 3u64;
        for (name, bits) in [
            ("avx", 0x4u64),
            ("mpx", 0x18),
            ("avx512f", 0xe0),
            ("pku", 0x200),
            ("amx-tile", 0x6_0000),
        ] {
            let there = features::find(name)
                .into_iter()
                .any(|(word, bit)| self.word(word) & bit != 0);
            mask |= if there { bits } else { 0 };
        }
        // Supervisor state is not in XCR0; subleaf 1 says which there is.
        let supervisor = self
            .find(0xd, 1)
            .map_or(0, |entry| u64::from(entry.ecx) | u64::from(entry.edx) << 32);
        let [low, high] = [mask & 0xffff_ffff, mask >> 32].map(|half| half as u32);
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| entry.function == 0xd)
        {
            if entry.index == 0 {
                (entry.eax, entry.edx) = (entry.eax & low, entry.edx & high);
            }
        }
        self.entries.retain(|entry| {
            let state = 1u64.checked_shl(entry.index).unwrap_or(0);
            entry.function != 0xd || entry.index < 2 || (mask | supervisor) & state != 0
        });
    }

    /// Everything that depends on how processors are arranged and is the same on all.
    fn arrange(&mut self) {
        let (topology, amd) = (self.topology, self.amd());
        let threads = topology::threads_per_package(&topology);
        let logical = 1u32
            .checked_shl(self.shifts.package())
            .unwrap_or(u32::MAX)
            .min(255);
        let several = threads > 1;
        self.change(
            Word {
                register: Register::Ebx,
                ..F1_EDX
            },
            |_| 8 << 8 | logical << 16,
        );
        self.change(F1_EDX, |edx| if several { edx | HT } else { edx & !HT });
        self.change(X1_ECX, |ecx| match several && amd {
            true => ecx | CMP_LEGACY,
            false => ecx & !CMP_LEGACY,
        });
        let counts = Word {
            function: 0x8000_0008,
            index: 0,
            register: Register::Ecx,
        };
        self.change(counts, |_| {
            if amd {
                topology::amd_core_count(&topology)
            } else {
                0
            }
        });
        for entry in &mut self.entries {
            if matches!(entry.function, 4 | 0x8000_001d) && entry.eax & 0x1f != 0 {
                topology::share_cache(entry, &topology);
            }
        }
    }
}

const fn basic_level() -> Word {
    Word {
        function: 0,
        index: 0,
        register: Register::Eax,
    }
}

const fn extended_level() -> Word {
    Word {
        function: EXTENDED,
        index: 0,
        register: Register::Eax,
    }
}

/// Whether a word's bits are ones of KVM rather than of the processor.
fn of_kvm(word: Word) -> bool {
    (KVM_FIRST..=KVM_LAST).contains(&word.function)
}

/// Bits that named models have, by word.
fn model_word(list: &[(Word, u32)], word: Word) -> u32 {
    list.iter()
        .find(|(other, _)| *other == word)
        .map_or(0, |(_, bits)| *bits)
}

/// Fpu, de, pse, tsc, msr, pae, mce, cx8, apic, sep, pge, cmov, pat, mmx, fxsr, sse, sse2: what
/// every 64-bit processor has.
const COMMON: u32 = 0x0781_abfd;
/// Mtrr, mca, pse36, clflush.
const MORE: u32 = 1 << 12 | 1 << 14 | 1 << 17 | 1 << 19;
const VME: u32 = 1 << 1;
const SSE3_CX16: u32 = 1 | 1 << 13;
const X2APIC: u32 = 1 << 21;
const LM_SYSCALL_NX: u32 = 1 << 29 | 1 << 11 | 1 << 20;
const LAHF: u32 = 1;

/// Feature words of qemu64.
const QEMU64: &[(Word, u32)] = &[
    (F1_EDX, COMMON | MORE),
    (F1_ECX, SSE3_CX16 | X2APIC),
    (X1_EDX, LM_SYSCALL_NX),
    (X1_ECX, LAHF),
    (F7_EBX, 0),
];
/// Feature words of kvm64.
const KVM64: &[(Word, u32)] = &[
    (F1_EDX, COMMON | MORE | VME),
    (F1_ECX, SSE3_CX16 | X2APIC),
    (X1_EDX, LM_SYSCALL_NX),
];

#[cfg(test)]
#[path = "cpuid_test.rs"]
mod tests;
