use super::*;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader};

use devices::bus::{Access, BusDevice, SharedDevice};
use devices::clock::{TimerTarget, Timers};
use devices::effect::Effect;
use devices::irq::MsiRoute;
use devices::map::MapBuilder;
use devices::registry::Region;

use crate::accel::{Accel, SharedMap};
use crate::clock::{ClockTimers, Motion, WallBase, WallSource};
use crate::event::{MachineEvent, Mail, Mailbox};
use crate::memory::{Backend, BackendOptions, MachineRam};

/// Registers of four bytes; writing the third raises a line, the fourth asks for a remap.
struct Chip(Vec<u8>, Arc<dyn IrqLine>);

impl BusDevice for Chip {
    fn read(&mut self, access: Access, data: &mut [u8]) {
        for (at, byte) in (access.offset as usize..).zip(data) {
            *byte = self.0[at];
        }
    }
    fn write(&mut self, access: Access, data: &[u8]) -> Effect {
        for (at, byte) in (access.offset as usize..).zip(data) {
            self.0[at] = *byte;
        }
        self.1.set(self.0[2] != 0);
        if access.offset == 3 {
            Effect::Remap
        } else {
            Effect::None
        }
    }
    fn reset(&mut self) {}
}

struct Test {
    to: UnixStream,
    from: BufReader<UnixStream>,
}

impl Test {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
    fn ask(&mut self, command: &str) -> String {
        self.to
            .write_all(format!("{command}\n").as_bytes())
            .unwrap();
        self.line()
    }
}

struct Note(Arc<GuestClock>, Mutex<Vec<u64>>);

impl TimerTarget for Note {
    fn expired(&self) {
        self.1.lock().unwrap().push(self.0.now_ns());
    }
}

struct Machine {
    test: Test,
    mailbox: Mailbox,
    accel: QtestAccel,
    clock: Arc<GuestClock>,
    _server: QtestServer,
}

fn machine() -> Machine {
    let ram = MachineRam::new(
        crate::layout::Board::Q35,
        &Backend::new(BackendOptions::ram(2 << 20)).unwrap(),
    )
    .unwrap();
    let map = Arc::new(SharedMap::from_pointee(MapBuilder::new().build()));
    let mailbox = Mailbox::new().unwrap();
    let accel = QtestAccel::new(ram.handle.clone(), map.clone(), mailbox.sender()).unwrap();
    let line = accel.irqs().isa_line(8);
    let chip: SharedDevice = Arc::new(Mutex::new(Chip(vec![0; 16], line)));
    let mut builder = MapBuilder::new();
    let id: Arc<str> = "chip".into();
    let region = |base| Region {
        region: 0,
        base,
        len: 16,
    };
    builder
        .device(&id, Space::Port, region(0x70), &chip)
        .unwrap();
    builder
        .device(&id, Space::Memory, region(0xe000_0000), &chip)
        .unwrap();
    map.store(Arc::new(builder.build()));
    let clock = GuestClock::new(Motion::Stepped, WallBase::Utc, WallSource::Host).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server =
        QtestServer::start(&accel, Endpoint::Connected(theirs), clock.clone(), None).unwrap();
    let from = BufReader::new(ours.try_clone().unwrap());
    Machine {
        test: Test { to: ours, from },
        mailbox,
        accel,
        clock,
        _server: server,
    }
}

#[test]
fn verbs_are_answered() {
    let mut machine = machine();
    for (command, answer) in [
        ("endianness", "OK little"),
        ("outb 0x70 0x12", "OK"),
        ("inb 0x70", "OK 0x0012"),
        ("outl 0x78 0xdeadbeef", "OK"),
        ("inw 0x78", "OK 0xbeef"),
        ("inl 0x78", "OK 0xdeadbeef"),
        ("inb 0x999", "OK 0x00ff"),
        ("writel 0x1000 0x12345678", "OK"),
        ("readb 0x1000", "OK 0x0000000000000078"),
        ("readq 0x1000", "OK 0x0000000012345678"),
        ("readw 0xe0000008", "OK 0x000000000000beef"),
        ("readl 0x90000000", "OK 0x00000000ffffffff"),
        ("write 0x2000 4 0x00ff10ab", "OK"),
        ("read 0x1fff 6", "OK 0x0000ff10ab00"),
        ("read 0x1ffffe 4", "OK 0x0000ffff"),
        ("memset 0x3000 3 0x5a", "OK"),
        ("b64read 0x3000 4", "OK WlpaAA=="),
        ("b64write 0x4000 3 cXZt", "OK"),
        ("read 16384 3", "OK 0x71766d"),
        ("", ""),
        ("clock_set 5", "OK 5"),
        ("frobnicate 1", "FAIL Unknown command 'frobnicate'"),
        ("inb", "FAIL Missing argument"),
        ("inb x", "FAIL Bad number 'x'"),
        ("read 0 0xffffffffffff", "FAIL Length too large"),
        ("irq_intercept_in nonesuch", "FAIL Unknown device"),
    ] {
        if command.is_empty() {
            machine.test.to.write_all(b"\n").unwrap();
            continue;
        }
        assert_eq!(machine.test.ask(command), answer, "{command}");
    }
}

