//! The machine's life as a whole: a pure state machine. Control feeds it what happened and
//! carries out what it says, in that order.
//!
//! ```text
//!                cont                       stop
//!  prelaunch ----------> running --> (parking) --> paused
//!      ^                  ^  ^          |  |          |
//!      | reset, stopped   |  +-- reset -+  +----------|--> shutdown, guest-panicked,
//!      +------------------|-------------+             |    internal-error
//!                         +---------- cont -----------+
//! ```
//!
//! vCPUs park one after the other while commands go on being served; whatever else comes in for
//! the machine as a whole meanwhile waits in a queue, so that order is kept.
//!
//! ```text
//!  any state -- hold --> (parking) --> finish-migrate, save-vm, restore-vm -- release -->
//!                                      as before | postmigrate | what the state that came says
//!  inmigrate (held from the start) ---------------------------------- release --> running, paused
//! ```
//! While it is held nothing runs, and what comes in for the machine waits: only the end, `stop`
//! and, before a machine has come in, `cont` are heard.

use std::collections::VecDeque;

use api_spec::{
    GuestPanicAction, PanicAction, RebootAction, RunState, SetActionArgs, ShutdownAction,
    ShutdownCause as Cause, WatchdogAction,
};

/// Whether only a reset leads on from here.
pub fn needs_reset(state: RunState) -> bool {
    matches!(state, RunState::Shutdown | RunState::InternalError)
}

/// Whether the guest is behind it.
pub fn by_guest(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::GuestShutdown | Cause::GuestReset | Cause::GuestPanic
    )
}

/// What to do when the guest reboots, switches off or panics, or its watchdog expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// On reboot.
    pub reboot: RebootAction,
    /// On shutdown.
    pub shutdown: ShutdownAction,
    /// On panic.
    pub panic: PanicAction,
    /// On an expired watchdog.
    pub watchdog: WatchdogAction,
}

impl Policy {
    /// set-action: what is left out stays as it is.
    pub fn set(&mut self, args: &SetActionArgs) {
        self.reboot = args.reboot.unwrap_or(self.reboot);
        self.shutdown = args.shutdown.unwrap_or(self.shutdown);
        self.panic = args.panic.unwrap_or(self.panic);
        self.watchdog = args.watchdog.unwrap_or(self.watchdog);
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            reboot: RebootAction::Reset,
            shutdown: ShutdownAction::Poweroff,
            panic: PanicAction::Shutdown,
            watchdog: WatchdogAction::Reset,
        }
    }
}

/// Names the reply that a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// stop.
    Stop(Ticket),
    /// cont, or the end of start-up without `-S`.
    Cont(Option<Ticket>),
    /// system_reset, or the guest's reset.
    Reset(Cause, Option<Ticket>),
    /// quit, a signal, or the guest's power-off. The status is the process's.
    Shutdown(Cause, u8, Option<Ticket>),
    /// pvpanic; `crash_loaded` when a crash kernel takes over in the guest.
    Panic {
        /// The guest goes on with its crash kernel.
        crash_loaded: bool,
    },
    /// pvpanic: the guest says that it switches itself off.
    PvShutdown,
    /// A watchdog expired.
    Watchdog,
    /// A vCPU cannot go on.
    Failed,
    /// A disk's request failed and waits for `cont`.
    DiskFailed,
    /// Every vCPU is parked.
    Parked,
    /// The machine is to stand still, in this state, until [`Input::Release`]: the ticket is
    /// answered when it does. Refused while it is held already.
    Hold(RunState, Ticket),
    /// It need not stand still any more.
    Release(Release),
}

/// How a machine that was held goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// As it was before, running or not.
    Back,
    /// It stays where it is, in this state.
    Stay(RunState),
    /// Its state came from another machine, which was in this one.
    Arrived(RunState),
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask every vCPU to park; `Input::Parked` follows.
    Park,
    /// Queues to their workers, clock on, vCPUs on.
    Run,
    /// Clock off, workers back, disks flushed.
    Quiesce,
    /// Every device back to power-on, kernel loaded again. The machine is quiet.
    ResetMachine,
    /// Tell watchers.
    Emit(Emit),
    /// Answer the client.
    Reply(Ticket),
    /// Nothing but the state has changed.
    Settled,
    /// Refuse the client: only a reset leads on.
    RefuseNeedsReset(Ticket),
    /// Refuse the client: the machine is held.
    RefuseHeld(Ticket),
    /// Press the power button.
    PowerButton,
    /// Send an NMI to every processor.
    Nmi,
    /// Leave the loop with this status.
    Exit(u8),
}

