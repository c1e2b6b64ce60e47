//! What the state machine says, and what devices ask for, done.

use api_spec::{
    BlockErrorAction, Event, GuestPanicAction, IoOperationType, QmpError, RunState, ShutdownCause,
    WatchdogAction,
};
use block::{ErrorAction, Failed};
use devices::effect::{DiskFailure, Effect, Notice, PowerEffect};

use crate::event::Done;
use crate::process::errno as errno_text;

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
                self.blockdevs.reset_io_status();
                if let Some(machine) = &mut self.machine {
                    machine.resume();
                }
                self.announce_arrival();
            }
            Action::Quiesce => {
                self.with_machine(|machine| machine.quiesce());
                self.flush_disks();
            }
            Action::ResetMachine => {
                self.complete_unplugs();
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
                self.service.notifier.status(self.life.state().name());
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
            Action::RefuseHeld(ticket) => {
                if let Some(waiter) = self.waiting.remove(&ticket) {
                    let state = self.life.state();
                    let text = match state {
                        RunState::FinishMigrate => "Migration is not finalized yet".into(),
                        _ => format!("The machine is in state '{}'", state.name()),
                    };
                    waiter(Err(QmpError::generic(text)));
                }
            }
            Action::Settled => self.published.set_status(self.life.state()),
            Action::PowerButton => self.power_button(),
            Action::Nmi => {
                if let Err(error) = self.nmi() {
                    log::warn!("The watchdog's NMI: {}", error.desc);
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

    /// Carries out what the device `id` asked for. Whoever waits for that goes on when `done` is
    /// dropped.
    pub(crate) fn effect(&mut self, id: &str, effect: Effect, done: Option<Done>) {
        trace::point!(DEVICE_EFFECT, device = id);
        match effect {
            Effect::None => {}
            Effect::Remap => self.with_machine(|machine| machine.remap()),
            Effect::StartQueues => self.with_machine(|machine| machine.start_queues(id)),
            Effect::StopQueues => self.with_machine(|machine| machine.stop_queues(id)),
            Effect::Ejected => self.ejected(id, done),
            Effect::Kept => self.kept(id),
            Effect::EjectSlots(slots) => self.ejected_slots(slots, done),
            Effect::Power(power) => self.power(&power),
            Effect::Notice(notice) => self.notice(notice),
            Effect::DiskFailed(failure) => self.disk_failed(failure),
        }
    }

    fn with_machine(&mut self, act: impl FnOnce(&mut crate::machine::Machine)) {
        if let Some(machine) = &mut self.machine {
            act(machine);
        }
    }

    fn power(&mut self, power: &PowerEffect) {
        trace::point!(GUEST_POWER);
        self.feed(match power {
            PowerEffect::Shutdown => Input::Shutdown(ShutdownCause::GuestShutdown, 0, None),
            PowerEffect::Reset => Input::Reset(ShutdownCause::GuestReset, None),
            // Whatever the policy says on power-off: the guest chose the status.
            PowerEffect::Exit(status) => {
                self.emit(event(Emit::Shutdown(ShutdownCause::GuestShutdown)));
                self.exit = Some(*status);
                return;
            }
            PowerEffect::PvShutdown => Input::PvShutdown,
            PowerEffect::Watchdog => Input::Watchdog,
            PowerEffect::Panicked => Input::Panic {
                crash_loaded: false,
            },
            PowerEffect::CrashLoaded => Input::Panic { crash_loaded: true },
        });
    }

    /// Tells watchers, and stops the machine where the request waits for that.
    fn disk_failed(&mut self, failure: DiskFailure) {
        let DiskFailure {
            qom_path,
            failed,
            action,
            errno,
        } = failure;
        let found = self.blockdevs.failed_device(&qom_path);
        let (device, node_name, may_stop) = found.unwrap_or_default();
        let error = match errno {
            0 => std::io::Error::from_raw_os_error(libc::EIO),
            errno => std::io::Error::from_raw_os_error(errno),
        };
        self.emit(Event::BlockIoError {
            qom_path,
            device,
            node_name,
            operation: match failed {
                Failed::Read => IoOperationType::Read,
                Failed::Write => IoOperationType::Write,
            },
            action: match action {
                ErrorAction::Report => BlockErrorAction::Report,
                ErrorAction::Ignore => BlockErrorAction::Ignore,
                ErrorAction::Stop => BlockErrorAction::Stop,
            },
            nospace: may_stop.then_some(block::is_no_space(&error)),
            reason: errno_text(&error),
        });
        if action == ErrorAction::Stop {
            self.feed(Input::DiskFailed);
        }
    }

    /// A block node noticed something on its own.
    pub(super) fn block_notice(&mut self, notice: block::Notice) {
        match notice {
            block::Notice::WriteThreshold {
                node,
                threshold,
                amount,
            } => self.emit(Event::BlockWriteThreshold {
                node_name: node,
                amount_exceeded: amount,
                write_threshold: threshold,
            }),
            block::Notice::ImageCorrupted {
                node,
                message,
                offset,
                size,
                fatal,
            } => {
                log::error!("The image of node '{node}' is damaged: {message}");
                let number = |value: Option<u64>| value.and_then(|v| i64::try_from(v).ok());
                self.emit(Event::BlockImageCorrupted {
                    device: self.blockdevs.drive_on(&node),
                    node_name: Some(node),
                    msg: message,
                    offset: number(offset),
                    size: number(size),
                    fatal,
                });
            }
        }
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
            Notice::RxFilterChanged { device } => self.rx_filter_changed(&device),
            Notice::BalloonChanged { pages } => self.balloon_changed(pages),
            Notice::TrayMoved { device, open } => self.tray_moved(&device, open),
        }
    }
}

impl Control {
    /// NIC_RX_FILTER_CHANGED, for the interface of that key.
    fn rx_filter_changed(&mut self, device: &str) {
        let Some(path) = self.machine.as_ref().and_then(|m| m.path_of(device)) else {
            return;
        };
        self.emit(Event::NicRxFilterChanged {
            // Keys that are no ids begin with a slash.
            name: (!device.starts_with('/')).then(|| device.to_owned()),
            path: format!("{path}/virtio-backend"),
        });
    }

    /// DEVICE_TRAY_MOVED, for the device of that key.
    pub(super) fn tray_moved(&mut self, device: &str, open: bool) {
        let Some(path) = self.machine.as_ref().and_then(|m| m.path_of(device)) else {
            return;
        };
        let (device, id) = self.blockdevs.drive_of(&path);
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
        Emit::Watchdog(action) => {
            if action == WatchdogAction::Debug {
                log::error!("watchdog: timer fired");
            }
            Event::Watchdog { action }
        }
        Emit::PvShutdown => Event::GuestPvshutdown,
        Emit::CrashLoaded => Event::GuestCrashloaded {
            action: GuestPanicAction::Run,
        },
    }
}