#[test]
fn lines_are_reported_before_the_answer() {
    let mut machine = machine();
    assert_eq!(machine.test.ask("outb 0x72 1"), "OK");
    assert_eq!(machine.test.ask("outb 0x72 0"), "OK");
    assert_eq!(machine.test.ask("irq_intercept_in ioapic"), "OK");
    assert_eq!(machine.test.ask("outb 0x72 1"), "IRQ raise 8");
    assert_eq!(machine.test.line(), "OK");
    assert_eq!(
        machine.test.ask("set_irq_in ioapic unnamed-gpio-in 8 1"),
        "OK"
    );
    assert_eq!(machine.test.ask("outb 0x72 0"), "OK");
    assert_eq!(
        machine.test.ask("set_irq_in ioapic unnamed-gpio-in 8 0"),
        "IRQ lower 8"
    );
    assert_eq!(machine.test.line(), "OK");
}

#[test]
fn messages_are_writes_to_memory() {
    let mut machine = machine();
    let route = machine.accel.irqs().msi_route().unwrap();
    route.signal();
    route.enable(0x5000, 0xabcd);
    route.signal();
    assert_eq!(machine.test.ask("readl 0x5000"), "OK 0x000000000000abcd");
    route.enable(0x5004, 7);
    route.signal();
    assert_eq!(machine.test.ask("readl 0x5004"), "OK 0x0000000000000007");
    let keep: Arc<dyn MsiRoute> = machine.accel.irqs().msi_route().unwrap();
    keep.enable(0xe000_0004, 0x0102_0304);
    keep.signal();
    // Devices are for control: whoever signals may hold the lock of the one that is there.
    assert_eq!(machine.test.ask("inl 0x74"), "OK 0x0000");
    let mut mail = VecDeque::new();
    machine.mailbox.take(&mut mail);
    assert!(matches!(mail.pop_front(), Some(Mail::Done(_))));
    keep.disable();
    keep.signal();
    machine.mailbox.take(&mut mail);
    assert!(mail.is_empty());
}

#[test]
fn the_clock_moves_in_steps() {
    let mut machine = machine();
    assert_eq!(machine.test.ask("clock_step"), "OK 0");
    let note = Arc::new(Note(machine.clock.clone(), Mutex::default()));
    let timer = ClockTimers(machine.clock.clone()).timer(note.clone());
    timer.arm(1000);
    assert_eq!(machine.test.ask("clock_step 999"), "OK 999");
    assert!(note.1.lock().unwrap().is_empty());
    assert_eq!(machine.test.ask("clock_step"), "OK 1000");
    assert_eq!(*note.1.lock().unwrap(), [1000]);
}

#[test]
fn effects_are_carried_out_before_the_answer() {
    let mut machine = machine();
    machine
        .test
        .to
        .write_all(b"outb 0x73 1\ninb 0x73\n")
        .unwrap();
    let mut mail = VecDeque::new();
    while mail.is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(1));
        machine.mailbox.take(&mut mail);
    }
    machine.test.to.set_nonblocking(true).unwrap();
    let early = machine.test.from.fill_buf().map(<[u8]>::len);
    assert!(early.is_err(), "answered too early");
    machine.test.to.set_nonblocking(false).unwrap();
    for mail in mail {
        #[allow(irrefutable_let_patterns)] // more kinds of mail come
        if let Mail::Machine(MachineEvent::Effect {
            device,
            effect,
            done,
        }) = mail
        {
            assert_eq!((&*device, effect), ("chip", Effect::Remap));
            drop(done);
        }
    }
    assert_eq!(machine.test.line(), "OK");
    assert_eq!(machine.test.line(), "OK 0x0001");
}
