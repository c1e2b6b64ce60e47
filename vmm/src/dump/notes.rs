//! The notes about processors in a dump: what debuggers and crash read of registers. Layouts are
//! those of Linux (elf_prstatus, include/uapi/linux/elfcore.h and arch/x86/include/asm/user_64.h)
//! and of the note that QEMU adds (docs of crash, `qemu_note`).

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment};

use crate::vcpu::view::{CpuView, descriptor_flags};

const NT_PRSTATUS: u32 = 1;

/// Which processor the notes are of; it is the first one's mode that counts for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// i386.
    Bits32,
    /// x86-64.
    Bits64,
}

impl Width {
    /// What the first of these processors runs.
    pub fn of(cpus: &[CpuView]) -> Self {
        match cpus.first().is_some_and(CpuView::is_long) {
            true => Width::Bits64,
            false => Width::Bits32,
        }
    }
}

/// All notes: one of each processor for debuggers, then one of each with all of its state.
pub fn notes(cpus: &[CpuView]) -> Vec<u8> {
    let width = Width::of(cpus);
    let mut out = Vec::new();
    for (number, cpu) in (1u32..).zip(cpus) {
        let status = match width {
            Width::Bits64 => status64(number, cpu),
            Width::Bits32 => status32(number, cpu),
        };
        note(&mut out, b"CORE\0", NT_PRSTATUS, &status.0);
    }
    for cpu in cpus {
        note(&mut out, b"QEMU\0", 0, &state(cpu).0);
    }
    out
}

/// A note; its parts are padded to four bytes (ELF gABI, "Note Section").
fn note(out: &mut Vec<u8>, name: &[u8], kind: u32, desc: &[u8]) {
    for word in [name.len(), desc.len()] {
        let word = u32::try_from(word).unwrap_or(u32::MAX);
        out.extend(word.to_le_bytes());
    }
    out.extend(kind.to_le_bytes());
    for part in [name, desc] {
        out.extend(part);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

/// A structure under construction.
struct Fields(Vec<u8>);

impl Fields {
    fn words(&mut self, words: impl IntoIterator<Item = u32>) {
        self.0.extend(words.into_iter().flat_map(u32::to_le_bytes));
    }

    fn longs(&mut self, longs: impl IntoIterator<Item = u64>) {
        self.0.extend(longs.into_iter().flat_map(u64::to_le_bytes));
    }

    fn zeroes_up_to(&mut self, offset: usize) {
        self.0.resize(offset, 0);
    }
}

/// elf_prstatus of x86-64.
fn status64(pid: u32, cpu: &CpuView) -> Fields {
    let (r, s) = (&cpu.regs, &cpu.sregs);
    let selector = |segment: &kvm_segment| u64::from(segment.selector);
    let mut out = Fields(vec![0; 32]);
    out.words([pid]);
    out.zeroes_up_to(112);
    out.longs([
        r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx, r.rdx,
        r.rsi, r.rdi,
    ]);
    // No system call is under way (orig_rax).
    out.longs([0, r.rip, selector(&s.cs), r.rflags, r.rsp, selector(&s.ss)]);
    out.longs([s.fs.base, s.gs.base]);
    out.longs([&s.ds, &s.es, &s.fs, &s.gs].map(selector));
    out.zeroes_up_to(336);
    out
}

/// elf_prstatus of i386.
fn status32(pid: u32, cpu: &CpuView) -> Fields {
    let (r, s) = (&cpu.regs, &cpu.sregs);
    let low = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or(0);
    let selector = |segment: &kvm_segment| u32::from(segment.selector);
    let mut out = Fields(vec![0; 24]);
    out.words([pid]);
    out.zeroes_up_to(72);
    out.words([r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rax].map(low));
    out.words([&s.ds, &s.es, &s.fs, &s.gs].map(selector));
    out.words([0, low(r.rip), selector(&s.cs), low(r.rflags), low(r.rsp)]);
    out.words([selector(&s.ss)]);
    out.zeroes_up_to(144);
    out
}

/// The processor as QEMU's note has it: version 1.
fn state(cpu: &CpuView) -> Fields {
    const LEN: u32 = 440;
    let kvm_regs {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rsp,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip,
        rflags,
    } = cpu.regs;
    let s = &cpu.sregs;
    let mut out = Fields(Vec::new());
    out.words([1, LEN]);
    out.longs([rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp]);
    out.longs([r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags]);
    for segment in [&s.cs, &s.ds, &s.es, &s.fs, &s.gs, &s.ss, &s.ldt, &s.tr] {
        let flags = descriptor_flags(segment);
        out.words([u32::from(segment.selector), segment.limit, flags, 0]);
        out.longs([segment.base]);
    }
    for kvm_dtable { base, limit, .. } in [s.gdt, s.idt] {
        out.words([0, u32::from(limit), 0, 0]);
        out.longs([base]);
    }
    out.longs([s.cr0, 0, s.cr2, s.cr3, s.cr4, cpu.kernel_gs_base]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_their_sizes() {
        let cpu = CpuView::power_on(true);
        assert_eq!(status64(1, &cpu).0.len(), 336);
        assert_eq!(status32(1, &cpu).0.len(), 144);
        assert_eq!(state(&cpu).0.len(), 440);
        assert_eq!(notes(&[cpu]).len(), 624);
        assert!(notes(&[]).is_empty());
    }

    #[test]
    fn registers_are_where_they_are_looked_for() {
        let mut cpu = CpuView::power_on(true);
        (cpu.regs.r15, cpu.regs.rip, cpu.regs.rsp) = (15, 0x1234_5678_9abc_def0, 77);
        (cpu.sregs.fs.base, cpu.sregs.gs.selector) = (0xf5, 0x65);
        let long = |bytes: &[u8], at: usize| {
            u64::from_le_bytes(bytes.get(at..at + 8).unwrap().try_into().unwrap())
        };
        let wide = status64(3, &cpu).0;
        assert_eq!(long(&wide, 32), 3);
        assert_eq!(long(&wide, 112), 15);
        assert_eq!(long(&wide, 112 + 16 * 8), 0x1234_5678_9abc_def0);
        assert_eq!(long(&wide, 112 + 19 * 8), 77);
        assert_eq!(long(&wide, 112 + 21 * 8), 0xf5);
        assert_eq!(long(&wide, 112 + 26 * 8), 0x65);
        let narrow = status32(3, &cpu).0;
        assert_eq!(long(&narrow, 72 + 12 * 4), 0xf000_9abc_def0);
        assert_eq!(long(&narrow, 24), 3);
        let state = state(&cpu).0;
        assert_eq!(long(&state, 8 + 16 * 8), 0x1234_5678_9abc_def0);
        assert_eq!(long(&state, 392), 0x6000_0010);
        // The first's mode counts.
        (cpu.sregs.efer, cpu.sregs.cr0) = (1 << 10, 1 << 31);
        let both = [cpu, CpuView::power_on(false)];
        assert_eq!(notes(&both).len(), 2 * (20 + 336 + 20 + 440));
        assert_eq!(Width::of(&both), Width::Bits64);
    }
}
