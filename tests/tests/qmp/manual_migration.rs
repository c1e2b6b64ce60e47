//! The examples of docs/migration.md, replayed in their order: each block says whose they are.

use std::collections::BTreeMap;

use tests::binary::is_stand_in;
use tests::{Vm, VmBuilder};

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
    assert_eq!(blocks.len(), 5, "they are found");
    for block in blocks {
        let (whose, text) = block.split_once('\n').expect("lines");
        let vm = machines.entry(whose).or_insert_with(|| start(whose));
        let (text, _) = text.split_once("```").expect("the end of the block");
        for step in steps(&format!("```json\n{text}```\n")) {
            play(vm.qmp(), &step);
        }
    }
    for whose in ["target", "again"] {
        let vm = machines.get_mut(whose).expect("it is on the page");
        vm.assert_alive();
    }
}

fn start(whose: &str) -> Vm {
    match whose {
        "source" | "other" => VmBuilder::new().idle().start(),
        "target" | "again" => {
            let builder = VmBuilder::new().idle();
            builder.args(["-incoming", "defer"]).start()
        }
        other => panic!("nobody is called {other}"),
    }
}