/// Events of this part of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit {
    /// STOP.
    Stop,
    /// RESUME.
    Resume,
    /// RESET.
    Reset(Cause),
    /// SHUTDOWN.
    Shutdown(Cause),
    /// GUEST_PANICKED with this action.
    Panicked(GuestPanicAction),
    /// GUEST_CRASHLOADED.
    CrashLoaded,
    /// GUEST_PVSHUTDOWN.
    PvShutdown,
    /// WATCHDOG with this action.
    Watchdog(WatchdogAction),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Motion {
    Still,
    Moving,
    /// Parking; what is to happen then.
    Parking(Then),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Stop(RunState, Option<Ticket>),
    Reset(Cause, Option<Ticket>),
    StopThenExit(RunState, Cause, u8),
    Hold(RunState, Ticket),
}

/// What a machine that is held returns to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    running: bool,
    state: RunState,
}

/// The state machine.
#[derive(Debug)]
pub struct Life {
    state: RunState,
    motion: Motion,
    policy: Policy,
    waiting: VecDeque<Input>,
    held: Option<Held>,
}

impl Life {
    /// A machine that was made and not started.
    pub fn new(policy: Policy) -> Self {
        Life {
            state: RunState::Prelaunch,
            motion: Motion::Still,
            policy,
            waiting: VecDeque::new(),
            held: None,
        }
    }

    /// A machine whose state is to come from elsewhere, and that then runs if `autostart`.
    pub fn incoming(policy: Policy, autostart: bool) -> Self {
        Life {
            state: RunState::Inmigrate,
            held: Some(Held {
                running: autostart,
                state: RunState::Paused,
            }),
            ..Life::new(policy)
        }
    }

    /// Whether it stands still until it is released.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// What the machine is doing.
    pub fn state(&self) -> RunState {
        self.state
    }

    /// What the machine was doing before it was held, or is doing now.
    pub fn state_beneath(&self) -> RunState {
        match self.held {
            Some(held) if held.running => RunState::Running,
            Some(held) => held.state,
            None => self.state,
        }
    }

    /// Whether a machine that is to come runs as soon as it is there, if it did before.
    pub fn starts_by_itself(&self) -> bool {
        self.held.is_some_and(|held| held.running)
    }

    /// Whether vCPUs are on their way to their parking places.
    pub fn is_parking(&self) -> bool {
        matches!(self.motion, Motion::Parking(_))
    }

    /// What to do on reboot, shutdown and panic.
    pub fn policy_mut(&mut self) -> &mut Policy {
        &mut self.policy
    }

    /// Takes in what happened; says what to do, in order.
    pub fn step(&mut self, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        self.take(input, &mut actions);
        while !self.is_parking() && self.held.is_none() {
            let Some(next) = self.waiting.pop_front() else {
                break;
            };
            self.take(next, &mut actions);
        }
        actions
    }

    fn take(&mut self, input: Input, out: &mut Vec<Action>) {
        if let Motion::Parking(then) = self.motion {
            match input {
                Input::Parked => self.parked(then, out),
                // The reset under way is theirs as well: the guest that asked again, could not go
                // on, or waits for a disk, is gone when it is done.
                Input::Reset(_, None) | Input::Failed | Input::DiskFailed | Input::Watchdog
                    if matches!(then, Then::Reset(..)) => {}
                Input::Shutdown(cause, status, ticket) if !by_guest(cause) => {
                    self.host_shutdown(cause, status, ticket, out);
                }
                other => self.waiting.push_back(other),
            }
            return;
        }
        if let Some(held) = self.held {
            self.take_held(held, input, out);
            return;
        }
        match input {
            Input::Stop(ticket) => self.halt(Then::Stop(RunState::Paused, Some(ticket)), out),
            Input::Cont(ticket) => self.cont(ticket, out),
            Input::Reset(cause, ticket) => self.reset(cause, ticket, out),
            Input::Shutdown(cause, status, ticket) if by_guest(cause) => {
                debug_assert!(ticket.is_none());
                self.policy_shutdown(cause, status, None, out);
            }
            Input::Shutdown(cause, status, ticket) => {
                self.host_shutdown(cause, status, ticket, out);
            }
            Input::Panic { crash_loaded: true } => out.push(Action::Emit(Emit::CrashLoaded)),
            Input::Panic {
                crash_loaded: false,
            } => self.panicked(out),
            Input::PvShutdown => {
                out.push(Action::Emit(Emit::PvShutdown));
                self.policy_shutdown(Cause::GuestShutdown, 0, None, out);
            }
            Input::Watchdog => self.bark(out),
            Input::Failed => self.halt(Then::Stop(RunState::InternalError, None), out),
            Input::DiskFailed => self.halt(Then::Stop(RunState::IoError, None), out),
            Input::Hold(state, ticket) => self.halt(Then::Hold(state, ticket), out),
            Input::Parked | Input::Release(_) => {}
        }
    }

