//! Guest RAM: back ends (`memory-backend-*` and the one made for `-m`), and the regions of the
//! guest's address space cut out of them.

pub mod mapping;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use api_spec::{HostMemPolicy, ObjectOptions, ObjectOptionsBranch as Branch};
use devices::bus::lock;
use devices::model::shadow;
use devices::ram::{GuestRam, RamHandle};
use devices::written::Written;
use thiserror::Error;
use vm_memory::bitmap::NewBitmap;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryAtomic, GuestRegionMmap};

use crate::layout::{Board, RamLayout};
use crate::migration::ram::RamBlock;
use crate::process::errno;
use crate::threads::{self, ThreadKind};
use mapping::{Advice, Mapping, Sharing, Source};

/// What memory is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// memory-backend-ram.
    Ram,
    /// memory-backend-memfd.
    Memfd {
        /// In huge pages, of this size; 0 is the host's default size.
        hugetlb: Option<u64>,
        /// Its size cannot be changed.
        seal: bool,
    },
    /// memory-backend-file.
    File {
        /// The file, or a directory in which a nameless one is made.
        path: PathBuf,
        /// Where in the file it begins.
        offset: u64,
        /// Alignment of the mapping; 0 leaves it to us.
        align: u64,
        /// Opened for reading only; writes of the guest stay private.
        readonly: bool,
        /// Contents need not be kept at the end.
        discard_data: bool,
    },
}

impl Kind {
    const fn type_name(&self) -> &'static str {
        match self {
            Kind::Ram => "memory-backend-ram",
            Kind::Memfd { .. } => "memory-backend-memfd",
            Kind::File { .. } => "memory-backend-file",
        }
    }
}

/// What is asked of a back end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendOptions {
    /// The object's id, or `pc.ram`.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// What it is made of.
    pub kind: Kind,
    /// Shared with other processes that map it.
    pub share: bool,
    /// Taken from the host at once.
    pub prealloc: bool,
    /// Threads that do so.
    pub prealloc_threads: u32,
    /// May be merged with equal pages (KSM).
    pub merge: bool,
    /// In core dumps.
    pub dump: bool,
    /// Swap space is reserved.
    pub reserve: bool,
    /// Host nodes that the policy speaks of.
    pub host_nodes: Vec<u16>,
    /// Which host nodes it comes from.
    pub policy: HostMemPolicy,
}

