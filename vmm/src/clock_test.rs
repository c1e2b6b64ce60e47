use super::*;

#[derive(Default)]
struct Note(Mutex<Vec<u64>>, Mutex<Option<Arc<GuestClock>>>);

impl TimerTarget for Note {
    fn expired(&self) {
        let now = self
            .1
            .lock()
            .unwrap()
            .as_ref()
            .map_or(0, |clock| clock.now_ns());
        self.0.lock().unwrap().push(now);
    }
}

#[test]
fn a_stepped_clock_fires_timers_in_their_order() {
    let clock = GuestClock::new(Motion::Stepped, WallBase::At(0), WallSource::Vm).unwrap();
    let note = Arc::new(Note::default());
    *note.1.lock().unwrap() = Some(clock.clone());
    let timers = ClockTimers(clock.clone());
    let (a, b) = (timers.timer(note.clone()), timers.timer(note.clone()));
    let cancelled = timers.timer(note.clone());
    let dropped = timers.timer(note.clone());
    a.arm(300);
    b.arm(200);
    cancelled.arm(100);
    cancelled.cancel();
    dropped.arm(50);
    drop(dropped);
    clock.start();
    assert_eq!(clock.now_ns(), 0);
    assert_eq!(clock.next_deadline(), Some(200));
    clock.advance_to(199);
    assert!(note.0.lock().unwrap().is_empty());
    clock.advance_to(1000);
    assert_eq!(*note.0.lock().unwrap(), [200, 300]);
    assert_eq!((clock.now_ns(), clock.wall_ns()), (1000, 1000));
    clock.advance_to(10);
    assert_eq!(clock.now_ns(), 1000);
}

#[test]
fn time_stands_still_while_stopped() {
    let clock = GuestClock::new(Motion::Host, WallBase::At(5), WallSource::Vm).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!((clock.now_ns(), clock.wall_ns()), (0, 5_000_000_000));
    let note = Arc::new(Note::default());
    let timer = ClockTimers(clock.clone()).timer(note.clone());
    timer.arm(1_000_000);
    clock.start();
    let poll = sys::Poll::new().unwrap();
    poll.watch(&clock.fd, 0, sys::Trigger::Level).unwrap();
    assert_eq!(poll.wait(1000).unwrap().count(), 1);
    clock.fire_expired();
    assert_eq!(note.0.lock().unwrap().len(), 1);
    assert_eq!(poll.wait(0).unwrap().count(), 0);
    clock.stop();
    let now = clock.now_ns();
    assert!(now >= 1_000_000);
    timer.arm(now);
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(clock.now_ns(), now);
    assert_eq!(poll.wait(0).unwrap().count(), 0);
    clock.start();
    assert_eq!(poll.wait(1000).unwrap().count(), 1);
}
/// Sets its timer anew for what is past, again and again.
struct Restless {
    timer: Mutex<Option<Box<dyn Timer>>>,
    count: AtomicU64,
}

impl TimerTarget for Restless {
    fn expired(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if let Some(timer) = &*self.timer.lock().unwrap() {
            timer.arm(0);
        }
    }
}

#[test]
fn a_timer_that_is_always_due_leaves_time_for_others() {
    let clock = GuestClock::new(Motion::Host, WallBase::At(0), WallSource::Vm).unwrap();
    let restless = Arc::new(Restless {
        timer: Mutex::default(),
        count: AtomicU64::new(0),
    });
    let timer = ClockTimers(clock.clone()).timer(restless.clone());
    timer.arm(1);
    *restless.timer.lock().unwrap() = Some(timer);
    clock.start();
    let poll = sys::Poll::new().unwrap();
    poll.watch(&clock.fd, 0, sys::Trigger::Level).unwrap();
    for round in 1..4 {
        assert_eq!(poll.wait(1000).unwrap().count(), 1);
        clock.fire_expired();
        assert_eq!(restless.count.load(Ordering::Relaxed), round);
    }
    // It owns itself otherwise.
    restless.timer.lock().unwrap().take();
}

