//! What nodes notice on their own, for events.

use std::sync::Arc;

/// Something to tell clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A format found its image damaged (BLOCK_IMAGE_CORRUPTED).
    ImageCorrupted {
        /// The node's name.
        node: String,
        /// What is wrong.
        message: String,
        /// Where the access would have gone.
        offset: Option<u64>,
        /// Its bytes.
        size: Option<u64>,
        /// The image cannot be used any more.
        fatal: bool,
    },
    /// A write reached beyond a node's threshold (BLOCK_WRITE_THRESHOLD).
    WriteThreshold {
        /// The node's name.
        node: String,
        /// Where the threshold was, in bytes.
        threshold: u64,
        /// How far the write went beyond it, in bytes.
        amount: u64,
    },
}

/// Takes notices, on any thread, at once, without taking locks of the block layer.
pub type NoticeSink = Arc<dyn Fn(Notice) + Send + Sync>;

/// A node's way to tell.
#[derive(Clone)]
pub(crate) struct Reporter {
    pub node: Arc<str>,
    pub sink: NoticeSink,
}

impl Reporter {
    /// One that tells nobody.
    #[cfg(any(test, feature = "testing"))]
    pub fn silent() -> Self {
        Reporter {
            node: "".into(),
            sink: Arc::new(|notice| log::warn!("{notice:?}")),
        }
    }

    /// Tells of a write beyond the node's threshold.
    pub fn over_threshold(&self, threshold: u64, amount: u64) {
        (self.sink)(Notice::WriteThreshold {
            node: self.node.to_string(),
            threshold,
            amount,
        });
    }

    /// Tells of a damaged image.
    pub fn corrupted(&self, message: String, range: Option<(u64, u64)>, fatal: bool) {
        (self.sink)(Notice::ImageCorrupted {
            node: self.node.to_string(),
            message,
            offset: range.map(|(offset, _)| offset),
            size: range.map(|(_, size)| size),
            fatal,
        });
    }
}
