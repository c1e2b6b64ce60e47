//! A machine goes: what control does for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use api_spec::{
    Event, MigrateArgs, MigrationCapability, MigrationStatus, QmpError, QmpResult, RunState,
};

use super::address::Address;
use super::ask::{Answer, Line};
use super::query::Progress;
use super::state::{Action, Input, Outgoing};
use super::transport::Route;
use crate::control::Control;
use crate::control::life::{self, Release};
use crate::control::yank::YankPlace;
use crate::event::Mail;
use crate::machine::saved::MachineConfig;
use crate::migration::host::{
    Broken, Cancel, Counters, SendOptions, SourceEnd, SourceHost, Stopped, Tunables,
};
use crate::migration::ram::{DirtyLog, RamView};
use crate::migration::source::Source;
use crate::process::errno;
use crate::threads::{self, ThreadKind};

const IN_PROGRESS: &str = "There's a migration process in progress";
const DUMPING: &str = "Live migration disabled: dump-guest-memory in progress";

/// The last machine that went, or the one that goes.
pub(super) struct Sending {
    state: Outgoing,
    /// Which one: what is said of one that is over is not heard.
    number: u64,
    cancel: Cancel,
    /// Somebody broke the connection on purpose.
    yanked: Arc<AtomicBool>,
    /// The thread waits until the machine stands still.
    stop: Option<Answer<Result<Stopped, Broken>>>,
    thread: Option<JoinHandle<Option<()>>>,
    yank: Option<YankPlace>,
}

impl Sending {
    pub fn is_running(&self) -> bool {
        self.state.is_running()
    }

