//! All text commands: each area has a table of its own.

use super::{
    Verb, chardevs, devices, disks, forwards, guest, life, logs, memory, migration, nets, snapshots,
};

/// A command, as it is typed and shown.
pub struct Entry {
    /// As it is typed.
    pub name: &'static str,
    /// A shorter name.
    pub alias: Option<&'static str>,
    /// What it does.
    pub verb: Verb,
    /// What comes behind it.
    pub args: &'static str,
    /// What it is for.
    pub help: &'static str,
}

/// A command.
pub const fn entry(
    name: &'static str,
    alias: Option<&'static str>,
    verb: Verb,
    args: &'static str,
    help: &'static str,
) -> Entry {
    Entry {
        name,
        alias,
        verb,
        args,
        help,
    }
}

static AREAS: &[&[Entry]] = &[
    chardevs::COMMANDS,
    devices::COMMANDS,
    disks::COMMANDS,
    forwards::COMMANDS,
    guest::COMMANDS,
    life::COMMANDS,
    logs::COMMANDS,
    memory::COMMANDS,
    migration::COMMANDS,
    nets::COMMANDS,
    snapshots::COMMANDS,
];

/// The command of a name.
pub fn find(word: &str) -> Option<&'static Entry> {
    all().find(|entry| entry.name == word || entry.alias == Some(word))
}

/// All commands.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    AREAS.iter().copied().flatten()
}
