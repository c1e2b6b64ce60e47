//! The way to a peer: the thread that speaks to it, and what others ask of that thread.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vm_memory::GuestAddressSpace;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::log::Logging;
use super::peer::Peer;
use super::session::Session;
use super::wire::poll;
use super::{Assignment, PATIENCE};
use crate::bus::lock;

/// How long a peer that failed keeps the door shut; twice as long with each that follows.
const PENALTY: Duration = Duration::from_millis(50);
/// How often that is doubled.
const MOST_FAILURES: u32 = 6;
/// A peer that was there for longer did not come only to fail.
const GOOD_CONDUCT: Duration = Duration::from_secs(1);

/// What can be chosen.
pub struct LinkOptions {
    /// For messages.
    pub id: String,
    /// Queue pairs that a peer has to serve.
    pub pairs: u16,
    /// Told when a peer comes and goes; on the link's thread.
    pub changed: Box<dyn Fn(bool) + Send + Sync>,
}

/// A link. [`Link::serve`] is the body of its thread.
pub struct Link {
    options: LinkOptions,
    /// Leaf.
    pub(super) state: Mutex<State>,
    /// `state` changed for the better: a peer was agreed with.
    pub(super) agreed: Condvar,
    /// Something is to be done.
    pub(super) wake: EventFd,
    pub(super) hurry: Hurry,
}

#[derive(Default)]
pub(super) struct State {
    /// What is to be served.
    wanted: Option<Wanted>,
    /// Queue pairs of it that are in use.
    pairs: u16,
    /// Somebody waits to have it back.
    leaving: Option<Arc<EventFd>>,
    /// Where the rings stood, for that one.
    stood: Stood,
    /// What the last peer offered.
    features: Option<u64>,
    pub(super) connected: bool,
    /// Why a machine cannot migrate with the peer that is there.
    blocker: Option<String>,
    /// The log to mark, and how far the peer is with it.
    pub(super) logging: Logging,
    /// The interface's `host_mtu`; 0 where it has none.
    mtu: u16,
    /// An address that the network is to be told of.
    announce: Option<[u8; 6]>,
    /// The connection to the peer that is there, agreed with or not.
    socket: Option<UnixStream>,
    /// A peer went before it was agreed with.
    failed: bool,
    /// The thread is to end.
    ended: bool,
    /// It has ended: whoever asks answers himself.
    finished: bool,
}

impl State {
    /// Whether a peer is there and follows orders.
    pub(super) fn is_there(&self) -> bool {
        self.connected && !self.ended && !self.finished
    }
}

#[derive(Clone)]
struct Wanted {
    what: Arc<Assignment>,
    /// A peer had it before: the rings are not where they were when they were handed in.
    begun: bool,
}

/// Where rings stood when they were taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Stood {
    /// No peer ever had them.
    #[default]
    Untouched,
    /// As the peer said, in their order; where it did not, at their used rings.
    At(Vec<Option<u16>>),
}

/// Says how long to wait for a peer.
pub(super) struct Hurry {
    urgent: EventFd,
    /// Leaf.
    until: Mutex<Option<Instant>>,
}

impl Hurry {
    /// When whoever waits has waited long enough.
    pub fn limit(&self) -> Option<Instant> {
        *lock(&self.until)
    }

    /// Readable while somebody waits.
    pub fn fd(&self) -> RawFd {
        self.urgent.as_raw_fd()
    }

    fn begin(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut limit = lock(&self.until);
        *limit = Some(limit.map_or(until, |limit| limit.min(until)));
        // Fails only when the counter is full, and then it is readable anyway.
        let _ = self.urgent.write(1);
    }

    fn end(&self) {
        let _ = self.urgent.read();
        *lock(&self.until) = None;
    }
}

/// The thread's end, however it comes: nobody waits for what will not come.
struct Finish<'a>(&'a Link);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).finished = true;
        self.0.give_back(Vec::new());
    }
}

