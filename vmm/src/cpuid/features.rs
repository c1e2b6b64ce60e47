//! CPUID feature bits and the names people give them on the command line (QEMU's names).

/// A register of the CPUID instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Register {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

/// A register full of feature bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word {
    /// Leaf.
    pub function: u32,
    /// Subleaf.
    pub index: u32,
    /// Register.
    pub register: Register,
}

const fn word(function: u32, index: u32, register: Register) -> Word {
    Word {
        function,
        index,
        register,
    }
}

/// Leaf 1.
pub const F1_EDX: Word = word(1, 0, Register::Edx);
/// Leaf 1.
pub const F1_ECX: Word = word(1, 0, Register::Ecx);
/// Leaf 7.
pub const F7_EBX: Word = word(7, 0, Register::Ebx);
const F7_ECX: Word = word(7, 0, Register::Ecx);
/// Leaf 7.
pub const F7_EDX: Word = word(7, 0, Register::Edx);
const F7_1_EAX: Word = word(7, 1, Register::Eax);
const F7_1_EDX: Word = word(7, 1, Register::Edx);
const F7_2_EDX: Word = word(7, 2, Register::Edx);
const FD_1_EAX: Word = word(0xd, 1, Register::Eax);
/// Thermal and power management.
pub const F6_EAX: Word = word(6, 0, Register::Eax);
/// Extended features.
pub const X1_EDX: Word = word(0x8000_0001, 0, Register::Edx);
/// Extended features.
pub const X1_ECX: Word = word(0x8000_0001, 0, Register::Ecx);
/// Power management.
pub const X7_EDX: Word = word(0x8000_0007, 0, Register::Edx);
const X8_EBX: Word = word(0x8000_0008, 0, Register::Ebx);
const SVM_EDX: Word = word(0x8000_000a, 0, Register::Edx);
const X21_EAX: Word = word(0x8000_0021, 0, Register::Eax);
/// Intel's virtualization.
pub const VMX_WORD: (Word, u32) = (F1_ECX, 1 << 5);
/// AMD's virtualization.
pub const SVM_WORD: (Word, u32) = (X1_ECX, 1 << 2);
/// A time-stamp counter whose pace never changes.
pub const INVTSC_WORD: (Word, u32) = (X7_EDX, 1 << 8);
/// KVM's own features.
pub const KVM_EAX: Word = word(0x4000_0001, 0, Register::Eax);
const KVM_EDX: Word = word(0x4000_0001, 0, Register::Edx);

