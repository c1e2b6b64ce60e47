//! Machines for tests, made from a command line, and a guest that does something to every device.

#![cfg_attr(not(test), allow(dead_code))] // fuzz targets use a part of it

use devices::bus::lock;
use devices::effect::Effect;
use devices::map::Space;

use super::super::Machine;
use crate::control::Control;
use crate::startup::build_for_test;

/// One of each device that needs nothing of the host.
pub const DEVICES: &str = "-accel qtest -nodefaults -m 16 -smp 2 \
    -rtc base=2006-06-17T16:01:21,clock=vm \
    -uuid 12345678-1234-1234-1234-123456789abc \
    -chardev null,id=c0 -chardev null,id=c1 -chardev null,id=c2 -serial chardev:c0 \
    -blockdev driver=null-co,node-name=d0,size=1048576 \
    -blockdev driver=null-co,node-name=d1,size=1048576 \
    -blockdev driver=null-co,node-name=d2,size=1048576,read-only=on \
    -netdev hubport,id=h0,hubid=0 -object rng-builtin,id=r0 \
    -device virtio-net-pci,netdev=h0,id=net0,mac=52:54:00:11:22:33 \
    -device virtio-scsi-pci,id=scsi0 -device scsi-hd,drive=d1,id=hd0,bus=scsi0.0 \
    -device scsi-cd,drive=d2,id=cd0,bus=scsi0.0 \
    -device virtio-serial-pci,id=vs0 -device virtserialport,chardev=c1,id=p1,name=org.test \
    -device virtconsole,chardev=c2,id=p2 \
    -device virtio-balloon-pci,id=balloon0 -device virtio-rng-pci,rng=r0 \
    -device i6300esb,id=dog0 -device pvpanic-pci,id=panic0 -device pvpanic \
    -device isa-debug-exit -device vmgenid,guid=324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87,id=gen0";

/// What only a board with PCI Express has.
pub const Q35: &str = "-machine q35 -device pcie-root-port,id=rp0,chassis=1 \
    -device pcie-root-port,id=rp1,chassis=2 \
    -device virtio-blk-pci,drive=d0,id=disk0,bus=rp0";

/// The same on the other board.
pub const PC: &str = "-machine pc -device virtio-blk-pci,drive=d0,id=disk0";

/// A machine and the control around it.
pub struct Rig(Control);

impl Rig {
    /// From options in the order given.
    pub fn new(options: &[&str]) -> Self {
        match Self::try_new(options) {
            Ok(rig) => rig,
            Err(error) => panic!("{error}"),
        }
    }

    /// The same, or why there can be none.
    pub fn try_new(options: &[&str]) -> Result<Self, String> {
        let words: Vec<&str> = options.iter().flat_map(|o| o.split_whitespace()).collect();
        let built = build_for_test(&words);
        built.map(Rig).map_err(|error| format!("{error:#}"))
    }

    /// A machine with all devices on this board.
    pub fn full(board: &str) -> Self {
        Rig::new(&[DEVICES, board])
    }

    /// device_add, refused or not.
    pub fn try_plug(&mut self, text: &str) -> bool {
        let flags = api_spec::keyval::Flags::Refused;
        let options = api_spec::keyval::decode_keyval(text, Some("driver"), flags);
        options.is_ok_and(|options| self.0.plug(options, false).is_ok())
    }

    /// Has everything done that a device asked for.
    pub fn act_on(&mut self, id: &str, effect: Effect) {
        self.0.effect(id, effect, None);
    }

    /// device_add.
    pub fn plug(&mut self, text: &str) {
        let flags = api_spec::keyval::Flags::Refused;
        let options = api_spec::keyval::decode_keyval(text, Some("driver"), flags).unwrap();
        if let Err(error) = self.0.plug(options, false) {
            panic!("{error}");
        }
    }

    pub fn machine(&mut self) -> &mut Machine {
        self.0.machine_for_test()
    }

