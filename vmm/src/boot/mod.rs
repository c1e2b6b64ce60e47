//! Direct boot: a kernel put into guest RAM as firmware and a boot loader would, without either.
//!
//! | kernel | entered | told by |
//! | --- | --- | --- |
//! | bzImage | in 64-bit mode (32-bit where it must) | zero page (Linux Documentation/arch/x86/boot.rst) |
//! | ELF with a PVH note | in 32-bit protected mode | start info (Xen docs/misc/pvh.pandoc) |
//! | ELF without | in 64-bit mode | zero page |
//!
//! Files stay open and are read straight into guest RAM, at the first start and at every reset:
//! the guest may have overwritten what was there.

mod image;
mod params;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use devices::ram::{GuestRam, RamHandle};
use linux_loader::loader::{BzImage, Elf, KernelLoader};
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};

use crate::layout::{GIB, IDENTITY_MAP, LEGACY_HOLE, RamLayout, TABLES};
use crate::process::errno;
use crate::vcpu::Entry;
use crate::vcpu::state::{LONG_GDT, PROTECTED_GDT};
use image::{Image, Kind};

/// The descriptor table.
const GDT: u64 = 0x500;
/// PVH start info, or the zero page.
const PARAMS: u64 = 0x7000;
/// PVH memory map and module list.
const PVH_TABLES: u64 = 0x6000;
/// Top-level page table; two more follow.
const PAGE_TABLES: u64 = 0x9000;
/// The command line.
const CMDLINE: u64 = 0x2_0000;
/// Room for it.
const CMDLINE_MAX: usize = 0x1_0000;
/// What a kernel that says nothing takes: 2047 characters.
const CMDLINE_DEFAULT: u32 = 2047;
/// Where conventional memory ends and the extended BIOS data area begins.
const EBDA: u64 = 0x9_fc00;
/// Where an initrd may end when the kernel says nothing.
const INITRD_MAX: u64 = 0x37ff_ffff;

