//! The qtest protocol: a test reads and writes ports and memory, moves the clock and watches
//! interrupt lines. One command a line, words separated by blanks, numbers in C notation;
//! answers are `OK`, `OK value` or `FAIL reason`, and `IRQ raise|lower N` at any time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use descriptors::SocketPath;
use devices::bus::lock;
use devices::clock::Clock;
use devices::effect::Effect;
use devices::irq::IrqLine;
use devices::map::Space;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::lines::{INPUTS, Source};
use super::qtest::{QtestAccel, Reporter, Shared};
use super::words::{decode_base64, decode_hex, encode_base64, encode_hex, number};
use crate::clock::GuestClock;
use crate::event::MachineEvent;
use crate::sys::Trigger;
use crate::threads::{self, ThreadKind};

const STOP: u64 = 0;
const LISTENER: u64 = 1;
const STREAM: u64 = 2;

/// The longest line and the largest block; more is a mistake.
const LIMIT: usize = 64 << 20;

/// How long the end waits for the last answer to go out.
const LAST_ANSWER: Duration = Duration::from_millis(200);

/// Where the test is.
pub enum Endpoint {
    /// It listened and we connected.
    Connected(UnixStream),
    /// We listen at this path, which is removed at the end; one test after the other.
    Listening(UnixListener, SocketPath),
}

/// The thread that serves the test. Ends when dropped.
pub struct QtestServer {
    stop: Arc<EventFd>,
    thread: Option<std::thread::JoinHandle<Option<()>>>,
    _path: Option<SocketPath>,
}

impl QtestServer {
    /// Starts to serve. The clock must be a stepped one.
    ///
    /// # Errors
    /// When the host is out of threads or descriptors.
    pub fn start(
        accel: &QtestAccel,
        endpoint: Endpoint,
        clock: Arc<GuestClock>,
        log: Option<File>,
    ) -> io::Result<Self> {
        let stop = Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?);
        let shared = accel.shared.clone();
        shared.poll.watch(&*stop, STOP, Trigger::Level)?;
        let mut server = Serving {
            interpreter: Interpreter {
                shared: shared.clone(),
                clock,
                lines: Vec::new(),
            },
            listener: None,
            stream: None,
            out: Arc::new(Output {
                stream: Mutex::default(),
                log: Mutex::new(log),
                start: Instant::now(),
            }),
            input: Vec::new(),
        };
        let mut socket = None;
        match endpoint {
            Endpoint::Connected(stream) => server.adopt(stream)?,
            Endpoint::Listening(listener, path) => {
                socket = Some(path);
                listener.set_nonblocking(true)?;
                shared.poll.watch(&listener, LISTENER, Trigger::Level)?;
                server.listener = Some(listener);
            }
        }
        let mail = shared.mail.clone();
        let thread = threads::spawn(ThreadKind::Qtest, "qtest", Some(mail), move || {
            server.serve()
        })?;
        Ok(QtestServer {
            stop,
            thread: Some(thread),
            _path: socket,
        })
    }
}

impl Drop for QtestServer {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        let Some(thread) = self.thread.take() else {
            return;
        };
        // Its last answer is to go out. It may also be waiting for control, which is who drops
        // us: then it ends with the process.
        let end = Instant::now() + LAST_ANSWER;
        while !thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_micros(100));
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

/// What goes to the test; from any thread.
struct Output {
    /// Held for one write. Leaf.
    stream: Mutex<Option<UnixStream>>,
    log: Mutex<Option<File>>,
    start: Instant,
}

impl Output {
    fn send(&self, line: &str) {
        self.note('S', line);
        if let Some(stream) = &mut *lock(&self.stream) {
            // A test that went away is noticed by the reader.
            let _ = stream.write_all(format!("{line}\n").as_bytes());
        }
    }

    fn note(&self, direction: char, line: &str) {
        if let Some(log) = &mut *lock(&self.log) {
            let time = self.start.elapsed().as_secs_f64();
            let _ = writeln!(log, "[{direction} +{time:.6}] {line}");
        }
    }
}

struct Serving {
    interpreter: Interpreter,
    listener: Option<UnixListener>,
    stream: Option<UnixStream>,
    out: Arc<Output>,
    input: Vec<u8>,
}

impl Serving {
    fn adopt(&mut self, stream: UnixStream) -> io::Result<()> {
        // Reads are made only when there is something; writes may block.
        stream.set_nonblocking(false)?;
        self.interpreter
            .shared
            .poll
            .watch(&stream, STREAM, Trigger::Level)?;
        *lock(&self.out.stream) = Some(stream.try_clone()?);
        self.stream = Some(stream);
        self.input.clear();
        Ok(())
    }

