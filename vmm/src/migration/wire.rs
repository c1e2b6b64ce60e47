//! The stream's own words: the opening, records and what is in them. Pure: bytes in, values out.
//! docs/migration-format.md describes each field.

use api_spec::RunState;
use bulk::crc::Crc;
use vmstate::Section;

use super::host::Broken;
use super::ram::PAGE;
use crate::machine::saved::MachineConfig;

/// What every stream begins with.
pub const MAGIC: [u8; 8] = *b"QVMDSTRM";
/// Of the format; rises only when an older reader cannot read what a newer one writes.
pub const VERSION: u32 = 1;
/// Bytes of a [`Hello`].
pub const HELLO_LEN: usize = 40;
/// Bytes of a record's head.
pub const HEAD_LEN: usize = 20;
/// Most pages with data in one record.
pub const MOST_DATA_PAGES: u64 = 1024;
/// Most blocks of RAM.
pub const MOST_BLOCKS: usize = 1024;
/// Most channels beside the first.
pub const MOST_CHANNELS: u16 = 255;
/// Most runs in one record.
pub const MOST_RUNS: usize = 4096;
/// Most sections of a machine.
pub const MOST_SECTIONS: u32 = 65536;
/// Most bytes of all sections together.
pub const MOST_SECTION_BYTES: u64 = 1 << 30;
/// Nesting that the machine's description may have.
const MOST_NESTING: usize = 32;

/// What a stream makes use of; a reader refuses what it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(u32);

impl Features {
    /// The reader answers.
    pub const ANSWERS: Features = Features(1);
    /// RAM comes on more channels.
    pub const MULTIFD: Features = Features(2);
    /// Pages may be packed.
    pub const ZSTD: Features = Features(4);
    /// Blocks of shared memory are left out.
    pub const IGNORE_SHARED: Features = Features(8);
    /// A snapshot of a machine that stands still.
    pub const STILL: Features = Features(16);
    /// A file in which each page has its place.
    pub const MAPPED: Features = Features(32);
    /// There is filler between records.
    pub const FILLED: Features = Features(64);
    const KNOWN: u32 = 127;

    /// Both.
    #[must_use]
    pub const fn with(self, other: Features, wanted: bool) -> Features {
        if wanted {
            Features(self.0 | other.0)
        } else {
            self
        }
    }

    /// Whether all of `other` are in it.
    pub const fn has(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What opens every channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// What is made use of.
    pub features: Features,
    /// Drawn by lot for each migration; the same on all its channels.
    pub id: [u8; 16],
    /// 0 is the first.
    pub channel: u16,
    /// How many there are beside the first.
    pub channels: u16,
}

impl Hello {
    /// As bytes.
    pub fn encode(&self) -> [u8; HELLO_LEN] {
        let mut out = Out::default();
        out.bytes(&MAGIC).u32(VERSION).u32(self.features.0);
        out.bytes(&self.id).u16(self.channel).u16(self.channels);
        let crc = Crc::of(&out.0);
        out.u32(crc);
        let mut bytes = [0; HELLO_LEN];
        for (to, from) in bytes.iter_mut().zip(&out.0) {
            *to = *from;
        }
        bytes
    }

    /// From bytes.
    ///
    /// # Errors
    /// When it is no stream of ours, one from the future, or damaged.
    pub fn decode(bytes: &[u8; HELLO_LEN]) -> Result<Self, Broken> {
        let mut fields = Fields::new("hello", bytes);
        if fields.array::<8>("magic")? != MAGIC {
            return Err(fields.refuse("magic", "this is not a migration stream of qvmd"));
        }
        let version = fields.u32("version")?;
        if version != VERSION {
            let text = format!("{version} is not supported (supported: {VERSION})");
            return Err(fields.refuse("version", &text));
        }
        let features = fields.u32("features")?;
        let id = fields.array::<16>("id")?;
        let channel = fields.u16("channel")?;
        let channels = fields.u16("channels")?;
        let whole = bytes.split_last_chunk::<4>().map(|(rest, _)| Crc::of(rest));
        if whole != Some(fields.u32("crc")?) {
            return Err(fields.refuse("crc", "does not match"));
        }
        let unknown = features & !Features::KNOWN;
        if unknown != 0 {
            let text = format!("{unknown:#x} are not known to this version");
            return Err(fields.refuse("features", &text));
        }
        if channels > MOST_CHANNELS {
            let text = format!("{channels} are over the limit of {MOST_CHANNELS}");
            return Err(fields.refuse("channels", &text));
        }
        if channel > channels {
            let text = format!("{channel} of {channels}");
            return Err(fields.refuse("channel", &text));
        }
        Ok(Hello {
            features: Features(features),
            id,
            channel,
            channels,
        })
    }
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What the machine is made of.
    Config,
    /// The blocks of RAM.
    Blocks,
    /// Pages of one block.
    Pages,
    /// The end of a pass over RAM.
    Pass,
    /// Answer: all pages up to the end of this pass are in memory.
    Passed,
    /// What the machine was doing, and how many sections follow.
    State,
    /// A device's state.
    Section,
    /// That was all. Where nobody answers it lets the reader run.
    End,
    /// Answer: all is loaded.
    Ready,
    /// The disks are free: run.
    Go,
    /// Answer: it runs.
    Running,
    /// Answer: it will not run.
    Refused,
    /// Which pages are in a file.
    Present,
    /// Nothing: what follows has a better place.
    Filler,
}

impl Kind {
    const ALL: [Kind; 14] = [
        Kind::Config,
        Kind::Blocks,
        Kind::Pages,
        Kind::Pass,
        Kind::Passed,
        Kind::State,
        Kind::Section,
        Kind::End,
        Kind::Ready,
        Kind::Go,
        Kind::Running,
        Kind::Refused,
        Kind::Present,
        Kind::Filler,
    ];

