//! Snapshots of the whole machine. One disk's image takes the state of RAM and devices; each disk
//! keeps its content beside it. All is done on a thread of its own, a job's or a worker's, which
//! asks control for what is control's.
//!
//! ```text
//! save:  checks -> hold -> gather state -> write state -> snapshot all disks -> release
//! load:  checks, state's beginning -> hold -> read RAM -> all disks back -> devices -> release
//! ```
//! Until disks have their snapshots a failed save leaves everything as it was. Until RAM is read
//! a failed load does; afterwards the machine cannot go on.

mod delete;
mod disks;
mod host;
mod load;
mod save;
mod state;
mod text;

use std::collections::VecDeque;
use std::sync::mpsc::{TryRecvError, channel};

use api_spec::{JobType, QmpResult, Reply, SnapshotDeleteArgs, SnapshotLoadArgs, SnapshotSaveArgs};

use super::Control;
use super::blockdev::GraphWork;
use super::hmp::{self, SnapshotLine};
use super::jobs::{Behaviour, Body, JobSpec};
use crate::process::errno;
use disks::Wanted;
pub(super) use host::End;
use host::Host;
use load::Load;
use save::Save;

/// Told of bytes done and bytes in all; false to end.
type Progress<'a> = &'a dyn Fn(u64, u64) -> bool;

/// How jobs about snapshots behave, as QEMU's do.
const BEHAVIOUR: Behaviour = Behaviour {
    auto_finalize: true,
    auto_dismiss: false,
    completable: false,
};

impl Control {
    /// snapshot-save.
    ///
    /// # Errors
    /// When the job's name is none or taken.
    pub(super) fn save_snapshot(&mut self, args: SnapshotSaveArgs) -> QmpResult<()> {
        let SnapshotSaveArgs {
            job_id,
            tag,
            vmstate,
            devices,
        } = args;
        let save = Save {
            tag,
            disks: Wanted::named(vmstate, devices),
            replaces: false,
        };
        self.snapshot_job(
            job_id,
            JobType::SnapshotSave,
            move |host, graph, progress| save.run(host, graph, progress),
        )
    }

    /// snapshot-load.
    ///
    /// # Errors
    /// When the job's name is none or taken.
    pub(super) fn load_snapshot(&mut self, args: SnapshotLoadArgs) -> QmpResult<()> {
        let SnapshotLoadArgs {
            job_id,
            tag,
            vmstate,
            devices,
        } = args;
        let load = Load {
            tag,
            disks: Wanted::named(vmstate, devices),
            at_start: false,
        };
        self.snapshot_job(
            job_id,
            JobType::SnapshotLoad,
            move |host, graph, progress| load.run(host, graph, progress),
        )
    }

    /// snapshot-delete.
    ///
    /// # Errors
    /// When the job's name is none or taken.
    pub(super) fn delete_snapshot(&mut self, args: SnapshotDeleteArgs) -> QmpResult<()> {
        let SnapshotDeleteArgs {
            job_id,
            tag,
            devices,
        } = args;
        self.snapshot_job(job_id, JobType::SnapshotDelete, move |_, graph, _| {
            delete::run(graph, &tag, Some(&devices))
        })
    }

    fn snapshot_job(
        &mut self,
        id: String,
        kind: JobType,
        work: impl FnOnce(&Host, &mut GraphWork, Progress) -> Result<(), String> + Send + 'static,
    ) -> QmpResult<()> {
        let (host, mut graph) = self.snapshot_tools();
        let body: Body = Box::new(move |cx| {
            let progress = |done: u64, total: u64| {
                let (before, _) = cx.progress();
                cx.advance(done.saturating_sub(before));
                cx.set_remaining(total.saturating_sub(done));
                !cx.is_cancelled()
            };
            work(&host, &mut graph, &progress).map(|()| None)
        });
        let spec = JobSpec {
            id,
            kind,
            behaviour: BEHAVIOUR,
        };
        self.start_job(spec, body)
    }

    /// savevm, loadvm, delvm: answered when done.
    pub(super) fn run_snapshot(&mut self, line: SnapshotLine, reply: Reply<String>) {
        let (host, mut graph) = self.snapshot_tools();
        let work = move || {
            let unwatched = |_, _| true;
            match line {
                SnapshotLine::Save { tag } => {
                    let save = Save {
                        tag: tag.unwrap_or_else(text::name_for_now),
                        disks: Wanted::All,
                        replaces: true,
                    };
                    save.run(&host, &mut graph, &unwatched)
                }
                SnapshotLine::Load { tag } => {
                    let load = Load {
                        tag,
                        disks: Wanted::All,
                        at_start: false,
                    };
                    load.run(&host, &mut graph, &unwatched)
                }
                SnapshotLine::Delete { tag } => delete::run(&mut graph, &tag, None),
            }
        };
        self.answer_slowly(reply, work, |_, result| {
            let text = result.map_or_else(|error| format!("Error: {error}\n"), |()| String::new());
            Ok(hmp::wire(&text))
        });
    }

    /// `-loadvm`: takes a machine that has not run yet back to a snapshot. Nobody is served but
    /// the thread that does it.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn load_first(&mut self, tag: String) -> Result<(), String> {
        let (host, mut graph) = self.snapshot_tools();
        let underway = self.unfinished.begin();
        let work = move || {
            let load = Load {
                tag,
                disks: Wanted::All,
                at_start: true,
            };
            let result = load.run(&host, &mut graph, &|_, _| true);
            drop(underway);
            result
        };
        let (sender, receiver) = channel();
        let told = move |_: &mut Control, result| {
            // Still waited for, unless the program ends.
            let _ = sender.send(result);
        };
        self.do_slowly(work, told)
            .map_err(|error| format!("Cannot start a thread: {}", errno(&error)))?;
        let mut mail = VecDeque::new();
        loop {
            match receiver.try_recv() {
                Ok(result) => return result,
                // How it ended is for others to see.
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) if self.exit.is_some() => return Ok(()),
                Err(TryRecvError::Empty) => self.serve(&mut mail),
            }
        }
    }

    fn snapshot_tools(&self) -> (Host, GraphWork) {
        let host = Host::new(self.mail.clone(), self.snapshots.clone());
        (host, self.blockdevs.work(self.fds.opener(), 0))
    }
}
