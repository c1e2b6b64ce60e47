//! The guest without an operating system: its source is `tests/guest`; see there for the words it knows.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::VmBuilder;
use crate::binary::{cache, has_kvm, is_stand_in, tree};

/// The guest's image, built where it is not there: `QVMD_BAREMETAL` names one that is. None, with a word,
/// where this cannot be had.
pub fn image() -> Option<&'static PathBuf> {
    static IMAGE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let image = IMAGE.get_or_init(|| {
        std::env::var_os("QVMD_BAREMETAL").map_or_else(build, |path| Some(path.into()))
    });
    if image.is_none() {
        println!(
            "skipped: no bare-metal guest (`rustup target add x86_64-unknown-none` may be missing)"
        );
    }
    image.as_ref()
}

fn build() -> Option<PathBuf> {
    std::fs::create_dir_all(cache()).ok()?;
    // Tests run at the same time: one builds.
    let lock = File::create(cache().join("baremetal-guest.lock")).ok()?;
    lock.lock().ok()?;
    let target = cache().join("baremetal-guest");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(name);
    }
    // Its own configuration is read in its own directory.
    let output = command
        .args(["build", "--locked"])
        .current_dir(tree().join("tests/guest"))
        .env("CARGO_TARGET_DIR", &target)
        .output()
        .ok()?;
    if !output.status.success() {
        println!("{}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(target.join("x86_64-unknown-none/debug/baremetal-guest"))
}

/// A machine that boots the guest with these words. None where there is no KVM or no guest.
pub fn guest(builder: VmBuilder, words: &str) -> Option<VmBuilder> {
    guest_on("q35", builder, words)
}

/// The same on another machine.
pub fn guest_on(machine: &str, builder: VmBuilder, words: &str) -> Option<VmBuilder> {
    if !has_kvm() {
        println!("skipped: no /dev/kvm");
        return None;
    }
    let image = image()?;
    let console = builder.path("serial.sock");
    // Not every host lets the reference set the registers of its own model.
    let cpu = if is_stand_in() { "qemu64" } else { "host" };
    Some(
        builder
            .args(["-machine", machine, "-accel", "kvm", "-cpu", cpu])
            .args(["-m", "64"])
            .arg("-chardev")
            .arg(format!(
                "socket,id=serial0,path={},server=on,wait=off",
                console.display()
            ))
            .args([
                "-serial",
                "chardev:serial0",
                "-device",
                "isa-debug-exit,iobase=0xf4,iosize=0x04",
            ])
            .arg("-kernel")
            .arg(image)
            .args(["-append", words, "-S"]),
    )
}
