//! Locks on images, which programs that use QEMU's scheme respect and take: a byte for each
//! permission in use, and one for each that others may not have, as shared locks of the open file
//! description ("Disk image file locking" in QEMU's manual, and the protocol's description on the
//! qemu-block list). Whoever takes a permission looks whether somebody locked the byte that
//! forbids it, and the other way round.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use super::Locking;
use crate::error::BlockError;
use crate::graph::{Perm, Perms};
use crate::sys::{self, ByteLock};

/// The byte of the first permission in use.
const USED: u64 = 100;
/// The byte of the first permission that others may not have.
const FORBIDDEN: u64 = 200;

/// The lock on one image.
#[derive(Debug)]
pub(super) struct ImageLock {
    path: String,
    active: bool,
    /// What is locked now. Rank: below the graph's; nothing is taken under it.
    held: Mutex<Perms>,
}

impl ImageLock {
    /// # Errors
    /// When locking is demanded and the host has none.
    pub fn new(file: &File, path: &str, locking: Locking) -> Result<Self, BlockError> {
        let active = match locking {
            Locking::Off => false,
            Locking::On | Locking::Auto => match sys::is_locked_by_other(file, USED) {
                Ok(_) => true,
                Err(error) if locking == Locking::On => {
                    let what = format!("Could not lock '{path}'");
                    return Err(BlockError::host(what, error));
                }
                Err(error) => {
                    log::warn!("Image '{path}' is not locked against others: {error}");
                    false
                }
            },
        };
        Ok(ImageLock {
            path: path.to_owned(),
            active,
            held: Mutex::new(Perms::NONE),
        })
    }

    /// Goes over to `wanted`.
    ///
    /// # Errors
    /// When another program does not allow it; nothing has changed then.
    pub fn set(&self, file: &File, wanted: Perms) -> Result<(), BlockError> {
        if !self.active {
            return Ok(());
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let both = held.and_also(wanted);
        let taken = self
            .take(file, both)
            .and_then(|()| self.check(file, wanted));
        let keep = if taken.is_ok() { wanted } else { *held };
        self.release(file, both, keep);
        *held = keep;
        taken
    }

    fn take(&self, file: &File, perms: Perms) -> Result<(), BlockError> {
        for byte in bytes(perms) {
            sys::lock_byte(file, byte, ByteLock::Share).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    fn check(&self, file: &File, wanted: Perms) -> Result<(), BlockError> {
        let locked = |byte| sys::is_locked_by_other(file, byte).map_err(|e| self.failed(e));
        for perm in Perm::ALL {
            if wanted.uses(perm) && locked(FORBIDDEN + perm.index())? {
                return Err(self.locked("", perm));
            }
            if !wanted.shares(perm) && locked(USED + perm.index())? {
                return Err(self.locked("shared ", perm));
            }
        }
        Ok(())
    }

    fn release(&self, file: &File, from: Perms, keep: Perms) {
        let keep: Vec<u64> = bytes(keep).collect();
        for byte in bytes(from).filter(|byte| !keep.contains(byte)) {
            if let Err(error) = sys::lock_byte(file, byte, ByteLock::Release) {
                log::warn!("Could not unlock '{}': {error}", self.path);
            }
        }
    }

    fn locked(&self, mode: &'static str, perm: Perm) -> BlockError {
        BlockError::Locked {
            mode,
            permission: perm.name(),
            path: self.path.clone(),
        }
    }

    fn failed(&self, error: io::Error) -> BlockError {
        BlockError::host(format!("Failed to lock byte of '{}'", self.path), error)
    }
}

/// The bytes that stand for these permissions.
fn bytes(perms: Perms) -> impl Iterator<Item = u64> {
    let used = Perm::ALL.into_iter().filter(move |perm| perms.uses(*perm));
    let forbidden = Perm::ALL
        .into_iter()
        .filter(move |perm| !perms.shares(*perm));
    used.map(|perm| USED + perm.index())
        .chain(forbidden.map(|perm| FORBIDDEN + perm.index()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(file: &File, locking: Locking) -> ImageLock {
        ImageLock::new(file, "a.img", locking).unwrap()
    }

    #[test]
    fn two_writers_are_refused_and_readers_are_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (one, two) = (file.reopen().unwrap(), file.reopen().unwrap());
        let (first, second) = (lock(&one, Locking::On), lock(&two, Locking::On));
        let writer = Perms::device(true, false);
        let reader = Perms::device(false, true);
        first.set(&one, writer).unwrap();
        let error = second.set(&two, writer).unwrap_err();
        assert_eq!(error.to_string(), "Failed to get \"write\" lock");
        let hint = error.hint().unwrap();
        assert_eq!(hint, "Is another process using the image [a.img]?");
        // Nothing is left of the attempt.
        first.set(&one, Perms::NONE).unwrap();
        first.set(&one, writer).unwrap();
        second.set(&two, reader).unwrap();
        let error = second.set(&two, Perms::device(false, false)).unwrap_err();
        assert_eq!(error.to_string(), "Failed to get shared \"write\" lock");
        first.set(&one, Perms::NONE).unwrap();
        second.set(&two, writer).unwrap();
        assert!(first.set(&one, writer).is_err());
        lock(&one, Locking::Off).set(&one, writer).unwrap();
    }

    #[test]
    fn writers_who_share_get_along() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (one, two) = (file.reopen().unwrap(), file.reopen().unwrap());
        let writer = Perms::device(true, true);
        lock(&one, Locking::Auto).set(&one, writer).unwrap();
        lock(&two, Locking::Auto).set(&two, writer).unwrap();
    }
}
