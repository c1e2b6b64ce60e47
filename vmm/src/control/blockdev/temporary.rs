//! `snapshot=on`: writes go to a temporary image that nobody finds again.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use block::{
    Aio, BackingSpec, BlockError, ChildSpec, DetectZeroes, DriverSpec, FileOpener, FileSpec,
    FormatKind, FormatSpec, Graph, Hold, Locking, NodeSpec, Perms, Qcow2Create,
};

use super::{Blockdevs, Refusal};

/// A file whose name goes away with this.
struct Named(PathBuf);

impl Drop for Named {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            log::warn!("'{}' cannot be removed: {error}", self.0.display());
        }
    }
}

/// What a temporary image needs until a drive has it.
pub(super) struct Overlay {
    _base: Hold,
    _named: Named,
}

impl Blockdevs {
    /// An empty image above `base`, which is only read from now on.
    ///
    /// # Errors
    /// When one of them cannot be made.
    pub(super) fn overlay(
        &self,
        mut base: NodeSpec,
        file: &str,
        opener: &mut dyn FileOpener,
    ) -> Result<(NodeSpec, Overlay), Refusal> {
        let (discard, detect_zeroes) = (base.discard, base.detect_zeroes);
        base.detect_zeroes = DetectZeroes::Off;
        base.read_only = Some(true);
        base.auto_read_only = Some(false);
        let base = self
            .graph
            .hold(ChildSpec::Inline(base), Perms::NONE, opener)?;
        self.warn_of_guess(base.name(), file);
        let named = temporary_file()
            .map_err(|error| BlockError::open(&format!("{}", directory().display()), &error))?;
        let file = NodeSpec::new(DriverSpec::File(FileSpec {
            filename: named.0.to_string_lossy().into_owned(),
            aio: Aio::Threads,
            locking: Locking::Auto,
        }));
        make_empty(&self.graph, &file, base.node().info().size, opener)?;
        let mut format = FormatSpec::new(FormatKind::Qcow2, ChildSpec::Inline(file));
        let below = ChildSpec::Reference(base.name().to_owned());
        format.backing = Some(BackingSpec::Node(Box::new(below)));
        let above = NodeSpec {
            read_only: Some(false),
            auto_read_only: Some(false),
            discard,
            detect_zeroes,
            // What is lost with the program need not be durable.
            no_flush: Some(true),
            ..NodeSpec::new(DriverSpec::Format(format))
        };
        let kept = Overlay {
            _base: base,
            _named: named,
        };
        Ok((above, kept))
    }
}

fn make_empty(
    graph: &Graph,
    file: &NodeSpec,
    size: u64,
    opener: &mut dyn FileOpener,
) -> Result<(), BlockError> {
    let child = ChildSpec::Inline(file.clone());
    let hold = graph.hold(child, Perms::overwriter(), opener)?;
    let options = Qcow2Create {
        size,
        ..Qcow2Create::default()
    };
    block::create_qcow2(&*hold.node(), &options)
}

/// Where temporary files go; those of disks grow, which file systems in memory are no place for.
fn directory() -> PathBuf {
    let given = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty());
    given.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// A new file that only we may open.
fn temporary_file() -> io::Result<Named> {
    let directory = directory();
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..100 {
        let path = directory.join(format!("qvmd.{:016x}", RandomState::new().hash_one(0u8)));
        match create(&path) {
            Ok(_) => return Ok(Named(path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}
