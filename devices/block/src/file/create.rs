//! Making image files: the driver `file` of blockdev-create.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::lock::ImageLock;
use super::{FileOpener, Locking};
use crate::error::BlockError;
use crate::graph::Perms;
use crate::sys;

/// Whether storage is there before something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preallocation {
    /// It is not.
    #[default]
    Off,
    /// The tables of a format are; of a plain file that says nothing.
    Metadata,
    /// It is kept free for the file.
    Falloc,
    /// It is written to.
    Full,
}

impl Preallocation {
    /// Its name in the interface.
    pub const fn name(self) -> &'static str {
        match self {
            Preallocation::Off => "off",
            Preallocation::Metadata => "metadata",
            Preallocation::Falloc => "falloc",
            Preallocation::Full => "full",
        }
    }
}

/// A file to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCreate {
    /// Its path, as the opener understands it.
    pub filename: String,
    /// Bytes.
    pub size: u64,
    /// What storage it has.
    pub preallocation: Preallocation,
    /// On file systems that copy on write: overwrite in place.
    pub nocow: bool,
    /// What the file system is told to allocate at a time, in bytes; 0 for its own choice, 1 MiB
    /// where it is not given.
    pub extent_size_hint: Option<u64>,
}

/// What the file system is told unless something else is asked for.
const EXTENT_SIZE_HINT: u64 = 1 << 20;
/// Bytes that are written at once.
const CHUNK: usize = 1 << 20;

/// A file that is open and is not made yet.
pub struct NewFile {
    file: File,
    options: FileCreate,
}

impl NewFile {
    /// Opens the file, which is made where there is none; one that is there stays as it is.
    ///
    /// # Errors
    /// Options that cannot be, and the host's.
    pub fn open(options: FileCreate, opener: &mut dyn FileOpener) -> Result<Self, BlockError> {
        let path = &options.filename;
        if options.preallocation == Preallocation::Metadata {
            return Err(BlockError::Unsupported(
                "Unsupported preallocation mode 'metadata'".to_owned(),
            ));
        }
        if i64::try_from(options.size).is_err() {
            let text = "Image size is too large";
            return Err(BlockError::Unsupported(text.to_owned()));
        }
        if options.extent_size_hint > Some(u32::MAX.into()) {
            let text = "Extent size hint is too large";
            return Err(BlockError::Unsupported(text.to_owned()));
        }
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC;
        let file = opener
            .open(path, flags)
            .map_err(|error| BlockError::host(format!("Could not create '{path}'"), error))?;
        Ok(NewFile { file, options })
    }

    /// Makes it what it is to be: empty, and then of its size. Blocks. `goes_on` is asked now and
    /// then.
    ///
    /// # Errors
    /// When somebody uses it, and the host's; the file is empty then. ECANCELED when it is not to
    /// go on.
    pub fn fill(&self, goes_on: &dyn Fn() -> bool) -> Result<(), BlockError> {
        let lock = ImageLock::new(&self.file, &self.options.filename, Locking::Auto)?;
        lock.set(&self.file, Perms::maker())?;
        let filled = self.fill_locked(goes_on);
        if filled.is_err() && self.file.set_len(0).is_err() {
            log::warn!("Could not empty '{}' again", self.options.filename);
        }
        lock.set(&self.file, Perms::NONE)?;
        filled
    }

    fn fill_locked(&self, goes_on: &dyn Fn() -> bool) -> Result<(), BlockError> {
        let FileCreate { size, nocow, .. } = self.options;
        let failed = |what: &'static str| move |error| BlockError::host(what, error);
        let resized = failed("Could not resize file");
        self.file.set_len(0).map_err(resized)?;
        if nocow && let Err(error) = sys::set_nocow(&self.file) {
            // It only makes things faster.
            log::debug!("'{}': nocow: {error}", self.options.filename);
        }
        self.hint();
        match self.options.preallocation {
            Preallocation::Off | Preallocation::Metadata => {
                self.file.set_len(size).map_err(resized)
            }
            Preallocation::Falloc if size == 0 => Ok(()),
            Preallocation::Falloc => sys::fallocate(&self.file, 0, 0, size)
                .map_err(failed("Could not preallocate data for the new file")),
            Preallocation::Full => self
                .write_zeroes(goes_on)
                .map_err(failed("Could not write zeros for preallocation")),
        }
    }

    fn hint(&self) {
        let asked = self.options.extent_size_hint;
        let hint = asked.unwrap_or(EXTENT_SIZE_HINT);
        let Some(hint) = u32::try_from(hint).ok().filter(|hint| *hint > 0) else {
            return;
        };
        if let Err(error) = sys::set_extent_size(&self.file, hint)
            && asked.is_some()
        {
            log::warn!("Could not set extent size hint: {error}");
        }
    }

    fn write_zeroes(&self, goes_on: &dyn Fn() -> bool) -> io::Result<()> {
        let size = self.options.size;
        // So that a full disk is noticed at once where the file system can tell.
        self.file.set_len(size)?;
        let zeroes = vec![0; CHUNK];
        let mut at = 0;
        while at < size {
            if !goes_on() {
                return Err(io::Error::from_raw_os_error(libc::ECANCELED));
            }
            let len = (size - at).min(CHUNK as u64);
            let chunk = zeroes.get(..len as usize).unwrap_or(&[]);
            self.file.write_all_at(chunk, at)?;
            at = at.saturating_add(len);
        }
        self.file.sync_all()
    }
}

#[cfg(test)]
#[path = "create_test.rs"]
mod tests;
