//! The worker of a queue pair: owns both queues and the back end's port while the device runs.
//!
//! ```text
//! kick, readable, writable, woken --> turn: [send a batch, receive a batch] until both are quiet
//!                                           or others are to have their turn
//! receive starved --> the port is not watched --> a kick of the receive queue
//! send full       --> kicks mean nothing      --> the port is writable, or was readable
//! ```

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::announce;
use super::receive::{self, Receive};
use super::shared::{Member, Settings, Shared};
use super::transmit::{self, Transmit};
use crate::backend::net::{NetPort, Offloads, PortLease};
use crate::worker::{QueueState, QueueWorker, Watch, WatchToken};

const RECEIVE: WatchToken = WatchToken(0);
const TRANSMIT: WatchToken = WatchToken(1);
const READABLE: WatchToken = WatchToken(2);
const WRITABLE: WatchToken = WatchToken(3);
const WOKEN: WatchToken = WatchToken(4);

/// Looks at both directions in one turn.
const ROUNDS: usize = 4;
/// Where nothing tells when there is room again: looked at after so long.
const RETRY_NS: u64 = 1_000_000;

/// The port of the back end, with what goes along.
pub(super) struct Line {
    pub port: PortLease,
    /// A second descriptor of the port, to wait for room by; where there is one.
    pub writable: Option<OwnedFd>,
    /// Frames have a header.
    pub header: bool,
}

/// See the module.
pub(super) struct PairWorker {
    pub pair: u16,
    pub receive: Option<Receive>,
    pub transmit: Option<Transmit>,
    pub line: Option<Line>,
    pub member: Arc<Member>,
    pub shared: Arc<Shared>,
    /// Frames of one queue before the other has its turn.
    pub burst: usize,
    pub state: State,
}

/// What it is about.
pub(super) struct State {
    settings: Arc<Settings>,
    epoch: u64,
    /// What the port was told.
    told: Option<(bool, Offloads)>,
    announced: u64,
    watches_port: bool,
    waits_for_room: bool,
    broken: bool,
    quiet: bool,
}

impl State {
    pub fn new(shared: &Shared) -> Self {
        let settings = shared.settings();
        State {
            announced: settings.announcements,
            settings,
            epoch: 0,
            told: None,
            watches_port: false,
            waits_for_room: false,
            broken: false,
            quiet: false,
        }
    }
}

impl PairWorker {
    /// Whether the driver uses this pair now.
    fn in_use(&self) -> bool {
        self.pair < self.state.settings.pairs
    }

    /// Acts upon changes of the settings.
    fn refresh(&mut self) {
        let epoch = self.shared.epoch();
        if epoch == self.state.epoch {
            return;
        }
        self.state.settings = self.shared.settings();
        self.state.epoch = epoch;
        let in_use = self.in_use();
        if let Some(line) = &mut self.line {
            let settings = &self.state.settings;
            let wanted = (in_use, settings.guest_offloads());
            if self.state.told != Some(wanted) {
                line.port.set_enabled(wanted.0);
                line.port.set_guest_offloads(wanted.1);
                self.state.told = Some(wanted);
            }
            let due = settings.announcements;
            if due != self.state.announced && self.pair == 0 && settings.link_up {
                announce::send(&mut *line.port, line.header, self.shared.own_mac());
            }
            self.state.announced = due;
        }
        self.member.saw(epoch, &self.shared);
    }

    /// Moves frames both ways. A back end that had nothing is asked again only when something was
    /// sent since: each question is a system call.
    fn turn(&mut self, watch: &mut dyn Watch) {
        self.refresh();
        let mut silent = false;
        for round in 1..=ROUNDS {
            let (send, sent) = self.send(round == ROUNDS);
            let rests = sent == 0 && send != Some(transmit::Progress::More);
            // A frame that waits for room is followed up below.
            if silent && rests && send != Some(transmit::Progress::Full) {
                break;
            }
            let (take, taken) = self.take();
            self.follow_up(send, take, watch);
            silent = take != Some(receive::Progress::More);
            if silent && rests && taken == 0 {
                break;
            }
        }
    }

    /// Sends a batch. Kicks are asked for when the queue has nothing.
    fn send(&mut self, last: bool) -> (Option<transmit::Progress>, usize) {
        let usable = self.state.settings.link_up && self.in_use();
        let Some(transmit) = &mut self.transmit else {
            return (None, 0);
        };
        let memory = transmit.queue.memory();
        let port: Option<&mut (dyn NetPort + 'static)> = match &mut self.line {
            Some(line) if usable => Some(&mut *line.port),
            Some(_) | None => None,
        };
        let (mut progress, sent) = transmit.run(&memory, port, self.burst);
        let wants_kicks = progress == transmit::Progress::Empty && (sent == 0 || last);
        if wants_kicks && transmit.queue.ask_for_kicks(&memory) {
            progress = transmit::Progress::More;
        }
        if progress == transmit::Progress::More && last {
            transmit.queue.kick_self();
        }
        (Some(progress), sent)
    }

