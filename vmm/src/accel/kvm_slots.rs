//! RAM as KVM maps it, by slots, and the log of pages that the guest writes there.
#![allow(unsafe_code)] // hands guest RAM to the kernel
// Numbers of requests differ in type between C libraries.
#![allow(clippy::unnecessary_cast)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use devices::bus::lock;
use kvm_bindings::{
    KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_dirty_log, kvm_userspace_memory_region,
};
use kvm_ioctls::VmFd;

use super::SlotLog;
use crate::memory::RamSlot;
use crate::migration::ram::PAGE;

/// All slots of a virtual machine.
pub struct Slots {
    vm: Arc<VmFd>,
    /// Held for one slot's system calls. Leaf.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    regions: BTreeMap<u32, kvm_userspace_memory_region>,
    logging: bool,
    /// Regions that went while pages were logged: the kernel forgets which were written, and
    /// processors may write until it is gone, so all of them count. Those are small: only shadow
    /// memory comes and goes.
    gone: Vec<kvm_userspace_memory_region>,
    /// Room for a slot's log, as long as pages are logged: fresh memory for each would take longer
    /// than the kernel does.
    room: Vec<u64>,
}

impl Slots {
    /// Maps these.
    ///
    /// # Errors
    /// When the kernel has no slots left or refuses the range.
    pub fn new(vm: Arc<VmFd>, ram: &[(u32, RamSlot)]) -> Result<Self, kvm_ioctls::Error> {
        let mut state = State::default();
        for &(slot, ram) in ram {
            let region = region(slot, ram, 0);
            set_region(&vm, region)?;
            state.regions.insert(slot, region);
        }
        Ok(Slots {
            vm,
            state: Mutex::new(state),
        })
    }

    /// Maps RAM as slot `slot`, replacing what the slot had.
    ///
    /// # Errors
    /// When the kernel has no slots left or refuses the range.
    pub fn map(&self, slot: u32, ram: RamSlot) -> io::Result<()> {
        let mut state = lock(&self.state);
        // The kernel moves and shrinks no slot in place.
        self.remove(&mut state, slot)?;
        let flags = if state.logging {
            KVM_MEM_LOG_DIRTY_PAGES
        } else {
            0
        };
        let region = region(slot, ram, flags);
        set_region(&self.vm, region)?;
        state.regions.insert(slot, region);
        Ok(())
    }

    /// Takes a slot out of the guest.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unmap(&self, slot: u32) -> io::Result<()> {
        self.remove(&mut lock(&self.state), slot)
    }

    fn remove(&self, state: &mut State, slot: u32) -> io::Result<()> {
        let Some(old) = state.regions.remove(&slot) else {
            return Ok(());
        };
        if state.logging && old.flags & KVM_MEM_READONLY == 0 {
            state.gone.push(old);
        }
        let empty = kvm_userspace_memory_region {
            memory_size: 0,
            ..old
        };
        Ok(set_region(&self.vm, empty)?)
    }

    fn set_logging(&self, state: &mut State, on: bool) -> io::Result<()> {
        state.logging = on;
        state.gone.clear();
        state.room = Vec::new();
        let log = if on { KVM_MEM_LOG_DIRTY_PAGES } else { 0 };
        for region in state.regions.values_mut() {
            region.flags = region.flags & KVM_MEM_READONLY | log;
            set_region(&self.vm, *region)?;
        }
        Ok(())
    }
}

impl SlotLog for Slots {
    fn start(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        // Each slot's log begins empty when it is switched on.
        self.set_logging(&mut state, false)?;
        self.set_logging(&mut state, true)
    }

    fn collect(&self, mark: &mut dyn FnMut(u64, &[u64])) -> io::Result<()> {
        let (slots, mut room): (Vec<u32>, _) = {
            let mut state = lock(&self.state);
            let slots = state.regions.keys().copied().collect();
            (slots, std::mem::take(&mut state.room))
        };
        for slot in slots {
            let (region, log) = {
                let state = lock(&self.state);
                let Some(region) = state.regions.get(&slot).copied() else {
                    // Went meanwhile: see below.
                    continue;
                };
                (region, written(&self.vm, &region, &mut room)?)
            };
            mark(region.userspace_addr, log);
        }
        lock(&self.state).room = room;
        for region in std::mem::take(&mut lock(&self.state).gone) {
            let pages = usize::try_from(region.memory_size / PAGE).unwrap_or(0);
            let mut words = vec![u64::MAX; pages.div_ceil(64)];
            if let Some(last) = words.last_mut()
                && pages % 64 != 0
            {
                *last >>= 64 - pages % 64;
            }
            mark(region.userspace_addr, &words);
        }
        Ok(())
    }

    fn stop(&self) {
        if let Err(error) = self.set_logging(&mut lock(&self.state), false) {
            log::warn!("Cannot end the log of written pages: {error}");
        }
    }
}

fn region(slot: u32, ram: RamSlot, flags: u32) -> kvm_userspace_memory_region {
    let readonly = if ram.readonly { KVM_MEM_READONLY } else { 0 };
    kvm_userspace_memory_region {
        slot,
        flags: flags | readonly,
        guest_phys_addr: ram.guest,
        memory_size: ram.len,
        userspace_addr: ram.host,
    }
}

/// The log of a slot, which begins anew.
fn written<'r>(
    vm: &VmFd,
    region: &kvm_userspace_memory_region,
    room: &'r mut Vec<u64>,
) -> io::Result<&'r [u64]> {
    /// _IOW(KVMIO, 0x42, struct kvm_dirty_log) of linux/kvm.h.
    const KVM_GET_DIRTY_LOG: libc::Ioctl =
        (1 << 30 | (size_of::<kvm_dirty_log>() as u64) << 16 | 0xae42) as libc::Ioctl;
    let words = usize::try_from(region.memory_size.div_ceil(64 * PAGE)).unwrap_or(0);
    if room.len() < words {
        room.resize(words, 0);
    }
    let log = room.get_mut(..words).unwrap_or_default();
    let mut request = kvm_dirty_log {
        slot: region.slot,
        ..Default::default()
    };
    request.__bindgen_anon_1.dirty_bitmap = log.as_mut_ptr().cast();
    // SAFETY: the kernel writes a bit for each page of the slot, in whole words, and the room is
    // that large and lives across the call.
    let result = unsafe { libc::ioctl(vm.as_raw_fd(), KVM_GET_DIRTY_LOG, &raw const request) };
    match result {
        0 => Ok(log),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_region(vm: &VmFd, region: kvm_userspace_memory_region) -> Result<(), kvm_ioctls::Error> {
    // SAFETY: the range is guest RAM, which stays mapped until the process ends (see
    // `MachineRam::new`), or the slot is being emptied.
    unsafe { vm.set_user_memory_region(region) }
}
