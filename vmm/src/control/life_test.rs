use super::Action::{Exit, Park, Quiesce, RefuseNeedsReset, Reply, ResetMachine, Run};
use super::*;

const T: Ticket = Ticket(1);
const U: Ticket = Ticket(2);

fn emit(event: Emit) -> Action {
    Action::Emit(event)
}

fn running(policy: Policy) -> Life {
    let mut life = Life::new(policy);
    assert_eq!(life.step(Input::Cont(None)), [emit(Emit::Resume), Run]);
    life
}

fn policy(change: impl FnOnce(&mut Policy)) -> Policy {
    let mut policy = Policy::default();
    change(&mut policy);
    policy
}

#[test]
fn stop_and_cont_tell_watchers_once() {
    let mut life = running(Policy::default());
    assert_eq!(life.step(Input::Cont(Some(T))), [Reply(T)]);
    assert_eq!(life.step(Input::Stop(T)), [Park]);
    assert_eq!(life.state(), RunState::Running);
    assert_eq!(
        life.step(Input::Parked),
        [Quiesce, emit(Emit::Stop), Reply(T)]
    );
    assert_eq!(life.state(), RunState::Paused);
    assert_eq!(life.step(Input::Stop(T)), [Reply(T)]);
    assert_eq!(
        life.step(Input::Cont(Some(T))),
        [emit(Emit::Resume), Run, Reply(T)]
    );
    assert_eq!(life.state(), RunState::Running);
}

#[test]
fn stop_before_the_start_keeps_prelaunch() {
    let mut life = Life::new(Policy::default());
    assert_eq!(life.step(Input::Stop(T)), [Reply(T)]);
    assert_eq!(life.state(), RunState::Prelaunch);
}

#[test]
fn commands_that_come_while_parking_wait_their_turn() {
    let mut life = running(Policy::default());
    assert_eq!(life.step(Input::Stop(T)), [Park]);
    assert_eq!(life.step(Input::Cont(Some(U))), []);
    let expected = [
        Quiesce,
        emit(Emit::Stop),
        Reply(T),
        emit(Emit::Resume),
        Run,
        Reply(U),
    ];
    assert_eq!(life.step(Input::Parked), expected);
}

#[test]
fn quit_does_not_wait_for_parking() {
    let mut life = running(policy(|p| p.shutdown = ShutdownAction::Pause));
    assert_eq!(life.step(Input::Stop(T)), [Park]);
    let cause = Cause::HostQmpQuit;
    let expected = [emit(Emit::Shutdown(cause)), Reply(U), Exit(0)];
    assert_eq!(life.step(Input::Shutdown(cause, 0, Some(U))), expected);
}

#[test]
fn reset_goes_on_when_it_ran_and_is_prelaunch_when_it_did_not() {
    let cause = Cause::HostQmpSystemReset;
    let mut life = running(Policy::default());
    assert_eq!(life.step(Input::Reset(cause, Some(T))), [Park]);
    let expected = [
        Quiesce,
        ResetMachine,
        emit(Emit::Reset(cause)),
        Run,
        Reply(T),
    ];
    assert_eq!(life.step(Input::Parked), expected);
    assert_eq!(life.state(), RunState::Running);

    life.step(Input::Stop(T));
    life.step(Input::Parked);
    let expected = [ResetMachine, emit(Emit::Reset(cause)), Reply(T)];
    assert_eq!(life.step(Input::Reset(cause, Some(T))), expected);
    assert_eq!(life.state(), RunState::Prelaunch);
}

#[test]
fn no_reboot_turns_a_reset_into_a_shutdown() {
    let mut life = running(policy(|p| p.reboot = RebootAction::Shutdown));
    let expected = [emit(Emit::Shutdown(Cause::GuestReset)), Exit(0)];
    assert_eq!(life.step(Input::Reset(Cause::GuestReset, None)), expected);
    // Its client hears of it before the end.
    let mut life = running(policy(|p| p.reboot = RebootAction::Shutdown));
    let cause = Cause::HostQmpSystemReset;
    let expected = [emit(Emit::Shutdown(cause)), Reply(T), Exit(0)];
    assert_eq!(life.step(Input::Reset(cause, Some(T))), expected);
}