/// Why a kernel cannot be booted; QEMU's wording where it has any.
#[derive(Debug, Error)]
pub enum BootError {
    /// No such kernel.
    #[error("could not open kernel file '{}': {}", .path.display(), errno(.source))]
    OpenKernel {
        /// Its path.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// No such initrd.
    #[error("error reading initrd {}: {}", .path.display(), errno(.source))]
    OpenInitrd {
        /// Its path.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// Neither bzImage nor 64-bit ELF, or cut off.
    #[error("could not load kernel '{}': invalid kernel header", .0.display())]
    Invalid(PathBuf),
    /// It does not fit.
    #[error("kernel '{}' does not fit into guest memory: {what}", .path.display())]
    KernelTooLarge {
        /// Its path.
        path: PathBuf,
        /// What failed.
        what: String,
    },
    /// It does not fit.
    #[error("initrd is too large, cannot support.(max: {max}, need {need})")]
    InitrdTooLarge {
        /// Room for it, in bytes.
        max: u64,
        /// Its size.
        need: u64,
    },
    /// Longer than the kernel takes.
    #[error("kernel command line is too long (max: {max}, need {need})")]
    CmdlineTooLong {
        /// Most bytes.
        max: u32,
        /// Bytes given.
        need: usize,
    },
    /// Guest RAM ends below what every kernel needs.
    #[error("guest memory is too small to boot a kernel")]
    NoRoom,
}

/// A kernel with all that belongs to it, ready to be loaded again and again.
pub struct Boot {
    kernel: File,
    path: PathBuf,
    image: Image,
    initrd: Option<Initrd>,
    cmdline: Vec<u8>,
    layout: RamLayout,
    /// Whether guest RAM may hold something other than zeroes.
    loaded: bool,
}

struct Initrd {
    file: File,
    path: PathBuf,
    addr: u64,
    len: u64,
}

impl Boot {
    /// Opens and checks the files; touches no guest RAM.
    ///
    /// # Errors
    /// When a file is missing, is no kernel, or cannot fit into RAM laid out as `layout`.
    pub fn open(
        kernel: &Path,
        initrd: Option<&Path>,
        cmdline: &str,
        layout: RamLayout,
    ) -> Result<Self, BootError> {
        let open = |source| BootError::OpenKernel {
            path: kernel.to_owned(),
            source,
        };
        let file = File::open(kernel).map_err(open)?;
        let image = Image::read(&file).map_err(|error| match error.raw_os_error() {
            Some(_) => open(error),
            None => BootError::Invalid(kernel.to_owned()),
        })?;
        let max = image.cmdline_max.unwrap_or(CMDLINE_DEFAULT);
        let cmdline = cmdline.as_bytes().to_vec();
        let room = usize::try_from(max).unwrap_or(0).min(CMDLINE_MAX - 1);
        if cmdline.len() > room {
            return Err(BootError::CmdlineTooLong {
                max,
                need: cmdline.len(),
            });
        }
        if layout.below_4g <= LEGACY_HOLE.end() {
            return Err(BootError::NoRoom);
        }
        let initrd = initrd
            .map(|path| Initrd::open(path, &image, layout))
            .transpose()?;
        let path = kernel.to_owned();
        Ok(Boot {
            kernel: file,
            path,
            image,
            initrd,
            cmdline,
            layout,
            loaded: false,
        })
    }

    /// Puts everything into guest RAM and says where the first vCPU starts. `rsdp` is the address
    /// of the ACPI root pointer.
    ///
    /// # Errors
    /// When the files shrank or do not fit.
    pub fn load(&mut self, ram: &RamHandle, rsdp: u64) -> Result<Entry, BootError> {
        let memory = ram.memory();
        let end = self.load_kernel(&memory)?;
        self.load_initrd(&memory, end)?;
        self.loaded = true;
        let put = |addr: u64, bytes: &[u8]| {
            memory
                .write_slice(bytes, GuestAddress(addr))
                .map_err(|_| BootError::NoRoom)
        };
        let mut line = self.cmdline.clone();
        line.push(0);
        put(CMDLINE, &line)?;
        let initrd = self
            .initrd
            .as_ref()
            .map_or((0, 0), |initrd| (initrd.addr, initrd.len));
        let map = memory_map(self.layout);
        let told = params::Told {
            cmdline: CMDLINE,
            cmdline_len: line.len(),
            initrd,
            rsdp,
            map: &map,
        };
        match self.image.kind {
            Kind::Pvh { entry } => {
                let (info, tables) = params::start_info(&told, PVH_TABLES);
                put(PARAMS, &info)?;
                put(PVH_TABLES, &tables)?;
                put(GDT, &params::bytes_of(&PROTECTED_GDT))?;
                Ok(Entry::Protected {
                    eip: entry,
                    ebx: low(PARAMS),
                    esi: 0,
                    gdt: GDT,
                })
            }
            Kind::BzImage32 { load } => {
                put(PARAMS, &params::zero_page(&told, Some(&self.image.header)))?;
                put(GDT, &params::bytes_of(&PROTECTED_GDT))?;
                Ok(Entry::Protected {
                    eip: load,
                    ebx: 0,
                    esi: low(PARAMS),
                    gdt: GDT,
                })
            }
            Kind::BzImage64 { load } => {
                put(PARAMS, &params::zero_page(&told, Some(&self.image.header)))?;
                // The 64-bit entry is 512 bytes in (boot protocol, "64-bit Boot Protocol").
                self.enter_long(&put, u64::from(load).saturating_add(0x200))
            }
            Kind::Elf64 { entry } => {
                put(PARAMS, &params::zero_page(&told, None))?;
                self.enter_long(&put, entry)
            }
        }
    }

    fn enter_long(&self, put: &Put, rip: u64) -> Result<Entry, BootError> {
        put(GDT, &params::bytes_of(&LONG_GDT))?;
        put(PAGE_TABLES, &params::page_tables(PAGE_TABLES))?;
        Ok(Entry::Long {
            rip,
            rsi: PARAMS,
            page_tables: PAGE_TABLES,
            gdt: GDT,
        })
    }

    /// Returns the first address behind the kernel.
    fn load_kernel(&mut self, memory: &GuestRam) -> Result<u64, BootError> {
        let fail = |path: &PathBuf, what: String| BootError::KernelTooLarge {
            path: path.clone(),
            what,
        };
        let loaded = match self.image.kind {
            Kind::BzImage32 { load } | Kind::BzImage64 { load } => {
                let at = GuestAddress(u64::from(load));
                BzImage::load(memory, Some(at), &mut self.kernel, None)
            }
            Kind::Pvh { .. } | Kind::Elf64 { .. } => {
                if self.loaded {
                    self.clear_bss(memory);
                }
                Elf::load(memory, None, &mut self.kernel, None)
            }
        };
        let result = loaded.map_err(|error| fail(&self.path, error.to_string()))?;
        Ok(result.kernel_end.max(self.image.end))
    }

    /// Zeroes the parts of segments that no file contents go to. Fresh RAM is zero already.
    fn clear_bss(&self, memory: &GuestRam) {
        let zeroes = [0u8; 4096];
        for &(addr, len) in &self.image.bss {
            let mut done = 0u64;
            while done < len {
                let part = usize::try_from(len - done)
                    .unwrap_or(usize::MAX)
                    .min(zeroes.len());
                let at = GuestAddress(addr.saturating_add(done));
                if memory
                    .write_slice(zeroes.get(..part).unwrap_or_default(), at)
                    .is_err()
                {
                    return;
                }
                done = done.saturating_add(part as u64);
            }
        }
    }

    fn load_initrd(&mut self, memory: &GuestRam, kernel_end: u64) -> Result<(), BootError> {
        use std::io::{Seek, SeekFrom};
        let Some(initrd) = &mut self.initrd else {
            return Ok(());
        };
        if initrd.addr < kernel_end {
            let max = initrd
                .addr
                .saturating_add(initrd.len)
                .saturating_sub(kernel_end);
            return Err(BootError::InitrdTooLarge {
                max,
                need: initrd.len,
            });
        }
        let path = &initrd.path;
        let fail = |source| BootError::OpenInitrd {
            path: path.clone(),
            source,
        };
        initrd.file.seek(SeekFrom::Start(0)).map_err(fail)?;
        let len = usize::try_from(initrd.len).unwrap_or(usize::MAX);
        memory
            .read_exact_volatile_from(GuestAddress(initrd.addr), &mut initrd.file, len)
            .map_err(|error| fail(io::Error::other(error.to_string())))
    }
}

impl Initrd {
    fn open(path: &Path, image: &Image, layout: RamLayout) -> Result<Self, BootError> {
        let fail = |source| BootError::OpenInitrd {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(fail)?;
        let len = file.metadata().map_err(fail)?.len();
        let highest = match image.kind {
            Kind::Pvh { .. } | Kind::Elf64 { .. } => layout.below_4g,
            Kind::BzImage32 { .. } | Kind::BzImage64 { .. } => {
                image.initrd_max.unwrap_or(INITRD_MAX).saturating_add(1)
            }
        };
        let end = highest.min(layout.below_4g);
        let addr = end.saturating_sub(len) & !0xfff;
        if len >= end || addr < LEGACY_HOLE.end() {
            return Err(BootError::InitrdTooLarge {
                max: end,
                need: len,
            });
        }
        Ok(Initrd {
            file,
            path: path.to_owned(),
            addr,
            len,
        })
    }
}

/// Writes bytes at an address of guest RAM.
type Put<'a> = dyn Fn(u64, &[u8]) -> Result<(), BootError> + 'a;

fn low(addr: u64) -> u32 {
    u32::try_from(addr).unwrap_or(0)
}

/// What an address range is (ACPI 6.5, table 15.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeKind {
    /// The guest's to use.
    Ram = 1,
    /// Left alone.
    Reserved = 2,
}

/// The memory map told to the guest: base, bytes, kind.
pub fn memory_map(layout: RamLayout) -> Vec<(u64, u64, RangeKind)> {
    let low = LEGACY_HOLE.end();
    let mut map = vec![
        (0, EBDA, RangeKind::Ram),
        (EBDA, LEGACY_HOLE.base - EBDA, RangeKind::Reserved),
        (TABLES.base, TABLES.len, RangeKind::Reserved),
        (low, layout.below_4g.saturating_sub(low), RangeKind::Ram),
        (IDENTITY_MAP, 0x4000, RangeKind::Reserved),
    ];
    if let Some(ecam) = layout.board.ecam() {
        map.push((ecam.base, ecam.len, RangeKind::Reserved));
    }
    if layout.above_4g > 0 {
        map.push((4 * GIB, layout.above_4g, RangeKind::Ram));
    }
    map
}

#[cfg(test)]
#[path = "boot_test.rs"]
mod tests;
