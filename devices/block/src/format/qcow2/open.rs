//! Opening an image.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::Qcow2;
use super::alloc::Work;
use super::cache::{Cache, Map, Set};
use super::geometry::Geometry;
use super::header::{FIRST, Header, incompatible};
use super::io::read as read_below;
use super::meta::{Frees, Meta};
use super::snapshot::table::Table;
use crate::error::BlockError;
use crate::format::{FormatNode, Linked, OpenFormat};
use crate::graph::Qcow2Options;
use crate::node::{Activity, BlockNode, SECTOR};

/// What the image in `storage` says is below it.
///
/// # Errors
/// When it is no qcow2 image, damaged, or of a kind that is not understood.
pub(in crate::format) fn linked(storage: &dyn BlockNode) -> Result<Linked, BlockError> {
    let header = read_header(&mut |offset, bytes| read_node(storage, offset, bytes))?;
    let external = header.has(incompatible::DATA_FILE);
    Ok(Linked {
        backing: header
            .backing_file
            .clone()
            .map(|file| (file, header.backing_format())),
        data_file: header.data_file().filter(|_| external),
        extents: Vec::new(),
    })
}

/// Opens an image.
///
/// # Errors
/// When it is no qcow2 image, damaged, of a kind that is not understood, or the options do not go
/// with it.
pub(in crate::format) fn open(with: OpenFormat) -> Result<Arc<dyn BlockNode>, BlockError> {
    let pool = with.pool.clone();
    let image = Qcow2::open(with)?;
    Ok(Arc::new(FormatNode::new(image, &pool)))
}

type Reader<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>;

fn read_node(node: &dyn BlockNode, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
    use crate::node::NodeExt;
    let size = node.info().size;
    let len = (bytes.len() as u64).min(size.saturating_sub(offset));
    // What is behind the end are zeroes.
    let there = bytes.get_mut(..len as usize).unwrap_or(&mut []);
    let granule = u64::from(node.info().granule.max(1));
    let whole = (there.len() as u64).next_multiple_of(granule).min(size) as usize;
    let mut own = vec![0; whole];
    node.read_at(offset, &mut own)?;
    let count = there.len();
    there.copy_from_slice(own.get(..count).unwrap_or(&[]));
    Ok(())
}

fn read_header(read: Reader) -> Result<Header, BlockError> {
    let failed = |error| BlockError::host("Could not read qcow2 header", error);
    let mut start = vec![0; FIRST];
    read(0, &mut start).map_err(failed)?;
    let bits = Header::cluster_bits(&start)?;
    let mut cluster = vec![0; 1 << bits];
    read(0, &mut cluster).map_err(failed)?;
    Header::parse(&cluster)
}

/// Sizes of caches, in pieces.
struct CacheSizes {
    l2_slice: u64,
    ref_slice: u64,
    l2: usize,
    refs: usize,
}

const DEFAULT_L2_CACHE: u64 = 32 << 20;
const DEFAULT_SLICE: u64 = 4096;
/// Most clusters of snapshots' L1 tables that are told from guests' clusters.
const NOTED_CLUSTERS: u64 = 1 << 18;
/// Refcount blocks in memory, unless more are asked for.
const MIN_REFCOUNT_CLUSTERS: u64 = 4;