#[test]
fn no_shutdown_pauses_until_a_reset() {
    let mut life = running(policy(|p| p.shutdown = ShutdownAction::Pause));
    let cause = Cause::GuestShutdown;
    let expected = [emit(Emit::Shutdown(cause)), Park];
    assert_eq!(life.step(Input::Shutdown(cause, 0, None)), expected);
    assert_eq!(life.step(Input::Parked), [Quiesce, emit(Emit::Stop)]);
    assert_eq!(life.state(), RunState::Shutdown);
    assert_eq!(life.step(Input::Cont(Some(T))), [RefuseNeedsReset(T)]);
    life.step(Input::Reset(Cause::HostQmpSystemReset, Some(T)));
    assert_eq!(
        life.step(Input::Cont(Some(T))),
        [emit(Emit::Resume), Run, Reply(T)]
    );
}

#[test]
fn panic_follows_the_policy() {
    use GuestPanicAction as E;
    use PanicAction as P;
    use ShutdownAction as S;
    // panic action, shutdown action, event, parks, exit status
    for (panic, shutdown, event, parks, status) in [
        (P::None, S::Poweroff, E::Run, false, None),
        (P::Pause, S::Poweroff, E::Pause, true, None),
        (P::Shutdown, S::Pause, E::Pause, true, None),
        (P::Shutdown, S::Poweroff, E::Poweroff, true, Some(0)),
        (P::ExitFailure, S::Poweroff, E::Poweroff, true, Some(1)),
    ] {
        let mut life = running(policy(|p| {
            p.panic = panic;
            p.shutdown = shutdown;
        }));
        let mut expected = vec![emit(Emit::Panicked(event))];
        expected.extend(parks.then_some(Park));
        assert_eq!(
            life.step(Input::Panic {
                crash_loaded: false
            }),
            expected
        );
        if !parks {
            assert_eq!(life.state(), RunState::Running);
            continue;
        }
        let mut expected = vec![Quiesce, emit(Emit::Stop)];
        if let Some(status) = status {
            expected.extend([emit(Emit::Shutdown(Cause::GuestPanic)), Exit(status)]);
        }
        assert_eq!(life.step(Input::Parked), expected);
        assert_eq!(life.state(), RunState::GuestPanicked);
    }
}

#[test]
fn a_failed_vcpu_stops_the_machine() {
    let mut life = running(Policy::default());
    assert_eq!(life.step(Input::Failed), [Park]);
    assert_eq!(life.step(Input::Failed), []);
    assert_eq!(life.step(Input::Parked), [Quiesce, emit(Emit::Stop)]);
    assert_eq!(life.state(), RunState::InternalError);
}

#[test]
fn a_panic_with_a_crash_kernel_only_tells() {
    let mut life = running(Policy::default());
    let expected = [emit(Emit::CrashLoaded)];
    assert_eq!(life.step(Input::Panic { crash_loaded: true }), expected);
}

#[test]
fn a_reset_under_way_is_for_all_who_need_one() {
    let cause = Cause::GuestReset;
    let mut life = running(Policy::default());
    assert_eq!(life.step(Input::Reset(cause, None)), [Park]);
    // Its other processors ask as well, or fail in the meantime.
    assert_eq!(life.step(Input::Reset(cause, None)), []);
    assert_eq!(life.step(Input::Failed), []);
    let expected = [Quiesce, ResetMachine, emit(Emit::Reset(cause)), Run];
    assert_eq!(life.step(Input::Parked), expected);
    assert_eq!(life.state(), RunState::Running);
}

#[test]
fn a_reset_that_somebody_waits_for_is_done_again() {
    let cause = Cause::HostQmpSystemReset;
    let mut life = running(Policy::default());
    assert_eq!(life.step(Input::Reset(cause, Some(T))), [Park]);
    assert_eq!(life.step(Input::Reset(cause, Some(U))), []);
    let reset = [Quiesce, ResetMachine, emit(Emit::Reset(cause)), Run];
    let with = |more: &[Action]| [&reset[..], more].concat();
    assert_eq!(life.step(Input::Parked), with(&[Reply(T), Park]));
    assert_eq!(life.step(Input::Parked), with(&[Reply(U)]));
}

#[test]
fn a_failed_disk_stops_the_machine_until_cont() {
    let mut life = running(Policy::default());
    assert_eq!(life.step(Input::DiskFailed), [Park]);
    assert_eq!(life.step(Input::DiskFailed), [], "another request");
    assert_eq!(life.step(Input::Parked), [Quiesce, emit(Emit::Stop)]);
    assert_eq!(life.state(), RunState::IoError);
    assert_eq!(life.step(Input::DiskFailed), [], "one that was in flight");
    assert_eq!(
        life.step(Input::Cont(Some(T))),
        [emit(Emit::Resume), Run, Reply(T)]
    );
    assert_eq!(life.state(), RunState::Running);
}

