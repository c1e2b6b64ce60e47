//! `-only-migratable`: what would keep a machine from migrating is refused.

use std::fs;

use serde_json::json;
use tests::VmBuilder;
use tests::binary::{has_kvm, is_stand_in, skip_on_stand_in};

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

#[test]
fn a_device_that_blocks_is_refused_when_it_comes() {
    if skip_on_stand_in("it waits for the peer") {
        return;
    }
    let builder = VmBuilder::new();
    let path = builder.path("peer");
    let mut vm = builder
        .idle_pc()
        .arg("-only-migratable")
        .arg("-chardev")
        .arg(format!(
            "socket,id=peer,path={},server=on,wait=off",
            path.display()
        ))
        .start();
    let netdev = json!({"type": "vhost-user", "id": "n0", "chardev": "peer"});
    vm.exec("netdev_add", netdev);
    let device = json!({"driver": "virtio-net-pci", "id": "net0", "netdev": "n0"});
    let error = vm.refused("device_add", device);
    assert_eq!(
        error.desc,
        "disallowing migration blocker (--only-migratable) for: Migration disabled: vhost-user \
         backend lacks VHOST_USER_PROTOCOL_F_LOG_SHMFD feature."
    );
    // Nothing is left of it: another one takes the place.
    vm.exec(
        "device_add",
        json!({"driver": "virtio-rng-pci", "id": "net0"}),
    );
    vm.quit();
}
