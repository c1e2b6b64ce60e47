//! Which pages of RAM were written: by processors (the accelerator's log), by devices in this
//! process (vm-memory's bitmaps), by the kernel and other processes (a bitmap shared with them).

mod shared;

use std::io;
use std::sync::Arc;

use devices::ram::RamHandle;
use devices::vhost::Writers;
use vm_memory::{GuestAddressSpace, GuestMemoryBackend, GuestMemoryRegion};

use super::Machine;
use crate::accel::SlotLog;
use crate::layout::RamLayout;
use crate::migration::ram::{DirtyLog, PAGE, PageSet, RamBlock};
pub use shared::Foreign;

impl Machine {
    /// The log of written pages, one set for each block of [`Machine::ram_view`].
    pub fn dirty_log(&self) -> Box<dyn DirtyLog> {
        Box::new(MachineLog {
            slots: self.accel.dirty_log(),
            ram: self.ram.handle.clone(),
            blocks: self.ram_view().blocks,
            foreign: self.foreign.clone(),
            writers: self.writers.clone(),
            layout: self.ram.layout,
            on: false,
        })
    }

    /// Holds processors back by so many percent of their time, at most 99; 0 ends it.
    pub fn throttle(&self, percent: u8) {
        self.vcpus.throttle(percent);
    }
}

struct MachineLog {
    slots: Option<Arc<dyn SlotLog>>,
    ram: RamHandle,
    blocks: Vec<RamBlock>,
    foreign: Foreign,
    writers: Writers,
    layout: RamLayout,
    on: bool,
}

impl DirtyLog for MachineLog {
    fn start(&mut self) -> io::Result<()> {
        if let Some(slots) = &self.slots {
            slots.start()?;
        }
        self.on = true;
        for region in self.ram.memory().iter() {
            (**region).bitmap().reset();
        }
        self.foreign.forget();
        self.writers.set_log(Some(self.foreign.log(self.layout)?))
    }

    fn collect(&mut self, sets: &mut [PageSet]) -> io::Result<()> {
        let mut marks = Marks {
            blocks: &self.blocks,
            sets,
        };
        if let Some(slots) = &self.slots {
            slots.collect(&mut |host, words| marks.add(host, words))?;
        }
        let memory = self.ram.memory();
        for region in memory.iter() {
            let base = region.as_ptr() as u64;
            let found = |index: usize, word| marks.add(word_at(base, index), &[word]);
            (**region).bitmap().take(found);
        }
        // The same places once more, by guest address.
        for range in self.layout.ranges() {
            let region = memory.find_region(vm_memory::GuestAddress(range.base));
            if let Some(region) = region {
                let base = region.as_ptr() as u64;
                let found = |index: usize, word| marks.add(word_at(base, index), &[word]);
                self.foreign.take(range.base, region.len(), found);
            }
        }
        Ok(())
    }

    fn stop(&mut self) {
        if let Some(slots) = self.slots.as_ref().filter(|_| self.on) {
            slots.stop();
        }
        if self.on
            && let Err(error) = self.writers.set_log(None)
        {
            log::warn!("A log of written pages cannot be ended: {error}");
        }
        self.on = false;
    }
}

impl Drop for MachineLog {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where the pages of that word of a bitmap are whose first page is at `base`.
fn word_at(base: u64, index: usize) -> u64 {
    let pages = u64::try_from(index).unwrap_or(u64::MAX).saturating_mul(64);
    base.saturating_add(pages.saturating_mul(PAGE))
}

/// Sets of pages, found by address.
struct Marks<'a> {
    blocks: &'a [RamBlock],
    sets: &'a mut [PageSet],
}

impl Marks<'_> {
    /// Adds a bitmap whose first bit is the page at this address of this process.
    fn add(&mut self, host: u64, words: &[u64]) {
        let holds =
            |block: &RamBlock| (block.host..block.host.saturating_add(block.len)).contains(&host);
        let Some(at) = self.blocks.iter().position(holds) else {
            return;
        };
        let (Some(block), Some(set)) = (self.blocks.get(at), self.sets.get_mut(at)) else {
            return;
        };
        let first = host.saturating_sub(block.host) / PAGE;
        let shift = first % 64;
        if shift == 0 {
            set.insert_words(first, words);
            return;
        }
        let mut carry = 0;
        let mut moved = Vec::with_capacity(words.len().saturating_add(1));
        for word in words {
            moved.push(word << shift | carry);
            carry = word >> (64 - shift);
        }
        moved.push(carry);
        set.insert_words(first - shift, &moved);
    }
}

#[cfg(test)]
#[path = "dirty_test.rs"]
mod tests;