    /// Ends it, and waits for its thread.
    pub fn shut_down(&mut self) {
        self.cancel.cancel();
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Control {
    /// migrate.
    ///
    /// # Errors
    /// When there is no such way, the machine cannot go, or another one is on its way. Whatever
    /// goes wrong later is told by query-migrate.
    pub(in crate::control) fn migrate_out(
        &mut self,
        monitor: u32,
        args: MigrateArgs,
    ) -> QmpResult<()> {
        let address = Address::of(args.uri.as_deref(), args.channels.as_deref())?;
        let options = self.migrate.settings.send_options()?;
        address.check(&self.migrate.settings)?;
        self.may_go(args.resume == Some(true))?;
        let route = Route::outward(address, &mut self.fds, monitor, &self.launcher)?;
        let machine = self.machine()?;
        let counters = Arc::<Counters>::default();
        let parts = Parts {
            route,
            config: machine.config(),
            ram: machine.ram_view(),
            log: machine.dirty_log(),
            options,
            tunables: self.migrate.settings.tunables(),
            counters: counters.clone(),
        };
        self.begin_sending(parts, counters)
    }

    fn may_go(&self, resume: bool) -> QmpResult<()> {
        let refuse = |text: &str| Err(QmpError::generic(text));
        if resume {
            return refuse("Cannot resume if there is no paused migration");
        }
        if self.is_migrating() {
            return refuse(IN_PROGRESS);
        }
        match self.life.state() {
            RunState::Inmigrate => return refuse("Guest is waiting for an incoming migration"),
            RunState::Postmigrate => {
                return refuse("Can't migrate the vm that was paused due to previous migration");
            }
            _ => {}
        }
        if self.dumps.is_under_way() {
            return refuse(DUMPING);
        }
        // Memory may be replaced under such a hold, and no log would tell.
        if let state @ (RunState::SaveVm | RunState::RestoreVm) = self.life.state() {
            let text = format!("The machine is in state '{}'", state.name());
            return Err(QmpError::generic(text));
        }
        if let Some(blocker) = self.machine()?.migration_blockers().into_iter().next() {
            return Err(QmpError::generic(blocker));
        }
        Ok(())
    }

    fn begin_sending(&mut self, parts: Parts, counters: Arc<Counters>) -> QmpResult<()> {
        let fail = |error: std::io::Error| {
            QmpError::generic(format!("Cannot begin a migration: {}", errno(&error)))
        };
        let cancel = Cancel::new().map_err(fail)?;
        let number = self.migrate.next_number();
        let line = Line::new(self.mail.clone(), self.migrate.gone()?);
        let host = Host {
            line: line.clone(),
            number,
            config: parts.config.clone(),
        };
        let yanked = Arc::new(AtomicBool::new(false));
        let by_socket = matches!(parts.route, Route::Tcp(_) | Route::Unix(_) | Route::Fd(_));
        let yank = by_socket.then(|| {
            let (yanked, cancel) = (yanked.clone(), cancel.clone());
            let yanker = Box::new(move || {
                yanked.store(true, Ordering::SeqCst);
                cancel.cancel();
            });
            self.published.yanks().add_migration(yanker)
        });
        let own = cancel.clone();
        let body = move || {
            let end = parts.send(host, &own);
            line.tell(move |control| control.sending_ended(number, end));
        };
        let limit = self.migrate.settings.parameters().downtime_limit;
        // Before the thread measures anything.
        let progress = Progress::outgoing(counters, limit, Instant::now());
        let mail = Some(self.mail.clone());
        let thread =
            threads::spawn(ThreadKind::Migration, "migration", mail, body).map_err(fail)?;
        self.migrate.progress = Progress {
            // That it begins is news.
            status: MigrationStatus::None,
            ..progress
        };
        let (state, actions) = Outgoing::begin();
        self.migrate.sending = Some(Sending {
            state,
            number,
            cancel,
            yanked,
            stop: None,
            thread: Some(thread),
            yank,
        });
        self.migration_act(actions);
        Ok(())
    }

    /// Whether a machine is on its way from here.
    pub(in crate::control) fn is_migrating(&self) -> bool {
        self.migrate
            .sending
            .as_ref()
            .is_some_and(Sending::is_running)
    }

    fn is_cancelling(&self) -> bool {
        let sending = self.migrate.sending.as_ref();
        sending.is_some_and(|sending| sending.state.status() == MigrationStatus::Cancelling)
    }

    /// migrate_cancel. Nothing when there is none.
    pub(in crate::control) fn cancel_migration(&mut self) {
        trace::point!(MIGRATE_CANCEL);
        self.outgoing(Input::Cancel);
    }

    /// migrate-continue.
    ///
    /// # Errors
    /// When the migration is not in that state.
    pub(in crate::control) fn continue_migration(
        &mut self,
        state: MigrationStatus,
    ) -> QmpResult<()> {
        let now = match &self.migrate.sending {
            Some(sending) => sending.state.status(),
            None => MigrationStatus::None,
        };
        if now != state || now != MigrationStatus::PreSwitchover {
            let text = format!("Migration not in expected state: {}", now.name());
            return Err(QmpError::generic(text));
        }
        self.outgoing(Input::Continue);
        Ok(())
    }

    /// Gives a migration up that is under way, because of what happened to the machine.
    pub(in crate::control) fn migration_fails(&mut self, why: &str) {
        let Some(sending) = &mut self.migrate.sending else {
            return;
        };
        if sending.is_running() && self.migrate.spoiled.is_none() {
            self.migrate.spoiled = Some(why.to_owned());
            sending.cancel.cancel();
        }
    }

    fn outgoing(&mut self, input: Input) {
        if let Some(sending) = &mut self.migrate.sending {
            let actions = sending.state.on(input);
            self.migration_act(actions);
        }
    }

    /// The same, as long as that one is the last.
    fn outgoing_of(&mut self, number: u64, input: Input) {
        let sending = self.migrate.sending.as_ref();
        if sending.is_some_and(|sending| sending.number == number) {
            self.outgoing(input);
        }
    }

    fn migration_act(&mut self, actions: Vec<Action>) {
        self.migrate.actions.extend(actions);
        self.migration_goes_on();
    }

    fn migration_goes_on(&mut self) {
        while !self.migrate.busy
            && let Some(action) = self.migrate.actions.pop_front()
        {
            self.migration_step(action);
        }
    }

    fn migration_step(&mut self, action: Action) {
        match action {
            Action::Tell(status) => self.tell_migration(status),
            Action::Blame(why) => {
                log::error!("{why}");
                self.migrate.progress.error = Some(why);
            }
            Action::Stopped => self.migrate.progress.guest_stopped(Instant::now()),
            Action::Hold => self.hold_for_migration(),
            Action::Save => {
                let stopped = self.stopped_machine();
                self.answer_stop(stopped.map_err(Broken::Failed));
            }
            Action::RefuseSave(why) => self.answer_stop(Err(why)),
            Action::Cancel => {
                if let Some(sending) = &self.migrate.sending {
                    sending.cancel.cancel();
                }
            }
            Action::Release(how) => self.let_go_on(how),
        }
    }

    /// The event goes to those who want it; query-migrate knows it in any case.
    pub(super) fn tell_migration(&mut self, status: MigrationStatus) {
        trace::point!(MIGRATE_SET_STATE, new_state = status.name());
        if self.migrate.progress.reach(status, Instant::now())
            && self.migrate.settings.has(MigrationCapability::Events)
        {
            self.emit(Event::Migration { status });
        }
    }

    fn hold_for_migration(&mut self) {
        let Some(number) = self.migrate.sending.as_ref().map(|sending| sending.number) else {
            return;
        };
        let mail = self.mail.clone();
        let ticket = self.ticket(Box::new(move |held| {
            let told = move |control: &mut Control| {
                let input = match held {
                    Ok(()) => Input::Still {
                        wait: (control.migrate.settings)
                            .has(MigrationCapability::PauseBeforeSwitchover),
                    },
                    Err(error) => Input::NotHeld(error.desc),
                };
                control.outgoing_of(number, input);
            };
            mail.send(Mail::Done(Box::new(told)));
        }));
        self.feed(life::Input::Hold(RunState::FinishMigrate, ticket));
    }

    fn stopped_machine(&mut self) -> Result<Stopped, String> {
        let state = self.life.state_beneath();
        let machine = self.machine.as_mut();
        let machine = machine.ok_or_else(|| "There is no machine".to_owned())?;
        Ok(Stopped {
            state,
            sections: machine.save()?,
        })
    }

    fn answer_stop(&mut self, answer: Result<Stopped, Broken>) {
        let sending = self.migrate.sending.as_mut();
        if let Some(waiting) = sending.and_then(|sending| sending.stop.take()) {
            waiting.give(answer);
        }
    }

    /// Whoever goes on here needs its disks.
    fn let_go_on(&mut self, how: Release) {
        if how != Release::Back || !self.blockdevs.any_inactive() {
            return self.feed(life::Input::Release(how));
        }
        self.migrate.busy = true;
        self.activate_disks(|control, activated| {
            control.migrate.busy = false;
            let how = match activated {
                Ok(()) => Release::Back,
                Err(why) => {
                    let text = format!("The disks cannot be used any more: {why}");
                    log::error!("{text}");
                    control.migrate.progress.error.get_or_insert(text);
                    // `cont` tries again.
                    Release::Stay(RunState::Postmigrate)
                }
            };
            control.feed(life::Input::Release(how));
            control.migration_goes_on();
        });
    }

    fn sending_ended(&mut self, number: u64, end: SourceEnd) {
        let Some(sending) = &mut self.migrate.sending else {
            return;
        };
        if sending.number != number {
            return;
        }
        if let Some(thread) = sending.thread.take() {
            // It has said its last word.
            let _ = thread.join();
        }
        sending.stop = None;
        sending.yank = None;
        let yanked = sending.yanked.load(Ordering::SeqCst);
        let spoiled = self.migrate.spoiled.take();
        let end = match (end, spoiled) {
            (SourceEnd::Here(Broken::Cancelled), Some(why)) => SourceEnd::Here(Broken::Failed(why)),
            (SourceEnd::Here(Broken::Cancelled), None) if yanked => {
                let why = "The connection was broken by yank".to_owned();
                SourceEnd::Here(Broken::Failed(why))
            }
            (end, _) => end,
        };
        if let Some(machine) = &self.machine {
            machine.throttle(0);
        }
        self.outgoing(Input::Ended(end));
    }

    fn migration_pass(&mut self, number: u64, pass: u64) {
        trace::point!(MIGRATION_PASS, number = number, pass = pass);
        if self.migrate.settings.has(MigrationCapability::Events) {
            let pass = i64::try_from(pass).unwrap_or(i64::MAX);
            self.emit(Event::MigrationPass { pass });
        }
        self.outgoing_of(number, Input::Travels);
    }
}

/// What the thread needs.
struct Parts {
    route: Route,
    config: MachineConfig,
    ram: RamView,
    log: Box<dyn DirtyLog>,
    options: SendOptions,
    tunables: Arc<Tunables>,
    counters: Arc<Counters>,
}

impl Parts {
    fn send(self, host: Host, cancel: &Cancel) -> SourceEnd {
        let link = match self.route.open(cancel) {
            Ok(link) => link,
            Err(why) => return SourceEnd::Here(why),
        };
        let mut program = link.program;
        let source = Source {
            main: link.main,
            more: link.more,
            ram: self.ram,
            log: self.log,
            options: self.options,
            tunables: self.tunables,
            counters: self.counters,
            cancel: cancel.clone(),
            host: Box::new(host),
        };
        let end = source.run();
        match (end, &mut program) {
            // It has all; whether it keeps it, only it knows.
            (SourceEnd::Completed, Some(program)) => match program.settle(cancel) {
                Ok(()) => SourceEnd::Completed,
                Err(why) => SourceEnd::Unknown(why),
            },
            // Its own failure says more than that it does not listen.
            (SourceEnd::Here(Broken::Failed(why)), Some(program)) => {
                let why = match program.verdict_soon() {
                    Some(Err(own)) => own,
                    _ => why,
                };
                SourceEnd::Here(Broken::Failed(why))
            }
            (end, _) => end,
        }
    }
}

/// Control, as the thread sees it.
struct Host {
    line: Line,
    number: u64,
    config: MachineConfig,
}

impl SourceHost for Host {
    fn config(&self) -> MachineConfig {
        self.config.clone()
    }

    fn pass(&mut self, pass: u64) {
        let number = self.number;
        let tell = move |control: &mut Control| control.migration_pass(number, pass);
        self.line.tell(tell);
    }

    fn throttle(&mut self, percent: u8) {
        self.line.tell(move |control| {
            if control.is_migrating()
                && let Some(machine) = &control.machine
            {
                machine.throttle(percent);
            }
        });
    }

    fn stop(&mut self) -> Result<Stopped, Broken> {
        let number = self.number;
        let ask = move |control: &mut Control, answer| {
            match &mut control.migrate.sending {
                Some(sending) if sending.number == number => sending.stop = Some(answer),
                _ => return,
            }
            control.outgoing(Input::Stop);
        };
        self.line.ask(ask)?
    }

    fn hand_over(&mut self) -> Result<(), Broken> {
        let ask = |control: &mut Control, answer: Answer<Result<(), Broken>>| {
            control.deactivate_disks(move |control, done| {
                answer.give(match done {
                    // They are taken again when it has ended.
                    Ok(()) if control.is_cancelling() => Err(Broken::Cancelled),
                    done => done.map_err(Broken::Failed),
                });
            });
        };
        self.line.ask(ask)?
    }

    fn take_back(&mut self) -> Result<(), Broken> {
        let ask = |control: &mut Control, answer: Answer<Result<(), String>>| {
            control.activate_disks(move |_, done| answer.give(done));
        };
        self.line.ask(ask)?.map_err(Broken::Failed)
    }
}
