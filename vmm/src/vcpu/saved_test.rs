//! A vCPU goes on in another virtual machine. Skipped where there is no KVM.

use std::time::{Duration, Instant};

use super::super::tests::{Lab, lab, lab_with};
use super::parts::tests::all_set;
use super::*;
use crate::accel::AccelState;
use crate::machine::saved::golden_tests::golden;
use kvm_bindings::CpuId;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};

/// Counts at 0x9000 in step with a register, with something in DR0, and interrupts off. Simple
/// enough for a KVM that carries out protected mode by itself.
const COUNTER: [u8; 19] = [
    0xb8, 0x67, 0x45, 0x23, 0x01, // mov eax, 0x01234567
    0x0f, 0x23, 0xc0, // mov dr0, eax
    0x31, 0xc9, // xor ecx, ecx
    0x41, // inc ecx
    0x89, 0x0d, 0x00, 0x90, 0x00, 0x00, // mov [0x9000], ecx
    0xeb, 0xf7, // jmp to the inc
];

fn count(lab: &Lab) -> u32 {
    let memory = lab.ram.handle.memory();
    memory.read_obj(GuestAddress(0x9000)).unwrap()
}

fn wait_for_progress(lab: &Lab) {
    let (before, start) = (count(lab), Instant::now());
    while count(lab) == before {
        assert!(start.elapsed() < Duration::from_secs(10), "no progress");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs for a while and stops.
fn run(lab: &Lab) {
    lab.accel.clock_start();
    lab.vcpus.resume();
    wait_for_progress(lab);
    lab.pause();
    lab.accel.clock_stop();
}

fn unpack(section: &Section) -> CpuV1 {
    section.unpack(ID, VERSION).unwrap()
}

fn changed(section: &Section, change: impl FnOnce(&mut CpuV1)) -> Section {
    let mut state = unpack(section);
    change(&mut state);
    Section::pack(ID, &section.instance, VERSION, &state).unwrap()
}

fn msr(state: &CpuV1, index: u32) -> Option<u64> {
    let found = state.msrs.iter().find(|(own, _)| *own == index);
    found.map(|(_, value)| *value)
}

/// What does not stand still while a vCPU is parked.
fn still(mut state: CpuV1) -> CpuV1 {
    // The counter, and what is derived from it (APERF and MPERF, TSC under Hyper-V).
    state
        .msrs
        .retain(|(index, _)| !matches!(index, 0x10 | 0xe7 | 0xe8));
    state
}

#[test]
fn a_vcpu_goes_on_in_another_machine() {
    let (Some(old), Some(new)) = (lab(&COUNTER), lab(&[0xf4])) else {
        return;
    };
    assert_eq!(old.vcpus.parts(), [("cpu", "0".to_owned())]);
    // Registers in the layout of FXSAVE, and which of them count (Intel SDM 1, sections 10.5.1
    // and 13.4.2).
    let mut vectors = vec![0; 4096];
    vectors[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
    vectors[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
    vectors[160..416].fill(0x5a);
    vectors[512] = 3;
    sys::set_xsave(&old.vcpus.list[0].0.fd, 4096, &vectors).unwrap();
    run(&old);
    let sections = old.vcpus.save().unwrap();
    let saved = unpack(&sections[0]);
    assert_eq!(saved.debug.db[0], 0x0123_4567);
    assert_eq!(saved.xsave.0[160..416], vectors[160..416]);
    assert!(msr(&saved, 0x10).unwrap() > 0, "a counter that runs");
    assert!(msr(&saved, 0x277).is_some(), "PAT");
    assert!(msr(&saved, 0x2ff).is_some(), "memory types");
    let mut all = vec![0; 4 << 20];
    let (from, to) = (old.ram.handle.memory(), new.ram.handle.memory());
    from.read_slice(&mut all, GuestAddress(0)).unwrap();
    to.write_slice(&all, GuestAddress(0)).unwrap();
    for section in old.accel.save().unwrap() {
        new.accel.restore(&section).unwrap();
    }
    new.vcpus.restore(&sections[0]).unwrap();
    let again = unpack(&new.vcpus.save().unwrap()[0]);
    let (before, after) = (msr(&saved, 0x10).unwrap(), msr(&again, 0x10).unwrap());
    assert!(
        after >= before,
        "the counter went back from {before} to {after}"
    );
    assert_eq!(still(again), still(saved));
    let stopped = count(&old);
    assert_eq!(count(&new), stopped);
    run(&new);
    let saved = unpack(&new.vcpus.save().unwrap()[0]);
    assert!(u64::from(count(&new)).abs_diff(saved.regs.rcx) <= 1);
    assert!(count(&new) > stopped);
    assert_eq!(count(&old), stopped);
}

#[test]
fn a_vcpu_goes_back_to_what_it_was() {
    let Some(lab) = lab(&COUNTER) else {
        return;
    };
    run(&lab);
    let before = lab.vcpus.save().unwrap();
    run(&lab);
    assert_ne!(
        unpack(&lab.vcpus.save().unwrap()[0]).regs,
        unpack(&before[0]).regs
    );
    lab.vcpus.restore(&before[0]).unwrap();
    let again = lab.vcpus.save().unwrap();
    assert_eq!(still(unpack(&again[0])), still(unpack(&before[0])));
    run(&lab);
}

#[test]
fn what_does_not_fit_is_refused() {
    let Some(lab) = lab(&COUNTER) else {
        return;
    };
    run(&lab);
    let saved = lab.vcpus.save().unwrap().remove(0);
    let refused = |section: &Section| lab.vcpus.restore(section).unwrap_err();
    let text = refused(&Section {
        version: 2,
        ..saved.clone()
    });
    assert_eq!(
        text,
        "Section 'cpu': version 2 is not supported (supported: 1)"
    );
    let text = refused(&Section {
        instance: "1".into(),
        ..saved.clone()
    });
    assert_eq!(text, "There is no CPU #1 here");
    let text = refused(&Section {
        id: "ioapic".into(),
        ..saved.clone()
    });
    assert!(text.contains("found section 'ioapic'"), "{text}");
    let strange = Section::pack(
        ID,
        "0",
        VERSION,
        &[("wings", 2)]
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>(),
    );
    let text = refused(&strange.unwrap());
    assert!(text.contains("unknown field `wings`"), "{text}");
    // An index that no processor has.
    let text = refused(&changed(&saved, |state| state.msrs.push((0x1234_5678, 5))));
    assert_eq!(
        text,
        "CPU #0: msrs: 0x12345678, which was 0x5, is not there on this host"
    );
    lab.vcpus
        .restore(&changed(&saved, |state| state.msrs.push((0x1234_5678, 0))))
        .unwrap();
    let text = refused(&changed(&saved, |state| state.lapic.0.truncate(5)));
    assert_eq!(text, "CPU #0: lapic: not 1024 bytes");
    let text = refused(&changed(&saved, |state| state.xsave.0.truncate(512)));
    assert!(text.contains("KVM_SET_XSAVE"), "{text}");
    let text = refused(&changed(&saved, |state| state.xcrs = vec![(0, 1); 17]));
    assert!(text.contains("xcrs: 17 are too many"), "{text}");
    let text = refused(&changed(&saved, |state| state.nested.0 = vec![0; 128]));
    assert!(text.to_lowercase().contains("nested"), "{text}");
    lab.vcpus.resume();
    assert_eq!(lab.vcpus.save().unwrap_err(), "Processors are running");
    assert_eq!(refused(&saved), "Processors are running");
    lab.pause();
    lab.vcpus.restore(&saved).unwrap();
    run(&lab);
}

/// Takes SSE2 away.
fn without_sse2(cpuid: &mut CpuId) {
    let leaves = cpuid.as_mut_slice().iter_mut();
    for leaf in leaves.filter(|leaf| leaf.function == 1) {
        leaf.edx &= !(1 << 26);
    }
}

#[test]
fn a_guest_keeps_its_cpuid() {
    let (Some(large), Some(small)) = (lab(&COUNTER), lab_with(&COUNTER, without_sse2)) else {
        return;
    };
    let sse2 = |state: &CpuV1| state.cpuid.iter().any(|leaf| leaf.offers_sse2());
    run(&large);
    let saved = large.vcpus.save().unwrap();
    assert!(sse2(&unpack(&saved[0])));
    let text = small.vcpus.restore(&saved[0]).unwrap_err();
    assert!(text.contains("CPUID.01H:EDX.sse2 [bit 26]"), "{text}");
    // The larger one takes the smaller one's, as long as it has not run.
    let fresh = lab(&COUNTER).unwrap();
    let saved = small.vcpus.save().unwrap();
    fresh.vcpus.restore(&saved[0]).unwrap();
    assert!(!sse2(&unpack(&fresh.vcpus.save().unwrap()[0])));
    run(&fresh);
}

#[test]
fn vcpus_that_never_run_have_no_state() {
    let vcpus = Vcpus::idle(2);
    assert!(vcpus.save().unwrap().is_empty());
    assert!(vcpus.parts().is_empty());
    let section = Section::pack(ID, "0", VERSION, &CpuV1::default()).unwrap();
    assert_eq!(
        vcpus.restore(&section).unwrap_err(),
        "There is no CPU #0 here"
    );
}

#[test]
fn earlier_states_can_be_read() {
    let leaf = |subleaf| LeafV1 {
        leaf: 7,
        subleaf,
        eax: 1,
        ebx: 2,
        ecx: 3,
        edx: 4,
    };
    let (regs, sregs, debug, events) = all_set();
    let state = CpuV1 {
        cpuid: vec![leaf(None), leaf(Some(0)), leaf(Some(2))],
        tsc_khz: 2_500_000,
        regs,
        sregs,
        xcrs: vec![(0, 7)],
        xsave: Blob(vec![1; 4096]),
        debug,
        msrs: vec![(0x10, 5 << 40), (0xc000_0082, u64::MAX)],
        lapic: Blob(vec![2; 1024]),
        events,
        mp_state: 3,
        nested: Blob(vec![3; 128]),
    };
    let section = Section::pack(ID, "0", VERSION, &state).unwrap();
    golden::check("all", &section, &mut |golden| {
        let state: CpuV1 = golden
            .unpack(ID, VERSION)
            .map_err(|error| error.to_string())?;
        Section::pack(ID, "0", VERSION, &state).map_err(|error| error.to_string())
    });
}
