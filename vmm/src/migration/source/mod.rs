//! The side that has the machine.
//!
//! ```text
//! hello, config, blocks -> passes over RAM (course) -> stop -> last pages -> sections, end
//!     answers:    Ready -> hand_over -> go -> Running | Refused -> take_back
//!     no answers: hand_over -> end
//! ```
//! Whatever fails before the last word that lets the other side run leaves the machine here.

mod carrier;
mod course;
mod lane;
mod mapped;
mod pace;
mod places;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::answers::Answer;
use super::host::{
    Broken, Cancel, Channel, Counters, MoreChannels, SendOptions, SourceEnd, SourceHost, Stopped,
    Tunables,
};
use super::link::{Fate, Link, Sink, failure};
use super::pages::{self, Zeroes};
use super::ram::{DirtyLog, PageSet, RamView};
use super::records::Sender;
use super::untouched::Ground;
use super::wire::{
    BlockEntry, Features, Hello, Kind, put_blocks, put_config, put_section, put_state,
};
use carrier::{Multi, Single};
use lane::{Shared, StreamLane};
use pace::Pace;

/// A migration on its way out.
pub struct Source {
    /// The first channel.
    pub main: Channel,
    /// Makes those of multifd.
    pub more: MoreChannels,
    /// What travels.
    pub ram: RamView,
    /// Which pages were written.
    pub log: Box<dyn DirtyLog>,
    /// How it travels.
    pub options: SendOptions,
    /// What may change meanwhile.
    pub tunables: Arc<Tunables>,
    /// What it has done.
    pub counters: Arc<Counters>,
    /// Ends it.
    pub cancel: Cancel,
    /// Control.
    pub host: Box<dyn SourceHost>,
}

/// What is left of a [`Source`] when its channels are taken out.
struct Parts {
    shared: Arc<Shared>,
    log: Box<dyn DirtyLog>,
    /// Pages that are to be sent, one set for each block. Here, so that their memory is not given
    /// back while the machine stands still.
    sets: Vec<PageSet>,
    options: SendOptions,
    host: Box<dyn SourceHost>,
    begun: Instant,
}

impl Source {
    /// Sends the machine. Blocks until that is done, broken or cancelled; runs on a thread of its
    /// own.
    pub fn run(self) -> SourceEnd {
        let begun = Instant::now();
        let fate = match Fate::new(self.cancel) {
            Ok(fate) => fate,
            Err(broken) => return SourceEnd::Here(broken),
        };
        let entries = pages::entries(&self.ram, self.options.ignore_shared);
        let bytes = |entry: &BlockEntry| if entry.left_out { 0 } else { entry.len };
        let total = entries.iter().map(bytes).fold(0, u64::saturating_add);
        self.counters.total.store(total, Ordering::Relaxed);
        self.counters.remaining.store(total, Ordering::Relaxed);
        let mut parts = Parts {
            shared: Arc::new(Shared {
                grounds: self.ram.blocks.iter().map(Ground::of).collect(),
                view: self.ram,
                entries,
                pace: Pace::new(self.tunables.clone()),
                tunables: self.tunables,
                counters: self.counters,
                zeroes: match self.options.zeroes_unseen {
                    true => Zeroes::Untouched,
                    false => Zeroes::All,
                },
                fate: fate.clone(),
            }),
            log: self.log,
            sets: Vec::new(),
            options: self.options,
            host: self.host,
            begun,
        };
        let end = match parts.options.mapped_ram {
            true => mapped::send(self.main, &mut parts),
            false => send(self.main, self.more, &mut parts),
        };
        // Not before: the machine stands still, and that takes a moment.
        parts.log.stop();
        // Whoever still waits on another channel.
        if let SourceEnd::Here(broken) | SourceEnd::Unknown(broken) = &end {
            fate.fail(broken);
        }
        end
    }
}

