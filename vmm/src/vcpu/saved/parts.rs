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
