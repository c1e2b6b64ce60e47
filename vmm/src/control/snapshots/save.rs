//! Keeping the whole machine.

use api_spec::RunState;
use block::SnapshotDisk;
use devices::clock::Clock;

use super::Progress;
use super::disks::{self, Wanted};
use super::host::Host;
use super::state::StateWriter;
use crate::control::Control;
use crate::control::blockdev::{GraphWork, StateImage};
use crate::machine::saved::MachineConfig;
use crate::migration::host::{Broken, Stopped};
use crate::migration::ram::RamView;
use crate::migration::still;
use crate::process::errno;

/// The error of a job that a client cancelled.
const CANCELLED: &str = "Operation canceled";

/// A snapshot to make.
#[derive(Debug)]
pub struct Save {
    /// Its name.
    pub tag: String,
    /// Of which disks.
    pub disks: Wanted,
    /// It takes the place of one of the same name.
    pub replaces: bool,
}

/// The machine as it is kept.
struct Kept {
    config: MachineConfig,
    ram: RamView,
    stopped: Stopped,
    guest_ns: u64,
}

impl Save {
    /// Makes it. Blocks; the machine stands still meanwhile, and goes on as before.
    ///
    /// # Errors
    /// In QEMU's words. No disk has the snapshot then; one that was to be replaced is still there,
    /// unless it was that which failed.
    pub fn run(
        &self,
        host: &Host,
        graph: &mut GraphWork,
        progress: Progress,
    ) -> Result<(), String> {
        host.ask(Control::check_can_be_saved)??;
        graph.in_turn(|graph| {
            let all = graph.snapshot_disks(self.disks.nodes())?;
            disks::check_all_can(&all)?;
            graph.check_active(&all)?;
            if !self.replaces && all.iter().any(|disk| disks::has(disk, &self.tag)) {
                return Err(format!(
                    "Snapshot '{}' already exists in one or more devices",
                    self.tag
                ));
            }
            let state_disk = self.disks.state_disk(&all)?;
            let image = graph.state_image(state_disk)?;
            let held = host.hold(RunState::SaveVm)?;
            let before = held.before();
            let kept = host.ask(move |control| control.keep_machine(before))??;
            let size = self.write(host, graph, &image, &kept, progress)?;
            let made = graph.keep_machine(&all, &self.tag, kept.guest_ns, (state_disk, size));
            if made.is_err() {
                give_back(graph, &image);
            }
            drop(held);
            made?;
            forget_older(graph, &all, &self.tag)
        })
    }

    /// Writes the state beside the disk; gives the bytes.
    fn write(
        &self,
        host: &Host,
        graph: &GraphWork,
        image: &StateImage,
        kept: &Kept,
        progress: Progress,
    ) -> Result<u64, String> {
        let quiet = graph.quiet(image)?;
        let snapshots = image.snapshots()?;
        // What an earlier program left there would have to be copied.
        let dropped = snapshots.drop_vm_state();
        dropped.map_err(|error| error.to_string())?;
        let total = kept.ram.blocks.iter().map(|block| block.len).sum();
        let watch = |done: u64| progress(done.min(total), total) && !host.is_over();
        let writer = StateWriter::new(image.node(), host.mail());
        let mut writer = writer.map_err(|error| error.to_string())?;
        let written = still::write(&mut writer, &kept.config, &kept.ram, &kept.stopped, &watch);
        let finished = writer.finish();
        drop(quiet);
        let written = match (written, finished) {
            (Err(Broken::Cancelled), _) => Err(CANCELLED.to_owned()),
            (_, Err(error)) => Err(format!(
                "Cannot write the machine's state: {}",
                errno(&error)
            )),
            (Err(Broken::Failed(reason)), Ok(())) => Err(reason),
            (Ok(_), Ok(())) if !watch(total) => Err(CANCELLED.to_owned()),
            (Ok(size), Ok(())) => Ok(size),
        };
        if written.is_err() {
            give_back(graph, image);
        }
        written
    }
}

/// Gives back the clusters of a state that no snapshot has.
fn give_back(graph: &GraphWork, image: &StateImage) {
    let given = graph.quiet(image).and_then(|quiet| {
        let given = image.snapshots()?.drop_vm_state();
        drop(quiet);
        given.map_err(|error| error.to_string())
    });
    if let Err(error) = given {
        log::warn!("What was written of a snapshot stays in the image: {error}");
    }
}

/// The new one is there: those of the same name that were there before are not any more.
fn forget_older(graph: &mut GraphWork, disks: &[SnapshotDisk], tag: &str) -> Result<(), String> {
    let count = |disk: &SnapshotDisk| {
        let same = disk.snapshots.iter().filter(|there| there.name == tag);
        same.count()
    };
    let most = disks.iter().map(count).max().unwrap_or(0);
    for round in 0..most {
        let have: Vec<SnapshotDisk> = disks
            .iter()
            .filter(|disk| count(disk) > round)
            .cloned()
            .collect();
        graph.forget_machine(&have, tag)?;
    }
    Ok(())
}

impl Control {
    /// Refuses a machine that cannot be saved.
    fn check_can_be_saved(&mut self) -> Result<(), String> {
        self.check_stays()?;
        let machine = self.machine().map_err(|error| error.desc)?;
        match machine.migration_blockers().into_iter().next() {
            Some(blocker) => Err(blocker),
            None => Ok(()),
        }
    }

    /// Refuses a machine that is on its way to elsewhere.
    pub(super) fn check_stays(&self) -> Result<(), String> {
        match self.is_migrating() {
            true => Err("There's a migration process in progress".to_owned()),
            false => Ok(()),
        }
    }

    /// Everything of a machine that stands still, and did `state` before.
    fn keep_machine(&mut self, state: RunState) -> Result<Kept, String> {
        // One may have begun before the machine stood still.
        self.check_stays()?;
        let none = || "There is no machine".to_owned();
        let machine = self.machine.as_mut().ok_or_else(none)?;
        Ok(Kept {
            config: machine.config(),
            ram: machine.ram_view(),
            stopped: Stopped {
                state,
                sections: machine.save()?,
            },
            guest_ns: machine.clock().now_ns(),
        })
    }
}
