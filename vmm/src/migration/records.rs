//! Records out and in, one after the other, numbered.

use super::host::Broken;
use super::link::{Alignment, Input, Sink};
use super::pages::{Codec, Pages, Run, Span};
use super::wire::{Features, HEAD_LEN, HELLO_LEN, Head, Hello, Kind, refuse};

/// Small records are kept back until there are so many bytes.
const KEPT: usize = 64 << 10;
/// Payloads are believed step by step: nobody makes us take more memory than he sends bytes.
const STEP: usize = 1 << 20;

/// Writes records.
#[derive(Debug)]
pub struct Sender<S> {
    sink: S,
    sequence: u32,
    kept: Vec<u8>,
    sent: u64,
}

impl<S: Sink> Sender<S> {
    /// Into this.
    pub const fn new(sink: S) -> Self {
        Sender {
            sink,
            sequence: 0,
            kept: Vec::new(),
            sent: 0,
        }
    }

    /// What it writes into.
    pub const fn sink(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Gives that back.
    pub fn into_sink(self) -> S {
        self.sink
    }

    /// Bytes so far, with those kept back.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Opens the channel.
    pub fn hello(&mut self, hello: &Hello) {
        self.kept.extend_from_slice(&hello.encode());
        self.count(HELLO_LEN);
    }

    /// Writes a record without pages.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn record(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Broken> {
        self.head(kind, payload, 0);
        match self.kept.len() > KEPT {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Writes pages of a block as they are in memory.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn pages(&mut self, block: usize, runs: &[Run], data: &[Span]) -> Result<(), Broken> {
        let len = data
            .iter()
            .fold(0usize, |sum, span| sum.saturating_add(span.len()));
        let payload = Pages::encode(block, Codec::Plain, runs);
        if let Some(alignment) = self.sink.alignment(len) {
            self.fill(alignment, payload.len());
        }
        self.head(Kind::Pages, &payload, len);
        self.count(len);
        if len == 0 && self.kept.len() <= KEPT {
            return Ok(());
        }
        let kept = std::mem::take(&mut self.kept);
        let result = self.sink.write(&kept, data);
        self.kept = kept;
        self.kept.clear();
        result
    }

    /// Writes pages of a block that were packed.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn packed(&mut self, block: usize, runs: &[Run], data: &[u8]) -> Result<(), Broken> {
        let payload = Pages::encode(block, Codec::Zstd, runs);
        self.head(Kind::Pages, &payload, data.len());
        self.count(data.len());
        self.kept.extend_from_slice(data);
        self.flush()
    }

    /// Nothing is kept back any more.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn flush(&mut self) -> Result<(), Broken> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let result = self.sink.write(&self.kept, &[]);
        self.kept.clear();
        result
    }

    /// Adds what it takes for the data behind the next payload to have an aligned place.
    fn fill(&mut self, to: Alignment, payload: usize) {
        let heads = HEAD_LEN.saturating_mul(2).saturating_add(payload) as u64;
        let end = to.begin.saturating_add(self.sent).saturating_add(heads);
        let place = end.checked_next_multiple_of(to.step).unwrap_or(end);
        let missing = place.saturating_sub(end);
        let filler = vec![0; usize::try_from(missing).unwrap_or(0)];
        self.head(Kind::Filler, &filler, 0);
    }

    fn head(&mut self, kind: Kind, payload: &[u8], data: usize) {
        let data = u32::try_from(data).unwrap_or(u32::MAX);
        Head::put(&mut self.kept, kind, self.sequence, payload, data);
        self.sequence = self.sequence.wrapping_add(1);
        self.count(HEAD_LEN.saturating_add(payload.len()));
    }

    fn count(&mut self, bytes: usize) {
        self.sent = self
            .sent
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

/// A record as it came, checked as far as the record itself goes.
#[derive(Debug)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// What is in it.
    pub payload: Vec<u8>,
    /// Bytes of pages behind it, to be read next.
    pub data: u32,
}

/// Reads records.
#[derive(Debug)]
pub struct Receiver<I> {
    input: I,
    sequence: u32,
    received: u64,
    /// There may be filler.
    filled: bool,
}

impl<I: Input> Receiver<I> {
    /// Out of this.
    pub const fn new(input: I) -> Self {
        Receiver {
            input,
            sequence: 0,
            received: 0,
            filled: false,
        }
    }

    /// What it reads out of.
    pub const fn input(&mut self) -> &mut I {
        &mut self.input
    }

    /// Gives that back.
    pub fn into_input(self) -> I {
        self.input
    }

    /// Bytes so far.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Reads the opening.
    ///
    /// # Errors
    /// When it is none, or the stream ends.
    pub fn hello(&mut self) -> Result<Hello, Broken> {
        let mut bytes = [0; HELLO_LEN];
        self.fill(&mut bytes, "hello")?;
        let hello = Hello::decode(&bytes)?;
        self.filled = hello.features.has(Features::FILLED);
        Ok(hello)
    }

    /// Reads the next record that says something.
    ///
    /// # Errors
    /// When it is none, or the stream ends.
    pub fn record(&mut self) -> Result<Record, Broken> {
        loop {
            let record = self.any_record()?;
            match record.kind {
                Kind::Filler if self.filled => {}
                Kind::Filler => return Err(refuse("filler", "kind", "was not announced")),
                _ => return Ok(record),
            }
        }
    }

    fn any_record(&mut self) -> Result<Record, Broken> {
        let mut bytes = [0; HEAD_LEN];
        self.fill(&mut bytes, "record")?;
        let head = Head::decode(&bytes, self.sequence)?;
        self.sequence = self.sequence.wrapping_add(1);
        let len = usize::try_from(head.len).unwrap_or(usize::MAX);
        let mut payload = Vec::new();
        while payload.len() < len {
            let from = payload.len();
            payload.resize(len.min(from.saturating_add(STEP)), 0);
            let part = payload.get_mut(from..).unwrap_or_default();
            self.fill(part, head.kind.name())?;
        }
        head.check(&payload)?;
        Ok(Record {
            kind: head.kind,
            payload,
            data: head.data,
        })
    }

    /// Reads a record that must be of this kind.
    ///
    /// # Errors
    /// When it is another, or none, or the stream ends.
    pub fn expect(&mut self, kind: Kind) -> Result<Vec<u8>, Broken> {
        let record = self.record()?;
        match record.kind == kind {
            true => Ok(record.payload),
            false => Err(misplaced(record.kind, kind.name())),
        }
    }

    /// Reads pages behind a record.
    ///
    /// # Errors
    /// When the stream ends.
    pub fn pages(&mut self, data: &[Span]) -> Result<(), Broken> {
        for span in data {
            self.count(span.len());
        }
        match data.is_empty() || self.input.read_pages(data)? {
            true => Ok(()),
            false => Err(ended("pages")),
        }
    }

    /// Reads packed pages behind a record.
    ///
    /// # Errors
    /// When the stream ends.
    pub fn packed(&mut self, len: u32) -> Result<Vec<u8>, Broken> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        self.fill(&mut bytes, "pages")?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<(), Broken> {
        self.count(bytes.len());
        match self.input.read(bytes)? {
            true => Ok(()),
            false => Err(ended(what)),
        }
    }

    fn count(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.received = self.received.saturating_add(bytes);
    }
}

/// A record where another one must be.
pub fn misplaced(found: Kind, wanted: &str) -> Broken {
    let text = format!("is out of place, '{wanted}' was expected");
    refuse(found.name(), "kind", &text)
}

fn ended(what: &str) -> Broken {
    Broken::Failed(format!(
        "Migration stream: it ended too early, in record '{what}'"
    ))
}
