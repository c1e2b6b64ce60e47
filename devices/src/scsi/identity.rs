//! What a logical unit is, once and for all: its driver's properties, checked.

use api_spec::{OnOffAuto, QmpError, QmpResult, ScsiCdProps, ScsiHdProps};
use block::WriteCache;

use crate::disk::{BlockSizes, SizeChoice};

/// Blocks of optical media.
pub const CD_BLOCK: u32 = 2048;
/// Characters of a serial number.
const MAX_SERIAL: usize = 36;
/// Characters of an identifier in a page of vital product data, which has a length of one byte.
const MAX_DEVICE_ID: usize = 247;
/// Granularity of discards where nothing else is said.
const DISCARD_GRANULARITY: u32 = 4096;

/// Kinds of logical units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A disk.
    Disk,
    /// An optical drive.
    Cd,
}

impl Kind {
    /// Peripheral device type (SPC-5, table 142).
    pub const fn device_type(self) -> u8 {
        match self {
            Kind::Disk => 0x00,
            Kind::Cd => 0x05,
        }
    }
}

/// Where a logical unit wants to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Channel.
    pub channel: u32,
    /// Target; `None` takes the first with room.
    pub target: Option<u32>,
    /// Logical unit of the target; `None` takes the first that is free.
    pub lun: Option<u32>,
}

/// What a logical unit is like.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its kind.
    pub kind: Kind,
    /// The medium can be taken out.
    pub removable: bool,
    /// Vendor, as INQUIRY has it.
    pub vendor: String,
    /// Product.
    pub product: String,
    /// Version of the product.
    pub version: String,
    /// Serial number.
    pub serial: Option<String>,
    /// Name among the identifiers.
    pub device_id: Option<String>,
    /// World-wide name; 0 is none.
    pub wwn: u64,
    /// World-wide name of the port; 0 is none.
    pub port_wwn: u64,
    /// Number of the port; 0 is none.
    pub port_index: u16,
    /// Version of the standard.
    pub scsi_version: u8,
    /// Bytes of a block.
    pub block: u32,
    /// Bytes of a physical block.
    pub physical: u32,
    /// Preferred smallest request, in blocks.
    pub min_io: u16,
    /// Preferred request, in blocks.
    pub opt_io: u32,
    /// Longest request, in blocks.
    pub max_io: u32,
    /// Granularity of discards in bytes; 0 offers none.
    pub discard_granularity: u32,
    /// Longest range to unmap, in blocks.
    pub max_unmap: u32,
    /// Rotations per minute; 1 is none at all, 0 does not say.
    pub rotation_rate: u16,
    /// The guest is told that it can force single writes to the medium.
    pub dpofua: bool,
    /// How the write cache begins.
    pub write_cache: OnOffAuto,
}

/// The properties that both drivers have; made by `common!`.
struct Common<'a> {
    sizes: SizeChoice,
    write_cache: OnOffAuto,
    ver: Option<&'a str>,
    serial: Option<&'a str>,
    vendor: Option<&'a str>,
    product: Option<&'a str>,
    device_id: Option<&'a str>,
    wwn: u64,
    port_wwn: u64,
    port_index: u16,
    max_io_size: u64,
    scsi_version: i32,
}

macro_rules! common {
    ($props:expr) => {
        Common {
            sizes: SizeChoice {
                logical: $props.logical_block_size.0,
                physical: $props.physical_block_size.0,
                min_io: $props.min_io_size.0,
                opt_io: $props.opt_io_size.0,
                discard_granularity: $props.discard_granularity.map(|size| size.0),
            },
            write_cache: $props.write_cache,
            ver: $props.ver.as_deref(),
            serial: $props.serial.as_deref(),
            vendor: $props.vendor.as_deref(),
            product: $props.product.as_deref(),
            device_id: $props.device_id.as_deref(),
            wwn: $props.wwn,
            port_wwn: $props.port_wwn,
            port_index: $props.port_index,
            max_io_size: $props.max_io_size,
            scsi_version: $props.scsi_version,
        }
    };
}