    fn take_held(&mut self, held: Held, input: Input, out: &mut Vec<Action>) {
        match input {
            Input::Release(release) => {
                self.held = None;
                self.release(held, release, out);
            }
            Input::Shutdown(cause, status, ticket) if !by_guest(cause) => {
                self.host_shutdown(cause, status, ticket, out);
            }
            Input::Stop(ticket) => {
                let state = match held.running {
                    true => RunState::Paused,
                    false => held.state,
                };
                self.held = Some(Held {
                    running: false,
                    state,
                });
                out.push(Action::Reply(ticket));
            }
            Input::Cont(ticket) if self.state == RunState::Inmigrate => {
                self.held = Some(Held {
                    running: true,
                    ..held
                });
                out.extend(ticket.map(Action::Reply));
            }
            Input::Cont(ticket) if self.state == RunState::FinishMigrate => {
                out.extend(ticket.map(Action::RefuseHeld));
            }
            // What is there is replaced by what comes.
            Input::Reset(cause, ticket) if self.state == RunState::Inmigrate => {
                out.push(Action::Emit(Emit::Reset(cause)));
                out.extend(ticket.map(Action::Reply));
            }
            Input::Hold(_, ticket) => out.push(Action::RefuseHeld(ticket)),
            Input::Parked => {}
            other => self.waiting.push_back(other),
        }
    }

    fn release(&mut self, held: Held, release: Release, out: &mut Vec<Action>) {
        self.state = match release {
            Release::Back if held.running => return self.run(out),
            Release::Arrived(RunState::Running) if held.running => return self.run(out),
            Release::Back => held.state,
            Release::Arrived(RunState::Running) => RunState::Paused,
            Release::Arrived(state) | Release::Stay(state) => state,
        };
        out.push(Action::Settled);
    }

    fn run(&mut self, out: &mut Vec<Action>) {
        self.motion = Motion::Moving;
        self.state = RunState::Running;
        // The event first: what the guest then does comes after it.
        out.push(Action::Emit(Emit::Resume));
        out.push(Action::Run);
    }

    /// Parks when vCPUs run; otherwise nothing of the run state changes, as in QEMU.
    fn halt(&mut self, then: Then, out: &mut Vec<Action>) {
        match self.motion {
            Motion::Moving => {
                self.motion = Motion::Parking(then);
                out.push(Action::Park);
            }
            Motion::Still | Motion::Parking(_) => match then {
                Then::Stop(_, ticket) => out.extend(ticket.map(Action::Reply)),
                Then::Reset(cause, ticket) => self.reset_quiet(cause, ticket, false, out),
                Then::StopThenExit(_, cause, status) => {
                    out.push(Action::Emit(Emit::Shutdown(cause)));
                    out.push(Action::Exit(status));
                }
                Then::Hold(state, ticket) => self.hold(state, ticket, false, out),
            },
        }
    }

    fn hold(&mut self, state: RunState, ticket: Ticket, running: bool, out: &mut Vec<Action>) {
        self.held = Some(Held {
            running,
            state: self.state,
        });
        self.state = state;
        out.extend(running.then_some(Action::Emit(Emit::Stop)));
        out.push(Action::Reply(ticket));
    }

    fn parked(&mut self, then: Then, out: &mut Vec<Action>) {
        self.motion = Motion::Still;
        // Whatever comes next, requests that failed up to now wait for it.
        self.waiting.retain(|input| *input != Input::DiskFailed);
        out.push(Action::Quiesce);
        if let Then::Hold(state, ticket) = then
            && !self.waiting.is_empty()
        {
            // What the guest did before it stood still is done here: whoever takes its state
            // over would not learn of it.
            self.motion = Motion::Moving;
            out.push(Action::Run);
            self.waiting.push_back(Input::Hold(state, ticket));
            return;
        }
        match then {
            Then::Stop(state, ticket) => {
                self.state = state;
                out.push(Action::Emit(Emit::Stop));
                out.extend(ticket.map(Action::Reply));
            }
            Then::Reset(cause, ticket) => self.reset_quiet(cause, ticket, true, out),
            Then::StopThenExit(state, cause, status) => {
                self.state = state;
                out.push(Action::Emit(Emit::Stop));
                out.push(Action::Emit(Emit::Shutdown(cause)));
                out.push(Action::Exit(status));
            }
            Then::Hold(state, ticket) => self.hold(state, ticket, true, out),
        }
    }

