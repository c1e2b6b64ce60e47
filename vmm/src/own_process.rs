//! Files of /proc/self that are read while the guest runs. A process that cannot be traced does
//! not own them, and a sandbox may keep them from being opened: they are opened at the start, and
//! stay open.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

static PAGEMAP: OnceLock<Option<Arc<File>>> = OnceLock::new();
static MAPS: OnceLock<Option<Arc<File>>> = OnceLock::new();

/// The most that is read of the list of mappings: a few hundred are usual.
const MOST_MAPS: usize = 16 << 20;

/// Opens them, in the process that stays: a child has others.
pub fn open() {
    pagemap();
    maps();
}

/// proc_pid_pagemap(5): an entry of eight bytes for each page.
pub fn pagemap() -> Option<Arc<File>> {
    file(&PAGEMAP, "/proc/self/pagemap")
}

/// The text of proc_pid_maps(5).
///
/// # Errors
/// Those of reading it.
pub fn mappings() -> io::Result<String> {
    let file = maps().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let mut text = Vec::new();
    let mut piece = [0; 16 << 10];
    while text.len() < MOST_MAPS {
        // By position: several threads may read at once.
        let at = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let got = file.read_at(&mut piece, at)?;
        match piece.get(..got) {
            None | Some([]) => break,
            Some(more) => text.extend_from_slice(more),
        }
    }
    String::from_utf8(text).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

fn maps() -> Option<Arc<File>> {
    file(&MAPS, "/proc/self/maps")
}

fn file(place: &OnceLock<Option<Arc<File>>>, path: &str) -> Option<Arc<File>> {
    place
        .get_or_init(|| File::open(path).map(Arc::new).ok())
        .clone()
}