/// As QEMU divides memory up between tables.
fn cache_sizes(
    options: &Qcow2Options,
    geometry: &Geometry,
    size: u64,
) -> Result<CacheSizes, BlockError> {
    let invalid = |text: &str| Err(BlockError::Unsupported(text.to_owned()));
    let cluster = geometry.cluster();
    let l2_slice = options
        .l2_cache_entry_size
        .unwrap_or(cluster.min(DEFAULT_SLICE));
    if l2_slice < 512 || l2_slice > cluster || !l2_slice.is_power_of_two() {
        return invalid(&format!(
            "L2 cache entry size must be a power of two between 512 and the cluster size \
             ({cluster})"
        ));
    }
    let least_refs = MIN_REFCOUNT_CLUSTERS * cluster;
    // Memory for all tables that there can be.
    let all = size
        .div_ceil(cluster)
        .saturating_mul(1 << geometry.entry_bits())
        .next_multiple_of(l2_slice);
    let (l2, refs) = match (
        options.cache_size,
        options.l2_cache_size,
        options.refcount_cache_size,
    ) {
        (Some(_), Some(_), Some(_)) => {
            return invalid(
                "cache-size, l2-cache-size and refcount-cache-size may not be set at the same \
                 time",
            );
        }
        (Some(both), Some(l2), None) if l2 > both => {
            return invalid("l2-cache-size may not exceed cache-size");
        }
        (Some(both), None, Some(refs)) if refs > both => {
            return invalid("refcount-cache-size may not exceed cache-size");
        }
        (Some(both), Some(l2), None) => (l2, both - l2),
        (Some(both), None, Some(refs)) => (both - refs, refs),
        (Some(both), None, None) if both >= all.saturating_add(least_refs) => (all, both - all),
        (Some(both), None, None) => {
            let refs = both.min(least_refs);
            (both - refs, refs)
        }
        (None, l2, refs) => (l2.unwrap_or(DEFAULT_L2_CACHE), refs.unwrap_or(least_refs)),
    };
    let ref_slice = cluster.min(DEFAULT_SLICE);
    let pieces = |bytes: u64, piece: u64| usize::try_from((bytes / piece).max(2)).unwrap_or(2);
    Ok(CacheSizes {
        l2_slice,
        ref_slice,
        l2: pieces(l2.min(all), l2_slice),
        refs: pieces(refs, ref_slice),
    })
}

impl Qcow2 {
    pub(super) fn open(with: OpenFormat) -> Result<Self, BlockError> {
        let storage = with.storage.clone();
        let header = read_header(&mut |offset, bytes| {
            let buffers = super::io::memory(bytes.len() as u64)?;
            read_below(&storage, offset, &buffers)?;
            buffers.read_at(0, bytes);
            Ok(())
        })?;
        header.check()?;
        let geometry = Geometry::of(&header);
        if with.qcow2.lazy_refcounts == Some(true) && header.version < 3 {
            return Err(BlockError::Unsupported(
                "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level"
                    .to_owned(),
            ));
        }
        let sizes = cache_sizes(&with.qcow2, &geometry, header.size)?;
        let data = match (&with.data, geometry.external) {
            (Some(data), true) => data.clone(),
            (None, false) => with.storage.clone(),
            (None, true) => {
                return Err(BlockError::Unsupported(
                    "'data-file' is required for this image".to_owned(),
                ));
            }
            (Some(_), false) => {
                return Err(BlockError::Unsupported(
                    "'data-file' can only be set for images with an external data file".to_owned(),
                ));
            }
        };
        let read_only = with.screen.policy().read_only;
        let size = header.size;
        let activity = with.activity;
        let image = Qcow2 {
            storage: with.storage,
            data,
            backing: with.backing,
            screen: with.screen,
            reporter: with.reporter,
            options: with.qcow2,
            geometry,
            l2_slice: sizes.l2_slice,
            ref_slice: sizes.ref_slice,
            header: Mutex::new(header),
            snapshots: Mutex::default(),
            work: Mutex::new(empty_work(sizes.refs)),
            meta: Mutex::new(empty_meta(sizes.l2)),
            parts: Mutex::new(()),
            settled: Condvar::new(),
            broken: AtomicBool::new(false),
            // Until its tables are there.
            closed: AtomicBool::new(true),
            stale: AtomicBool::new(true),
        };
        match activity {
            Activity::Active => {
                image.load_image(read_only)?;
                image.closed.store(false, Ordering::Release);
            }
            // It stays closed. Somebody may be writing it, so that its tables may not fit together.
            Activity::Inactive => {
                image.screen.set_size(size / SECTOR * SECTOR);
                if let Err(error) = image.load_image(true) {
                    log::debug!("An image is not read before it is activated: {error}");
                }
            }
        }
        Ok(image)
    }

