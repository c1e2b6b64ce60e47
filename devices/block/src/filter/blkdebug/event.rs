//! What nodes above a fault-injecting node tell it about.

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Something that a node is about to do to the one below; QEMU's names.
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
    /// A format's table of tables grows: space for the new one.
    L1GrowAllocTable = "l1_grow_alloc_table",
    /// It is written.
    L1GrowWriteTable = "l1_grow_write_table",
    /// The image goes over to it.
    L1GrowActivateTable = "l1_grow_activate_table",
    /// An entry of the table of tables is written.
    L1Update = "l1_update",
    /// The table of tables is emptied.
    L1ShrinkWriteTable = "l1_shrink_write_table",
    /// Tables that it named are freed.
    L1ShrinkFreeL2Clusters = "l1_shrink_free_l2_clusters",
    /// A table is read.
    L2Load = "l2_load",
    /// An entry of a table is written.
    L2Update = "l2_update",
    /// A compressed cluster's entry is written.
    L2UpdateCompressed = "l2_update_compressed",
    /// The table that is copied is read.
    L2AllocCowRead = "l2_alloc_cow_read",
    /// A new table is written.
    L2AllocWrite = "l2_alloc_write",
    /// Data is read.
    ReadAio = "read_aio",
    /// Data is read from the backing file.
    ReadBackingAio = "read_backing_aio",
    /// Compressed data is read.
    ReadCompressed = "read_compressed",
    /// Data is written.
    WriteAio = "write_aio",
    /// Compressed data is written.
    WriteCompressed = "write_compressed",
    /// Data around a write is read.
    CowRead = "cow_read",
    /// It is written.
    CowWrite = "cow_write",
    /// The table of refcount blocks is read.
    ReftableLoad = "reftable_load",
    /// It grows.
    ReftableGrow = "reftable_grow",
    /// An entry of it is written.
    ReftableUpdate = "reftable_update",
    /// A refcount block is read.
    RefblockLoad = "refblock_load",
    /// It is written.
    RefblockUpdate = "refblock_update",
    /// Part of it is written.
    RefblockUpdatePart = "refblock_update_part",
    /// Space for a refcount block is taken.
    RefblockAlloc = "refblock_alloc",
    /// It is named in the table.
    RefblockAllocHookup = "refblock_alloc_hookup",
    /// It is written.
    RefblockAllocWrite = "refblock_alloc_write",
    /// New blocks are written.
    RefblockAllocWriteBlocks = "refblock_alloc_write_blocks",
    /// A new table is written.
    RefblockAllocWriteTable = "refblock_alloc_write_table",
    /// The image goes over to it.
    RefblockAllocSwitchTable = "refblock_alloc_switch_table",
    /// Clusters are taken.
    ClusterAlloc = "cluster_alloc",
    /// Bytes of a cluster are taken.
    ClusterAllocBytes = "cluster_alloc_bytes",
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
    /// An image is about to be emptied.
    EmptyImagePrepare = "empty_image_prepare",
}
