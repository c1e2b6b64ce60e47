//! Model-specific registers.

use kvm_bindings::{Msrs as Batch, kvm_msr_entry};
use kvm_ioctls::{Kvm, VcpuFd};

/// Time-stamp counter, and the deadline of the local APIC's timer in its terms (Intel SDM 3A,
/// section 11.5.4.1).
const TSC: u32 = 0x10;
const TSC_DEADLINE: u32 = 0x6e0;
/// KVM's asynchronous page faults: what is set up before they are switched on, and the switch
/// (Linux Documentation/virt/kvm/x86/msr.rst).
const ASYNC_PF: u32 = 0x4b56_4d02;
/// Synthetic registers of Hyper-V's interface, which no guest is offered: KVM would begin to keep
/// state for it when one is set.
const HYPERV: std::ops::Range<u32> = 0x4000_0000..0x4000_0200;
/// Variable and fixed memory types and their switch (Intel SDM 4, table 2-2): KVM has them, and
/// does not list them.
const MTRRS: [(u32, u32); 5] = [(0x200, 16), (0x250, 1), (0x258, 2), (0x268, 8), (0x2ff, 1)];
/// How many banks of the machine check architecture there are, in the low byte; then four registers
/// of each.
const MCG_CAP: u32 = 0x179;
const MC_BANKS: u32 = 0x400;
/// How many the kernel takes at once (MAX_IO_MSRS of its arch/x86/kvm/x86.c is the first too many).
const BATCH: usize = 255;

/// The registers that this kernel's KVM has and that belong to a guest.
pub struct Msrs(Vec<u32>);

impl Msrs {
    /// Asks the kernel.
    pub fn new(kvm: &Kvm) -> Result<Self, kvm_ioctls::Error> {
        let listed = kvm.get_msr_index_list()?;
        let mut all: Vec<u32> = listed.as_slice().to_vec();
        all.retain(|index| !HYPERV.contains(index));
        all.extend(
            MTRRS
                .iter()
                .flat_map(|&(first, count)| first..first + count),
        );
        all.extend(MC_BANKS..MC_BANKS + 4 * 32);
        all.sort_unstable();
        all.dedup();
        Ok(Msrs(all))
    }

    /// All that this vCPU has.
    pub fn read(&self, fd: &VcpuFd) -> Result<Vec<(u32, u64)>, kvm_ioctls::Error> {
        let banks = read(fd, &[MCG_CAP])?.first().map_or(0, |cap| cap.1 & 0xff);
        let banks = MC_BANKS..MC_BANKS.saturating_add(4 * u32::try_from(banks).unwrap_or(0));
        let is_there =
            |index: &u32| !(MC_BANKS..MC_BANKS + 4 * 32).contains(index) || banks.contains(index);
        let wanted: Vec<u32> = self.0.iter().copied().filter(is_there).collect();
        read(fd, &wanted)
    }

    /// Sets them. One that cannot be set and has its value already is fine (some say what the
    /// processor is, and are set once), and so is one that is not there and was 0.
    ///
    /// # Errors
    /// Naming the first that cannot be set.
    pub fn write(&self, fd: &VcpuFd, mut saved: Vec<(u32, u64)>) -> Result<(), String> {
        saved.sort_by_key(|&(index, _)| place(index));
        let mut rest = saved.as_slice();
        while !rest.is_empty() {
            let batch = rest.get(..BATCH.min(rest.len())).unwrap_or_default();
            let set = write(fd, batch).map_err(|error| format!("KVM_SET_MSRS: {error}"))?;
            if let Some(&(index, value)) = batch.get(set) {
                check_refused(fd, index, value)?;
            }
            let next = set.saturating_add(usize::from(set < batch.len()));
            rest = rest.get(next..).unwrap_or_default();
        }
        Ok(())
    }
}

/// The counter first, because others are given in its terms, the deadline last.
fn place(index: u32) -> u8 {
    match index {
        TSC => 0,
        ASYNC_PF => 2,
        TSC_DEADLINE => 3,
        _ => 1,
    }
}

fn check_refused(fd: &VcpuFd, index: u32, value: u64) -> Result<(), String> {
    let here = read(fd, &[index]).map_err(|error| format!("KVM_GET_MSRS: {error}"))?;
    match here.first() {
        Some(&(_, here)) if here == value => Ok(()),
        None if value == 0 => Ok(()),
        Some(&(_, here)) => Err(format!(
            "msrs: {index:#x} cannot be set to {value:#x} here, where it is {here:#x}"
        )),
        None => Err(format!(
            "msrs: {index:#x}, which was {value:#x}, is not there on this host"
        )),
    }
}

/// Those of `wanted` that can be read.
fn read(fd: &VcpuFd, wanted: &[u32]) -> Result<Vec<(u32, u64)>, kvm_ioctls::Error> {
    let mut found = Vec::with_capacity(wanted.len());
    let mut rest = wanted;
    while !rest.is_empty() {
        let batch = rest.get(..BATCH.min(rest.len())).unwrap_or_default();
        let mut msrs = batch_of(batch, |index| (*index, 0))?;
        // The kernel stops at the first that it does not know.
        let count = fd.get_msrs(&mut msrs)?;
        let known = msrs.as_slice().get(..count).unwrap_or_default();
        found.extend(known.iter().map(|entry| (entry.index, entry.data)));
        let next = count.saturating_add(usize::from(count < batch.len()));
        rest = rest.get(next..).unwrap_or_default();
    }
    Ok(found)
}

/// How many could be set, from the first on.
fn write(fd: &VcpuFd, values: &[(u32, u64)]) -> Result<usize, kvm_ioctls::Error> {
    fd.set_msrs(&batch_of(values, |value| *value)?)
}

fn batch_of<T>(from: &[T], entry: impl Fn(&T) -> (u32, u64)) -> Result<Batch, kvm_ioctls::Error> {
    let mut batch = Batch::new(from.len()).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG))?;
    for (place, from) in batch.as_mut_slice().iter_mut().zip(from) {
        let (index, data) = entry(from);
        *place = kvm_msr_entry {
            index,
            data,
            ..Default::default()
        };
    }
    Ok(batch)
}
