//! Limits, policies, histograms and thresholds of drives and nodes.

use block::{Buffers, Durability, ErrorPolicy, HostBuffer, Limits, Measure, Notice, OnError, Op};

use super::*;

fn throttle(bench: &mut Bench, args: Value) -> Result<(), String> {
    let args = decode_value(args, Mode::Strict).map_err(|error| error.desc)?;
    let set = bench.blocks.set_io_throttle(&args);
    set.map_err(|refusal| refusal.error.desc)
}

fn inserted(bench: &Bench) -> BlockDeviceInfo {
    bench.blocks.query_block().remove(0).inserted.unwrap()
}

#[test]
fn drives_are_limited_as_they_say() {
    let mut bench = Bench::new();
    for (option, group, shown) in [
        (
            "throttling.iops-total=100,throttling.iops-total-max=200",
            "x",
            (0, 100, Some(200)),
        ),
        ("iops=100,iops_max=200,group=g", "g", (0, 100, Some(200))),
        ("bps=1048576,throttling.group=h", "h", (1 << 20, 0, None)),
    ] {
        bench
            .drive(&format!("if=none,id=x,driver=null-co,{option}"))
            .unwrap();
        let info = inserted(&bench);
        assert_eq!((info.bps, info.iops, info.iops_max), shown);
        assert_eq!(info.group.as_deref(), Some(group));
        bench.blocks.del_drive("x").unwrap();
    }
    bench
        .drive("if=none,id=x,driver=null-co,throttling.group=g")
        .unwrap();
    assert_eq!(inserted(&bench).group, None, "no limits, no group");
}

#[test]
fn bad_limits_and_policies_of_drives_are_refused() {
    let mut bench = Bench::new();
    for (option, part) in [
        (
            "throttling.iops-total=x",
            "Parameter 'throttling.iops-total' expects a number",
        ),
        (
            "iops=1,throttling.iops-total=1",
            "can't be used at the same time",
        ),
        ("bps=1,bps_rd=1", "cannot be used at the same time"),
        ("bps_max=1", "require corresponding"),
        (
            "iops=1,iops_size=0,throttling.iops-total-max-length=0",
            "cannot be 0",
        ),
        ("rerror=enospc", "'enospc' invalid read error action"),
        ("werror=auto", "'auto' invalid write error action"),
    ] {
        let refused = bench.drive(&format!("if=none,id=x,driver=null-co,{option}"));
        let error = refused.unwrap_err();
        assert!(error.contains(part), "{option}: {error}");
    }
    assert!(bench.blocks.query_block().is_empty());
}