    fn cont(&mut self, ticket: Option<Ticket>, out: &mut Vec<Action>) {
        if needs_reset(self.state) {
            out.extend(ticket.map(Action::RefuseNeedsReset));
            return;
        }
        if self.motion == Motion::Still {
            self.run(out);
        }
        out.extend(ticket.map(Action::Reply));
    }

    fn reset(&mut self, cause: Cause, ticket: Option<Ticket>, out: &mut Vec<Action>) {
        if self.policy.reboot == RebootAction::Shutdown {
            self.policy_shutdown(cause, 0, ticket, out);
        } else {
            self.halt(Then::Reset(cause, ticket), out);
        }
    }

    fn reset_quiet(
        &mut self,
        cause: Cause,
        ticket: Option<Ticket>,
        resume: bool,
        out: &mut Vec<Action>,
    ) {
        out.push(Action::ResetMachine);
        out.push(Action::Emit(Emit::Reset(cause)));
        if resume {
            self.motion = Motion::Moving;
            out.push(Action::Run);
        } else {
            self.state = RunState::Prelaunch;
        }
        out.extend(ticket.map(Action::Reply));
    }

    /// What the guest's power-off is, and with `-no-reboot` a reset.
    fn policy_shutdown(
        &mut self,
        cause: Cause,
        status: u8,
        ticket: Option<Ticket>,
        out: &mut Vec<Action>,
    ) {
        out.push(Action::Emit(Emit::Shutdown(cause)));
        // Nothing is answered behind the end.
        out.extend(ticket.map(Action::Reply));
        match self.policy.shutdown {
            ShutdownAction::Poweroff => out.push(Action::Exit(status)),
            ShutdownAction::Pause => self.halt(Then::Stop(RunState::Shutdown, None), out),
        }
    }

    /// quit and signals end the process whatever the policy says, and at once.
    fn host_shutdown(
        &mut self,
        cause: Cause,
        status: u8,
        ticket: Option<Ticket>,
        out: &mut Vec<Action>,
    ) {
        out.push(Action::Emit(Emit::Shutdown(cause)));
        out.extend(ticket.map(Action::Reply));
        out.push(Action::Exit(status));
    }

    /// The event first, then what is done about it.
    fn bark(&mut self, out: &mut Vec<Action>) {
        let action = self.policy.watchdog;
        out.push(Action::Emit(Emit::Watchdog(action)));
        match action {
            WatchdogAction::Reset => self.reset(Cause::GuestReset, None, out),
            WatchdogAction::Shutdown => out.push(Action::PowerButton),
            WatchdogAction::Poweroff => out.push(Action::Exit(0)),
            WatchdogAction::Pause => self.halt(Then::Stop(RunState::Watchdog, None), out),
            WatchdogAction::InjectNmi => out.push(Action::Nmi),
            WatchdogAction::Debug | WatchdogAction::None => {}
        }
    }

    fn panicked(&mut self, out: &mut Vec<Action>) {
        let pause = match self.policy.panic {
            PanicAction::Pause => true,
            PanicAction::Shutdown => self.policy.shutdown == ShutdownAction::Pause,
            PanicAction::ExitFailure => false,
            PanicAction::None => {
                out.push(Action::Emit(Emit::Panicked(GuestPanicAction::Run)));
                return;
            }
        };
        if pause {
            out.push(Action::Emit(Emit::Panicked(GuestPanicAction::Pause)));
            self.halt(Then::Stop(RunState::GuestPanicked, None), out);
        } else {
            let status = u8::from(self.policy.panic == PanicAction::ExitFailure);
            out.push(Action::Emit(Emit::Panicked(GuestPanicAction::Poweroff)));
            let then = Then::StopThenExit(RunState::GuestPanicked, Cause::GuestPanic, status);
            self.halt(then, out);
        }
    }
}

#[cfg(test)]
#[path = "life_test.rs"]
mod tests;
