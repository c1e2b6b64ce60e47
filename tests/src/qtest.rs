//! The text protocol by which a test plays the processor: reads and writes of ports and memory.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use crate::{Vm, VmBuilder, seconds};

/// A machine and the connection that plays its processor.
#[derive(Debug)]
pub struct Qtest {
    /// The program.
    pub vm: Vm,
    input: BufReader<UnixStream>,
    output: UnixStream,
    interrupts: VecDeque<(bool, u32)>,
    next_page: u64,
}

/// First byte of memory that [`Qtest::alloc`] hands out.
const FIRST_PAGE: u64 = 0x10_0000;

impl Qtest {
    /// A q35 with these arguments besides.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(VmBuilder::new().idle(), args)
    }

    /// What the builder says, with these arguments besides.
    ///
    /// # Panics
    /// When it does not start, or does not connect.
    pub fn start_with(builder: VmBuilder, args: &[&str]) -> Self {
        let path = builder.path("qtest.sock");
        let listener = UnixListener::bind(&path).expect("a listener");
        let vm = builder
            .args(args)
            .arg("-qtest")
            .arg(format!("unix:{}", path.display()))
            .args(["-qtest-log", "/dev/null"])
            .start();
        listener.set_nonblocking(true).expect("a listener");
        let end = Instant::now() + seconds(20);
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => panic!("no connection: {e}"),
            }
            assert!(
                Instant::now() < end,
                "the program does not connect: {}",
                vm.stderr()
            );
            std::thread::sleep(Duration::from_millis(2));
        };
        stream.set_nonblocking(false).expect("a socket");
        stream
            .set_read_timeout(Some(seconds(30)))
            .expect("a socket");
        let mut qtest = Qtest {
            vm,
            input: BufReader::new(stream.try_clone().expect("a descriptor")),
            output: stream,
            interrupts: VecDeque::new(),
            next_page: FIRST_PAGE,
        };
        assert_eq!(qtest.command("endianness"), "OK little");
        qtest
    }

    /// Sends a line; returns the answer as it is.
    ///
    /// # Panics
    /// When none comes.
    pub fn command(&mut self, line: &str) -> String {
        self.output
            .write_all(format!("{line}\n").as_bytes())
            .expect("the program takes commands");
        loop {
            let answer = self.line().unwrap_or_else(|| panic!("no answer to {line}"));
            if let Some(interrupt) = interrupt(&answer) {
                self.interrupts.push_back(interrupt);
                continue;
            }
            return answer;
        }
    }

    /// Sends a line and does not wait for an answer.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn post(&mut self, line: &str) {
        self.output
            .write_all(format!("{line}\n").as_bytes())
            .expect("the program takes commands");
    }

    fn line(&mut self) -> Option<String> {
        let mut text = String::new();
        match self.input.read_line(&mut text) {
            Ok(1..) => Some(text.trim_end().to_owned()),
            _ => None,
        }
    }

    /// Sends a line that must be carried out; returns what stands behind `OK`.
    ///
    /// # Panics
    /// When it fails.
    pub fn ok(&mut self, line: &str) -> String {
        let answer = self.command(line);
        let rest = answer
            .strip_prefix("OK")
            .unwrap_or_else(|| panic!("{line}: {answer}"));
        rest.trim().to_owned()
    }

    fn value(&mut self, line: &str) -> u64 {
        let text = self.ok(line);
        let digits = text
            .strip_prefix("0x")
            .unwrap_or_else(|| panic!("{line}: {text}"));
        assert!(digits.len() >= 4, "{line}: {text}");
        u64::from_str_radix(digits, 16).unwrap_or_else(|e| panic!("{line}: {text}: {e}"))
    }

    /// Reads a port.
    pub fn inb(&mut self, port: u16) -> u8 {
        self.value(&format!("inb {port:#x}")) as u8
    }

    /// Reads a port.
    pub fn inw(&mut self, port: u16) -> u16 {
        self.value(&format!("inw {port:#x}")) as u16
    }

    /// Reads a port.
    pub fn inl(&mut self, port: u16) -> u32 {
        self.value(&format!("inl {port:#x}")) as u32
    }

    /// Writes a port.
    pub fn outb(&mut self, port: u16, value: u8) {
        self.ok(&format!("outb {port:#x} {value:#x}"));
    }

    /// Writes a port.
    pub fn outw(&mut self, port: u16, value: u16) {
        self.ok(&format!("outw {port:#x} {value:#x}"));
    }

    /// Writes a port.
    pub fn outl(&mut self, port: u16, value: u32) {
        self.ok(&format!("outl {port:#x} {value:#x}"));
    }

    /// Reads memory as the processor sees it.
    pub fn readb(&mut self, at: u64) -> u8 {
        self.value(&format!("readb {at:#x}")) as u8
    }

    /// Reads memory.
    pub fn readw(&mut self, at: u64) -> u16 {
        self.value(&format!("readw {at:#x}")) as u16
    }

    /// Reads memory.
    pub fn readl(&mut self, at: u64) -> u32 {
        self.value(&format!("readl {at:#x}")) as u32
    }

    /// Reads memory.
    pub fn readq(&mut self, at: u64) -> u64 {
        self.value(&format!("readq {at:#x}"))
    }

    /// Writes memory.
    pub fn writeb(&mut self, at: u64, value: u8) {
        self.ok(&format!("writeb {at:#x} {value:#x}"));
    }

    /// Writes memory.
    pub fn writew(&mut self, at: u64, value: u16) {
        self.ok(&format!("writew {at:#x} {value:#x}"));
    }

    /// Writes memory.
    pub fn writel(&mut self, at: u64, value: u32) {
        self.ok(&format!("writel {at:#x} {value:#x}"));
    }

    /// Writes memory.
    pub fn writeq(&mut self, at: u64, value: u64) {
        self.ok(&format!("writeq {at:#x} {value:#x}"));
    }

    /// Reads bytes.
    ///
    /// # Panics
    /// When the answer is not so long.
    pub fn read(&mut self, at: u64, length: usize) -> Vec<u8> {
        if length == 0 {
            return Vec::new();
        }
        let text = self.ok(&format!("read {at:#x} {length:#x}"));
        let digits = text.strip_prefix("0x").expect("hexadecimal digits");
        assert_eq!(digits.len(), length * 2);
        (0..length)
            .map(|i| u8::from_str_radix(&digits[i * 2..i * 2 + 2], 16).expect("hexadecimal digits"))
            .collect()
    }

    /// Writes bytes.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.ok(&format!("write {at:#x} {:#x} 0x{digits}", bytes.len()));
    }

    /// Takes whole pages of memory that nothing else uses, filled with zeroes.
    pub fn alloc(&mut self, length: u64) -> u64 {
        let at = self.next_page;
        self.next_page += length.div_ceil(4096).max(1) * 4096;
        self.ok(&format!("memset {at:#x} {length:#x} 0x0"));
        at
    }

    /// Forgets what was allocated.
    pub fn free_all(&mut self) {
        self.next_page = FIRST_PAGE;
    }

    /// Waits until an intercepted interrupt has this level; events of others are dropped.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub fn wait_interrupt(&mut self, line: u32, level: bool) {
        let end = Instant::now() + seconds(10);
        while Instant::now() < end {
            while let Some(event) = self.interrupts.pop_front() {
                if event == (level, line) {
                    return;
                }
            }
            // Any command brings what was raised meanwhile.
            self.command("endianness");
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("interrupt {line} does not become {level}");
    }

    /// Asks until `done`, for ten seconds at most.
    ///
    /// # Panics
    /// When it is not done by then.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + seconds(10);
        while !done(self) {
            assert!(Instant::now() < end, "{what}: not in time");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Resets the machine and forgets what was allocated.
    pub fn reset(&mut self) {
        self.vm.query("system_reset");
        self.vm.qmp().event("RESET");
        self.free_all();
    }
}

fn interrupt(line: &str) -> Option<(bool, u32)> {
    let (level, number) = line.strip_prefix("IRQ ")?.split_once(' ')?;
    Some((level == "raise", number.parse().ok()?))
}
