//! Where a unix socket lies in the file system.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The path of a socket that we bound, removed when this is dropped, unless somebody else put
/// another file there.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    /// Device and inode of what we made.
    file: Option<(u64, u64)>,
}

impl SocketPath {
    /// Of a socket that was just bound.
    pub fn new(path: PathBuf) -> Self {
        // Whoever goes into the background changes the directory before the end.
        let path = std::path::absolute(&path).unwrap_or(path);
        let file = identity(&path);
        SocketPath { path, file }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        if self.file.is_some() && identity(&self.path) == self.file {
            // It may be gone already.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_our_own_socket_is_removed() {
        let at = std::env::temp_dir().join(format!("socket-path-test-{}", std::process::id()));
        let _ = std::fs::remove_file(&at);
        let first = UnixListener::bind(&at).unwrap();
        let ours = SocketPath::new(at.clone());
        assert_eq!(ours.path(), at);
        std::fs::remove_file(&at).unwrap();
        let second = UnixListener::bind(&at).unwrap();
        drop((ours, first));
        assert!(at.exists(), "somebody else's");
        drop((SocketPath::new(at.clone()), second));
        assert!(!at.exists());
        // What is gone already is no matter.
        drop(SocketPath::new(at));
    }
}
