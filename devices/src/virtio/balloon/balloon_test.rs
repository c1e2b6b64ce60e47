use std::sync::Mutex;

use super::*;
use crate::bus::lock;
use crate::effect::Effect;
use crate::testing::{Buffer, Driver, FakeGuest, RAM_HIGH, RAM_SIZE, Ring, conformance};
use crate::virtio::layout;

/// Where the tests put lists of page numbers.
const LIST: u64 = 0x10_0000;
const SECOND: u64 = 1_000_000_000;

fn props(text: &str) -> VirtioBalloonPciProps {
    let mut members = api_spec::Value::Object(api_spec::keyval::parse_json(text).expect("JSON"));
    members["driver"] = "virtio-balloon-pci".into();
    let options: api_spec::DeviceOptions =
        api_spec::decode_value(members, api_spec::Mode::Strict).expect("options");
    match options.driver {
        api_spec::DeviceDriver::VirtioBalloonPci(props) => props,
        _ => panic!("another driver"),
    }
}

const ALL: &str = r#"{"free-page-hint": true, "free-page-reporting": true, "iothread": "io0", "deflate-on-oom": true}"#;

fn driver<'a>(guest: &'a FakeGuest, text: &str) -> (Driver<'a>, Arc<Balloon>) {
    let (function, balloon) = build(&props(text), &guest.cx("b")).expect("a balloon");
    (Driver::new(guest, function), balloon)
}

/// Negotiates all and sets up all queues.
fn started<'a>(guest: &'a FakeGuest, text: &str) -> (Driver<'a>, Arc<Balloon>, Vec<Ring>) {
    let (mut driver, balloon) = driver(guest, text);
    driver.negotiate(u64::MAX);
    let count = driver.common16(0x12);
    let rings = (0..count).map(|index| driver.queue(index, 0x1000 * (u64::from(index) + 1), 8));
    let rings = rings.collect();
    driver.go();
    (driver, balloon, rings)
}

fn word(driver: &Driver<'_>, at: u64) -> u32 {
    u32::from_le_bytes(driver.config(at))
}

fn list(guest: &FakeGuest, pages: &[u32]) -> Buffer {
    let bytes: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
    guest.write(LIST, &bytes);
    Buffer::Out(LIST, bytes.len() as u32)
}