    /// Writes as a processor does, and has done what concerns the address map and queues.
    pub fn write(&mut self, space: Space, address: u64, data: &[u8]) {
        let all = self.machine().map.load().write(space, address, data);
        for raised in all {
            self.carry_out(&raised.source.id, raised.effect);
        }
    }

    fn carry_out(&mut self, id: &str, effect: Effect) {
        if matches!(
            effect,
            Effect::Remap | Effect::StartQueues | Effect::StopQueues
        ) {
            self.0.effect(id, effect, None);
        }
    }

    pub fn out(&mut self, port: u16, value: u8) {
        self.write(Space::Port, port.into(), &[value]);
    }

    pub fn inb(&mut self, port: u16) -> u8 {
        let mut data = [0];
        let map = self.machine().map.load_full();
        map.read(Space::Port, port.into(), &mut data);
        data[0]
    }

    /// Writes a register of a function: its configuration space, or one of its BARs.
    fn poke(&mut self, id: &str, bar: Option<u8>, offset: u64, data: &[u8]) {
        let function = self.machine().pci.find(id).unwrap().function.clone();
        let effect = match bar {
            Some(bar) => lock(&function).bar_write(bar, offset, data),
            None => lock(&function).config_write(offset as u16, data),
        };
        self.carry_out(id, effect);
    }

    fn peek(&mut self, id: &str, bar: u8, offset: u64, len: usize) -> u64 {
        let function = self.machine().pci.find(id).unwrap().function.clone();
        let mut data = [0; 8];
        lock(&function).bar_read(bar, offset, &mut data[..len]);
        u64::from_le_bytes(data)
    }

    /// The board's own devices, as a guest leaves them that has begun to run.
    fn use_chipset(&mut self) {
        self.machine().chipset.set_up();
        self.machine().remap();
        for (port, value) in [
            // CMOS: a byte of memory, and interrupts of the clock.
            (0x70, 0x40),
            (0x71, 0x5a),
            (0x70, 0x0b),
            (0x71, 0x12),
            // Keyboard controller: its command byte is awaited.
            (0x64, 0xaa),
            (0x64, 0x60),
            (0x92, 0x02),
            (0x61, 0x03),
            // UART: 9600 baud, FIFOs, interrupts, scratch.
            (0x3fb, 0x83),
            (0x3f8, 12),
            (0x3fb, 0x03),
            (0x3fa, 0xc7),
            (0x3f9, 0x0f),
            (0x3fc, 0x0b),
            (0x3ff, 0x99),
            (0xb2, 0x01),
            (0xb3, 0x77),
        ] {
            self.out(port, value);
        }
        // fw_cfg: three bytes into the signature.
        self.write(Space::Port, 0x510, &[0, 0]);
        (0..3).for_each(|_| _ = self.inb(0x511));
        // The power management timer's overflow, and general purpose events.
        self.write(Space::Port, 0x602, &[0x21, 0x01]);
        self.machine().chipset.general_event(5);
        self.write(Space::Port, 0xcf8, &0x8000_fa44u32.to_le_bytes());
    }

    /// Places a function's BARs from `base` on and lets it decode and master.
    fn enable(&mut self, id: &str, base: u32) {
        let function = self.machine().pci.find(id).unwrap().function.clone();
        let bars: Vec<_> = lock(&function).config().bars().collect();
        for bar in bars {
            let at = base + u32::from(bar.index) * 0x1_0000;
            let offset = 0x10 + 4 * u64::from(bar.index);
            self.poke(id, None, offset, &at.to_le_bytes());
        }
        self.poke(id, None, 4, &[0x07, 0x00]);
    }

