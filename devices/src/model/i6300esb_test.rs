use super::*;
use crate::bus::lock;
use crate::testing::{FakeGuest, conformance};

/// Nanoseconds of so many ticks of about a millisecond.
fn slow(ticks: u64) -> u64 {
    (ticks << 15) * 1_000_000_000 / 33_000_000
}

fn make(guest: &FakeGuest) -> Arc<Mutex<I6300esb>> {
    let cx = guest.cx("dog");
    with_timer(&*cx.timers, |timer| I6300esb::new(timer, &cx, false))
}

fn unlock(dog: &Mutex<I6300esb>) {
    for value in [0x80u16, 0x86] {
        let effect = lock(dog).bar_write(BAR, RELOAD, &value.to_le_bytes());
        assert_eq!(effect, Effect::None);
    }
}

fn preload(dog: &Mutex<I6300esb>, first: u32, second: u32) {
    for (at, ticks) in [(PRELOAD_1, first), (PRELOAD_2, second)] {
        unlock(dog);
        let _ = lock(dog).bar_write(BAR, at, &ticks.to_le_bytes());
    }
}

fn feed(dog: &Mutex<I6300esb>) {
    unlock(dog);
    let _ = lock(dog).bar_write(BAR, RELOAD, &RELOAD_NOW.to_le_bytes());
}

fn set(dog: &Mutex<I6300esb>, register: u16, value: u8) {
    assert_eq!(lock(dog).config_write(register, &[value]), Effect::None);
}

fn byte(dog: &Mutex<I6300esb>, register: u16) -> u8 {
    let mut data = [0; 1];
    lock(dog).config_read(register, &mut data);
    data[0]
}

fn reload(dog: &Mutex<I6300esb>) -> u16 {
    let mut data = [0; 2];
    lock(dog).bar_read(BAR, RELOAD, &mut data);
    u16::from_le_bytes(data)
}

fn barks(guest: &FakeGuest) -> bool {
    let bark = ("dog".to_owned(), Effect::Power(PowerEffect::Watchdog));
    let effects = guest.take_effects();
    assert!(effects.iter().all(|effect| *effect == bark));
    effects.len() == 1
}

#[test]
fn it_barks_when_both_stages_are_over() {
    let guest = FakeGuest::new();
    let dog = make(&guest);
    preload(&dog, 1000, 500);
    set(&dog, LOCK, ENABLED);
    guest.timers.advance(slow(1000) + slow(500) - 1);
    assert!(!barks(&guest));
    guest.timers.advance(2);
    assert!(barks(&guest));
    assert_eq!(byte(&dog, LOCK), 0, "off");
    assert_eq!(reload(&dog), AFTER_TIMEOUT);
    lock(&dog).reset();
    assert_eq!(reload(&dog), AFTER_TIMEOUT, "the guest learns of it");
    unlock(&dog);
    let _ = lock(&dog).bar_write(BAR, RELOAD, &TIMED_OUT.to_le_bytes());
    assert_eq!(reload(&dog), 0);
    guest.timers.advance(u64::MAX / 4);
    assert!(!barks(&guest));
}

#[test]
fn one_that_is_fed_is_quiet() {
    let guest = FakeGuest::new();
    let dog = make(&guest);
    preload(&dog, 1000, 1000);
    set(&dog, LOCK, ENABLED);
    for _ in 0..5 {
        guest.timers.advance(slow(1900));
        feed(&dog);
    }
    assert!(!barks(&guest));
    // Without the sequence it does not eat.
    guest.timers.advance(slow(1900));
    for words in [
        &[0x86u16, RELOAD_NOW][..],
        &[RELOAD_NOW],
        &[0x80, 0, RELOAD_NOW],
    ] {
        for word in words {
            let _ = lock(&dog).bar_write(BAR, RELOAD, &word.to_le_bytes());
        }
    }
    guest.timers.advance(slow(110));
    assert!(barks(&guest));
}

#[test]
fn it_can_be_switched_off_unless_it_is_locked() {
    let guest = FakeGuest::new();
    let dog = make(&guest);
    preload(&dog, 10, 10);
    set(&dog, LOCK, ENABLED);
    set(&dog, LOCK, 0);
    guest.timers.advance(slow(30));
    assert!(!barks(&guest));
    set(&dog, LOCK, ENABLED | LOCKED);
    set(&dog, LOCK, 0);
    assert_eq!(byte(&dog, LOCK), ENABLED | LOCKED);
    guest.timers.advance(slow(30));
    assert!(barks(&guest));
}

#[test]
fn a_fast_one_and_one_without_output() {
    let guest = FakeGuest::new();
    let dog = make(&guest);
    preload(&dog, 1000, 1000);
    set(&dog, CONFIG, SLOW_PRESCALER_OFF);
    set(&dog, LOCK, ENABLED);
    guest.timers.advance(slow(2000) / 1024 + 2);
    assert!(barks(&guest));
    preload(&dog, 1000, 1000);
    set(&dog, CONFIG, OUTPUT_OFF);
    assert_eq!(byte(&dog, CONFIG), OUTPUT_OFF);
    set(&dog, LOCK, ENABLED | FREE_RUNNING);
    guest.timers.advance(slow(9000));
    assert!(!barks(&guest));
    set(&dog, CONFIG, 0);
    guest.timers.advance(slow(2100));
    assert!(barks(&guest), "it ran on");
}

#[test]
fn stages_of_no_length_do_not_keep_the_host_busy() {
    let guest = FakeGuest::new();
    let dog = make(&guest);
    preload(&dog, 0, 0);
    set(&dog, CONFIG, OUTPUT_OFF | SLOW_PRESCALER_OFF);
    set(&dog, LOCK, ENABLED | FREE_RUNNING);
    // It ends.
    guest.timers.advance(100 * SHORTEST_NS);
    assert!(!barks(&guest));
}

#[test]
fn restored_it_goes_on() {
    let guest = FakeGuest::new();
    let dog = make(&guest);
    preload(&dog, 1000, 500);
    set(&dog, LOCK, ENABLED);
    guest.timers.advance(slow(1200));
    let state = lock(&dog).save();
    let other = make(&guest);
    drop(dog);
    lock(&other).restore(state).unwrap();
    guest.timers.advance(slow(290));
    assert!(!barks(&guest));
    guest.timers.advance(slow(20));
    assert!(barks(&guest));
}

#[test]
fn conforms() {
    let guest = FakeGuest::new();
    // What a bark left survives resets.
    conformance::pci_function(conformance::AfterReset::Kept, || make(&guest));
}
