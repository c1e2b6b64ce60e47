//! What a client may send, for fuzz targets: bytes, in pieces of any size.

use crate::framing::Splitter;
use crate::session::{Action, Session};

/// One case: the first byte says how long the pieces are, the second one whether the client greets and whether a
/// command is answered before or after the next piece comes; the rest is what is sent.
///
/// # Panics
/// When what goes back is no line of JSON.
pub fn monitor(data: &[u8]) {
    let [piece, mode, rest @ ..] = data else {
        return;
    };
    let (mut splitter, mut session) = (Splitter::default(), Session::default());
    let mut actions = Vec::new();
    if mode & 1 == 0 {
        let hello = br#"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}"#;
        take(&mut splitter, &mut session, hello, &mut actions);
    }
    for bytes in rest.chunks(usize::from(*piece).max(1)) {
        take(&mut splitter, &mut session, bytes, &mut actions);
        if mode & 2 == 0 {
            session.answered();
        }
    }
    session.answered();
    while let Some(action) = session.next_action() {
        actions.push(action);
        session.answered();
    }
    for action in actions {
        if let Action::Send(text) = action {
            assert!(!text.contains('\n'), "{text}");
            assert!(api_spec::keyval::parse_json(&text).is_ok(), "{text}");
        }
    }
}

fn take(splitter: &mut Splitter, session: &mut Session, bytes: &[u8], actions: &mut Vec<Action>) {
    let mut frames = Vec::new();
    splitter.feed(bytes, &mut frames);
    for frame in frames {
        actions.extend(session.accept(frame, Vec::new()));
        actions.extend(session.next_action());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fuzzing_begins_with_does_no_harm() {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fuzz/corpus/qmp_session"
        );
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            monitor(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 10, "{count} cases");
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            monitor(&data);
        }
    }
}
