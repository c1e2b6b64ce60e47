//! multifd on the side that gets the machine: one thread for each channel, and a gate at the end
//! of each pass, so that no page overtakes a newer one.

use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::migration::host::{Broken, Cancel, Counters, MoreChannels};
use crate::migration::link::{Fate, Link, failure};
use crate::migration::load::Place;
use crate::migration::records::{Receiver, misplaced};
use crate::migration::wire::{Hello, Kind, get_pass, refuse};
use crate::sys;
use crate::threads::{self, ThreadKind};

/// How often a waiting thread looks whether the migration still goes on.
const LOOK: Duration = Duration::from_millis(50);

/// Channels beside the first, read by threads.
pub struct Gather {
    threads: Vec<JoinHandle<Option<Option<Place>>>>,
    gate: Arc<Gate>,
    fate: Fate,
}

impl Gather {
    /// Accepts the channels that `hello`, which came over the first one, announces.
    ///
    /// # Errors
    /// When one of them is of another migration, the first one ends, or there is no thread.
    pub fn accept(
        more: &mut MoreChannels,
        first: &Link,
        hello: &Hello,
        place: &Place,
        counters: &Arc<Counters>,
    ) -> Result<Self, Broken> {
        let watch = Watch::start(first)?;
        let gate = Gate::new(u32::from(hello.channels).saturating_add(1));
        let mut gather = Gather {
            threads: Vec::new(),
            gate: Arc::new(gate),
            fate: first.fate().clone(),
        };
        let mut known = vec![false; usize::from(hello.channels)];
        for _ in 0..hello.channels {
            let channel = more(&watch.gone).map_err(|error| {
                let cancelled = gather.fate.check().err();
                cancelled.unwrap_or_else(|| failure("Cannot accept a multifd channel", &error))
            })?;
            let mut receiver = Receiver::new(Link::new(channel, gather.fate.clone())?);
            let number = check_hello(&receiver.hello()?, hello, &mut known)?;
            gather.start(number, receiver, place.clone(), counters.clone())?;
        }
        Ok(gather)
    }

    fn start(
        &mut self,
        number: u16,
        mut receiver: Receiver<Link>,
        mut place: Place,
        counters: Arc<Counters>,
    ) -> Result<(), Broken> {
        let (gate, fate) = (self.gate.clone(), self.fate.clone());
        let body = move || {
            let result = read_channel(&mut receiver, &mut place, &gate, &fate);
            gate.leave();
            Counters::add(&counters.multifd_bytes, receiver.received());
            Counters::add(&counters.transferred, receiver.received());
            match result {
                Ok(()) => Some(place),
                Err(broken) => {
                    fate.fail(&broken);
                    None
                }
            }
        };
        let name = format!("multifd-recv-{number}");
        let thread = threads::spawn(ThreadKind::Migration, &name, None, body)
            .map_err(|error| failure("Cannot start a thread", &error))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Reads all RAM, and the payload of the state record on the first channel.
    ///
    /// # Errors
    /// By record and field, of whichever channel was first, and those of `passed`, which hears of
    /// the end of each pass.
    pub fn read(
        mut self,
        main: &mut Receiver<Link>,
        place: &mut Place,
        mut passed: impl FnMut(&mut Link, u32) -> Result<(), Broken>,
    ) -> Result<Vec<u8>, Broken> {
        let mut pass = 1;
        let state = loop {
            let record = main.record()?;
            match record.kind {
                Kind::Pages => place.take(main, &record)?,
                Kind::Pass => {
                    get_pass(&record.payload, pass)?;
                    self.gate.wait(&self.fate)?;
                    passed(main.input(), pass)?;
                    pass = pass.saturating_add(1);
                }
                Kind::State => break record.payload,
                other => return Err(misplaced(other, "pages, pass or state")),
            }
        };
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Some(Some(other))) => place.merge(&other),
                _ => {
                    let unknown = Broken::Failed("A multifd channel failed".to_owned());
                    return Err(self.fate.reason(unknown));
                }
            }
        }
        Ok(state)
    }
}

