//! Registers and pending events of a vCPU.

use kvm_bindings::{
    kvm_debugregs, kvm_dtable, kvm_regs, kvm_segment, kvm_sregs, kvm_sregs2, kvm_vcpu_events,
    kvm_vcpu_events__bindgen_ty_1 as kvm_exception, kvm_vcpu_events__bindgen_ty_2 as kvm_interrupt,
    kvm_vcpu_events__bindgen_ty_3 as kvm_nmi, kvm_vcpu_events__bindgen_ty_4 as kvm_smi,
    kvm_vcpu_events__bindgen_ty_5 as kvm_triple_fault,
};
use kvm_ioctls::VcpuFd;
use serde::{Deserialize, Serialize};

use super::sys;
use crate::mirror::mirror;

mirror! {
    /// General registers.
    RegsV1 = kvm_regs {
        rax: u64,
        rbx: u64,
        rcx: u64,
        rdx: u64,
        rsi: u64,
        rdi: u64,
        rsp: u64,
        rbp: u64,
        r8: u64,
        r9: u64,
        r10: u64,
        r11: u64,
        r12: u64,
        r13: u64,
        r14: u64,
        r15: u64,
        rip: u64,
        rflags: u64,
    }
}

mirror! {
    /// A segment register with its hidden part.
    SegmentV1 = kvm_segment {
        base: u64,
        limit: u32,
        selector: u16,
        type_: u8,
        present: u8,
        dpl: u8,
        db: u8,
        s: u8,
        l: u8,
        g: u8,
        avl: u8,
        unusable: u8,
    } without padding
}

mirror! {
    /// A register of a descriptor table.
    TableV1 = kvm_dtable {
        base: u64,
        limit: u16,
    } without padding
}

mirror! {
    /// Segments, descriptor tables, control registers.
    SystemV1 = kvm_sregs2 {
        cs: SegmentV1,
        ds: SegmentV1,
        es: SegmentV1,
        fs: SegmentV1,
        gs: SegmentV1,
        ss: SegmentV1,
        tr: SegmentV1,
        ldt: SegmentV1,
        gdt: TableV1,
        idt: TableV1,
        cr0: u64,
        cr2: u64,
        cr3: u64,
        cr4: u64,
        cr8: u64,
        efer: u64,
        apic_base: u64,
        /// KVM_SREGS2_FLAGS_*: whether what follows counts.
        flags: u64,
        /// Page directory pointers, which a processor in PAE paging holds by itself.
        pdptrs: [u64; 4],
    }
}

/// The same, however the kernel was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SregsV1(SystemV1);

impl SregsV1 {
    /// Reads them; `second` is whether there is KVM_GET_SREGS2.
    pub fn read(fd: &VcpuFd, second: bool) -> std::io::Result<Self> {
        if second {
            return Ok(SregsV1(sys::sregs2(fd)?.into()));
        }
        let kvm_sregs {
            cs,
            ds,
            es,
            fs,
            gs,
            ss,
            tr,
            ldt,
            gdt,
            idt,
            cr0,
            cr2,
            cr3,
            cr4,
            cr8,
            efer,
            apic_base,
            // Also among the events.
            interrupt_bitmap: _,
        } = fd.get_sregs()?;
        let all = kvm_sregs2 {
            cs,
            ds,
            es,
            fs,
            gs,
            ss,
            tr,
            ldt,
            gdt,
            idt,
            cr0,
            cr2,
            cr3,
            cr4,
            cr8,
            efer,
            apic_base,
            flags: 0,
            pdptrs: [0; 4],
        };
        Ok(SregsV1(all.into()))
    }

    /// Sets them. Without KVM_SET_SREGS2 the kernel reads page directory pointers from memory.
    pub fn write(self, fd: &VcpuFd, second: bool) -> std::io::Result<()> {
        let all: kvm_sregs2 = self.0.into();
        if second {
            return sys::set_sregs2(fd, &all);
        }
        let kvm_sregs2 {
            cs,
            ds,
            es,
            fs,
            gs,
            ss,
            tr,
            ldt,
            gdt,
            idt,
            cr0,
            cr2,
            cr3,
            cr4,
            cr8,
            efer,
            apic_base,
            flags: _,
            pdptrs: _,
        } = all;
        Ok(fd.set_sregs(&kvm_sregs {
            cs,
            ds,
            es,
            fs,
            gs,
            ss,
            tr,
            ldt,
            gdt,
            idt,
            cr0,
            cr2,
            cr3,
            cr4,
            cr8,
            efer,
            apic_base,
            interrupt_bitmap: [0; 4],
        })?)
    }
}

