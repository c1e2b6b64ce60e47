//! What every reader of a stream does: compare the machine, put pages where they belong, gather
//! the sections.

use api_spec::RunState;
use bulk::zstd;
use vmstate::Section;

use super::host::{Broken, Stopped};
use super::link::Input;
use super::pages::{Codec, Pages, clear, data_spans};
use super::ram::{PageSet, RamView};
use super::records::{Receiver, Record, misplaced};
use super::untouched::Ground;
use super::wire::{
    BlockEntry, Features, Kind, MOST_SECTION_BYTES, get_blocks, get_config, get_section, get_state,
    refuse,
};
use crate::machine::saved::MachineConfig;

/// Where pages go. Cheap to clone: each channel has its own.
#[derive(Debug, Clone)]
pub struct Place {
    view: RamView,
    entries: Vec<BlockEntry>,
    grounds: Vec<Ground>,
    zstd: bool,
    seen: Vec<PageSet>,
}

impl Place {
    /// Reads what the machine and its RAM are, and compares: `check` the one, we the other.
    ///
    /// # Errors
    /// What differs.
    pub fn read<I: Input>(
        receiver: &mut Receiver<I>,
        features: Features,
        view: &RamView,
        check: &mut dyn FnMut(&MachineConfig) -> Result<(), String>,
    ) -> Result<Self, Broken> {
        let config = get_config(&receiver.expect(Kind::Config)?)?;
        check(&config).map_err(Broken::Failed)?;
        let entries = get_blocks(&receiver.expect(Kind::Blocks)?)?;
        Place::new(entries, features, view)
    }

    /// For these blocks.
    ///
    /// # Errors
    /// Where ours differ.
    pub fn new(
        entries: Vec<BlockEntry>,
        features: Features,
        view: &RamView,
    ) -> Result<Self, Broken> {
        compare(&entries, features, view)?;
        Ok(Place {
            grounds: view.blocks.iter().map(Ground::of).collect(),
            seen: empty_sets(view),
            view: view.clone(),
            entries,
            zstd: features.has(Features::ZSTD),
        })
    }

    /// The blocks, as the stream names them.
    pub fn entries(&self) -> &[BlockEntry] {
        &self.entries
    }

    /// Reads the pages that belong to this record, to where they belong.
    ///
    /// # Errors
    /// When the record is not right, or the stream ends.
    pub fn take<I: Input>(
        &mut self,
        receiver: &mut Receiver<I>,
        record: &Record,
    ) -> Result<(), Broken> {
        let pages = Pages::decode(&record.payload, record.data, &self.entries, self.zstd)?;
        let Some(block) = self.view.blocks.get(pages.block) else {
            return Err(refuse("pages", "block", "is not there"));
        };
        let spans = data_spans(block, &pages.runs);
        match pages.codec {
            Codec::Plain => receiver.pages(&spans)?,
            Codec::Zstd => {
                let packed = receiver.packed(record.data)?;
                let len = usize::try_from(pages.data_len()).unwrap_or(0);
                let Some(plain) = zstd::unpack(&packed, len) else {
                    return Err(refuse("pages", "data", "is not zstd of these pages"));
                };
                let mut rest = plain.as_slice();
                for span in &spans {
                    rest = span.fill_from(rest).unwrap_or_default();
                }
            }
        }
        if let Some(ground) = self.grounds.get(pages.block) {
            for run in pages.runs.iter().filter(|run| run.zero) {
                clear(block, ground, run);
            }
        }
        if let Some(seen) = self.seen.get_mut(pages.block) {
            for run in &pages.runs {
                seen.insert_run(run.first, u64::from(run.count));
            }
        }
        Ok(())
    }

    /// What another channel took counts, too.
    pub fn merge(&mut self, other: &Place) {
        for (own, other) in self.seen.iter_mut().zip(&other.seen) {
            own.insert_words(0, other.words());
        }
    }

    /// Whether every page came at least once.
    ///
    /// # Errors
    /// With the first that did not.
    pub fn check_complete(&self) -> Result<(), Broken> {
        for (entry, seen) in self.entries.iter().zip(&self.seen) {
            if !entry.left_out && seen.count() != seen.pages() {
                let text = format!(
                    "{} pages of '{}' never came",
                    seen.pages().saturating_sub(seen.count()),
                    entry.name
                );
                return Err(refuse("pages", "first", &text));
            }
        }
        Ok(())
    }
}

/// Reads the sections that a state record, already read, announces, and the end behind them.
///
/// # Errors
/// By record and field.
pub fn read_sections<I: Input>(
    receiver: &mut Receiver<I>,
    state: &[u8],
) -> Result<Stopped, Broken> {
    let (state, count): (RunState, u32) = get_state(state)?;
    let mut sections: Vec<Section> = Vec::new();
    let mut bytes = 0u64;
    for _ in 0..count {
        let payload = receiver.expect(Kind::Section)?;
        bytes = bytes.saturating_add(u64::try_from(payload.len()).unwrap_or(u64::MAX));
        if bytes > MOST_SECTION_BYTES {
            let text = format!("all together are over the limit of {MOST_SECTION_BYTES}");
            return Err(refuse("section", "len", &text));
        }
        sections.push(get_section(payload)?);
    }
    receiver.expect(Kind::End)?;
    Ok(Stopped { state, sections })
}

/// Reads the records of RAM of one channel, to the state record's payload. `passed` hears of the
/// end of each pass.
///
/// # Errors
/// By record and field, and those of `passed`.
pub fn read_ram<I: Input>(
    receiver: &mut Receiver<I>,
    place: &mut Place,
    mut passed: impl FnMut(&mut I, u32) -> Result<(), Broken>,
) -> Result<Vec<u8>, Broken> {
    let mut pass = 1;
    loop {
        let record = receiver.record()?;
        match record.kind {
            Kind::Pages => place.take(receiver, &record)?,
            Kind::Pass => {
                super::wire::get_pass(&record.payload, pass)?;
                passed(receiver.input(), pass)?;
                pass = pass.saturating_add(1);
            }
            Kind::State => return Ok(record.payload),
            other => return Err(misplaced(other, "pages, pass or state")),
        }
    }
}

/// No page of any block.
pub fn empty_sets(view: &RamView) -> Vec<PageSet> {
    let none = |block: &super::ram::RamBlock| PageSet::none(block.pages());
    view.blocks.iter().map(none).collect()
}

fn compare(entries: &[BlockEntry], features: Features, view: &RamView) -> Result<(), Broken> {
    if entries.len() != view.blocks.len() {
        let text = format!(
            "{} where this machine has {}",
            entries.len(),
            view.blocks.len()
        );
        return Err(refuse("blocks", "count", &text));
    }
    for (entry, block) in entries.iter().zip(&view.blocks) {
        let own = &block.name;
        if entry.name != *own {
            let text = format!("'{}' where this machine has '{own}'", entry.name);
            return Err(refuse("blocks", "name", &text));
        }
        if entry.len != block.len {
            let text = format!(
                "{:#x} of '{own}' where this machine has {:#x}",
                entry.len, block.len
            );
            return Err(refuse("blocks", "len", &text));
        }
        if entry.left_out && !features.has(Features::IGNORE_SHARED) {
            let text = format!("'{own}' is left out, and 'x-ignore-shared' is off");
            return Err(refuse("blocks", "flags", &text));
        }
        if entry.left_out && !(block.shared && block.file.is_some()) {
            let text = format!("'{own}' is left out, and is not shared memory here");
            return Err(refuse("blocks", "flags", &text));
        }
    }
    Ok(())
}