#[test]
fn features_and_configuration_follow_the_properties() {
    let guest = FakeGuest::new();
    for (text, features, queues, len) in [
        ("{}", 0x12, 3, 16),
        (r#"{"page-poison": false}"#, 2, 3, 8),
        (
            r#"{"page-poison": false, "qemu-4-0-config-size": true}"#,
            2,
            3,
            16,
        ),
        (
            r#"{"page-poison": false, "free-page-hint": true, "iothread": "i"}"#,
            0xa,
            4,
            12,
        ),
        (r#"{"free-page-reporting": true}"#, 0x32, 4, 16),
        (ALL, 0x3e, 5, 16),
    ] {
        let (driver, _) = driver(&guest, text);
        assert_eq!(driver.offered() & 0xff_ffff, features, "{text}");
        assert_eq!(driver.common16(0x12), queues, "{text}");
        let mut function = lock(driver.function());
        assert_eq!(function.device().traits().config_len, len, "{text}");
    }
    let refused = |text| {
        build(&props(text), &guest.cx("b"))
            .err()
            .expect("refused")
            .desc
    };
    assert_eq!(
        refused(r#"{"free-page-hint": true}"#),
        "'free-page-hint' requires 'iothread' to be set"
    );
    assert_eq!(
        refused(r#"{"guest-stats-polling-interval": -1}"#),
        "timer value must be greater than zero"
    );
}

#[test]
fn pages_go_in_and_are_zero_when_they_come_out() {
    let guest = FakeGuest::new();
    let (driver, _, mut rings) = started(&guest, "{}");
    let high = (RAM_HIGH >> 12) as u32;
    for page in [0x200u64, 0x201, 0x202, 0x300, u64::from(high)] {
        guest.write(page << 12, &[7; 4096]);
    }
    // Upwards, downwards, twice, and what is no RAM at all.
    let last = (RAM_SIZE >> 12) as u32;
    let pages = [
        0x200,
        0x201,
        0x300,
        high,
        high,
        last,
        u32::MAX,
        0xfee00,
        0x7fff_ffff,
    ];
    assert_eq!(driver.request(&mut rings[0], &[list(&guest, &pages)]), 0);
    for (page, byte) in [(0x200u64, 0), (0x201, 0), (0x202, 7), (0x300, 0)] {
        assert_eq!(guest.read(page << 12, 4096), [byte; 4096], "{page:#x}");
    }
    assert_eq!(guest.read(RAM_HIGH, 1), [0]);
    assert_eq!(driver.request(&mut rings[1], &[list(&guest, &pages)]), 0);
    assert_eq!(driver.status(), 0x0f);
}

#[test]
fn lists_of_any_length() {
    let guest = FakeGuest::new();
    let (driver, _, mut rings) = started(&guest, "{}");
    guest.write(0x400 << 12, &[1; 8192]);
    // Half a number at the end, nothing at all, a list for the device to write.
    let Buffer::Out(at, len) = list(&guest, &[0x400, 0x401]) else {
        panic!("a list is read");
    };
    driver.request(&mut rings[0], &[Buffer::Out(at, len - 1)]);
    assert_eq!(guest.read(0x400 << 12, 1), [0]);
    assert_eq!(guest.read(0x401 << 12, 1), [1]);
    driver.request(&mut rings[0], &[Buffer::In(at, len)]);
    driver.request(&mut rings[0], &[Buffer::Out(at, 0)]);
    // A list of a million pages is served in turns, and does not hold up a stop.
    rings[0].add(&guest, &[Buffer::Out(RAM_HIGH, 4 << 20)]);
    driver.write(layout::NOTIFY, &[0, 0]);
    driver.carry_out(Effect::StopQueues);
    assert!(guest.thread.is_empty());
    assert_eq!(rings[0].used_index(&guest), 3);
    driver.carry_out(Effect::StartQueues);
    guest.thread.run();
    assert_eq!(rings[0].used_index(&guest), 4, "begun again");
}

#[test]
fn the_host_asks_and_the_driver_tells() {
    let guest = FakeGuest::new();
    let (driver, balloon, _) = started(&guest, "{}");
    assert_eq!((word(&driver, 0), word(&driver, 4)), (0, 0));
    let generation = driver.read::<1>(0x15);
    balloon.set_target(0x1234);
    assert_eq!(word(&driver, 0), 0x1234);
    assert_ne!(driver.read::<1>(0x15), generation);
    assert_eq!(driver.isr(), 2, "configuration changed");
    let function = driver.function().clone();
    let write = |offset: u64, data: &[u8]| {
        use crate::pci::PciFunction;
        lock(&function).bar_write(layout::BAR, layout::DEVICE + offset, data)
    };
    let told = |pages| Effect::Notice(Notice::BalloonChanged { pages });
    assert_eq!(write(4, &0x1000u32.to_le_bytes()), told(0x1000));
    assert_eq!(write(4, &0x1000u32.to_le_bytes()), Effect::None);
    assert_eq!(write(5, &[0x20]), told(0x2000));
    assert_eq!(write(0, &[9, 9, 9, 9]), Effect::None);
    assert_eq!((word(&driver, 0), balloon.actual()), (0x1234, 0x2000));
    driver.set_status(0);
    assert_eq!(balloon.actual(), 0);
    assert_eq!(word(&driver, 0), 0x1234, "what the host wants stays");
}

#[test]
fn what_the_host_asks_before_a_restored_driver_runs_is_told() {
    use crate::pci::PciFunction;
    use vmstate::StateAccess;
    let guest = FakeGuest::new();
    let (driver, balloon, _) = started(&guest, "{}");
    driver.carry_out(Effect::StopQueues);
    let section = lock(driver.function()).save_section("b").unwrap();
    let again = |ask: bool| {
        lock(driver.function()).reset();
        lock(driver.function()).restore_section(&section).unwrap();
        if ask {
            balloon.set_target(77);
        }
        assert_eq!(driver.isr(), 0);
        driver.carry_out(Effect::StartQueues);
        let told = driver.isr();
        driver.carry_out(Effect::StopQueues);
        told
    };
    assert_eq!(again(false), 0);
    assert_eq!(again(true), 2);
    assert_eq!(again(false), 0);
    // A driver that begins reads all of it anyway.
    balloon.reset();
    balloon.set_target(78);
    assert!(!balloon.restored.load(Ordering::Acquire));
}

#[test]
fn statistics_come_and_are_asked_for() {
    let guest = FakeGuest::new();
    let (driver, balloon, mut rings) = started(&guest, "{}");
    let fill = |value: u64| {
        let mut bytes = 4u16.to_le_bytes().to_vec();
        bytes.extend(value.to_le_bytes());
        guest.write(LIST, &bytes);
    };
    let buffer = [Buffer::Out(LIST, 10)];
    fill(100);
    rings[2].add(&guest, &buffer);
    driver.kick(&rings[2]);
    assert_eq!(balloon.stats().values[4], 100);
    assert!(balloon.stats().last_update > 0);
    assert_eq!(rings[2].take_used(&guest), None, "kept");
    assert!(balloon.set_polling_interval(1 << 40).is_err());
    balloon.set_polling_interval(2).unwrap();
    guest.timers.advance(0);
    guest.thread.run();
    assert!(rings[2].take_used(&guest).is_some(), "at once");
    fill(200);
    rings[2].add(&guest, &buffer);
    driver.kick(&rings[2]);
    assert_eq!(balloon.stats().values[4], 200);
    guest.timers.advance(2 * SECOND - 1);
    guest.thread.run();
    assert_eq!(rings[2].take_used(&guest), None);
    // A stop in between loses nothing, and does not make old statistics new.
    driver.carry_out(Effect::StopQueues);
    guest.timers.advance(1);
    fill(300);
    driver.carry_out(Effect::StartQueues);
    assert_eq!(balloon.stats().values[4], 200);
    guest.thread.run();
    assert!(rings[2].take_used(&guest).is_some());
    // A second buffer sends the first one back.
    rings[2].add(&guest, &buffer);
    rings[2].add(&guest, &buffer);
    driver.kick(&rings[2]);
    assert!(rings[2].take_used(&guest).is_some());
    assert_eq!(rings[2].take_used(&guest), None);
    balloon.set_polling_interval(0).unwrap();
    guest.timers.advance(10 * SECOND);
    guest.thread.run();
    assert_eq!(rings[2].take_used(&guest), None);
    assert_eq!(balloon.polling_interval(), 0);
}

#[test]
fn reports_are_given_back_unless_pages_are_poisoned() {
    let guest = FakeGuest::new();
    let (mut driver, balloon, mut rings) = started(&guest, ALL);
    let fill = || guest.write(0x80_0000, &[3; 0x3000]);
    fill();
    let buffers = [Buffer::In(0x80_0000, 0x1000), Buffer::In(0x80_1800, 0x1000)];
    assert_eq!(driver.request(&mut rings[4], &buffers), 0);
    assert_eq!(guest.read(0x80_0000, 0x1000), [0; 0x1000]);
    assert_eq!(guest.read(0x80_1000, 0x2000), [3; 0x2000], "parts of pages");
    fill();
    driver.write(layout::DEVICE + 12, &[0xaa; 4]);
    driver.request(&mut rings[4], &buffers[..1]);
    assert_eq!(guest.read(0x80_0000, 1), [3]);
    // Poison counts only where it was agreed on.
    driver.negotiate(!F_PAGE_POISON);
    driver.write(layout::DEVICE + 12, &[0xaa; 4]);
    let mut ring = driver.queue(4, 0x8000, 8);
    driver.go();
    driver.request(&mut ring, &buffers[..1]);
    assert_eq!(guest.read(0x80_0000, 1), [0]);
    assert_eq!(balloon.actual(), 0);
}

#[derive(Default)]
struct Taken(Mutex<Vec<(u64, u64)>>);

impl FreePages for Taken {
    fn free(&self, address: u64, len: u64) {
        lock(&self.0).push((address, len));
    }
}

#[test]
fn hints_come_in_rounds() {
    let guest = FakeGuest::new();
    let (_, idle) = driver(&guest, ALL);
    let taken = Arc::new(Taken::default());
    assert!(!idle.start_hints(taken.clone()), "there is no driver");
    let (_driver, without, _) = started(&guest, "{}");
    assert!(!without.start_hints(taken.clone()), "not offered");
    let guest = FakeGuest::new();
    let (driver, balloon, mut rings) = started(&guest, ALL);
    let pages = [Buffer::In(0x80_0000, 0x2000)];
    driver.request(&mut rings[3], &pages);
    assert!(balloon.start_hints(taken.clone()));
    let id = word(&driver, 8);
    assert!(id > 0x8000_0000, "{id:#x}");
    driver.request(&mut rings[3], &pages);
    assert!(lock(&taken.0).is_empty(), "not begun");
    let mut say = |id: u32| {
        guest.write(LIST, &id.to_le_bytes());
        driver.request(&mut rings[3], &[Buffer::Out(LIST, 4)]);
        driver.request(&mut rings[3], &pages);
    };
    say(id);
    assert_eq!(*lock(&taken.0), [(0x80_0000, 0x2000)]);
    balloon.stop_hints();
    assert_eq!(word(&driver, 8), 0);
    say(id);
    assert_eq!(lock(&taken.0).len(), 1, "over");
    balloon.finish_hints();
    assert_eq!(word(&driver, 8), 1);
    assert!(balloon.start_hints(taken.clone()));
    say(id + 1);
    assert_eq!(lock(&taken.0).len(), 2);
    say(0);
    assert_eq!(word(&driver, 8), 0);
    assert_eq!(lock(&taken.0).len(), 2, "the driver stopped");
    assert_eq!(Arc::strong_count(&taken), 2);
    balloon.finish_hints();
    assert_eq!(Arc::strong_count(&taken), 1);
}

#[test]
fn conforms() {
    let guest = FakeGuest::new();
    for text in ["{}", ALL] {
        conformance::pci_function(conformance::AfterReset::Fresh, || {
            let (function, _) = build(&props(text), &guest.cx("b")).expect("a balloon");
            Arc::new(Mutex::new(function))
        });
    }
}

/// Pages of the fake guest's RAM that the tests fill.
const FILLED: std::ops::Range<u32> = 0x800..0x810;

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn exactly_the_pages_named_are_given(
        near in proptest::collection::vec(0x7f8u32..0x818, 0..24),
        far in proptest::collection::vec(proptest::prelude::any::<u32>(), 0..24),
    ) {
        let guest = FakeGuest::new();
        let (driver, _, mut rings) = started(&guest, "{}");
        for page in FILLED {
            guest.write(u64::from(page) << 12, &[7; 4096]);
        }
        // Far away, but not the test's own rings and lists.
        let far = far.into_iter().filter(|page| *page > 0x200);
        let pages: Vec<u32> = near.into_iter().chain(far).collect();
        driver.request(&mut rings[0], &[list(&guest, &pages)]);
        for page in FILLED {
            let expected = if pages.contains(&page) { 0 } else { 7 };
            let found = guest.read(u64::from(page) << 12, 4096);
            assert!(found.iter().all(|byte| *byte == expected), "{page:#x}");
        }
        assert_eq!(driver.status(), 0x0f);
    }
}
