//! The registers as text, in the layout that people know from QEMU.

use std::fmt::Write;

use kvm_bindings::{kvm_dtable, kvm_segment};

use super::view::{CpuView, descriptor_flags};

impl CpuView {
    /// The registers as text; with the registers of floating point and SSE or without.
    pub fn describe(&self, fpu: bool) -> String {
        let mut text = String::new();
        self.general(&mut text);
        self.flags(&mut text);
        self.segments(&mut text);
        self.control(&mut text);
        if fpu {
            self.floating(&mut text);
        }
        text
    }

    fn general(&self, text: &mut String) {
        let regs = &self.regs;
        let old = [
            ("AX", regs.rax),
            ("BX", regs.rbx),
            ("CX", regs.rcx),
            ("DX", regs.rdx),
            ("SI", regs.rsi),
            ("DI", regs.rdi),
            ("BP", regs.rbp),
            ("SP", regs.rsp),
        ];
        let new = [
            ("8 ", regs.r8),
            ("9 ", regs.r9),
            ("10", regs.r10),
            ("11", regs.r11),
            ("12", regs.r12),
            ("13", regs.r13),
            ("14", regs.r14),
            ("15", regs.r15),
        ];
        let wide = self.is_64bit();
        let cell = |(name, value): &(&str, u64)| match wide {
            true => format!("R{name}={value:016x}"),
            false => format!("E{name}={:08x}", value & 0xffff_ffff),
        };
        let new = if wide { &new[..] } else { &[] };
        for row in old.chunks(4).chain(new.chunks(4)) {
            let cells: Vec<String> = row.iter().map(cell).collect();
            let _ = writeln!(text, "{}", cells.join(" "));
        }
    }

    fn flags(&self, text: &mut String) {
        let regs = &self.regs;
        let _ = match self.is_64bit() {
            true => write!(text, "RIP={:016x} RFL={:08x}", regs.rip, regs.rflags),
            false => write!(
                text,
                "EIP={:08x} EFL={:08x}",
                regs.rip & 0xffff_ffff,
                regs.rflags
            ),
        };
        let _ = writeln!(
            text,
            " [{}] CPL={} II=0 A20=1 SMM={} HLT={}",
            flag_letters(regs.rflags),
            self.sregs.ss.dpl & 3,
            u8::from(self.smm),
            u8::from(self.halted),
        );
    }

    /// An address as wide as the mode has it.
    fn base(&self, value: u64) -> String {
        match self.is_long() {
            true => format!("{value:016x}"),
            false => format!("{:08x}", value & 0xffff_ffff),
        }
    }

    fn segments(&self, text: &mut String) {
        let sregs = &self.sregs;
        for (name, segment) in [
            ("ES ", sregs.es),
            ("CS ", sregs.cs),
            ("SS ", sregs.ss),
            ("DS ", sregs.ds),
            ("FS ", sregs.fs),
            ("GS ", sregs.gs),
            ("LDT", sregs.ldt),
            ("TR ", sregs.tr),
        ] {
            let _ = writeln!(
                text,
                "{name}={:04x} {} {:08x} {:08x}{}",
                segment.selector,
                self.base(segment.base),
                segment.limit,
                descriptor_flags(&segment),
                self.meaning(&segment, name == "CS "),
            );
        }
        for (name, table) in [("GDT", sregs.gdt), ("IDT", sregs.idt)] {
            let kvm_dtable { base, limit, .. } = table;
            let _ = writeln!(text, "{name}=     {} {limit:08x}", self.base(base));
        }
    }

