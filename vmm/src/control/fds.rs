//! File descriptors that clients hand over: by name (`getfd`) and in sets (`add-fd`), and
//! `/dev/fdset/N` as the name of a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use crate::armour::files;

/// What is wrong with a request about descriptors; the wording is QEMU's.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FdError {
    /// The command came without a descriptor.
    #[error("No file descriptor supplied via SCM_RIGHTS")]
    Missing,
    /// Names that look like numbers are numbers.
    #[error("Parameter 'fdname' expects a name not starting with a digit")]
    BadName,
    /// No such name, or no such set or member.
    #[error("File descriptor named '{0}' not found")]
    NotFound(String),
    /// Set numbers count from zero.
    #[error("Parameter 'fdset-id' expects a non-negative value")]
    NegativeSet,
}

/// One descriptor in a set.
#[derive(Debug)]
struct Member {
    fd: Arc<OwnedFd>,
    opaque: Option<String>,
}

/// A set, for `query-fdsets`.
#[derive(Debug, PartialEq, Eq)]
pub struct FdSetInfo {
    /// Its number.
    pub id: i64,
    /// Number and note of each descriptor, the newest first.
    pub fds: Vec<(RawFd, Option<String>)>,
}

/// All descriptors that clients handed over. Named ones belong to the monitor they came through.
#[derive(Debug, Default)]
pub struct FdStore {
    named: BTreeMap<(u32, String), OwnedFd>,
    sets: Arc<Mutex<FdSets>>,
    opened: Arc<Mutex<Opened>>,
}

/// Files that were opened by name, and whether to be written; nobody looks after the start.
#[derive(Debug, Default)]
struct Opened {
    files: Vec<(PathBuf, bool)>,
    over: bool,
}

#[derive(Debug, Default)]
struct FdSets(BTreeMap<i64, Vec<Member>>);

impl FdStore {
    /// Keeps a descriptor under `name`; one that had the name before is closed.
    ///
    /// # Errors
    /// When none came along or the name begins with a digit.
    pub fn get_fd(&mut self, monitor: u32, name: &str, fds: Vec<OwnedFd>) -> Result<(), FdError> {
        let fd = last(fds)?;
        if name.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(FdError::BadName);
        }
        self.named.insert((monitor, name.to_owned()), fd);
        Ok(())
    }

    /// Takes the descriptor called `name` out of the store.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn take(&mut self, monitor: u32, name: &str) -> Result<OwnedFd, FdError> {
        self.named
            .remove(&(monitor, name.to_owned()))
            .ok_or_else(|| FdError::NotFound(name.to_owned()))
    }

    /// The same, whichever monitor it came through.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn take_named(&mut self, name: &str) -> Result<OwnedFd, FdError> {
        let key = self.named.keys().find(|(_, other)| other == name).cloned();
        let fd = key.and_then(|key| self.named.remove(&key));
        fd.ok_or_else(|| FdError::NotFound(name.to_owned()))
    }

    /// Adds a descriptor to the set `id`, or to a new one of the lowest free number.
    ///
    /// # Errors
    /// When none came along or the number is negative.
    pub fn add_fd(
        &mut self,
        id: Option<i64>,
        opaque: Option<String>,
        fds: Vec<OwnedFd>,
    ) -> Result<(i64, RawFd), FdError> {
        let fd = last(fds)?;
        if id.is_some_and(|id| id < 0) {
            return Err(FdError::NegativeSet);
        }
        let mut sets = lock(&self.sets);
        let id = match id {
            Some(id) => id,
            None => (0..)
                .find(|id| !sets.0.contains_key(id))
                .unwrap_or(i64::MAX),
        };
        let number = fd.as_raw_fd();
        sets.0.entry(id).or_default().push(Member {
            fd: Arc::new(fd),
            opaque,
        });
        Ok((id, number))
    }

    /// Takes one descriptor, or all, out of a set. What was opened through the set stays open.
    ///
    /// # Errors
    /// When there is no such set or member.
    pub fn remove_fd(&mut self, id: i64, fd: Option<i64>) -> Result<(), FdError> {
        let mut sets = lock(&self.sets);
        let not_found = || {
            FdError::NotFound(match fd {
                Some(fd) => format!("fdset-id:{id}, fd:{fd}"),
                None => format!("fdset-id:{id}"),
            })
        };
        let members = sets.0.get_mut(&id).ok_or_else(not_found)?;
        match fd {
            None => members.clear(),
            Some(number) => {
                let at = members
                    .iter()
                    .position(|m| i64::from(m.fd.as_raw_fd()) == number);
                members.remove(at.ok_or_else(not_found)?);
            }
        }
        if members.is_empty() {
            sets.0.remove(&id);
        }
        Ok(())
    }

    /// All sets.
    pub fn sets(&self) -> Vec<FdSetInfo> {
        let member = |m: &Member| (m.fd.as_raw_fd(), m.opaque.clone());
        let sets = lock(&self.sets);
        let info = |(id, members): (&i64, &Vec<Member>)| FdSetInfo {
            id: *id,
            fds: members.iter().rev().map(member).collect(),
        };
        sets.0.iter().rev().map(info).collect()
    }

    /// Something that opens files by name, `/dev/fdset/N` among them; usable on any thread.
    pub fn opener(&self) -> Opener {
        Opener {
            sets: self.sets.clone(),
            opened: self.opened.clone(),
        }
    }

    /// The files that were opened by name during the start, and whether to be written. Whatever
    /// is opened later is not remembered.
    pub fn take_opened(&self) -> Vec<(PathBuf, bool)> {
        let mut opened = lock(&self.opened);
        opened.over = true;
        std::mem::take(&mut opened.files)
    }
}

