//! A party of this process, for tests: it does nothing by itself.

use std::io;
use std::sync::Mutex;

use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};

use super::{DirtyLog, Party, Ring};
use crate::bus::lock;
use crate::ram::RamHandle;

/// What it was told.
#[derive(Default)]
struct Inner {
    running: Option<(u64, RamHandle, Vec<Ring>)>,
    /// What is done of each ring, by place.
    taken: Vec<(u16, u16)>,
    starts: usize,
    refuse: bool,
    mute: bool,
    /// Bytes of the log in use.
    log: Option<u64>,
    /// It logs used rings only.
    only_rings: bool,
}

/// The party.
#[derive(Default)]
pub struct FakeParty(Mutex<Inner>);

impl FakeParty {
    /// Features agreed on, while it runs.
    pub fn features(&self) -> Option<u64> {
        lock(&self.0).running.as_ref().map(|running| running.0)
    }

    /// How often it was started.
    pub fn starts(&self) -> usize {
        lock(&self.0).starts
    }

    /// Refuses to start from now on.
    pub fn refuse(&self) {
        lock(&self.0).refuse = true;
    }

    /// Does not say how far it came, from now on.
    pub fn mute(&self) {
        lock(&self.0).mute = true;
    }

    /// Logs used rings only, from now on.
    pub fn log_only_rings(&self) {
        lock(&self.0).only_rings = true;
    }

    /// Bytes of the log in use.
    pub fn log(&self) -> Option<u64> {
        lock(&self.0).log
    }

    /// The ring at `place`.
    pub fn ring(&self, place: u16) -> Option<Ring> {
        let inner = lock(&self.0);
        let rings = &inner.running.as_ref()?.2;
        rings.iter().find(|ring| ring.place == place).cloned()
    }

    /// Gives everything back that is available in the ring at `place`, with `written` bytes, and
    /// signals. The number of chains.
    pub fn serve(&self, place: u16, written: u32) -> usize {
        let ring = self.ring(place).expect("a ring that runs");
        let mut inner = lock(&self.0);
        let (_, ram, _) = inner.running.as_ref().expect("it runs");
        let memory = ram.memory();
        let size = u64::from(ring.size);
        let at = inner.taken.iter().position(|taken| taken.0 == place);
        let at = at.expect("its position");
        let mut next = inner.taken[at].1;
        let available: u16 = memory.read_obj(GuestAddress(ring.avail + 2)).unwrap();
        let mut count = 0;
        while next != available {
            let slot = u64::from(next) % size;
            let head: u16 = memory
                .read_obj(GuestAddress(ring.avail + 4 + 2 * slot))
                .unwrap();
            let used: u16 = memory.read_obj(GuestAddress(ring.used + 2)).unwrap();
            let entry = ring.used + 4 + 8 * (u64::from(used) % size);
            let bytes = [u32::from(head).to_le_bytes(), written.to_le_bytes()].concat();
            memory.write_slice(&bytes, GuestAddress(entry)).unwrap();
            memory
                .write_obj(used.wrapping_add(1), GuestAddress(ring.used + 2))
                .unwrap();
            next = next.wrapping_add(1);
            count += 1;
        }
        inner.taken[at].1 = next;
        if count > 0 {
            ring.call.write(1).unwrap();
        }
        count
    }
}

impl Party for FakeParty {
    fn start(
        &self,
        features: u64,
        ram: &RamHandle,
        rings: &[Ring],
        log: Option<&DirtyLog>,
    ) -> io::Result<()> {
        let mut inner = lock(&self.0);
        if inner.refuse {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        assert!(inner.running.is_none(), "started twice");
        inner.starts += 1;
        inner.log = log.map(|log| log.len);
        inner.taken = rings.iter().map(|r| (r.place, r.next_avail)).collect();
        inner.running = Some((features, ram.clone(), rings.to_vec()));
        Ok(())
    }

    fn stop(&self, rings: &[Ring]) -> Vec<Option<u16>> {
        let mut inner = lock(&self.0);
        inner.running.take().expect("it ran");
        let base = |ring: &Ring| {
            let taken = inner.taken.iter().find(|taken| taken.0 == ring.place);
            taken.filter(|_| !inner.mute).map(|taken| taken.1)
        };
        rings.iter().map(base).collect()
    }

    fn set_log(&self, _ram: &RamHandle, rings: &[Ring], log: Option<&DirtyLog>) -> io::Result<()> {
        let mut inner = lock(&self.0);
        let serves = inner.running.as_ref().expect("it runs").2.len();
        assert_eq!(rings.len(), serves);
        inner.log = log.map(|log| log.len);
        Ok(())
    }

    fn logs_buffers(&self) -> bool {
        !lock(&self.0).only_rings
    }
}
