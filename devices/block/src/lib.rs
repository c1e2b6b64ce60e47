//! The block layer: nodes with numbered bytes, lanes into them, the graph they form.
//!
//! A node ([`BlockNode`]) is a file, a device of the host, a format or a filter over another node.
//! A thread that does I/O owns a lane ([`IoLane`]): it submits requests with memory and gets both
//! back when they have ended. The [`Graph`] knows all nodes by name, who uses which, and what its
//! users allow each other; on files that holds against other programs too, by QEMU's image locks.
//!
//! Formats, filters, jobs and exports are added as further drivers in `graph::open`; they see
//! only the two traits.

mod buffers;
mod drain;
mod edge;
mod engine;
mod error;
mod file;
mod format;
mod gate;
mod graph;
mod image;
mod node;
mod notice;
mod null;
mod pool;
mod port;
mod raw;
mod request;
mod stats;
mod sys;
mod timers;
mod waker;

pub use buffers::{Buffers, HostBuffer, IoPart, Keeper};
pub use error::BlockError;
pub use file::{Aio, FileKind, FileOpener, FileSpec, Locking};
pub use format::qcow2::{
    Compat as Qcow2Compat, CompressionKind as Qcow2Compression, Preallocation, Qcow2Create,
    check as check_qcow2, create as create_qcow2,
};
pub use gate::{DetectZeroes, Discard};
pub use graph::{
    AttachOptions, Attachment, BackendView, BackingSpec, ChildSpec, Drained, DriveOptions,
    DriverSpec, FormatKind, FormatSpec, Graph, NodeSpec, NodeView, OverlapCheck, Perm, Perms,
    Qcow2Options, Removed, Role, Sharing, WriteCache,
};
pub use image::{
    CheckReport, Image, ImageView, Qcow2View, Repair, SnapshotView, Snapshots, Specific, VmdkView,
};
pub use node::{BlockNode, Extent, ExtentKind, IoLane, NodeExt, NodeInfo, SECTOR};
pub use notice::{Notice, NoticeSink};
pub use null::NullSpec;
pub use pool::{DEFAULT_MOST, Pool, Spawner, ThreadBody};
pub use raw::RawWindow;
pub use request::{Done, Durability, IoReq, Op, Token, Unmap};
pub use stats::{Account, Counts, Stats};
pub use waker::Waker;
