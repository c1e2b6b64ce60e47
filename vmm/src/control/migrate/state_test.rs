use super::*;

const BACK: Action = Action::Release(Release::Back);
const STAY: Action = Action::Release(Release::Stay(RunState::Postmigrate));

fn failed() -> SourceEnd {
    SourceEnd::Here(Broken::Failed("because".into()))
}

fn cancelled() -> SourceEnd {
    SourceEnd::Here(Broken::Cancelled)
}

fn table(rows: &[(Input, Vec<Action>)]) -> Outgoing {
    let (mut outgoing, begun) = Outgoing::begin();
    assert_eq!(begun, [Action::Tell(Status::Setup)]);
    for (input, said) in rows {
        assert_eq!(outgoing.on(input.clone()), *said, "{input:?}");
    }
    outgoing
}

#[test]
fn one_that_arrives() {
    use Action::{Hold, Save, Stopped, Tell};
    let outgoing = table(&[
        (Input::Travels, vec![Tell(Status::Active)]),
        (Input::Travels, vec![]),
        (Input::Stop, vec![Hold]),
        (
            Input::Still { wait: false },
            vec![Stopped, Tell(Status::Device), Save],
        ),
        (Input::Continue, vec![]),
        (
            Input::Ended(SourceEnd::Completed),
            vec![STAY, Tell(Status::Completed)],
        ),
        (Input::Cancel, vec![]),
    ]);
    assert!(!outgoing.is_running());
}

#[test]
fn one_that_waits_for_a_client() {
    use Action::{Cancel, Hold, RefuseSave, Save, Stopped, Tell};
    table(&[
        (Input::Travels, vec![Tell(Status::Active)]),
        (Input::Stop, vec![Hold]),
        (
            Input::Still { wait: true },
            vec![Stopped, Tell(Status::PreSwitchover)],
        ),
        (Input::Continue, vec![Tell(Status::Device), Save]),
        (Input::Continue, vec![]),
        (
            Input::Ended(SourceEnd::Completed),
            vec![STAY, Tell(Status::Completed)],
        ),
    ]);
    table(&[
        (Input::Travels, vec![Tell(Status::Active)]),
        (Input::Stop, vec![Hold]),
        (
            Input::Still { wait: true },
            vec![Stopped, Tell(Status::PreSwitchover)],
        ),
        (
            Input::Cancel,
            vec![
                Tell(Status::Cancelling),
                RefuseSave(Broken::Cancelled),
                Cancel,
            ],
        ),
        (Input::Continue, vec![]),
        (
            Input::Ended(cancelled()),
            vec![BACK, Tell(Status::Cancelled)],
        ),
    ]);
}

#[test]
fn cancelled_at_any_moment() {
    use Action::{Cancel, Hold, RefuseSave, Save, Stopped, Tell};
    let end = |out: Vec<Action>| (Input::Ended(cancelled()), out);
    let cancel = || (Input::Cancel, vec![Tell(Status::Cancelling), Cancel]);
    let over = || Tell(Status::Cancelled);
    table(&[cancel(), (Input::Cancel, vec![]), end(vec![over()])]);
    table(&[
        cancel(),
        (Input::Travels, vec![]),
        (Input::Stop, vec![RefuseSave(Broken::Cancelled)]),
        end(vec![over()]),
    ]);
    // While it parks: it is let go when it stands still.
    let outgoing = table(&[
        (Input::Travels, vec![Tell(Status::Active)]),
        (Input::Stop, vec![Hold]),
        cancel(),
        end(vec![over()]),
        (Input::Still { wait: false }, vec![Stopped, BACK]),
    ]);
    assert!(!outgoing.is_running());
    table(&[
        (Input::Travels, vec![Tell(Status::Active)]),
        (Input::Stop, vec![Hold]),
        cancel(),
        (
            Input::Still { wait: false },
            vec![Stopped, RefuseSave(Broken::Cancelled)],
        ),
        end(vec![BACK, over()]),
    ]);
    table(&[
        (Input::Travels, vec![Tell(Status::Active)]),
        (Input::Stop, vec![Hold]),
        (
            Input::Still { wait: false },
            vec![Stopped, Tell(Status::Device), Save],
        ),
        cancel(),
        // An error on the way there is not what counts.
        (Input::Ended(failed()), vec![BACK, over()]),
    ]);
    // Too late.
    table(&[
        cancel(),
        (
            Input::Ended(SourceEnd::Completed),
            vec![Tell(Status::Completed)],
        ),
    ]);
}

#[test]
fn failures() {
    use Action::{Blame, Hold, Save, Stopped, Tell};
    let blame = || Blame("because".into());
    table(&[(Input::Ended(failed()), vec![blame(), Tell(Status::Failed)])]);
    let outgoing = table(&[
        (Input::Travels, vec![Tell(Status::Active)]),
        (Input::Stop, vec![Hold]),
        (Input::Ended(failed()), vec![blame(), Tell(Status::Failed)]),
    ]);
    assert!(outgoing.is_running(), "the machine is still to be let go");
    table(&[
        (Input::Travels, vec![Tell(Status::Active)]),
        (Input::Stop, vec![Hold]),
        (
            Input::Still { wait: false },
            vec![Stopped, Tell(Status::Device), Save],
        ),
        (
            Input::Ended(failed()),
            vec![blame(), BACK, Tell(Status::Failed)],
        ),
    ]);
    // Somebody else holds the machine.
    table(&[
        (Input::Travels, vec![Tell(Status::Active)]),
        (Input::Stop, vec![Hold]),
        (
            Input::NotHeld("because".into()),
            vec![Action::RefuseSave(Broken::Failed("because".into()))],
        ),
        (Input::Ended(failed()), vec![blame(), Tell(Status::Failed)]),
    ]);
    let why = Broken::Failed("the link is cut".into());
    let said = unknown(&why);
    assert!(said.starts_with("the link is cut. ") && said.contains("'cont'"));
    table(&[
        (Input::Travels, vec![Tell(Status::Active)]),
        (Input::Stop, vec![Hold]),
        (
            Input::Still { wait: false },
            vec![Stopped, Tell(Status::Device), Save],
        ),
        (
            Input::Ended(SourceEnd::Unknown(why)),
            vec![Blame(said), STAY, Tell(Status::Failed)],
        ),
    ]);
}
