//! A Linux guest: Debian's kernel, with a shell on the serial console. Runs where `QVMD_GUEST` is set.

mod agent;
mod balloon;
mod boot;
mod cable;
mod devices;
mod dump;
mod hotplug;
mod images;
mod life;
mod memory;
mod migrate;
mod net;
mod netsock;
mod pc;
mod scsi;
mod scsi_changes;
mod snapshots;
mod traveller;
mod usernet;
mod vhost;
mod vmgenid;
mod watchdog;
mod ways;

use tests::artifacts::{self, Guest};
use tests::{Serial, Vm, VmBuilder};

/// Boots it, with these arguments besides, up to its shell. None where there is no guest.
pub fn boot(memory: &str, args: &[&str]) -> Option<(Vm, Serial)> {
    boot_with(VmBuilder::new(), memory, args, "")
}

/// The same on a prepared builder, with words for the kernel.
pub fn boot_with(
    builder: VmBuilder,
    memory: &str,
    args: &[&str],
    append: &str,
) -> Option<(Vm, Serial)> {
    let guest = artifacts::guest()?;
    let builder = with_kernel(builder, &guest, append)
        .args(["-m", memory])
        .args(args);
    let mut vm = builder.start();
    let mut serial = vm.serial();
    wait(&mut serial);
    Some((vm, serial))
}

/// Kernel, initial RAM disk and command line.
pub fn with_kernel(builder: VmBuilder, guest: &Guest, append: &str) -> VmBuilder {
    kernel_of(builder.guest(), guest, append)
}

/// The same on a machine that is chosen already.
pub fn kernel_of(builder: VmBuilder, guest: &Guest, append: &str) -> VmBuilder {
    builder
        .arg("-kernel")
        .arg(&guest.bz_image)
        .arg("-initrd")
        .arg(&guest.initrd)
        .arg("-append")
        .arg(format!("console=ttyS0 panic=-1 quiet {append}"))
}

/// Waits for the shell.
pub fn wait(serial: &mut Serial) {
    serial.expect("QVMD-GUEST-READY");
    serial.expect("guest# ");
    // Without the echo of what is typed, what comes is what was printed. Without its echo an interactive
    // shell takes a child that ends, while it waits for a line, for the end of its input, and ends: from
    // here on it is one that is not interactive, as its output is none when it begins.
    serial.send(b"stty -echo; echo qui''et; exec sh -s >/dev/null\n");
    serial.expect("quiet\r\n");
    serial.send(b"exec >&2\n");
    serial.run("true");
}

/// A test whether the guest can read this disk. Linux makes a new disk's file a moment before it can be opened.
pub fn readable(disk: &str) -> String {
    format!("test -b /dev/{disk} && dd if=/dev/{disk} of=/dev/null bs=512 count=1 2>/dev/null")
}