fn send(main: Channel, more: MoreChannels, parts: &mut Parts) -> SourceEnd {
    let mut sender = match Link::new(main, parts.shared.fate.clone()) {
        Ok(link) => Sender::new(link),
        Err(broken) => return SourceEnd::Here(broken),
    };
    let duplex = sender.sink().is_duplex();
    sender.sink().listens = duplex;
    sender.sink().lend_pages();
    match travel(sender, more, parts) {
        Ok((sender, stopped)) => settle(sender, stopped, parts),
        Err(broken) => SourceEnd::Here(broken),
    }
}

/// Sends RAM until the machine stands still and all of it is there.
fn travel(
    mut sender: Sender<Link>,
    more: MoreChannels,
    parts: &mut Parts,
) -> Result<(Sender<Link>, Stopped), Broken> {
    let channels = u16::from(parts.options.multifd.unwrap_or(0));
    let zstd = parts.options.zstd.is_some() && channels > 0;
    if channels == 0 {
        sender.sink().leave_cache_alone();
    }
    let features = Features::default()
        .with(Features::ANSWERS, sender.sink().is_duplex())
        .with(Features::MULTIFD, channels > 0)
        .with(Features::ZSTD, zstd)
        .with(Features::IGNORE_SHARED, parts.options.ignore_shared)
        .with(Features::FILLED, sender.sink().is_gathered());
    let hello = Hello {
        features,
        id: random_id()?,
        channel: 0,
        channels,
    };
    let config = put_config(&parts.host.config())?;
    sender.hello(&hello);
    sender.record(Kind::Config, &config)?;
    sender.record(Kind::Blocks, &put_blocks(&parts.shared.entries))?;
    sender.flush()?;
    let sent = sender.sent();
    Counters::add(&parts.shared.counters.transferred, sent);
    if channels == 0 {
        let lane = StreamLane::new(sender, parts.shared.clone(), false, false);
        let mut carrier = Single::new(lane);
        let stopped = course::run(&mut carrier, parts)?;
        Ok((carrier.finish(), stopped))
    } else {
        let mut carrier = Multi::connect(sender, more, &hello, zstd, parts.shared.clone())?;
        let stopped = course::run(&mut carrier, parts)?;
        Ok((carrier.finish()?, stopped))
    }
}

/// All of RAM is there: the devices, and then the machine itself.
fn settle(mut sender: Sender<Link>, stopped: Stopped, parts: &mut Parts) -> SourceEnd {
    let before = sender.sent();
    let end = match sender.sink().is_duplex() {
        true => settle_with_answers(&mut sender, &stopped, parts),
        false => settle_alone(&mut sender, &stopped, parts),
    };
    let counters = &parts.shared.counters;
    Counters::add(&counters.transferred, sender.sent().saturating_sub(before));
    if end != SourceEnd::Completed {
        sender.sink().shut_down();
    }
    end
}

fn settle_with_answers(
    sender: &mut Sender<Link>,
    stopped: &Stopped,
    parts: &mut Parts,
) -> SourceEnd {
    let mut prepare = || {
        put_sections(sender, stopped)?;
        if let Some(early) = next_word(sender.sink())? {
            // Nothing can be ready yet.
            return Err(unexpected(Some(early)));
        }
        sender.record(Kind::End, &[])?;
        sender.flush()?;
        match wait_for_answer(sender.sink())? {
            Some(Answer::Ready) => parts.host.hand_over(),
            other => Err(unexpected(other)),
        }
    };
    if let Err(broken) = prepare() {
        return SourceEnd::Here(broken);
    }
    let go = sender.record(Kind::Go, &[]).and_then(|()| sender.flush());
    if let Err(broken) = go {
        // Not all of it went out, so nobody can have read it.
        return take_back(broken, parts);
    }
    match last_answer(sender.sink()) {
        Ok(Answer::Running) => SourceEnd::Completed,
        Ok(Answer::Refused(reason)) => take_back(Answer::refusal(&reason), parts),
        Ok(other @ (Answer::Ready | Answer::Passed(_))) => {
            SourceEnd::Unknown(unexpected(Some(other)))
        }
        Err(broken) => SourceEnd::Unknown(broken),
    }
}

