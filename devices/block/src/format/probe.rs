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
/// Of Parallels' images, either of them.
const PARALLELS: [&[u8]; 2] = [b"WithoutFreeSpace", b"WithouFreSpacExt"];
/// Of cloop images: they start with a script.
const CLOOP: &[u8] = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 ";
/// Of Bochs' growing images: name, type and subtype in fields of fixed length.
const BOCHS: [(usize, &[u8]); 3] = [
    (0, b"Bochs Virtual HD Image\0"),
    (32, b"Redolog\0"),
    (48, b"Growing\0"),
];
/// How a vmdk descriptor begins after comments.
const VERSIONS: [&[u8]; 3] = [b"version=1", b"version=2", b"version=3"];

/// The format of an image that starts so: another one, or `raw`.
pub(crate) fn format_of(start: &[u8]) -> &'static str {
    if start
        .get(VDI.0..)
        .is_some_and(|rest| rest.starts_with(VDI.1))
    {
        return "vdi";
    }
    if is_descriptor(start) {
        return "vmdk";
    }
    if PARALLELS.iter().any(|magic| start.starts_with(magic)) {
        return "parallels";
    }
    if start.starts_with(CLOOP) {
        return "cloop";
    }
    let has = |(at, magic): &(usize, &[u8])| start.get(*at..).is_some_and(|s| s.starts_with(magic));
    if BOCHS.iter().all(has) {
        return "bochs";
    }
    let found = MAGIC.iter().find(|(magic, _)| start.starts_with(magic));
    found.map_or("raw", |(_, name)| name)
}

/// Whether it is the text that describes a vmdk image: comments and blank lines, then its version.
pub(crate) fn is_descriptor(start: &[u8]) -> bool {
    for line in start.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let blank = !line.is_empty() && line.iter().all(|byte| *byte == b' ');
        if line.first() == Some(&b'#') || blank {
            continue;
        }
        return VERSIONS.contains(&line);
    }
    false
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
        assert_eq!(format_of(b"# Disk DescriptorFile\nversion=1\n"), "vmdk");
        assert_eq!(format_of(b"#\r\n  \r\nversion=3\r\nCID"), "vmdk");
        assert_eq!(format_of(b"# Disk DescriptorFile\n"), "raw");
        assert_eq!(format_of(b"# Disk DescriptorFile\nversion=11\n"), "raw");
        assert_eq!(format_of(b"WithoutFreeSpace\0\0"), "parallels");
        let mut vdi = [b'<'; 68];
        vdi[64..].copy_from_slice(VDI.1);
        assert_eq!(format_of(&vdi), "vdi");
    }
}