    /// Receives a batch.
    fn take(&mut self) -> (Option<receive::Progress>, usize) {
        let in_use = self.in_use();
        let (Some(receive), Some(line)) = (&mut self.receive, &mut self.line) else {
            return (None, 0);
        };
        if self.state.broken || !in_use {
            return (None, 0);
        }
        let (progress, count) = match self.state.settings.link_up {
            true => {
                let memory = receive.queue.memory();
                let settings = &self.state.settings;
                receive.run(&memory, &mut *line.port, settings, self.burst)
            }
            false => receive.discard(&mut *line.port, self.burst),
        };
        (Some(progress), count)
    }

    /// Watches what can happen next, and nothing else.
    fn follow_up(
        &mut self,
        send: Option<transmit::Progress>,
        take: Option<receive::Progress>,
        watch: &mut dyn Watch,
    ) {
        use receive::Progress;
        self.state.broken |= take == Some(Progress::Broken);
        let Some(line) = &mut self.line else { return };
        let wanted = matches!(take, Some(Progress::Empty | Progress::More));
        let full = send == Some(transmit::Progress::Full);
        // A port that is not watched does not tell that it could go on.
        let waits = full || (!wanted && !line.port.flush());
        let fd = line.port.fd();
        if wanted && !self.state.watches_port {
            self.state.watches_port = watch.readable(fd, READABLE).is_ok();
        } else if !wanted && self.state.watches_port {
            watch.remove(fd);
            self.state.watches_port = false;
        }
        if waits == self.state.waits_for_room {
            return;
        }
        self.state.waits_for_room = waits;
        let writable = line.writable.as_ref().map(AsRawFd::as_raw_fd);
        if let (true, Some(fd)) = (full, writable) {
            // Where that fails, the time still passes.
            let _ = watch.writable(fd, WRITABLE);
        } else if let Some(fd) = writable {
            watch.remove(fd);
        }
        // A descriptor that stands for several does not tell of room.
        watch.timeout(waits.then_some(RETRY_NS));
    }
}

impl QueueWorker for PairWorker {
    fn register(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
        watch.readable(self.member.waker.fd(), WOKEN)?;
        if let Some(receive) = &self.receive {
            watch.readable(receive.queue.kick_fd(), RECEIVE)?;
        }
        if let Some(transmit) = &self.transmit {
            watch.readable(transmit.queue.kick_fd(), TRANSMIT)?;
        }
        self.turn(watch);
        Ok(())
    }

    fn on_event(&mut self, token: WatchToken, watch: &mut dyn Watch) {
        if self.state.quiet {
            return;
        }
        match token {
            RECEIVE => {
                if let Some(receive) = &self.receive {
                    receive.queue.take_kick();
                }
                if self.state.watches_port {
                    // There are buffers, and frames will say so themselves.
                    return;
                }
            }
            TRANSMIT => {
                if let Some(transmit) = &self.transmit {
                    transmit.queue.take_kick();
                }
            }
            WOKEN => self.member.waker.clear(),
            _ => {}
        }
        self.turn(watch);
    }

    fn on_timeout(&mut self, watch: &mut dyn Watch) {
        if self.state.quiet {
            return;
        }
        // To be asked for again where there is no room still.
        self.state.waits_for_room = false;
        if let Some(fd) = self.line.as_ref().and_then(|line| line.writable.as_ref()) {
            watch.remove(fd.as_raw_fd());
        }
        self.turn(watch);
    }

    fn quiesce(&mut self, watch: &mut dyn Watch) {
        if std::mem::replace(&mut self.state.quiet, true) {
            return;
        }
        watch.remove(self.member.waker.fd());
        if let Some(line) = &self.line {
            if std::mem::take(&mut self.state.watches_port) {
                watch.remove(line.port.fd());
            }
            if let Some(fd) = line.writable.as_ref().filter(|_| self.state.waits_for_room) {
                watch.remove(fd.as_raw_fd());
            }
        }
        watch.timeout(None);
        if let Some(receive) = &mut self.receive {
            watch.remove(receive.queue.kick_fd());
            receive.stop();
        }
        if let Some(transmit) = &mut self.transmit {
            watch.remove(transmit.queue.kick_fd());
            transmit.stop();
        }
        self.member.leave(&self.shared);
    }

    fn drained(&self) -> bool {
        true
    }

    fn into_state(self: Box<Self>) -> Vec<QueueState> {
        let receive = self.receive.iter().map(|receive| receive.queue.state());
        let transmit = self.transmit.iter().map(|transmit| transmit.queue.state());
        receive.chain(transmit).collect()
    }
}
