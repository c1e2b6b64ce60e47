//! The generation id, as Linux finds it.

use crate::boot;

#[test]
fn the_guest_finds_the_id_in_its_memory() {
    let device = "vmgenid,guid=324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87";
    let Some((_vm, mut serial)) = boot("256", &["-device", device]) else {
        return;
    };
    let at = "/sys/bus/acpi/devices/QEMU0003:00";
    assert_eq!(serial.run(&format!("cat {at}/hid")), "QEMU0003");
    assert_eq!(serial.run(&format!("cat {at}/path")), "\\_SB_.VGEN");
    let driver = serial.run(&format!("readlink {at}/driver"));
    assert!(driver.ends_with("/vmgenid"), "{driver}");
    // Where the method ADDR says: the first three fields have their low byte first.
    let read = "dd if=/dev/mem bs=1 skip=978984 count=16 2>/dev/null | od -An -tx1 | tr -d ' '";
    assert_eq!(serial.run(read), "af6e4e32d1d1f64bbf41b9bb6c91fb87");
}
