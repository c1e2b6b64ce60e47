//! Kernels and processors.

use tests::artifacts;
use tests::{Vm, VmBuilder, seconds};

use crate::{boot, boot_with, wait};

#[test]
fn a_bzimage() {
    let Some((mut vm, mut serial)) = boot("512", &[]) else {
        return;
    };
    assert_eq!(serial.run("nproc"), "1");
    assert!(serial.run("cat /proc/cmdline").contains("console=ttyS0"));
    assert_eq!(vm.query("query-status")["status"], "running");
    vm.quit();
}

#[test]
fn an_elf_kernel_by_pvh() {
    let Some(guest) = artifacts::guest() else {
        return;
    };
    let mut vm = VmBuilder::new()
        .guest()
        .arg("-kernel")
        .arg(&guest.vmlinux)
        .arg("-initrd")
        .arg(&guest.initrd)
        .args(["-append", "console=ttyS0 panic=-1 quiet", "-m", "512"])
        .start();
    let mut serial = vm.serial();
    wait(&mut serial);
    assert!(serial.run("uname -s").contains("Linux"));
}

#[test]
fn two_processors() {
    let Some((mut vm, mut serial)) = boot("512", &["-smp", "2"]) else {
        return;
    };
    assert_eq!(serial.run("nproc"), "2");
    assert_eq!(
        vm.query("query-cpus-fast").as_array().map(Vec::len),
        Some(2)
    );
}

#[test]
fn eight_processors_with_a_topology() {
    let Some((_vm, mut serial)) = boot("768", &["-smp", "8,sockets=2,cores=2,threads=2"]) else {
        return;
    };
    assert_eq!(serial.run("nproc"), "8");
    let packages =
        serial.run("sort -u /sys/devices/system/cpu/cpu*/topology/physical_package_id | wc -l");
    assert_eq!(packages.trim(), "2");
    // AMD's way of telling of threads needs a feature that not every host has.
    if serial
        .try_run("grep -qE 'GenuineIntel|topoext' /proc/cpuinfo")
        .1
        != "0"
    {
        println!("skipped: this processor does not tell of threads");
        return;
    }
    let siblings = serial.run("cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list");
    assert_eq!(siblings, "0-1");
}

#[test]
fn the_firmware_tables() {
    let args = ["-uuid", "12345678-9abc-def0-1234-56789abcdef0"];
    let Some((_vm, mut serial)) = boot("512", &args) else {
        return;
    };
    let tables = serial.run("ls /sys/firmware/acpi/tables");
    for table in ["APIC", "DSDT", "FACP", "FACS", "MCFG"] {
        assert!(
            tables.split_whitespace().any(|name| name == table),
            "no {table} in {tables}"
        );
    }
    let uuid = serial.run("cat /sys/class/dmi/id/product_uuid");
    assert_eq!(uuid, "12345678-9abc-def0-1234-56789abcdef0");
    let errors = serial.run("dmesg | grep -iE 'acpi.*(error|warning)|firmware bug' | head -5");
    assert_eq!(errors, "");
}

#[test]
fn the_devices_of_the_board() {
    let Some((_vm, mut serial)) = boot("512", &["-device", "pcie-root-port,id=rp0,chassis=1"])
    else {
        return;
    };
    let ids = serial.run("cat /sys/bus/pci/devices/*/device");
    for id in ["0x29c0", "0x2918"] {
        assert!(ids.contains(id), "no {id} in {ids}");
    }
    let year = serial.run("cat /sys/class/rtc/rtc0/date");
    assert!(year.starts_with("20"), "{year}");
    let clock =
        serial.run("cat /sys/devices/system/clocksource/clocksource0/available_clocksource");
    if artifacts::accelerator() == "kvm" {
        assert!(clock.contains("kvm-clock"), "{clock}");
    }
    assert!(clock.contains("acpi_pm"), "{clock}");
}

#[test]
fn a_kernel_that_ends_at_once() {
    let Some(guest) = artifacts::guest() else {
        return;
    };
    let mut vm: Vm = crate::with_kernel(VmBuilder::new(), &guest, "poweroff")
        .args(["-m", "512"])
        .start();
    let event = vm
        .qmp()
        .event_within("SHUTDOWN", seconds(120))
        .expect("SHUTDOWN");
    assert_eq!(
        event["data"],
        serde_json::json!({"guest": true, "reason": "guest-shutdown"})
    );
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn every_model_of_processor() {
    if artifacts::accelerator() != "kvm" {
        println!("skipped: models are KVM's matter");
        return;
    }
    for model in ["qemu64", "kvm64", "max", "host,-aes"] {
        let Some((_vm, mut serial)) = boot_with(VmBuilder::new(), "512", &["-cpu", model], "")
        else {
            return;
        };
        let flags = serial.run("grep -m1 flags /proc/cpuinfo");
        if model == "host,-aes" {
            assert!(
                !flags.split_whitespace().any(|flag| flag == "aes"),
                "{flags}"
            );
        }
    }
}

#[test]
fn the_old_interrupt_controllers_alone() {
    let Some(guest) = artifacts::guest() else {
        return;
    };
    // Slots 1 and 2: interrupts 10 and 11, which must be level-triggered.
    let mut vm = crate::with_kernel(VmBuilder::new(), &guest, "acpi=off noapic pci=nomsi")
        .args(["-m", "512"])
        .args([
            "-blockdev",
            "null-co,node-name=a,size=1048576,read-zeroes=on",
        ])
        .args([
            "-blockdev",
            "null-co,node-name=b,size=1048576,read-zeroes=on",
        ])
        .args(["-device", "virtio-blk-pci,drive=a,addr=1"])
        .args(["-device", "virtio-blk-pci,drive=b,addr=2"])
        .start();
    let mut serial = vm.serial();
    wait(&mut serial);
    for disk in ["vda", "vdb"] {
        let read = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=64 2>&1");
        let said = serial.run(&read);
        assert!(said.contains("64+0 records in"), "{said}");
    }
    let interrupts = serial.run("grep virtio /proc/interrupts");
    assert_eq!(interrupts.matches("XT-PIC").count(), 2, "{interrupts}");
    // The edge/level register of the second controller, port 0x4d1.
    let levels = serial.run("dd if=/dev/port bs=1 skip=1233 count=1 2>/dev/null | od -An -tx1");
    assert_eq!(levels.trim(), "0c");
    vm.quit();
}