#[test]
fn limits_change_by_name_or_device() {
    let mut bench = Bench::new();
    bench.drive("if=none,id=x,driver=null-co").unwrap();
    bench.drive("if=none,id=empty").unwrap();
    let none = json!({"bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0});
    let with = |more: Value| {
        let mut args = none.clone();
        let more = more.as_object().unwrap().clone();
        args.as_object_mut().unwrap().extend(more);
        args
    };
    let set = json!({"device": "x", "iops_rd": 5, "iops_rd_max": 9, "iops_rd_max_length": 3});
    throttle(&mut bench, with(set)).unwrap();
    let info = inserted(&bench);
    assert_eq!((info.iops_rd, info.iops_rd_max), (5, Some(9)));
    assert_eq!((info.iops_rd_max_length, info.bps_max), (Some(3), None));
    assert_eq!(info.group.as_deref(), Some("x"));
    let _disk = bench.attach("x", "d").unwrap();
    throttle(&mut bench, with(json!({"id": "d", "bps": 7, "group": "g"}))).unwrap();
    let info = inserted(&bench);
    assert_eq!((info.bps, info.iops_rd), (7, 0));
    assert_eq!(info.group.as_deref(), Some("g"));
    let path = "/machine/peripheral/d";
    throttle(&mut bench, with(json!({"id": path}))).unwrap();
    assert_eq!(inserted(&bench).group, None);
    for (args, message) in [
        (json!({"id": "e"}), "Device 'e' not found"),
        (json!({"device": "y"}), "Device 'y' not found"),
        (json!({}), "Need exactly one of 'device' and 'id'"),
        (
            json!({"device": "x", "id": "d"}),
            "Need exactly one of 'device' and 'id'",
        ),
        (json!({"device": "empty"}), "Device has no medium"),
        (
            json!({"device": "x", "bps": -1}),
            "bps/iops/max values must be within [0, 1000000000000000]",
        ),
        (
            json!({"device": "x", "bps_max": 1}),
            "bps_max/iops_max require corresponding bps/iops values",
        ),
    ] {
        assert_eq!(throttle(&mut bench, with(args)).unwrap_err(), message);
    }
}

#[test]
fn filters_are_made_and_refused() {
    let mut bench = Bench::new();
    let below = json!({"driver": "null-co"});
    let limited =
        json!({"driver": "throttle", "node-name": "t", "throttle-group": "g", "file": below});
    let error = bench.add(limited.clone()).unwrap_err();
    assert_eq!(error, "Throttle group 'g' does not exist");
    let mut limits = Limits::default();
    assert!(limits::set_named(&mut limits, "iops-total", 5));
    let graph = bench.blocks.graph();
    let group = graph.make_throttle_group("g", limits).unwrap();
    bench.add(limited).unwrap();
    assert!(group.has_members());
    assert_eq!(group.limits().rate(Measure::IopsTotal).average, 5);
    bench
        .add(json!({"driver": "copy-on-read", "node-name": "c", "file": below}))
        .unwrap();
    let config = bench.dir.path().join("debug.conf");
    std::fs::write(
        &config,
        "[inject-error]\nevent = \"none\"\nerrno = \"28\"\n",
    )
    .unwrap();
    let debug = json!({"driver": "blkdebug", "node-name": "b", "image": below,
                       "config": text(&config),
                       "set-state": [{"event": "l2_update", "new_state": 2}]});
    bench.add(debug).unwrap();
    let nodes = bench.blocks.query_named_block_nodes(true);
    let node = |name: &str| {
        let found = nodes
            .iter()
            .find(|node| node.node_name.as_deref() == Some(name));
        found.unwrap()
    };
    assert_eq!(
        node("b").file,
        "json:{\"image\": {\"driver\": \"null-co\"}, \"driver\": \"blkdebug\"}"
    );
    assert_eq!(
        (node("c").drv.as_str(), node("t").drv.as_str()),
        ("copy-on-read", "throttle")
    );
    let error = graph.find("b").unwrap().perform(Op::Flush, &Buffers::new());
    assert_eq!(error.unwrap_err().raw_os_error(), Some(28));
    for (inject, part) in [
        (
            json!({"event": "nothing"}),
            "does not accept value 'nothing'",
        ),
        (
            json!({"event": "none", "errno": -1}),
            "'errno' is out of range",
        ),
        (
            json!({"event": "none", "sector": -2}),
            "'sector' is out of range",
        ),
    ] {
        let debug = json!({"driver": "blkdebug", "node-name": "e", "image": below,
                           "inject-error": [inject]});
        let error = bench.add(debug).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    bench.blocks.del("t").unwrap();
    assert!(!group.has_members());
    // What is copied is written: a node that cannot be is of no use.
    let fixed = json!({"driver": "null-co", "read-only": true});
    let error = bench.add(json!({"driver": "copy-on-read", "node-name": "r", "file": fixed}));
    assert_eq!(error.unwrap_err(), "Block node is read-only");
}

#[test]
fn failures_show_where_they_may_stop_the_machine() {
    let mut bench = Bench::new();
    bench
        .drive("if=none,id=x,driver=null-co,werror=report,rerror=report")
        .unwrap();
    let disk = bench.attach("x", "d").unwrap();
    assert_eq!(bench.blocks.query_block()[0].io_status, None);
    disk.set_error_policy(ErrorPolicy {
        read: OnError::Report,
        write: OnError::Enospc,
    });
    let error = std::io::Error::from_raw_os_error(28);
    assert_eq!(
        disk.failed(block::Failed::Write, &error),
        block::ErrorAction::Stop
    );
    let status = bench.blocks.query_block()[0].io_status;
    assert_eq!(status, Some(BlockDeviceIoStatus::Nospace));
    let path = "/machine/peripheral/d/virtio-backend";
    let (drive, node, may_stop) = bench.blocks.failed_device(path).unwrap();
    assert!(drive == "x" && node.unwrap().starts_with("#block") && may_stop);
    bench.blocks.reset_io_status();
    let status = bench.blocks.query_block()[0].io_status;
    assert_eq!(status, Some(BlockDeviceIoStatus::Ok));
}

#[test]
fn histograms_come_and_go() {
    let mut bench = Bench::new();
    bench.drive("if=none,id=x,driver=null-co").unwrap();
    let disk = bench.attach("x", "d").unwrap();
    let set = |bench: &Bench, args: Value| {
        let args = decode_value(args, Mode::Strict).unwrap();
        let set = bench.blocks.set_histograms(&args);
        set.map_err(|refusal| refusal.error.desc)
    };
    let stats = |bench: &Bench| bench.blocks.query_blockstats(false).remove(0).stats;
    assert_eq!(stats(&bench).rd_latency_histogram, None);
    set(
        &bench,
        json!({"id": "d", "boundaries": [1000, 1_000_000_000_000u64]}),
    )
    .unwrap();
    set(&bench, json!({"id": "d", "boundaries-flush": [5]})).unwrap();
    let now = std::time::Instant::now() - std::time::Duration::from_millis(1);
    disk.stats().ended(block::Account::Read, 512, now, false);
    let shown = stats(&bench);
    assert_eq!(shown.rd_latency_histogram.unwrap().bins, [0, 1, 0]);
    assert_eq!(shown.wr_latency_histogram.unwrap().bins, [0, 0, 0]);
    assert_eq!(shown.flush_latency_histogram.unwrap().boundaries, [5]);
    assert!(shown.zone_append_latency_histogram.is_some());
    let error = set(&bench, json!({"id": "d", "boundaries-write": [2, 1]}));
    assert_eq!(error.unwrap_err(), "Device 'd' set write boundaries fail");
    let error = set(&bench, json!({"id": "e"}));
    assert_eq!(error.unwrap_err(), "Device 'e' not found");
    set(&bench, json!({"id": "d"})).unwrap();
    assert_eq!(stats(&bench).flush_latency_histogram, None);
}

#[test]
fn the_write_beyond_a_threshold_is_told_of() {
    let mut bench = Bench::new();
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = heard.clone();
    let mail = Mailbox::new().unwrap();
    let sink: NoticeSink = Arc::new(move |notice| told.lock().unwrap().push(notice));
    bench.blocks = Blockdevs::new(pool(mail.sender())).with_notices(sink);
    bench
        .add(json!({"driver": "null-co", "node-name": "n"}))
        .unwrap();
    let shown = |bench: &Bench| bench.blocks.query_named_block_nodes(true)[0].write_threshold;
    bench.blocks.set_write_threshold("n", 4096).unwrap();
    assert_eq!(shown(&bench), 4096);
    let node = bench.blocks.graph().find("n").unwrap();
    let write = |offset| {
        let durability = Durability::Cached;
        let memory = Buffers::owned(Arc::new(HostBuffer::new(1024, 512)));
        node.perform(Op::Write { offset, durability }, &memory)
            .unwrap();
    };
    write(3072);
    assert!(heard.lock().unwrap().is_empty());
    write(3584);
    write(8192);
    let expected = Notice::WriteThreshold {
        node: "n".into(),
        threshold: 4096,
        amount: 512,
    };
    assert_eq!(*heard.lock().unwrap(), [expected]);
    assert_eq!(shown(&bench), 0);
    let error = bench.blocks.set_write_threshold("m", 1).unwrap_err();
    assert_eq!(error.error.desc, "Device 'm' not found");
    assert_eq!(error.error.class, api_spec::ErrorClass::GenericError);
}

#[test]
fn drives_on_filters() {
    let mut bench = Bench::new();
    let graph = bench.blocks.graph();
    let _group = graph.make_throttle_group("g", Limits::default()).unwrap();
    for (option, driver) in [
        (
            "driver=throttle,throttle-group=g,file.driver=null-co",
            "throttle",
        ),
        ("driver=copy-on-read,file.driver=null-co", "copy-on-read"),
        (
            "driver=blkdebug,image.driver=null-co,inject-error.0.event=none",
            "blkdebug",
        ),
        (
            "driver=raw,file.driver=blkdebug,file.image.driver=null-co,\
             file.inject-error.0.event=write_aio,file.inject-error.0.errno=28",
            "raw",
        ),
    ] {
        bench.drive(&format!("if=none,id=x,{option}")).unwrap();
        assert_eq!(inserted(&bench).drv, driver);
        if driver == "raw" {
            let name = inserted(&bench).node_name.unwrap();
            let node = graph.find(&name).unwrap();
            let durability = Durability::Cached;
            let memory = Buffers::owned(Arc::new(HostBuffer::new(512, 512)));
            node.perform(Op::Read { offset: 0 }, &memory).unwrap();
            let error = node.perform(
                Op::Write {
                    offset: 0,
                    durability,
                },
                &memory,
            );
            assert_eq!(error.unwrap_err().raw_os_error(), Some(28));
        }
        bench.blocks.del_drive("x").unwrap();
    }
}
