//! Saved state of a vCPU: everything that KVM has of it.

mod cpuid;
mod msrs;
mod parts;
mod sys;

use kvm_bindings::{
    KVM_VCPUEVENT_VALID_PAYLOAD, KVM_VCPUEVENT_VALID_TRIPLE_FAULT, kvm_lapic_state, kvm_mp_state,
    kvm_xcr, kvm_xcrs,
};
use kvm_ioctls::{Cap, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};
use vmstate::{Blob, Section};

use super::{Vcpu, Vcpus};
use crate::mirror::is_default;
use cpuid::LeafV1;
pub(super) use cpuid::SharedCpuid;
pub(super) use msrs::Msrs;
use parts::{DebugRegsV1, EventsV1, RegsV1, SregsV1};

const ID: &str = "cpu";
const VERSION: u32 = 1;

/// A vCPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CpuV1 {
    /// What CPUID tells the guest.
    cpuid: Vec<LeafV1>,
    /// Frequency of the time-stamp counter; 0 where the kernel does not say.
    #[serde(skip_serializing_if = "is_default")]
    tsc_khz: u32,
    regs: RegsV1,
    sregs: SregsV1,
    /// Extended control registers, by number; none without XSAVE.
    #[serde(skip_serializing_if = "is_default")]
    xcrs: Vec<(u32, u64)>,
    /// Floating point, vectors and the like, in the layout of XSAVE.
    xsave: Blob,
    #[serde(skip_serializing_if = "is_default")]
    debug: DebugRegsV1,
    /// Model-specific registers, by number.
    msrs: Vec<(u32, u64)>,
    /// Registers of the local APIC.
    lapic: Blob,
    #[serde(skip_serializing_if = "is_default")]
    events: EventsV1,
    /// KVM_MP_STATE_*.
    #[serde(skip_serializing_if = "is_default")]
    mp_state: u32,
    /// KVM's own record of a guest that runs guests; absent where that is not offered.
    #[serde(skip_serializing_if = "is_default")]
    nested: Blob,
}

/// What the kernel's KVM can tell of a vCPU; the same for all of a machine.
pub(super) struct Abilities {
    msrs: Msrs,
    /// Bytes of the XSAVE area.
    xsave: usize,
    /// KVM_GET_SREGS2.
    sregs2: bool,
    /// Bytes of the largest record of nested virtualization; 0 without.
    nested: usize,
    /// Frequencies of time-stamp counters may be set.
    tsc_scaling: bool,
}

impl Abilities {
    pub(super) fn new(kvm: &kvm_ioctls::Kvm, vm: &VmFd) -> Result<Self, kvm_ioctls::Error> {
        let size = |cap| usize::try_from(vm.check_extension_int(cap)).unwrap_or(0);
        Ok(Abilities {
            msrs: Msrs::new(kvm)?,
            xsave: size(Cap::Xsave2).max(sys::XSAVE_LEN),
            sregs2: vm.check_extension_raw(u64::from(sys::KVM_CAP_SREGS2) as _) > 0,
            nested: size(Cap::NestedState),
            tsc_scaling: vm.check_extension(Cap::TscControl),
        })
    }
}

impl Vcpus {
    /// Id and instance of every section of [`Vcpus::save`].
    pub fn parts(&self) -> Vec<(&'static str, String)> {
        let all = 0..self.list.len();
        all.map(|index| (ID, index.to_string())).collect()
    }

    /// Why they cannot be saved, for people; none for most.
    pub fn blockers(&self) -> Vec<String> {
        // It would have another pace on another host.
        let invtsc = self.list.iter().any(|(vcpu, _)| vcpu.cpuid.offers_invtsc());
        let text = "State blocked by non-migratable CPU device (invtsc flag)";
        invtsc.then(|| text.to_owned()).into_iter().collect()
    }

