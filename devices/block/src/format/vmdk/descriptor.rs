//! The descriptor: text that says what an image consists of. VMware, "Virtual Disk Format 5.0",
//! section "The Descriptor File".

use crate::error::BlockError;
use crate::image::VmdkView;
use crate::node::SECTOR;

/// Longest descriptor that is read.
pub(super) const MAX_LEN: u64 = 1 << 20;
/// How a descriptor begins, after comments.
const START: &str = "# Disk DescriptorFile";
/// Content id of an image without a parent.
const NO_PARENT: u32 = u32::MAX;
/// Most files of an image; each is an open file.
const MAX_EXTENTS: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// `monolithicSparse` and so on.
    pub create_type: String,
    pub cid: u32,
    pub parent_cid: u32,
    /// The parent's name, where there is one.
    pub parent: Option<String>,
    pub extents: Vec<ExtentLine>,
}

/// A line for a part of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExtentLine {
    /// Bytes.
    pub len: u64,
    pub kind: ExtentType,
    pub file: String,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtentType {
    /// The bytes as they are.
    Flat,
    /// Grains with tables.
    Sparse,
    /// All zeroes, without a file.
    Zero,
}

impl ExtentType {
    fn name(self) -> &'static str {
        match self {
            ExtentType::Flat => "FLAT",
            ExtentType::Sparse => "SPARSE",
            ExtentType::Zero => "ZERO",
        }
    }
}

fn bad(text: impl Into<String>) -> BlockError {
    BlockError::Unsupported(text.into())
}

/// Whether an image that starts so is a descriptor.
pub(super) fn is_descriptor(start: &[u8]) -> bool {
    start.starts_with(START.as_bytes()) || crate::format::probe::is_descriptor(start)
}

impl Descriptor {
    /// Reads a descriptor; what is behind its first zero byte is filling.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn parse(bytes: &[u8]) -> Result<Self, BlockError> {
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or(&[]);
        let text = String::from_utf8_lossy(text);
        if !text.contains(START) {
            return Err(bad("invalid VMDK image descriptor"));
        }
        let value = |key: &str| text.lines().find_map(|line| value_of(line, key));
        let id = |key: &str| {
            let hex = value(key).map(|hex| u32::from_str_radix(hex, 16));
            match hex {
                None => Ok(NO_PARENT),
                Some(Ok(id)) => Ok(id),
                Some(Err(_)) => Err(bad(format!("Invalid {key} in VMDK image descriptor"))),
            }
        };
        let create_type =
            value("createType").ok_or_else(|| bad("invalid VMDK image descriptor"))?;
        let parent_cid = id("parentCID")?;
        let parent = value("parentFileNameHint").map(str::to_owned);
        let parent = match (parent_cid, parent) {
            (NO_PARENT, _) => None,
            (_, Some(parent)) => Some(parent),
            (_, None) => return Err(bad("VMDK image has a parent without a name")),
        };
        let mut extents = Vec::new();
        for line in text.lines() {
            extents.extend(ExtentLine::parse(line)?);
            if extents.len() > MAX_EXTENTS {
                return Err(bad("VMDK image has too many extents"));
            }
        }
        Ok(Descriptor {
            create_type: create_type.to_owned(),
            cid: id("CID")?,
            parent_cid,
            parent,
            extents,
        })
    }

    pub fn view(&self) -> VmdkView {
        let extent = |extent: &ExtentLine| (extent.file.clone(), extent.len, extent.kind.name());
        VmdkView {
            create_type: self.create_type.clone(),
            cid: self.cid,
            parent_cid: self.parent_cid,
            extents: self.extents.iter().map(extent).collect(),
        }
    }
}

/// The value in a line `key = "value"`.
fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (name, value) = line.split_once('=')?;
    (name.trim() == key).then(|| value.trim().trim_matches('"'))
}

impl ExtentLine {
    /// A line `ACCESS SECTORS TYPE "FILE" OFFSET`; `None` for another line.
    fn parse(line: &str) -> Result<Option<Self>, BlockError> {
        let line = line.trim();
        let invalid = || bad(format!("Invalid extent line: {line}"));
        let Some((access, rest)) = line.split_once(char::is_whitespace) else {
            return Ok(None);
        };
        if !matches!(access, "RW" | "RDONLY" | "NOACCESS") {
            return Ok(None);
        }
        let (sectors, rest) = rest.trim_start().split_once(' ').ok_or_else(invalid)?;
        let sectors: u64 = sectors.parse().map_err(|_| invalid())?;
        let len = sectors.checked_mul(SECTOR).ok_or_else(invalid)?;
        let rest = rest.trim_start();
        let (kind, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let kind = match kind {
            "FLAT" | "VMFS" => ExtentType::Flat,
            "SPARSE" => ExtentType::Sparse,
            "ZERO" => ExtentType::Zero,
            other => return Err(bad(format!("Unsupported extent type '{other}'"))),
        };
        if access == "NOACCESS" && kind != ExtentType::Zero {
            return Err(bad("VMDK extents without access are not supported"));
        }
        let mut parts = rest
            .trim_start()
            .strip_prefix('"')
            .unwrap_or("")
            .splitn(2, '"');
        let file = parts.next().unwrap_or("").to_owned();
        let offset = parts.next().unwrap_or("").trim();
        let offset: u64 = match (kind, offset) {
            (ExtentType::Flat, "") => return Err(invalid()),
            (_, "") => 0,
            (_, text) => text.parse().map_err(|_| invalid())?,
        };
        if file.is_empty() && kind != ExtentType::Zero {
            return Err(invalid());
        }
        Ok(Some(ExtentLine {
            len,
            kind,
            file,
            offset: offset.checked_mul(SECTOR).ok_or_else(invalid)?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Disk DescriptorFile\nversion=1\nCID=0a1b2c3d\nparentCID=ffffffff\n\
        createType=\"twoGbMaxExtentFlat\"\n\n# Extent description\n\
        RW 4192256 FLAT \"a b-f001.vmdk\" 0\r\nRW 16 ZERO\nRDONLY 8 SPARSE \"c.vmdk\"\n";

    #[test]
    fn descriptors_are_read() {
        let descriptor = Descriptor::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(descriptor.create_type, "twoGbMaxExtentFlat");
        assert_eq!(descriptor.cid, 0x0a1b_2c3d);
        assert_eq!(descriptor.parent, None);
        let names: Vec<&str> = descriptor.extents.iter().map(|e| e.file.as_str()).collect();
        assert_eq!(names, ["a b-f001.vmdk", "", "c.vmdk"]);
        assert_eq!(descriptor.extents[0].len, 4_192_256 * 512);
        assert!(is_descriptor(TEXT.as_bytes()));
    }

    #[test]
    fn bad_descriptors_are_refused() {
        for (from, to) in [
            ("# Disk", "# disk"),
            ("createType", "create"),
            ("4192256", "99999999999999999999"),
            ("4192256", "36028797018963968"),
            ("FLAT", "VMFSRDM"),
            ("\" 0", "\" x"),
            ("\" 0", "\""),
            ("\"a b-f001.vmdk\"", "\"\""),
            ("RW 4", "NOACCESS 4"),
            ("parentCID=ffffffff", "parentCID=00000001"),
            ("CID=0a1b2c3d", "CID=xyz"),
        ] {
            let text = TEXT.replacen(from, to, 1);
            assert!(Descriptor::parse(text.as_bytes()).is_err(), "{to}");
        }
        let many = "RW 1 ZERO\n".repeat(5000);
        assert!(Descriptor::parse(format!("{TEXT}{many}").as_bytes()).is_err());
    }
}
