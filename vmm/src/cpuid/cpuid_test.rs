use super::*;

fn leaf(function: u32, index: u32, values: [u32; 4]) -> kvm_cpuid_entry2 {
    let [eax, ebx, ecx, edx] = values;
    kvm_cpuid_entry2 {
        function,
        index,
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    }
}

/// A host of this vendor with AVX, and some leaves that are not to be passed on.
fn host(amd: bool) -> HostCpu {
    let vendor = if amd {
        [0x20, 0x6874_7541, 0x444d_4163, 0x6974_6e65]
    } else {
        [0x20, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]
    };
    HostCpu {
        supported: vec![
            leaf(0, 0, vendor),
            leaf(1, 0, [0x806f8, 0, 0x7fda_3203 | 1 << 21, 0x178b_fbff]),
            leaf(4, 0, [0x7c00_4121, 0, 0, 0]),
            leaf(4, 3, [0x7c00_4163, 0, 0, 0]),
            leaf(5, 0, [0x40, 0x40, 3, 0]),
            leaf(6, 0, [0x77, 0, 9, 0]),
            leaf(7, 0, [0, 1 << 5 | 1 << 16, 0, 0]),
            leaf(0xa, 0, [0x0730_0402, 0, 0, 0x603]),
            leaf(0xb, 0, [1, 2, 0x100, 77]),
            leaf(0xd, 0, [0xe7, 0xa88, 0xa88, 0]),
            leaf(0xd, 1, [0xf, 0, 0, 0]),
            leaf(0xd, 2, [0x100, 0x240, 0, 0]),
            leaf(0xd, 5, [0x40, 0x440, 0, 0]),
            leaf(0x15, 0, [2, 216, 0x16e3600, 0]),
            leaf(0x4000_0000, 0, [0x4000_0001, 0, 0, 0]),
            leaf(0x4000_0001, 0, [0x0100_7efb, 0, 0, 0]),
            leaf(0x8000_0000, 0, [0x8000_001e, 0, 0, 0]),
            leaf(0x8000_0001, 0, [0, 0, 0x121, 0x2c10_0800]),
            leaf(0x8000_0002, 0, [0x6174_6e49, 0, 0, 0]),
            leaf(0x8000_0007, 0, [0, 0, 0, 0x100]),
            leaf(0x8000_0008, 0, [0x3030, 0, 0x701f, 0]),
            leaf(0x8000_001d, 0, [0x7c00_4121, 0, 0, 0]),
            leaf(0x8000_001e, 0, [9, 9, 9, 9]),
        ],
        tsc_deadline: true,
    }
}

fn build(text: &str, amd: bool, topology: Topology) -> CpuTemplate {
    CpuTemplate::build(&CpuRequest::parse(text).unwrap(), &host(amd), topology).unwrap()
}

fn get(cpuid: &CpuId, function: u32, index: u32) -> Option<kvm_cpuid_entry2> {
    let found = cpuid.as_slice().iter();
    found
        .copied()
        .find(|entry| (entry.function, entry.index) == (function, index))
}

fn arranged() -> Topology {
    Topology {
        cpus: 12,
        maxcpus: 12,
        sockets: 2,
        cores: 3,
        threads: 2,
        ..Topology::default()
    }
}

#[test]
fn the_host_is_passed_on_but_for_what_would_mislead() {
    let template = build("host", false, arranged());
    assert!(template.warnings.is_empty());
    let cpuid = template.for_vcpu(9).unwrap();
    // Socket 1, core 1, thread 1: three bits below the package.
    assert_eq!(template.apic_id(9), 0b1011);
    let one = get(&cpuid, 1, 0).unwrap();
    assert_eq!(one.eax, 0x806f8);
    assert_eq!(one.ebx, 0x0b08_0800);
    assert_eq!(
        one.ecx & (HYPERVISOR | TSC_DEADLINE),
        HYPERVISOR | TSC_DEADLINE
    );
    assert_eq!(one.edx & HT, HT);
    let smt = get(&cpuid, 0xb, 0).unwrap();
    assert_eq!((smt.eax, smt.ebx, smt.ecx, smt.edx), (1, 2, 0x100, 11));
    let core = get(&cpuid, 0xb, 1).unwrap();
    assert_eq!((core.eax, core.ebx, core.ecx, core.edx), (3, 6, 0x201, 11));
    assert_eq!(get(&cpuid, 4, 0).unwrap().eax, 0x0c00_4121);
    assert_eq!(get(&cpuid, 4, 3).unwrap().eax, 0x0c01_c163);
    assert_eq!(get(&cpuid, 6, 0).unwrap().eax, 4);
    assert_eq!(
        get(&cpuid, 0x8000_0007, 0).unwrap().edx,
        0,
        "invtsc does not migrate"
    );
    for gone in [5, 0x15] {
        assert!(get(&cpuid, gone, 0).is_none(), "{gone:#x}");
    }
    assert_eq!(get(&cpuid, 0xa, 0).unwrap().eax, 0x0730_0402);
    assert_eq!(template.phys_bits(), 48);
    assert_eq!(
        cpuid
            .as_slice()
            .iter()
            .filter(|entry| entry.function == 0xd)
            .count(),
        4
    );
}

