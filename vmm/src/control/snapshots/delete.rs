//! Forgetting a snapshot of the machine.

use super::disks;
use crate::control::blockdev::GraphWork;

/// Forgets it on all disks, or on those of these nodes.
///
/// # Errors
/// In QEMU's words; disks before the one that failed have forgotten it.
pub fn run(graph: &mut GraphWork, tag: &str, nodes: Option<&[String]>) -> Result<(), String> {
    graph.in_turn(|graph| {
        let all = graph.snapshot_disks(nodes)?;
        disks::check_all_can(&all)?;
        graph.check_active(&all)?;
        graph.forget_machine(&all, tag)
    })
}
