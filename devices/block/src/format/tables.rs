//! Pieces of tables of images that are only read, as they are in the file.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fields;
use crate::edge::Edge;

/// Bytes of a piece.
const PAGE: u64 = 16 << 10;
/// Most pieces of an image in memory: 2 MiB.
const MOST: usize = 128;
/// At least so many of each of its files.
const LEAST: usize = 4;

/// Whether the caller may block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Only what is in memory.
    No,
    /// It is read.
    Yes,
}

/// Tables in a file, read piece by piece when they are needed.
pub(crate) struct Tables {
    file: Edge,
    /// Most pieces in memory.
    most: usize,
    /// A leaf.
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    pages: HashMap<u64, Page>,
    /// Counts uses.
    clock: u64,
}

struct Page {
    bytes: Arc<[u8]>,
    used: u64,
}

impl Tables {
    /// The tables in one of `files` files that an image consists of.
    pub fn new(file: Edge, files: usize) -> Self {
        Tables {
            file,
            most: MOST.checked_div(files).unwrap_or(MOST).max(LEAST),
            pages: Mutex::default(),
        }
    }

    /// Forgets what is in memory: the file may have changed.
    pub fn forget(&self) {
        self.pages().pages.clear();
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `N` bytes at `offset`; `None` when they are not in memory and the caller does not wait.
    ///
    /// # Errors
    /// The host's; EIO beyond the end.
    pub fn get<const N: usize>(&self, offset: u64, wait: Wait) -> io::Result<Option<[u8; N]>> {
        let mut out = [0; N];
        let mut at = offset;
        let mut left = out.as_mut_slice();
        while !left.is_empty() {
            let Some(page) = self.page(at / PAGE, wait)? else {
                return Ok(None);
            };
            let from = page.get((at % PAGE) as usize..).unwrap_or(&[]);
            let count = from.len().min(left.len());
            if count == 0 {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            let (to, rest) = left.split_at_mut(count);
            fields::put(to, 0, from);
            left = rest;
            at = at.saturating_add(count as u64);
        }
        Ok(Some(out))
    }

    fn page(&self, number: u64, wait: Wait) -> io::Result<Option<Arc<[u8]>>> {
        if let Some(page) = self.pages().find(number) {
            return Ok(Some(page));
        }
        if wait == Wait::No {
            return Ok(None);
        }
        let node = self.file.there()?;
        let bytes = fields::read_up_to(&*node, number.saturating_mul(PAGE), PAGE)?;
        let bytes: Arc<[u8]> = bytes.into();
        self.pages().insert(number, bytes.clone(), self.most);
        Ok(Some(bytes))
    }
}

impl Pages {
    fn find(&mut self, number: u64) -> Option<Arc<[u8]>> {
        self.clock = self.clock.wrapping_add(1);
        let page = self.pages.get_mut(&number)?;
        page.used = self.clock;
        Some(page.bytes.clone())
    }

    fn insert(&mut self, number: u64, bytes: Arc<[u8]>, most: usize) {
        if self.pages.len() >= most {
            let oldest = self.pages.iter().min_by_key(|(_, page)| page.used);
            let oldest = oldest.map(|(number, _)| *number);
            oldest.and_then(|number| self.pages.remove(&number));
        }
        let used = self.clock;
        self.pages.insert(number, Page { bytes, used });
    }
}
