//! The side that gets the machine.
//!
//! ```text
//! hello, config, blocks (compared) -> pages -> sections, end -> load
//!     answers:    say Ready -> go -> activate -> say Running
//!     no answers: activate
//! ```
//! Whatever is wrong is said to the source, where it listens, and it runs on.

mod gather;
mod mapped;

use std::sync::Arc;

use api_spec::RunState;

use super::host::{
    Broken, Cancel, Channel, ChannelKind, Counters, MoreChannels, Stopped, TargetHost,
};
use super::link::{Fate, Link, Sink};
use super::load::{Place, read_ram, read_sections};
use super::ram::RamView;
use super::records::Receiver;
use super::wire::{Features, Head, Hello, Kind, put_pass, put_reason, refuse};
use crate::machine::saved::MachineConfig;
use gather::Gather;

/// How RAM comes out of a file with `mapped-ram`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RamLoad {
    /// It is read before the machine runs.
    #[default]
    Read,
    /// It is mapped, and read where the guest touches it. The file must stay as it is for as long
    /// as the machine lives.
    Map,
}

/// A migration on its way in.
pub struct Target {
    /// The first channel.
    pub main: Channel,
    /// Accepts those of multifd.
    pub more: MoreChannels,
    /// Where RAM goes.
    pub ram: RamView,
    /// How, from a file.
    pub ram_load: RamLoad,
    /// What came so far.
    pub counters: Arc<Counters>,
    /// Ends it.
    pub cancel: Cancel,
    /// Control.
    pub host: Box<dyn TargetHost>,
}

impl Target {
    /// Takes the machine in; returns what it was doing. Blocks until that is done, broken or
    /// cancelled; runs on a thread of its own.
    ///
    /// # Errors
    /// Why it cannot be taken. It is of no use here then.
    pub fn run(self) -> Result<RunState, Broken> {
        let fate = Fate::new(self.cancel.clone())?;
        if let ChannelKind::File { offset } = self.main.kind
            && mapped::is_mapped(&self.main.fd, offset)
        {
            return mapped::load(self, fate, offset);
        }
        if self.ram_load == RamLoad::Map {
            return Err(Broken::Failed(
                "RAM can only be mapped from a file that was written with 'mapped-ram'".to_owned(),
            ));
        }
        self.stream(fate)
    }

    fn stream(mut self, fate: Fate) -> Result<RunState, Broken> {
        let receiver = Receiver::new(Link::new(self.main, fate.clone())?);
        let mut talk = Talk {
            receiver,
            answers: false,
            said: 0,
        };
        let host = &mut *self.host;
        // To the end of this, `place` too: its memory is not given back while the machine stands
        // still.
        let result = take(&mut talk, self.more, &self.ram, &self.counters, host)
            .and_then(|(stopped, _place)| finish(&mut talk, stopped, host));
        let received = talk.receiver.received();
        Counters::add(&self.counters.transferred, received);
        result.map_err(|broken| {
            let broken = fate.reason(broken);
            talk.refuse(&broken, &fate);
            broken
        })
    }
}

/// The first channel, and what was said on it.
struct Talk {
    receiver: Receiver<Link>,
    /// The source listens.
    answers: bool,
    said: u32,
}

impl Talk {
    fn word(&mut self, kind: Kind, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Head::put(&mut out, kind, self.said, payload, 0);
        self.said = self.said.wrapping_add(1);
        out
    }

    fn say(&mut self, kind: Kind) -> Result<(), Broken> {
        let word = self.word(kind, &[]);
        self.receiver.input().write(&word, &[])
    }

    /// Tells the source why, and makes sure that it can read it.
    fn refuse(mut self, why: &Broken, fate: &Fate) {
        /// Milliseconds.
        const PATIENCE: i32 = 1000;
        let word = self.word(Kind::Refused, &put_reason(&why.to_string()));
        let link = self.receiver.input();
        if self.answers {
            link.farewell(&word);
        }
        fate.fail(why);
        if self.answers {
            link.finish();
            link.drain(PATIENCE);
        }
        link.shut_down();
    }
}

/// All up to the end: RAM is where `place` says, the devices are in what is returned.
fn take(
    talk: &mut Talk,
    mut more: MoreChannels,
    ram: &RamView,
    counters: &Arc<Counters>,
    host: &mut dyn TargetHost,
) -> Result<(Stopped, Place), Broken> {
    let receiver = &mut talk.receiver;
    let hello = receiver.hello()?;
    check_hello(&hello, receiver.input().is_duplex())?;
    talk.answers = hello.features.has(Features::ANSWERS);
    let mut check = |config: &MachineConfig| host.check(config);
    let mut place = Place::read(receiver, hello.features, ram, &mut check)?;
    let Talk {
        receiver,
        answers,
        said,
    } = talk;
    let passed = |link: &mut Link, number| match answers {
        true => tell_pass(link, said, number),
        false => Ok(()),
    };
    let state = match hello.channels {
        0 => {
            // Nobody else is to come. Now, as it takes time that there is not at the end.
            drop(more);
            read_ram(receiver, &mut place, passed)?
        }
        _ => {
            let gather = Gather::accept(&mut more, receiver.input(), &hello, &place, counters)?;
            drop(more);
            gather.read(receiver, &mut place, passed)?
        }
    };
    place.check_complete()?;
    Ok((read_sections(receiver, &state)?, place))
}

/// Says how far pages are: the source does not stop the machine while it would wait for old ones.
/// One that has gone on does not wait for that.
fn tell_pass(link: &mut Link, said: &mut u32, number: u32) -> Result<(), Broken> {
    if link.has_more() {
        return Ok(());
    }
    let mut word = Vec::new();
    Head::put(&mut word, Kind::Passed, *said, &put_pass(number), 0);
    *said = said.wrapping_add(1);
    link.write(&word, &[])
}

fn check_hello(hello: &Hello, duplex: bool) -> Result<(), Broken> {
    let features = hello.features;
    let wrong = |text: &str| Err(refuse("hello", "features", text));
    if features.has(Features::STILL) {
        return wrong("this is a snapshot, not a migration");
    }
    if features.has(Features::MAPPED) {
        return wrong("this is 'mapped-ram', which must be read from a file");
    }
    if features.has(Features::ANSWERS) && !duplex {
        return wrong("the source wants answers, and this channel goes one way");
    }
    if features.has(Features::MULTIFD) != (hello.channels > 0) {
        return wrong("'multifd' and the number of channels contradict each other");
    }
    if hello.channel != 0 {
        return Err(refuse("hello", "channel", "this is not the first channel"));
    }
    Ok(())
}

/// Everything came: load it, and run when the source says so.
fn finish(
    talk: &mut Talk,
    stopped: Stopped,
    host: &mut dyn TargetHost,
) -> Result<RunState, Broken> {
    let state = stopped.state;
    host.load(stopped).map_err(Broken::Failed)?;
    if talk.answers {
        talk.say(Kind::Ready)?;
        talk.receiver.expect(Kind::Go)?;
    }
    host.activate().map_err(Broken::Failed)?;
    // The machine is here now and runs, whether the source learns of it or not.
    if talk.answers
        && let Err(broken) = talk.say(Kind::Running)
    {
        log::warn!("The source does not know that the machine runs here: {broken}");
    }
    Ok(state)
}
