use api_spec::decode::Size;
use api_spec::{Mode, Value, decode_value};

use super::*;
use crate::control::migrate::older;

fn set(settings: &mut Settings, json: &str) -> Result<(), String> {
    let value: Value = serde_json::from_str(json).unwrap();
    let change = decode_value(value, Mode::Strict).map_err(|error: QmpError| error.desc)?;
    let done = settings.set_parameters(change);
    done.map_err(|error| error.desc)
}

fn switch(
    settings: &mut Settings,
    changes: &[(MigrationCapability, bool)],
    activity: Activity,
) -> Result<(), String> {
    let status = |&(capability, state): &(MigrationCapability, bool)| MigrationCapabilityStatus {
        capability,
        state,
    };
    let changes: Vec<_> = changes.iter().map(status).collect();
    let done = settings.set_capabilities(&changes, activity);
    done.map_err(|error| error.desc)
}

#[test]
fn every_capability_can_be_switched_off_and_some_on() {
    use MigrationCapability as C;
    let mut settings = Settings::default();
    let all: Vec<_> = C::ALL.iter().map(|c| (*c, false)).collect();
    switch(&mut settings, &all, Activity::Idle).unwrap();
    let mut on = Vec::new();
    for &capability in C::ALL {
        let name = capability.name();
        match switch(&mut settings, &[(capability, true)], Activity::Idle) {
            Ok(()) => on.push(name),
            Err(text) => assert_eq!(
                text,
                format!("Migration capability '{name}' is not supported")
            ),
        }
        assert_eq!(settings.has(capability), on.last() == Some(&name));
    }
    assert_eq!(
        on,
        [
            "auto-converge",
            "events",
            "return-path",
            "pause-before-switchover",
            "multifd",
            "late-block-activate",
            "x-ignore-shared",
            "mapped-ram"
        ]
    );
    let list = settings.capabilities().list();
    assert_eq!(list.len(), C::ALL.len());
    assert_eq!(list.iter().filter(|status| status.state).count(), on.len());
}

#[test]
fn capabilities_change_together_or_not_at_all() {
    use MigrationCapability as C;
    let mut settings = Settings::default();
    let both = [(C::Events, true), (C::Xbzrle, true)];
    switch(&mut settings, &both, Activity::Idle).unwrap_err();
    assert!(!settings.has(C::Events));
    let last = [(C::Events, true), (C::Events, false)];
    switch(&mut settings, &last, Activity::Idle).unwrap();
    assert!(!settings.has(C::Events));
}

#[test]
fn capabilities_are_settled_once_it_goes_on() {
    use MigrationCapability as C;
    let mut settings = Settings::default();
    assert_eq!(
        switch(&mut settings, &[(C::Events, true)], Activity::Sending),
        Err("There's a migration process in progress".into())
    );
    assert_eq!(
        switch(&mut settings, &[(C::Multifd, true)], Activity::Receiving),
        Err("Multifd must be set before incoming starts".into())
    );
    switch(&mut settings, &[(C::Events, true)], Activity::Receiving).unwrap();
    switch(&mut settings, &[(C::Multifd, true)], Activity::Idle).unwrap();
    let again = [(C::Multifd, true), (C::Events, false)];
    switch(&mut settings, &again, Activity::Receiving).unwrap();
    assert!(settings.has(C::Multifd) && !settings.has(C::Events));
}

