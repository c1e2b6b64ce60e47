//! One peer, from its first word to its last.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use vm_memory::GuestAddressSpace;

use super::link::Hurry;
use super::wire::{Ack, Request, Wire, broken};
use super::{Assignment, OWN_FEATURES};
use crate::vhost::{DirtyLog, F_LOG_ALL, MemoryTable, Ring, blocked_by_features};

/// Feature bit by which a peer says that it knows protocol features.
const F_PROTOCOL: u64 = 1 << 30;
/// Protocol features.
const P_MQ: u64 = 1 << 0;
const P_LOG_SHMFD: u64 = 1 << 1;
const P_RARP: u64 = 1 << 2;
const P_REPLY_ACK: u64 = 1 << 3;
const P_NET_MTU: u64 = 1 << 4;
const P_STATUS: u64 = 1 << 16;
const P_KNOWN: u64 = P_MQ | P_LOG_SHMFD | P_RARP | P_REPLY_ACK | P_NET_MTU | P_STATUS;
/// Feature of an interface: the device says what its MTU is (Virtio 1.2, section 5.1.3).
const F_MTU: u64 = 1 << 3;
/// Flag of a ring's address: writes to the used ring are logged (VHOST_VRING_F_LOG).
const RING_LOG: u32 = 1;
/// Regions that every peer takes.
const MOST_REGIONS: usize = 8;
/// Device status (Virtio 1.2, section 2.1) of a driver that is ready.
const DRIVER_READY: u64 = 0x0f;

/// A peer that was agreed with.
pub(super) struct Session {
    wire: Wire,
    features: u64,
    protocol: u64,
    running: Option<Arc<Assignment>>,
    /// Queue pairs that it is to use of those it serves.
    pairs: u16,
    /// Where it marks what it writes.
    log: Option<DirtyLog>,
    /// The change of that which was carried out last.
    log_change: Option<u64>,
    /// The interface's `host_mtu`; 0 where it has none.
    mtu: u16,
}

impl Session {
    /// Finds out what the peer can do. It must serve `pairs` queue pairs.
    pub fn negotiate(socket: UnixStream, pairs: u16, hurry: &Hurry) -> io::Result<Self> {
        let mut session = Session {
            wire: Wire::new(socket)?,
            features: 0,
            protocol: 0,
            running: None,
            pairs: u16::MAX,
            log: None,
            log_change: None,
            mtu: 0,
        };
        session.features = session.ask(Request::GetFeatures, hurry)?;
        session.tell(Request::SetOwner, &[], &[], hurry)?;
        if session.features & F_PROTOCOL != 0 {
            let offered = session.ask(Request::GetProtocolFeatures, hurry)?;
            session.protocol = offered & P_KNOWN;
            let protocol = session.protocol.to_ne_bytes();
            session.tell(Request::SetProtocolFeatures, &protocol, &[], hurry)?;
        }
        let most = match session.protocol & P_MQ {
            0 => 1,
            _ => session.ask(Request::GetQueueNum, hurry)?,
        };
        if u64::from(pairs) > most {
            return Err(broken(&format!(
                "you are asking more queues than supported: {most}"
            )));
        }
        Ok(session)
    }

    /// What it offers.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Why a machine cannot migrate with it, in QEMU's words.
    pub fn blocker(&self) -> Option<String> {
        match self.protocol & P_LOG_SHMFD {
            0 => Some(
                "Migration disabled: vhost-user backend lacks \
                 VHOST_USER_PROTOCOL_F_LOG_SHMFD feature."
                    .to_owned(),
            ),
            _ => blocked_by_features(self.features),
        }
    }

    /// Whether it can mark what it writes.
    pub fn can_log(&self) -> bool {
        self.blocker().is_none()
    }

    /// The change of the log that was carried out last.
    pub fn log_change(&self) -> Option<u64> {
        self.log_change
    }

    /// Notes that a change of the log was carried out.
    pub fn set_log_change(&mut self, change: u64) {
        self.log_change = Some(change);
    }

    /// It marks what it writes there from now on, or no longer. Only for peers that can.
    pub fn set_log(&mut self, log: Option<DirtyLog>, hurry: &Hurry) -> io::Result<()> {
        let same = log.is_none() && self.log.is_none();
        self.log = log;
        let Some(what) = self.running.clone().filter(|_| !same) else {
            return Ok(());
        };
        self.send_log_base(hurry)?;
        self.send_features(&what, hurry)?;
        let memory = MemoryTable::new(&what.ram.memory());
        what.rings
            .iter()
            .try_for_each(|ring| self.set_address(ring, &memory, hurry))
    }

