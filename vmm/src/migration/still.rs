//! A machine that stands still, as one stream of bytes: snapshots.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};

use super::host::{Broken, Stopped};
use super::link::{Input, Sink, failure};
use super::load::{Place, read_ram, read_sections};
use super::pages::{self, Span, Zeroes, data_spans};
use super::ram::{RamBlock, RamView};
use super::records::{Receiver, Sender};
use super::source::put_sections;
use super::untouched::Ground;
use super::wire::{Features, Hello, Kind, put_blocks, put_config, put_pass, refuse};
use crate::machine::saved::MachineConfig;

/// Pages looked at between two words to whoever waits.
const PAGES_AT_ONCE: u32 = 512;
/// What is written or read at once.
const AT_ONCE: usize = 2 << 20;

/// Writes all of the machine; returns the bytes. `progress` is told how many there are so far;
/// false ends it.
///
/// # Errors
/// When `out` fails, or `progress` ended it.
pub fn write(
    out: &mut dyn Write,
    config: &MachineConfig,
    ram: &RamView,
    stopped: &Stopped,
    progress: &dyn Fn(u64) -> bool,
) -> Result<u64, Broken> {
    let sink = Writer {
        out,
        buffer: Vec::with_capacity(AT_ONCE),
    };
    let mut sender = Sender::new(sink);
    sender.hello(&Hello {
        features: Features::STILL,
        id: [0; 16],
        channel: 0,
        channels: 0,
    });
    sender.record(Kind::Config, &put_config(config)?)?;
    sender.record(Kind::Blocks, &put_blocks(&pages::entries(ram, false)))?;
    for (index, block) in ram.blocks.iter().enumerate() {
        write_block(&mut sender, index, block, progress)?;
    }
    sender.record(Kind::Pass, &put_pass(1))?;
    put_sections(&mut sender, stopped)?;
    sender.record(Kind::End, &[])?;
    sender.flush()?;
    let sent = sender.sent();
    let mut sink = sender.into_sink();
    sink.flush()?;
    match progress(sent) {
        true => Ok(sent),
        false => Err(Broken::Cancelled),
    }
}

fn write_block(
    sender: &mut Sender<Writer<'_>>,
    index: usize,
    block: &RamBlock,
    progress: &dyn Fn(u64) -> bool,
) -> Result<(), Broken> {
    let ground = Ground::of(block);
    let mut runs = Vec::new();
    let mut at = 0;
    while at < block.pages() {
        let left = block.pages().saturating_sub(at);
        let count = u32::try_from(left).map_or(PAGES_AT_ONCE, |left| left.min(PAGES_AT_ONCE));
        runs.clear();
        pages::scan(block, &ground, at, count, Zeroes::All, &mut runs);
        sender.pages(index, &runs, &data_spans(block, &runs))?;
        if !progress(sender.sent()) {
            return Err(Broken::Cancelled);
        }
        at = at.saturating_add(u64::from(count));
    }
    Ok(())
}

/// Reads a machine: its RAM into `ram`, after `check` found that it fits; its devices come back.
/// RAM is of no use when it fails after that.
///
/// # Errors
/// By record and field; what `check` says; when `input` fails.
pub fn read(
    input: &mut dyn Read,
    ram: &RamView,
    check: &dyn Fn(&MachineConfig) -> Result<(), String>,
) -> Result<Stopped, Broken> {
    let mut receiver = Receiver::new(Reader {
        input: BufReader::with_capacity(AT_ONCE, input),
    });
    let hello = receiver.hello()?;
    if hello.features != Features::STILL || hello.channels != 0 {
        return Err(refuse("hello", "features", "this is not a snapshot"));
    }
    let mut check = |config: &MachineConfig| check(config);
    let mut place = Place::read(&mut receiver, hello.features, ram, &mut check)?;
    let state = read_ram(&mut receiver, &mut place, |_, _| Ok(()))?;
    place.check_complete()?;
    read_sections(&mut receiver, &state)
}

/// Gathers what is written into large pieces.
struct Writer<'a> {
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
}

impl Writer<'_> {
    fn flush(&mut self) -> Result<(), Broken> {
        let result = self
            .out
            .write_all(&self.buffer)
            .and_then(|()| self.out.flush());
        self.buffer.clear();
        result.map_err(|error| failure("Cannot write the machine's state", &error))
    }

    fn spill(&mut self) -> Result<(), Broken> {
        if self.buffer.len() < AT_ONCE {
            return Ok(());
        }
        let result = self.out.write_all(&self.buffer);
        self.buffer.clear();
        result.map_err(|error| failure("Cannot write the machine's state", &error))
    }
}

impl Sink for Writer<'_> {
    fn write(&mut self, head: &[u8], data: &[Span]) -> Result<(), Broken> {
        self.buffer.extend_from_slice(head);
        for span in data {
            span.append_to(&mut self.buffer);
            self.spill()?;
        }
        self.spill()
    }
}

struct Reader<'a> {
    input: BufReader<&'a mut dyn Read>,
}

impl Input for Reader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<bool, Broken> {
        match self.input.read_exact(bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(failure("Cannot read the machine's state", &error)),
        }
    }

    fn read_pages(&mut self, data: &[Span]) -> Result<bool, Broken> {
        for span in data {
            let mut at = 0;
            while at < span.len() {
                let got = match self.input.fill_buf() {
                    Ok([]) => return Ok(false),
                    Ok(bytes) => span.fill_part(at, bytes),
                    Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                    Err(error) => return Err(failure("Cannot read the machine's state", &error)),
                };
                self.input.consume(got);
                at = at.saturating_add(got);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
#[path = "still_test.rs"]
mod tests;