/// Why there is no memory; QEMU's wording.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The host has too little.
    #[error("cannot set up guest memory '{id}': {}", errno(.source))]
    SetUp {
        /// The back end.
        id: String,
        /// What the host said.
        source: io::Error,
    },
    /// The size is no size.
    #[error("property 'size' of {kind} doesn't take value '{size}'")]
    Size {
        /// The back end's type.
        kind: &'static str,
        /// The size given.
        size: u64,
    },
    /// Nobody would take it from the host.
    #[error("property 'prealloc-threads' of {kind} doesn't take value '0'")]
    Threads {
        /// The back end's type.
        kind: &'static str,
    },
    /// The file cannot be opened or made.
    #[error("can't open backing store {} for guest RAM: {}", .path.display(), errno(.source))]
    Open {
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The file is smaller than the memory.
    #[error("backing store size {found:#x} does not match 'size' option {wanted:#x}")]
    FileSize {
        /// Its size.
        found: u64,
        /// The size asked for.
        wanted: u64,
    },
    /// The file cannot be grown or mapped (huge pages: too few).
    #[error("unable to map backing store for guest RAM: {}", errno(.0))]
    Map(#[source] io::Error),
    /// No memfd.
    #[error("failed to create memfd: {}", errno(.0))]
    Memfd(#[source] io::Error),
    /// Pages cannot be had now.
    #[error("preallocating memory failed: {}", errno(.0))]
    Prealloc(#[source] io::Error),
    /// Size and pages do not go together.
    #[error("memory size {size:#x} must be multiple of page size {page:#x}")]
    PageSize {
        /// The size given.
        size: u64,
        /// Bytes of a page.
        page: u64,
    },
    /// A huge page size that is none.
    #[error("'hugetlbsize' must be a power of two")]
    HugePageSize,
    /// An alignment that is none.
    #[error("alignment {0:#x} must be a power of two")]
    Align(u64),
    /// Nodes without a policy.
    #[error(
        "host-nodes must be empty for policy default, or you should explicitly specify a policy \
         other than default"
    )]
    NodesWithoutPolicy,
    /// A policy without nodes.
    #[error("host-nodes must be set for policy {0}")]
    PolicyWithoutNodes(&'static str),
    /// The host refuses the nodes.
    #[error("cannot bind memory to host NUMA nodes: {}", errno(.0))]
    Bind(#[source] io::Error),
    /// More than the address space of this process or the guest holds.
    #[error("memory size {0:#x} is too large")]
    TooLarge(u64),
}

impl BackendOptions {
    /// The back end that `-m` makes where the command line names none.
    pub fn ram(size: u64) -> Self {
        BackendOptions {
            id: "pc.ram".into(),
            size,
            kind: Kind::Ram,
            share: false,
            prealloc: false,
            prealloc_threads: 1,
            merge: true,
            dump: true,
            reserve: true,
            host_nodes: Vec::new(),
            policy: HostMemPolicy::Default,
        }
    }

    /// From an object's options; `None` when it is no memory backend.
    pub fn from_object(options: &ObjectOptions) -> Option<Self> {
        macro_rules! with {
            ($p:expr, $kind:expr, $share:expr) => {
                BackendOptions {
                    id: options.id.clone(),
                    size: $p.size.0,
                    kind: $kind,
                    share: $p.share.unwrap_or($share),
                    prealloc: $p.prealloc.unwrap_or(false),
                    prealloc_threads: $p.prealloc_threads.unwrap_or(1),
                    merge: $p.merge.unwrap_or(true),
                    dump: $p.dump.unwrap_or(true),
                    reserve: $p.reserve.unwrap_or(true),
                    host_nodes: $p.host_nodes.clone().unwrap_or_default(),
                    policy: $p.policy.unwrap_or(HostMemPolicy::Default),
                }
            };
        }
        match &options.qom_type {
            Branch::MemoryBackendRam(p) => Some(with!(p, Kind::Ram, false)),
            Branch::MemoryBackendMemfd(p) => {
                let huge = p.hugetlb.unwrap_or(false);
                let kind = Kind::Memfd {
                    hugetlb: huge.then(|| p.hugetlbsize.map_or(0, |size| size.0)),
                    seal: p.seal.unwrap_or(true),
                };
                Some(with!(p, kind, true))
            }
            Branch::MemoryBackendFile(p) => {
                let kind = Kind::File {
                    path: p.mem_path.clone().into(),
                    offset: p.offset.map_or(0, |size| size.0),
                    align: p.align.map_or(0, |size| size.0),
                    readonly: p.readonly.unwrap_or(false),
                    discard_data: p.discard_data.unwrap_or(false),
                };
                Some(with!(p, kind, false))
            }
            _ => None,
        }
    }
}

/// Memory of the host that the guest may get.
#[derive(Debug)]
pub struct Backend {
    options: BackendOptions,
    mapping: Arc<Mapping>,
    file: Option<Arc<File>>,
    offset: u64,
}

impl Backend {
    /// Maps the memory and tells the host's kernel how to treat it.
    ///
    /// # Errors
    /// When the options contradict each other, or the host refuses.
    pub fn new(options: BackendOptions) -> Result<Self, MemoryError> {
        let (size, kind) = (options.size, options.kind.type_name());
        let len = usize::try_from(size).map_err(|_| MemoryError::TooLarge(size))?;
        if len == 0 {
            return Err(MemoryError::Size { kind, size });
        }
        if options.prealloc_threads == 0 {
            return Err(MemoryError::Threads { kind });
        }
        check_policy(&options)?;
        let sharing = match options.share {
            true => Sharing::Shared,
            false => Sharing::Private,
        };
        let mut made = NewFile::default();
        let (file, offset, page) = match &options.kind {
            Kind::Ram => (None, 0, mapping::page_size()),
            Kind::Memfd { hugetlb, seal } => {
                let file = make_memfd(size, *hugetlb, *seal)?;
                let page = mapping::file_page_size(&file);
                (Some(file), 0, page)
            }
            Kind::File {
                path,
                offset,
                align,
                readonly,
                ..
            } => {
                if *align != 0 && !align.is_power_of_two() {
                    return Err(MemoryError::Align(*align));
                }
                let file = open_file(path, *offset, size, *readonly, &mut made)?;
                let page = mapping::file_page_size(&file);
                let align = usize::try_from(*align).unwrap_or(0);
                (Some(file), *offset, page.max(align))
            }
        };
        let source = match &file {
            Some(file) => Source::File(file, offset),
            None => Source::Anonymous,
        };
        let mapping =
            Mapping::new(source, sharing, len, page, options.reserve).map_err(|source| {
                if file.is_some() {
                    MemoryError::Map(source)
                } else {
                    let id = options.id.clone();
                    MemoryError::SetUp { id, source }
                }
            })?;
        let backend = Backend {
            mapping: Arc::new(mapping),
            file: file.map(Arc::new),
            offset,
            options,
        };
        backend.advise()?;
        backend.preallocate()?;
        made.keep();
        Ok(backend)
    }

    /// What was asked for.
    pub fn options(&self) -> &BackendOptions {
        &self.options
    }

    fn advise(&self) -> Result<(), MemoryError> {
        // Each of these is a hint that a kernel may have been built without.
        let _ = self.mapping.advise(Advice::HugePages);
        // Page tables of a large guest take long to copy, and it would stand still meanwhile.
        let _ = self.mapping.advise(Advice::DontFork);
        if self.options.merge {
            let _ = self.mapping.advise(Advice::Mergeable);
        }
        if !self.options.dump {
            let _ = self.mapping.advise(Advice::DontDump);
        }
        let mode = match self.options.policy {
            HostMemPolicy::Default => return Ok(()),
            HostMemPolicy::Preferred => libc::MPOL_PREFERRED,
            HostMemPolicy::Bind => libc::MPOL_BIND,
            HostMemPolicy::Interleave => libc::MPOL_INTERLEAVE,
        };
        let mut nodes = vec![0u64; 1024];
        for node in &self.options.host_nodes {
            if let Some(word) = nodes.get_mut(usize::from(node / 64)) {
                *word |= 1 << (node % 64);
            }
        }
        self.mapping.bind(mode, &nodes).map_err(MemoryError::Bind)
    }

    fn preallocate(&self) -> Result<(), MemoryError> {
        if !self.options.prealloc {
            return Ok(());
        }
        let len = self.mapping.len();
        let parts = usize::try_from(self.options.prealloc_threads.clamp(1, 256)).unwrap_or(1);
        let step = len.div_ceil(parts).next_multiple_of(2 << 20);
        let mut jobs = Vec::new();
        for from in (0..len).step_by(step) {
            let mapping = self.mapping.clone();
            let part = step.min(len - from);
            let job = move || mapping.populate(from, part);
            let job = threads::spawn(ThreadKind::Worker, "prealloc", None, job)
                .map_err(MemoryError::Prealloc)?;
            jobs.push(job);
        }
        for job in jobs {
            if let Ok(Some(result)) = job.join() {
                result.map_err(MemoryError::Prealloc)?;
            }
        }
        Ok(())
    }
}

fn check_policy(options: &BackendOptions) -> Result<(), MemoryError> {
    let none = options.host_nodes.is_empty();
    match options.policy {
        HostMemPolicy::Default if !none => Err(MemoryError::NodesWithoutPolicy),
        HostMemPolicy::Default => Ok(()),
        HostMemPolicy::Preferred if none => Err(MemoryError::PolicyWithoutNodes("preferred")),
        HostMemPolicy::Bind if none => Err(MemoryError::PolicyWithoutNodes("bind")),
        HostMemPolicy::Interleave if none => Err(MemoryError::PolicyWithoutNodes("interleave")),
        HostMemPolicy::Preferred | HostMemPolicy::Bind | HostMemPolicy::Interleave => Ok(()),
    }
}

fn make_memfd(size: u64, hugetlb: Option<u64>, seal: bool) -> Result<File, MemoryError> {
    if let Some(page) = hugetlb.filter(|page| *page != 0) {
        if !page.is_power_of_two() {
            return Err(MemoryError::HugePageSize);
        }
        if !size.is_multiple_of(page) {
            return Err(MemoryError::PageSize { size, page });
        }
    }
    let file = mapping::memfd(hugetlb, seal).map_err(MemoryError::Memfd)?;
    file.set_len(size).map_err(MemoryError::Memfd)?;
    if seal {
        mapping::seal_size(&file).map_err(MemoryError::Memfd)?;
    }
    Ok(file)
}

/// A file that we made, and that goes again unless all of the back end can be had.
#[derive(Default)]
struct NewFile(Option<PathBuf>);

impl NewFile {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn open_file(
    path: &Path,
    offset: u64,
    size: u64,
    readonly: bool,
    made: &mut NewFile,
) -> Result<File, MemoryError> {
    let fail = |source| {
        crate::armour::files::hint(&path.display().to_string(), &source);
        MemoryError::Open {
            path: path.to_owned(),
            source,
        }
    };
    let mut options = OpenOptions::new();
    options.read(true).write(!readonly).mode(0o600);
    if path.is_dir() {
        // Vanishes with the last descriptor.
        options.custom_flags(libc::O_TMPFILE);
    }
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !readonly => {
            match options.create_new(true).open(path) {
                // Somebody else was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    options.create_new(false).open(path).map_err(fail)?
                }
                new => {
                    let new = new.map_err(fail)?;
                    made.0 = Some(path.to_owned());
                    new
                }
            }
        }
        opened => opened.map_err(fail)?,
    };
    let found = file.metadata().map_err(fail)?;
    let end = offset
        .checked_add(size)
        .ok_or(MemoryError::TooLarge(size))?;
    let page = u64::try_from(mapping::file_page_size(&file)).unwrap_or(4096);
    if !size.is_multiple_of(page) {
        return Err(MemoryError::PageSize { size, page });
    }
    if found.is_file() && found.len() == 0 && !readonly {
        file.set_len(end).map_err(MemoryError::Map)?;
    } else if found.is_file() && found.len() < end {
        return Err(MemoryError::FileSize {
            found: found.len(),
            wanted: size,
        });
    } else if !found.is_file() && file.read_at(&mut [0], 0).is_err() {
        // Device nodes have no length; a directory was dealt with above.
        log::debug!("{} cannot be read, only mapped", path.display());
    }
    Ok(file)
}

/// One region of guest RAM as an accelerator maps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamSlot {
    /// Guest physical address.
    pub guest: u64,
    /// Bytes.
    pub len: u64,
    /// Address in this process.
    pub host: u64,
    /// Writes of the guest are ours to see.
    pub readonly: bool,
}

/// The guest's RAM: what devices see, and what the accelerator maps.
pub struct MachineRam {
    /// Where it is.
    pub layout: RamLayout,
    /// What devices work with.
    pub handle: RamHandle,
    /// What the accelerator maps: all but the shadow memory.
    pub slots: Vec<RamSlot>,
    /// The shadow memory below 1 MiB, mapped as the host bridge says.
    pub shadow: RamSlot,
}

impl MachineRam {
    /// Lays `backend` out as a machine with `board` has it. The memory stays mapped until the process
    /// ends: devices, vCPUs and I/O threads hold pointers into it.
    ///
    /// # Errors
    /// When the size does not fit the address space.
    pub fn new(board: Board, backend: &Backend) -> Result<Self, MemoryError> {
        let layout = RamLayout::new(board, backend.options.size);
        let too_large = || MemoryError::TooLarge(backend.options.size);
        let (mut regions, mut slots) = (Vec::new(), Vec::new());
        let mut offset = 0u64;
        let first = backend.mapping.addr() as u64;
        let slot = |from: u64, len: u64, base: u64| RamSlot {
            guest: base,
            len,
            host: first.saturating_add(from),
            readonly: false,
        };
        for range in layout.ranges() {
            let region = backend.region(offset, range.len, range.base);
            regions.push(region.ok_or_else(too_large)?);
            let behind = shadow::BASE.saturating_add(shadow::LEN);
            match range.base {
                0 => {
                    slots.push(slot(0, shadow::BASE.min(range.len), 0));
                    let rest = range.len.saturating_sub(behind);
                    slots.extend((rest > 0).then(|| slot(behind, rest, behind)));
                }
                base => slots.push(slot(offset, range.len, base)),
            }
            offset = offset.saturating_add(range.len);
        }
        let ram = GuestRam::from_regions(regions).map_err(|_| too_large())?;
        // Lives for ever: see above.
        lock(&LAID_OUT).push(backend.mapping.clone());
        Ok(MachineRam {
            layout,
            handle: GuestMemoryAtomic::new(ram),
            slots,
            shadow: slot(shadow::BASE, shadow::LEN, shadow::BASE),
        })
    }
}

/// Memory that machines were laid out in.
static LAID_OUT: Mutex<Vec<Arc<Mapping>>> = Mutex::new(Vec::new());

/// Unmaps the memory of all machines that there were, for a program that makes many of them.
///
/// # Safety
/// There is no machine any more, and no thread of one.
#[cfg(feature = "testing")]
#[allow(unsafe_code)] // what still points into the memory would be wrong
pub unsafe fn unmap_machines() {
    lock(&LAID_OUT).clear();
}

impl Backend {
    /// The memory as it travels.
    pub fn block(&self) -> RamBlock {
        RamBlock {
            name: self.options.id.clone(),
            len: self.options.size,
            host: self.mapping.addr() as u64,
            shared: self.options.share,
            file: self.file.clone().map(|file| (file, self.offset)),
        }
    }

    /// Part of the memory as a region of guest RAM at `guest`.
    #[allow(unsafe_code)] // hands a pointer of ours to vm-memory
    fn region(&self, offset: u64, len: u64, guest: u64) -> Option<GuestRegionMmap<Written>> {
        let from = usize::try_from(offset).ok()?;
        let len = usize::try_from(len).ok()?;
        if from.checked_add(len)? > self.mapping.len() {
            return None;
        }
        let sharing = if self.options.share {
            libc::MAP_SHARED
        } else {
            libc::MAP_PRIVATE
        };
        let mut builder = MmapRegionBuilder::new_with_bitmap(len, Written::with_len(len))
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(sharing);
        if let Some(file) = &self.file {
            let start = self.offset.checked_add(offset)?;
            builder = builder.with_file_offset(FileOffset::from_arc(file.clone(), start));
        }
        // SAFETY: `[from, from + len)` lies in the mapping, which is readable and writable and is
        // never unmapped once a region was cut out of it (`MachineRam::new`).
        let region = unsafe { builder.with_raw_mmap_pointer(self.mapping.addr().add(from)) };
        GuestRegionMmap::new(region.build().ok()?, GuestAddress(guest))
    }
}

#[cfg(test)]
#[path = "memory_test.rs"]
mod tests;
