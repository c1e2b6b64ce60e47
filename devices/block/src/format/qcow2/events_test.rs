//! Errors at each step of an allocation: what was flushed before is there, and nothing is damaged.

use std::process::Command;

use super::tests::{create, opener};
use crate::file::{Aio, FileSpec, Locking};
use crate::filter::{BlkdebugSpec, Event, InjectError};
use crate::graph::{ChildSpec, DriverSpec, FormatKind, FormatSpec, Graph, NodeSpec};
use crate::node::NodeExt;
use crate::pool::test_pool;

const CLUSTER: u64 = 4096;

#[test]
fn an_error_at_any_step_damages_nothing() {
    let mut seen = 0;
    for event in [
        Event::ClusterAlloc,
        Event::L2AllocWrite,
        Event::L2Load,
        Event::L2Update,
        Event::L1Update,
        Event::RefblockLoad,
        Event::RefblockAlloc,
        Event::RefblockAllocWriteBlocks,
        Event::RefblockUpdatePart,
        Event::ReftableUpdate,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.qcow2");
        create(&path, "cluster_size=4096,refcount_bits=64", 64 << 20);
        let file = NodeSpec::new(DriverSpec::File(FileSpec {
            filename: path.to_str().unwrap().to_owned(),
            aio: Aio::Threads,
            locking: Locking::Auto,
        }));
        let inject = InjectError {
            once: true,
            ..InjectError::new(event)
        };
        let debug = NodeSpec::new(DriverSpec::Blkdebug {
            image: Box::new(ChildSpec::Inline(file)),
            spec: BlkdebugSpec {
                inject: vec![inject],
                ..BlkdebugSpec::default()
            },
        });
        let format = FormatSpec::new(FormatKind::Qcow2, ChildSpec::Inline(debug));
        let spec = NodeSpec::new(DriverSpec::Format(format)).named("q");
        let graph = Graph::new(test_pool());
        let mut failed = graph.add(spec, &mut opener).is_err();
        if let Some(node) = graph.find("q") {
            let mut kept = Vec::new();
            // Far apart, so that there are many tables; and more than a refcount block has.
            for index in 0..1200u64 {
                let at = (index * 13 % 16000) * CLUSTER + 512 * (index % 4);
                match node.write_at(at, &[index as u8; 512]) {
                    Ok(()) => kept.push((at, index as u8)),
                    Err(_) => failed = true,
                }
                if index % 100 == 0 {
                    failed |= node.flush().is_err();
                }
            }
            failed |= node.flush().is_err();
            // Only the first request failed: what was kept is written now.
            let flushed = node.flush();
            assert!(flushed.is_ok(), "{event:?}: {flushed:?}");
            for (at, byte) in kept {
                let mut data = [0; 512];
                node.read_at(at, &mut data).unwrap();
                assert_eq!(data, [byte; 512], "{event:?} at {at}");
            }
        }
        // Some errors the driver gets over by itself.
        seen += u32::from(failed);
        drop(graph.del("q"));
        let checked = Command::new("qemu-img")
            .args(["check", "-f", "qcow2"])
            .arg(&path)
            .output()
            .unwrap();
        // Leaks are allowed.
        let code = checked.status.code();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(matches!(code, Some(0 | 3)), "{event:?}: {said}");
    }
    assert!(seen >= 5, "{seen} errors reached the user");
}