    /// Every vCPU's state. All are parked; those that never run have none.
    ///
    /// # Errors
    /// With the vCPU and what the kernel refused.
    pub fn save(&self) -> Result<Vec<Section>, String> {
        if !self.all_parked() {
            return Err("Processors are running".into());
        }
        let Some(abilities) = &self.abilities else {
            return Ok(Vec::new());
        };
        let save = |vcpu: &Vcpu| {
            let state = save(vcpu, abilities);
            let state = state.map_err(|reason| format!("CPU #{}: {reason}", vcpu.index))?;
            Section::pack(ID, &vcpu.index.to_string(), VERSION, &state)
                .map_err(|error| error.to_string())
        };
        self.list.iter().map(|(vcpu, _)| save(vcpu)).collect()
    }

    /// Puts one vCPU's state in. All are parked, RAM is complete, and devices and the accelerator
    /// were restored before.
    ///
    /// # Errors
    /// With the vCPU and what differs here or the kernel refused.
    pub fn restore(&self, section: &Section) -> Result<(), String> {
        if !self.all_parked() {
            return Err("Processors are running".into());
        }
        let state: CpuV1 = section
            .unpack(ID, VERSION)
            .map_err(|error| error.to_string())?;
        let index = section.instance.parse::<usize>().ok();
        let vcpu = index.and_then(|index| self.list.get(index));
        let (Some((vcpu, _)), Some(abilities)) = (vcpu, &self.abilities) else {
            return Err(format!("There is no CPU #{} here", section.instance));
        };
        restore(vcpu, abilities, state).map_err(|reason| format!("CPU #{}: {reason}", vcpu.index))
    }
}

/// Whether the guest may run guests of its own.
fn is_nested(vcpu: &Vcpu, abilities: &Abilities) -> bool {
    abilities.nested > 0 && vcpu.cpuid.offers_nesting()
}

fn save(vcpu: &Vcpu, abilities: &Abilities) -> Result<CpuV1, String> {
    let fd = &vcpu.fd;
    // Events first: asking for them may move what is pending into CR2 or DR6. The run state
    // second: asking for it may carry out a start-up message, which changes CS and RIP.
    let events = fd
        .get_vcpu_events()
        .map_err(failed("KVM_GET_VCPU_EVENTS"))?;
    let state = fd.get_mp_state().map_err(failed("KVM_GET_MP_STATE"))?;
    let lapic = fd.get_lapic().map_err(failed("KVM_GET_LAPIC"))?;
    let nested = match is_nested(vcpu, abilities) {
        true => sys::nested(fd, abilities.nested).map_err(failed("KVM_GET_NESTED_STATE"))?,
        false => Vec::new(),
    };
    let debug = fd.get_debug_regs().map_err(failed("KVM_GET_DEBUGREGS"))?;
    Ok(CpuV1 {
        cpuid: vcpu.cpuid.leaves(),
        tsc_khz: fd.get_tsc_khz().unwrap_or(0),
        regs: fd.get_regs().map_err(failed("KVM_GET_REGS"))?.into(),
        sregs: SregsV1::read(fd, abilities.sregs2).map_err(failed("KVM_GET_SREGS"))?,
        xcrs: read_xcrs(fd),
        xsave: Blob(sys::xsave(fd, abilities.xsave).map_err(failed("KVM_GET_XSAVE"))?),
        debug: debug.into(),
        msrs: abilities.msrs.read(fd).map_err(failed("KVM_GET_MSRS"))?,
        lapic: Blob(lapic.regs.iter().map(|byte| *byte as u8).collect()),
        events: events.into(),
        mp_state: state.mp_state,
        nested: Blob(nested),
    })
}