#[test]
fn clocks_go_on_in_another_machine() {
    let old = GuestClock::new(Motion::Stepped, WallBase::At(1000), WallSource::Vm).unwrap();
    old.advance_to(5_000_000_123);
    let section = old.save().unwrap();
    assert_eq!((&*section.id, &*section.instance), GuestClock::SECTION);
    let new = GuestClock::new(Motion::Stepped, WallBase::At(9), WallSource::Vm).unwrap();
    new.advance_to(99_000_000_000);
    new.restore(&section).unwrap();
    assert_eq!(new.now_ns(), 5_000_000_123);
    assert_eq!(new.wall_ns(), old.wall_ns());
    assert_eq!(new.save().unwrap(), section);
    // It runs on from there, and a timer set by it has its time to go.
    let new = GuestClock::new(Motion::Host, WallBase::At(9), WallSource::Vm).unwrap();
    new.restore(&section).unwrap();
    let note = Arc::new(Note::default());
    let timer = ClockTimers(new.clone()).timer(note.clone());
    timer.arm(5_001_000_000);
    assert_eq!(new.wall_ns(), 1_005_000_000_123);
    new.start();
    let poll = sys::Poll::new().unwrap();
    poll.watch(&new.fd, 0, sys::Trigger::Level).unwrap();
    assert_eq!(poll.wait(1000).unwrap().count(), 1);
    assert!((5_001_000_000..9_000_000_000).contains(&new.now_ns()));
}

#[test]
fn what_is_left_of_timers_is_left_of_them_at_another_time() {
    let clock = GuestClock::new(Motion::Stepped, WallBase::Utc, WallSource::Vm).unwrap();
    let early = clock.save().unwrap();
    clock.advance_to(3_600_000_000_000);
    let late = clock.save().unwrap();
    let note = Arc::new(Note::default());
    let timer = ClockTimers(clock.clone()).timer(note.clone());
    timer.arm(3_605_000_000_000);
    clock.restore(&early).unwrap();
    assert_eq!(clock.next_deadline(), Some(5_000_000_000));
    clock.advance_to(1_000_000_000);
    clock.restore(&late).unwrap();
    assert_eq!(clock.next_deadline(), Some(3_604_000_000_000));
    timer.arm(u64::MAX);
    clock.restore(&early).unwrap();
    clock.restore(&late).unwrap();
    timer.cancel();
    assert_eq!(clock.next_deadline(), None);
}

#[test]
fn a_wall_clock_keeps_its_distance_from_the_hosts() {
    let hour = 3_600_000_000_000;
    let real = real_ns();
    let date = i64::try_from(real / 1_000_000_000).unwrap() - 3600;
    let old = GuestClock::new(Motion::Host, WallBase::At(date), WallSource::Host).unwrap();
    let new = GuestClock::new(Motion::Host, WallBase::Utc, WallSource::Host).unwrap();
    assert!(new.wall_ns() - real < hour / 2);
    new.restore(&old.save().unwrap()).unwrap();
    let behind = real_ns() - new.wall_ns();
    assert!(
        (hour - 1_000_000_000..hour + 2_000_000_000).contains(&behind),
        "{behind}"
    );
    // What follows the host's monotonic clock goes on from what it showed.
    let old = GuestClock::new(Motion::Host, WallBase::At(77), WallSource::Rt).unwrap();
    let new = GuestClock::new(Motion::Host, WallBase::Utc, WallSource::Rt).unwrap();
    let section = old.save().unwrap();
    new.restore(&section).unwrap();
    assert!((77_000_000_000..79_000_000_000).contains(&new.wall_ns()));
}

#[test]
fn clocks_that_are_none_are_refused() {
    let clock = GuestClock::new(Motion::Host, WallBase::Utc, WallSource::Host).unwrap();
    let other = GuestClock::new(Motion::Host, WallBase::Utc, WallSource::Vm).unwrap();
    let section = other.save().unwrap();
    let text = clock.restore(&section).unwrap_err();
    assert_eq!(
        text,
        "Section 'clock': source: the real-time clock follows 'vm', and 'host' here"
    );
    let newer = vmstate::Section {
        version: 2,
        ..section.clone()
    };
    assert!(clock.restore(&newer).unwrap_err().contains("version 2"));
    let strange = vmstate::Section {
        body: vec![0xa1, 0x61, b'x', 1],
        ..section
    };
    assert!(
        clock
            .restore(&strange)
            .unwrap_err()
            .contains("unknown field `x`")
    );
}
