//! Ports of a PC's board: serial port, exit device, power management, clock.

use core::fmt;

use x86_64::instructions::port::Port;

/// The first serial port, polled.
pub struct Serial;

const COM1: u16 = 0x3f8;

impl Serial {
    /// 8 bits, no parity, one stop bit; FIFOs on.
    pub fn init() {
        write8(COM1 + 1, 0);
        write8(COM1 + 3, 3);
        write8(COM1 + 2, 7);
        write8(COM1 + 4, 3);
    }

    /// A byte, if one has come.
    pub fn receive() -> Option<u8> {
        (read8(COM1 + 5) & 1 != 0).then(|| read8(COM1))
    }

    fn send(byte: u8) {
        while read8(COM1 + 5) & 0x20 == 0 {}
        write8(COM1, byte);
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            Serial::send(byte);
        }
        Ok(())
    }
}

/// Prints a line.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => {{
        use core::fmt::Write;
        let _ = writeln!($crate::board::Serial, $($arg)*);
    }};
}

/// Reads a port.
pub fn read8(port: u16) -> u8 {
    // SAFETY: this guest owns every port, and none of them reaches into its memory.
    unsafe { Port::new(port).read() }
}

/// Writes a port.
pub fn write8(port: u16, value: u8) {
    // SAFETY: as above.
    unsafe { Port::new(port).write(value) }
}

/// Reads a port.
pub fn read32(port: u16) -> u32 {
    // SAFETY: as above.
    unsafe { Port::new(port).read() }
}

/// Writes a port.
pub fn write32(port: u16, value: u32) {
    // SAFETY: as above.
    unsafe { Port::new(port).write(value) }
}

fn write16(port: u16, value: u16) {
    // SAFETY: as above.
    unsafe { Port::new(port).write(value) }
}

/// Ends the program outside with status `code * 2 + 1`.
pub fn exit(code: u8) -> ! {
    write8(0xf4, code);
    halt()
}

/// Does nothing for ever.
pub fn halt() -> ! {
    loop {
        x86_64::instructions::hlt();
    }
}

/// Tells of a panic and waits for what is done about it.
pub fn panic_device() -> ! {
    write8(0x505, 1);
    halt()
}

/// Resets the machine.
pub fn reset() -> ! {
    write8(0xcf9, 0x02);
    write8(0xcf9, 0x06);
    halt()
}

/// First port of power management, as the bridge decodes it. On the older PC, which has nothing in slot
/// 31, that is a function of its own.
fn power_ports() -> u16 {
    const BASE: u8 = 0x40;
    let (slot, function, switch, on) = match crate::pci::read(0, 31, 0, 0) {
        u32::MAX => (1, 3, 0x80, 1),
        _ => (31, 0, 0x44, 0x80),
    };
    let base = crate::pci::read(0, slot, function, BASE) & 0xffc0;
    if base != 0 {
        return base as u16;
    }
    crate::pci::write(0, slot, function, BASE, 0x601);
    crate::pci::write(0, slot, function, switch, on);
    0x600
}

/// Switches the machine off.
pub fn power_off() -> ! {
    write16(power_ports() + 4, 1 << 13);
    halt()
}

/// Waits by the power management timer, which has 3,579,545 ticks a second.
pub fn wait_milliseconds(count: u32) {
    let port = power_ports() + 8;
    let begin = read32(port);
    while (read32(port).wrapping_sub(begin) & 0xff_ffff) < count * 3580 {}
}

/// The year of the clock, two digits, and the seconds, as they are in its registers.
pub fn clock() -> (u8, u8) {
    write8(0x70, 9);
    let year = read8(0x71);
    write8(0x70, 0);
    (year, read8(0x71))
}
