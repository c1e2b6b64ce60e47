//! Saved state of the disk beyond the transport's.

use block::WriteCache;
use serde::{Deserialize, Serialize};
use vmstate::{Snapshot, StateError};

use super::Blk;

/// The disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlkV1 {
    /// Writes are durable when they are done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub write_through: bool,
}

impl Snapshot for Blk {
    type State = BlkV1;
    const ID: &'static str = "virtio-blk";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let Blk {
            disk: _,
            node,
            failures: _,
            watcher: _,
            // Of this process's life.
            seen: _,
        } = self;
        BlkV1 {
            write_through: node.write_cache() == WriteCache::Through,
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let BlkV1 { write_through } = state;
        self.node.set_write_cache(super::cache(!write_through));
        self.seen = Some(self.node.info().size);
        Ok(())
    }
}
