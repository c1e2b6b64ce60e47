//! What guests are made of.

use std::path::PathBuf;

use crate::binary;

/// Kernel and initial RAM disk of the Linux guest.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Debian's kernel as it is.
    pub bz_image: PathBuf,
    /// The ELF image inside it.
    pub vmlinux: PathBuf,
    /// busybox and the modules for our devices.
    pub initrd: PathBuf,
}

/// The guest of `QVMD_GUEST`; says a word and gives None where that is not set.
///
/// # Panics
/// Where it is set and something is missing there.
pub fn guest() -> Option<Guest> {
    let Some(value) = std::env::var_os("QVMD_GUEST") else {
        println!(
            "skipped: QVMD_GUEST is not set (scripts/guest-artifacts -v prints a value for it)"
        );
        return None;
    };
    let directory = match value.to_str() {
        Some("1" | "yes") => binary::cache().join("guest"),
        _ => PathBuf::from(value),
    };
    let file = |name: &str| {
        let path = directory.join(name);
        assert!(path.exists(), "no {}", path.display());
        path
    };
    Some(Guest {
        bz_image: file("bzImage"),
        vmlinux: file("vmlinux"),
        initrd: file("initrd"),
    })
}

/// The accelerator that runs guests.
pub fn accelerator() -> String {
    std::env::var("QVMD_GUEST_ACCEL").unwrap_or_else(|_| "kvm".to_owned())
}