    /// Its four letters.
    pub const fn code(self) -> [u8; 4] {
        *match self {
            Kind::Config => b"CONF",
            Kind::Blocks => b"BLKS",
            Kind::Pages => b"PAGE",
            Kind::Pass => b"PASS",
            Kind::Passed => b"PAST",
            Kind::State => b"STAT",
            Kind::Section => b"SECT",
            Kind::End => b"DONE",
            Kind::Ready => b"REDY",
            Kind::Go => b"GOGO",
            Kind::Running => b"RUNS",
            Kind::Refused => b"NOPE",
            Kind::Present => b"BITS",
            Kind::Filler => b"FILL",
        }
    }

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Config => "config",
            Kind::Blocks => "blocks",
            Kind::Pages => "pages",
            Kind::Pass => "pass",
            Kind::Passed => "passed",
            Kind::State => "state",
            Kind::Section => "section",
            Kind::End => "end",
            Kind::Ready => "ready",
            Kind::Go => "go",
            Kind::Running => "running",
            Kind::Refused => "refused",
            Kind::Present => "present",
            Kind::Filler => "filler",
        }
    }

    /// Most bytes of its payload.
    const fn limit(self) -> u32 {
        match self {
            Kind::Config | Kind::Blocks => 1 << 20,
            Kind::Pages => (MOST_RUNS as u32) * 16 + 8,
            Kind::Pass | Kind::Passed => 4,
            Kind::State => 256,
            Kind::Section => 256 << 20,
            Kind::Refused | Kind::Filler => 4096,
            Kind::Present => (1 << 16) + 16,
            Kind::End | Kind::Ready | Kind::Go | Kind::Running => 0,
        }
    }
}

/// What stands before a record's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub kind: Kind,
    /// Bytes of the payload.
    pub len: u32,
    /// Bytes of pages behind the payload; not in the checksum.
    pub data: u32,
    crc: u32,
    start: [u8; 16],
}

impl Head {
    /// Puts a record into `out`: its head and payload. `data` bytes of pages are to follow.
    pub fn put(out: &mut Vec<u8>, kind: Kind, sequence: u32, payload: &[u8], data: u32) {
        let mut start = Out::default();
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        start.bytes(&kind.code()).u32(sequence).u32(len).u32(data);
        let mut crc = Crc::default();
        crc.add(&start.0);
        crc.add(payload);
        start.u32(crc.value());
        out.extend_from_slice(&start.0);
        out.extend_from_slice(payload);
    }

    /// From bytes; `sequence` is the number that it must have.
    ///
    /// # Errors
    /// When it cannot be a record, is not the next one, or is over its limit.
    pub fn decode(bytes: &[u8; HEAD_LEN], sequence: u32) -> Result<Self, Broken> {
        let mut fields = Fields::new("record", bytes);
        let code = fields.array::<4>("kind")?;
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.code() == code) else {
            let text = format!("'{}' is not known", code.escape_ascii());
            return Err(fields.refuse("kind", &text));
        };
        fields.record = kind.name();
        let found = fields.u32("sequence")?;
        if found != sequence {
            let text = format!("{found} where {sequence} was expected");
            return Err(fields.refuse("sequence", &text));
        }
        let len = fields.u32("len")?;
        if len > kind.limit() {
            let text = format!("{len} is over the limit of {}", kind.limit());
            return Err(fields.refuse("len", &text));
        }
        let data = fields.u32("data")?;
        let most = match kind {
            Kind::Pages => MOST_DATA_PAGES.saturating_mul(PAGE),
            _ => 0,
        };
        if u64::from(data) > most {
            let text = format!("{data} is over the limit of {most}");
            return Err(fields.refuse("data", &text));
        }
        let crc = fields.u32("crc")?;
        let mut start = [0; 16];
        for (to, from) in start.iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(Head {
            kind,
            len,
            data,
            crc,
            start,
        })
    }

    /// Compares the checksum.
    ///
    /// # Errors
    /// When it does not match.
    pub fn check(&self, payload: &[u8]) -> Result<(), Broken> {
        let mut crc = Crc::default();
        crc.add(&self.start);
        crc.add(payload);
        if crc.value() != self.crc {
            return Err(refuse(self.kind.name(), "crc", "does not match"));
        }
        Ok(())
    }
}

