//! QEMU's tools, which tests hold this driver against; and files as nodes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use crate::edge::Edge;
use crate::error::BlockError;
use crate::file::{Aio, FileKind, FileNode, FileSpec, Locking, OpenMode};
use crate::format::OpenFormat;
use crate::gate::{Discard, Policy, Screen};
use crate::graph::Qcow2Options;
use crate::node::BlockNode;
use crate::notice::Reporter;
use crate::pool::test_pool;

/// The file as a node, for writing.
pub(super) fn file(path: &Path) -> Arc<dyn BlockNode> {
    let spec = FileSpec {
        filename: path.to_str().unwrap().to_owned(),
        aio: Aio::Threads,
        locking: Locking::Off,
    };
    let mode = OpenMode {
        kind: FileKind::Regular,
        read_only: false,
        auto_read_only: false,
        direct: false,
    };
    let policy = Policy {
        discard: Discard::Unmap,
        granule: 1,
        ..Policy::default()
    };
    let mut opener = |path: &str, _flags: i32| {
        std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
    };
    let node = FileNode::open(
        &spec,
        mode,
        policy,
        &mut opener,
        &test_pool(),
        Arc::default(),
        None,
    );
    Arc::new(node.unwrap())
}

/// What is below an image beside its tables, and how it is opened.
#[derive(Default)]
pub(super) struct Below {
    pub data: Option<Arc<dyn BlockNode>>,
    pub backing: Option<Arc<dyn BlockNode>>,
    pub read_only: bool,
}

/// The image in a node.
pub(super) fn image_with(
    storage: Arc<dyn BlockNode>,
    below: Below,
) -> Result<Arc<dyn BlockNode>, BlockError> {
    let policy = Policy {
        discard: Discard::Unmap,
        granule: 1,
        read_only: below.read_only,
        ..Policy::default()
    };
    super::open(OpenFormat {
        storage: Edge::new(Some(storage)),
        data: below.data.map(|node| Edge::new(Some(node))),
        backing: below.backing.map(|node| Edge::new(Some(node))),
        extents: Vec::new(),
        screen: Screen::new(policy, 0, Arc::default()),
        pool: test_pool(),
        reporter: Reporter::silent(),
        qcow2: Qcow2Options::default(),
        activity: crate::node::Activity::Active,
    })
}

/// The image in a file, opened for writing.
pub(super) fn image(path: &Path) -> Arc<dyn BlockNode> {
    image_with(file(path), Below::default()).unwrap()
}

/// Whether QEMU's tools are here; tests that need them pass without.
pub(super) fn is_here() -> bool {
    let here = Command::new("qemu-img").arg("--version").output().is_ok();
    if !here {
        eprintln!("skipped: there is no qemu-img");
    }
    here
}

/// A folder for images.
pub(super) struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Bench {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).args(args);
        command.output().unwrap()
    }

    /// What a program that must succeed says.
    pub fn ok(&self, program: &str, args: &[&str]) -> String {
        let output = self.run(program, args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{program} {args:?}: {said}{complaint}"
        );
        said
    }

    pub fn img(&self, args: &[&str]) -> String {
        self.ok("qemu-img", args)
    }

    /// Writes patterns and the like with qemu-io.
    pub fn io(&self, image: &str, commands: &[&str]) -> String {
        let mut args = vec![image];
        for command in commands {
            args.extend(["-c", command]);
        }
        let said = self.ok("qemu-io", &args);
        assert!(!said.contains("failed"), "{commands:?}: {said}");
        said
    }

    /// What a check says: the exit code, and the report; null when the check itself failed.
    pub fn check(&self, image: &str, more: &[&str]) -> (i32, serde_json::Value) {
        let mut args = vec!["check", "--output=json", "-f", "qcow2"];
        args.extend(more);
        args.push(image);
        let output = self.run("qemu-img", &args);
        let code = output.status.code().unwrap();
        (
            code,
            serde_json::from_slice(&output.stdout).unwrap_or_default(),
        )
    }

    pub fn is_clean(&self, image: &str) {
        let (code, report) = self.check(image, &[]);
        assert_eq!(code, 0, "{report}");
    }

    pub fn info(&self, image: &str) -> serde_json::Value {
        let text = self.img(&["info", "--output=json", image]);
        serde_json::from_str(&text).unwrap()
    }
}
