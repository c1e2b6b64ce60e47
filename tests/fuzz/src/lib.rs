//! What the targets share.

pub mod migration;

use std::path::Path;
use std::sync::OnceLock;

use block::FormatKind;
use block::testing::fuzz::{Seed, exercise, seeds};

/// A case: an image of its own, or one of the seeds with patches; and what is done with it.
///
/// The first byte says which: 255 means that an image follows, anything else is the number of a
/// seed. The second byte says how many patches follow, the rest chooses what is done.
pub fn image(kind: FormatKind, data: &[u8]) {
    static SEEDS: OnceLock<Vec<Seed>> = OnceLock::new();
    let [seed, patches, rest @ ..] = data else {
        return;
    };
    if *seed == u8::MAX {
        exercise(kind, rest.to_vec(), data);
        return;
    }
    let seeds = SEEDS.get_or_init(|| load(kind));
    let Some(seed) = seeds.get(usize::from(*seed) % seeds.len().max(1)) else {
        return;
    };
    let (patches, rest) = rest.split_at(rest.len().min(usize::from(patches % 8) * 6));
    exercise(kind, seed.patched(patches), rest);
}

fn load(kind: FormatKind) -> Vec<Seed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let seeds = seeds(kind, &folder).into_iter();
    seeds.map(|(_, bytes)| Seed::new(kind, bytes)).collect()
}

/// A case of operations: which seed, and what is done with it.
pub fn operations(data: &[u8]) {
    static SEEDS: OnceLock<Vec<Seed>> = OnceLock::new();
    let seeds = SEEDS.get_or_init(|| {
        let mut seeds = load(FormatKind::Qed);
        seeds.extend(load(FormatKind::Qcow2));
        seeds
    });
    if let [seed, rest @ ..] = data
        && let Some(seed) = seeds.get(usize::from(*seed) % seeds.len().max(1))
    {
        block::testing::fuzz::operations(seed, rest);
    }
}

/// A case of a monitor: how the bytes come in pieces, and the bytes. Each command is answered before or after the
/// next piece comes.
pub fn monitor(data: &[u8]) {
    use qmp::framing::Splitter;
    use qmp::session::{Action, Session};

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
            // What is sent is one JSON value in one line.
            assert!(!text.contains('\n'), "{text}");
            assert!(api_spec::keyval::parse_json(&text).is_ok(), "{text}");
        }
    }
}

fn take(
    splitter: &mut qmp::framing::Splitter,
    session: &mut qmp::session::Session,
    bytes: &[u8],
    actions: &mut Vec<qmp::session::Action>,
) {
    let mut frames = Vec::new();
    splitter.feed(bytes, &mut frames);
    for frame in frames {
        actions.extend(session.accept(frame, Vec::new()));
        actions.extend(session.next_action());
    }
}

/// A case of a command line: its words, a line each.
pub fn options(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let words: Vec<String> = text.lines().map(str::to_owned).collect();
    drop(vmm::cli::parse(&words));
    for word in &words {
        let flags = api_spec::keyval::Flags::Refused;
        drop(api_spec::keyval::parse(word, Some("driver"), flags));
        drop(api_spec::keyval::parse(word, None, flags));
        drop(api_spec::keyval::parse_json(word));
        let _ = api_spec::keyval::parse_size(word);
        let _ = vmm::cli::opts::split(word);
    }
}