    /// Reads header and tables; nothing is in flight.
    pub(super) fn load_image(&self, read_only: bool) -> Result<(), BlockError> {
        self.stale.store(true, Ordering::Release);
        let read = || read_header(&mut |offset, bytes| self.read_meta(offset, bytes));
        let mut header = read()?;
        header.check()?;
        if Geometry::of(&header) != self.geometry {
            return Err(BlockError::Unsupported(
                "The image has become another one".to_owned(),
            ));
        }
        if header.has(incompatible::CORRUPT) && !read_only {
            return Err(BlockError::Unsupported(
                "qcow2: Image is corrupt; cannot be opened read/write".to_owned(),
            ));
        }
        let gone = |error| BlockError::host("Could not read the image", error);
        let storage = self.storage.there().map_err(gone)?;
        if header.has(incompatible::DIRTY) && !read_only {
            // Its refcounts are not to be relied on.
            super::check::rebuild_refcounts(&*storage)?;
            header = read()?;
        }
        // Whole sectors; of a size that is not, QEMU leaves out the rest, too.
        self.screen.set_size(header.size / SECTOR * SECTOR);
        let l1 = self.load_table(header.l1_offset, header.l1_size.into(), "L1 table")?;
        let entries = u64::from(header.refcount_table_clusters) << (self.geometry.cluster_bits - 3);
        let table = self.load_table(header.refcount_table_offset, entries, "refcount table")?;
        let snapshots = super::snapshot::read(&*storage)?;
        self.fill_in(&header, l1, table);
        *self.header() = header;
        self.broken.store(false, Ordering::Release);
        let mut work = self.work();
        self.collect_metadata(&mut work);
        self.keep_snapshots(&mut work, &snapshots);
        drop(work);
        self.load_bitmaps();
        self.stale.store(false, Ordering::Release);
        Ok(())
    }

    /// Takes note of snapshots, and of where their tables are.
    fn keep_snapshots(&self, work: &mut Work, table: &Table) {
        let offset = self.header().snapshots_offset;
        self.note_table(work, offset, table.len);
        // Absurd images are not worth the memory.
        let mut room = NOTED_CLUSTERS;
        for snapshot in &table.snapshots {
            let len = u64::from(snapshot.l1_size).saturating_mul(8);
            room = room.saturating_sub(self.geometry.clusters(len));
            if room > 0 {
                self.note_table(work, snapshot.l1_offset, len);
            }
        }
        let views = table.snapshots.iter().map(|snapshot| snapshot.view.clone());
        let mut kept = self
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *kept = views.collect();
    }

    /// Reads a table that is in the file as a whole.
    fn load_table(&self, offset: u64, entries: u64, name: &str) -> Result<Vec<u64>, BlockError> {
        let failed = |error| BlockError::host(format!("Could not read {name}"), error);
        let end = offset.saturating_add(entries.saturating_mul(8));
        if end > self.storage.info().size && entries > 0 {
            return Err(failed(io::Error::from_raw_os_error(libc::EIO)));
        }
        self.read_table(offset, entries).map_err(failed)
    }

    fn fill_in(&self, header: &Header, l1: Vec<u64>, mut table: Vec<u64>) {
        // Only as far as there are entries.
        let used = table.iter().rposition(|word| *word != 0);
        table.truncate(used.map_or(0, |last| last.saturating_add(1)));
        table.shrink_to_fit();
        let mut work = self.work();
        work.table = table;
        work.table_offset = header.refcount_table_offset;
        work.table_clusters = header.refcount_table_clusters;
        work.table_dirty.clear();
        work.moved_table = None;
        work.refs.clear();
        work.hint = 1;
        work.refill = 0;
        work.grown = false;
        let mut meta = self.meta();
        meta.l1 = l1;
        meta.l1_offset = header.l1_offset;
        meta.l1_dirty.clear();
        meta.l2.clear();
        meta.pending.clear();
        meta.reserve.clear();
        meta.fresh.clear();
        (meta.low, meta.refilling) = (0, false);
        meta.frees = Frees::default();
        meta.unsynced = false;
        meta.loose = false;
        meta.refs_dirty = false;
        meta.prepared = false;
        meta.data_end = self.data.info().size;
    }
}

fn empty_work(refs: usize) -> Work {
    Work {
        table: Vec::new(),
        table_offset: 0,
        table_clusters: 0,
        table_dirty: BTreeSet::new(),
        moved_table: None,
        refs: Cache::new(refs),
        hint: 1,
        refill: 0,
        metadata: Set::default(),
        next_clean: None,
        grown: false,
    }
}

fn empty_meta(l2: usize) -> Meta {
    Meta {
        l1: Vec::new(),
        l1_offset: 0,
        l1_dirty: BTreeSet::new(),
        l2: Cache::new(l2),
        pending: Map::default(),
        fresh: Map::default(),
        reserve: VecDeque::new(),
        low: 0,
        refilling: false,
        frees: Frees::default(),
        generation: Arc::new(()),
        unsynced: false,
        loose: false,
        refs_dirty: false,
        prepared: false,
        data_end: 0,
        new_tables: Set::default(),
        scratch: Vec::new(),
        bitmaps: Vec::new(),
    }
}
