//! The control thread: sole owner of the machine. It takes commands and machine events in order,
//! never blocks, and publishes replies and events through one queue, so that their order holds.

mod act;
mod addresses;
mod balloon;
pub mod blockdev;
mod chardev_orders;
pub mod chardevs;
pub mod commands;
mod disks;
mod dumps;
mod dumps_save;
mod dumps_show;
mod dumps_text;
pub mod fds;
mod graph;
pub mod hmp;
mod hotplug;
pub mod jobs;
pub mod life;
pub mod migrate;
pub mod monitors;
pub mod nets;
pub mod objects;
mod parts;
pub mod sink;
mod snapshots;
mod unfinished;
pub mod yank;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::{Context, Result};
use api_spec::{Event, QmpError, QmpResult};
use block::BlockNode;

use crate::accel::qtest_server::QtestServer;
use crate::armour::launcher::Launcher;
use crate::event::{MachineEvent, Mail, MailSender, Mailbox};
use crate::machine::Machine;
use crate::process;
use crate::sys::{self, Poll, Trigger};
use crate::threads::{self, ThreadKind};
use blockdev::Blockdevs;
use chardevs::Chardevs;
use dumps::Dumps;
use dumps_show::TextFormat;
use fds::FdStore;
use jobs::Jobs;
use life::{Action, Input, Life, Policy, Ticket};
use monitors::Monitors;
use nets::{Announcements, Nets};
use objects::Objects;
use sink::Published;
use unfinished::Unfinished;

const MAIL: u64 = 0;
const SIGNALS: u64 = 1;
const CLOCK: u64 = 2;

/// A client that waits until the machine got somewhere. Called with what became of it.
type Waiter = Box<dyn FnOnce(QmpResult<()>) + Send>;

/// Everything there is, and who is waited for.
pub struct Control {
    mailbox: Mailbox,
    mail: MailSender,
    poll: Poll,
    signals: OwnedFd,
    life: Life,
    /// `None` for `-machine none`.
    machine: Option<Machine>,
    qtest: Option<QtestServer>,
    published: Arc<Published>,
    monitors: Monitors,
    objects: Objects,
    blockdevs: Blockdevs,
    jobs: Jobs,
    dumps: Dumps,
    /// How the text monitor shows values unless it is told.
    text_format: TextFormat,
    chardevs: Chardevs,
    nets: Nets,
    announcements: Announcements,
    fds: FdStore,
    /// Starts programs for us.
    launcher: Launcher,
    migrate: migrate::Migrate,
    expected_qtest: Option<parts::ExpectedQtest>,
    waiting: BTreeMap<Ticket, Waiter>,
    next_ticket: u64,
    /// What the state machine said and what is not done yet.
    actions: VecDeque<Action>,
    /// What other threads do that is to be whole when the program ends.
    unfinished: Unfinished,
    /// Threads that work on snapshots look here whether the program ends.
    snapshots: snapshots::End,
    /// An action is under way on another thread; the next ones wait for it.
    busy: bool,
    exit: Option<u8>,
}

