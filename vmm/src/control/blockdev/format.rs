//! Formats that images tell by their first bytes. An image of another format must not be taken
//! for raw because nobody said what it is.

use std::io::{self, Read};

use block::FileOpener;

/// First bytes and the format's name; from the formats' specifications.
const MAGIC: [(&[u8], &str); 8] = [
    (b"QFI\xfb\0\0\0\x01", "qcow"),
    (b"QFI\xfb", "qcow2"),
    (b"QED\0", "qed"),
    (b"KDMV", "vmdk"),
    (b"COWD", "vmdk"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vpc"),
    (b"LUKS\xba\xbe", "luks"),
];
/// VDI has text first and its magic number after that.
const VDI: (usize, &[u8]) = (64, &[0x7f, 0x10, 0xda, 0xbe]);

/// The format of the image at `path`: another one, or `raw`.
///
/// # Errors
/// When it cannot be read.
pub(super) fn probe(path: &str, opener: &mut dyn FileOpener) -> io::Result<&'static str> {
    let mut file = opener.open(path, libc::O_RDONLY | libc::O_CLOEXEC)?;
    let mut start = [0; 68];
    let mut len = 0;
    while let Some(rest) = start.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(format_of(start.get(..len).unwrap_or(&[])))
}

fn format_of(start: &[u8]) -> &'static str {
    if start
        .get(VDI.0..)
        .is_some_and(|rest| rest.starts_with(VDI.1))
    {
        return "vdi";
    }
    let found = MAGIC.iter().find(|(magic, _)| start.starts_with(magic));
    found.map_or("raw", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_apart() {
        assert_eq!(format_of(b"QFI\xfb\0\0\0\x03 and so on"), "qcow2");
        assert_eq!(format_of(b"QFI\xfb\0\0\0\x01"), "qcow");
        assert_eq!(format_of(b"QFI"), "raw");
        assert_eq!(format_of(&[0; 68]), "raw");
        let mut vdi = [b'<'; 68];
        vdi[64..].copy_from_slice(VDI.1);
        assert_eq!(format_of(&vdi), "vdi");
    }
}
