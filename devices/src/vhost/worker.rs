//! Holds what a party serves, on an I/O thread.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use vm_memory::GuestAddressSpace;

use super::writers::Serving;
use super::{Membership, Party, Ring, Writers};
use crate::ram::RamHandle;
use crate::virtio::DeviceSignals;
use crate::worker::{QueueState, QueueWorker, Watch, WatchToken};

/// Which event of a ring a token means: the ring's place in the list times two, plus one for `err`.
fn token(ring: usize, is_err: bool) -> WatchToken {
    let ring = u32::try_from(ring).unwrap_or(u32::MAX / 2);
    WatchToken(ring.saturating_mul(2).saturating_add(u32::from(is_err)))
}

/// Watches the calls and the errors of a party's rings, and gives up the events when it goes.
pub(super) struct Calls {
    pub rings: Vec<Ring>,
    device: Arc<dyn DeviceSignals>,
    connected: bool,
}

impl Calls {
    pub fn new(rings: Vec<Ring>, device: Arc<dyn DeviceSignals>) -> Self {
        Calls {
            rings,
            device,
            connected: false,
        }
    }

    pub fn register(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
        for (at, ring) in self.rings.iter().enumerate() {
            watch
                .readable(ring.call.as_raw_fd(), token(at, false))
                .and_then(|()| watch.readable(ring.err.as_raw_fd(), token(at, true)))
                .inspect_err(|error| {
                    let index = ring.index;
                    let why = format!("queue {index}: cannot be watched: {error}");
                    self.device.needs_reset(&why);
                })?;
            ring.interrupt.connect(&ring.call);
        }
        self.connected = true;
        Ok(())
    }

    pub fn on_event(&mut self, event: WatchToken, watch: &mut dyn Watch) {
        let at = usize::try_from(event.0 / 2).unwrap_or(usize::MAX);
        let Some(ring) = self.rings.get(at) else {
            return;
        };
        if event.0.is_multiple_of(2) {
            ring.pass_on();
        } else if ring.err.read().is_ok() {
            // Once is enough: it is over with this queue.
            watch.remove(ring.err.as_raw_fd());
            let why = format!("queue {}: the back end cannot serve it", ring.index);
            self.device.needs_reset(&why);
        }
    }

    /// Forgets the descriptors. What was signalled until now reaches the driver.
    pub fn leave(&mut self, watch: &mut dyn Watch) {
        for ring in &self.rings {
            watch.remove(ring.call.as_raw_fd());
            watch.remove(ring.err.as_raw_fd());
        }
        self.disconnect();
    }

    fn disconnect(&mut self) {
        if std::mem::take(&mut self.connected) {
            for ring in &self.rings {
                ring.interrupt.disconnect();
                ring.pass_on();
            }
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.disconnect();
        // Of those that never were connected.
        self.rings.iter().for_each(Ring::pass_on);
    }
}

/// The worker of a party that answers at once: the kernel.
pub struct VhostWorker {
    party: Arc<dyn Party>,
    calls: Calls,
    ram: RamHandle,
    /// While it runs.
    member: Option<Membership>,
    states: Vec<QueueState>,
}

impl VhostWorker {
    /// Lets `party` serve `rings` from now on.
    ///
    /// # Errors
    /// When it refuses.
    pub fn start(
        party: Arc<dyn Party>,
        features: u64,
        ram: &RamHandle,
        rings: Vec<Ring>,
        device: &Arc<dyn DeviceSignals>,
        writers: &Writers,
    ) -> io::Result<Self> {
        let member = writers.join(|log| {
            party.start(features, ram, &rings, log)?;
            Ok(Arc::new(Serving {
                party: party.clone(),
                ram: ram.clone(),
                rings: rings.clone(),
            }))
        })?;
        for ring in &rings {
            // What was made available while nobody looked must not wait for the next kick. Fails
            // only when the counter is full, and then it is readable anyway.
            let _ = ring.kick.write(1);
        }
        Ok(VhostWorker {
            party,
            calls: Calls::new(rings, device.clone()),
            ram: ram.clone(),
            member: Some(member),
            states: Vec::new(),
        })
    }

    fn stop(&mut self) {
        if let Some(member) = self.member.take() {
            // Before it stops: nobody speaks to it any more.
            drop(member);
            let rings = &self.calls.rings;
            let mut bases = self.party.stop(rings).into_iter();
            let memory = self.ram.memory();
            if !self.party.logs_buffers() {
                rings.iter().for_each(|ring| ring.mark_buffers(&memory));
            }
            let state = |ring: &Ring| ring.state(bases.next().flatten(), &memory);
            self.states = rings.iter().map(state).collect();
        }
    }
}

impl QueueWorker for VhostWorker {
    fn register(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
        self.calls.register(watch)
    }

    fn on_event(&mut self, token: WatchToken, watch: &mut dyn Watch) {
        self.calls.on_event(token, watch);
    }

    fn quiesce(&mut self, watch: &mut dyn Watch) {
        if self.member.is_some() {
            self.stop();
            self.calls.leave(watch);
        }
    }

    fn drained(&self) -> bool {
        true
    }

    fn into_state(mut self: Box<Self>) -> Vec<QueueState> {
        std::mem::take(&mut self.states)
    }
}

impl Drop for VhostWorker {
    fn drop(&mut self) {
        self.stop();
    }
}
