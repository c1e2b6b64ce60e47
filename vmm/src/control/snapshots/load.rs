//! Taking the whole machine back.

use std::cell::{Cell, RefCell};

use api_spec::RunState;
use block::SnapshotDisk;

use super::Progress;
use super::disks::{self, Wanted};
use super::host::{Held, Host};
use super::state::StateReader;
use crate::control::Control;
use crate::control::blockdev::{GraphWork, StateImage};
use crate::control::life::Release;
use crate::machine::saved::MachineConfig;
use crate::migration::host::Stopped;
use crate::migration::ram::RamView;
use crate::migration::still;

/// A snapshot to go back to.
#[derive(Debug)]
pub struct Load {
    /// Its name.
    pub tag: String,
    /// Of which disks.
    pub disks: Wanted,
    /// The machine has not run yet in this program.
    pub at_start: bool,
}

impl Load {
    /// Goes back. Blocks; the machine stands still meanwhile, and goes on from there as it did
    /// before. What it did before when the snapshot was made does not matter.
    ///
    /// # Errors
    /// In QEMU's words. The machine is as before, or it says that it cannot go on.
    pub fn run(
        &self,
        host: &Host,
        graph: &mut GraphWork,
        progress: Progress,
    ) -> Result<(), String> {
        graph.in_turn(|graph| {
            let all = graph.snapshot_disks(self.disks.nodes())?;
            disks::check_all_can(&all)?;
            graph.check_active(&all)?;
            let missing = all.iter().any(|disk| !disks::has(disk, &self.tag));
            if missing && !all.is_empty() {
                return Err(format!(
                    "Snapshot '{}' does not exist in one or more devices",
                    self.tag
                ));
            }
            let state_disk = self.disks.state_disk(&all)?;
            let (id, size) = self.state_of(state_disk)?;
            let image = graph.state_image(state_disk)?;
            self.load(host, graph, &all, (&image, &id, size), progress)
        })
    }

    /// The snapshot's id and bytes of machine state.
    fn state_of(&self, disk: &SnapshotDisk) -> Result<(String, u64), String> {
        let mut all = disk.snapshots.iter();
        match all.find(|there| there.name == self.tag) {
            Some(view) if view.vm_state_size > 0 => Ok((view.id.clone(), view.vm_state_size)),
            Some(_) | None => {
                Err("This is a disk-only snapshot. Revert to it offline using qemu-img".to_owned())
            }
        }
    }

    fn load(
        &self,
        host: &Host,
        graph: &mut GraphWork,
        all: &[SnapshotDisk],
        (image, id, total): (&StateImage, &str, u64),
        progress: Progress,
    ) -> Result<(), String> {
        let ram = host.ask(Control::ram_to_load)??;
        let state = image.snapshots()?.read_vm_state(id);
        let mut reader = StateReader {
            state: state.map_err(|error| error.to_string())?,
            done: 0,
            total,
            progress,
        };
        let gate = Gate::new(host);
        let read = still::read(&mut reader, &ram, &|config| gate.open(config));
        drop(reader);
        let (held, opened) = gate.pass();
        let stopped = match read {
            Ok(stopped) => stopped,
            Err(broken) if !opened => return Err(broken.to_string()),
            Err(broken) => return Err(lost(held, &broken.to_string())),
        };
        let at_start = self.at_start;
        // Disks last: a state that cannot be read leaves them alone.
        let back = graph
            .return_machine(all, &self.tag)
            .and_then(|()| host.ask(move |control| control.put_machine(stopped, at_start))?);
        match (back, held) {
            (Ok(()), Some(mut held)) => {
                held.set_release(goes_on(held.before()));
                Ok(())
            }
            (Ok(()), None) => Ok(()),
            (Err(error), held) => Err(lost(held, &error)),
        }
    }
}

/// Where RAM is read from what is only looked at becomes what is.
struct Gate<'a> {
    host: &'a Host,
    held: RefCell<Option<Held<'a>>>,
    opened: Cell<bool>,
}

impl<'a> Gate<'a> {
    fn new(host: &'a Host) -> Self {
        Gate {
            host,
            held: RefCell::new(None),
            opened: Cell::new(false),
        }
    }

    /// Has the machine stand still if it is one like this.
    fn open(&self, config: &MachineConfig) -> Result<(), String> {
        let check = || {
            let config = config.clone();
            self.host.ask(move |control| control.compare(&config))?
        };
        check()?;
        *self.held.borrow_mut() = Some(self.host.hold(RunState::RestoreVm)?);
        // Devices may have come meanwhile.
        check()?;
        self.opened.set(true);
        Ok(())
    }

    /// The machine, and whether its RAM may have changed.
    fn pass(self) -> (Option<Held<'a>>, bool) {
        (self.held.into_inner(), self.opened.get())
    }
}

/// The machine is neither what it was nor what it was to be.
fn lost(held: Option<Held>, error: &str) -> String {
    if let Some(mut held) = held {
        held.set_release(Release::Stay(RunState::InternalError));
    }
    log::error!("The machine cannot go on: a snapshot was loaded in part: {error}");
    format!("{error}; the machine is in state 'internal-error'")
}

/// Whatever had become of the machine, it is well again.
fn goes_on(before: RunState) -> Release {
    match before {
        RunState::Running | RunState::Prelaunch | RunState::Paused => Release::Back,
        _ => Release::Stay(RunState::Paused),
    }
}

impl Control {
    fn ram_to_load(&mut self) -> Result<RamView, String> {
        self.check_stays()?;
        let machine = self.machine().map_err(|error| error.desc)?;
        Ok(machine.ram_view())
    }

    /// Refuses what is not this machine, or a machine that cannot be changed now. Asked again when
    /// it stands still: from then on nothing changes.
    fn compare(&mut self, config: &MachineConfig) -> Result<(), String> {
        self.check_stays()?;
        let machine = self.machine().map_err(|error| error.desc)?;
        machine.check_config(config)
    }

    /// Puts the state of devices in, and tells the guest that it begins another life.
    fn put_machine(&mut self, stopped: Stopped, at_start: bool) -> Result<(), String> {
        let none = || "There is no machine".to_owned();
        let machine = self.machine.as_mut().ok_or_else(none)?;
        machine.restore_copy(stopped.sections, at_start)
    }
}
