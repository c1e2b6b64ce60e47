//! A machine that churns: it rewrites its memory and its disk all the time and checks both, whatever process
//! it is in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tests::baremetal::guest;
use tests::{Serial, Vm, VmBuilder, disk, seconds};

/// Ends with this status where all went well.
pub const SUCCESS: i32 = 33;

/// One machine that churns, whatever process it is in.
pub struct Churner {
    pub vm: Vm,
    pub serial: Serial,
    /// What it said in the processes before.
    said: String,
}

/// A process for the machine; the disk is outside of it.
pub fn side(disk: Option<&Path>) -> Option<VmBuilder> {
    let mut builder = guest(VmBuilder::new(), "churn")?;
    if let Some(disk) = disk {
        builder = builder
            .arg("-blockdev")
            .arg(format!("file,node-name=d,filename={}", disk.display()))
            .args(["-device", "virtio-blk-pci,drive=d,id=disk"]);
    }
    Some(builder)
}

pub fn waiting(builder: VmBuilder) -> Vm {
    builder.args(["-incoming", "defer"]).start()
}

/// Limits what goes over, so that there is time to do something meanwhile.
pub fn slowly(vm: &mut Vm) {
    vm.exec("migrate-set-parameters", json!({"max-bandwidth": 500_000}));
}

impl Churner {
    pub fn start(builder: VmBuilder) -> Self {
        let mut vm = builder.start();
        let serial = vm.serial();
        vm.query("cont");
        let mut churner = Churner {
            vm,
            serial,
            said: String::new(),
        };
        churner.lives();
        churner
    }

    /// It goes on, here and now.
    pub fn lives(&mut self) {
        for _ in 0..3 {
            self.serial.expect("beat ");
        }
        assert_eq!(self.vm.query("query-status")["status"], "running");
    }

    /// It went to this process, and goes on there. The one before ends.
    pub fn went_to(self, mut vm: Vm, serial: Serial) -> Self {
        let Churner {
            vm: source,
            serial: mut before,
            mut said,
        } = self;
        assert_eq!(vm.query("query-status")["status"], "paused");
        vm.query("cont");
        // What it could not say yet, because nobody read.
        before.comes("no such word", Duration::from_millis(100));
        source.quit();
        before.rest();
        said.push_str(before.seen());
        let mut churner = Churner { vm, serial, said };
        churner.lives();
        churner
    }

    /// It ends with everything checked, and without a word lost or said twice.
    pub fn end(mut self) {
        self.serial.send(b"q");
        let exit = self.vm.wait_within(seconds(60));
        self.serial.rest();
        self.said.push_str(self.serial.seen());
        let status = exit.and_then(|exit| exit.status);
        assert_eq!(status, Some(SUCCESS), "it said {}", self.said);
        let beats = self
            .said
            .lines()
            .filter_map(|line| line.strip_prefix("beat "));
        let beats: Vec<usize> = beats.map(|beat| beat.parse().expect("a number")).collect();
        assert!(beats.len() > 3);
        let wanted: Vec<usize> = (0..beats.len()).collect();
        assert_eq!(beats, wanted);
    }
}

pub fn new_disk(directory: &TempDir) -> PathBuf {
    disk::raw(directory.path(), "disk.img", 1 << 20)
}

pub fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}
