//! The kernel's vhost devices: /dev/vhost-net and /dev/vhost-vsock (linux/vhost.h).
#![allow(unsafe_code)] // ioctls that the vhost crate has no call for

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use vhost::vhost_kern::VhostKernBackend;
use vhost::vhost_kern::vhost_binding::{
    VHOST_NET_F_VIRTIO_NET_HDR, VHOST_NET_SET_BACKEND, VHOST_VRING_F_LOG,
    VHOST_VSOCK_SET_GUEST_CID, VHOST_VSOCK_SET_RUNNING, vhost_vring_file, vhost_vring_state,
};
use vhost::{VhostBackend as _, VringConfigData};
use vm_memory::GuestAddressSpace;
use vmm_sys_util::ioctl::ioctl_with_ref;

use super::{DirtyLog, F_LOG_ALL, MemoryTable, Party, Ring};
use crate::bus::lock;
use crate::ram::RamHandle;

vmm_sys_util::ioctl_iow_nr!(
    SET_VRING_BUSYLOOP_TIMEOUT,
    vhost::vhost_kern::vhost_binding::VHOST_VIRTIO,
    0x23,
    vhost_vring_state
);

/// What the device serves.
#[derive(Debug)]
pub enum Kind {
    /// A queue pair of an interface, by this tap.
    Net {
        /// The tap's queue.
        tap: OwnedFd,
        /// Microseconds that the kernel polls for work before it sleeps.
        poll_us: u32,
    },
    /// The stream and datagram queues of a socket device.
    Vsock,
}

/// An open vhost device of the kernel.
#[derive(Debug)]
pub struct Kernel {
    file: File,
    kind: Kind,
    features: u64,
    /// What was agreed on for the rings that run; for the log. Leaf.
    agreed: std::sync::Mutex<u64>,
}

/// The device together with the memory it works on.
struct Session<'a> {
    file: &'a File,
    ram: &'a RamHandle,
}

impl AsRawFd for Session<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl VhostKernBackend for Session<'_> {
    type AS = RamHandle;

    fn mem(&self) -> &RamHandle {
        self.ram
    }

    /// The transport has made sure that the rings lie in RAM, up to its last byte.
    fn is_valid(&self, config: &VringConfigData) -> bool {
        config.is_log_addr_valid()
    }
}

impl Session<'_> {
    fn log_in(&self, log: &DirtyLog, features: u64) -> io::Result<()> {
        self.set_log_base(log.address, None)
            .map_err(tried("vhost_set_log_base"))?;
        self.set_features(features | F_LOG_ALL)
            .map_err(tried("vhost_set_features"))
    }
}

