//! What a vCPU shows of itself: its registers as plain data.

use kvm_bindings::{
    KVM_MP_STATE_RUNNABLE, Msrs, kvm_debugregs, kvm_dtable, kvm_fpu, kvm_msr_entry, kvm_regs,
    kvm_segment, kvm_sregs,
};
use kvm_ioctls::VcpuFd;

/// IA32_KERNEL_GS_BASE (Intel SDM 4, table 2-2).
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const EFER_LMA: u64 = 1 << 10;

/// The registers of a vCPU at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuView {
    /// General registers.
    pub regs: kvm_regs,
    /// Segments, descriptor tables, control registers.
    pub sregs: kvm_sregs,
    /// Floating point and SSE.
    pub fpu: kvm_fpu,
    /// DR0 to DR7.
    pub debug: kvm_debugregs,
    /// What SWAPGS puts into the base of GS.
    pub kernel_gs_base: u64,
    /// It waits for an interrupt, or to be started.
    pub halted: bool,
    /// In system management mode.
    pub smm: bool,
}

impl CpuView {
    /// Reads a vCPU that is not in the guest.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take(vcpu: &VcpuFd) -> Result<Self, kvm_ioctls::Error> {
        let state = vcpu.get_mp_state();
        let smm = vcpu.get_vcpu_events().is_ok_and(|e| e.smi.smm != 0);
        let mut fpu = vcpu.get_fpu()?;
        // KVM_GET_FPU leaves it out; it is the seventh word of the area (Intel SDM 1, table 10-2).
        if let Ok(area) = vcpu.get_xsave() {
            fpu.mxcsr = area.region.get(6).copied().unwrap_or(0);
        }
        Ok(CpuView {
            regs: vcpu.get_regs()?,
            sregs: vcpu.get_sregs()?,
            fpu,
            debug: vcpu.get_debug_regs()?,
            kernel_gs_base: msr(vcpu, KERNEL_GS_BASE),
            halted: state.is_ok_and(|state| state.mp_state != KVM_MP_STATE_RUNNABLE),
            smm,
        })
    }

    /// A processor that was switched on and never ran (Intel SDM 3A, table 10-1); only the first
    /// one is not waiting for its start-up message.
    pub fn power_on(first: bool) -> Self {
        let regs = kvm_regs {
            rip: 0xfff0,
            rflags: 2,
            rdx: 0x600,
            ..Default::default()
        };
        let data = kvm_segment {
            limit: 0xffff,
            type_: 3,
            present: 1,
            s: 1,
            ..Default::default()
        };
        let code = kvm_segment {
            base: 0xffff_0000,
            selector: 0xf000,
            type_: 0xb,
            ..data
        };
        let system = |type_| kvm_segment {
            s: 0,
            type_,
            ..data
        };
        let table = kvm_dtable {
            limit: 0xffff,
            ..Default::default()
        };
        let sregs = kvm_sregs {
            cs: code,
            ds: data,
            es: data,
            fs: data,
            gs: data,
            ss: data,
            ldt: system(2),
            tr: system(0xb),
            gdt: table,
            idt: table,
            cr0: 0x6000_0010,
            ..Default::default()
        };
        CpuView {
            regs,
            sregs,
            fpu: kvm_fpu {
                fcw: 0x37f,
                mxcsr: 0x1f80,
                ..Default::default()
            },
            debug: kvm_debugregs {
                dr6: 0xffff_0ff0,
                dr7: 0x400,
                ..Default::default()
            },
            halted: !first,
            ..Default::default()
        }
    }

    /// In one of the modes of 64-bit processors (EFER.LMA).
    pub const fn is_long(&self) -> bool {
        self.sregs.efer & EFER_LMA != 0
    }

    /// It runs code of 64 bits.
    pub const fn is_64bit(&self) -> bool {
        self.is_long() && self.sregs.cs.l != 0
    }

    /// The value of a register by the name that people type; segments by their selector, or with
    /// `.base` and `.limit`. `pc` is the address that the next instruction is at.
    pub fn by_name(&self, name: &str) -> Option<u64> {
        let regs = &self.regs;
        Some(match name {
            "rax" | "eax" => regs.rax,
            "rbx" | "ebx" => regs.rbx,
            "rcx" | "ecx" => regs.rcx,
            "rdx" | "edx" => regs.rdx,
            "rsi" | "esi" => regs.rsi,
            "rdi" | "edi" => regs.rdi,
            "rbp" | "ebp" | "fp" => regs.rbp,
            "rsp" | "esp" | "sp" => regs.rsp,
            "r8" => regs.r8,
            "r9" => regs.r9,
            "r10" => regs.r10,
            "r11" => regs.r11,
            "r12" => regs.r12,
            "r13" => regs.r13,
            "r14" => regs.r14,
            "r15" => regs.r15,
            "rip" | "eip" => regs.rip,
            "rflags" | "eflags" => regs.rflags,
            "pc" => match self.is_64bit() {
                true => regs.rip,
                false => regs.rip.wrapping_add(self.sregs.cs.base),
            },
            "cr0" => self.sregs.cr0,
            "cr2" => self.sregs.cr2,
            "cr3" => self.sregs.cr3,
            "cr4" => self.sregs.cr4,
            "cr8" => self.sregs.cr8,
            "efer" => self.sregs.efer,
            segment => {
                let (segment, part) = segment.split_once('.').unwrap_or((segment, ""));
                let segment = self.segment(segment)?;
                match part {
                    "" => u64::from(segment.selector),
                    "base" => segment.base,
                    "limit" => u64::from(segment.limit),
                    _ => return None,
                }
            }
        })
    }

    fn segment(&self, name: &str) -> Option<&kvm_segment> {
        let sregs = &self.sregs;
        Some(match name {
            "cs" => &sregs.cs,
            "ds" => &sregs.ds,
            "es" => &sregs.es,
            "fs" => &sregs.fs,
            "gs" => &sregs.gs,
            "ss" => &sregs.ss,
            _ => return None,
        })
    }
}

