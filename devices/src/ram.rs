//! Guest RAM as device models see it.

use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use crate::written::Written;

/// All RAM regions of the guest, each with a dirty bitmap for migration.
pub type GuestRam = GuestMemoryMmap<Written>;

/// A cheap, cloneable handle on the RAM in force; load it once per batch of requests.
pub type RamHandle = GuestMemoryAtomic<GuestRam>;