/// In an order in which nothing is overwritten: CPUID says what is allowed; control registers say
/// how the rest is understood and where the local APIC is; its mode must be known before its
/// timer's deadline; what is pending comes when all that could take it is there.
fn restore(vcpu: &Vcpu, abilities: &Abilities, state: CpuV1) -> Result<(), String> {
    let CpuV1 {
        cpuid,
        tsc_khz,
        regs,
        sregs,
        xcrs,
        xsave,
        debug,
        msrs,
        lapic,
        events,
        mp_state,
        nested,
    } = state;
    let fd = &vcpu.fd;
    vcpu.cpuid.adopt(fd, &cpuid)?;
    set_tsc_khz(vcpu, abilities, tsc_khz);
    sregs
        .write(fd, abilities.sregs2)
        .map_err(failed("KVM_SET_SREGS"))?;
    if !nested.is_empty() {
        if !is_nested(vcpu, abilities) {
            return Err("nested: virtual machines within it are not offered here".into());
        }
        sys::set_nested(fd, &nested.0).map_err(failed("KVM_SET_NESTED_STATE"))?;
    }
    fd.set_regs(&regs.into()).map_err(failed("KVM_SET_REGS"))?;
    sys::set_xsave(fd, abilities.xsave, &xsave.0).map_err(failed("KVM_SET_XSAVE"))?;
    write_xcrs(fd, &xcrs)?;
    fd.set_lapic(&lapic_of(&lapic.0)?)
        .map_err(failed("KVM_SET_LAPIC"))?;
    abilities.msrs.write(fd, msrs)?;
    let mut events: kvm_bindings::kvm_vcpu_events = events.into();
    // Only virtual machines that asked for those may have them set.
    events.flags &= !(KVM_VCPUEVENT_VALID_PAYLOAD | KVM_VCPUEVENT_VALID_TRIPLE_FAULT);
    fd.set_vcpu_events(&events)
        .map_err(failed("KVM_SET_VCPU_EVENTS"))?;
    fd.set_mp_state(kvm_mp_state { mp_state })
        .map_err(failed("KVM_SET_MP_STATE"))?;
    fd.set_debug_regs(&debug.into())
        .map_err(failed("KVM_SET_DEBUGREGS"))
}

/// The guest's counter goes on at the pace it had. Where that cannot be, it goes at this host's:
/// a guest with kvm-clock is told of it, others see time go faster or slower.
fn set_tsc_khz(vcpu: &Vcpu, abilities: &Abilities, wanted: u32) {
    // How far clocks may be corrected by NTP: 250 parts in a million.
    const TOLERANCE: u64 = 250;
    let Ok(here) = vcpu.fd.get_tsc_khz() else {
        return;
    };
    let allowed = u64::from(here).saturating_mul(TOLERANCE) / 1_000_000;
    if wanted == 0 || u64::from(here.abs_diff(wanted)) <= allowed {
        return;
    }
    if !abilities.tsc_scaling || vcpu.fd.set_tsc_khz(wanted).is_err() {
        log::warn!(
            "CPU #{}: its time-stamp counter ran at {wanted} kHz and will run at {here} kHz: this \
             host cannot scale it",
            vcpu.index
        );
    }
}

fn read_xcrs(fd: &VcpuFd) -> Vec<(u32, u64)> {
    // A processor without XSAVE has none.
    let xcrs = fd.get_xcrs().unwrap_or_default();
    let count = usize::try_from(xcrs.nr_xcrs).unwrap_or(0);
    let all = xcrs.xcrs.iter().take(count);
    all.map(|xcr| (xcr.xcr, xcr.value)).collect()
}

fn write_xcrs(fd: &VcpuFd, saved: &[(u32, u64)]) -> Result<(), String> {
    let mut xcrs = kvm_xcrs::default();
    if saved.is_empty() {
        return Ok(());
    }
    if saved.len() > xcrs.xcrs.len() {
        return Err(format!("xcrs: {} are too many", saved.len()));
    }
    for (place, &(xcr, value)) in xcrs.xcrs.iter_mut().zip(saved) {
        *place = kvm_xcr {
            xcr,
            value,
            ..Default::default()
        };
    }
    xcrs.nr_xcrs = u32::try_from(saved.len()).unwrap_or(0);
    fd.set_xcrs(&xcrs).map_err(failed("KVM_SET_XCRS"))
}

fn lapic_of(bytes: &[u8]) -> Result<kvm_lapic_state, String> {
    let mut lapic = kvm_lapic_state::default();
    if bytes.len() != lapic.regs.len() {
        return Err(format!("lapic: not {} bytes", lapic.regs.len()));
    }
    for (register, byte) in lapic.regs.iter_mut().zip(bytes) {
        *register = *byte as _;
    }
    Ok(lapic)
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

#[cfg(test)]
#[path = "saved_test.rs"]
mod tests;
