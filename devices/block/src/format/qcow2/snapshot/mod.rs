//! Internal snapshots.

pub(super) mod table;
