//! The examples of docs/migration.md, replayed in their order: each block says whose they are.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use tests::binary::is_stand_in;
use tests::{Vm, VmBuilder, disk};

use crate::manual::{play, steps};

const PAGE: &str = include_str!("../../../docs/migration.md");
const FENCE: &str = "```json ";

#[test]
fn examples_of_the_page_about_migration() {
    if is_stand_in() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let here = directory.path().to_str().expect("a path of UTF-8");
    let page = PAGE.replace("/run/vm", here);
    let mut machines: BTreeMap<&str, Vm> = BTreeMap::new();
    let blocks: Vec<&str> = page.split(FENCE).skip(1).collect();
    assert_eq!(blocks.len(), 10, "they are found");
    for block in blocks {
        let (whose, text) = block.split_once('\n').expect("lines");
        let vm = machines
            .entry(whose)
            .or_insert_with(|| start(whose, directory.path()));
        let (text, _) = text.split_once("```").expect("the end of the block");
        for step in steps(&format!("```json\n{text}```\n")) {
            play(vm.qmp(), &step);
        }
    }
    for whose in ["target", "second", "again"] {
        let vm = machines.get_mut(whose).expect("it is on the page");
        vm.assert_alive();
    }
}

fn start(whose: &str, directory: &Path) -> Vm {
    match whose {
        "source" | "first" | "other" => VmBuilder::new().idle().start(),
        "target" | "again" => {
            let builder = VmBuilder::new().idle();
            builder.args(["-incoming", "defer"]).start()
        }
        "second" => {
            let builder = VmBuilder::new().stopped();
            builder.args(["-incoming", "defer"]).start()
        }
        "kept" => {
            let image = image(directory);
            let builder = VmBuilder::new().idle().args(["-blockdev", &image]);
            builder
                .args(["-device", "virtio-blk-pci,drive=disk0"])
                .start()
        }
        other => panic!("nobody is called {other}"),
    }
}

/// A disk that can hold snapshots, as a node.
fn image(directory: &Path) -> String {
    let path = disk::raw(directory, "kept.qcow2", 0);
    let file = json!({"driver": "file", "filename": path});
    let mut maker = Vm::none();
    let options = json!({"driver": "qcow2", "size": 16 << 20, "file": file});
    maker.exec(
        "blockdev-create",
        json!({"job-id": "make", "options": options}),
    );
    let ended = |event: &Value| event["data"]["status"] == "concluded";
    while !ended(&maker.qmp().event("JOB_STATUS_CHANGE")) {}
    assert_eq!(maker.query("query-jobs")[0]["error"], Value::Null);
    json!({"driver": "qcow2", "node-name": "disk0", "file": file}).to_string()
}
