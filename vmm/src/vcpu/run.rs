//! KVM_RUN and the page it shares with the kernel.
#![allow(unsafe_code)] // a mapping shared with the kernel, and its unions

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR, KVM_EXIT_IO,
    KVM_EXIT_IO_OUT, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_EXIT_SYSTEM_EVENT, kvm_run,
};
use kvm_ioctls::VcpuFd;

/// `_IO(KVMIO, 0x80)`.
const KVM_RUN: libc::Ioctl = 0xae80;

/// Why KVM_RUN came back.
#[derive(Debug)]
pub enum Exit<'a> {
    /// The guest reads ports: one access or, of a string instruction, several of `size` bytes.
    PortRead {
        /// The port.
        port: u16,
        /// Bytes of one access.
        size: usize,
        /// To be filled in before the next run.
        data: &'a mut [u8],
    },
    /// The guest writes ports.
    PortWrite {
        /// The port.
        port: u16,
        /// Bytes of one access.
        size: usize,
        /// What it writes.
        data: &'a [u8],
    },
    /// The guest reads memory that is not RAM.
    MemoryRead {
        /// Guest physical address.
        addr: u64,
        /// To be filled in before the next run.
        data: &'a mut [u8],
    },
    /// The guest writes memory that is not RAM.
    MemoryWrite {
        /// Guest physical address.
        addr: u64,
        /// What it writes.
        data: &'a [u8],
    },
    /// A signal came, or immediate_exit was set; what the last exit left was completed.
    Interrupted,
    /// Nothing to do for us.
    Nothing,
    /// Triple fault.
    Shutdown,
    /// The guest cannot go on.
    Failed(String),
}

impl Exit<'_> {
    /// A name for each.
    pub const fn reason(&self) -> &'static str {
        match self {
            Exit::PortRead { .. } => "port-read",
            Exit::PortWrite { .. } => "port-write",
            Exit::MemoryRead { .. } => "memory-read",
            Exit::MemoryWrite { .. } => "memory-write",
            Exit::Interrupted => "interrupted",
            Exit::Nothing => "nothing",
            Exit::Shutdown => "shutdown",
            Exit::Failed(_) => "failed",
        }
    }
}

/// The page shared with the kernel, and the vCPU it belongs to.
pub struct RunPage {
    page: NonNull<kvm_run>,
    len: usize,
    fd: RawFd,
}

// SAFETY: `run` is called by one thread only (it takes `&mut RunLoop`); other threads only store
// to `immediate_exit`, atomically.
unsafe impl Send for RunPage {}
// SAFETY: as above.
unsafe impl Sync for RunPage {}

impl RunPage {
    /// Maps the page of `vcpu`, which must outlive it. `len` is KVM_GET_VCPU_MMAP_SIZE.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new(vcpu: &VcpuFd, len: usize) -> io::Result<Self> {
        if len < size_of::<kvm_run>() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let fd = vcpu.as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice.
        let page = unsafe { libc::mmap(null_mut(), len, prot, libc::MAP_SHARED, fd, 0) };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let page = NonNull::new(page.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(RunPage { page, len, fd })
    }

    /// Makes this run and all to come end at once, until it is taken back. Any thread.
    pub fn set_immediate_exit(&self, on: bool) {
        // SAFETY: the field is one byte of the live mapping, which other threads and the kernel
        // touch with single stores and loads only.
        let flag = unsafe { AtomicU8::from_ptr(&raw mut (*self.page.as_ptr()).immediate_exit) };
        flag.store(u8::from(on), Ordering::SeqCst);
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: our own mapping; nothing borrowed from it outlives us.
        unsafe { libc::munmap(self.page.as_ptr().cast(), self.len) };
    }
}

/// The right to run a vCPU: there is one for each.
pub struct RunLoop<'a>(&'a RunPage);

impl<'a> RunLoop<'a> {
    /// The caller is the vCPU's own thread and the only one that makes this.
    pub fn new(page: &'a RunPage) -> Self {
        RunLoop(page)
    }