    /// What a segment is, where segments are more than numbers.
    fn meaning(&self, segment: &kvm_segment, code: bool) -> String {
        if self.sregs.cr0 & 1 == 0 || segment.present == 0 {
            return String::new();
        }
        let bit = |bit: u8, letter: char| match segment.type_ >> bit & 1 {
            0 => '-',
            _ => letter,
        };
        let what = match (segment.s, code) {
            (0, _) => return format!(" DPL={} {}", segment.dpl, self.system_type(segment)),
            (_, true) => match (segment.l, segment.db) {
                (1, _) => "CS64",
                (_, 0) => "CS16",
                _ => "CS32",
            },
            (_, false) if segment.db == 0 && !self.is_long() => "DS16",
            (_, false) => "DS  ",
        };
        let (second, first) = match code {
            true => (bit(1, 'R'), bit(2, 'C')),
            false => (bit(1, 'W'), bit(2, 'E')),
        };
        let accessed = bit(0, 'A');
        format!(" DPL={} {what} [{first}{second}{accessed}]", segment.dpl)
    }

    /// The names of system segments and gates (Intel SDM 3A, table 3-2).
    fn system_type(&self, segment: &kvm_segment) -> &'static str {
        match (segment.type_ & 15, self.is_long()) {
            (1, false) => "TSS16-avl",
            (2, _) => "LDT",
            (3, false) => "TSS16-busy",
            (4, false) => "CallGate16",
            (5, false) => "TaskGate",
            (6, false) => "IntGate16",
            (7, false) => "TrapGate16",
            (9, false) => "TSS32-avl",
            (11, false) => "TSS32-busy",
            (12, false) => "CallGate32",
            (14, false) => "IntGate32",
            (15, false) => "TrapGate32",
            (9, true) => "TSS64-avl",
            (11, true) => "TSS64-busy",
            (12, true) => "CallGate64",
            (14, true) => "IntGate64",
            (15, true) => "TrapGate64",
            _ => "Reserved",
        }
    }

    fn control(&self, text: &mut String) {
        let sregs = &self.sregs;
        let _ = writeln!(
            text,
            "CR0={:08x} CR2={} CR3={} CR4={:08x}",
            sregs.cr0,
            self.base(sregs.cr2),
            self.base(sregs.cr3),
            sregs.cr4
        );
        for (number, value) in self.debug.db.iter().enumerate() {
            let _ = write!(text, "DR{number}={value:016x} ");
        }
        let (dr6, dr7) = (self.debug.dr6, self.debug.dr7);
        let _ = writeln!(text, "\nDR6={dr6:016x} DR7={dr7:016x}");
        let _ = writeln!(text, "EFER={:016x}", sregs.efer);
    }

    fn floating(&self, text: &mut String) {
        let fpu = &self.fpu;
        let _ = writeln!(
            text,
            "FCW={:04x} FSW={:04x} [ST={}] FTW={:02x} MXCSR={:08x}",
            fpu.fcw,
            fpu.fsw,
            fpu.fsw >> 11 & 7,
            fpu.ftwx,
            fpu.mxcsr
        );
        // The last of a row ends it.
        let end = |number: usize| if number % 2 == 1 { '\n' } else { ' ' };
        for (number, register) in fpu.fpr.iter().enumerate() {
            let value = u128::from_le_bytes(*register);
            let (mantissa, exponent) = (value & u128::from(u64::MAX), value >> 64 & 0xffff);
            let _ = write!(text, "FPR{number}={mantissa:016x} {exponent:04x}");
            text.push(end(number));
        }
        let count = if self.is_64bit() { 16 } else { 8 };
        for (number, register) in fpu.xmm.iter().enumerate().take(count) {
            let value = u128::from_le_bytes(*register);
            let (high, low) = (value >> 64, value & u128::from(u64::MAX));
            let _ = write!(text, "XMM{number:02}={high:016x} {low:016x}");
            text.push(end(number));
        }
    }
}

fn flag_letters(flags: u64) -> String {
    let letters = [
        (10, 'D'),
        (11, 'O'),
        (7, 'S'),
        (6, 'Z'),
        (4, 'A'),
        (2, 'P'),
        (0, 'C'),
    ];
    letters
        .map(|(bit, letter)| if flags >> bit & 1 == 1 { letter } else { '-' })
        .iter()
        .collect()
}