impl Control {
    /// A program without a machine, whose helpers `launcher` starts. Blocks the signals that end us: call it before any thread is
    /// started.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new(published: Arc<Published>, policy: Policy, launcher: Launcher) -> Result<Self> {
        let mailbox = Mailbox::new().context("Cannot make a mailbox")?;
        let signals = process::termination_signals().context("Cannot watch signals")?;
        let poll = Poll::new().context("Cannot make an epoll set")?;
        poll.watch(&mailbox, MAIL, Trigger::Edge)?;
        poll.watch(&signals, SIGNALS, Trigger::Level)?;
        let mail = mailbox.sender();
        let fds = FdStore::default();
        let yanks = published.yanks().clone();
        let blockdevs = Blockdevs::new(blockdev::pool(mail.clone())).with_notices(notices(&mail));
        Ok(Control {
            monitors: Monitors::new(mail.clone(), published.clone()),
            objects: Objects::new(mail.clone(), fds.opener(), blockdevs.graph()),
            mailbox,
            poll,
            signals,
            life: Life::new(policy),
            machine: None,
            qtest: None,
            published,
            blockdevs,
            jobs: Jobs::default(),
            dumps: Dumps::default(),
            text_format: TextFormat::default(),
            chardevs: Chardevs::new(fds.opener(), spawn_chardevs(mail.clone())).with_yanks(yanks),
            nets: Nets::default(),
            announcements: Announcements::default(),
            fds,
            launcher,
            migrate: migrate::Migrate::default(),
            expected_qtest: None,
            mail,
            waiting: BTreeMap::new(),
            next_ticket: 0,
            actions: VecDeque::new(),
            unfinished: Unfinished::default(),
            snapshots: snapshots::End::default(),
            busy: false,
            exit: None,
        })
    }

    /// Where threads put what control has to see to.
    pub fn mail(&self) -> MailSender {
        self.mail.clone()
    }

    /// Takes the finished machine over.
    ///
    /// # Errors
    /// When its clock cannot be watched.
    pub fn set_machine(&mut self, machine: Machine) -> Result<()> {
        self.poll
            .watch(machine.clock().as_ref(), CLOCK, Trigger::Level)?;
        self.machine = Some(machine);
        Ok(())
    }

    /// Keeps the qtest server alive as long as control.
    pub fn set_qtest(&mut self, server: QtestServer) {
        self.qtest = Some(server);
    }

    /// Lets the guest run unless it is to wait (`-S`), and then serves the monitors. A client
    /// that is there already (`wait=on`) is not told that the machine runs: it does so from the
    /// start.
    ///
    /// # Errors
    /// When the host is out of threads or descriptors.
    pub fn start(&mut self, stopped: bool) -> Result<()> {
        if !stopped {
            let actions = self.life.step(Input::Cont(None));
            let told = |action: &Action| !matches!(action, Action::Emit(_));
            self.actions.extend(actions.into_iter().filter(told));
            self.go_on();
        }
        self.monitors.begin()
    }

    /// Serves until something ends the program; returns its exit status. Consumes everything:
    /// threads have ended and files are closed when it returns.
    pub fn run(mut self) -> u8 {
        let mut mail = VecDeque::new();
        loop {
            if let Some(status) = self.exit {
                self.shut_down();
                return status;
            }
            self.serve(&mut mail);
        }
    }

    /// Waits for something to happen, and sees to it.
    fn serve(&mut self, mail: &mut VecDeque<Mail>) {
        match self.poll.wait(-1) {
            Ok(ready) => ready.for_each(|token| self.ready(token, mail)),
            Err(error) => {
                log::error!("Cannot wait for events: {error}");
                self.exit = Some(1);
            }
        }
    }

    fn ready(&mut self, token: u64, mail: &mut VecDeque<Mail>) {
        match token {
            SIGNALS => self.take_signals(),
            CLOCK => {
                if let Some(machine) = &self.machine {
                    machine.clock().fire_expired();
                }
            }
            _ => {
                self.mailbox.take(mail);
                while let Some(mail) = mail.pop_front() {
                    // What came behind the end is not looked at any more: its senders are told
                    // so when it is dropped.
                    if self.exit.is_none() {
                        self.open(mail);
                    }
                }
            }
        }
    }

    fn open(&mut self, mail: Mail) {
        match mail {
            Mail::Command {
                mut cx,
                command,
                responder,
            } => api_spec::dispatch(self, &mut cx, *command, responder),
            Mail::Machine(event) => self.machine_event(event),
            Mail::Done(finish) => finish(self),
        }
    }

    /// Does slow work on a thread of its own, and what is to be done with its result here.
    fn do_slowly<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(&mut Control, T) + Send + 'static,
    ) -> std::io::Result<()> {
        let mail = self.mail.clone();
        let body = move || {
            let result = work();
            mail.send(Mail::Done(Box::new(move |control| then(control, result))));
        };
        threads::spawn(ThreadKind::Worker, "worker", Some(self.mail.clone()), body).map(drop)
    }

    fn take_signals(&mut self) {
        while let Some(signal) = sys::next_signal(&self.signals) {
            log::error!("{}", process::describe_signal(signal));
            let cause = api_spec::ShutdownCause::HostSignal;
            self.feed(Input::Shutdown(cause, 0, None));
        }
    }

    /// Keeps a waiting client until the state machine names its ticket.
    fn ticket(&mut self, waiter: Waiter) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.waiting.insert(ticket, waiter);
        ticket
    }

    /// Feeds the state machine and carries out what it says.
    fn feed(&mut self, input: Input) {
        let actions = self.life.step(input);
        self.actions.extend(actions);
        self.go_on();
    }

    /// Does what is to be done, in order, as far as nothing is under way. Behind the end nothing
    /// is done any more.
    fn go_on(&mut self) {
        while !self.busy
            && self.exit.is_none()
            && let Some(action) = self.actions.pop_front()
        {
            self.act(action);
        }
    }

    fn emit(&mut self, event: Event) {
        self.monitors.broadcast(event);
    }

    fn machine(&self) -> QmpResult<&Machine> {
        self.machine
            .as_ref()
            .ok_or_else(|| QmpError::generic("There is no machine"))
    }

    /// The machine goes first: its threads use what the others own.
    fn shut_down(&mut self) {
        self.snapshots.come();
        self.qtest = None;
        // It asks for things of the machine.
        self.migrate.shut_down();
        if let Some(machine) = &mut self.machine {
            machine.end();
        }
        // While the devices still have their nodes: what nobody uses is neither listed nor locked.
        flush(self.blockdevs.written());
        self.machine = None;
        drop(self.nets.take_all());
        self.nets.service.shut_down();
        self.dumps.shut_down();
        self.blockdevs.end_turns();
        self.jobs.shut_down();
        self.unfinished.wait();
        self.blockdevs.close();
        for (_, waiter) in std::mem::take(&mut self.waiting) {
            waiter(Err(QmpError::generic("The program ends")));
        }
        self.chardevs.shutdown();
        self.monitors.shut_down();
    }

    fn machine_event(&mut self, event: MachineEvent) {
        match event {
            MachineEvent::Effect {
                device,
                effect,
                done,
            } => {
                self.effect(&device, effect, done);
            }
            MachineEvent::VcpuParked { index: _ } => self.check_parked(),
            MachineEvent::VcpuFailed { index, reason } => {
                log::error!("CPU {index}: {reason}");
                self.feed(Input::Failed);
                self.check_parked();
            }
            MachineEvent::ThreadPanicked { name } => {
                log::error!("Thread '{name}' failed; the program ends");
                self.exit = Some(1);
            }
        }
    }

    fn check_parked(&mut self) {
        // While a flush is under way the vCPUs may not have been asked yet: that they are parked
        // is then the end of the pause before.
        let asked = self.life.is_parking() && !self.actions.contains(&Action::Park);
        if asked && self.machine.as_ref().is_none_or(Machine::all_parked) {
            self.feed(Input::Parked);
        }
    }
}

#[cfg(test)]
impl Control {
    /// The machine, for tests of it.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) fn machine_for_test(&mut self) -> &mut Machine {
        self.machine.as_mut().expect("there is a machine")
    }
}

#[cfg(test)]
#[path = "control_test.rs"]
mod tests;

/// Makes what was written to these nodes durable. Blocks.
fn flush(nodes: Vec<(String, Arc<dyn BlockNode>)>) {
    for (name, node) in nodes {
        if let Err(error) = block::NodeExt::flush(&*node) {
            log::error!("Cannot flush '{name}': {error}");
        }
    }
}

/// What block nodes notice comes as mail.
fn notices(mail: &MailSender) -> block::NoticeSink {
    let mail = mail.clone();
    Arc::new(move |notice| {
        let told = move |control: &mut Control| control.block_notice(notice);
        mail.send(Mail::Done(Box::new(told)));
    })
}

/// Starts the thread that serves character devices, when the first one needs it.
fn spawn_chardevs(mail: MailSender) -> chardevs::SpawnChardev {
    Box::new(move |server| {
        let body = move || server.run();
        threads::spawn(ThreadKind::Chardev, "chardev", Some(mail.clone()), body).map(drop)
    })
}
