//! Machines that are made from one file.

use serde_json::{Value, json};
use tests::binary::is_stand_in;
use tests::migrate::{arrive, enable, go};
use tests::{Vm, VmBuilder};

const SAVED: &str = "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87";
const CHOSEN: &str = "11111111-2222-3333-4444-555555555555";

fn machine(id: &str, incoming: bool) -> Vm {
    let device = format!("vmgenid,id=g,guid={id}");
    let builder = VmBuilder::new().args([
        "-machine", "q35", "-accel", "qtest", "-m", "16", "-device", &device,
    ]);
    match incoming {
        true => builder.args(["-incoming", "defer"]).start(),
        false => builder.start(),
    }
}

/// The generation id of a machine made from the file, which was given this one.
fn generation(uri: &str, given: &str, how: &str) -> Value {
    let mut vm = machine(given, true);
    enable(&mut vm, &["mapped-ram"]);
    vm.exec("migrate-incoming", json!({"uri": uri, "ram-load": how}));
    arrive(&mut vm);
    let info = vm.query("query-vm-generation-id");
    vm.quit();
    info["guid"].clone()
}

#[test]
fn each_gets_a_generation_id_of_its_own() {
    if is_stand_in() {
        return;
    }
    let mut source = machine(SAVED, false);
    let uri = format!("file:{}", source.path("state").display());
    enable(&mut source, &["mapped-ram"]);
    go(&mut source, &uri);
    // The machine itself, which goes on.
    assert_eq!(generation(&uri, CHOSEN, "read"), SAVED);
    assert_eq!(generation(&uri, CHOSEN, "map"), CHOSEN);
    let drawn = [(); 2].map(|()| generation(&uri, SAVED, "map"));
    assert!(
        drawn[0] != drawn[1] && drawn.iter().all(|id| id != SAVED),
        "{drawn:?}"
    );
}
