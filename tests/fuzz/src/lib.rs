//! What the targets share.

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
