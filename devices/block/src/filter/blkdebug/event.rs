//! What nodes above a fault-injecting node tell it about.

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Something that a node is about to do to the one below; QEMU's names. Those are here that
        /// somebody tells of: raw its data, qcow2 its tables, the node itself its requests.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Event {
            $($(#[$doc])* $variant,)+
        }

        impl Event {
            /// All of them.
            pub const ALL: &'static [Event] = &[$(Event::$variant,)+];

            /// Its name in options.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Event::$variant => $name,)+
                }
            }

            /// The event of that name.
            pub fn by_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|event| event.name() == name)
            }
        }
    };
}

events! {
    /// Nothing: rules for it hold from the start.
    None = "none",
    /// An entry of the table of tables is written.
    L1Update = "l1_update",
    /// A table is read.
    L2Load = "l2_load",
    /// An entry of a table is written.
    L2Update = "l2_update",
    /// A table that is shared is read to be copied.
    L2AllocCowRead = "l2_alloc_cow_read",
    /// A new table is written.
    L2AllocWrite = "l2_alloc_write",
    /// Data is read.
    ReadAio = "read_aio",
    /// Data is written.
    WriteAio = "write_aio",
    /// Data around a write is read.
    CowRead = "cow_read",
    /// An entry of the table of refcount blocks is written.
    ReftableUpdate = "reftable_update",
    /// A refcount block is read.
    RefblockLoad = "refblock_load",
    /// Part of a refcount block is written.
    RefblockUpdatePart = "refblock_update_part",
    /// Space for a refcount block is taken.
    RefblockAlloc = "refblock_alloc",
    /// New refcount blocks are written.
    RefblockAllocWriteBlocks = "refblock_alloc_write_blocks",
    /// A new table of refcount blocks is written.
    RefblockAllocWriteTable = "refblock_alloc_write_table",
    /// The image goes over to it.
    RefblockAllocSwitchTable = "refblock_alloc_switch_table",
    /// Clusters are taken.
    ClusterAlloc = "cluster_alloc",
    /// Clusters are freed.
    ClusterFree = "cluster_free",
    /// The node gets a flush.
    FlushToOs = "flush_to_os",
    /// It passes it on.
    FlushToDisk = "flush_to_disk",
    /// The node gets a write.
    Pwritev = "pwritev",
    /// The node gets a request for zeroes.
    PwritevZero = "pwritev_zero",
    /// A write of the node has ended.
    PwritevDone = "pwritev_done",
}