#[test]
fn a_failure_behind_a_stop_does_not_stop_what_goes_on() {
    let mut life = running(Policy::default());
    assert_eq!(life.step(Input::Stop(T)), [Park]);
    assert_eq!(life.step(Input::Cont(Some(U))), []);
    assert_eq!(life.step(Input::DiskFailed), []);
    let expected = [
        Quiesce,
        emit(Emit::Stop),
        Reply(T),
        emit(Emit::Resume),
        Run,
        Reply(U),
    ];
    assert_eq!(life.step(Input::Parked), expected);
    assert_eq!(life.state(), RunState::Running);
}

#[test]
fn a_reset_forgets_failed_disks() {
    let mut life = running(Policy::default());
    let reset = Input::Reset(Cause::HostQmpSystemReset, Some(T));
    assert_eq!(life.step(reset), [Park]);
    assert_eq!(life.step(Input::DiskFailed), []);
    let actions = life.step(Input::Parked);
    assert_eq!(actions.last(), Some(&Reply(T)));
    assert_eq!(life.state(), RunState::Running);

    assert_eq!(life.step(Input::DiskFailed), [Park]);
    life.step(Input::Parked);
    assert_eq!(life.state(), RunState::IoError);
    life.step(reset);
    assert_eq!(life.state(), RunState::Prelaunch);
}

#[test]
fn a_watchdog_tells_first_and_acts_then() {
    use WatchdogAction as Dog;
    let told = |action| emit(Emit::Watchdog(action));
    for (action, done) in [
        (Dog::Reset, vec![Park]),
        (Dog::Shutdown, vec![Action::PowerButton]),
        (Dog::Poweroff, vec![Exit(0)]),
        (Dog::Pause, vec![Park]),
        (Dog::InjectNmi, vec![Action::Nmi]),
        (Dog::Debug, vec![]),
        (Dog::None, vec![]),
    ] {
        let mut life = running(policy(|policy| policy.watchdog = action));
        let mut expected = vec![told(action)];
        expected.extend(done);
        assert_eq!(life.step(Input::Watchdog), expected);
    }
    let mut life = running(policy(|policy| policy.watchdog = Dog::Pause));
    life.step(Input::Watchdog);
    assert_eq!(life.step(Input::Parked), [Quiesce, emit(Emit::Stop)]);
    assert_eq!(life.state(), RunState::Watchdog);
    let again = [emit(Emit::Resume), Run, Reply(T)];
    assert_eq!(life.step(Input::Cont(Some(T))), again);
    // A reset under way takes it along, and -no-reboot holds for it too.
    let mut life = running(Policy::default());
    life.step(Input::Watchdog);
    assert_eq!(life.step(Input::Watchdog), []);
    let reset = emit(Emit::Reset(Cause::GuestReset));
    assert_eq!(
        life.step(Input::Parked),
        [Quiesce, ResetMachine, reset, Run]
    );
    let mut life = running(policy(|policy| policy.reboot = RebootAction::Shutdown));
    let shutdown = emit(Emit::Shutdown(Cause::GuestReset));
    assert_eq!(
        life.step(Input::Watchdog),
        [told(Dog::Reset), shutdown, Exit(0)]
    );
}

#[test]
fn a_guest_that_switches_itself_off_through_pvpanic() {
    let told = [
        emit(Emit::PvShutdown),
        emit(Emit::Shutdown(Cause::GuestShutdown)),
    ];
    let mut life = running(Policy::default());
    assert_eq!(
        life.step(Input::PvShutdown),
        [&told[..], &[Exit(0)]].concat()
    );
    let mut life = running(policy(|policy| policy.shutdown = ShutdownAction::Pause));
    assert_eq!(life.step(Input::PvShutdown), [&told[..], &[Park]].concat());
    life.step(Input::Parked);
    assert_eq!(life.state(), RunState::Shutdown);
}

