//! The ways in which a machine gets from one process to another: transports, and what each capability makes of them.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};
use tests::Vm;
use tests::migrate::{arrive, go, listen, wait};

/// What is in a file before the state.
const BEFORE: &[u8; 14] = b"something else";

/// How it gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Unix,
    /// A file whose pages have their places, which is the target's memory.
    Mapped,
    /// With the way back.
    Tcp,
    /// Several channels.
    Channels,
    File,
    /// Through a program's pipe into a file, and through one out of it.
    Exec,
    /// A pair of sockets that both sides are given.
    Descriptor,
    /// A file in which something else is before.
    Behind,
    /// A file whose pages have their places, by several channels, behind something else, and all of it read.
    Places,
    /// Memory that both sides have.
    Shared,
    /// A target that stands still, and takes its disks with `cont`.
    Late,
    /// A source that asks before it hands over.
    Asking,
    /// Processors that are held back.
    Slowed,
    /// Several channels that compress.
    Compressed,
}

impl Way {
    /// Those in which a program that is not optimized gets through in an emulated host.
    pub const QUICK: [Way; 13] = [
        Way::Unix,
        Way::Mapped,
        Way::Tcp,
        Way::Channels,
        Way::File,
        Way::Exec,
        Way::Descriptor,
        Way::Behind,
        Way::Places,
        Way::Shared,
        Way::Late,
        Way::Asking,
        Way::Slowed,
    ];

    /// What both sides are told. Off, too, where it is not needed: what was a target is a source now.
    fn capabilities(self) -> Value {
        let mapped = [Way::Mapped, Way::Places].contains(&self);
        // Compression takes longer than the guest takes to write, where the host is slow.
        let slowed = [Way::Slowed, Way::Compressed].contains(&self);
        let several = [Way::Channels, Way::Places, Way::Compressed].contains(&self);
        json!({"capabilities": [
            {"capability": "events", "state": true},
            {"capability": "return-path", "state": self == Way::Tcp},
            {"capability": "mapped-ram", "state": mapped},
            {"capability": "multifd", "state": several},
            {"capability": "x-ignore-shared", "state": self == Way::Shared},
            {"capability": "late-block-activate", "state": self == Way::Late},
            {"capability": "pause-before-switchover", "state": self == Way::Asking},
            {"capability": "auto-converge", "state": slowed},
        ]})
    }

    /// The same of parameters. What is lost by a slow host is made up for by patience.
    fn parameters(self, channels: u32) -> Value {
        let compression = match self {
            Way::Compressed => "zstd",
            _ => "none",
        };
        json!({
            "downtime-limit": 2000,
            "max-bandwidth": 0,
            "multifd-channels": channels,
            "multifd-compression": compression,
        })
    }

    /// Moves the machine. `file` is there for it, `channels` is how many where they are several. Gives what the
    /// source told at the end.
    ///
    /// # Panics
    /// When it does not arrive.
    pub fn go(self, source: &mut Vm, target: &mut Vm, file: &Path, channels: u32) -> Value {
        for vm in [&mut *source, &mut *target] {
            vm.exec("migrate-set-capabilities", self.capabilities());
            vm.exec("migrate-set-parameters", self.parameters(channels));
        }
        let info = match self {
            Way::Exec => {
                let info = go(source, &format!("exec:cat >{}", file.display()));
                listen(target, &format!("exec:cat {}", file.display()));
                info
            }
            Way::File | Way::Mapped | Way::Behind | Way::Places => {
                self.through(source, target, file)
            }
            _ => {
                let uri = self.listens(source, target);
                self.hands_over(source, &uri)
            }
        };
        arrive(target);
        if self == Way::Late {
            assert_eq!(target.query("query-status")["status"], "paused");
            target.query("cont");
        }
        info
    }

    /// By way of a file that has been written when the target begins to read.
    fn through(self, source: &mut Vm, target: &mut Vm, file: &Path) -> Value {
        let behind = [Way::Behind, Way::Places].contains(&self);
        let uri = match behind {
            true => {
                std::fs::write(file, BEFORE).expect("a file");
                format!("file:{},offset=20480", file.display())
            }
            false => format!("file:{}", file.display()),
        };
        let info = go(source, &uri);
        if behind {
            let mut begins = [0; BEFORE.len()];
            let read = File::open(file).and_then(|mut file| file.read_exact(&mut begins));
            read.expect("the file");
            assert_eq!(begins, *BEFORE);
        }
        let load = if self == Way::Mapped { "map" } else { "read" };
        target.exec("migrate-incoming", json!({"uri": uri, "ram-load": load}));
        info
    }

    /// Where the target listens, by the name that the source calls.
    fn listens(self, source: &mut Vm, target: &mut Vm) -> String {
        match self {
            Way::Tcp | Way::Compressed => {
                listen(target, "tcp:127.0.0.1:0");
                let info = target.query("query-migrate");
                let port = info["socket-address"][0]["port"].as_str();
                format!("tcp:127.0.0.1:{}", port.expect("a port"))
            }
            Way::Descriptor => {
                let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
                for (vm, fd) in [(source, ours), (&mut *target, theirs)] {
                    let name = json!({"fdname": "m"});
                    let given = vm.qmp().try_exec_fds("getfd", name, &[fd.as_fd()]);
                    assert_eq!(given, Ok(json!({})));
                }
                listen(target, "fd:m");
                "fd:m".to_owned()
            }
            _ => {
                let uri = format!("unix:{}", target.path("migration.sock").display());
                listen(target, &uri);
                uri
            }
        }
    }

    fn hands_over(self, source: &mut Vm, uri: &str) -> Value {
        if self != Way::Asking {
            return go(source, uri);
        }
        source.exec("migrate", json!({ "uri": uri }));
        wait(source, "pre-switchover");
        source.exec("migrate-continue", json!({"state": "pre-switchover"}));
        wait(source, "completed")
    }
}
