//! Registers of a vCPU: how it starts.

use kvm_bindings::{
    CpuId, KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED,
    KVM_VCPUEVENT_VALID_NMI_PENDING, KVM_VCPUEVENT_VALID_SHADOW, KVM_VCPUEVENT_VALID_SIPI_VECTOR,
    Msrs, kvm_debugregs, kvm_fpu, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs,
    kvm_segment, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
};
use kvm_ioctls::VcpuFd;

type Result<T> = std::result::Result<T, kvm_ioctls::Error>;

/// Where the first vCPU starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Nowhere: there is nothing to run. The processor waits in its halted state.
    Halted,
    /// At the reset vector, in real mode (Intel SDM 3A, section 10.1.4).
    ResetVector,
    /// In 64-bit mode, with the tables that `boot` made.
    Long {
        /// RIP.
        rip: u64,
        /// RSI.
        rsi: u64,
        /// CR3.
        page_tables: u64,
        /// The descriptor table at which the flat segments below are found.
        gdt: u64,
    },
    /// In 32-bit protected mode without paging (Xen's PVH ABI, docs/misc/pvh; Linux's 32-bit
    /// boot protocol).
    Protected {
        /// EIP.
        eip: u32,
        /// EBX.
        ebx: u32,
        /// ESI.
        esi: u32,
        /// See above.
        gdt: u64,
    },
}

/// Flat code, 64 or 32 bits wide by table: Linux's `__BOOT_CS`.
pub const CODE: u16 = 0x10;
/// Flat data: Linux's `__BOOT_DS`.
pub const DATA: u16 = 0x18;
/// A task segment, which Intel's KVM insists on.
pub const TSS: u16 = 0x20;
/// Null, null, 64-bit code, data, task and its upper half (Intel SDM 3A, section 3.4.5).
pub const LONG_GDT: [u64; 6] = [
    0,
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x0000_8b00_0000_0067,
    0,
];
/// Null, null, 32-bit code, data, task.
pub const PROTECTED_GDT: [u64; 6] = [
    0,
    0,
    0x00cf_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x0000_8b00_0000_0067,
    0,
];

/// A vCPU as it was made; what a reset returns to.
pub struct PowerOn {
    sregs: kvm_sregs,
    lapic: kvm_lapic_state,
}

impl PowerOn {
    /// Reads the state of a vCPU that was never run, after its CPUID was set.
    pub fn capture(vcpu: &VcpuFd) -> Result<Self> {
        Ok(PowerOn {
            sregs: vcpu.get_sregs()?,
            lapic: vcpu.get_lapic()?,
        })
    }

    /// Puts a fresh vCPU into its first state; `entry` is the first vCPU's, the others wait for
    /// their start-up message.
    pub fn start(&self, vcpu: &VcpuFd, entry: Option<Entry>) -> Result<()> {
        let mut sregs = self.sregs;
        let mut regs = kvm_regs {
            rflags: 2,
            rip: 0xfff0,
            rdx: 0x600,
            ..Default::default()
        };
        match entry {
            None | Some(Entry::ResetVector) => return Ok(()),
            Some(Entry::Halted) => {
                return vcpu.set_mp_state(kvm_mp_state {
                    mp_state: KVM_MP_STATE_HALTED,
                });
            }
            Some(Entry::Long {
                rip,
                rsi,
                page_tables,
                gdt,
            }) => {
                regs = kvm_regs {
                    rip,
                    rsi,
                    rflags: 2,
                    ..Default::default()
                };
                flat(&mut sregs, true, gdt);
                sregs.cr0 = 0x8000_0031; // PG, NE, ET, PE
                sregs.cr3 = page_tables;
                sregs.cr4 = 0x20; // PAE
                sregs.efer = 0x500; // LMA, LME
            }
            Some(Entry::Protected { eip, ebx, esi, gdt }) => {
                regs.rip = u64::from(eip);
                regs.rbx = u64::from(ebx);
                regs.rsi = u64::from(esi);
                regs.rdx = 0;
                flat(&mut sregs, false, gdt);
                sregs.cr0 = 0x11; // ET, PE
            }
        }
        vcpu.set_sregs(&sregs)?;
        vcpu.set_regs(&regs)?;
        // Memory is write-back where nobody says otherwise, as firmware leaves it.
        set_msrs(vcpu, &[(MTRR_DEF_TYPE, 0x806)])
    }

