//! What image formats offer beyond their bytes.

use std::io;

use crate::buffers::Buffers;
use crate::error::BlockError;

/// What an image says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageView {
    /// Bytes of a cluster.
    pub cluster_size: Option<u64>,
    /// The name of the backing file, as it is written in the image.
    pub backing_file: Option<String>,
    /// The backing file's format, as it is written in the image.
    pub backing_format: Option<String>,
    /// It was not closed cleanly.
    pub dirty: bool,
    /// Whether its clusters are compressed (of formats that compress as a whole).
    pub compressed: bool,
    /// Facts of the format alone.
    pub specific: Option<Specific>,
}

/// Facts of one format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Specific {
    /// qcow2.
    Qcow2(Qcow2View),
    /// vmdk.
    Vmdk(VmdkView),
}

/// Facts of a qcow2 image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qcow2View {
    /// `0.10` for version 2, `1.1` for version 3.
    pub compat: &'static str,
    /// The external data file, as it is written in the image.
    pub data_file: Option<String>,
    /// The data file can be read as a raw image.
    pub data_file_raw: bool,
    /// Refcounts are brought up to date only when the image is closed.
    pub lazy_refcounts: bool,
    /// Bits of a refcount.
    pub refcount_bits: u32,
    /// The image is damaged and only read.
    pub corrupt: bool,
    /// L2 entries have subclusters.
    pub extended_l2: bool,
    /// `zlib` or `zstd`.
    pub compression: &'static str,
    /// Names of its persistent dirty bitmaps, with their granularity in bytes.
    pub bitmaps: Vec<(String, u64)>,
}

/// Facts of a vmdk image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmdkView {
    /// `monolithicSparse` and so on.
    pub create_type: String,
    /// The content id.
    pub cid: u32,
    /// The parent's content id.
    pub parent_cid: u32,
    /// Files, sizes in bytes and kinds.
    pub extents: Vec<(String, u64, &'static str)>,
}

/// How far a check mends what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Only look.
    No,
    /// Give leaked clusters back.
    Leaks,
    /// And correct what is wrong.
    All,
}

/// What a check found. Counts of clusters, as `qemu-img check` has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Errors of the check itself.
    pub check_errors: u64,
    /// Where the last used byte of the file ends.
    pub image_end_offset: Option<u64>,
    /// Damage that is there (after mending).
    pub corruptions: u64,
    /// Clusters that are allocated and not used.
    pub leaks: u64,
    /// Damage that was mended.
    pub corruptions_fixed: u64,
    /// Leaks that were mended.
    pub leaks_fixed: u64,
    /// Clusters of the disk.
    pub total_clusters: Option<u64>,
    /// Of them with data.
    pub allocated_clusters: Option<u64>,
    /// Of these not where they would follow each other.
    pub fragmented_clusters: Option<u64>,
    /// Of these compressed.
    pub compressed_clusters: Option<u64>,
    /// What was found, for people.
    pub messages: Vec<String>,
}

/// An internal snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotView {
    /// Its id, a number in text; given by the image for a new one.
    pub id: String,
    /// Its name (tag).
    pub name: String,
    /// Bytes of machine state in it.
    pub vm_state_size: u64,
    /// When it was made: seconds of the epoch.
    pub date_sec: u32,
    /// And nanoseconds.
    pub date_nsec: u32,
    /// The guest's clock in nanoseconds.
    pub vm_clock_nsec: u64,
    /// Instructions counted, where the machine counted them.
    pub icount: Option<u64>,
    /// Bytes of the disk then.
    pub disk_size: Option<u64>,
}

/// An image format's own face. Blocking, for worker threads; called while nothing is in flight on
/// the node (drained), and one at a time.
pub trait Image: Send + Sync {
    /// What it says of itself; at once, any thread, at any time.
    fn view(&self) -> ImageView;

    /// Looks for damage and mends it as far as `repair` says. An image that is only read may be
    /// read meanwhile.
    ///
    /// # Errors
    /// When the format has no check, or the image cannot be read or written.
    fn check(&self, repair: Repair) -> Result<CheckReport, BlockError>;

    /// Writes another backing file into the image; the node's own backing node stays. `None`
    /// takes it away.
    ///
    /// # Errors
    /// When the format has none, or the name does not fit.
    fn change_backing(&self, file: Option<&str>, format: Option<&str>) -> Result<(), BlockError>;

    /// Its internal snapshots; `None` when the format has none.
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        None
    }

    /// Writes out all it still holds and marks the image as closed; nothing is written
    /// afterwards until [`Self::reopen`].
    ///
    /// # Errors
    /// When something could not be written; the image is then left marked as it was.
    fn close(&self) -> Result<(), BlockError>;

    /// Goes on after [`Self::close`], reading anew what may have changed, for writing or not.
    ///
    /// # Errors
    /// When the image cannot be read.
    fn reopen(&self, read_only: bool) -> Result<(), BlockError>;
}

/// Internal snapshots of an image. As [`Image`].
pub trait Snapshots: Send + Sync {
    /// All, oldest first; at once, any thread, at any time.
    fn list(&self) -> Vec<SnapshotView>;

    /// Keeps the present content under `view.name`; gives the id. The other facts are stored.
    ///
    /// # Errors
    /// When the image is full or cannot be written; it is then as before.
    fn create(&self, view: &SnapshotView) -> Result<String, BlockError>;

    /// Goes back to the snapshot with that id. The machine's state that came with it stays with it
    /// alone.
    ///
    /// # Errors
    /// When there is none, or the image cannot be written; it is then as before.
    fn apply(&self, id: &str) -> Result<(), BlockError>;

    /// Forgets the snapshot with that id.
    ///
    /// # Errors
    /// When there is none, or the image cannot be written; at worst clusters leak.
    fn delete(&self, id: &str) -> Result<(), BlockError>;

    /// Writes the machine's state that the next snapshot is to have, from `offset` in it on. It is
    /// stored beside the disk. Pieces that begin and end with clusters are written as they are.
    ///
    /// # Errors
    /// When the image has no room for it, or cannot be written.
    fn write_vm_state(&self, offset: u64, data: &Buffers) -> Result<(), BlockError>;

    /// Gives back what was written for a snapshot that there will not be.
    ///
    /// # Errors
    /// When the image cannot be written; clusters stay in use then.
    fn drop_vm_state(&self) -> Result<(), BlockError>;

    /// Reads the machine's state of the snapshot with that id, from its beginning. The snapshot has
    /// to stay meanwhile; the disk may change.
    ///
    /// # Errors
    /// When there is none, or the image cannot be read.
    fn read_vm_state(&self, id: &str) -> Result<Box<dyn io::Read + '_>, BlockError>;
}
