//! Placeholder.

/// Replaced by the block layer.
pub trait BlockNode: Send + Sync {}
