//! Formats that images tell by their first bytes. An image of another format must not be taken
//! for raw because nobody said what it is.

/// Bytes at the start that are looked at.
pub(crate) const PROBED: usize = 512;

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
/// A vmdk descriptor is text: comments, then this.
const DESCRIPTOR: &str = "# Disk DescriptorFile";

/// The format of an image that starts so: another one, or `raw`.
pub(crate) fn format_of(start: &[u8]) -> &'static str {
    if start
        .get(VDI.0..)
        .is_some_and(|rest| rest.starts_with(VDI.1))
    {
        return "vdi";
    }
    if start.starts_with(DESCRIPTOR.as_bytes()) {
        return "vmdk";
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
        assert_eq!(format_of(b"# Disk DescriptorFile\nversion=1"), "vmdk");
        let mut vdi = [b'<'; 68];
        vdi[64..].copy_from_slice(VDI.1);
        assert_eq!(format_of(&vdi), "vdi");
    }
}
