//! `-only-migratable`: what would keep a machine from migrating is refused.

use std::fs;

use tests::VmBuilder;
use tests::binary::{has_kvm, is_stand_in};

#[test]
fn what_migrates_is_taken() {
    let mut vm = VmBuilder::new()
        .idle()
        .args(["-only-migratable", "-device", "virtio-rng-pci"])
        .start();
    vm.assert_alive();
    vm.quit();
}

#[test]
fn a_processor_that_is_bound_to_its_host_is_refused() {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !has_kvm() || !info.contains("nonstop_tsc") {
        println!("skipped: no /dev/kvm, or no invariant TSC");
        return;
    }
    let cpu = "host,migratable=off,+invtsc";
    let args = [
        "-machine", "q35", "-accel", "kvm", "-S", "-m", "64", "-cpu", cpu,
    ];
    // Not every host lets the reference set all registers of this model.
    if !is_stand_in() {
        let mut vm = VmBuilder::new().args(args).start();
        vm.assert_alive();
        vm.quit();
    }
    let exit = VmBuilder::new().args(args).arg("-only-migratable").run();
    exit.assert_refused().assert_says(
        "disallowing migration blocker (--only-migratable) for: State blocked by non-migratable \
         CPU device (invtsc flag)",
    );
}