#[test]
fn a_held_machine_goes_on_as_it_was() {
    let mut life = running(Policy::default());
    assert_eq!(life.step(Input::Hold(RunState::SaveVm, T)), [Park]);
    assert_eq!(
        life.step(Input::Parked),
        [Quiesce, emit(Emit::Stop), Reply(T)]
    );
    assert_eq!(life.state(), RunState::SaveVm);
    assert!(life.is_held());
    // What comes for the machine waits.
    assert_eq!(life.step(Input::Cont(Some(U))), []);
    assert_eq!(
        life.step(Input::Release(Release::Back)),
        [emit(Emit::Resume), Run, Reply(U)]
    );
    assert_eq!(life.state(), RunState::Running);
    // One that stood still goes on standing.
    let mut life = Life::new(Policy::default());
    assert_eq!(
        life.step(Input::Hold(RunState::FinishMigrate, T)),
        [Reply(T)]
    );
    assert_eq!(life.state(), RunState::FinishMigrate);
    assert_eq!(life.step(Input::Release(Release::Back)), [Action::Settled]);
    assert_eq!(life.state(), RunState::Prelaunch);
    assert_eq!(life.step(Input::Release(Release::Back)), []);
}

#[test]
fn a_held_machine_is_not_run_by_others() {
    let mut life = running(Policy::default());
    life.step(Input::Hold(RunState::FinishMigrate, T));
    life.step(Input::Parked);
    assert_eq!(life.step(Input::Cont(Some(U))), [Action::RefuseHeld(U)]);
    assert_eq!(
        life.step(Input::Hold(RunState::SaveVm, U)),
        [Action::RefuseHeld(U)]
    );
    // A client that wants it stopped gets it stopped.
    assert_eq!(life.step(Input::Stop(U)), [Reply(U)]);
    assert_eq!(life.step(Input::Release(Release::Back)), [Action::Settled]);
    assert_eq!(life.state(), RunState::Paused);
}

#[test]
fn a_machine_that_went_elsewhere_stays() {
    let mut life = running(Policy::default());
    life.step(Input::Hold(RunState::FinishMigrate, T));
    life.step(Input::Parked);
    assert_eq!(
        life.step(Input::Release(Release::Stay(RunState::Postmigrate))),
        [Action::Settled]
    );
    assert_eq!(life.state(), RunState::Postmigrate);
}

#[test]
fn a_machine_that_came_runs_where_it_is_to_run() {
    let arrive = |autostart, inputs: &[Input], from| {
        let mut life = Life::incoming(Policy::default(), autostart);
        assert_eq!(life.state(), RunState::Inmigrate);
        for input in inputs {
            assert_eq!(life.step(*input), [Reply(T)]);
        }
        life.step(Input::Release(Release::Arrived(from)));
        life.state()
    };
    let (cont, stop) = (Input::Cont(Some(T)), Input::Stop(T));
    assert_eq!(arrive(true, &[], RunState::Running), RunState::Running);
    assert_eq!(arrive(true, &[], RunState::Paused), RunState::Paused);
    assert_eq!(arrive(false, &[], RunState::Running), RunState::Paused);
    assert_eq!(arrive(false, &[cont], RunState::Running), RunState::Running);
    assert_eq!(arrive(true, &[stop], RunState::Running), RunState::Paused);
}

#[test]
fn what_the_guest_did_before_it_stood_still_comes_first() {
    let mut life = running(Policy::default());
    assert_eq!(life.step(Input::Hold(RunState::FinishMigrate, T)), [Park]);
    assert_eq!(life.step(Input::Reset(Cause::GuestReset, None)), []);
    assert_eq!(life.step(Input::Parked), [Quiesce, Run, Park]);
    let reset = emit(Emit::Reset(Cause::GuestReset));
    assert_eq!(
        life.step(Input::Parked),
        [Quiesce, ResetMachine, reset, Run, Park]
    );
    assert_eq!(
        life.step(Input::Parked),
        [Quiesce, emit(Emit::Stop), Reply(T)]
    );
    assert_eq!(life.state_beneath(), RunState::Running);
    // The end is the end.
    let mut life = running(Policy::default());
    life.step(Input::Hold(RunState::FinishMigrate, T));
    life.step(Input::Shutdown(Cause::GuestShutdown, 0, None));
    let end = emit(Emit::Shutdown(Cause::GuestShutdown));
    assert_eq!(life.step(Input::Parked), [Quiesce, Run, end, Exit(0), Park]);
}

#[test]
fn a_machine_that_is_to_come_is_not_reset() {
    let mut life = Life::incoming(Policy::default(), true);
    assert!(life.starts_by_itself());
    let reset = Input::Reset(Cause::HostQmpSystemReset, Some(T));
    let told = emit(Emit::Reset(Cause::HostQmpSystemReset));
    assert_eq!(life.step(reset), [told, Reply(T)]);
    assert_eq!(
        life.step(Input::Release(Release::Arrived(RunState::Running))),
        [emit(Emit::Resume), Run]
    );
}