    /// A virtio driver takes the device: features, two queues with rings from `ram` on, vectors.
    fn drive(&mut self, id: &str, ram: u64) {
        const BAR: Option<u8> = Some(4);
        self.poke(id, BAR, 0x14, &[0]);
        self.poke(id, BAR, 0x14, &[1]);
        self.poke(id, BAR, 0x14, &[3]);
        for half in 0..2u32 {
            self.poke(id, BAR, 0x00, &half.to_le_bytes());
            let offered = self.peek(id, 4, 0x04, 4) as u32;
            // Neither several queue pairs nor a device that waits for a command first.
            self.poke(id, BAR, 0x08, &half.to_le_bytes());
            self.poke(id, BAR, 0x0c, &offered.to_le_bytes());
        }
        self.poke(id, BAR, 0x14, &[11]);
        assert_eq!(self.peek(id, 4, 0x14, 1), 11, "{id}: features");
        self.enable_msix(id);
        self.poke(id, BAR, 0x10, &[0, 0]);
        let queues = self.peek(id, 4, 0x12, 2) as u16;
        for queue in 0..queues.min(4) {
            let rings = ram + u64::from(queue) * 0x4000;
            self.poke(id, BAR, 0x16, &queue.to_le_bytes());
            self.poke(id, BAR, 0x18, &64u16.to_le_bytes());
            self.poke(id, BAR, 0x1a, &(queue % 2).to_le_bytes());
            for (at, address) in [
                (0x20, rings),
                (0x28, rings + 0x1000),
                (0x30, rings + 0x2000),
            ] {
                self.poke(id, BAR, at, &(address as u32).to_le_bytes());
            }
            self.poke(id, BAR, 0x1c, &[1, 0]);
        }
        self.poke(id, BAR, 0x14, &[15]);
    }

    /// MSI-X on, the first vector with a message to an address where nobody is, the others masked.
    fn enable_msix(&mut self, id: &str) {
        let function = self.machine().pci.find(id).unwrap().function.clone();
        let capability = {
            let mut function = lock(&function);
            let config = function.config();
            let mut at = config.byte(0x34);
            while at != 0 && config.byte(at.into()) != 0x11 {
                at = config.byte(u16::from(at) + 1);
            }
            at
        };
        assert_ne!(capability, 0, "{id}: no MSI-X");
        let bar = lock(&function).config().byte(u16::from(capability) + 4) & 7;
        for (at, value) in [(0, 0xfee0_1000u32), (4, 0), (8, 0x41), (12, 0)] {
            self.poke(id, Some(bar), at, &value.to_le_bytes());
        }
        self.poke(id, None, u64::from(capability) + 3, &[0x80]);
    }

    /// Does something to everything.
    pub fn use_all(&mut self) {
        self.use_chipset();
        let functions: Vec<(String, String)> = self
            .machine()
            .devices
            .iter()
            .filter(|device| device.devfn.is_some())
            .map(|device| {
                let driver = device.options.driver.name();
                (device.key.to_string(), driver.to_owned())
            })
            .collect();
        for (index, (id, driver)) in (0u32..).zip(functions) {
            if driver == "pcie-root-port" {
                // Bus numbers and a window.
                let bus = 1 + index as u8;
                self.poke(&id, None, 0x18, &[0, bus, bus]);
                self.poke(&id, None, 0x20, &[0x00, 0xe0, 0xf0, 0xe0]);
                self.poke(&id, None, 4, &[0x07, 0x04]);
                self.enable_msix(&id);
                continue;
            }
            self.enable(&id, 0xe000_0000 + index * 0x10_0000);
            if driver.starts_with("virtio") {
                self.drive(&id, 0x10_0000 + u64::from(index) * 0x1_0000);
            }
        }
        // The watchdog: unlocked, a preload value, counting.
        self.poke("dog0", None, 0x68, &[0x02]);
        for unlock in [0x80, 0x86] {
            self.poke("dog0", Some(0), 0x0c, &[unlock, 0]);
        }
        self.poke("dog0", Some(0), 0x00, &0x1234u32.to_le_bytes());
        if let Some((_, nic)) = self.machine().nics().next() {
            nic.set_link(false);
        }
        // The guest is asked for a device, and has not answered.
        let asked = self.machine().request_unplug("disk0");
        assert!(asked.is_ok_and(|gone| gone.is_none()));
        // Write-through, as far as the disk lets the driver choose.
        self.poke("disk0", Some(4), 0x2020, &[0]);
    }
}
