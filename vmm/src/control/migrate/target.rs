//! A machine comes: what control does for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use api_spec::{
    MigrateIncomingArgs, MigrationCapability, MigrationRamLoad, MigrationStatus, QmpError,
    QmpResult, RunState,
};

use super::address::Address;
use super::ask::{Answer, Line};
use super::listen::Door;
use super::query::Progress;
use crate::control::Control;
use crate::control::life::{Input, Release};
use crate::control::yank::YankPlace;
use crate::machine::saved::MachineConfig;
use crate::migration::host::{Broken, Cancel, Counters, Stopped, TargetHost};
use crate::migration::ram::RamView;
use crate::migration::target::{RamLoad, Target};
use crate::migration::wire::refuse;
use crate::process::errno;
use crate::threads::{self, ThreadKind};

/// A machine that is to come.
#[derive(Default)]
pub(super) struct Receiving {
    /// The wait for it has begun, or is over: there is one in the life of a program.
    begun: bool,
    exit_on_error: bool,
    /// There may be others from where it comes.
    is_copy: bool,
    cancel: Option<Cancel>,
    yanked: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<()>>>,
    yank: Option<YankPlace>,
}

impl Receiving {
    /// Ends it, and waits for its thread.
    pub fn shut_down(&mut self) {
        if let Some(cancel) = &self.cancel {
            cancel.cancel();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where a machine is to come from.
struct Origin {
    address: Address,
    /// The program ends when it fails.
    exit_on_error: bool,
    ram_load: MigrationRamLoad,
}

impl Control {
    /// migrate-incoming.
    ///
    /// # Errors
    /// When no machine is expected, or one is waited for already; when nothing can come that way.
    pub(in crate::control) fn migrate_in(
        &mut self,
        monitor: u32,
        args: MigrateIncomingArgs,
    ) -> QmpResult<()> {
        if self.migrate.receiving.begun {
            return Err(QmpError::generic(
                "The incoming migration has already been started",
            ));
        }
        if self.life.state() != RunState::Inmigrate {
            return Err(QmpError::generic(
                "'-incoming' was not specified on the command line",
            ));
        }
        let address = Address::of(args.uri.as_deref(), args.channels.as_deref())?;
        let origin = Origin {
            address,
            exit_on_error: args.exit_on_error.unwrap_or(true),
            ram_load: args.ram_load.unwrap_or(MigrationRamLoad::Read),
        };
        self.begin_receiving(monitor, origin)
    }

    /// `-incoming`, where it names a way.
    ///
    /// # Errors
    /// When nothing can come that way.
    pub fn receive_at_start(
        &mut self,
        address: Address,
        ram_load: MigrationRamLoad,
    ) -> QmpResult<()> {
        // Named descriptors come through monitors only.
        self.begin_receiving(
            0,
            Origin {
                address,
                exit_on_error: true,
                ram_load,
            },
        )
    }

    fn begin_receiving(&mut self, monitor: u32, origin: Origin) -> QmpResult<()> {
        origin.address.check(&self.migrate.settings)?;
        origin.address.check_ram_load(origin.ram_load)?;
        let fail = |error: std::io::Error| {
            QmpError::generic(format!("Cannot begin a migration: {}", errno(&error)))
        };
        let ram = self.machine()?.ram_view();
        let door = Door::inward(origin.address, &mut self.fds, monitor, &self.launcher)?;
        let cancel = Cancel::new().map_err(fail)?;
        let counters = Arc::<Counters>::default();
        let line = Line::new(self.mail.clone(), self.migrate.gone()?);
        let at = door.listens_at();
        let yanked = self.migrate.receiving.yanked.clone();
        let yank = door.is_socket().then(|| {
            let cancel = cancel.clone();
            let yanker = Box::new(move || {
                yanked.store(true, Ordering::SeqCst);
                cancel.cancel();
            });
            self.published.yanks().add_migration(yanker)
        });
        let parts = Parts {
            door,
            ram,
            ram_load: match origin.ram_load {
                MigrationRamLoad::Read => RamLoad::Read,
                MigrationRamLoad::Map => RamLoad::Map,
            },
            counters,
            cancel: cancel.clone(),
        };
        let body = move || {
            let arrived = parts.receive(&line);
            line.tell(move |control| control.receiving_ended(arrived));
        };
        let mail = Some(self.mail.clone());
        let thread = threads::spawn(ThreadKind::Migration, "incoming", mail, body).map_err(fail)?;
        let receiving = &mut self.migrate.receiving;
        receiving.begun = true;
        receiving.exit_on_error = origin.exit_on_error;
        receiving.is_copy = origin.ram_load == MigrationRamLoad::Map;
        receiving.cancel = Some(cancel);
        receiving.thread = Some(thread);
        receiving.yank = yank;
        self.migrate.progress = Progress {
            status: MigrationStatus::None,
            ..Progress::incoming(at.into_iter().collect(), Instant::now())
        };
        self.tell_migration(MigrationStatus::Setup);
        Ok(())
    }

    fn receiving_ended(&mut self, arrived: Result<RunState, Broken>) {
        let receiving = &mut self.migrate.receiving;
        if let Some(thread) = receiving.thread.take() {
            // It has said its last word.
            let _ = thread.join();
        }
        receiving.yank = None;
        self.migrate.progress.listening.clear();
        if let Err(why) = arrived {
            self.has_not_arrived(&why);
        }
    }

    /// The other side let go of the machine: it goes on here. At once, without another turn by the
    /// thread that brought it, because nobody runs it meanwhile.
    fn take_over(&mut self, answer: Answer<Result<(), String>>) {
        if self.disks_can_wait() {
            self.arrives();
            return answer.give(Ok(()));
        }
        self.activate_disks(move |control, done| {
            if done.is_ok() {
                control.arrives();
            }
            answer.give(done);
        });
    }

    fn arrives(&mut self) {
        let Some(state) = self.migrate.arriving.take() else {
            return;
        };
        self.migrate.to_announce = true;
        self.migrate.receiving.yank = None;
        self.migrate.progress.listening.clear();
        self.feed(Input::Release(Release::Arrived(state)));
        self.tell_migration(MigrationStatus::Completed);
    }

    /// The machine runs, for the first time since it came: the network learns where it is.
    pub(in crate::control) fn announce_arrival(&mut self) {
        if std::mem::take(&mut self.migrate.to_announce) {
            self.announce(self.migrate.settings.announcement());
        }
    }

    fn has_not_arrived(&mut self, why: &Broken) {
        let yanked = self.migrate.receiving.yanked.load(Ordering::SeqCst);
        let why = match why {
            Broken::Cancelled if yanked => "The connection was broken by yank".to_owned(),
            other => other.to_string(),
        };
        let text = format!("load of migration failed: {why}");
        log::error!("{text}");
        self.migrate.progress.error.get_or_insert(text);
        self.tell_migration(MigrationStatus::Failed);
        if self.migrate.receiving.exit_on_error {
            self.exit = Some(1);
        }
    }

    fn load_machine(&mut self, stopped: Stopped) -> Result<(), String> {
        let machine = self.machine.as_mut();
        let machine = machine.ok_or_else(|| "There is no machine".to_owned())?;
        if !can_arrive(stopped.state) {
            let state = stopped.state.name();
            return Err(refuse("state", "state", &format!("'{state}' is passing")).to_string());
        }
        self.migrate.arriving = Some(stopped.state);
        match self.migrate.receiving.is_copy {
            true => machine.restore_copy(stopped.sections, true),
            false => machine.restore(stopped.sections),
        }
    }

    /// Whether the disks are left to the other side until `cont`.
    fn disks_can_wait(&self) -> bool {
        let runs = self.life.starts_by_itself() && self.migrate.arriving == Some(RunState::Running);
        self.migrate
            .settings
            .has(MigrationCapability::LateBlockActivate)
            && !runs
    }
}

/// Whether a machine can have been so when it was sent; the others are states of what is done
/// with machines.
fn can_arrive(state: RunState) -> bool {
    match state {
        RunState::Debug
        | RunState::InternalError
        | RunState::IoError
        | RunState::Paused
        | RunState::Prelaunch
        | RunState::Running
        | RunState::Shutdown
        | RunState::Suspended
        | RunState::Watchdog
        | RunState::GuestPanicked => true,
        RunState::Inmigrate
        | RunState::Postmigrate
        | RunState::FinishMigrate
        | RunState::RestoreVm
        | RunState::SaveVm
        | RunState::Colo => false,
    }
}

/// What the thread needs.
struct Parts {
    door: Door,
    ram: RamView,
    ram_load: RamLoad,
    counters: Arc<Counters>,
    cancel: Cancel,
}

impl Parts {
    fn receive(self, line: &Line) -> Result<RunState, Broken> {
        let link = self
            .door
            .open(&crate::migration::wire::MAGIC, &self.cancel)?;
        line.tell(|control| control.tell_migration(MigrationStatus::Active));
        let mut program = link.program;
        let target = Target {
            main: link.main,
            more: link.more,
            ram: self.ram,
            ram_load: self.ram_load,
            counters: self.counters,
            cancel: self.cancel,
            host: Box::new(Host { line: line.clone() }),
        };
        let arrived = target.run();
        match (&arrived, &mut program) {
            // Its own failure says more than that there is nothing more to read.
            (Err(Broken::Failed(_)), Some(program)) => match program.verdict_soon() {
                Some(Err(own)) => Err(Broken::Failed(own)),
                _ => arrived,
            },
            _ => arrived,
        }
    }
}

/// Control, as the thread sees it.
struct Host {
    line: Line,
}

impl TargetHost for Host {
    fn check(&mut self, config: &MachineConfig) -> Result<(), String> {
        let config = config.clone();
        let ask = move |control: &mut Control, answer: Answer<Result<(), String>>| {
            answer.give(match &control.machine {
                Some(machine) => machine.check_config(&config),
                None => Err("There is no machine".to_owned()),
            });
        };
        self.line.ask(ask).map_err(|why| why.to_string())?
    }

    fn load(&mut self, stopped: Stopped) -> Result<(), String> {
        let ask = move |control: &mut Control, answer: Answer<Result<(), String>>| {
            answer.give(control.load_machine(stopped));
        };
        self.line.ask(ask).map_err(|why| why.to_string())?
    }

    fn activate(&mut self) -> Result<(), String> {
        let ask = Control::take_over;
        self.line.ask(ask).map_err(|why| why.to_string())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_what_is_done_with_machines_do_not_come() {
        let passing: Vec<&str> = RunState::ALL
            .iter()
            .filter(|state| !can_arrive(**state))
            .map(|state| state.name())
            .collect();
        let wanted = [
            "inmigrate",
            "postmigrate",
            "finish-migrate",
            "restore-vm",
            "save-vm",
            "colo",
        ];
        assert_eq!(passing, wanted);
    }
}
