//! Who the process becomes: a user with its groups.
#![allow(unsafe_code)] // the C library's user database, and the calls that change users

use std::ffi::{CStr, CString};
use std::io;

use anyhow::{Result, anyhow, bail};

use super::capabilities;

/// The most groups that the kernel knows (NGROUPS_MAX).
const MOST_GROUPS: usize = 65_536;

/// A user and all its groups, as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    uid: libc::uid_t,
    gid: libc::gid_t,
    groups: Vec<libc::gid_t>,
}

impl User {
    /// The user with this name, or of these numbers (`uid:gid`), who then is in no other group.
    ///
    /// # Errors
    /// QEMU's words when there is no such user; those of the user database.
    pub fn find(name: &str) -> Result<Self> {
        if let Some((uid, gid)) = numbers(name) {
            return Ok(User {
                uid,
                gid,
                groups: vec![gid],
            });
        }
        let nobody = || anyhow!("User \"{name}\" doesn't exist (and is not <uid>:<gid>)");
        let text = CString::new(name).map_err(|_| nobody())?;
        let (uid, gid) = entry(&text)?.ok_or_else(nobody)?;
        let groups = groups(&text, gid)?;
        Ok(User { uid, gid, groups })
    }

    /// Becomes this user, for good. Capabilities stay as they are until they are dropped, so that
    /// what only root may open can still be opened. Only for a process with one thread.
    ///
    /// # Errors
    /// What the kernel refuses, and root: that drops nothing.
    pub fn become_it(&self) -> Result<()> {
        let User { uid, gid, groups } = self;
        // SAFETY: the list lives across the call.
        let result = unsafe { libc::setgroups(groups.len(), groups.as_ptr()) };
        checked(result, || format!("Failed to set the groups {groups:?}"))?;
        // SAFETY: no pointers.
        let result = unsafe { libc::setresgid(*gid, *gid, *gid) };
        checked(result, || format!("Failed to setgid({gid})"))?;
        // SAFETY: no pointers.
        let result = unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) };
        checked(result, || "Failed to keep capabilities".to_owned())?;
        // SAFETY: no pointers.
        let result = unsafe { libc::setresuid(*uid, *uid, *uid) };
        checked(result, || format!("Failed to setuid({uid})"))?;
        if *uid == 0 {
            bail!("Dropping privileges failed");
        }
        capabilities::use_all().map_err(|error| anyhow!("Failed to keep capabilities: {error}"))
    }
}

fn checked(result: libc::c_int, what: impl Fn() -> String) -> Result<()> {
    match result {
        0 => Ok(()),
        _ => {
            let why = crate::process::errno(&io::Error::last_os_error());
            Err(anyhow!("{}: {why}", what()))
        }
    }
}

/// `uid:gid`; the number of all ones means nobody.
fn numbers(text: &str) -> Option<(libc::uid_t, libc::gid_t)> {
    let number = |text: &str| {
        text.parse::<u32>()
            .ok()
            .filter(|number| *number != u32::MAX)
    };
    let (uid, gid) = text.split_once(':')?;
    Some((number(uid)?, number(gid)?))
}

/// Number and first group of a user, from the user database: /etc/passwd, and with glibc whatever
/// else nsswitch.conf(5) names.
fn entry(name: &CStr) -> Result<Option<(libc::uid_t, libc::gid_t)>> {
    let mut room = vec![0; 1024];
    loop {
        // SAFETY: all bytes zero are a valid passwd: numbers and null pointers.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: name, entry, room and result live across the call, and the room has its size.
        let error = unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                &raw mut entry,
                room.as_mut_ptr(),
                room.len(),
                &raw mut found,
            )
        };
        match error {
            0 if found.is_null() => return Ok(None),
            0 => return Ok(Some((entry.pw_uid, entry.pw_gid))),
            libc::ERANGE if room.len() < 1 << 20 => room.resize(room.len().saturating_mul(4), 0),
            // What getpwnam(3) lists for "not found", and files that are not there.
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            other => {
                let why = crate::process::errno(&io::Error::from_raw_os_error(other));
                bail!("Cannot look up user {name:?}: {why}");
            }
        }
    }
}

/// All groups of a user, `first` included.
fn groups(name: &CStr, first: libc::gid_t) -> Result<Vec<libc::gid_t>> {
    let mut list: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut count = libc::c_int::try_from(list.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the list has room for as many as `count` says.
        let result =
            unsafe { libc::getgrouplist(name.as_ptr(), first, list.as_mut_ptr(), &raw mut count) };
        if result >= 0 {
            list.truncate(usize::try_from(count).unwrap_or(0));
            return Ok(list);
        }
        if list.len() >= MOST_GROUPS {
            bail!("User {name:?} is in too many groups");
        }
        list.resize(list.len().saturating_mul(4).min(MOST_GROUPS), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers_or_names() {
        let user = User::find("12:34").unwrap();
        assert_eq!((user.uid, user.gid, &*user.groups), (12, 34, &[34][..]));
        let root = User::find("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
    }

    #[test]
    fn nobody_else_is_found() {
        for name in [
            "",
            "no such user",
            "1",
            "1:",
            ":1",
            "1:2:3",
            "-1:2",
            "4294967295:1",
            "1:4294967295",
            "4294967296:1",
            "root:root",
            "a\0b",
        ] {
            let error = User::find(name).unwrap_err().to_string();
            let words = format!("User \"{name}\" doesn't exist (and is not <uid>:<gid>)");
            assert_eq!(error, words);
        }
    }
}
