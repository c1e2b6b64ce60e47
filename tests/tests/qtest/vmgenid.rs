//! The generation id, as the monitor sees it.

use serde_json::json;
use tests::VmBuilder;

const GUID: &str = "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87";

#[test]
fn it_is_given_or_random() {
    let device = format!("vmgenid,id=g,guid={GUID}");
    let args = ["-device", &device];
    let mut vm = VmBuilder::new().stopped().args(args).start();
    let answer = vm.query("query-vm-generation-id");
    assert_eq!(answer, json!({"guid": GUID}));
    assert_eq!(vm.qmp().hmp("info vm-generation-id"), format!("{GUID}\r\n"));
    let path = "/machine/peripheral/g";
    let property = json!({"path": path, "property": "guid"});
    assert_eq!(vm.qmp().exec("qom-get", property), GUID);
    let refused = vm.qmp().refused(
        "qom-set",
        json!({"path": path, "property": "guid", "value": "auto"}),
    );
    let text =
        "Attempt to set property 'guid' on device 'g' (type 'vmgenid') after it was realized";
    assert_eq!(refused.desc, text);
    let random = || {
        let args = ["-device", "vmgenid"];
        let mut vm = VmBuilder::new().stopped().args(args).start();
        vm.query("query-vm-generation-id")["guid"].clone()
    };
    assert_ne!(random(), random());
}

#[test]
fn refusals() {
    let mut vm = VmBuilder::new().stopped().start();
    let refused = vm.qmp().refused("query-vm-generation-id", json!({}));
    assert_eq!(refused.desc, "VM Generation ID device not found");
    let text = "Error: VM Generation ID device not found\r\n";
    assert_eq!(vm.qmp().hmp("info vm-generation-id"), text);
    let refused = vm.qmp().refused("device_add", json!({"driver": "vmgenid"}));
    let text = "Device 'vmgenid' does not support hotplugging";
    assert_eq!(refused.desc, text);
    for (args, text) in [
        (
            &["-device", "vmgenid", "-device", "vmgenid"][..],
            "at most one vmgenid device is permitted",
        ),
        (
            &["-device", "vmgenid,guid=xx"],
            "Property 'vmgenid.guid' doesn't take value 'xx'",
        ),
    ] {
        let exit = VmBuilder::new().stopped().args(args).run();
        exit.assert_refused().assert_says(text);
    }
}
