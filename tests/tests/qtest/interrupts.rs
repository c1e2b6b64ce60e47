//! Interrupt lines, watched at the I/O APIC.

use tests::qtest::Qtest;
use tests::virtio::Device;

#[test]
fn a_serial_port_raises_its_line() {
    let mut t = Qtest::start(&["-serial", "null"]);
    t.ok("irq_intercept_in ioapic");
    // The transmitter is empty: with its interrupt on, the line rises.
    t.outb(0x3fc, 0x0b);
    t.outb(0x3f9, 2);
    t.wait_interrupt(4, true);
    t.outb(0x3f9, 0);
    t.wait_interrupt(4, false);
}

#[test]
fn a_device_without_messages_raises_its_pin() {
    let mut t = Qtest::start(&["-device", "virtio-rng-pci,addr=4.0"]);
    t.ok("irq_intercept_in ioapic");
    let mut device = Device::find(&mut t, 4);
    device.negotiate(&mut t, u64::MAX);
    let mut queue = device.queue(&mut t, 0, None);
    device.drive(&mut t);
    let at = t.alloc(64);
    queue.add(&mut t, &[(at, 64, true)]);
    queue.kick(&mut t);
    queue.wait(&mut t);
    // Slot 4, pin A: PIRQE, which is line 20 of the I/O APIC.
    t.wait_interrupt(20, true);
    assert_ne!(
        device.function.read16(&mut t, 6) & 8,
        0,
        "the interrupt bit of the status"
    );
    assert_eq!(device.isr(&mut t), 1);
    t.wait_interrupt(20, false);
    assert_eq!(device.function.read16(&mut t, 6) & 8, 0);
}

#[test]
fn the_command_register_can_switch_the_pin_off() {
    let mut t = Qtest::start(&["-device", "virtio-rng-pci,addr=4.0"]);
    t.ok("irq_intercept_in ioapic");
    let mut device = Device::find(&mut t, 4);
    device.negotiate(&mut t, u64::MAX);
    let mut queue = device.queue(&mut t, 0, None);
    device.drive(&mut t);
    let command = device.function.read16(&mut t, 4);
    device.function.write16(&mut t, 4, command | 0x400);
    let at = t.alloc(64);
    queue.add(&mut t, &[(at, 64, true)]);
    queue.kick(&mut t);
    queue.wait(&mut t);
    device.function.write16(&mut t, 4, command);
    // Switched on again, what waits is raised.
    t.wait_interrupt(20, true);
}

#[test]
fn the_clock_raises_its_line() {
    if tests::binary::skip_on_stand_in("it has no stepped clock without its accelerator") {
        return;
    }
    let mut t = Qtest::start(&[]);
    t.ok("irq_intercept_in ioapic");
    let set = |t: &mut Qtest, index: u8, value: u8| {
        t.outb(0x70, index);
        t.outb(0x71, value);
    };
    // 1024 Hz, periodic interrupt on.
    set(&mut t, 0x0a, 0x26);
    set(&mut t, 0x0b, 0x42);
    t.ok("clock_step 2000000");
    t.wait_interrupt(8, true);
    t.outb(0x70, 0x0c);
    assert_ne!(t.inb(0x71) & 0x40, 0);
    t.wait_interrupt(8, false);
}

#[test]
fn the_power_button_raises_the_system_control_interrupt() {
    let mut t = Qtest::start(&[]);
    t.ok("irq_intercept_in ioapic");
    let lpc = tests::pci::Function::at(31, 0);
    lpc.write32(&mut t, 0x40, 0x601);
    lpc.write8(&mut t, 0x44, 0x80);
    t.outw(0x602, 0x100);
    // SCI_EN.
    t.outw(0x604, 1);
    t.vm.query("system_powerdown");
    t.wait_interrupt(9, true);
    t.outw(0x600, 0x100);
    t.wait_interrupt(9, false);
}

#[test]
fn a_path_that_is_not_there_is_refused() {
    let mut t = Qtest::start(&[]);
    let answer = t.command("irq_intercept_in /no/such/path");
    assert!(answer.starts_with("FAIL"), "{answer}");
}
