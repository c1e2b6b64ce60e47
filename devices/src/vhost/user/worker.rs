//! Holds what a link's peer serves, on an I/O thread.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use vm_memory::GuestAddressSpace;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::Assignment;
use super::link::{Link, Stood};
use crate::vhost::worker::Calls;
use crate::vhost::{Membership, Ring, Writer as _, Writers};
use crate::virtio::DeviceSignals;
use crate::worker::{QueueState, QueueWorker, Watch, WatchToken};

/// The link has given the rings back.
const BACK: WatchToken = WatchToken(u32::MAX - 1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not with the link yet.
    New,
    Out,
    /// Asked back.
    Leaving,
    Back,
}

/// The worker of all queues of an interface.
pub(super) struct LinkWorker {
    link: Arc<Link>,
    what: Arc<Assignment>,
    calls: Calls,
    back: Arc<EventFd>,
    phase: Phase,
    /// Until it has the rings back.
    member: Option<Membership>,
}

impl LinkWorker {
    pub fn new(
        link: Arc<Link>,
        what: Assignment,
        device: Arc<dyn DeviceSignals>,
        writers: &Writers,
    ) -> io::Result<Self> {
        let member = writers.join(|log| {
            // Nothing of the guest is served yet, so that no peer can refuse.
            link.set_log(log)?;
            Ok(link.clone())
        })?;
        Ok(LinkWorker {
            member: Some(member),
            link,
            calls: Calls::new(what.rings.clone(), device),
            what: Arc::new(what),
            back: Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?),
            phase: Phase::New,
        })
    }
}

impl QueueWorker for LinkWorker {
    fn register(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
        self.calls.register(watch)?;
        watch.readable(self.back.as_raw_fd(), BACK)?;
        self.link.hand(self.what.clone());
        self.phase = Phase::Out;
        Ok(())
    }

    fn on_event(&mut self, token: WatchToken, watch: &mut dyn Watch) {
        if token != BACK {
            self.calls.on_event(token, watch);
        } else if self.back.read().is_ok() && self.phase == Phase::Leaving {
            self.phase = Phase::Back;
            self.member = None;
            watch.remove(self.back.as_raw_fd());
            self.calls.leave(watch);
        }
    }

    fn quiesce(&mut self, _watch: &mut dyn Watch) {
        if self.phase == Phase::Out {
            self.phase = Phase::Leaving;
            self.link.take_back(self.back.clone());
        }
    }

    fn drained(&self) -> bool {
        matches!(self.phase, Phase::New | Phase::Back)
    }

    fn into_state(self: Box<Self>) -> Vec<QueueState> {
        let memory = self.what.ram.memory();
        let stood = match self.phase {
            Phase::New => Stood::Untouched,
            Phase::Out | Phase::Leaving | Phase::Back => self.link.stood(),
        };
        let state = |(at, ring): (usize, &Ring)| {
            let base = match &stood {
                Stood::Untouched => Some(ring.next_avail),
                Stood::At(bases) => bases.get(at).copied().flatten(),
            };
            ring.state(base, &memory)
        };
        self.what.rings.iter().enumerate().map(state).collect()
    }
}

impl Drop for LinkWorker {
    fn drop(&mut self) {
        // Its thread ended before it was asked for the rings.
        if self.phase == Phase::Out {
            self.link.take_back(self.back.clone());
        }
    }
}