/// A block of RAM as the stream names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockEntry {
    /// The backend's id.
    pub name: String,
    /// Bytes.
    pub len: u64,
    /// Not in the stream: both sides map it.
    pub left_out: bool,
    /// Where its pages are in a file, from the stream's beginning; 0 elsewhere.
    pub place: u64,
}

/// Encodes [`Kind::Blocks`].
pub fn put_blocks(blocks: &[BlockEntry]) -> Vec<u8> {
    let mut out = Out::default();
    out.u32(u32::try_from(blocks.len()).unwrap_or(u32::MAX));
    for block in blocks {
        out.text(&block.name).u64(block.len);
        out.u32(u32::from(block.left_out)).u64(block.place);
    }
    out.0
}

/// Decodes [`Kind::Blocks`].
///
/// # Errors
/// By field.
pub fn get_blocks(payload: &[u8]) -> Result<Vec<BlockEntry>, Broken> {
    let mut fields = Fields::new("blocks", payload);
    let count = fields.u32("count")?;
    if usize::try_from(count).is_ok_and(|count| count > MOST_BLOCKS) {
        let text = format!("{count} is over the limit of {MOST_BLOCKS}");
        return Err(fields.refuse("count", &text));
    }
    let mut blocks = Vec::new();
    for _ in 0..count {
        let name = fields.text("name")?;
        let len = fields.u64("len")?;
        let flags = fields.u32("flags")?;
        if flags > 1 {
            return Err(fields.refuse("flags", &format!("{flags:#x} are not known")));
        }
        let place = fields.u64("place")?;
        blocks.push(BlockEntry {
            name,
            len,
            left_out: flags == 1,
            place,
        });
    }
    fields.end()?;
    Ok(blocks)
}

/// Encodes [`Kind::Config`].
///
/// # Errors
/// When it does not fit.
pub fn put_config(config: &MachineConfig) -> Result<Vec<u8>, Broken> {
    let mut out = Vec::new();
    ciborium::into_writer(config, &mut out)
        .map_err(|error| refuse("config", "machine", &error.to_string()))?;
    fits(Kind::Config, &out, || "machine".to_owned())?;
    Ok(out)
}

/// Decodes [`Kind::Config`].
///
/// # Errors
/// By field, as far as CBOR names it.
pub fn get_config(payload: &[u8]) -> Result<MachineConfig, Broken> {
    let mut rest = payload;
    let config = ciborium::de::from_reader_with_recursion_limit(&mut rest, MOST_NESTING)
        .map_err(|error| refuse("config", "machine", &error.to_string()))?;
    if !rest.is_empty() {
        return Err(refuse("config", "machine", "bytes are left over"));
    }
    Ok(config)
}

/// Encodes [`Kind::State`].
pub fn put_state(state: RunState, sections: u32) -> Vec<u8> {
    let mut out = Out::default();
    out.u32(sections).text(state.name());
    out.0
}

/// Decodes [`Kind::State`].
///
/// # Errors
/// By field.
pub fn get_state(payload: &[u8]) -> Result<(RunState, u32), Broken> {
    let mut fields = Fields::new("state", payload);
    let sections = fields.u32("sections")?;
    if sections > MOST_SECTIONS {
        let text = format!("{sections} is over the limit of {MOST_SECTIONS}");
        return Err(fields.refuse("sections", &text));
    }
    let name = fields.text("state")?;
    fields.end()?;
    match RunState::ALL.iter().find(|state| state.name() == name) {
        Some(state) => Ok((*state, sections)),
        None => Err(refuse("state", "state", &format!("'{name}' is not known"))),
    }
}

/// Encodes [`Kind::Section`], in place of what is in `payload`.
///
/// # Errors
/// When it does not fit.
pub fn put_section(section: &Section, payload: &mut Vec<u8>) -> Result<(), Broken> {
    let mut out = Out(std::mem::take(payload));
    out.0.clear();
    out.text(&section.id).text(&section.instance);
    out.u32(section.version).bytes(&section.body);
    *payload = out.0;
    let name = || format!("{} of '{}'", section.id, section.instance);
    fits(Kind::Section, payload, name)
}

