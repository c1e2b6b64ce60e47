//! The protocol itself.

use tests::qtest::Qtest;

#[test]
fn memory_can_be_read_and_written() {
    let mut t = Qtest::start(&[]);
    t.writeq(0x10_0000, 0x1122_3344_5566_7788);
    assert_eq!(t.readq(0x10_0000), 0x1122_3344_5566_7788);
    assert_eq!(t.readl(0x10_0004), 0x1122_3344);
    assert_eq!(t.readw(0x10_0002), 0x5566);
    assert_eq!(t.readb(0x10_0001), 0x77);
    t.writeb(0x10_0000, 0xaa);
    t.writew(0x10_0002, 0xbbcc);
    t.writel(0x10_0004, 0xdead_beef);
    assert_eq!(
        t.read(0x10_0000, 8),
        [0xaa, 0x77, 0xcc, 0xbb, 0xef, 0xbe, 0xad, 0xde]
    );
    t.write(0x10_1000, b"some bytes");
    assert_eq!(t.read(0x10_1000, 10), b"some bytes");
    t.ok("memset 0x101000 0x4 0x58");
    assert_eq!(t.read(0x10_1000, 10), b"XXXX bytes");
}

#[test]
fn bytes_in_base64() {
    let mut t = Qtest::start(&[]);
    t.ok("b64write 0x100000 0x5 aGVsbG8=");
    assert_eq!(t.read(0x10_0000, 5), b"hello");
    assert_eq!(t.ok("b64read 0x100000 0x5"), "aGVsbG8=");
}

#[test]
fn numbers_in_every_base() {
    let mut t = Qtest::start(&[]);
    t.ok("writel 1048576 255");
    assert_eq!(t.readl(0x10_0000), 255);
    t.ok("writel 0x100000 0377");
    assert_eq!(t.readl(0x10_0000), 255);
    t.ok("writel 0X100000 0XFE");
    assert_eq!(t.readl(0x10_0000), 254);
}

#[test]
fn memory_above_what_there_is_reads_as_ones_or_zeroes_and_harms_nothing() {
    let mut t = Qtest::start(&[]);
    t.readl(0x20_0000_0000);
    t.writel(0x20_0000_0000, 1);
    t.readq(0xffff_ffff_ffff_fff8);
    t.vm.assert_alive();
}

#[test]
fn an_unknown_command_is_refused() {
    let mut t = Qtest::start(&[]);
    let answer = t.command("bogus");
    assert!(answer.starts_with("FAIL"), "{answer}");
    assert_eq!(t.command("endianness"), "OK little");
}

#[test]
fn malformed_commands_are_refused() {
    if tests::binary::skip_on_stand_in("the reference ends itself on these") {
        return;
    }
    let mut t = Qtest::start(&[]);
    for line in [
        "readl",
        "writel 0x0",
        "readl bogus",
        "read 0x0",
        "write 0x0 0x4 zz",
        "read 0x0 -1",
        "irq_intercept_in",
        "irq_intercept_in bogus",
        "clock_step bogus",
        "b64write 0x0 0x4 *",
        "outb 0x80",
    ] {
        let answer = t.command(line);
        assert!(
            answer.starts_with("FAIL") || answer.starts_with("ERR"),
            "{line}: {answer}"
        );
    }
    assert_eq!(t.command("endianness"), "OK little");
}

#[test]
fn a_test_that_hangs_up_leaves_the_program_running() {
    let t = Qtest::start(&[]);
    let Qtest { mut vm, .. } = t;
    vm.assert_alive();
}

#[test]
fn the_virtual_clock_stands_still_until_it_is_stepped() {
    if tests::binary::skip_on_stand_in("it has no such clock without its accelerator") {
        return;
    }
    let mut t = Qtest::start(&[]);
    let number = |text: String| text.parse::<i64>().expect("nanoseconds");
    let begin = number(t.ok("clock_step 0"));
    assert_eq!(number(t.ok("clock_step 1000000")), begin + 1_000_000);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(number(t.ok("clock_step 0")), begin + 1_000_000);
    assert_eq!(number(t.ok("clock_set 5000000000")), 5_000_000_000);
    assert_eq!(number(t.ok("clock_step 1")), 5_000_000_001);
}

#[test]
fn the_rtc_goes_with_the_stepped_clock() {
    if tests::binary::skip_on_stand_in("it has no such clock without its accelerator") {
        return;
    }
    let mut t = Qtest::start(&["-rtc", "base=2020-02-03T04:05:06,clock=vm"]);
    let cmos = |t: &mut Qtest, index: u8| {
        t.outb(0x70, index);
        t.inb(0x71)
    };
    assert_eq!(
        [cmos(&mut t, 9), cmos(&mut t, 8), cmos(&mut t, 7)],
        [0x20, 0x02, 0x03]
    );
    assert_eq!(
        [cmos(&mut t, 4), cmos(&mut t, 2), cmos(&mut t, 0)],
        [0x04, 0x05, 0x06]
    );
    t.ok("clock_step 10000000000");
    assert_eq!(cmos(&mut t, 0), 0x16);
}
