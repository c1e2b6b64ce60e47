//! What the state machine says, and what devices ask for, done.

use api_spec::{Event, GuestPanicAction, QmpError, ShutdownCause};
use devices::effect::{Effect, Notice, PowerEffect};

use super::life::{Action, Emit, Input, by_guest};
use super::{Control, flush};

impl Control {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Park => {
                let parked = self
                    .machine
                    .as_ref()
                    .is_none_or(|machine| machine.request_pause());
                if parked {
                    self.feed(Input::Parked);
                }
            }
            Action::Run => {
                self.published.set_status(self.life.state());
                if let Some(machine) = &mut self.machine {
                    machine.resume();
                }
            }
            Action::Quiesce => {
                self.with_machine(|machine| machine.quiesce());
                self.flush_disks();
            }
            Action::ResetMachine => {
                let reset = self
                    .machine
                    .as_mut()
                    .map_or(Ok(()), |machine| machine.reset());
                if let Err(error) = reset {
                    log::error!("Cannot reset the machine: {error:#}");
                    self.exit = Some(1);
                }
            }
            Action::Emit(what) => {
                self.published.set_status(self.life.state());
                self.emit(event(what));
            }
            Action::Reply(ticket) => {
                self.published.set_status(self.life.state());
                if let Some(waiter) = self.waiting.remove(&ticket) {
                    waiter(Ok(()));
                }
            }
            Action::RefuseNeedsReset(ticket) => {
                if let Some(waiter) = self.waiting.remove(&ticket) {
                    waiter(Err(QmpError::generic(
                        "Resetting the Virtual Machine is required",
                    )));
                }
            }
            Action::Exit(status) => self.exit = Some(status),
        }
    }

    /// Makes what the guest wrote durable. What follows waits; commands are served meanwhile.
    fn flush_disks(&mut self) {
        let nodes = self.blockdevs.written();
        if nodes.is_empty() {
            return;
        }
        let started = self.do_slowly(
            move || flush(nodes),
            |control, ()| {
                control.busy = false;
                control.go_on();
            },
        );
        match started {
            Ok(()) => self.busy = true,
            Err(error) => {
                log::warn!("No thread to flush disks: {error}");
                flush(self.blockdevs.written());
            }
        }
    }

    /// Carries out what the device `id` asked for.
    pub(super) fn effect(&mut self, id: &str, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Remap => self.with_machine(|machine| machine.remap()),
            Effect::StartQueues => self.with_machine(|machine| machine.start_queues(id)),
            Effect::StopQueues => self.with_machine(|machine| machine.stop_queues(id)),
            Effect::Ejected => log::warn!("Device '{id}' was let go, but cannot be removed"),
            Effect::Power(power) => self.power(&power),
            Effect::Notice(notice) => self.notice(notice),
        }
    }

    fn with_machine(&mut self, act: impl FnOnce(&mut crate::machine::Machine)) {
        if let Some(machine) = &mut self.machine {
            act(machine);
        }
    }

    fn power(&mut self, power: &PowerEffect) {
        self.feed(match power {
            PowerEffect::Shutdown => Input::Shutdown(ShutdownCause::GuestShutdown, 0, None),
            PowerEffect::Reset => Input::Reset(ShutdownCause::GuestReset, None),
            // Whatever the policy says on power-off: the guest chose the status.
            PowerEffect::Exit(status) => {
                self.emit(event(Emit::Shutdown(ShutdownCause::GuestShutdown)));
                self.exit = Some(*status);
                return;
            }
            PowerEffect::Panicked => Input::Panic {
                crash_loaded: false,
            },
            PowerEffect::CrashLoaded => Input::Panic { crash_loaded: true },
        });
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::RtcChange { offset } => self.emit(Event::RtcChange {
                offset,
                qom_path: self
                    .machine
                    .as_ref()
                    .map_or_else(String::new, |m| m.rtc_path()),
            }),
            Notice::SerialPort { id, open } => self.emit(Event::VserportChange { id, open }),
            Notice::TrayMoved { device, open } => self.tray_moved(&device, open),
        }
    }
}

impl Control {
    /// DEVICE_TRAY_MOVED, for the device of that key: of all users of drives it names the drive,
    /// and itself by its id, or else by its path.
    pub(super) fn tray_moved(&mut self, device: &str, open: bool) {
        let Some(id) = self.machine.as_ref().and_then(|m| m.user_of_drive(device)) else {
            return;
        };
        let device = self.blockdevs.drive_of(&id);
        self.emit(Event::DeviceTrayMoved {
            device,
            id,
            tray_open: open,
        });
    }
}

fn event(what: Emit) -> Event {
    match what {
        Emit::Stop => Event::Stop,
        Emit::Resume => Event::Resume,
        Emit::Reset(reason) => Event::Reset {
            guest: by_guest(reason),
            reason,
        },
        Emit::Shutdown(reason) => Event::Shutdown {
            guest: by_guest(reason),
            reason,
        },
        Emit::Panicked(action) => Event::GuestPanicked { action },
        Emit::CrashLoaded => Event::GuestCrashloaded {
            action: GuestPanicAction::Run,
        },
    }
}