/// The system's error behind one of the crate's.
fn system(error: vhost::Error) -> io::Error {
    match error {
        vhost::Error::IoctlError(error)
        | vhost::Error::IOError(error)
        | vhost::Error::VhostOpen(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// The same, with QEMU's word for what was tried.
fn tried(what: &'static str) -> impl Fn(vhost::Error) -> io::Error {
    move |error| {
        let error = system(error);
        io::Error::new(error.kind(), Failed { what, error })
    }
}

/// What the kernel refused.
#[derive(Debug)]
struct Failed {
    what: &'static str,
    error: io::Error,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Failed { what, error } = self;
        write!(f, "{what} failed: {}", errno_text::errno_text(error))
    }
}

impl std::error::Error for Failed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl Kernel {
    /// Takes an open device, which becomes this process's.
    ///
    /// # Errors
    /// When it is none, or another process has it.
    pub fn new(fd: OwnedFd, kind: Kind) -> io::Result<Self> {
        let file = File::from(fd);
        let ram = RamHandle::new(crate::ram::GuestRam::new());
        let session = Session {
            file: &file,
            ram: &ram,
        };
        session.set_owner().map_err(tried("vhost_set_owner"))?;
        let features = session
            .get_features()
            .map_err(tried("vhost_get_features"))?;
        Ok(Kernel {
            file,
            kind,
            features,
            agreed: std::sync::Mutex::default(),
        })
    }

    /// Features that the kernel offers, among them bits that mean something to vhost only.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Gives the guest its address on the host.
    ///
    /// # Errors
    /// When another guest has it (EADDRINUSE).
    pub fn set_guest_cid(&self, cid: u32) -> io::Result<()> {
        let cid = u64::from(cid);
        // SAFETY: a vhost device of ours; the kernel reads eight bytes.
        check(unsafe { ioctl_with_ref(&self.file, VHOST_VSOCK_SET_GUEST_CID(), &cid) })
    }

    fn set_up(&self, session: &Session, ring: &Ring, log: bool) -> io::Result<()> {
        let place = usize::from(ring.place);
        let config = address(ring, log);
        session
            .set_vring_num(place, ring.size)
            .and_then(|()| session.set_vring_base(place, ring.next_avail))
            .and_then(|()| session.set_vring_addr(place, &config))
            .and_then(|()| session.set_vring_kick(place, &ring.kick))
            .and_then(|()| session.set_vring_call(place, &ring.call))
            .and_then(|()| session.set_vring_err(place, &ring.err))
            .map_err(tried("vhost_virtqueue_start"))?;
        match &self.kind {
            Kind::Net { poll_us, .. } if *poll_us > 0 => {
                let state = vhost_vring_state {
                    index: ring.place.into(),
                    num: *poll_us,
                };
                // SAFETY: as above, and the kernel reads one such structure.
                check(unsafe { ioctl_with_ref(&self.file, SET_VRING_BUSYLOOP_TIMEOUT(), &state) })
            }
            Kind::Net { .. } | Kind::Vsock => Ok(()),
        }
    }

    fn run(&self, rings: &[Ring]) -> io::Result<()> {
        match &self.kind {
            Kind::Net { tap, .. } => rings
                .iter()
                .try_for_each(|ring| self.set_tap(ring, tap.as_raw_fd())),
            Kind::Vsock => self.set_running(true),
        }
    }

    fn halt(&self, rings: &[Ring]) {
        let halted = match &self.kind {
            Kind::Net { .. } => rings.iter().try_for_each(|ring| self.set_tap(ring, -1)),
            Kind::Vsock => self.set_running(false),
        };
        if let Err(error) = halted {
            log::warn!("Cannot stop a vhost device: {error}");
        }
    }

    fn set_tap(&self, ring: &Ring, fd: RawFd) -> io::Result<()> {
        let index = ring.place.into();
        let file = vhost_vring_file { index, fd };
        // SAFETY: as above, and the kernel reads one such structure.
        check(unsafe { ioctl_with_ref(&self.file, VHOST_NET_SET_BACKEND(), &file) })
    }

    fn set_running(&self, running: bool) -> io::Result<()> {
        let running = libc::c_int::from(running);
        // SAFETY: as above, and the kernel reads one number.
        check(unsafe { ioctl_with_ref(&self.file, VHOST_VSOCK_SET_RUNNING(), &running) })
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn address(ring: &Ring, log: bool) -> VringConfigData {
    VringConfigData {
        queue_max_size: ring.size,
        queue_size: ring.size,
        flags: u32::from(log) << VHOST_VRING_F_LOG,
        desc_table_addr: ring.desc,
        used_ring_addr: ring.used,
        avail_ring_addr: ring.avail,
        log_addr: log.then_some(ring.used),
    }
}

impl Party for Kernel {
    fn start(
        &self,
        features: u64,
        ram: &RamHandle,
        rings: &[Ring],
        log: Option<&DirtyLog>,
    ) -> io::Result<()> {
        let session = Session {
            file: &self.file,
            ram,
        };
        // The header before a frame is the tap's affair.
        let features = features & self.features & !(1 << VHOST_NET_F_VIRTIO_NET_HDR);
        let memory = MemoryTable::new(&ram.memory());
        // Without the log at first: the kernel looks whether that covers the memory it knows of.
        session
            .set_features(features)
            .map_err(tried("vhost_set_features"))?;
        session
            .set_mem_table(&memory.for_kernel())
            .map_err(tried("vhost_set_mem_table"))?;
        if let Some(log) = log {
            session.log_in(log, features)?;
        }
        for ring in rings {
            self.set_up(&session, ring, log.is_some())?;
        }
        *lock(&self.agreed) = features;
        self.run(rings).inspect_err(|_| self.halt(rings))
    }

    fn stop(&self, rings: &[Ring]) -> Vec<Option<u16>> {
        self.halt(rings);
        let ram = RamHandle::new(crate::ram::GuestRam::new());
        let session = Session {
            file: &self.file,
            ram: &ram,
        };
        let base = |ring: &Ring| {
            let base = session.get_vring_base(usize::from(ring.place));
            base.ok().and_then(|base| u16::try_from(base).ok())
        };
        rings.iter().map(base).collect()
    }

    fn set_log(&self, ram: &RamHandle, rings: &[Ring], log: Option<&DirtyLog>) -> io::Result<()> {
        let session = Session {
            file: &self.file,
            ram,
        };
        let agreed = *lock(&self.agreed);
        match log {
            Some(log) => session.log_in(log, agreed)?,
            None => session
                .set_features(agreed)
                .map_err(tried("vhost_set_features"))?,
        }
        for ring in rings {
            session
                .set_vring_addr(ring.place.into(), &address(ring, log.is_some()))
                .map_err(tried("vhost_set_vring_addr"))?;
        }
        Ok(())
    }

    /// The kernel's sockets ask for no log of buffers (drivers/vhost/vsock.c). What the driver took
    /// out of them belongs to connections, and none outlives a migration.
    fn logs_buffers(&self) -> bool {
        matches!(self.kind, Kind::Net { .. })
    }
}