#[test]
fn amd_processors_are_counted_their_way() {
    let template = build("host,migratable=off", true, arranged());
    let cpuid = template.for_vcpu(9).unwrap();
    assert_eq!(get(&cpuid, 0x8000_0008, 0).unwrap().ecx, 0x3005);
    assert_eq!(
        get(&cpuid, 0x8000_0001, 0).unwrap().ecx & CMP_LEGACY,
        CMP_LEGACY
    );
    let place = get(&cpuid, 0x8000_001e, 0).unwrap();
    assert_eq!(
        (place.eax, place.ebx, place.ecx, place.edx),
        (11, 0x101, 1, 0)
    );
    assert_eq!(get(&cpuid, 0x8000_001d, 0).unwrap().eax, 0x4121 | 1 << 14);
    assert_eq!(get(&cpuid, 0x8000_0007, 0).unwrap().edx, INVTSC);
}

#[test]
fn dies_are_in_leaf_1f() {
    let topology = Topology {
        cpus: 8,
        maxcpus: 8,
        dies: 2,
        cores: 2,
        threads: 2,
        ..Topology::default()
    };
    let cpuid = build("host", false, topology).for_vcpu(7).unwrap();
    let levels: Vec<(u32, u32, u32)> = (0..4)
        .map(|index| get(&cpuid, 0x1f, index).unwrap())
        .map(|entry| (entry.eax, entry.ebx, entry.ecx))
        .collect();
    assert_eq!(
        levels,
        [(1, 2, 0x100), (2, 4, 0x201), (3, 8, 0x502), (0, 0, 3)]
    );
    assert_eq!(get(&cpuid, 0x1f, 0).unwrap().edx, 7);
}

#[test]
fn old_models_are_narrow() {
    let template = build("qemu64,+avx2,pmu=on", false, Topology::default());
    assert!(template.warnings.is_empty());
    let cpuid = template.for_vcpu(0).unwrap();
    assert_eq!(get(&cpuid, 0, 0).unwrap().eax, 0xd);
    assert_eq!(
        get(&cpuid, 0, 0).unwrap().ebx,
        0x756e_6547,
        "the host's vendor"
    );
    let one = get(&cpuid, 1, 0).unwrap();
    assert_eq!(one.eax, 0x60fb1);
    assert_eq!(one.ecx, HYPERVISOR | X2APIC | SSE3_CX16);
    assert_eq!(one.edx & (1 << 1 | HT), 0);
    assert_eq!(one.edx & (1 << 9), 1 << 9, "apic");
    assert_eq!(get(&cpuid, 7, 0).unwrap().ebx, 1 << 5);
    assert_eq!(
        get(&cpuid, 0x8000_0002, 0).unwrap().eax.to_le_bytes(),
        *b"QEMU"
    );
    assert!(get(&cpuid, 0xd, 0).is_none(), "no xsave");
    assert!(get(&cpuid, 0x8000_001d, 0).is_none(), "beyond xlevel");
    assert_eq!(template.phys_bits(), 40);
    let template = build(
        "kvm64,kvm=off,-x2apic,family=6,model=0x5e",
        false,
        Topology::default(),
    );
    assert_eq!(template.signature().0, 0x506e1);
    let cpuid = template.for_vcpu(0).unwrap();
    assert!(get(&cpuid, 0x4000_0000, 0).is_none());
    assert_eq!(get(&cpuid, 1, 0).unwrap().ecx & X2APIC, 0);
}

#[test]
fn switching_a_feature_off_takes_its_state_along() {
    let cpuid = build("max,-avx512f,avx=off", false, Topology::default())
        .for_vcpu(0)
        .unwrap();
    assert_eq!(get(&cpuid, 0xd, 0).unwrap().eax, 3);
    assert!(get(&cpuid, 0xd, 2).is_none() && get(&cpuid, 0xd, 5).is_none());
}

#[test]
fn what_is_wrong_is_said() {
    let refusal = |text: &str| CpuRequest::parse(text).unwrap_err().to_string();
    assert_eq!(refusal("nonesuch"), "unable to find CPU model 'nonesuch'");
    assert_eq!(refusal(""), "unable to find CPU model ''");
    assert_eq!(
        refusal("host,foo=on"),
        "Property 'host-x86_64-cpu.foo' not found"
    );
    assert_eq!(
        refusal("max,+foo"),
        "Property 'max-x86_64-cpu.foo' not found"
    );
    assert_eq!(
        refusal("host,avx=perhaps"),
        "Parameter 'avx' expects 'on' or 'off'"
    );
    let request = CpuRequest::parse("host,+svm,+sse4_1").unwrap();
    let template = CpuTemplate::build(&request, &host(false), Topology::default()).unwrap();
    let line = "host doesn't support requested feature: CPUID.80000001H:ECX.svm [bit 2]";
    assert_eq!(template.warnings, [line]);
    let request = CpuRequest::parse("host,+svm,enforce").unwrap();
    let error = CpuTemplate::build(&request, &host(false), Topology::default());
    assert_eq!(error.err(), Some(CpuError::Unsupported));
    let request = CpuRequest::parse("host,phys-bits=60").unwrap();
    let error = CpuTemplate::build(&request, &host(false), Topology::default())
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "phys-bits should be between 32 and 48  (but is 60)"
    );
    assert!(help().starts_with("Available CPUs:\n  host                  processor"));
    assert!(help().contains("\nRecognized CPUID flags:\n  3dnow "));
}