/// Decodes [`Kind::Section`].
///
/// # Errors
/// By field.
pub fn get_section(mut payload: Vec<u8>) -> Result<Section, Broken> {
    let mut fields = Fields::new("section", &payload);
    let (id, instance) = (fields.text("id")?, fields.text("instance")?);
    let version = fields.u32("version")?;
    let before = payload.len().saturating_sub(fields.rest.len());
    payload.drain(..before);
    Ok(Section {
        id,
        instance,
        version,
        body: payload,
    })
}

/// Encodes [`Kind::Pass`].
pub fn put_pass(number: u32) -> [u8; 4] {
    number.to_le_bytes()
}

/// Decodes [`Kind::Passed`].
///
/// # Errors
/// When it is cut off.
pub fn get_passed(payload: &[u8]) -> Result<u32, Broken> {
    let mut fields = Fields::new("passed", payload);
    let number = fields.u32("number")?;
    fields.end()?;
    Ok(number)
}

/// Decodes [`Kind::Pass`].
///
/// # Errors
/// When it is not the one expected.
pub fn get_pass(payload: &[u8], expected: u32) -> Result<(), Broken> {
    let mut fields = Fields::new("pass", payload);
    let number = fields.u32("number")?;
    fields.end()?;
    if number == expected {
        return Ok(());
    }
    let text = format!("{number} where {expected} was expected");
    Err(refuse("pass", "number", &text))
}

/// Encodes [`Kind::Refused`].
pub fn put_reason(reason: &str) -> Vec<u8> {
    let mut end = reason.len().min(1024);
    while !reason.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    reason.get(..end).unwrap_or_default().as_bytes().to_vec()
}

/// Decodes [`Kind::Refused`]; control characters are not passed on.
pub fn get_reason(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A refusal by record and field.
pub fn refuse(record: &str, field: &str, reason: &str) -> Broken {
    Broken::Failed(format!(
        "Migration stream: record '{record}', field '{field}': {reason}"
    ))
}

fn fits(kind: Kind, payload: &[u8], field: impl FnOnce() -> String) -> Result<(), Broken> {
    let limit = usize::try_from(kind.limit()).unwrap_or(usize::MAX);
    if payload.len() <= limit {
        return Ok(());
    }
    let text = format!("{} bytes are over the limit of {limit}", payload.len());
    Err(refuse(kind.name(), &field(), &text))
}

/// Fields one after the other, little-endian.
#[derive(Default)]
pub struct Out(pub Vec<u8>);

impl Out {
    /// As they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Two bytes.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Its length in two bytes, and the text; cut at 64 KiB.
    pub fn text(&mut self, text: &str) -> &mut Self {
        let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
        let bytes = text.as_bytes().get(..usize::from(len)).unwrap_or_default();
        self.u16(len).bytes(bytes)
    }
}

/// Takes fields off, little-endian; whatever is wrong is named by record and field.
pub struct Fields<'a> {
    record: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Of this record.
    pub fn new(record: &'static str, bytes: &'a [u8]) -> Self {
        Fields {
            record,
            rest: bytes,
        }
    }

    /// A refusal.
    pub fn refuse(&self, field: &str, reason: &str) -> Broken {
        refuse(self.record, field, reason)
    }

    /// So many bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N], Broken> {
        match self.rest.split_first_chunk::<N>() {
            Some((first, rest)) => {
                self.rest = rest;
                Ok(*first)
            }
            None => Err(self.refuse(field, "is cut off")),
        }
    }

    /// Two bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u16(&mut self, field: &str) -> Result<u16, Broken> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u32(&mut self, field: &str) -> Result<u32, Broken> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u64(&mut self, field: &str) -> Result<u64, Broken> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A text behind its length.
    ///
    /// # Errors
    /// When it is cut off or no UTF-8.
    pub fn text(&mut self, field: &str) -> Result<String, Broken> {
        let len = usize::from(self.u16(field)?);
        let Some((text, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.refuse(field, "is cut off"));
        };
        self.rest = rest;
        match std::str::from_utf8(text) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.refuse(field, "is not UTF-8")),
        }
    }

    /// What was not taken.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// There must be no more.
    ///
    /// # Errors
    /// When there is.
    pub fn end(&self) -> Result<(), Broken> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let text = format!("{} bytes too many", self.rest.len());
        Err(self.refuse("len", &text))
    }
}

#[cfg(test)]
#[path = "wire_test.rs"]
mod tests;