/// Names of bits: word, then bit and name of each. Sources: Intel SDM 2A, CPUID; AMD APM 3,
/// appendix E; Linux Documentation/virt/kvm/x86/cpuid.rst.
pub const FEATURES: &[(Word, &[(u8, &str)])] = &[
    (
        F1_EDX,
        &[
            (0, "fpu"),
            (1, "vme"),
            (2, "de"),
            (3, "pse"),
            (4, "tsc"),
            (5, "msr"),
            (6, "pae"),
            (7, "mce"),
            (8, "cx8"),
            (9, "apic"),
            (11, "sep"),
            (12, "mtrr"),
            (13, "pge"),
            (14, "mca"),
            (15, "cmov"),
            (16, "pat"),
            (17, "pse36"),
            (18, "pn"),
            (19, "clflush"),
            (21, "ds"),
            (22, "acpi"),
            (23, "mmx"),
            (24, "fxsr"),
            (25, "sse"),
            (26, "sse2"),
            (27, "ss"),
            (28, "ht"),
            (29, "tm"),
            (30, "ia64"),
            (31, "pbe"),
        ],
    ),
    (
        F1_ECX,
        &[
            (0, "pni"),
            (0, "sse3"),
            (1, "pclmulqdq"),
            (1, "pclmuldq"),
            (2, "dtes64"),
            (3, "monitor"),
            (4, "ds-cpl"),
            (5, "vmx"),
            (6, "smx"),
            (7, "est"),
            (8, "tm2"),
            (9, "ssse3"),
            (10, "cid"),
            (12, "fma"),
            (13, "cx16"),
            (14, "xtpr"),
            (15, "pdcm"),
            (17, "pcid"),
            (18, "dca"),
            (19, "sse4.1"),
            (19, "sse4-1"),
            (20, "sse4.2"),
            (20, "sse4-2"),
            (21, "x2apic"),
            (22, "movbe"),
            (23, "popcnt"),
            (24, "tsc-deadline"),
            (25, "aes"),
            (26, "xsave"),
            (28, "avx"),
            (29, "f16c"),
            (30, "rdrand"),
            (31, "hypervisor"),
        ],
    ),
    (
        F7_EBX,
        &[
            (0, "fsgsbase"),
            (1, "tsc-adjust"),
            (2, "sgx"),
            (3, "bmi1"),
            (4, "hle"),
            (5, "avx2"),
            (6, "fdp-excptn-only"),
            (7, "smep"),
            (8, "bmi2"),
            (9, "erms"),
            (10, "invpcid"),
            (11, "rtm"),
            (13, "zero-fcs-fds"),
            (14, "mpx"),
            (16, "avx512f"),
            (17, "avx512dq"),
            (18, "rdseed"),
            (19, "adx"),
            (20, "smap"),
            (21, "avx512ifma"),
            (22, "pcommit"),
            (23, "clflushopt"),
            (24, "clwb"),
            (25, "intel-pt"),
            (26, "avx512pf"),
            (27, "avx512er"),
            (28, "avx512cd"),
            (29, "sha-ni"),
            (30, "avx512bw"),
            (31, "avx512vl"),
        ],
    ),
    (
        F7_ECX,
        &[
            (1, "avx512vbmi"),
            (2, "umip"),
            (3, "pku"),
            (5, "waitpkg"),
            (6, "avx512vbmi2"),
            (8, "gfni"),
            (9, "vaes"),
            (10, "vpclmulqdq"),
            (11, "avx512vnni"),
            (12, "avx512bitalg"),
            (14, "avx512-vpopcntdq"),
            (16, "la57"),
            (22, "rdpid"),
            (24, "bus-lock-detect"),
            (25, "cldemote"),
            (27, "movdiri"),
            (28, "movdir64b"),
            (30, "sgxlc"),
            (31, "pks"),
        ],
    ),
    (
        F7_EDX,
        &[
            (2, "avx512-4vnniw"),
            (3, "avx512-4fmaps"),
            (4, "fsrm"),
            (8, "avx512-vp2intersect"),
            (10, "md-clear"),
            (14, "serialize"),
            (16, "tsx-ldtrk"),
            (19, "arch-lbr"),
            (22, "amx-bf16"),
            (23, "avx512-fp16"),
            (24, "amx-tile"),
            (25, "amx-int8"),
            (26, "spec-ctrl"),
            (27, "stibp"),
            (28, "flush-l1d"),
            (29, "arch-capabilities"),
            (30, "core-capability"),
            (31, "ssbd"),
        ],
    ),
    (
        F7_1_EAX,
        &[
            (4, "avx-vnni"),
            (5, "avx512-bf16"),
            (7, "cmpccxadd"),
            (10, "fzrm"),
            (11, "fsrs"),
            (12, "fsrc"),
            (17, "fred"),
            (18, "lkgs"),
            (19, "wrmsrns"),
            (21, "amx-fp16"),
            (23, "avx-ifma"),
            (26, "lam"),
        ],
    ),
    (
        F7_1_EDX,
        &[
            (4, "avx-vnni-int8"),
            (5, "avx-ne-convert"),
            (8, "amx-complex"),
            (10, "avx-vnni-int16"),
            (14, "prefetchiti"),
            (19, "avx10"),
        ],
    ),
    (
        F7_2_EDX,
        &[
            (0, "intel-psfd"),
            (1, "ipred-ctrl"),
            (2, "rrsba-ctrl"),
            (3, "ddpd-u"),
            (4, "bhi-ctrl"),
            (5, "mcdt-no"),
        ],
    ),
    (
        FD_1_EAX,
        &[
            (0, "xsaveopt"),
            (1, "xsavec"),
            (2, "xgetbv1"),
            (3, "xsaves"),
            (4, "xfd"),
        ],
    ),
    (F6_EAX, &[(2, "arat")]),
    (
        X1_EDX,
        &[
            (11, "syscall"),
            (19, "mp"),
            (20, "nx"),
            (20, "xd"),
            (22, "mmxext"),
            (25, "fxsr-opt"),
            (25, "ffxsr"),
            (26, "pdpe1gb"),
            (27, "rdtscp"),
            (29, "lm"),
            (29, "i64"),
            (30, "3dnowext"),
            (31, "3dnow"),
        ],
    ),
    (
        X1_ECX,
        &[
            (0, "lahf-lm"),
            (1, "cmp-legacy"),
            (2, "svm"),
            (3, "extapic"),
            (4, "cr8legacy"),
            (5, "abm"),
            (6, "sse4a"),
            (7, "misalignsse"),
            (8, "3dnowprefetch"),
            (9, "osvw"),
            (10, "ibs"),
            (11, "xop"),
            (12, "skinit"),
            (13, "wdt"),
            (15, "lwp"),
            (16, "fma4"),
            (17, "tce"),
            (19, "nodeid-msr"),
            (21, "tbm"),
            (22, "topoext"),
            (23, "perfctr-core"),
            (24, "perfctr-nb"),
        ],
    ),
    (X7_EDX, &[(8, "invtsc")]),
    (
        X8_EBX,
        &[
            (0, "clzero"),
            (2, "xsaveerptr"),
            (9, "wbnoinvd"),
            (12, "ibpb"),
            (14, "ibrs"),
            (15, "amd-stibp"),
            (17, "stibp-always-on"),
            (24, "amd-ssbd"),
            (25, "virt-ssbd"),
            (26, "amd-no-ssb"),
            (28, "amd-psfd"),
        ],
    ),
    (
        SVM_EDX,
        &[
            (0, "npt"),
            (1, "lbrv"),
            (2, "svm-lock"),
            (3, "nrip-save"),
            (4, "tsc-scale"),
            (5, "vmcb-clean"),
            (6, "flushbyasid"),
            (7, "decodeassists"),
            (10, "pause-filter"),
            (12, "pfthreshold"),
            (13, "avic"),
            (15, "v-vmsave-vmload"),
            (16, "vgif"),
            (25, "vnmi"),
            (28, "svme-addr-chk"),
        ],
    ),
    (
        X21_EAX,
        &[
            (0, "no-nested-data-bp"),
            (1, "fs-gs-base-ns"),
            (2, "lfence-always-serializing"),
            (6, "null-sel-clr-base"),
            (8, "auto-ibrs"),
            (18, "prefetchi"),
            (27, "sbpb"),
            (28, "ibpb-brtype"),
            (29, "srso-no"),
        ],
    ),
    (
        KVM_EAX,
        &[
            (0, "kvmclock"),
            (3, "kvmclock"),
            (1, "kvm-nopiodelay"),
            (2, "kvm-mmu"),
            (4, "kvm-asyncpf"),
            (5, "kvm-steal-time"),
            (6, "kvm-pv-eoi"),
            (7, "kvm-pv-unhalt"),
            (9, "kvm-pv-tlb-flush"),
            (10, "kvm-asyncpf-vmexit"),
            (11, "kvm-pv-ipi"),
            (12, "kvm-poll-control"),
            (13, "kvm-pv-sched-yield"),
            (14, "kvm-asyncpf-int"),
            (15, "kvm-msi-ext-dest-id"),
            (24, "kvmclock-stable-bit"),
        ],
    ),
    (KVM_EDX, &[(0, "kvm-hint-dedicated")]),
];

/// The words and bits that `name` stands for; several where one name switches several bits.
/// Underscores count as dashes.
pub fn find(name: &str) -> Vec<(Word, u32)> {
    let name = name.replace('_', "-");
    let mut found = Vec::new();
    for (word, bits) in FEATURES {
        let named = bits.iter().filter(|(_, other)| *other == name);
        let mask = named.fold(0, |mask, (bit, _)| mask | 1u32 << (bit & 31));
        if mask != 0 {
            found.push((*word, mask));
        }
    }
    found
}

/// The first name of a bit.
pub fn name_of(word: Word, bit: u32) -> Option<&'static str> {
    let (_, bits) = FEATURES.iter().find(|(other, _)| *other == word)?;
    bits.iter()
        .find(|(other, _)| u32::from(*other) == bit)
        .map(|(_, name)| *name)
}

/// A word as QEMU writes it in warnings: `CPUID.07H:EBX`.
pub fn describe(word: Word) -> String {
    let register = match word.register {
        Register::Eax => "EAX",
        Register::Ebx => "EBX",
        Register::Ecx => "ECX",
        Register::Edx => "EDX",
    };
    format!("CPUID.{:02X}H:{register}", word.function)
}
