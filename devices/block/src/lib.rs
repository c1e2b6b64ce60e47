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
mod filter;
mod format;
mod gate;
mod graph;
mod histogram;
mod image;
mod node;
mod notice;
mod null;
mod on_error;
mod pool;
mod port;
mod raw;
mod request;
mod stats;
mod sys;
mod telling;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // for tests alone
pub mod testing;
mod threshold;
mod throttle;
mod timers;
mod waker;

pub use buffers::{Buffers, HostBuffer, IoPart, Keeper};
pub use error::BlockError;
pub use file::{Aio, FileCreate, FileKind, FileOpener, FileSpec, Locking, NewFile, Preallocation};
pub use filter::{BlkdebugSpec, Event, InjectError, IoType, SetState};
pub use format::qcow2::{
    Compat as Qcow2Compat, CompressionKind as Qcow2Compression, Qcow2Create, check as check_qcow2,
    create as create_qcow2, create_while as create_qcow2_while,
};
pub use format::{QedCreate, create_qed};
pub use gate::{DetectZeroes, Discard};
pub use graph::{
    AttachOptions, Attachment, BackendName, BackendView, BackingSpec, Changes, ChildSpec, Drained,
    DriveOptions, DriverSpec, FormatKind, FormatSpec, Graph, Habits, Hold, MediaDevice, NodeSpec,
    NodeView, OverlapCheck, OverlapFlags, Perm, Perms, Qcow2Options, Removed, Role, Sharing,
    SizeWatcher, Slot, SnapshotDisk, TrayLocked, TrayView, WriteCache, without_backing,
};
pub use histogram::Histogram;
pub use image::{
    CheckReport, Image, ImageView, Qcow2View, Repair, SnapshotView, Snapshots, Specific, VmdkView,
};
pub use node::{Activity, BlockNode, Extent, ExtentKind, IoLane, NodeExt, NodeInfo, SECTOR};
pub use notice::{Notice, NoticeSink};
pub use null::NullSpec;
pub use on_error::{ErrorAction, ErrorPolicy, Failed, IoStatus, OnError, is_no_space};
pub use pool::{DEFAULT_MOST, Pool, Spawner, ThreadBody};
pub use raw::RawWindow;
pub use request::{Done, Durability, IoReq, Op, Token, Unmap};
pub use stats::{Account, Counts, Stats};
pub use throttle::{Limits, Measure, Rate, ThrottleGroup};
pub use waker::Waker;