/// Looks after the channels that are there while others are waited for: when the first one ends,
/// none will come.
struct Watch {
    gone: Cancel,
    done: Cancel,
    thread: Option<JoinHandle<Option<()>>>,
}

impl Watch {
    fn start(first: &Link) -> Result<Self, Broken> {
        let new = || Cancel::new().map_err(|error| failure("Cannot migrate", &error));
        let (gone, done) = (new()?, new()?);
        let (tell, ended) = (gone.clone(), done.clone());
        let (fate, fd) = (first.fate().clone(), first.raw_fd());
        let body = move || {
            let mut fds = [
                sys::poll_entry(ended.event().as_raw_fd(), libc::POLLIN),
                sys::poll_entry(fate.cancel().event().as_raw_fd(), libc::POLLIN),
                sys::poll_entry(fate.failure().event().as_raw_fd(), libc::POLLIN),
                sys::poll_entry(fd, libc::POLLRDHUP),
            ];
            let polled = sys::poll(&mut fds, None);
            let [ended, _, _, lost] = fds;
            if polled.is_ok() && ended.revents != 0 {
                return;
            }
            if lost.revents != 0 {
                fate.fail(&Broken::Failed("The link was lost".to_owned()));
            }
            tell.cancel();
        };
        let thread = threads::spawn(ThreadKind::Migration, "multifd-watch", None, body)
            .map_err(|error| failure("Cannot start a thread", &error))?;
        Ok(Watch {
            gone,
            done,
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.done.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        // All have ended, except when this one gives up.
        self.gate.leave();
        for thread in self.threads.drain(..) {
            self.fate
                .fail(&Broken::Failed("The migration was given up".to_owned()));
            let _ = thread.join();
        }
    }
}

fn read_channel(
    receiver: &mut Receiver<Link>,
    place: &mut Place,
    gate: &Gate,
    fate: &Fate,
) -> Result<(), Broken> {
    let mut pass = 1;
    loop {
        let record = receiver.record()?;
        match record.kind {
            Kind::Pages => place.take(receiver, &record)?,
            Kind::Pass => {
                get_pass(&record.payload, pass)?;
                pass = pass.saturating_add(1);
                gate.wait(fate)?;
            }
            Kind::End => return Ok(()),
            other => return Err(misplaced(other, "pages, pass or end")),
        }
    }
}

fn check_hello(found: &Hello, first: &Hello, known: &mut [bool]) -> Result<u16, Broken> {
    if found.id != first.id {
        return Err(refuse("hello", "id", "a channel of another migration"));
    }
    if found.features != first.features || found.channels != first.channels {
        return Err(refuse(
            "hello",
            "features",
            "not those of the first channel",
        ));
    }
    let number = usize::from(found.channel).checked_sub(1);
    match number.and_then(|number| known.get_mut(number)) {
        Some(known) if !*known => {
            *known = true;
            Ok(found.channel)
        }
        _ => {
            let text = format!("{} came before, or is the first", found.channel);
            Err(refuse("hello", "channel", &text))
        }
    }
}

/// Where all channels meet at the end of a pass.
struct Gate {
    parties: u32,
    /// Rank: a leaf.
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    waiting: u32,
    round: u64,
    left: bool,
}

impl Gate {
    fn new(parties: u32) -> Self {
        Gate {
            parties,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Waits for all.
    fn wait(&self, fate: &Fate) -> Result<(), Broken> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting = state.waiting.saturating_add(1);
        if state.waiting == self.parties {
            state.waiting = 0;
            state.round = state.round.wrapping_add(1);
            self.changed.notify_all();
            return Ok(());
        }
        let round = state.round;
        while state.round == round {
            if state.left {
                let text = "a channel ended before this pass did";
                return Err(fate.reason(refuse("pass", "number", text)));
            }
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.round == round {
                fate.check()?;
            }
        }
        Ok(())
    }

    /// One comes no more.
    fn leave(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.left = true;
        self.changed.notify_all();
    }
}