impl Link {
    /// A link without a peer.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new(options: LinkOptions) -> io::Result<Arc<Self>> {
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        Ok(Arc::new(Link {
            options,
            state: Mutex::new(State {
                pairs: u16::MAX,
                ..State::default()
            }),
            agreed: Condvar::new(),
            wake: event()?,
            hurry: Hurry {
                urgent: event()?,
                until: Mutex::new(None),
            },
        }))
    }

    /// What the last peer offered; `None` before the first.
    pub fn features(&self) -> Option<u64> {
        lock(&self.state).features
    }

    /// Whether a peer is there.
    pub fn is_connected(&self) -> bool {
        lock(&self.state).connected
    }

    /// Waits until a peer was there once; false when that does not happen in time, or the first
    /// that came was none.
    pub fn wait_agreed(&self, time: Duration) -> bool {
        let waiting = |state: &mut State| state.features.is_none() && !state.ended && !state.failed;
        self.wait(time, waiting).features.is_some()
    }

    /// Waits until a peer was there once, whoever came before it, and no longer than `time`; says
    /// whether there is nothing left to wait for.
    pub fn wait_any(&self, time: Duration) -> bool {
        let waiting = |state: &mut State| state.features.is_none() && !state.ended;
        let state = self.wait(time, waiting);
        state.features.is_some() || state.ended
    }

    fn wait(
        &self,
        time: Duration,
        waiting: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'_, State> {
        let state = lock(&self.state);
        let waited = self.agreed.wait_timeout_while(state, time, waiting);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Breaks the connection, if there is one. Never blocks; the thread finds that the peer went.
    pub fn yank(&self) {
        if let Some(socket) = &lock(&self.state).socket {
            // What has no peer any more needs none of this.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Has the thread end. Takes no longer than the peer is waited for.
    pub fn end(&self) {
        let mut state = lock(&self.state);
        state.ended = true;
        self.hurry.begin(Duration::ZERO);
        drop(state);
        self.agreed.notify_all();
    }

    /// These rings are to be served from now on.
    pub(super) fn hand(&self, what: Arc<Assignment>) {
        lock(&self.state).wanted = Some(Wanted { what, begun: false });
        let _ = self.wake.write(1);
    }

    /// What the interface's `host_mtu` is.
    pub(super) fn set_mtu(&self, mtu: u16) {
        lock(&self.state).mtu = mtu;
    }

    /// The peer is to tell the network of this address, if it can.
    pub(super) fn announce(&self, mac: [u8; 6]) {
        lock(&self.state).announce = Some(mac);
        let _ = self.wake.write(1);
    }

    /// Why a machine cannot migrate with the peer that is there, in QEMU's words.
    pub(super) fn blocker(&self) -> Option<String> {
        lock(&self.state).blocker.clone()
    }

    /// So many queue pairs are to be used of those that are served.
    pub(super) fn use_pairs(&self, pairs: u16) {
        lock(&self.state).pairs = pairs;
        let _ = self.wake.write(1);
    }

    /// They are to be so no longer; `answer` is signalled when that is done, after [`PATIENCE`] at
    /// the latest, and [`Self::stood`] says then where they stand.
    pub(super) fn take_back(&self, answer: Arc<EventFd>) {
        let mut state = lock(&self.state);
        state.leaving = Some(answer);
        if state.finished {
            drop(state);
            self.give_back(Vec::new());
        } else {
            self.hurry.begin(PATIENCE);
        }
    }

    /// Where the rings stood.
    pub(super) fn stood(&self) -> Stood {
        std::mem::take(&mut lock(&self.state).stood)
    }

    /// The body of the link's thread: speaks to one peer after the other until [`Self::end`].
    pub fn serve(&self, mut peer: Peer) {
        if let Err(error) = peer.prepare() {
            log::error!("vhost-user netdev '{}': {error}", self.options.id);
        }
        let _finish = Finish(self);
        let mut failures = 0;
        while !self.is_ended() {
            let Some(socket) = self.await_peer(&mut peer) else {
                continue;
            };
            let begin = Instant::now();
            lock(&self.state).socket = socket.try_clone().ok();
            let served = self.serve_peer(socket);
            lock(&self.state).socket = None;
            if let Err(error) = served {
                lock(&self.state).failed = true;
                self.agreed.notify_all();
                if !self.is_ended() {
                    log::warn!("vhost-user netdev '{}': {error}", self.options.id);
                }
                failures = match begin.elapsed() > GOOD_CONDUCT {
                    true => 0,
                    false => MOST_FAILURES.min(failures + 1),
                };
                self.rest(PENALTY * (1 << failures));
            }
        }
    }

    fn is_ended(&self) -> bool {
        lock(&self.state).ended
    }

    /// A failed peer does not come back at once, and others are not kept waiting meanwhile.
    fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_ended() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.pause(-1, Some(left));
            self.give_back(Vec::new());
        }
    }

    /// Waits for the descriptor, an order, or a time. Whether the descriptor is ready.
    fn pause(&self, fd: RawFd, time: Option<Duration>) -> bool {
        let events = libc::POLLIN | libc::POLLRDHUP;
        let mut fds = [
            (fd, events),
            (self.wake.as_raw_fd(), libc::POLLIN),
            (self.hurry.fd(), libc::POLLIN),
        ];
        let ready = poll(&mut fds, time).unwrap_or(0);
        let _ = self.wake.read();
        ready & 1 != 0
    }

    fn await_peer(&self, peer: &mut Peer) -> Option<UnixStream> {
        self.give_back(Vec::new());
        if let Some(socket) = peer.take() {
            return Some(socket);
        }
        self.pause(peer.fd(), peer.pause());
        None
    }

    fn serve_peer(&self, socket: UnixStream) -> io::Result<()> {
        let mut session = Session::negotiate(socket, self.options.pairs, &self.hurry)?;
        {
            let mut state = lock(&self.state);
            state.features = Some(session.features());
            state.connected = true;
            state.blocker = session.blocker();
        }
        self.agreed.notify_all();
        (self.options.changed)(true);
        let result = self.follow_orders(&mut session);
        {
            let mut state = lock(&self.state);
            state.connected = false;
            state.blocker = None;
        }
        // Who waits for it to log waits for nothing.
        self.agreed.notify_all();
        (self.options.changed)(false);
        // Who asked for the rings in the meantime has waited long enough.
        self.give_back(Vec::new());
        result
    }

    fn follow_orders(&self, session: &mut Session) -> io::Result<()> {
        loop {
            let (wanted, leaving, pairs, announce) = {
                let mut state = lock(&self.state);
                if state.ended {
                    return Ok(());
                }
                session.set_mtu(state.mtu);
                let (wanted, leaving) = (state.wanted.clone(), state.leaving.is_some());
                (wanted, leaving, state.pairs, state.announce.take())
            };
            if let Some(mac) = announce {
                session.announce(mac, &self.hurry)?;
            }
            if leaving {
                let bases = session.stop(&self.hurry)?;
                self.give_back(bases);
            } else if self.follow_log(session)? {
            } else if pairs != session.pairs() {
                session.use_pairs(pairs, &self.hurry)?;
            } else if let Some(wanted) = wanted.filter(|_| !session.is_running()) {
                self.start(session, &wanted)?;
            } else if self.pause(session.fd(), None) {
                let gone = "the peer went, or said what nobody asked for";
                return Err(io::Error::other(gone));
            }
        }
    }

    fn start(&self, session: &mut Session, wanted: &Wanted) -> io::Result<()> {
        let memory = wanted.what.ram.memory();
        let rings = wanted.what.rings.iter();
        // What the last peer took and did not give back is taken again.
        let bases: Vec<u16> = match wanted.begun {
            true => rings.map(|ring| ring.used_index(&memory)).collect(),
            false => rings.map(|ring| ring.next_avail).collect(),
        };
        if let Some(wanted) = &mut lock(&self.state).wanted {
            wanted.begun = true;
        }
        session.start(&wanted.what, &bases, &self.hurry)
    }

    /// Answers whoever waits for the rings.
    fn give_back(&self, bases: Vec<Option<u16>>) {
        let mut state = lock(&self.state);
        let Some(answer) = state.leaving.take() else {
            return;
        };
        let begun = state.wanted.take().is_some_and(|wanted| wanted.begun);
        state.stood = match begun {
            true => Stood::At(bases),
            false => Stood::Untouched,
        };
        if !state.ended {
            self.hurry.end();
        }
        drop(state);
        let _ = answer.write(1);
    }
}
