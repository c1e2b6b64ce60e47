use super::*;

fn after(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

#[test]
fn nothing_is_told_before_the_first_one() {
    let now = Instant::now();
    let mut progress = Progress::default();
    assert_eq!(info(&progress, now), MigrationInfo::default());
    assert_eq!(progress.activity(), Activity::Idle);
    progress.blockers.push("No".into());
    let expected = MigrationInfo {
        blocked_reasons: Some(vec!["No".into()]),
        ..MigrationInfo::default()
    };
    assert_eq!(info(&progress, now), expected);
}

#[test]
fn a_machine_that_is_sent() {
    let start = Instant::now();
    let counters = Arc::new(Counters::default());
    let mut progress = Progress::outgoing(counters.clone(), 300, start);
    let setup = info(&progress, after(start, 5));
    assert_eq!(setup.status, Some(MigrationStatus::Setup));
    assert_eq!((setup.ram, setup.total_time), (None, None));
    assert_eq!(progress.activity(), Activity::Sending);

    // Nothing was measured yet.
    progress.reach(MigrationStatus::Active, after(start, 5));
    let unmeasured = info(&progress, after(start, 6));
    assert_eq!(unmeasured.expected_downtime, Some(300));
    progress.reach(MigrationStatus::Setup, after(start, 5));

    for (counter, value) in [
        (&counters.total, 100 << 20),
        (&counters.remaining, 40 << 20),
        (&counters.transferred, 1000),
        (&counters.zero_pages, 3),
        (&counters.normal_pages, 2),
        (&counters.passes, 1),
        (&counters.bits_per_second, 2_500_000),
        (&counters.expected_downtime, 77),
        (&counters.setup_us, 4500),
    ] {
        counter.store(value, Ordering::Relaxed);
    }
    assert!(progress.reach(MigrationStatus::Active, after(start, 5)));
    assert!(!progress.reach(MigrationStatus::Active, after(start, 6)));
    let active = info(&progress, after(start, 30));
    assert_eq!(active.total_time, Some(30));
    assert_eq!(active.setup_time, Some(4));
    assert_eq!(active.expected_downtime, Some(77));
    assert_eq!(
        (active.downtime, active.cpu_throttle_percentage),
        (None, None)
    );
    let ram = active.ram.unwrap();
    assert_eq!((ram.normal, ram.normal_bytes, ram.duplicate), (2, 8192, 3));
    assert_eq!((ram.precopy_bytes, ram.downtime_bytes), (1000, 0));
    assert_eq!((ram.total, ram.remaining), (100 << 20, 40 << 20));
    assert!((ram.mbps - 2.5).abs() < 1e-9);

    counters.throttle.store(20, Ordering::Relaxed);
    let throttled = info(&progress, after(start, 31));
    assert_eq!(throttled.cpu_throttle_percentage, Some(20));

    progress.guest_stopped(after(start, 40));
    counters.transferred.store(1600, Ordering::Relaxed);
    progress.reach(MigrationStatus::Device, after(start, 40));
    progress.guest_stopped(after(start, 41));
    progress.reach(MigrationStatus::Completed, after(start, 50));
    assert_eq!(progress.activity(), Activity::Idle);
    let done = info(&progress, after(start, 9000));
    assert_eq!((done.total_time, done.downtime), (Some(50), Some(10)));
    assert_eq!(
        (done.expected_downtime, done.cpu_throttle_percentage),
        (None, None)
    );
    let ram = done.ram.unwrap();
    assert_eq!((ram.precopy_bytes, ram.downtime_bytes), (1000, 600));
}

#[test]
fn ends_that_nobody_wanted() {
    let start = Instant::now();
    let mut progress = Progress::outgoing(Arc::default(), 300, start);
    assert!(progress.fail("Gone", start));
    assert!(!progress.fail("Gone for other reasons", start));
    let failed = info(&progress, start);
    assert_eq!(failed.status, Some(MigrationStatus::Failed));
    assert_eq!(failed.error_desc.as_deref(), Some("Gone"));
    assert_eq!((failed.ram, failed.total_time), (None, None));

    let mut progress = Progress::outgoing(Arc::default(), 300, start);
    progress.reach(MigrationStatus::Cancelling, start);
    assert!(info(&progress, start).ram.is_some());
    progress.reach(MigrationStatus::Cancelled, start);
    let expected = MigrationInfo {
        status: Some(MigrationStatus::Cancelled),
        ..MigrationInfo::default()
    };
    assert_eq!(info(&progress, start), expected);
}

#[test]
fn a_machine_that_comes() {
    let start = Instant::now();
    let mut progress = Progress::incoming(Vec::new(), start);
    assert_eq!(progress.activity(), Activity::Receiving);
    progress.reach(MigrationStatus::Active, start);
    progress.reach(MigrationStatus::Completed, start);
    let expected = MigrationInfo {
        status: Some(MigrationStatus::Completed),
        ..MigrationInfo::default()
    };
    assert_eq!(info(&progress, start), expected);
}
