//! Written by api-spec-gen; change `schema/` instead.
#![allow(clippy::large_enum_variant)] // generated

use super::types::*;
use crate::decode::{At, Decode, Members};
use crate::encode::Members as Out;
use crate::{QmpError, QmpResult, Value};
/// Properties of `virtio-blk-pci`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtioBlkPciProps {
    /// Node name or ID of a block device to use as a backend
    pub drive: Option<String>,
    /// Serial number, at most 20 bytes
    pub serial: Option<String>,
    /// Queues; one for each processor by default
    pub num_queues: Option<u16>,
    /// Entries of each queue, a power of two
    pub queue_size: u16,
    /// The limit on segments follows the queue's size
    pub seg_max_adjust: bool,
    /// The I/O thread that serves it
    pub iothread: Option<String>,
    /// Offer discards
    pub discard: bool,
    /// Offer writing zeroes
    pub write_zeroes: bool,
    /// The driver may switch the write cache
    pub config_wce: bool,
    /// Begin with the write cache on
    pub write_cache: OnOffAuto,
    /// Others may write the node too
    pub share_rw: bool,
    /// A power of two between 512 B and 2 MiB; 0 leaves it to the node
    pub logical_block_size: crate::decode::Size,
    /// A power of two between 512 B and 2 MiB; 0 leaves it to the node
    pub physical_block_size: crate::decode::Size,
    /// Preferred smallest request
    pub min_io_size: crate::decode::Size,
    /// Preferred request
    pub opt_io_size: crate::decode::Size,
    /// Granularity of discards
    pub discard_granularity: Option<crate::decode::Size>,
    /// Largest discard in sectors
    pub max_discard_sectors: u32,
    /// Largest request for zeroes in sectors
    pub max_write_zeroes_sectors: u32,
    /// Tell the driver of the granularity
    pub report_discard_granularity: bool,
    /// Place in the order of boot devices
    pub bootindex: Option<i32>,
    /// Requests for neighbouring sectors may become one
    pub request_merging: bool,
    /// On failed reads: report, ignore, enospc or stop; auto is the drive's
    pub rerror: BlockdevOnError,
    /// On failed writes: report, ignore, enospc or stop; auto is the drive's
    pub werror: BlockdevOnError,
    /// Slot and optional function number, example: 06.0 or 06
    pub addr: Option<crate::decode::PciAddr>,
    /// Accepted empty; option ROMs are not run
    pub romfile: Option<String>,
    /// Accepted; option ROMs are not run
    pub rombar: i32,
    /// The slot has more functions than this one
    pub multifunction: bool,
    /// Not used
    pub failover_pair_id: Option<String>,
    /// Index for predictable names of network interfaces
    pub acpi_index: u32,
    /// Leave out the interface of virtio 0.9; only that without is here
    pub disable_legacy: OnOffAuto,
    /// Leave out the interface of virtio 1; refused when on
    pub disable_modern: bool,
    /// MSI-X vectors; chosen from the number of queues by default
    pub vectors: Option<u32>,
    /// Offer indirect descriptors
    pub indirect_desc: bool,
    /// Offer event indexes
    pub event_idx: bool,
    /// Offer ACCESS_PLATFORM; refused when on
    pub iommu_platform: bool,
    /// Offer packed queues; refused when on
    pub packed: bool,
    /// Address translation services; refused when on
    pub ats: bool,
    /// Let the accelerator deliver notifications
    pub ioeventfd: bool,
    /// Accepted
    pub use_disabled_flag: bool,
}
impl VirtioBlkPciProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(VirtioBlkPciProps {
            drive: members.optional("drive")?,
            serial: members.optional("serial")?,
            num_queues: members.optional("num-queues")?,
            queue_size: members.optional("queue-size")?.unwrap_or(256),
            seg_max_adjust: members.optional("seg-max-adjust")?.unwrap_or(true),
            iothread: members.optional("iothread")?,
            discard: members.optional("discard")?.unwrap_or(true),
            write_zeroes: members.optional("write-zeroes")?.unwrap_or(true),
            config_wce: members.optional("config-wce")?.unwrap_or(true),
            write_cache: members.optional("write-cache")?.unwrap_or(OnOffAuto::Auto),
            share_rw: members.optional("share-rw")?.unwrap_or(false),
            logical_block_size: members
                .optional("logical_block_size")?
                .unwrap_or(crate::decode::Size(0)),
            physical_block_size: members
                .optional("physical_block_size")?
                .unwrap_or(crate::decode::Size(0)),
            min_io_size: members
                .optional("min_io_size")?
                .unwrap_or(crate::decode::Size(0)),
            opt_io_size: members
                .optional("opt_io_size")?
                .unwrap_or(crate::decode::Size(0)),
            discard_granularity: members.optional("discard_granularity")?,
            max_discard_sectors: members.optional("max-discard-sectors")?.unwrap_or(4194303),
            max_write_zeroes_sectors: members
                .optional("max-write-zeroes-sectors")?
                .unwrap_or(4194303),
            report_discard_granularity: members
                .optional("report-discard-granularity")?
                .unwrap_or(true),
            bootindex: members.optional("bootindex")?,
            request_merging: members.optional("request-merging")?.unwrap_or(true),
            rerror: members.optional("rerror")?.unwrap_or(BlockdevOnError::Auto),
            werror: members.optional("werror")?.unwrap_or(BlockdevOnError::Auto),
            addr: members.optional("addr")?,
            romfile: members.optional("romfile")?,
            rombar: members.optional("rombar")?.unwrap_or(-1),
            multifunction: members.optional("multifunction")?.unwrap_or(false),
            failover_pair_id: members.optional("failover_pair_id")?,
            acpi_index: members.optional("acpi-index")?.unwrap_or(0),
            disable_legacy: members
                .optional("disable-legacy")?
                .unwrap_or(OnOffAuto::Auto),
            disable_modern: members.optional("disable-modern")?.unwrap_or(false),
            vectors: members.optional("vectors")?,
            indirect_desc: members.optional("indirect_desc")?.unwrap_or(true),
            event_idx: members.optional("event_idx")?.unwrap_or(true),
            iommu_platform: members.optional("iommu_platform")?.unwrap_or(false),
            packed: members.optional("packed")?.unwrap_or(false),
            ats: members.optional("ats")?.unwrap_or(false),
            ioeventfd: members.optional("ioeventfd")?.unwrap_or(true),
            use_disabled_flag: members.optional("use-disabled-flag")?.unwrap_or(true),
        })
    }
    fn put(&self, out: &mut Out) {
        out.put_some("drive", &self.drive);
        out.put_some("serial", &self.serial);
        out.put_some("num-queues", &self.num_queues);
        out.put("queue-size", &self.queue_size);
        out.put("seg-max-adjust", &self.seg_max_adjust);
        out.put_some("iothread", &self.iothread);
        out.put("discard", &self.discard);
        out.put("write-zeroes", &self.write_zeroes);
        out.put("config-wce", &self.config_wce);
        out.put("write-cache", &self.write_cache);
        out.put("share-rw", &self.share_rw);
        out.put("logical_block_size", &self.logical_block_size);
        out.put("physical_block_size", &self.physical_block_size);
        out.put("min_io_size", &self.min_io_size);
        out.put("opt_io_size", &self.opt_io_size);
        out.put_some("discard_granularity", &self.discard_granularity);
        out.put("max-discard-sectors", &self.max_discard_sectors);
        out.put("max-write-zeroes-sectors", &self.max_write_zeroes_sectors);
        out.put(
            "report-discard-granularity",
            &self.report_discard_granularity,
        );
        out.put_some("bootindex", &self.bootindex);
        out.put("request-merging", &self.request_merging);
        out.put("rerror", &self.rerror);
        out.put("werror", &self.werror);
        out.put_some("addr", &self.addr);
        out.put_some("romfile", &self.romfile);
        out.put("rombar", &self.rombar);
        out.put("multifunction", &self.multifunction);
        out.put_some("failover_pair_id", &self.failover_pair_id);
        out.put("acpi-index", &self.acpi_index);
        out.put("disable-legacy", &self.disable_legacy);
        out.put("disable-modern", &self.disable_modern);
        out.put_some("vectors", &self.vectors);
        out.put("indirect_desc", &self.indirect_desc);
        out.put("event_idx", &self.event_idx);
        out.put("iommu_platform", &self.iommu_platform);
        out.put("packed", &self.packed);
        out.put("ats", &self.ats);
        out.put("ioeventfd", &self.ioeventfd);
        out.put("use-disabled-flag", &self.use_disabled_flag);
    }
}
/// Properties of `virtio-scsi-pci`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtioScsiPciProps {
    /// Request queues; one for each processor by default
    pub num_queues: Option<u32>,
    /// Entries of each queue, a power of two
    pub virtqueue_size: u32,
    /// The limit on segments follows the queues' size
    pub seg_max_adjust: bool,
    /// Largest request in sectors that the driver is told of
    pub max_sectors: u32,
    /// Requests for one logical unit at a time that the driver is told of
    pub cmd_per_lun: u32,
    /// Tell the driver of logical units that come and go
    pub hotplug: bool,
    /// Tell the driver of changes, as of the size
    pub param_change: bool,
    /// The I/O thread that serves it
    pub iothread: Option<String>,
    /// Slot and optional function number, example: 06.0 or 06
    pub addr: Option<crate::decode::PciAddr>,
    /// Accepted empty; option ROMs are not run
    pub romfile: Option<String>,
    /// Accepted; option ROMs are not run
    pub rombar: i32,
    /// The slot has more functions than this one
    pub multifunction: bool,
    /// Not used
    pub failover_pair_id: Option<String>,
    /// Index for predictable names of network interfaces
    pub acpi_index: u32,
    /// Leave out the interface of virtio 0.9; only that without is here
    pub disable_legacy: OnOffAuto,
    /// Leave out the interface of virtio 1; refused when on
    pub disable_modern: bool,
    /// MSI-X vectors; chosen from the number of queues by default
    pub vectors: Option<u32>,
    /// Offer indirect descriptors
    pub indirect_desc: bool,
    /// Offer event indexes
    pub event_idx: bool,
    /// Offer ACCESS_PLATFORM; refused when on
    pub iommu_platform: bool,
    /// Offer packed queues; refused when on
    pub packed: bool,
    /// Address translation services; refused when on
    pub ats: bool,
    /// Let the accelerator deliver notifications
    pub ioeventfd: bool,
    /// Accepted
    pub use_disabled_flag: bool,
}
impl VirtioScsiPciProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(VirtioScsiPciProps {
            num_queues: members.optional("num_queues")?,
            virtqueue_size: members.optional("virtqueue_size")?.unwrap_or(256),
            seg_max_adjust: members.optional("seg_max_adjust")?.unwrap_or(true),
            max_sectors: members.optional("max_sectors")?.unwrap_or(65535),
            cmd_per_lun: members.optional("cmd_per_lun")?.unwrap_or(128),
            hotplug: members.optional("hotplug")?.unwrap_or(true),
            param_change: members.optional("param_change")?.unwrap_or(true),
            iothread: members.optional("iothread")?,
            addr: members.optional("addr")?,
            romfile: members.optional("romfile")?,
            rombar: members.optional("rombar")?.unwrap_or(-1),
            multifunction: members.optional("multifunction")?.unwrap_or(false),
            failover_pair_id: members.optional("failover_pair_id")?,
            acpi_index: members.optional("acpi-index")?.unwrap_or(0),
            disable_legacy: members
                .optional("disable-legacy")?
                .unwrap_or(OnOffAuto::Auto),
            disable_modern: members.optional("disable-modern")?.unwrap_or(false),
            vectors: members.optional("vectors")?,
            indirect_desc: members.optional("indirect_desc")?.unwrap_or(true),
            event_idx: members.optional("event_idx")?.unwrap_or(true),
            iommu_platform: members.optional("iommu_platform")?.unwrap_or(false),
            packed: members.optional("packed")?.unwrap_or(false),
            ats: members.optional("ats")?.unwrap_or(false),
            ioeventfd: members.optional("ioeventfd")?.unwrap_or(true),
            use_disabled_flag: members.optional("use-disabled-flag")?.unwrap_or(true),
        })
    }
    fn put(&self, out: &mut Out) {
        out.put_some("num_queues", &self.num_queues);
        out.put("virtqueue_size", &self.virtqueue_size);
        out.put("seg_max_adjust", &self.seg_max_adjust);
        out.put("max_sectors", &self.max_sectors);
        out.put("cmd_per_lun", &self.cmd_per_lun);
        out.put("hotplug", &self.hotplug);
        out.put("param_change", &self.param_change);
        out.put_some("iothread", &self.iothread);
        out.put_some("addr", &self.addr);
        out.put_some("romfile", &self.romfile);
        out.put("rombar", &self.rombar);
        out.put("multifunction", &self.multifunction);
        out.put_some("failover_pair_id", &self.failover_pair_id);
        out.put("acpi-index", &self.acpi_index);
        out.put("disable-legacy", &self.disable_legacy);
        out.put("disable-modern", &self.disable_modern);
        out.put_some("vectors", &self.vectors);
        out.put("indirect_desc", &self.indirect_desc);
        out.put("event_idx", &self.event_idx);
        out.put("iommu_platform", &self.iommu_platform);
        out.put("packed", &self.packed);
        out.put("ats", &self.ats);
        out.put("ioeventfd", &self.ioeventfd);
        out.put("use-disabled-flag", &self.use_disabled_flag);
    }
}
/// Properties of `scsi-hd`.
#[derive(Debug, Clone, PartialEq)]
pub struct ScsiHdProps {
    /// The medium can be taken out
    pub removable: bool,
    /// Tell the guest that single writes can be forced to the medium
    pub dpofua: bool,
    /// Longest range to unmap in bytes
    pub max_unmap_size: u64,
    /// Rotations per minute; 1 is none at all, 0 does not say
    pub rotation_rate: u16,
    /// Node name or ID of a block device to use as a backend
    pub drive: Option<String>,
    /// A power of two between 512 B and 2 MiB; 0 leaves it to the node
    pub logical_block_size: crate::decode::Size,
    /// A power of two between 512 B and 2 MiB; 0 leaves it to the node
    pub physical_block_size: crate::decode::Size,
    /// Preferred smallest request
    pub min_io_size: crate::decode::Size,
    /// Preferred request
    pub opt_io_size: crate::decode::Size,
    /// Granularity of discards; 0 is none, 4 KiB or a block by default
    pub discard_granularity: Option<crate::decode::Size>,
    /// Begin with the write cache on
    pub write_cache: OnOffAuto,
    /// Others may write the node too
    pub share_rw: bool,
    /// On failed reads: report, ignore, enospc or stop; auto is the drive's
    pub rerror: BlockdevOnError,
    /// On failed writes: report, ignore, enospc or stop; auto is the drive's
    pub werror: BlockdevOnError,
    /// Version that the guest sees, 2.5+ by default
    pub ver: Option<String>,
    /// Serial number, at most 36 characters
    pub serial: Option<String>,
    /// Vendor that the guest sees, QEMU by default
    pub vendor: Option<String>,
    /// Product that the guest sees, QEMU HARDDISK or QEMU CD-ROM by default
    pub product: Option<String>,
    /// Name in the page of identifiers; the serial number or the drive's name by default
    pub device_id: Option<String>,
    /// World-wide name; 0 is none
    pub wwn: u64,
    /// World-wide name of the port; 0 is none
    pub port_wwn: u64,
    /// Number of the port; 0 is none
    pub port_index: u16,
    /// Longest transfer in bytes that the guest is told of
    pub max_io_size: u64,
    /// Version of the standard that the guest is told of
    pub scsi_version: i32,
    /// Place in the order of boot devices
    pub bootindex: Option<i32>,
    /// Channel; there is 0 alone
    pub channel: u32,
    /// Target, 0 to 255; the first that is free by default
    pub scsi_id: Option<u32>,
    /// Logical unit of the target, 0 to 16383; the first that is free by default
    pub lun: Option<u32>,
}
impl ScsiHdProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ScsiHdProps {
            removable: members.optional("removable")?.unwrap_or(false),
            dpofua: members.optional("dpofua")?.unwrap_or(false),
            max_unmap_size: members.optional("max_unmap_size")?.unwrap_or(1073741824),
            rotation_rate: members.optional("rotation_rate")?.unwrap_or(0),
            drive: members.optional("drive")?,
            logical_block_size: members
                .optional("logical_block_size")?
                .unwrap_or(crate::decode::Size(0)),
            physical_block_size: members
                .optional("physical_block_size")?
                .unwrap_or(crate::decode::Size(0)),
            min_io_size: members
                .optional("min_io_size")?
                .unwrap_or(crate::decode::Size(0)),
            opt_io_size: members
                .optional("opt_io_size")?
                .unwrap_or(crate::decode::Size(0)),
            discard_granularity: members.optional("discard_granularity")?,
            write_cache: members.optional("write-cache")?.unwrap_or(OnOffAuto::Auto),
            share_rw: members.optional("share-rw")?.unwrap_or(false),
            rerror: members.optional("rerror")?.unwrap_or(BlockdevOnError::Auto),
            werror: members.optional("werror")?.unwrap_or(BlockdevOnError::Auto),
            ver: members.optional("ver")?,
            serial: members.optional("serial")?,
            vendor: members.optional("vendor")?,
            product: members.optional("product")?,
            device_id: members.optional("device_id")?,
            wwn: members.optional("wwn")?.unwrap_or(0),
            port_wwn: members.optional("port_wwn")?.unwrap_or(0),
            port_index: members.optional("port_index")?.unwrap_or(0),
            max_io_size: members.optional("max_io_size")?.unwrap_or(2147483647),
            scsi_version: members.optional("scsi_version")?.unwrap_or(5),
            bootindex: members.optional("bootindex")?,
            channel: members.optional("channel")?.unwrap_or(0),
            scsi_id: members.optional("scsi-id")?,
            lun: members.optional("lun")?,
        })
    }
    fn put(&self, out: &mut Out) {
        out.put("removable", &self.removable);
        out.put("dpofua", &self.dpofua);
        out.put("max_unmap_size", &self.max_unmap_size);
        out.put("rotation_rate", &self.rotation_rate);
        out.put_some("drive", &self.drive);
        out.put("logical_block_size", &self.logical_block_size);
        out.put("physical_block_size", &self.physical_block_size);
        out.put("min_io_size", &self.min_io_size);
        out.put("opt_io_size", &self.opt_io_size);
        out.put_some("discard_granularity", &self.discard_granularity);
        out.put("write-cache", &self.write_cache);
        out.put("share-rw", &self.share_rw);
        out.put("rerror", &self.rerror);
        out.put("werror", &self.werror);
        out.put_some("ver", &self.ver);
        out.put_some("serial", &self.serial);
        out.put_some("vendor", &self.vendor);
        out.put_some("product", &self.product);
        out.put_some("device_id", &self.device_id);
        out.put("wwn", &self.wwn);
        out.put("port_wwn", &self.port_wwn);
        out.put("port_index", &self.port_index);
        out.put("max_io_size", &self.max_io_size);
        out.put("scsi_version", &self.scsi_version);
        out.put_some("bootindex", &self.bootindex);
        out.put("channel", &self.channel);
        out.put_some("scsi-id", &self.scsi_id);
        out.put_some("lun", &self.lun);
    }
}
/// Properties of `scsi-cd`.
#[derive(Debug, Clone, PartialEq)]
pub struct ScsiCdProps {
    /// Node name or ID of a block device to use as a backend
    pub drive: Option<String>,
    /// A power of two between 512 B and 2 MiB; 0 leaves it to the node
    pub logical_block_size: crate::decode::Size,
    /// A power of two between 512 B and 2 MiB; 0 leaves it to the node
    pub physical_block_size: crate::decode::Size,
    /// Preferred smallest request
    pub min_io_size: crate::decode::Size,
    /// Preferred request
    pub opt_io_size: crate::decode::Size,
    /// Granularity of discards; 0 is none, 4 KiB or a block by default
    pub discard_granularity: Option<crate::decode::Size>,
    /// Begin with the write cache on
    pub write_cache: OnOffAuto,
    /// Others may write the node too
    pub share_rw: bool,
    /// On failed reads: report, ignore, enospc or stop; auto is the drive's
    pub rerror: BlockdevOnError,
    /// On failed writes: report, ignore, enospc or stop; auto is the drive's
    pub werror: BlockdevOnError,
    /// Version that the guest sees, 2.5+ by default
    pub ver: Option<String>,
    /// Serial number, at most 36 characters
    pub serial: Option<String>,
    /// Vendor that the guest sees, QEMU by default
    pub vendor: Option<String>,
    /// Product that the guest sees, QEMU HARDDISK or QEMU CD-ROM by default
    pub product: Option<String>,
    /// Name in the page of identifiers; the serial number or the drive's name by default
    pub device_id: Option<String>,
    /// World-wide name; 0 is none
    pub wwn: u64,
    /// World-wide name of the port; 0 is none
    pub port_wwn: u64,
    /// Number of the port; 0 is none
    pub port_index: u16,
    /// Longest transfer in bytes that the guest is told of
    pub max_io_size: u64,
    /// Version of the standard that the guest is told of
    pub scsi_version: i32,
    /// Place in the order of boot devices
    pub bootindex: Option<i32>,
    /// Channel; there is 0 alone
    pub channel: u32,
    /// Target, 0 to 255; the first that is free by default
    pub scsi_id: Option<u32>,
    /// Logical unit of the target, 0 to 16383; the first that is free by default
    pub lun: Option<u32>,
}
impl ScsiCdProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(ScsiCdProps {
            drive: members.optional("drive")?,
            logical_block_size: members
                .optional("logical_block_size")?
                .unwrap_or(crate::decode::Size(0)),
            physical_block_size: members
                .optional("physical_block_size")?
                .unwrap_or(crate::decode::Size(0)),
            min_io_size: members
                .optional("min_io_size")?
                .unwrap_or(crate::decode::Size(0)),
            opt_io_size: members
                .optional("opt_io_size")?
                .unwrap_or(crate::decode::Size(0)),
            discard_granularity: members.optional("discard_granularity")?,
            write_cache: members.optional("write-cache")?.unwrap_or(OnOffAuto::Auto),
            share_rw: members.optional("share-rw")?.unwrap_or(false),
            rerror: members.optional("rerror")?.unwrap_or(BlockdevOnError::Auto),
            werror: members.optional("werror")?.unwrap_or(BlockdevOnError::Auto),
            ver: members.optional("ver")?,
            serial: members.optional("serial")?,
            vendor: members.optional("vendor")?,
            product: members.optional("product")?,
            device_id: members.optional("device_id")?,
            wwn: members.optional("wwn")?.unwrap_or(0),
            port_wwn: members.optional("port_wwn")?.unwrap_or(0),
            port_index: members.optional("port_index")?.unwrap_or(0),
            max_io_size: members.optional("max_io_size")?.unwrap_or(2147483647),
            scsi_version: members.optional("scsi_version")?.unwrap_or(5),
            bootindex: members.optional("bootindex")?,
            channel: members.optional("channel")?.unwrap_or(0),
            scsi_id: members.optional("scsi-id")?,
            lun: members.optional("lun")?,
        })
    }
    fn put(&self, out: &mut Out) {
        out.put_some("drive", &self.drive);
        out.put("logical_block_size", &self.logical_block_size);
        out.put("physical_block_size", &self.physical_block_size);
        out.put("min_io_size", &self.min_io_size);
        out.put("opt_io_size", &self.opt_io_size);
        out.put_some("discard_granularity", &self.discard_granularity);
        out.put("write-cache", &self.write_cache);
        out.put("share-rw", &self.share_rw);
        out.put("rerror", &self.rerror);
        out.put("werror", &self.werror);
        out.put_some("ver", &self.ver);
        out.put_some("serial", &self.serial);
        out.put_some("vendor", &self.vendor);
        out.put_some("product", &self.product);
        out.put_some("device_id", &self.device_id);
        out.put("wwn", &self.wwn);
        out.put("port_wwn", &self.port_wwn);
        out.put("port_index", &self.port_index);
        out.put("max_io_size", &self.max_io_size);
        out.put("scsi_version", &self.scsi_version);
        out.put_some("bootindex", &self.bootindex);
        out.put("channel", &self.channel);
        out.put_some("scsi-id", &self.scsi_id);
        out.put_some("lun", &self.lun);
    }
}
/// Properties of `virtio-serial-pci`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtioSerialPciProps {
    /// Ports it can have, 1 to 511
    pub max_ports: u32,
    /// Offer emergency writes
    pub emergency_write: bool,
    /// Slot and optional function number, example: 06.0 or 06
    pub addr: Option<crate::decode::PciAddr>,
    /// Accepted empty; option ROMs are not run
    pub romfile: Option<String>,
    /// Accepted; option ROMs are not run
    pub rombar: i32,
    /// The slot has more functions than this one
    pub multifunction: bool,
    /// Not used
    pub failover_pair_id: Option<String>,
    /// Index for predictable names of network interfaces
    pub acpi_index: u32,
    /// Leave out the interface of virtio 0.9; only that without is here
    pub disable_legacy: OnOffAuto,
    /// Leave out the interface of virtio 1; refused when on
    pub disable_modern: bool,
    /// MSI-X vectors; chosen from the number of queues by default
    pub vectors: Option<u32>,
    /// Offer indirect descriptors
    pub indirect_desc: bool,
    /// Offer event indexes
    pub event_idx: bool,
    /// Offer ACCESS_PLATFORM; refused when on
    pub iommu_platform: bool,
    /// Offer packed queues; refused when on
    pub packed: bool,
    /// Address translation services; refused when on
    pub ats: bool,
    /// Let the accelerator deliver notifications
    pub ioeventfd: bool,
    /// Accepted
    pub use_disabled_flag: bool,
}
impl VirtioSerialPciProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(VirtioSerialPciProps {
            max_ports: members.optional("max_ports")?.unwrap_or(31),
            emergency_write: members.optional("emergency-write")?.unwrap_or(true),
            addr: members.optional("addr")?,
            romfile: members.optional("romfile")?,
            rombar: members.optional("rombar")?.unwrap_or(-1),
            multifunction: members.optional("multifunction")?.unwrap_or(false),
            failover_pair_id: members.optional("failover_pair_id")?,
            acpi_index: members.optional("acpi-index")?.unwrap_or(0),
            disable_legacy: members
                .optional("disable-legacy")?
                .unwrap_or(OnOffAuto::Auto),
            disable_modern: members.optional("disable-modern")?.unwrap_or(false),
            vectors: members.optional("vectors")?,
            indirect_desc: members.optional("indirect_desc")?.unwrap_or(true),
            event_idx: members.optional("event_idx")?.unwrap_or(true),
            iommu_platform: members.optional("iommu_platform")?.unwrap_or(false),
            packed: members.optional("packed")?.unwrap_or(false),
            ats: members.optional("ats")?.unwrap_or(false),
            ioeventfd: members.optional("ioeventfd")?.unwrap_or(true),
            use_disabled_flag: members.optional("use-disabled-flag")?.unwrap_or(true),
        })
    }
    fn put(&self, out: &mut Out) {
        out.put("max_ports", &self.max_ports);
        out.put("emergency-write", &self.emergency_write);
        out.put_some("addr", &self.addr);
        out.put_some("romfile", &self.romfile);
        out.put("rombar", &self.rombar);
        out.put("multifunction", &self.multifunction);
        out.put_some("failover_pair_id", &self.failover_pair_id);
        out.put("acpi-index", &self.acpi_index);
        out.put("disable-legacy", &self.disable_legacy);
        out.put("disable-modern", &self.disable_modern);
        out.put_some("vectors", &self.vectors);
        out.put("indirect_desc", &self.indirect_desc);
        out.put("event_idx", &self.event_idx);
        out.put("iommu_platform", &self.iommu_platform);
        out.put("packed", &self.packed);
        out.put("ats", &self.ats);
        out.put("ioeventfd", &self.ioeventfd);
        out.put("use-disabled-flag", &self.use_disabled_flag);
    }
}
/// Properties of `virtconsole`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtconsoleProps {
    /// ID of a chardev to use as a backend
    pub chardev: Option<String>,
    /// Number of the port
    pub nr: Option<u32>,
    /// Name that the guest sees
    pub name: Option<String>,
}
impl VirtconsoleProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(VirtconsoleProps {
            chardev: members.optional("chardev")?,
            nr: members.optional("nr")?,
            name: members.optional("name")?,
        })
    }
    fn put(&self, out: &mut Out) {
        out.put_some("chardev", &self.chardev);
        out.put_some("nr", &self.nr);
        out.put_some("name", &self.name);
    }
}
/// Properties of `virtserialport`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtserialportProps {
    /// ID of a chardev to use as a backend
    pub chardev: Option<String>,
    /// Number of the port
    pub nr: Option<u32>,
    /// Name that the guest sees
    pub name: Option<String>,
}
impl VirtserialportProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(VirtserialportProps {
            chardev: members.optional("chardev")?,
            nr: members.optional("nr")?,
            name: members.optional("name")?,
        })
    }
    fn put(&self, out: &mut Out) {
        out.put_some("chardev", &self.chardev);
        out.put_some("nr", &self.nr);
        out.put_some("name", &self.name);
    }
}
/// Properties of `virtio-rng-pci`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtioRngPciProps {
    /// Object that gives the entropy; the host's random numbers by default
    pub rng: Option<String>,
    /// Bytes per period at most
    pub max_bytes: u64,
    /// Milliseconds of a period
    pub period: u32,
    /// Slot and optional function number, example: 06.0 or 06
    pub addr: Option<crate::decode::PciAddr>,
    /// Accepted empty; option ROMs are not run
    pub romfile: Option<String>,
    /// Accepted; option ROMs are not run
    pub rombar: i32,
    /// The slot has more functions than this one
    pub multifunction: bool,
    /// Not used
    pub failover_pair_id: Option<String>,
    /// Index for predictable names of network interfaces
    pub acpi_index: u32,
    /// Leave out the interface of virtio 0.9; only that without is here
    pub disable_legacy: OnOffAuto,
    /// Leave out the interface of virtio 1; refused when on
    pub disable_modern: bool,
    /// MSI-X vectors; chosen from the number of queues by default
    pub vectors: Option<u32>,
    /// Offer indirect descriptors
    pub indirect_desc: bool,
    /// Offer event indexes
    pub event_idx: bool,
    /// Offer ACCESS_PLATFORM; refused when on
    pub iommu_platform: bool,
    /// Offer packed queues; refused when on
    pub packed: bool,
    /// Address translation services; refused when on
    pub ats: bool,
    /// Let the accelerator deliver notifications
    pub ioeventfd: bool,
    /// Accepted
    pub use_disabled_flag: bool,
}
impl VirtioRngPciProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(VirtioRngPciProps {
            rng: members.optional("rng")?,
            max_bytes: members
                .optional("max-bytes")?
                .unwrap_or(9223372036854775807),
            period: members.optional("period")?.unwrap_or(65536),
            addr: members.optional("addr")?,
            romfile: members.optional("romfile")?,
            rombar: members.optional("rombar")?.unwrap_or(-1),
            multifunction: members.optional("multifunction")?.unwrap_or(false),
            failover_pair_id: members.optional("failover_pair_id")?,
            acpi_index: members.optional("acpi-index")?.unwrap_or(0),
            disable_legacy: members
                .optional("disable-legacy")?
                .unwrap_or(OnOffAuto::Auto),
            disable_modern: members.optional("disable-modern")?.unwrap_or(false),
            vectors: members.optional("vectors")?,
            indirect_desc: members.optional("indirect_desc")?.unwrap_or(true),
            event_idx: members.optional("event_idx")?.unwrap_or(true),
            iommu_platform: members.optional("iommu_platform")?.unwrap_or(false),
            packed: members.optional("packed")?.unwrap_or(false),
            ats: members.optional("ats")?.unwrap_or(false),
            ioeventfd: members.optional("ioeventfd")?.unwrap_or(true),
            use_disabled_flag: members.optional("use-disabled-flag")?.unwrap_or(true),
        })
    }
    fn put(&self, out: &mut Out) {
        out.put_some("rng", &self.rng);
        out.put("max-bytes", &self.max_bytes);
        out.put("period", &self.period);
        out.put_some("addr", &self.addr);
        out.put_some("romfile", &self.romfile);
        out.put("rombar", &self.rombar);
        out.put("multifunction", &self.multifunction);
        out.put_some("failover_pair_id", &self.failover_pair_id);
        out.put("acpi-index", &self.acpi_index);
        out.put("disable-legacy", &self.disable_legacy);
        out.put("disable-modern", &self.disable_modern);
        out.put_some("vectors", &self.vectors);
        out.put("indirect_desc", &self.indirect_desc);
        out.put("event_idx", &self.event_idx);
        out.put("iommu_platform", &self.iommu_platform);
        out.put("packed", &self.packed);
        out.put("ats", &self.ats);
        out.put("ioeventfd", &self.ioeventfd);
        out.put("use-disabled-flag", &self.use_disabled_flag);
    }
}
/// Properties of `pcie-root-port`.
#[derive(Debug, Clone, PartialEq)]
pub struct PcieRootPortProps {
    /// Port number
    pub port: u8,
    /// Chassis number, unique among ports
    pub chassis: u8,
    /// Slot number
    pub slot: u16,
    /// Devices can be plugged into it
    pub hotplug: bool,
    /// Accepted
    pub bus_reserve: u32,
    /// Room for ports behind it
    pub io_reserve: Option<crate::decode::Size>,
    /// Room for memory behind it
    pub mem_reserve: Option<crate::decode::Size>,
    /// Room for prefetchable memory behind it
    pub pref64_reserve: Option<crate::decode::Size>,
    /// Slot and optional function number, example: 06.0 or 06
    pub addr: Option<crate::decode::PciAddr>,
    /// Accepted empty; option ROMs are not run
    pub romfile: Option<String>,
    /// Accepted; option ROMs are not run
    pub rombar: i32,
    /// The slot has more functions than this one
    pub multifunction: bool,
    /// Not used
    pub failover_pair_id: Option<String>,
    /// Index for predictable names of network interfaces
    pub acpi_index: u32,
}
impl PcieRootPortProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(PcieRootPortProps {
            port: members.optional("port")?.unwrap_or(0),
            chassis: members.optional("chassis")?.unwrap_or(0),
            slot: members.optional("slot")?.unwrap_or(0),
            hotplug: members.optional("hotplug")?.unwrap_or(true),
            bus_reserve: members.optional("bus-reserve")?.unwrap_or(4294967295),
            io_reserve: members.optional("io-reserve")?,
            mem_reserve: members.optional("mem-reserve")?,
            pref64_reserve: members.optional("pref64-reserve")?,
            addr: members.optional("addr")?,
            romfile: members.optional("romfile")?,
            rombar: members.optional("rombar")?.unwrap_or(-1),
            multifunction: members.optional("multifunction")?.unwrap_or(false),
            failover_pair_id: members.optional("failover_pair_id")?,
            acpi_index: members.optional("acpi-index")?.unwrap_or(0),
        })
    }
    fn put(&self, out: &mut Out) {
        out.put("port", &self.port);
        out.put("chassis", &self.chassis);
        out.put("slot", &self.slot);
        out.put("hotplug", &self.hotplug);
        out.put("bus-reserve", &self.bus_reserve);
        out.put_some("io-reserve", &self.io_reserve);
        out.put_some("mem-reserve", &self.mem_reserve);
        out.put_some("pref64-reserve", &self.pref64_reserve);
        out.put_some("addr", &self.addr);
        out.put_some("romfile", &self.romfile);
        out.put("rombar", &self.rombar);
        out.put("multifunction", &self.multifunction);
        out.put_some("failover_pair_id", &self.failover_pair_id);
        out.put("acpi-index", &self.acpi_index);
    }
}
/// Properties of `isa-serial`.
#[derive(Debug, Clone, PartialEq)]
pub struct IsaSerialProps {
    /// ID of a chardev to use as a backend
    pub chardev: Option<String>,
    /// 0 to 3: the usual ports and interrupts of COM1 to COM4
    pub index: Option<u32>,
    /// First port
    pub iobase: Option<u32>,
    /// Interrupt
    pub irq: Option<u32>,
    /// Accepted
    pub wakeup: bool,
}
impl IsaSerialProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(IsaSerialProps {
            chardev: members.optional("chardev")?,
            index: members.optional("index")?,
            iobase: members.optional("iobase")?,
            irq: members.optional("irq")?,
            wakeup: members.optional("wakeup")?.unwrap_or(false),
        })
    }
    fn put(&self, out: &mut Out) {
        out.put_some("chardev", &self.chardev);
        out.put_some("index", &self.index);
        out.put_some("iobase", &self.iobase);
        out.put_some("irq", &self.irq);
        out.put("wakeup", &self.wakeup);
    }
}
/// Properties of `pvpanic`.
#[derive(Debug, Clone, PartialEq)]
pub struct PvpanicProps {
    /// Its port
    pub ioport: u16,
    /// Events it offers, as bits: 1 panicked, 2 its crash kernel takes over, 4 switched off
    pub events: u8,
}
impl PvpanicProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(PvpanicProps {
            ioport: members.optional("ioport")?.unwrap_or(1285),
            events: members.optional("events")?.unwrap_or(7),
        })
    }
    fn put(&self, out: &mut Out) {
        out.put("ioport", &self.ioport);
        out.put("events", &self.events);
    }
}
/// Properties of `isa-debug-exit`.
#[derive(Debug, Clone, PartialEq)]
pub struct IsaDebugExitProps {
    /// First port
    pub iobase: u32,
    /// Bytes of ports
    pub iosize: u32,
}
impl IsaDebugExitProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(IsaDebugExitProps {
            iobase: members.optional("iobase")?.unwrap_or(1281),
            iosize: members.optional("iosize")?.unwrap_or(2),
        })
    }
    fn put(&self, out: &mut Out) {
        out.put("iobase", &self.iobase);
        out.put("iosize", &self.iosize);
    }
}
/// Properties of `virtio-net-pci`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtioNetPciProps {
    /// ID of a netdev to use as a backend
    pub netdev: Option<String>,
    /// Ethernet 6-byte MAC Address, example: 52:54:00:12:34:56; the first that is free by default
    pub mac: Option<String>,
    /// Offer several queue pairs, as many as the netdev has
    pub mq: bool,
    /// Entries of each receive queue, a power of two
    pub rx_queue_size: u16,
    /// Entries of each transmit queue, a power of two
    pub tx_queue_size: u16,
    /// MTU that the guest is told of; 0 is none
    pub host_mtu: u16,
    /// Speed in Mb/s that the guest is told of; -1 is none
    pub speed: i32,
    /// half or full; not told to the guest by default
    pub duplex: Option<String>,
    /// Tell the guest of the link's state
    pub status: bool,
    /// The driver can announce where it is
    pub guest_announce: bool,
    /// Take frames with a checksum that is to be completed
    pub csum: bool,
    /// Give frames with a checksum that is to be completed
    pub guest_csum: bool,
    /// Accepted; an offer of drivers before version 1
    pub gso: bool,
    /// Take large segments of TCP over IPv4
    pub host_tso4: bool,
    /// Take large segments of TCP over IPv6
    pub host_tso6: bool,
    /// Take large segments with ECN
    pub host_ecn: bool,
    /// Take large datagrams of UDP to fragment
    pub host_ufo: bool,
    /// Take large datagrams of UDP to segment
    pub host_uso: bool,
    /// Give large segments of TCP over IPv4
    pub guest_tso4: bool,
    /// Give large segments of TCP over IPv6
    pub guest_tso6: bool,
    /// Give large segments with ECN
    pub guest_ecn: bool,
    /// Give large datagrams of UDP to fragment
    pub guest_ufo: bool,
    /// Give large datagrams of UDP over IPv4 to segment
    pub guest_uso4: bool,
    /// Give large datagrams of UDP over IPv6 to segment
    pub guest_uso6: bool,
    /// Frames may fill several receive buffers
    pub mrg_rxbuf: bool,
    /// Offer the control queue
    pub ctrl_vq: bool,
    /// The driver chooses which kinds of frame it receives
    pub ctrl_rx: bool,
    /// The same for further kinds
    pub ctrl_rx_extra: bool,
    /// The driver chooses which VLANs it receives
    pub ctrl_vlan: bool,
    /// The driver can change the address
    pub ctrl_mac_addr: bool,
    /// The driver can change what it receives unfinished
    pub ctrl_guest_offloads: bool,
    /// timer or bh; accepted, frames are sent at once
    pub tx: Option<String>,
    /// Accepted; nanoseconds between two sends
    pub x_txtimer: u32,
    /// Frames sent before others have their turn
    pub x_txburst: i32,
    /// Stand in for another interface; refused when on
    pub failover: bool,
    /// Receive-side scaling; refused when on
    pub rss: bool,
    /// Tell hashes of frames; refused when on
    pub hash: bool,
    /// Coalesced segments; refused when on
    pub guest_rsc_ext: bool,
    /// Place in the order of boot devices
    pub bootindex: Option<i32>,
    /// Slot and optional function number, example: 06.0 or 06
    pub addr: Option<crate::decode::PciAddr>,
    /// Accepted empty; option ROMs are not run
    pub romfile: Option<String>,
    /// Accepted; option ROMs are not run
    pub rombar: i32,
    /// The slot has more functions than this one
    pub multifunction: bool,
    /// Not used
    pub failover_pair_id: Option<String>,
    /// Index for predictable names of network interfaces
    pub acpi_index: u32,
    /// Leave out the interface of virtio 0.9; only that without is here
    pub disable_legacy: OnOffAuto,
    /// Leave out the interface of virtio 1; refused when on
    pub disable_modern: bool,
    /// MSI-X vectors; chosen from the number of queues by default
    pub vectors: Option<u32>,
    /// Offer indirect descriptors
    pub indirect_desc: bool,
    /// Offer event indexes
    pub event_idx: bool,
    /// Offer ACCESS_PLATFORM; refused when on
    pub iommu_platform: bool,
    /// Offer packed queues; refused when on
    pub packed: bool,
    /// Address translation services; refused when on
    pub ats: bool,
    /// Let the accelerator deliver notifications
    pub ioeventfd: bool,
    /// Accepted
    pub use_disabled_flag: bool,
}
impl VirtioNetPciProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(VirtioNetPciProps {
            netdev: members.optional("netdev")?,
            mac: members.optional("mac")?,
            mq: members.optional("mq")?.unwrap_or(false),
            rx_queue_size: members.optional("rx_queue_size")?.unwrap_or(256),
            tx_queue_size: members.optional("tx_queue_size")?.unwrap_or(256),
            host_mtu: members.optional("host_mtu")?.unwrap_or(0),
            speed: members.optional("speed")?.unwrap_or(-1),
            duplex: members.optional("duplex")?,
            status: members.optional("status")?.unwrap_or(true),
            guest_announce: members.optional("guest_announce")?.unwrap_or(true),
            csum: members.optional("csum")?.unwrap_or(true),
            guest_csum: members.optional("guest_csum")?.unwrap_or(true),
            gso: members.optional("gso")?.unwrap_or(true),
            host_tso4: members.optional("host_tso4")?.unwrap_or(true),
            host_tso6: members.optional("host_tso6")?.unwrap_or(true),
            host_ecn: members.optional("host_ecn")?.unwrap_or(true),
            host_ufo: members.optional("host_ufo")?.unwrap_or(true),
            host_uso: members.optional("host_uso")?.unwrap_or(true),
            guest_tso4: members.optional("guest_tso4")?.unwrap_or(true),
            guest_tso6: members.optional("guest_tso6")?.unwrap_or(true),
            guest_ecn: members.optional("guest_ecn")?.unwrap_or(true),
            guest_ufo: members.optional("guest_ufo")?.unwrap_or(true),
            guest_uso4: members.optional("guest_uso4")?.unwrap_or(true),
            guest_uso6: members.optional("guest_uso6")?.unwrap_or(true),
            mrg_rxbuf: members.optional("mrg_rxbuf")?.unwrap_or(true),
            ctrl_vq: members.optional("ctrl_vq")?.unwrap_or(true),
            ctrl_rx: members.optional("ctrl_rx")?.unwrap_or(true),
            ctrl_rx_extra: members.optional("ctrl_rx_extra")?.unwrap_or(true),
            ctrl_vlan: members.optional("ctrl_vlan")?.unwrap_or(true),
            ctrl_mac_addr: members.optional("ctrl_mac_addr")?.unwrap_or(true),
            ctrl_guest_offloads: members.optional("ctrl_guest_offloads")?.unwrap_or(true),
            tx: members.optional("tx")?,
            x_txtimer: members.optional("x-txtimer")?.unwrap_or(150000),
            x_txburst: members.optional("x-txburst")?.unwrap_or(256),
            failover: members.optional("failover")?.unwrap_or(false),
            rss: members.optional("rss")?.unwrap_or(false),
            hash: members.optional("hash")?.unwrap_or(false),
            guest_rsc_ext: members.optional("guest_rsc_ext")?.unwrap_or(false),
            bootindex: members.optional("bootindex")?,
            addr: members.optional("addr")?,
            romfile: members.optional("romfile")?,
            rombar: members.optional("rombar")?.unwrap_or(-1),
            multifunction: members.optional("multifunction")?.unwrap_or(false),
            failover_pair_id: members.optional("failover_pair_id")?,
            acpi_index: members.optional("acpi-index")?.unwrap_or(0),
            disable_legacy: members
                .optional("disable-legacy")?
                .unwrap_or(OnOffAuto::Auto),
            disable_modern: members.optional("disable-modern")?.unwrap_or(false),
            vectors: members.optional("vectors")?,
            indirect_desc: members.optional("indirect_desc")?.unwrap_or(true),
            event_idx: members.optional("event_idx")?.unwrap_or(true),
            iommu_platform: members.optional("iommu_platform")?.unwrap_or(false),
            packed: members.optional("packed")?.unwrap_or(false),
            ats: members.optional("ats")?.unwrap_or(false),
            ioeventfd: members.optional("ioeventfd")?.unwrap_or(true),
            use_disabled_flag: members.optional("use-disabled-flag")?.unwrap_or(true),
        })
    }
    fn put(&self, out: &mut Out) {
        out.put_some("netdev", &self.netdev);
        out.put_some("mac", &self.mac);
        out.put("mq", &self.mq);
        out.put("rx_queue_size", &self.rx_queue_size);
        out.put("tx_queue_size", &self.tx_queue_size);
        out.put("host_mtu", &self.host_mtu);
        out.put("speed", &self.speed);
        out.put_some("duplex", &self.duplex);
        out.put("status", &self.status);
        out.put("guest_announce", &self.guest_announce);
        out.put("csum", &self.csum);
        out.put("guest_csum", &self.guest_csum);
        out.put("gso", &self.gso);
        out.put("host_tso4", &self.host_tso4);
        out.put("host_tso6", &self.host_tso6);
        out.put("host_ecn", &self.host_ecn);
        out.put("host_ufo", &self.host_ufo);
        out.put("host_uso", &self.host_uso);
        out.put("guest_tso4", &self.guest_tso4);
        out.put("guest_tso6", &self.guest_tso6);
        out.put("guest_ecn", &self.guest_ecn);
        out.put("guest_ufo", &self.guest_ufo);
        out.put("guest_uso4", &self.guest_uso4);
        out.put("guest_uso6", &self.guest_uso6);
        out.put("mrg_rxbuf", &self.mrg_rxbuf);
        out.put("ctrl_vq", &self.ctrl_vq);
        out.put("ctrl_rx", &self.ctrl_rx);
        out.put("ctrl_rx_extra", &self.ctrl_rx_extra);
        out.put("ctrl_vlan", &self.ctrl_vlan);
        out.put("ctrl_mac_addr", &self.ctrl_mac_addr);
        out.put("ctrl_guest_offloads", &self.ctrl_guest_offloads);
        out.put_some("tx", &self.tx);
        out.put("x-txtimer", &self.x_txtimer);
        out.put("x-txburst", &self.x_txburst);
        out.put("failover", &self.failover);
        out.put("rss", &self.rss);
        out.put("hash", &self.hash);
        out.put("guest_rsc_ext", &self.guest_rsc_ext);
        out.put_some("bootindex", &self.bootindex);
        out.put_some("addr", &self.addr);
        out.put_some("romfile", &self.romfile);
        out.put("rombar", &self.rombar);
        out.put("multifunction", &self.multifunction);
        out.put_some("failover_pair_id", &self.failover_pair_id);
        out.put("acpi-index", &self.acpi_index);
        out.put("disable-legacy", &self.disable_legacy);
        out.put("disable-modern", &self.disable_modern);
        out.put_some("vectors", &self.vectors);
        out.put("indirect_desc", &self.indirect_desc);
        out.put("event_idx", &self.event_idx);
        out.put("iommu_platform", &self.iommu_platform);
        out.put("packed", &self.packed);
        out.put("ats", &self.ats);
        out.put("ioeventfd", &self.ioeventfd);
        out.put("use-disabled-flag", &self.use_disabled_flag);
    }
}
/// Properties of `virtio-balloon-pci`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtioBalloonPciProps {
    /// The guest may take memory back before it runs out of it
    pub deflate_on_oom: bool,
    /// Offer hints at free pages, for migration; needs an iothread
    pub free_page_hint: bool,
    /// Offer reports of free pages, which go back to the host at once
    pub free_page_reporting: bool,
    /// Let the guest say what it fills free pages with
    pub page_poison: bool,
    /// Configuration space has all fields, whatever is offered
    pub qemu_4_0_config_size: bool,
    /// Seconds between two questions for statistics; 0 is never
    pub guest_stats_polling_interval: i64,
    /// The I/O thread that serves it
    pub iothread: Option<String>,
    /// Slot and optional function number, example: 06.0 or 06
    pub addr: Option<crate::decode::PciAddr>,
    /// Accepted empty; option ROMs are not run
    pub romfile: Option<String>,
    /// Accepted; option ROMs are not run
    pub rombar: i32,
    /// The slot has more functions than this one
    pub multifunction: bool,
    /// Not used
    pub failover_pair_id: Option<String>,
    /// Index for predictable names of network interfaces
    pub acpi_index: u32,
    /// Leave out the interface of virtio 0.9; only that without is here
    pub disable_legacy: OnOffAuto,
    /// Leave out the interface of virtio 1; refused when on
    pub disable_modern: bool,
    /// MSI-X vectors; chosen from the number of queues by default
    pub vectors: Option<u32>,
    /// Offer indirect descriptors
    pub indirect_desc: bool,
    /// Offer event indexes
    pub event_idx: bool,
    /// Offer ACCESS_PLATFORM; refused when on
    pub iommu_platform: bool,
    /// Offer packed queues; refused when on
    pub packed: bool,
    /// Address translation services; refused when on
    pub ats: bool,
    /// Let the accelerator deliver notifications
    pub ioeventfd: bool,
    /// Accepted
    pub use_disabled_flag: bool,
}
impl VirtioBalloonPciProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(VirtioBalloonPciProps {
            deflate_on_oom: members.optional("deflate-on-oom")?.unwrap_or(false),
            free_page_hint: members.optional("free-page-hint")?.unwrap_or(false),
            free_page_reporting: members.optional("free-page-reporting")?.unwrap_or(false),
            page_poison: members.optional("page-poison")?.unwrap_or(true),
            qemu_4_0_config_size: members.optional("qemu-4-0-config-size")?.unwrap_or(false),
            guest_stats_polling_interval: members
                .optional("guest-stats-polling-interval")?
                .unwrap_or(0),
            iothread: members.optional("iothread")?,
            addr: members.optional("addr")?,
            romfile: members.optional("romfile")?,
            rombar: members.optional("rombar")?.unwrap_or(-1),
            multifunction: members.optional("multifunction")?.unwrap_or(false),
            failover_pair_id: members.optional("failover_pair_id")?,
            acpi_index: members.optional("acpi-index")?.unwrap_or(0),
            disable_legacy: members
                .optional("disable-legacy")?
                .unwrap_or(OnOffAuto::Auto),
            disable_modern: members.optional("disable-modern")?.unwrap_or(false),
            vectors: members.optional("vectors")?,
            indirect_desc: members.optional("indirect_desc")?.unwrap_or(true),
            event_idx: members.optional("event_idx")?.unwrap_or(true),
            iommu_platform: members.optional("iommu_platform")?.unwrap_or(false),
            packed: members.optional("packed")?.unwrap_or(false),
            ats: members.optional("ats")?.unwrap_or(false),
            ioeventfd: members.optional("ioeventfd")?.unwrap_or(true),
            use_disabled_flag: members.optional("use-disabled-flag")?.unwrap_or(true),
        })
    }
    fn put(&self, out: &mut Out) {
        out.put("deflate-on-oom", &self.deflate_on_oom);
        out.put("free-page-hint", &self.free_page_hint);
        out.put("free-page-reporting", &self.free_page_reporting);
        out.put("page-poison", &self.page_poison);
        out.put("qemu-4-0-config-size", &self.qemu_4_0_config_size);
        out.put(
            "guest-stats-polling-interval",
            &self.guest_stats_polling_interval,
        );
        out.put_some("iothread", &self.iothread);
        out.put_some("addr", &self.addr);
        out.put_some("romfile", &self.romfile);
        out.put("rombar", &self.rombar);
        out.put("multifunction", &self.multifunction);
        out.put_some("failover_pair_id", &self.failover_pair_id);
        out.put("acpi-index", &self.acpi_index);
        out.put("disable-legacy", &self.disable_legacy);
        out.put("disable-modern", &self.disable_modern);
        out.put_some("vectors", &self.vectors);
        out.put("indirect_desc", &self.indirect_desc);
        out.put("event_idx", &self.event_idx);
        out.put("iommu_platform", &self.iommu_platform);
        out.put("packed", &self.packed);
        out.put("ats", &self.ats);
        out.put("ioeventfd", &self.ioeventfd);
        out.put("use-disabled-flag", &self.use_disabled_flag);
    }
}
/// Properties of `i6300esb`.
#[derive(Debug, Clone, PartialEq)]
pub struct I6300esbProps {
    /// Slot and optional function number, example: 06.0 or 06
    pub addr: Option<crate::decode::PciAddr>,
    /// Accepted empty; option ROMs are not run
    pub romfile: Option<String>,
    /// Accepted; option ROMs are not run
    pub rombar: i32,
    /// The slot has more functions than this one
    pub multifunction: bool,
    /// Not used
    pub failover_pair_id: Option<String>,
    /// Index for predictable names of network interfaces
    pub acpi_index: u32,
}
impl I6300esbProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(I6300esbProps {
            addr: members.optional("addr")?,
            romfile: members.optional("romfile")?,
            rombar: members.optional("rombar")?.unwrap_or(-1),
            multifunction: members.optional("multifunction")?.unwrap_or(false),
            failover_pair_id: members.optional("failover_pair_id")?,
            acpi_index: members.optional("acpi-index")?.unwrap_or(0),
        })
    }
    fn put(&self, out: &mut Out) {
        out.put_some("addr", &self.addr);
        out.put_some("romfile", &self.romfile);
        out.put("rombar", &self.rombar);
        out.put("multifunction", &self.multifunction);
        out.put_some("failover_pair_id", &self.failover_pair_id);
        out.put("acpi-index", &self.acpi_index);
    }
}
/// Properties of `vhost-vsock-pci`.
#[derive(Debug, Clone, PartialEq)]
pub struct VhostVsockPciProps {
    /// The guest's address, 3 to 4294967295, which no other guest has
    pub guest_cid: u64,
    /// An open /dev/vhost-vsock: a number, or a name from getfd
    pub vhostfd: Option<String>,
    /// Offer sockets that keep record boundaries; on refuses a host without
    pub seqpacket: OnOffAuto,
    /// Slot and optional function number, example: 06.0 or 06
    pub addr: Option<crate::decode::PciAddr>,
    /// Accepted empty; option ROMs are not run
    pub romfile: Option<String>,
    /// Accepted; option ROMs are not run
    pub rombar: i32,
    /// The slot has more functions than this one
    pub multifunction: bool,
    /// Not used
    pub failover_pair_id: Option<String>,
    /// Index for predictable names of network interfaces
    pub acpi_index: u32,
    /// Leave out the interface of virtio 0.9; only that without is here
    pub disable_legacy: OnOffAuto,
    /// Leave out the interface of virtio 1; refused when on
    pub disable_modern: bool,
    /// MSI-X vectors; chosen from the number of queues by default
    pub vectors: Option<u32>,
    /// Offer indirect descriptors
    pub indirect_desc: bool,
    /// Offer event indexes
    pub event_idx: bool,
    /// Offer ACCESS_PLATFORM; refused when on
    pub iommu_platform: bool,
    /// Offer packed queues; refused when on
    pub packed: bool,
    /// Address translation services; refused when on
    pub ats: bool,
    /// Let the accelerator deliver notifications
    pub ioeventfd: bool,
    /// Accepted
    pub use_disabled_flag: bool,
}
impl VhostVsockPciProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(VhostVsockPciProps {
            guest_cid: members.optional("guest-cid")?.unwrap_or(0),
            vhostfd: members.optional("vhostfd")?,
            seqpacket: members.optional("seqpacket")?.unwrap_or(OnOffAuto::Auto),
            addr: members.optional("addr")?,
            romfile: members.optional("romfile")?,
            rombar: members.optional("rombar")?.unwrap_or(-1),
            multifunction: members.optional("multifunction")?.unwrap_or(false),
            failover_pair_id: members.optional("failover_pair_id")?,
            acpi_index: members.optional("acpi-index")?.unwrap_or(0),
            disable_legacy: members
                .optional("disable-legacy")?
                .unwrap_or(OnOffAuto::Auto),
            disable_modern: members.optional("disable-modern")?.unwrap_or(false),
            vectors: members.optional("vectors")?,
            indirect_desc: members.optional("indirect_desc")?.unwrap_or(true),
            event_idx: members.optional("event_idx")?.unwrap_or(true),
            iommu_platform: members.optional("iommu_platform")?.unwrap_or(false),
            packed: members.optional("packed")?.unwrap_or(false),
            ats: members.optional("ats")?.unwrap_or(false),
            ioeventfd: members.optional("ioeventfd")?.unwrap_or(true),
            use_disabled_flag: members.optional("use-disabled-flag")?.unwrap_or(true),
        })
    }
    fn put(&self, out: &mut Out) {
        out.put("guest-cid", &self.guest_cid);
        out.put_some("vhostfd", &self.vhostfd);
        out.put("seqpacket", &self.seqpacket);
        out.put_some("addr", &self.addr);
        out.put_some("romfile", &self.romfile);
        out.put("rombar", &self.rombar);
        out.put("multifunction", &self.multifunction);
        out.put_some("failover_pair_id", &self.failover_pair_id);
        out.put("acpi-index", &self.acpi_index);
        out.put("disable-legacy", &self.disable_legacy);
        out.put("disable-modern", &self.disable_modern);
        out.put_some("vectors", &self.vectors);
        out.put("indirect_desc", &self.indirect_desc);
        out.put("event_idx", &self.event_idx);
        out.put("iommu_platform", &self.iommu_platform);
        out.put("packed", &self.packed);
        out.put("ats", &self.ats);
        out.put("ioeventfd", &self.ioeventfd);
        out.put("use-disabled-flag", &self.use_disabled_flag);
    }
}
/// Properties of `vmgenid`.
#[derive(Debug, Clone, PartialEq)]
pub struct VmgenidProps {
    /// UUID, or auto for a random one
    pub guid: String,
}
impl VmgenidProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(VmgenidProps {
            guid: members.optional("guid")?.unwrap_or(String::from("auto")),
        })
    }
    fn put(&self, out: &mut Out) {
        out.put("guid", &self.guid);
    }
}
/// Properties of `pvpanic-pci`.
#[derive(Debug, Clone, PartialEq)]
pub struct PvpanicPciProps {
    /// Events it offers, as bits: 1 panicked, 2 its crash kernel takes over, 4 switched off
    pub events: u8,
    /// Slot and optional function number, example: 06.0 or 06
    pub addr: Option<crate::decode::PciAddr>,
    /// Accepted empty; option ROMs are not run
    pub romfile: Option<String>,
    /// Accepted; option ROMs are not run
    pub rombar: i32,
    /// The slot has more functions than this one
    pub multifunction: bool,
    /// Not used
    pub failover_pair_id: Option<String>,
    /// Index for predictable names of network interfaces
    pub acpi_index: u32,
}
impl PvpanicPciProps {
    fn take(members: &mut Members) -> QmpResult<Self> {
        Ok(PvpanicPciProps {
            events: members.optional("events")?.unwrap_or(7),
            addr: members.optional("addr")?,
            romfile: members.optional("romfile")?,
            rombar: members.optional("rombar")?.unwrap_or(-1),
            multifunction: members.optional("multifunction")?.unwrap_or(false),
            failover_pair_id: members.optional("failover_pair_id")?,
            acpi_index: members.optional("acpi-index")?.unwrap_or(0),
        })
    }
    fn put(&self, out: &mut Out) {
        out.put("events", &self.events);
        out.put_some("addr", &self.addr);
        out.put_some("romfile", &self.romfile);
        out.put("rombar", &self.rombar);
        out.put("multifunction", &self.multifunction);
        out.put_some("failover_pair_id", &self.failover_pair_id);
        out.put("acpi-index", &self.acpi_index);
    }
}
/// A driver with its typed properties.
#[derive(Debug, Clone, PartialEq)]
pub enum DeviceDriver {
    /// `virtio-blk-pci`
    VirtioBlkPci(VirtioBlkPciProps),
    /// `virtio-scsi-pci`
    VirtioScsiPci(VirtioScsiPciProps),
    /// `scsi-hd`
    ScsiHd(ScsiHdProps),
    /// `scsi-cd`
    ScsiCd(ScsiCdProps),
    /// `virtio-serial-pci`
    VirtioSerialPci(VirtioSerialPciProps),
    /// `virtconsole`
    Virtconsole(VirtconsoleProps),
    /// `virtserialport`
    Virtserialport(VirtserialportProps),
    /// `virtio-rng-pci`
    VirtioRngPci(VirtioRngPciProps),
    /// `pcie-root-port`
    PcieRootPort(PcieRootPortProps),
    /// `isa-serial`
    IsaSerial(IsaSerialProps),
    /// `pvpanic`
    Pvpanic(PvpanicProps),
    /// `isa-debug-exit`
    IsaDebugExit(IsaDebugExitProps),
    /// `virtio-net-pci`
    VirtioNetPci(VirtioNetPciProps),
    /// `virtio-balloon-pci`
    VirtioBalloonPci(VirtioBalloonPciProps),
    /// `i6300esb`
    I6300esb(I6300esbProps),
    /// `vhost-vsock-pci`
    VhostVsockPci(VhostVsockPciProps),
    /// `vmgenid`
    Vmgenid(VmgenidProps),
    /// `pvpanic-pci`
    PvpanicPci(PvpanicPciProps),
}
impl DeviceDriver {
    /// The driver's type name.
    pub const fn name(&self) -> &'static str {
        match self {
            DeviceDriver::VirtioBlkPci(_) => "virtio-blk-pci",
            DeviceDriver::VirtioScsiPci(_) => "virtio-scsi-pci",
            DeviceDriver::ScsiHd(_) => "scsi-hd",
            DeviceDriver::ScsiCd(_) => "scsi-cd",
            DeviceDriver::VirtioSerialPci(_) => "virtio-serial-pci",
            DeviceDriver::Virtconsole(_) => "virtconsole",
            DeviceDriver::Virtserialport(_) => "virtserialport",
            DeviceDriver::VirtioRngPci(_) => "virtio-rng-pci",
            DeviceDriver::PcieRootPort(_) => "pcie-root-port",
            DeviceDriver::IsaSerial(_) => "isa-serial",
            DeviceDriver::Pvpanic(_) => "pvpanic",
            DeviceDriver::IsaDebugExit(_) => "isa-debug-exit",
            DeviceDriver::VirtioNetPci(_) => "virtio-net-pci",
            DeviceDriver::VirtioBalloonPci(_) => "virtio-balloon-pci",
            DeviceDriver::I6300esb(_) => "i6300esb",
            DeviceDriver::VhostVsockPci(_) => "vhost-vsock-pci",
            DeviceDriver::Vmgenid(_) => "vmgenid",
            DeviceDriver::PvpanicPci(_) => "pvpanic-pci",
        }
    }
    /// For PCI functions: the place asked for, and whether the slot has more functions.
    pub const fn pci_place(&self) -> (Option<crate::decode::PciAddr>, bool) {
        match self {
            DeviceDriver::VirtioBlkPci(props) => (props.addr, props.multifunction),
            DeviceDriver::VirtioScsiPci(props) => (props.addr, props.multifunction),
            DeviceDriver::ScsiHd(_) => (None, false),
            DeviceDriver::ScsiCd(_) => (None, false),
            DeviceDriver::VirtioSerialPci(props) => (props.addr, props.multifunction),
            DeviceDriver::Virtconsole(_) => (None, false),
            DeviceDriver::Virtserialport(_) => (None, false),
            DeviceDriver::VirtioRngPci(props) => (props.addr, props.multifunction),
            DeviceDriver::PcieRootPort(props) => (props.addr, props.multifunction),
            DeviceDriver::IsaSerial(_) => (None, false),
            DeviceDriver::Pvpanic(_) => (None, false),
            DeviceDriver::IsaDebugExit(_) => (None, false),
            DeviceDriver::VirtioNetPci(props) => (props.addr, props.multifunction),
            DeviceDriver::VirtioBalloonPci(props) => (props.addr, props.multifunction),
            DeviceDriver::I6300esb(props) => (props.addr, props.multifunction),
            DeviceDriver::VhostVsockPci(props) => (props.addr, props.multifunction),
            DeviceDriver::Vmgenid(_) => (None, false),
            DeviceDriver::PvpanicPci(props) => (props.addr, props.multifunction),
        }
    }
    /// The properties that have a value, as the JSON text of an object.
    pub fn properties_json(&self) -> String {
        let mut text = String::new();
        let mut out = Out::open(&mut text);
        match self {
            DeviceDriver::VirtioBlkPci(props) => props.put(&mut out),
            DeviceDriver::VirtioScsiPci(props) => props.put(&mut out),
            DeviceDriver::ScsiHd(props) => props.put(&mut out),
            DeviceDriver::ScsiCd(props) => props.put(&mut out),
            DeviceDriver::VirtioSerialPci(props) => props.put(&mut out),
            DeviceDriver::Virtconsole(props) => props.put(&mut out),
            DeviceDriver::Virtserialport(props) => props.put(&mut out),
            DeviceDriver::VirtioRngPci(props) => props.put(&mut out),
            DeviceDriver::PcieRootPort(props) => props.put(&mut out),
            DeviceDriver::IsaSerial(props) => props.put(&mut out),
            DeviceDriver::Pvpanic(props) => props.put(&mut out),
            DeviceDriver::IsaDebugExit(props) => props.put(&mut out),
            DeviceDriver::VirtioNetPci(props) => props.put(&mut out),
            DeviceDriver::VirtioBalloonPci(props) => props.put(&mut out),
            DeviceDriver::I6300esb(props) => props.put(&mut out),
            DeviceDriver::VhostVsockPci(props) => props.put(&mut out),
            DeviceDriver::Vmgenid(props) => props.put(&mut out),
            DeviceDriver::PvpanicPci(props) => props.put(&mut out),
        }
        out.close();
        text
    }
}
/// What `-device` and device_add take.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceOptions {
    /// The device's id.
    pub id: Option<String>,
    /// The bus it goes on.
    pub bus: Option<String>,
    /// What it is.
    pub driver: DeviceDriver,
}
impl Decode for DeviceOptions {
    fn decode(value: Value, at: &At) -> QmpResult<Self> {
        let mut members = Members::open(value, at)?;
        let name: String = members.required("driver")?;
        let id = members.optional("id")?;
        let bus = members.optional("bus")?;
        members.set_defaults(crate::globals::of_driver(&name)?);
        let driver = match name.as_str() {
            "virtio-blk-pci" | "virtio-blk" => {
                DeviceDriver::VirtioBlkPci(VirtioBlkPciProps::take(&mut members)?)
            }
            "virtio-scsi-pci" | "virtio-scsi" => {
                DeviceDriver::VirtioScsiPci(VirtioScsiPciProps::take(&mut members)?)
            }
            "scsi-hd" => DeviceDriver::ScsiHd(ScsiHdProps::take(&mut members)?),
            "scsi-cd" => DeviceDriver::ScsiCd(ScsiCdProps::take(&mut members)?),
            "virtio-serial-pci" | "virtio-serial" => {
                DeviceDriver::VirtioSerialPci(VirtioSerialPciProps::take(&mut members)?)
            }
            "virtconsole" => DeviceDriver::Virtconsole(VirtconsoleProps::take(&mut members)?),
            "virtserialport" => {
                DeviceDriver::Virtserialport(VirtserialportProps::take(&mut members)?)
            }
            "virtio-rng-pci" | "virtio-rng" => {
                DeviceDriver::VirtioRngPci(VirtioRngPciProps::take(&mut members)?)
            }
            "pcie-root-port" => DeviceDriver::PcieRootPort(PcieRootPortProps::take(&mut members)?),
            "isa-serial" => DeviceDriver::IsaSerial(IsaSerialProps::take(&mut members)?),
            "pvpanic" => DeviceDriver::Pvpanic(PvpanicProps::take(&mut members)?),
            "isa-debug-exit" => DeviceDriver::IsaDebugExit(IsaDebugExitProps::take(&mut members)?),
            "virtio-net-pci" | "virtio-net" => {
                DeviceDriver::VirtioNetPci(VirtioNetPciProps::take(&mut members)?)
            }
            "virtio-balloon-pci" | "virtio-balloon" => {
                DeviceDriver::VirtioBalloonPci(VirtioBalloonPciProps::take(&mut members)?)
            }
            "i6300esb" => DeviceDriver::I6300esb(I6300esbProps::take(&mut members)?),
            "vhost-vsock-pci" => {
                DeviceDriver::VhostVsockPci(VhostVsockPciProps::take(&mut members)?)
            }
            "vmgenid" => DeviceDriver::Vmgenid(VmgenidProps::take(&mut members)?),
            "pvpanic-pci" => DeviceDriver::PvpanicPci(PvpanicPciProps::take(&mut members)?),

            _ => {
                return Err(QmpError::generic(format!(
                    "'{name}' is not a valid device model name"
                )));
            }
        };
        if let Some(extra) = members.left_over() {
            return Err(QmpError::generic(format!(
                "Property '{name}.{extra}' not found"
            )));
        }
        Ok(DeviceOptions { id, bus, driver })
    }
}