    fn serve(&mut self) {
        let shared = self.interpreter.shared.clone();
        loop {
            let Ok(ready) = shared.poll.wait(-1) else {
                return;
            };
            for token in ready {
                match token {
                    STOP => return,
                    LISTENER => self.accept(),
                    STREAM => self.receive(),
                    other => log::debug!("Nothing is watched as {other}"),
                }
            }
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        let Ok((stream, _)) = listener.accept() else {
            return;
        };
        if self.stream.is_some() {
            // One at a time; the other sees a closed connection.
            return;
        }
        if let Err(error) = self.adopt(stream) {
            log::error!("qtest: {error}");
        }
    }

    fn receive(&mut self) {
        let mut block = [0u8; 16 << 10];
        let got = self
            .stream
            .as_mut()
            .map_or(Ok(0), |stream| stream.read(&mut block));
        match got {
            Ok(count) if count > 0 && self.input.len() < LIMIT => {
                self.input
                    .extend_from_slice(block.get(..count).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => {
                // Closing the last copies takes it out of the set.
                self.stream = None;
                *lock(&self.out.stream) = None;
                self.input.clear();
            }
        }
        let mut start = 0usize;
        while let Some(len) = self
            .input
            .get(start..)
            .and_then(|rest| rest.iter().position(|byte| *byte == b'\n'))
        {
            let end = start.saturating_add(len);
            let line = self.input.get(start..end).unwrap_or_default();
            let line = String::from_utf8_lossy(line).trim().to_owned();
            start = end.saturating_add(1);
            if line.is_empty() {
                continue;
            }
            self.out.note('R', &line);
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let answer = match self.interpreter.run(&words, &self.out) {
                Ok(value) if value.is_empty() => "OK".to_owned(),
                Ok(value) => format!("OK {value}"),
                Err(reason) => format!("FAIL {reason}"),
            };
            self.out.send(&answer);
        }
        self.input.drain(..start.min(self.input.len()));
    }
}

/// Carries commands out.
struct Interpreter {
    shared: Arc<Shared>,
    clock: Arc<GuestClock>,
    /// Lines that the test drives.
    lines: Vec<(u8, Source<Reporter>)>,
}

type Answer = Result<String, String>;

fn width(verb: &str) -> Option<usize> {
    match verb.chars().last()? {
        'b' => Some(1),
        'w' => Some(2),
        'l' => Some(4),
        'q' => Some(8),
        _ => None,
    }
}

fn bytes_to_number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Interpreter {
    fn run(&mut self, words: &[&str], out: &Arc<Output>) -> Answer {
        let verb = words.first().copied().unwrap_or_default();
        let arg = |index: usize| {
            let word = words.get(index).ok_or("Missing argument")?;
            number(word).ok_or_else(|| format!("Bad number '{word}'"))
        };
        let length = |index: usize| {
            let len = usize::try_from(arg(index)?).unwrap_or(usize::MAX);
            if len > LIMIT {
                Err("Length too large".to_owned())
            } else {
                Ok(len)
            }
        };
        match verb {
            "outb" | "outw" | "outl" => {
                let (port, value) = (arg(1)? & 0xffff, arg(2)?);
                self.write(Space::Port, port, value, width(verb));
                Ok(String::new())
            }
            "inb" | "inw" | "inl" => {
                let value = self.read(Space::Port, arg(1)? & 0xffff, width(verb));
                Ok(format!("{value:#06x}"))
            }
            "writeb" | "writew" | "writel" | "writeq" => {
                let (addr, value) = (arg(1)?, arg(2)?);
                self.write(Space::Memory, addr, value, width(verb));
                Ok(String::new())
            }
            "readb" | "readw" | "readl" | "readq" => {
                let value = self.read(Space::Memory, arg(1)?, width(verb));
                Ok(format!("{value:#018x}"))
            }
            "read" => Ok(format!(
                "0x{}",
                encode_hex(&self.read_block(arg(1)?, length(2)?))
            )),
            "b64read" => Ok(encode_base64(&self.read_block(arg(1)?, length(2)?))),
            "write" => {
                let text = words.get(3).and_then(|word| word.strip_prefix("0x"));
                let mut data = decode_hex(text.ok_or("Missing argument")?);
                data.resize(length(2)?, 0);
                self.write_block(arg(1)?, &data);
                Ok(String::new())
            }
            "b64write" => {
                let text = words.get(3).ok_or("Missing argument")?;
                let mut data = decode_base64(text).ok_or("Bad base64 data")?;
                data.resize(length(2)?, 0);
                self.write_block(arg(1)?, &data);
                Ok(String::new())
            }
            "memset" => {
                let [value, ..] = arg(3)?.to_le_bytes();
                self.write_block(arg(1)?, &vec![value; length(2)?]);
                Ok(String::new())
            }
            "endianness" => Ok("little".into()),
            "clock_step" => {
                let now = self.clock.now_ns();
                let until = match words.get(1) {
                    Some(_) => now.saturating_add(arg(1)?),
                    None => self.clock.next_deadline().unwrap_or(now),
                };
                self.clock.advance_to(until);
                Ok(self.clock.now_ns().to_string())
            }
            "clock_set" => {
                self.clock.advance_to(arg(1)?);
                Ok(self.clock.now_ns().to_string())
            }
            "irq_intercept_in" | "irq_intercept_out" => self.intercept(words, out),
            "set_irq_in" => {
                if !is_interrupt_controller(words.get(1).copied()) {
                    return Err("Unknown device".into());
                }
                self.drive(arg(3)?, arg(4)? != 0)
            }
            "module_load" => Err(String::new()),
            other => Err(format!("Unknown command '{other}'")),
        }
    }

    fn intercept(&mut self, words: &[&str], out: &Arc<Output>) -> Answer {
        if !is_interrupt_controller(words.get(1).copied()) {
            return Err("Unknown device".into());
        }
        let out = out.clone();
        // Asked for twice, it goes on as it does.
        let _ = self
            .shared
            .inputs
            .pins()
            .report_to(Box::new(move |gsi, level| {
                let verb = if level { "raise" } else { "lower" };
                out.send(&format!("IRQ {verb} {gsi}"));
            }));
        Ok(String::new())
    }

    fn drive(&mut self, gsi: u64, level: bool) -> Answer {
        let gsi = u8::try_from(gsi)
            .ok()
            .filter(|gsi| usize::from(*gsi) < INPUTS);
        let gsi = gsi.ok_or("Unknown line")?;
        if !self.lines.iter().any(|(other, _)| *other == gsi) {
            self.lines
                .push((gsi, Source::new(&self.shared.inputs, gsi)));
        }
        if let Some((_, line)) = self.lines.iter().find(|(other, _)| *other == gsi) {
            line.set(level);
        }
        Ok(String::new())
    }

    fn read(&self, space: Space, addr: u64, width: Option<usize>) -> u64 {
        let mut bytes = [0u8; 8];
        if let Some(data) = bytes.get_mut(..width.unwrap_or(1)) {
            match space {
                Space::Port => self.shared.map.load().read(space, addr, data),
                Space::Memory => self.read_memory(addr, data),
            }
        }
        bytes_to_number(&bytes)
    }

    fn write(&self, space: Space, addr: u64, value: u64, width: Option<usize>) {
        let bytes = value.to_le_bytes();
        let data = bytes.get(..width.unwrap_or(1)).unwrap_or_default();
        match space {
            Space::Port => self.write_map(space, addr, data),
            Space::Memory => self.write_block(addr, data),
        }
    }

    fn read_block(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.read_memory(addr, &mut data);
        data
    }

    fn read_memory(&self, mut addr: u64, data: &mut [u8]) {
        let mut rest = data;
        while !rest.is_empty() {
            let (ram, len) = self.shared.piece(addr, rest.len());
            let (now, later) = rest.split_at_mut(len.max(1));
            match ram {
                true => {
                    let _ = self.shared.ram.memory().read_slice(now, GuestAddress(addr));
                }
                false => self.shared.map.load().read(Space::Memory, addr, now),
            }
            addr = addr.wrapping_add(now.len() as u64);
            rest = later;
        }
    }

    fn write_block(&self, mut addr: u64, data: &[u8]) {
        let mut rest = data;
        while !rest.is_empty() {
            let (ram, len) = self.shared.piece(addr, rest.len());
            let (now, later) = rest.split_at(len.max(1));
            match ram {
                true => {
                    let _ = self
                        .shared
                        .ram
                        .memory()
                        .write_slice(now, GuestAddress(addr));
                }
                false => self.write_map(Space::Memory, addr, now),
            }
            addr = addr.wrapping_add(now.len() as u64);
            rest = later;
        }
    }

    /// Writes to devices, and has control carry out what they ask for, as a vCPU does. A change of
    /// the machine as a whole is not waited for: the test gets its answer first.
    fn write_map(&self, space: Space, addr: u64, data: &[u8]) {
        let mail = &self.shared.mail;
        // Nobody keeps the map while control makes another: what is not in that is free then.
        let all = self.shared.map.load().write(space, addr, data);
        for raised in all {
            let (device, effect) = (raised.source.id, raised.effect);
            match effect {
                Effect::Power(_) => mail.event(MachineEvent::Effect {
                    device,
                    effect,
                    done: None,
                }),
                _ => mail.effect_and_wait(device, effect),
            }
        }
    }
}

/// The only device with lines that tests name: by its type, or by its place in the object tree.
fn is_interrupt_controller(path: Option<&str>) -> bool {
    path.is_some_and(|path| {
        path.rsplit('/')
            .next()
            .is_some_and(|name| name.contains("ioapic"))
    })
}

impl AsRawFd for QtestServer {
    fn as_raw_fd(&self) -> RawFd {
        self.stop.as_raw_fd()
    }
}

#[cfg(test)]
#[path = "qtest_test.rs"]
mod tests;
