//! Disk images made and looked at from the host's side.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A raw image of `size` bytes, with nothing allocated.
pub fn raw(directory: &Path, name: &str, size: u64) -> PathBuf {
    let path = directory.join(name);
    File::create(&path)
        .and_then(|file| file.set_len(size))
        .expect("an image can be made");
    path
}

/// A raw image in which each sector begins with its number, as eight bytes, and goes on with its low byte.
pub fn numbered(directory: &Path, name: &str, sectors: u64) -> PathBuf {
    let path = directory.join(name);
    let mut bytes = Vec::new();
    for sector in 0..sectors {
        bytes.extend_from_slice(&numbered_sector(sector));
    }
    fs::write(&path, bytes).expect("an image can be made");
    path
}

/// What sector `number` of such an image holds.
pub fn numbered_sector(number: u64) -> [u8; 512] {
    let number_bytes = number.to_le_bytes();
    let mut sector = [number_bytes[0]; 512];
    sector[..8].copy_from_slice(&number_bytes);
    sector
}

/// `length` bytes of the image at `offset`.
pub fn read(path: &Path, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    File::open(path)
        .and_then(|file| file.read_exact_at(&mut bytes, offset))
        .expect("the image can be read");
    bytes
}

/// Overwrites part of the image.
pub fn write(path: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.write_all_at(bytes, offset))
        .expect("the image can be written");
}

/// Whether images in this directory can be opened around the host's cache.
pub fn takes_direct_io(directory: &Path) -> bool {
    use std::os::unix::fs::OpenOptionsExt;
    let path = raw(directory, "direct-io-probe", 4096);
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path);
    let _ = fs::remove_file(path);
    if opened.is_err() {
        println!("skipped in part: no direct I/O in {}", directory.display());
    }
    opened.is_ok()
}

/// Bytes that the image takes on the host.
pub fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).expect("the image is there").blocks() * 512
}