/// A model-specific register; 0 where the processor has it not.
fn msr(vcpu: &VcpuFd, index: u32) -> u64 {
    let entry = kvm_msr_entry {
        index,
        ..Default::default()
    };
    let Ok(mut msrs) = Msrs::from_entries(&[entry]) else {
        return 0;
    };
    match vcpu.get_msrs(&mut msrs) {
        Ok(1) => msrs.as_slice().first().map_or(0, |entry| entry.data),
        _ => 0,
    }
}

/// A segment's attributes as the second word of its descriptor has them.
pub fn descriptor_flags(segment: &kvm_segment) -> u32 {
    let bit = |value: u8, at: u32| u32::from(value & 1) << at;
    bit(segment.g, 23)
        | bit(segment.db, 22)
        | bit(segment.l, 21)
        | bit(segment.avl, 20)
        | bit(segment.present, 15)
        | u32::from(segment.dpl & 3) << 13
        | bit(segment.s, 12)
        | u32::from(segment.type_ & 15) << 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_have_names() {
        let mut cpu = CpuView::power_on(true);
        for (name, value) in [
            ("pc", 0xffff_fff0),
            ("eip", 0xfff0),
            ("rip", 0xfff0),
            ("eflags", 2),
            ("edx", 0x600),
            ("cs", 0xf000),
            ("cs.base", 0xffff_0000),
            ("ds.limit", 0xffff),
            ("r15", 0),
            ("cr0", 0x6000_0010),
        ] {
            assert_eq!(cpu.by_name(name), Some(value), "{name}");
        }
        for name in ["", "cs.", "x", "cs.x", "r16", "Rax", "tr"] {
            let known = cpu.by_name(name);
            assert_eq!(known.is_some(), name == "cs.", "{name}");
        }
        (cpu.sregs.efer, cpu.sregs.cs.l) = (1 << 10, 1);
        assert_eq!(cpu.by_name("pc"), Some(0xfff0));
    }
}
