use std::sync::{Arc, Mutex};

use api_spec::{NameInfo, RunState, ShutdownCause, UuidInfo};

use super::*;
use crate::armour::launcher::on_a_thread;

/// A program without a machine, whose vCPUs park at once.
pub(super) fn control() -> Control {
    let facts = sink::Facts {
        name: NameInfo { name: None },
        uuid: UuidInfo {
            uuid: String::new(),
        },
        kvm: api_spec::KvmInfo {
            enabled: false,
            present: false,
        },
    };
    Control::new(Published::new(facts), Policy::default(), on_a_thread()).unwrap()
}

type Answers = Arc<Mutex<Vec<&'static str>>>;

fn ticket(control: &mut Control, name: &'static str, answers: &Answers) -> Ticket {
    let answers = answers.clone();
    control.ticket(Box::new(move |result| {
        assert_eq!(result, Ok(()));
        answers.lock().unwrap().push(name);
    }))
}

fn parked(control: &mut Control) {
    control.machine_event(MachineEvent::VcpuParked { index: 1 });
}

/// What is asked for while a flush is under way waits for it, and a vCPU's late word of the pause
/// before does not count for the next one.
#[test]
fn a_pause_counts_from_when_it_was_asked_for() {
    let mut control = control();
    let answers = Answers::default();
    control.feed(Input::Cont(None));
    control.busy = true;
    let cont = ticket(&mut control, "cont", &answers);
    control.feed(Input::Cont(Some(cont)));
    let stop = ticket(&mut control, "stop", &answers);
    control.feed(Input::Stop(stop));
    assert!(control.life.is_parking());
    parked(&mut control);
    assert!(control.life.is_parking(), "nobody was asked to park yet");
    assert!(answers.lock().unwrap().is_empty());
    control.busy = false;
    control.go_on();
    assert_eq!(*answers.lock().unwrap(), ["cont", "stop"]);
    assert_eq!(control.published.status().status, RunState::Paused);
}

#[test]
fn nothing_is_done_behind_the_end() {
    let mut control = control();
    let answers = Answers::default();
    let quit = ticket(&mut control, "quit", &answers);
    let cause = ShutdownCause::HostQmpQuit;
    control.feed(Input::Shutdown(cause, 0, Some(quit)));
    assert_eq!(control.exit, Some(0));
    let cause = ShutdownCause::HostSignal;
    control.feed(Input::Shutdown(cause, 7, None));
    let cont = ticket(&mut control, "cont", &answers);
    control.feed(Input::Cont(Some(cont)));
    assert_eq!(control.exit, Some(0));
    assert_eq!(*answers.lock().unwrap(), ["quit"]);
}