    /// Back to power-on, then as [`PowerOn::start`].
    pub fn reset(&self, vcpu: &VcpuFd, first: bool, entry: Option<Entry>) -> Result<()> {
        let state = if first {
            KVM_MP_STATE_RUNNABLE
        } else {
            KVM_MP_STATE_UNINITIALIZED
        };
        vcpu.set_sregs(&self.sregs)?;
        let rdx = 0x600;
        vcpu.set_regs(&kvm_regs {
            rflags: 2,
            rip: 0xfff0,
            rdx,
            ..Default::default()
        })?;
        vcpu.set_fpu(&kvm_fpu {
            fcw: 0x37f,
            mxcsr: 0x1f80,
            ..Default::default()
        })?;
        let mut xcrs = kvm_xcrs {
            nr_xcrs: 1,
            ..Default::default()
        };
        if let Some(xcr0) = xcrs.xcrs.first_mut() {
            xcr0.value = 1;
        }
        // A processor without XSAVE has none of these.
        let _ = vcpu.set_xcrs(&xcrs);
        vcpu.set_debug_regs(&kvm_debugregs {
            dr6: 0xffff_0ff0,
            dr7: 0x400,
            ..Default::default()
        })?;
        set_msrs(vcpu, &MSRS)?;
        vcpu.set_lapic(&self.lapic)?;
        vcpu.set_vcpu_events(&kvm_vcpu_events {
            flags: KVM_VCPUEVENT_VALID_NMI_PENDING
                | KVM_VCPUEVENT_VALID_SIPI_VECTOR
                | KVM_VCPUEVENT_VALID_SHADOW,
            ..Default::default()
        })?;
        vcpu.set_mp_state(kvm_mp_state { mp_state: state })?;
        self.start(vcpu, entry)
    }
}

/// Sets CPUID.
pub fn set_cpuid(vcpu: &VcpuFd, cpuid: &CpuId) -> Result<()> {
    vcpu.set_cpuid2(cpuid)
}

fn flat(sregs: &mut kvm_sregs, long: bool, gdt: u64) {
    let segment = kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        present: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    sregs.cs = kvm_segment {
        selector: CODE,
        type_: 11,
        l: u8::from(long),
        db: u8::from(!long),
        ..segment
    };
    let data = kvm_segment {
        selector: DATA,
        type_: 3,
        db: 1,
        ..segment
    };
    (sregs.ds, sregs.es, sregs.fs) = (data, data, data);
    (sregs.gs, sregs.ss) = (data, data);
    sregs.tr = kvm_segment {
        selector: TSS,
        type_: 11,
        limit: 0x67,
        s: 0,
        g: 0,
        ..segment
    };
    sregs.gdt.base = gdt;
    sregs.gdt.limit = u16::try_from(size_of_val(&LONG_GDT))
        .unwrap_or(0)
        .wrapping_sub(1);
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
}

const MTRR_DEF_TYPE: u32 = 0x2ff;

/// Model-specific registers and what they hold after power-on (Intel SDM 4, table 2-2; AMD APM 2,
/// appendix A; Linux Documentation/virt/kvm/x86/msr.rst).
const MSRS: [(u32, u64); 22] = [
    (0x10, 0),                      // TSC
    (0x174, 0),                     // SYSENTER_CS
    (0x175, 0),                     // SYSENTER_ESP
    (0x176, 0),                     // SYSENTER_EIP
    (0x1a0, 1),                     // MISC_ENABLE: fast strings
    (0x277, 0x0007_0406_0007_0406), // PAT
    (MTRR_DEF_TYPE, 0),
    (0xc000_0081, 0), // STAR
    (0xc000_0082, 0), // LSTAR
    (0xc000_0083, 0), // CSTAR
    (0xc000_0084, 0), // FMASK
    (0xc000_0102, 0), // KERNEL_GS_BASE
    (0xc000_0103, 0), // TSC_AUX
    (0x3b, 0),        // TSC_ADJUST
    (0x6e0, 0),       // TSC_DEADLINE
    (0x48, 0),        // SPEC_CTRL
    (0x11, 0),        // kvm: wall clock
    (0x12, 0),        // kvm: system time
    (0x4b56_4d02, 0), // kvm: asynchronous page faults
    (0x4b56_4d03, 0), // kvm: steal time
    (0x4b56_4d04, 0), // kvm: paravirtual EOI
    (0x4b56_4d05, 1), // kvm: host-side polling
];

/// Sets registers; those that this processor lacks are left out.
fn set_msrs(vcpu: &VcpuFd, registers: &[(u32, u64)]) -> Result<()> {
    let mut rest = registers;
    while !rest.is_empty() {
        let entries: Vec<kvm_msr_entry> = rest
            .iter()
            .map(|&(index, data)| kvm_msr_entry {
                index,
                data,
                ..Default::default()
            })
            .collect();
        let msrs = Msrs::from_entries(&entries).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG))?;
        // The kernel stops at the first that it does not know.
        let set = vcpu.set_msrs(&msrs)?;
        rest = rest.get(set.saturating_add(1)..).unwrap_or_default();
    }
    Ok(())
}