    fn send_log_base(&self, hurry: &Hurry) -> io::Result<()> {
        let Some(log) = &self.log else {
            return Ok(());
        };
        let mut payload = log.len.to_ne_bytes().to_vec();
        payload.extend_from_slice(&0u64.to_ne_bytes());
        let request = Request::SetLogBase;
        self.tell(request, &payload, &[log.file.as_raw_fd()], hurry)?;
        self.wire.acknowledged(request, hurry)
    }

    fn send_features(&self, what: &Assignment, hurry: &Hurry) -> io::Result<()> {
        let log = match &self.log {
            Some(_) => F_LOG_ALL,
            None => 0,
        };
        let features = what.features & OWN_FEATURES | self.features & F_PROTOCOL | log;
        self.tell(Request::SetFeatures, &features.to_ne_bytes(), &[], hurry)
    }

    /// What the interface's `host_mtu` is; 0 where it has none.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
    }

    fn send_mtu(&self, what: &Assignment, hurry: &Hurry) -> io::Result<()> {
        if self.mtu == 0 || what.features & F_MTU == 0 || self.protocol & P_NET_MTU == 0 {
            return Ok(());
        }
        let payload = u64::from(self.mtu).to_ne_bytes();
        self.carry_out(Request::NetSetMtu, &payload, &[], hurry)
    }

    /// Tells the network where the interface is, if it can.
    pub fn announce(&self, mac: [u8; 6], hurry: &Hurry) -> io::Result<()> {
        if self.protocol & P_RARP == 0 {
            return Ok(());
        }
        let mut payload = [0; 8];
        for (place, byte) in payload.iter_mut().zip(mac) {
            *place = byte;
        }
        self.tell(Request::SendRarp, &payload, &[], hurry)
    }

    /// Readable when the peer went or says what nobody asked for.
    pub fn fd(&self) -> RawFd {
        self.wire.fd()
    }

    /// Whether it serves something.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Queue pairs that it is to use of those it serves.
    pub fn pairs(&self) -> u16 {
        self.pairs
    }

    /// Says which of the rings it serves it is to use: the driver gives buffers to so many pairs,
    /// and what a peer received for others would be lost.
    pub fn use_pairs(&mut self, pairs: u16, hurry: &Hurry) -> io::Result<()> {
        self.pairs = pairs;
        let Some(what) = self.running.clone() else {
            return Ok(());
        };
        self.enable(&what, hurry)
    }

    fn enable(&self, what: &Assignment, hurry: &Hurry) -> io::Result<()> {
        if self.features & F_PROTOCOL == 0 {
            // It uses what it has.
            return Ok(());
        }
        for ring in &what.rings {
            let enabled = u32::from(ring.place / 2 < self.pairs);
            let payload = state(ring, enabled);
            self.carry_out(Request::SetVringEnable, &payload, &[], hurry)?;
        }
        Ok(())
    }

    /// Hands rings over. `bases` says where each begins.
    pub fn start(
        &mut self,
        what: &Arc<Assignment>,
        bases: &[u16],
        hurry: &Hurry,
    ) -> io::Result<()> {
        let wanted = what.features & OWN_FEATURES;
        let missing = wanted & !self.features;
        if missing != 0 {
            return Err(broken(&format!("it lacks features {missing:#x}")));
        }
        self.send_features(what, hurry)?;
        self.send_mtu(what, hurry)?;
        let ram = what.ram.memory();
        let memory = MemoryTable::new(&ram);
        self.set_memory(&memory, hurry)?;
        self.send_log_base(hurry)?;
        for (ring, base) in what.rings.iter().zip(bases) {
            self.set_ring(ring, *base, &memory, hurry)?;
        }
        self.enable(what, hurry)?;
        self.set_status(DRIVER_READY, hurry)?;
        self.running = Some(what.clone());
        for ring in &what.rings {
            // What was made available while nobody looked must not wait for the next kick.
            let _ = ring.kick.write(1);
        }
        Ok(())
    }

    /// Takes the rings back: where each of them stands.
    pub fn stop(&mut self, hurry: &Hurry) -> io::Result<Vec<Option<u16>>> {
        let Some(what) = self.running.take() else {
            return Ok(Vec::new());
        };
        let mut bases = Vec::new();
        for ring in &what.rings {
            let payload = state(ring, 0);
            let request = Request::GetVringBase;
            self.wire.send(request, Ack::No, &payload, &[], hurry)?;
            let answer: [u8; 8] = self.wire.answer(request, hurry)?;
            let [a, b, c, d, base @ ..] = answer;
            if u32::from_ne_bytes([a, b, c, d]) != u32::from(ring.place) {
                return Err(broken("a base of another ring"));
            }
            bases.push(u16::try_from(u32::from_ne_bytes(base)).ok());
        }
        self.set_status(0, hurry)?;
        Ok(bases)
    }

    fn set_memory(&self, memory: &MemoryTable, hurry: &Hurry) -> io::Result<()> {
        memory.check_shared()?;
        let regions = memory.regions();
        if regions.len() > MOST_REGIONS {
            let text = format!("{} regions of memory are too many", regions.len());
            return Err(io::Error::other(text));
        }
        let count = u32::try_from(regions.len()).unwrap_or(0);
        let mut payload = Vec::new();
        payload.extend_from_slice(&count.to_ne_bytes());
        payload.extend_from_slice(&[0; 4]);
        let mut fds = Vec::new();
        for region in regions {
            let (fd, offset) = region.file.unwrap_or((-1, 0));
            for word in [region.guest, region.len, region.host, offset] {
                payload.extend_from_slice(&word.to_ne_bytes());
            }
            fds.push(fd);
        }
        self.carry_out(Request::SetMemTable, &payload, &fds, hurry)
    }

    fn set_ring(
        &self,
        ring: &Ring,
        base: u16,
        memory: &MemoryTable,
        hurry: &Hurry,
    ) -> io::Result<()> {
        let size = state(ring, ring.size.into());
        self.tell(Request::SetVringNum, &size, &[], hurry)?;
        let base = state(ring, base.into());
        self.tell(Request::SetVringBase, &base, &[], hurry)?;
        self.set_address(ring, memory, hurry)?;
        let index = u64::from(ring.place).to_ne_bytes();
        for (request, event) in [
            (Request::SetVringKick, &ring.kick),
            (Request::SetVringCall, &ring.call),
            (Request::SetVringErr, &ring.err),
        ] {
            self.tell(request, &index, &[event.as_raw_fd()], hurry)?;
        }
        Ok(())
    }

    fn set_address(&self, ring: &Ring, memory: &MemoryTable, hurry: &Hurry) -> io::Result<()> {
        let [desc, avail, used] = [
            (ring.desc, 16 * u64::from(ring.size)),
            (ring.avail, 6 + 2 * u64::from(ring.size)),
            (ring.used, 6 + 8 * u64::from(ring.size)),
        ]
        .map(|(at, len)| memory.host(at, len));
        let (Some(desc), Some(avail), Some(used)) = (desc, avail, used) else {
            return Err(io::Error::other("a ring is outside memory"));
        };
        // The used ring is marked by its guest address.
        let (flags, log) = match &self.log {
            Some(_) => (RING_LOG, ring.used),
            None => (0, 0),
        };
        let mut address = state(ring, flags);
        for word in [desc, used, avail, log] {
            address.extend_from_slice(&word.to_ne_bytes());
        }
        self.tell(Request::SetVringAddr, &address, &[], hurry)
    }

    fn set_status(&self, status: u64, hurry: &Hurry) -> io::Result<()> {
        match self.protocol & P_STATUS {
            0 => Ok(()),
            _ => self.tell(Request::SetStatus, &status.to_ne_bytes(), &[], hurry),
        }
    }

    fn ask(&self, request: Request, hurry: &Hurry) -> io::Result<u64> {
        self.wire.send(request, Ack::No, &[], &[], hurry)?;
        self.wire.answer(request, hurry).map(u64::from_ne_bytes)
    }

    fn tell(
        &self,
        request: Request,
        payload: &[u8],
        fds: &[RawFd],
        hurry: &Hurry,
    ) -> io::Result<()> {
        self.wire.send(request, Ack::No, payload, fds, hurry)
    }

    /// Tells, and waits until it was done where the peer can say so.
    fn carry_out(
        &self,
        request: Request,
        payload: &[u8],
        fds: &[RawFd],
        hurry: &Hurry,
    ) -> io::Result<()> {
        if self.protocol & P_REPLY_ACK == 0 {
            return self.tell(request, payload, fds, hurry);
        }
        self.wire.send(request, Ack::Wanted, payload, fds, hurry)?;
        match u64::from_ne_bytes(self.wire.answer(request, hurry)?) {
            0 => Ok(()),
            code => Err(broken(&format!("{request:?} was refused ({code})"))),
        }
    }
}

/// `struct vhost_vring_state`.
fn state(ring: &Ring, value: u32) -> Vec<u8> {
    [u32::from(ring.place), value]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect()
}