#[test]
fn parameters_have_bounds() {
    let percent = "expects an integer in the range of 1 to 99";
    let size = "expects a power of two no less than the target page size";
    let most = "expects an integer in the range of cpu_throttle_initial to 99";
    for (name, least, past, message) in [
        (
            "throttle-trigger-threshold",
            1,
            101,
            "expects an integer in the range of 1 to 100",
        ),
        ("cpu-throttle-initial", 1, 100, percent),
        ("cpu-throttle-increment", 1, 100, percent),
        (
            "downtime-limit",
            0,
            2_000_001,
            "expects an integer in the range of 0 to (2000 * 1000) ms",
        ),
        (
            "multifd-channels",
            1,
            0,
            "expects a value between 1 and 255",
        ),
        (
            "multifd-zlib-level",
            0,
            10,
            "expects a value between 0 and 9",
        ),
        (
            "multifd-qatzip-level",
            1,
            0,
            "expects a value between 1 and 9",
        ),
        (
            "multifd-zstd-level",
            20,
            21,
            "expects a value between 0 and 20",
        ),
        ("xbzrle-cache-size", 4096, 6000, size),
        ("xbzrle-cache-size", 4096, 2048, size),
        ("max-cpu-throttle", 20, 19, most),
        ("max-cpu-throttle", 99, 100, most),
        (
            "announce-initial",
            0,
            100_001,
            "expects a value between 0 and 100000",
        ),
        (
            "announce-max",
            100_000,
            100_001,
            "expects a value between 0 and 100000",
        ),
        (
            "announce-rounds",
            1000,
            1001,
            "expects a value between 0 and 1000",
        ),
        ("announce-step", 1, 0, "expects a value between 1 and 10000"),
    ] {
        let mut settings = Settings::default();
        let json = |value: u64| format!(r#"{{"{name}": {value}}}"#);
        set(&mut settings, &json(least)).unwrap();
        let name = name.replace('-', "_");
        let expected = format!("Parameter '{name}' {message}");
        let before = settings.parameters().clone();
        assert_eq!(set(&mut settings, &json(past)), Err(expected));
        assert_eq!(settings.parameters(), &before);
    }
    let mut settings = Settings::default();
    assert_eq!(
        set(&mut settings, r#"{"vcpu-dirty-limit": 0}"#),
        Err("Parameter 'vcpu_dirty_limit' must be greater than 1 MB/s".into())
    );
    assert_eq!(
        set(&mut settings, r#"{"x-vcpu-dirty-limit-period": 0}"#),
        Err("Parameter 'x-vcpu-dirty-limit-period' expects a value between 1 and 1000".into())
    );
}

#[test]
fn what_does_not_work_here_is_refused_by_name() {
    let mut settings = Settings::default();
    let bad = |name: &str, value: &str| {
        format!("Migration parameter '{name}' does not support '{value}'")
    };
    for (name, value) in [
        ("multifd-compression", "zlib"),
        ("mode", "cpr-reboot"),
        ("mode", "cpr-transfer"),
        ("tls-creds", "tls0"),
    ] {
        let json = format!(r#"{{"{name}": "{value}"}}"#);
        assert_eq!(set(&mut settings, &json), Err(bad(name, value)));
    }
    set(
        &mut settings,
        r#"{"multifd-compression": "none", "mode": "normal", "tls-creds": "", "tls-hostname": null,
            "tls-authz": "", "block-bitmap-mapping": []}"#,
    )
    .unwrap();
    let expected = Parameters {
        block_bitmap_mapping: Some(Vec::new()),
        ..Parameters::default()
    };
    assert_eq!(settings.parameters(), &expected);
}

#[test]
fn pages_in_their_places_have_their_length() {
    use MigrationCapability as C;
    let text = "Mapped-ram only available for non-compressed non-TLS multifd migration";
    let mut settings = Settings::default();
    switch(&mut settings, &[(C::MappedRam, true)], Activity::Idle).unwrap();
    let zstd = r#"{"multifd-compression": "zstd"}"#;
    assert_eq!(set(&mut settings, zstd), Err(text.into()));
    set(&mut settings, r#"{"multifd-compression": "none"}"#).unwrap();
    // In the other order it can still be put right until it begins.
    switch(&mut settings, &[(C::MappedRam, false)], Activity::Idle).unwrap();
    set(&mut settings, zstd).unwrap();
    switch(&mut settings, &[(C::MappedRam, true)], Activity::Idle).unwrap();
    assert_eq!(settings.send_options().unwrap_err().desc, text);
    set(&mut settings, r#"{"multifd-compression": "none"}"#).unwrap();
    assert!(settings.send_options().unwrap().mapped_ram);
}

#[test]
fn options_follow_from_both() {
    use MigrationCapability as C;
    let mut settings = Settings::default();
    assert_eq!(settings.send_options().unwrap(), SendOptions::default());
    let json = r#"{"multifd-compression": "zstd", "multifd-zstd-level": 3, "direct-io": true,
                   "multifd-channels": 200, "zero-page-detection": "none"}"#;
    set(&mut settings, json).unwrap();
    // Without multifd and mapped-ram there is nothing to compress, and no file.
    let alone = SendOptions {
        zeroes_unseen: true,
        ..SendOptions::default()
    };
    assert_eq!(settings.send_options().unwrap(), alone);
    let on = [
        (C::Multifd, true),
        (C::AutoConverge, true),
        (C::XIgnoreShared, true),
    ];
    switch(&mut settings, &on, Activity::Idle).unwrap();
    let expected = SendOptions {
        multifd: Some(16),
        zstd: Some(3),
        mapped_ram: false,
        ignore_shared: true,
        auto_converge: true,
        zeroes_unseen: true,
        direct_io: false,
    };
    assert_eq!(settings.send_options().unwrap(), expected);
}

#[test]
fn tunables_are_kept_up_to_date() {
    let mut settings = Settings::default();
    let tunables = settings.tunables();
    let all = |t: &Tunables| {
        [
            &t.max_bandwidth,
            &t.downtime_limit,
            &t.throttle_trigger,
            &t.throttle_initial,
            &t.throttle_increment,
            &t.throttle_max,
            &t.switchover_bandwidth,
        ]
        .map(|value| value.load(Ordering::Relaxed))
    };
    assert_eq!(all(&tunables), [128 << 20, 300, 50, 20, 10, 99, 0]);
    let json = r#"{"max-bandwidth": 0, "downtime-limit": 7, "throttle-trigger-threshold": 60,
                   "cpu-throttle-initial": 30, "cpu-throttle-increment": 5, "max-cpu-throttle": 80,
                   "avail-switchover-bandwidth": 9, "cpu-throttle-tailslow": true}"#;
    set(&mut settings, json).unwrap();
    assert_eq!(all(&tunables), [0, 7, 60, 30, 5, 80, 9]);
    set(
        &mut settings,
        r#"{"max-bandwidth": 1, "downtime-limit": 2000001}"#,
    )
    .unwrap_err();
    assert_eq!(all(&tunables), [0, 7, 60, 30, 5, 80, 9]);
    assert!(tunables.throttle_tailslow.load(Ordering::Relaxed));
}

#[test]
fn interfaces_are_announced_as_the_parameters_say() {
    let mut settings = Settings::default();
    assert_eq!(settings.announcement(), default_announcement());
    set(
        &mut settings,
        r#"{"announce-rounds": 2, "announce-step": 7}"#,
    )
    .unwrap();
    let announcement = settings.announcement();
    assert_eq!((announcement.rounds, announcement.step), (2, 7));
}

#[test]
fn the_older_commands_set_the_same() {
    assert_eq!(older::speed(9).max_bandwidth, Some(Size(9)));
    assert_eq!(older::speed(-9).max_bandwidth, Some(Size(0)));
    assert_eq!(older::downtime(0.3).unwrap().downtime_limit, Some(300));
    assert_eq!(
        older::downtime(2000.0).unwrap().downtime_limit,
        Some(2_000_000)
    );
    for bad in [-0.1, 2000.1, f64::NAN, f64::INFINITY] {
        older::downtime(bad).unwrap_err();
    }
    assert_eq!(older::cache_size(8192).xbzrle_cache_size, Some(Size(8192)));
}
