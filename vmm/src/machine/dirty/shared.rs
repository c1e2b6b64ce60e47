//! The bitmap that the kernel's vhost and other processes mark.
#![allow(unsafe_code)] // a slice of a mapping that others write

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use devices::vhost::DirtyLog;

use crate::layout::RamLayout;
use crate::memory::mapping::{self, Mapping, Sharing, Source};
use crate::migration::ram::PAGE;

/// Pages that others write, by guest address; there once somebody asked for it. Clones share it.
#[derive(Clone, Default)]
pub struct Foreign(Arc<OnceLock<Bitmap>>);

struct Bitmap {
    mapping: Mapping,
    file: Arc<File>,
}

impl Foreign {
    /// The bitmap for RAM that lies so.
    ///
    /// # Errors
    /// When the host has no memory for it.
    pub fn log(&self, layout: RamLayout) -> io::Result<DirtyLog> {
        let bitmap = match self.0.get() {
            Some(bitmap) => bitmap,
            None => {
                let new = Bitmap::new(layout)?;
                self.0.get_or_init(|| new)
            }
        };
        Ok(DirtyLog {
            address: bitmap.mapping.addr() as u64,
            len: u64::try_from(bitmap.mapping.len()).unwrap_or(0),
            file: bitmap.file.clone(),
        })
    }

    /// Forgets what was marked.
    pub fn forget(&self) {
        for word in self.0.get().map(Bitmap::words).unwrap_or_default() {
            word.store(0, Ordering::SeqCst);
        }
    }

    /// What was marked in `len` bytes from guest address `base` on, which is a multiple of 64
    /// pages: gives `found` each word that is not zero, with its number from there; begins anew.
    pub fn take(&self, base: u64, len: u64, mut found: impl FnMut(usize, u64)) {
        let Some(bitmap) = self.0.get() else {
            return;
        };
        let index = |address: u64| usize::try_from(address / PAGE).unwrap_or(usize::MAX);
        let (first, count) = (index(base) / 64, index(len).div_ceil(64));
        let words = bitmap.words().get(first..).unwrap_or_default();
        for (index, word) in words.iter().take(count).enumerate() {
            // Looked at before they are written: most pages of the bitmap are never touched.
            if word.load(Ordering::SeqCst) != 0 {
                found(index, word.swap(0, Ordering::SeqCst));
            }
        }
    }
}

impl Bitmap {
    fn new(layout: RamLayout) -> io::Result<Self> {
        let end = layout.ranges().map(|range| range.last()).max().unwrap_or(0);
        let words = (end / PAGE / 64).saturating_add(1);
        let len = words.saturating_mul(8).next_multiple_of(PAGE);
        let size = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let file = mapping::memfd(None, true)?;
        file.set_len(len)?;
        mapping::seal_size(&file)?;
        let mapping = Mapping::new(Source::File(&file, 0), Sharing::Shared, size, 4096, true)?;
        Ok(Bitmap {
            mapping,
            file: Arc::new(file),
        })
    }

    fn words(&self) -> &[AtomicU64] {
        let count = self.mapping.len() / size_of::<AtomicU64>();
        // SAFETY: the mapping is that large, aligned to a page, lives as long as `self`, and its
        // file cannot be cut short. Whoever else writes it does so atomically.
        unsafe { std::slice::from_raw_parts(self.mapping.addr().cast::<AtomicU64>(), count) }
    }
}
