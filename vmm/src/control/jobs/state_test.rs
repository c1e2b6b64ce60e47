use api_spec::JobStatus as S;
use api_spec::JobVerb as V;
use proptest::prelude::*;

use super::*;

const AUTO: Behaviour = Behaviour {
    auto_finalize: true,
    auto_dismiss: true,
    completable: true,
};
const MANUAL: Behaviour = Behaviour {
    auto_finalize: false,
    auto_dismiss: false,
    completable: false,
};

fn at(status: S, behaviour: Behaviour) -> State {
    State {
        status,
        paused: matches!(status, S::Paused | S::Standby),
        ..State::new(behaviour)
    }
}

fn failed(text: &str) -> Result<(), String> {
    Err(text.to_owned())
}

#[test]
fn states_follow_each_other() {
    use Action::{Abandon, Finalize, Forget, Tell};
    for (from, behaviour, input, actions) in [
        (S::Created, AUTO, Input::Started, vec![Tell(S::Running)]),
        (S::Running, AUTO, Input::Paused, vec![Tell(S::Paused)]),
        (S::Paused, AUTO, Input::Resumed, vec![Tell(S::Running)]),
        (S::Running, AUTO, Input::Ready, vec![Tell(S::Ready)]),
        (S::Ready, AUTO, Input::Paused, vec![Tell(S::Standby)]),
        (S::Standby, AUTO, Input::Resumed, vec![Tell(S::Ready)]),
        // What comes late changes nothing.
        (S::Concluded, AUTO, Input::Paused, vec![]),
        (S::Running, AUTO, Input::Resumed, vec![]),
        (
            S::Running,
            AUTO,
            Input::Ended(Ok(())),
            vec![Tell(S::Waiting), Tell(S::Pending), Finalize],
        ),
        (
            S::Ready,
            MANUAL,
            Input::Ended(Ok(())),
            vec![Tell(S::Waiting), Tell(S::Pending)],
        ),
        (
            S::Standby,
            MANUAL,
            Input::Ended(Ok(())),
            vec![Tell(S::Ready), Tell(S::Waiting), Tell(S::Pending)],
        ),
        (
            S::Running,
            AUTO,
            Input::Ended(failed("x")),
            vec![
                Tell(S::Aborting),
                Abandon,
                Tell(S::Concluded),
                Tell(S::Null),
                Forget,
            ],
        ),
        (
            S::Running,
            MANUAL,
            Input::Ended(failed("x")),
            vec![Tell(S::Aborting), Abandon, Tell(S::Concluded)],
        ),
        (
            S::Pending,
            MANUAL,
            Input::Finalized(Ok(())),
            vec![Tell(S::Concluded)],
        ),
        (
            S::Pending,
            AUTO,
            Input::Finalized(Ok(())),
            vec![Tell(S::Concluded), Tell(S::Null), Forget],
        ),
        (
            S::Pending,
            MANUAL,
            Input::Finalized(failed("x")),
            vec![Tell(S::Aborting), Abandon, Tell(S::Concluded)],
        ),
        (S::Pending, MANUAL, Input::Verb(V::Finalize), vec![Finalize]),
        (
            S::Pending,
            MANUAL,
            Input::Verb(V::Cancel),
            vec![Tell(S::Aborting), Abandon, Tell(S::Concluded)],
        ),
        (
            S::Concluded,
            MANUAL,
            Input::Verb(V::Dismiss),
            vec![Tell(S::Null), Forget],
        ),
    ] {
        let at_all = format!("{from:?} {input:?}");
        let mut state = at(from, behaviour);
        assert_eq!(state.step(input), Ok(actions), "{at_all}");
    }
}

#[test]
fn threads_are_asked() {
    for (from, verb, ask) in [
        (S::Running, V::Pause, Ask::Pause),
        (S::Ready, V::Pause, Ask::Pause),
        (S::Paused, V::Resume, Ask::Resume),
        (S::Standby, V::Resume, Ask::Resume),
        (S::Running, V::Cancel, Ask::Cancel),
        (S::Paused, V::Cancel, Ask::Cancel),
        (S::Standby, V::Cancel, Ask::Cancel),
        (S::Ready, V::Complete, Ask::Complete),
    ] {
        let mut state = at(from, AUTO);
        let actions = state.step(Input::Verb(verb));
        assert_eq!(actions, Ok(vec![Action::Ask(ask)]), "{from:?} {verb:?}");
        assert_eq!(state.status(), from, "its thread changes the state");
    }
}

