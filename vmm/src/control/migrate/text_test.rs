use api_spec::{
    BitmapMigrationBitmapAlias, BitmapMigrationNodeAlias, InetSocketAddress, MigrationStatus,
    UnixSocketAddress,
};

use super::*;

#[test]
fn nothing_before_the_first_one() {
    assert_eq!(info(&MigrationInfo::default()), "");
    let blocked = MigrationInfo {
        blocked_reasons: Some(vec!["No".into(), "Never".into()]),
        ..MigrationInfo::default()
    };
    let text = "Outgoing migration blocked:\n  No\n  Never\n";
    assert_eq!(info(&blocked), text);
}

#[test]
fn a_migration_that_failed() {
    let failed = MigrationInfo {
        status: Some(MigrationStatus::Failed),
        error_desc: Some("Gone".into()),
        ..MigrationInfo::default()
    };
    let text = "Migration status: failed (Gone)\ntotal time: 0 ms\n";
    assert_eq!(info(&failed), text);
}

#[test]
fn a_migration_that_is_done() {
    let done = MigrationInfo {
        status: Some(MigrationStatus::Completed),
        total_time: Some(11),
        downtime: Some(1),
        setup_time: Some(3),
        ram: Some(MigrationStats {
            transferred: 469_899,
            remaining: 0,
            total: 67_641_344,
            duplicate: 16463,
            normal: 51,
            normal_bytes: 208_896,
            dirty_pages_rate: 0,
            mbps: 469.899,
            dirty_sync_count: 2,
            postcopy_requests: 0,
            page_size: 4096,
            multifd_bytes: 0,
            pages_per_second: 0,
            precopy_bytes: 0,
            downtime_bytes: 357_563,
            postcopy_bytes: 0,
            dirty_sync_missed_zero_copy: 0,
        }),
        ..MigrationInfo::default()
    };
    let text = "Migration status: completed\n\
                total time: 11 ms\n\
                downtime: 1 ms\n\
                setup: 3 ms\n\
                transferred ram: 458 kbytes\n\
                throughput: 469.90 mbps\n\
                remaining ram: 0 kbytes\n\
                total ram: 66056 kbytes\n\
                duplicate: 16463 pages\n\
                normal: 51 pages\n\
                normal bytes: 204 kbytes\n\
                dirty sync count: 2\n\
                page size: 4 kbytes\n\
                multifd bytes: 0 kbytes\n\
                pages-per-second: 0\n\
                downtime ram: 349 kbytes\n";
    assert_eq!(info(&done), text);
}

#[test]
fn where_a_machine_is_awaited() {
    let inet = |host: &str| SocketAddress {
        r#type: SocketAddressBranch::Inet(InetSocketAddress {
            host: host.into(),
            port: "7".into(),
            numeric: None,
            to: None,
            ipv4: None,
            ipv6: None,
            keep_alive: None,
        }),
    };
    let unix = SocketAddress {
        r#type: SocketAddressBranch::Unix(UnixSocketAddress {
            path: "/a".into(),
            r#abstract: None,
            tight: None,
        }),
    };
    let setup = MigrationInfo {
        status: Some(MigrationStatus::Setup),
        socket_address: Some(vec![inet("127.0.0.1"), inet("::1"), unix]),
        ..MigrationInfo::default()
    };
    let text = "Migration status: setup\n\
                total time: 0 ms\n\
                socket address: [\n\
                \ttcp:127.0.0.1:7\n\
                \ttcp:[::1]:7\n\
                \tunix:/a\n\
                ]\n";
    assert_eq!(info(&setup), text);
}

#[test]
fn bitmaps_have_lines_of_their_own() {
    let bitmap = BitmapMigrationBitmapAlias {
        name: "c".into(),
        alias: "d".into(),
        transform: None,
    };
    let node = BitmapMigrationNodeAlias {
        node_name: "a".into(),
        alias: "b".into(),
        bitmaps: vec![bitmap],
    };
    let with = Parameters {
        block_bitmap_mapping: Some(vec![node]),
        ..Parameters::default()
    };
    let text = parameters(&with);
    let lines = "tls-authz: ''\nblock-bitmap-mapping:\n  'a' -> 'b'\n    'c' -> 'd'\nx-vcpu-";
    assert!(text.contains(lines), "{text}");
}