mirror! {
    /// Debug registers.
    DebugRegsV1 = kvm_debugregs {
        /// DR0 to DR3.
        db: [u64; 4],
        dr6: u64,
        dr7: u64,
        flags: u64,
    } without reserved
}

mirror! {
    /// An exception on its way.
    ExceptionV1 = kvm_exception {
        injected: u8,
        nr: u8,
        has_error_code: u8,
        pending: u8,
        error_code: u32,
    }
}

mirror! {
    /// An interrupt on its way, and the shadow of STI or MOV SS.
    InterruptV1 = kvm_interrupt {
        injected: u8,
        nr: u8,
        soft: u8,
        shadow: u8,
    }
}

mirror! {
    /// Non-maskable interrupts.
    NmiV1 = kvm_nmi {
        injected: u8,
        pending: u8,
        masked: u8,
    } without pad
}

mirror! {
    /// System management interrupts.
    SmiV1 = kvm_smi {
        smm: u8,
        pending: u8,
        smm_inside_nmi: u8,
        latched_init: u8,
    }
}

mirror! {
    /// A triple fault on its way.
    TripleFaultV1 = kvm_triple_fault {
        pending: u8,
    }
}

mirror! {
    /// What is on its way to a vCPU.
    EventsV1 = kvm_vcpu_events {
        exception: ExceptionV1,
        interrupt: InterruptV1,
        nmi: NmiV1,
        sipi_vector: u32,
        /// KVM_VCPUEVENT_VALID_*: what counts.
        flags: u32,
        smi: SmiV1,
        triple_fault: TripleFaultV1,
        exception_has_payload: u8,
        exception_payload: u64,
    } without reserved
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn segment(base: u64) -> SegmentV1 {
        SegmentV1 {
            base,
            limit: 0xffff_ffff,
            selector: 0x10,
            type_: 11,
            present: 1,
            dpl: 3,
            db: 1,
            s: 1,
            l: 1,
            g: 1,
            avl: 1,
            unusable: 1,
        }
    }

    /// All with something in every field.
    pub fn all_set() -> (RegsV1, SregsV1, DebugRegsV1, EventsV1) {
        let regs = RegsV1 {
            rax: 1,
            rbx: 2,
            rcx: 3,
            rdx: 4,
            rsi: 5,
            rdi: 6,
            rsp: 7,
            rbp: 8,
            r8: 9,
            r9: 10,
            r10: 11,
            r11: 12,
            r12: 13,
            r13: 14,
            r14: 15,
            r15: 16,
            rip: 17,
            rflags: 0x202,
        };
        let table = TableV1 {
            base: 0x500,
            limit: 0x2f,
        };
        let sregs = SystemV1 {
            cs: segment(1),
            ds: segment(2),
            es: segment(3),
            fs: segment(4),
            gs: segment(5),
            ss: segment(6),
            tr: segment(7),
            ldt: segment(8),
            gdt: table.clone(),
            idt: table,
            cr0: 0x8005_003b,
            cr2: 0xdead_b000,
            cr3: 0x1000,
            cr4: 0x6f0,
            cr8: 1,
            efer: 0xd01,
            apic_base: 0xfee0_0900,
            flags: 1,
            pdptrs: [1, 2, 3, 4],
        };
        let debug = DebugRegsV1 {
            db: [1, 2, 3, 4],
            dr6: 0xffff_0ff1,
            dr7: 0x401,
            flags: 1,
        };
        let events = EventsV1 {
            exception: ExceptionV1 {
                injected: 1,
                nr: 14,
                has_error_code: 1,
                pending: 1,
                error_code: 6,
            },
            interrupt: InterruptV1 {
                injected: 1,
                nr: 0x30,
                soft: 1,
                shadow: 1,
            },
            nmi: NmiV1 {
                injected: 1,
                pending: 1,
                masked: 1,
            },
            sipi_vector: 0x9a,
            flags: 0x3f,
            smi: SmiV1 {
                smm: 1,
                pending: 1,
                smm_inside_nmi: 1,
                latched_init: 1,
            },
            triple_fault: TripleFaultV1 { pending: 1 },
            exception_has_payload: 1,
            exception_payload: 5,
        };
        (regs, SregsV1(sregs), debug, events)
    }

    #[test]
    fn nothing_is_lost_on_the_way_to_the_kernel_and_back() {
        let (regs, SregsV1(sregs), debug, events) = all_set();
        assert_eq!(RegsV1::from(kvm_regs::from(regs.clone())), regs);
        assert_eq!(SystemV1::from(kvm_sregs2::from(sregs.clone())), sregs);
        assert_eq!(DebugRegsV1::from(kvm_debugregs::from(debug.clone())), debug);
        assert_eq!(
            EventsV1::from(kvm_vcpu_events::from(events.clone())),
            events
        );
    }
}