/// Opens files by name.
#[derive(Debug, Clone, Default)]
pub struct Opener {
    sets: Arc<Mutex<FdSets>>,
    opened: Arc<Mutex<Opened>>,
}

impl Opener {
    /// Opens `path` with the flags of open(2); O_CLOEXEC is added. For `/dev/fdset/N` it is a
    /// duplicate of the set's first descriptor with the access mode asked for.
    ///
    /// # Errors
    /// Those of open(2); for a set that is not there ENOENT, for one without a descriptor of that
    /// access mode EACCES.
    pub fn open(&self, path: &str, flags: i32, mode: u32) -> io::Result<File> {
        match path.strip_prefix("/dev/fdset/") {
            Some(number) => self.open_set(number, flags),
            None => {
                let file = open_file(path, flags, mode);
                match &file {
                    Ok(_) => self.remember(path, flags),
                    Err(error) => files::hint(path, error),
                }
                file
            }
        }
    }

    fn remember(&self, path: &str, flags: i32) {
        let mut opened = lock(&self.opened);
        if !opened.over {
            let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
            opened.files.push((path.into(), writes));
        }
    }

    fn open_set(&self, number: &str, flags: i32) -> io::Result<File> {
        let id: i64 = number.parse().map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("Could not parse fdset {number}"),
            )
        })?;
        let sets = lock(&self.sets);
        let members = sets
            .0
            .get(&id)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        let wanted = flags & libc::O_ACCMODE;
        for member in members {
            if status_flags(&member.fd)? & libc::O_ACCMODE == wanted {
                return Ok(File::from(member.fd.try_clone()?));
            }
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("Failed to find file descriptor with matching flags={wanted:#x}"),
        ))
    }
}

fn open_file(path: &str, flags: i32, mode: u32) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let access = flags & libc::O_ACCMODE;
    std::fs::OpenOptions::new()
        .read(access != libc::O_WRONLY)
        .write(access != libc::O_RDONLY)
        .create(flags & libc::O_CREAT != 0)
        .truncate(flags & libc::O_TRUNC != 0)
        .custom_flags(flags & !(libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC))
        .mode(mode)
        .open(path)
}

fn status_flags(fd: &OwnedFd) -> io::Result<i32> {
    crate::sys::status_flags(fd)
}

/// The descriptor a command works on: the last that came with it, as QEMU takes it.
fn last(mut fds: Vec<OwnedFd>) -> Result<OwnedFd, FdError> {
    fds.pop().ok_or(FdError::Missing)
}

fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn fd() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn names_are_replaced_taken_and_refused() {
        let mut store = FdStore::default();
        assert_eq!(store.get_fd(0, "a", vec![]), Err(FdError::Missing));
        assert_eq!(store.get_fd(0, "1a", vec![fd()]), Err(FdError::BadName));
        store.get_fd(0, "a", vec![fd()]).unwrap();
        store.get_fd(0, "a", vec![fd()]).unwrap();
        assert!(store.take(1, "a").is_err());
        store.take(0, "a").unwrap();
        let error = store.take(0, "a").unwrap_err();
        assert_eq!(error.to_string(), "File descriptor named 'a' not found");
    }

    #[test]
    fn sets_take_the_lowest_free_number_and_vanish_when_empty() {
        let mut store = FdStore::default();
        assert_eq!(
            store.add_fd(Some(-1), None, vec![fd()]),
            Err(FdError::NegativeSet)
        );
        let (first, number) = store.add_fd(None, Some("x".into()), vec![fd()]).unwrap();
        assert_eq!(first, 0);
        assert_eq!(store.add_fd(Some(2), None, vec![fd()]).unwrap().0, 2);
        assert_eq!(store.add_fd(None, None, vec![fd()]).unwrap().0, 1);
        assert_eq!(
            store.sets().iter().map(|set| set.id).collect::<Vec<_>>(),
            [2, 1, 0]
        );
        let error = store.remove_fd(0, Some(9999)).unwrap_err().to_string();
        assert_eq!(
            error,
            "File descriptor named 'fdset-id:0, fd:9999' not found"
        );
        store.remove_fd(0, Some(i64::from(number))).unwrap();
        let error = store.remove_fd(0, None).unwrap_err().to_string();
        assert_eq!(error, "File descriptor named 'fdset-id:0' not found");
    }

    #[test]
    fn opening_a_set_picks_the_access_mode() {
        let mut store = FdStore::default();
        let opener = store.opener();
        let missing = opener.open("/dev/fdset/7", libc::O_RDONLY, 0).unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
        let zero: OwnedFd = File::open("/dev/zero").unwrap().into();
        store.add_fd(Some(7), None, vec![zero]).unwrap();
        let refused = opener.open("/dev/fdset/7", libc::O_RDWR, 0).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        let text = "Failed to find file descriptor with matching flags=0x2";
        assert_eq!(refused.to_string(), text);
        let mut byte = [1];
        let mut file = opener.open("/dev/fdset/7", libc::O_RDONLY, 0).unwrap();
        store.remove_fd(7, None).unwrap();
        file.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [0]);
    }
}
