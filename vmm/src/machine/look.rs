//! The machine as dumps and people see it: processors and memory at one moment.

use super::{Machine, RamBackend};
use crate::dump::guest::{GuestMemory, GuestRange};
use crate::vcpu::view::CpuView;

impl Machine {
    /// One processor. Takes it out of the guest for a moment.
    ///
    /// # Errors
    /// When it is not there or does not come out of the guest.
    pub fn cpu(&self, index: usize) -> Result<CpuView, String> {
        self.vcpus.view(index)
    }

    /// All processors.
    ///
    /// # Errors
    /// When one does not come out of the guest.
    pub fn cpu_views(&self) -> Result<Vec<CpuView>, String> {
        (0..self.cpu_count()).map(|index| self.cpu(index)).collect()
    }

    /// RAM by guest physical address.
    pub fn guest_memory(&self) -> GuestMemory {
        let mut offset = 0u64;
        let mut ranges = Vec::new();
        for window in self.ram.layout.ranges() {
            let block = match &self.ram_backend {
                RamBackend::Own(backend) => backend.block(),
                RamBackend::Object(backend) => backend.block(),
            };
            ranges.extend(GuestRange::new(window.base, window.len, block, offset));
            offset = offset.saturating_add(window.len);
        }
        GuestMemory::new(ranges)
    }
}