macro_rules! wanted {
    ($props:expr) => {
        Wanted {
            channel: $props.channel,
            // All ones is QEMU's way to say "leave it to the bus".
            target: $props.scsi_id.filter(|id| *id != u32::MAX),
            lun: $props.lun.filter(|lun| *lun != u32::MAX),
        }
    };
}

impl Identity {
    /// A disk; `drive` is the name of its drive, if that has one.
    ///
    /// # Errors
    /// In QEMU's words where it refuses the properties, too.
    pub fn disk(props: &ScsiHdProps, drive: Option<&str>) -> QmpResult<(Self, Wanted)> {
        let common = common!(props);
        let sizes = BlockSizes::check(common.sizes)?;
        let identity = common.build(Kind::Disk, "QEMU HARDDISK", sizes.logical, &sizes, drive)?;
        let identity = Identity {
            removable: props.removable,
            dpofua: props.dpofua,
            rotation_rate: props.rotation_rate,
            max_unmap: blocks(props.max_unmap_size, identity.block),
            ..identity
        };
        Ok((identity, wanted!(props)))
    }

    /// An optical drive.
    ///
    /// # Errors
    /// As for disks.
    pub fn cd(props: &ScsiCdProps, drive: Option<&str>) -> QmpResult<(Self, Wanted)> {
        let common = common!(props);
        let sizes = BlockSizes::check(common.sizes)?;
        let identity = common.build(Kind::Cd, "QEMU CD-ROM", CD_BLOCK, &sizes, drive)?;
        let identity = Identity {
            removable: true,
            discard_granularity: 0,
            ..identity
        };
        Ok((identity, wanted!(props)))
    }

    /// How the write cache begins where the back end began with `given`.
    pub fn first_write_cache(&self, given: WriteCache) -> WriteCache {
        match self.write_cache {
            OnOffAuto::On => WriteCache::Back,
            OnOffAuto::Off => WriteCache::Through,
            OnOffAuto::Auto => given,
        }
    }
}

/// Whole blocks in so many bytes.
fn blocks(bytes: u64, block: u32) -> u32 {
    let count = bytes.checked_div(block.into()).unwrap_or(0);
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Common<'_> {
    fn build(
        &self,
        kind: Kind,
        product: &str,
        block: u32,
        sizes: &BlockSizes,
        drive: Option<&str>,
    ) -> QmpResult<Identity> {
        if self.serial.is_some_and(|serial| serial.len() > MAX_SERIAL) {
            return Err(QmpError::generic(format!(
                "The serial number can't be longer than {MAX_SERIAL} characters"
            )));
        }
        let drive = drive.filter(|name| !name.is_empty());
        let device_id = self.device_id.or(self.serial.map(first_20)).or(drive);
        if device_id.is_some_and(|id| id.len() > MAX_DEVICE_ID) {
            return Err(QmpError::generic(format!(
                "The device id can't be longer than {MAX_DEVICE_ID} characters"
            )));
        }
        let version = u8::try_from(self.scsi_version).ok();
        let version = version.ok_or_else(|| {
            QmpError::generic(format!(
                "Property 'scsi_version' cannot be {}: it is one byte",
                self.scsi_version
            ))
        })?;
        let granularity = sizes
            .discard_granularity
            .and_then(|size| u32::try_from(size).ok());
        Ok(Identity {
            kind,
            removable: false,
            vendor: self.vendor.unwrap_or("QEMU").to_owned(),
            product: self.product.unwrap_or(product).to_owned(),
            version: self.ver.unwrap_or("2.5+").to_owned(),
            serial: self.serial.map(str::to_owned),
            device_id: device_id.map(str::to_owned),
            wwn: self.wwn,
            port_wwn: self.port_wwn,
            port_index: self.port_index,
            scsi_version: version,
            block,
            physical: sizes.physical.max(block),
            min_io: sizes.min_io,
            opt_io: sizes.opt_io,
            max_io: blocks(self.max_io_size, block),
            discard_granularity: granularity.unwrap_or(DISCARD_GRANULARITY.max(block)),
            max_unmap: 0,
            rotation_rate: 0,
            dpofua: false,
            write_cache: self.write_cache,
        })
    }
}

/// The first 20 bytes, of whole characters.
fn first_20(text: &str) -> &str {
    let mut end = text.len().min(20);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or(text)
}
