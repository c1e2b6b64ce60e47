//! What the options of a device name: looked up and taken by control before the device is made.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use api_spec::DeviceDriver;
use devices::backend::chardev::CharFrontend;
use devices::backend::net::NetAttachment;
use devices::backend::rng::Entropy;
use devices::virtio::vsock;

use crate::threads::io_thread::IoThread;

/// What the options of a device name, looked up and taken for it.
#[derive(Default)]
pub struct References {
    /// `chardev=`.
    pub chardev: Option<CharFrontend>,
    /// `drive=`.
    pub node: Option<Arc<block::Attachment>>,
    /// What `drive=` is called, where it is a drive and no node.
    pub drive_name: Option<String>,
    /// `rng=`.
    pub entropy: Option<Arc<dyn Entropy>>,
    /// `netdev=`, taken for this device alone.
    pub netdev: Option<NetAttachment>,
    /// The vhost device that the driver needs.
    pub vhost: Option<OwnedFd>,
    /// `iothread=`.
    pub io_thread: Option<Arc<IoThread>>,
}

/// What the options of a device name.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Wants<'a> {
    /// `chardev=`.
    pub chardev: Option<&'a str>,
    /// `drive=`.
    pub drive: Option<&'a str>,
    /// Whether a drive is needed.
    pub needs_drive: bool,
    /// Others may write the drive too.
    pub share_rw: bool,
    /// The drive is only read, whatever it can.
    pub read_only: bool,
    /// The drive may have no medium, or there may be none at all.
    pub removable: bool,
    /// `rng=`.
    pub rng: Option<&'a str>,
    /// `iothread=`.
    pub io_thread: Option<&'a str>,
    /// `netdev=`.
    pub netdev: Option<&'a str>,
    /// A vhost device of the kernel.
    pub vhost: Option<VhostWant<'a>>,
}

/// A vhost device of the kernel that a driver needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VhostWant<'a> {
    /// What messages call it.
    pub name: &'static str,
    /// Where it is.
    pub path: &'static str,
    /// `vhostfd=`: it is open already.
    pub fd: Option<&'a str>,
}

/// What the options of a device name.
pub fn wants(driver: &DeviceDriver) -> Wants<'_> {
    let none = Wants::default();
    match driver {
        DeviceDriver::VirtioBlkPci(p) => Wants {
            drive: p.drive.as_deref(),
            needs_drive: true,
            share_rw: p.share_rw,
            io_thread: p.iothread.as_deref(),
            ..none
        },
        DeviceDriver::VirtioBalloonPci(p) => Wants {
            io_thread: p.iothread.as_deref(),
            ..none
        },
        DeviceDriver::VirtioScsiPci(p) => Wants {
            io_thread: p.iothread.as_deref(),
            ..none
        },
        DeviceDriver::ScsiHd(p) => Wants {
            drive: p.drive.as_deref(),
            needs_drive: true,
            share_rw: p.share_rw,
            removable: p.removable,
            ..none
        },
        // A drive may be empty.
        DeviceDriver::ScsiCd(p) => Wants {
            drive: p.drive.as_deref(),
            share_rw: p.share_rw,
            read_only: true,
            removable: true,
            ..none
        },
        DeviceDriver::Virtconsole(p) => Wants {
            chardev: p.chardev.as_deref(),
            ..none
        },
        DeviceDriver::Virtserialport(p) => Wants {
            chardev: p.chardev.as_deref(),
            ..none
        },
        DeviceDriver::VirtioRngPci(p) => Wants {
            rng: p.rng.as_deref(),
            ..none
        },
        // Nothing is opened for a guest that cannot have its address.
        DeviceDriver::VhostVsockPci(p) => Wants {
            vhost: vsock::check_cid(p.guest_cid).is_ok().then_some(VhostWant {
                name: "vhost-vsock",
                path: "/dev/vhost-vsock",
                fd: p.vhostfd.as_deref(),
            }),
            ..none
        },
        DeviceDriver::IsaSerial(p) => Wants {
            chardev: p.chardev.as_deref(),
            ..none
        },
        DeviceDriver::VirtioNetPci(p) => Wants {
            netdev: p.netdev.as_deref(),
            ..none
        },
        DeviceDriver::VirtioSerialPci(_)
        | DeviceDriver::PcieRootPort(_)
        | DeviceDriver::I6300esb(_)
        | DeviceDriver::Vmgenid(_)
        | DeviceDriver::Pvpanic(_)
        | DeviceDriver::PvpanicPci(_)
        | DeviceDriver::IsaDebugExit(_) => none,
    }
}
