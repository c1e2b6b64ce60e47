//! Guest RAM as device models see it.

use vm_memory::bitmap::AtomicBitmap;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

/// All RAM regions of the guest, each with a dirty bitmap for migration.
pub type GuestRam = GuestMemoryMmap<AtomicBitmap>;

/// A cheap, cloneable handle on the RAM in force; load it once per batch of requests.
pub type RamHandle = GuestMemoryAtomic<GuestRam>;