/// Which verb is taken where: a row for each state, in the order of the verbs.
#[test]
fn verbs_have_their_states() {
    const ROWS: [(S, &str); 11] = [
        (S::Undefined, "........"),
        (S::Created, "xxxxx..."),
        (S::Running, "xxxx...x"),
        (S::Paused, "xxxx...x"),
        (S::Ready, "xxxxx..x"),
        (S::Standby, "xxxx...x"),
        (S::Waiting, "x......."),
        (S::Pending, "x.....x."),
        (S::Aborting, "........"),
        (S::Concluded, ".....x.."),
        (S::Null, "........"),
    ];
    for (status, row) in ROWS {
        let taken: String = V::ALL
            .iter()
            .map(|verb| if accepts(status, *verb) { 'x' } else { '.' })
            .collect();
        assert_eq!(taken, row, "{status:?}");
    }
    assert_eq!(S::ALL.len(), ROWS.len());
}

#[test]
fn refusals_are_in_qemus_words() {
    let refused = |state: &mut State, verb| {
        let before = state.clone();
        let refusal = state.step(Input::Verb(verb)).unwrap_err();
        assert_eq!(*state, before);
        refusal.describe("j")
    };
    let mut state = at(S::Running, AUTO);
    assert_eq!(
        refused(&mut state, V::Dismiss),
        "Job 'j' in state 'running' cannot accept command verb 'dismiss'"
    );
    assert_eq!(
        refused(&mut state, V::Resume),
        "Can't resume a job that was not paused"
    );
    state.step(Input::Verb(V::Pause)).unwrap();
    assert_eq!(refused(&mut state, V::Pause), "Job is already paused");
    assert_eq!(
        refused(&mut at(S::Ready, MANUAL), V::Complete),
        "The active block job 'j' cannot be completed"
    );
    let mut state = at(S::Ready, AUTO);
    state.step(Input::Verb(V::Cancel)).unwrap();
    assert_eq!(
        refused(&mut state, V::Complete),
        "The active block job 'j' cannot be completed"
    );
    // While the last step is under way nothing can be asked.
    let mut state = at(S::Pending, MANUAL);
    state.step(Input::Verb(V::Finalize)).unwrap();
    for verb in [V::Finalize, V::Cancel] {
        assert_eq!(
            refused(&mut state, verb),
            format!(
                "Job 'j' in state 'pending' cannot accept command verb '{}'",
                verb.name()
            )
        );
    }
}

#[test]
fn errors_are_kept() {
    let mut state = at(S::Running, MANUAL);
    state.step(Input::Verb(V::Cancel)).unwrap();
    state.step(Input::Ended(Ok(()))).unwrap();
    assert_eq!(state.error(), Some("Operation canceled"));
    let mut state = at(S::Running, MANUAL);
    state.step(Input::Verb(V::Cancel)).unwrap();
    state.step(Input::Ended(failed("no room"))).unwrap();
    assert_eq!(state.error(), Some("no room"));
    let mut state = at(S::Running, MANUAL);
    state.step(Input::Ended(Ok(()))).unwrap();
    assert_eq!(state.error(), None);
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::Paused),
        Just(Input::Resumed),
        Just(Input::Ready),
        proptest::sample::select(V::ALL.to_vec()).prop_map(Input::Verb),
    ]
}

proptest! {
    /// Whatever is asked meanwhile, a job ends, and is told so once.
    #[test]
    fn every_job_ends(
        flags in any::<[bool; 3]>(),
        inputs in proptest::collection::vec(input(), 0..20),
        fails in any::<bool>(),
    ) {
        let [auto_finalize, auto_dismiss, completable] = flags;
        let mut state = State::new(Behaviour { auto_finalize, auto_dismiss, completable });
        let mut told = Vec::new();
        let end = if fails { failed("x") } else { Ok(()) };
        let inputs = std::iter::once(Input::Started).chain(inputs);
        for input in inputs.chain([Input::Ended(end)]) {
            told.extend(state.step(input).unwrap_or_default());
        }
        if state.status() == S::Pending && !state.finalizing {
            told.extend(state.step(Input::Verb(V::Finalize)).unwrap());
        }
        if state.finalizing {
            told.extend(state.step(Input::Finalized(Ok(()))).unwrap());
        }
        if state.status() == S::Concluded {
            told.extend(state.step(Input::Verb(V::Dismiss)).unwrap());
        }
        prop_assert_eq!(state.status(), S::Null);
        let count = |wanted| told.iter().filter(|action| **action == wanted).count();
        prop_assert_eq!(count(Action::Tell(S::Concluded)), 1);
        prop_assert_eq!(count(Action::Forget), 1);
        prop_assert_eq!(count(Action::Abandon) + count(Action::Finalize), 1);
        prop_assert_eq!(count(Action::Abandon) == 1, state.error().is_some());
    }
}
