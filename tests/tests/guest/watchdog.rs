//! The watchdog, with Linux's driver.

use serde_json::json;
use tests::seconds;

use crate::{boot, wait};

#[test]
fn a_guest_that_stops_feeding_is_reset() {
    let Some((mut vm, mut serial)) = boot("256", &["-device", "i6300esb"]) else {
        return;
    };
    // Half a minute by default.
    serial.run("rmmod i6300esb; insmod /modules/i6300esb.ko heartbeat=4");
    let device = serial.run("ls /dev/watchdog* | head -n1");
    assert!(device.starts_with("/dev/watchdog"), "{device}");
    // Opening it arms it; nobody says that closing it was meant.
    serial.run("echo 1 > /dev/watchdog");
    vm.qmp().set_limit(seconds(120));
    let told = vm.qmp().event("WATCHDOG");
    assert_eq!(told["data"], json!({"action": "reset"}));
    let reset = vm.qmp().event("RESET");
    assert_eq!(reset["data"]["reason"], "guest-reset");
    wait(&mut serial);
}