    /// Runs the guest until it needs us.
    pub fn run(&mut self) -> Exit<'_> {
        // SAFETY: no pointer is passed; the descriptor is a vCPU's and open.
        if unsafe { libc::ioctl(self.0.fd, KVM_RUN, 0) } < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN) => Exit::Interrupted,
                _ => Exit::Failed(format!("KVM_RUN: {error}")),
            };
        }
        let page = self.0.page.as_ptr();
        // SAFETY: the kernel writes the page only during KVM_RUN; other threads touch another
        // byte. The union's variants are chosen by the exit reason, as the kernel set them.
        unsafe {
            match (*page).exit_reason {
                KVM_EXIT_IO => self.port(),
                KVM_EXIT_MMIO => {
                    let mmio = &mut (*page).__bindgen_anon_1.mmio;
                    let len = usize::try_from(mmio.len).unwrap_or(0).min(mmio.data.len());
                    let data = mmio.data.get_mut(..len).unwrap_or_default();
                    match mmio.is_write {
                        0 => Exit::MemoryRead {
                            addr: mmio.phys_addr,
                            data,
                        },
                        _ => Exit::MemoryWrite {
                            addr: mmio.phys_addr,
                            data,
                        },
                    }
                }
                KVM_EXIT_INTR => Exit::Interrupted,
                KVM_EXIT_HLT => Exit::Nothing,
                KVM_EXIT_SHUTDOWN => Exit::Shutdown,
                KVM_EXIT_SYSTEM_EVENT => {
                    let kind = (*page).__bindgen_anon_1.system_event.type_;
                    Exit::Failed(format!("KVM system event {kind}"))
                }
                KVM_EXIT_FAIL_ENTRY => {
                    let entry = (*page).__bindgen_anon_1.fail_entry;
                    let reason = entry.hardware_entry_failure_reason;
                    Exit::Failed(format!("KVM: entry failed, hardware error {reason:#x}"))
                }
                KVM_EXIT_INTERNAL_ERROR => {
                    let internal = (*page).__bindgen_anon_1.internal;
                    let count = usize::try_from(internal.ndata).unwrap_or(0);
                    let data = internal.data.get(..count).unwrap_or_default();
                    let suberror = internal.suberror;
                    let text = format!("KVM internal error. Suberror: {suberror}, data {data:x?}");
                    Exit::Failed(text)
                }
                other => Exit::Failed(format!("KVM: unknown exit, hardware reason {other}")),
            }
        }
    }

    /// A port access.
    ///
    /// # Safety
    /// The exit reason is KVM_EXIT_IO and the kernel is not running this vCPU.
    unsafe fn port(&mut self) -> Exit<'_> {
        let page = self.0.page.as_ptr();
        // SAFETY: the exit reason says that this variant is set.
        let io = unsafe { (*page).__bindgen_anon_1.io };
        let size = usize::from(io.size).max(1);
        let count = usize::try_from(io.count).unwrap_or(0);
        let len = size.saturating_mul(count);
        let offset = usize::try_from(io.data_offset).unwrap_or(usize::MAX);
        if offset.checked_add(len).is_none_or(|end| end > self.0.len) {
            return Exit::Failed("KVM: port data outside of the run page".into());
        }
        // SAFETY: the range lies in the mapping, as just checked, behind the structure; nobody
        // else touches it until the next KVM_RUN.
        let data = unsafe { std::slice::from_raw_parts_mut(page.cast::<u8>().add(offset), len) };
        match u32::from(io.direction) {
            KVM_EXIT_IO_OUT => Exit::PortWrite {
                port: io.port,
                size,
                data,
            },
            _ => Exit::PortRead {
                port: io.port,
                size,
                data,
            },
        }
    }
}

/// What interrupts KVM_RUN.
fn kick_signal() -> i32 {
    libc::SIGRTMIN()
}

/// Gives the kicking signal a handler that does nothing, so that it only interrupts.
///
/// # Errors
/// Those of sigaction(2).
pub fn install_kick_handler() -> io::Result<()> {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: an empty handler is safe at any time; the structure is filled in as sigaction(2)
    // asks, with no flags, so that system calls are not restarted.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(kick_signal(), &action, null_mut())
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Interrupts KVM_RUN of the thread `tid` of ours.
pub fn kick(tid: i32) {
    // SAFETY: no pointers; the caller knows that the thread lives.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, kick_signal()) };
}