fn settle_alone(sender: &mut Sender<Link>, stopped: &Stopped, parts: &mut Parts) -> SourceEnd {
    let mut prepare = || {
        put_sections(sender, stopped)?;
        sender.flush()?;
        sender.sink().settle()?;
        parts.host.hand_over()
    };
    if let Err(broken) = prepare() {
        return SourceEnd::Here(broken);
    }
    let end = sender
        .record(Kind::End, &[])
        .and_then(|()| sender.flush())
        .and_then(|()| sender.sink().make_durable());
    match end {
        Ok(()) => SourceEnd::Completed,
        Err(broken) => take_back(broken, parts),
    }
}

/// The machine stays here after all.
fn take_back(why: Broken, parts: &mut Parts) -> SourceEnd {
    match parts.host.take_back() {
        Ok(()) => SourceEnd::Here(why),
        Err(error) => SourceEnd::Unknown(Broken::Failed(format!(
            "{why}; and the disks cannot be taken back: {error}"
        ))),
    }
}

/// What was heard but for how far pages are.
fn next_word(link: &mut Link) -> Result<Option<Answer>, Broken> {
    loop {
        match link.heard.take()? {
            Some(Answer::Passed(_)) => {}
            other => return Ok(other),
        }
    }
}

/// `None` when the other side says no more.
fn wait_for_answer(link: &mut Link) -> Result<Option<Answer>, Broken> {
    loop {
        if let Some(answer) = next_word(link)? {
            return Ok(Some(answer));
        }
        if link.deaf {
            return Ok(None);
        }
        link.listen(1000)?;
    }
}

/// The word after which nothing can be undone: waited for beyond cancellation, a while.
fn last_answer(link: &mut Link) -> Result<Answer, Broken> {
    const PATIENCE: u32 = 20;
    let mut cancelled = 0;
    loop {
        if let Some(answer) = link.heard.take()? {
            return Ok(answer);
        }
        if link.deaf {
            let text = "The link was lost after the machine was handed over";
            return Err(Broken::Failed(text.to_owned()));
        }
        if let Err(broken) = link.fate().check() {
            cancelled += 1;
            if cancelled > PATIENCE {
                return Err(broken);
            }
        }
        link.listen_to_the_end(50);
    }
}

fn unexpected(answer: Option<Answer>) -> Broken {
    match answer {
        Some(Answer::Refused(reason)) => Answer::refusal(&reason),
        Some(Answer::Passed(_) | Answer::Ready | Answer::Running) => {
            Broken::Failed("The other side spoke out of turn".to_owned())
        }
        None => Broken::Failed("The link was lost".to_owned()),
    }
}

/// Writes what the machine was doing and all sections.
pub(super) fn put_sections<S: Sink>(
    sender: &mut Sender<S>,
    stopped: &Stopped,
) -> Result<(), Broken> {
    let count = u32::try_from(stopped.sections.len()).unwrap_or(u32::MAX);
    if count > super::wire::MOST_SECTIONS {
        let text = format!("{count} sections are too many");
        return Err(Broken::Failed(text));
    }
    sender.record(Kind::State, &put_state(stopped.state, count))?;
    let mut payload = Vec::new();
    for section in &stopped.sections {
        put_section(section, &mut payload)?;
        sender.record(Kind::Section, &payload)?;
    }
    Ok(())
}

#[allow(unsafe_code)] // getrandom(2) has no safe face
fn random_id() -> Result<[u8; 16], Broken> {
    let mut id = [0u8; 16];
    // SAFETY: the buffer lives across the call and has the length announced.
    let got = unsafe { libc::getrandom(id.as_mut_ptr().cast(), id.len(), 0) };
    match usize::try_from(got) {
        Ok(got) if got == id.len() => Ok(id),
        _ => Err(failure(
            "Cannot draw an id",
            &std::io::Error::last_os_error(),
        )),
    }
}

/// Reads one of the tunables or counters.
fn get(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}

#[cfg(test)]
#[path = "../engine_test.rs"]
mod tests;
