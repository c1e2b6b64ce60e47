//! Which files may be read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use usernet::landlock::{Place, Rights, Ruleset, Scope};

/// From here on only these files can be opened. Without Landlock in the kernel nothing happens:
/// the system call filter still lets files be opened for reading only.
///
/// # Errors
/// Those of the system calls.
pub fn restrict(tftp: Option<&str>) -> io::Result<()> {
    let Some(rules) = Ruleset::new(Rights::ALL, Scope::SignalsAndAbstractSockets)? else {
        return Ok(());
    };
    if let Some(directory) = tftp {
        allow(&rules, Path::new(directory), Rights::READ | Rights::LIST)?;
    }
    for directory in resolver_directories() {
        allow(&rules, &directory, Rights::READ)?;
    }
    rules.restrict()
}

/// Where the list of name servers is, and where it really is.
fn resolver_directories() -> Vec<PathBuf> {
    let real = std::fs::canonicalize("/etc/resolv.conf").ok();
    let mut directories = vec![PathBuf::from("/etc")];
    directories.extend(real.as_deref().and_then(Path::parent).map(Path::to_owned));
    directories
}

/// What is not there cannot be read, and need not be allowed.
fn allow(rules: &Ruleset, path: &Path, rights: Rights) -> io::Result<()> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let opened: io::Result<File> = OpenOptions::new().read(true).custom_flags(flags).open(path);
    match opened {
        Ok(directory) => rules.allow(&directory, Place::Directory, rights),
        Err(_) => Ok(()),
    }
}
