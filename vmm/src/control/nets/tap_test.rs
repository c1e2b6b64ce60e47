use super::*;
use crate::control::nets::{NetCaller, NetService};
use crate::event::Mailbox;

fn cx() -> NetOpenCx {
    NetOpenCx::new(
        NetCaller::Command,
        Mailbox::new().unwrap().sender(),
        NetService::default(),
        crate::armour::launcher::on_a_thread(),
    )
}

fn tap(members: serde_json::Value) -> NetdevTapOptions {
    let mut members = members;
    members["type"] = "tap".into();
    members["id"] = "t".into();
    let options: api_spec::Netdev =
        api_spec::decode_value(members, api_spec::Mode::Strict).unwrap();
    match options.r#type {
        api_spec::NetdevBranch::Tap(tap) => tap,
        _ => panic!("no tap"),
    }
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    const FD: &str = "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, fds=, and \
                      vhostfds= are invalid with fd=";
    const FDS: &str = "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, and vhostfd= \
                       are invalid with fds=";
    const HELPER: &str = "ifname=, script=, downscript=, vnet_hdr=, queues=, and vhostfds= are \
                          invalid with helper=";
    for (options, words) in [
        (serde_json::json!({"fd": "3", "ifname": "x"}), FD),
        (serde_json::json!({"fd": "3", "queues": 1}), FD),
        (serde_json::json!({"fd": "3", "fds": "4:5"}), FD),
        (serde_json::json!({"fd": "3", "vhostfds": "4"}), FD),
        (serde_json::json!({"fds": "3:4", "script": "no"}), FDS),
        (serde_json::json!({"fds": "3:4", "vhostfd": "5"}), FDS),
        (
            serde_json::json!({"fds": "3:4", "vhostfds": "5"}),
            "The number of fds passed does not match the number of vhostfds passed",
        ),
        (serde_json::json!({"helper": "h", "vnet_hdr": true}), HELPER),
        (
            serde_json::json!({"vhostfds": "5"}),
            "vhostfds= is invalid if fds= wasn't specified",
        ),
        (
            serde_json::json!({"vhost": false, "vhostfd": "5"}),
            "vhostfd(s)= is not valid without vhost",
        ),
        (
            serde_json::json!({"queues": 0}),
            "Parameter 'queues' expects a number above zero",
        ),
        (
            serde_json::json!({"queues": 2000}),
            "Parameter 'queues' expects a number up to 1024",
        ),
    ] {
        let error = check(&tap(options.clone())).unwrap_err();
        assert_eq!(error.desc, words, "{options}");
    }
}

#[test]
fn descriptors_that_are_no_taps_are_refused() {
    let cx = cx();
    let null = File::options().read(true).write(true).open("/dev/null");
    devices::bus::lock(&cx.fds).insert("net".into(), null.unwrap().into());
    let options = tap(serde_json::json!({"fd": "net"}));
    let error = open("t", &options, &cx).err().unwrap();
    let text = error.desc;
    assert!(
        text.starts_with("Unable to query TUNGETIFF on FD "),
        "{text}"
    );
    // It was taken, and is gone.
    let error = open("t", &options, &cx).err().unwrap();
    assert_eq!(error.desc, "File descriptor named 'net' has not been found");
}

/// Runs `ip` of the host; whether it could.
fn ip(line: &str) -> bool {
    let status = std::process::Command::new("ip")
        .args(line.split(' '))
        .stderr(std::process::Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// The kernel takes its time over the end of a device: control closes the netdev, a worker drops what is kept.
#[test]
fn a_closed_tap_is_there_until_what_is_kept_goes() {
    let name = format!("qvk{}", std::process::id() % 1_000_000);
    for queues in [1, 2] {
        let options = tap(serde_json::json!({
            "ifname": name, "script": "no", "downscript": "no", "queues": queues,
        }));
        let opened = match open("t", &options, &cx()) {
            Ok(opened) => opened,
            Err(error) => {
                eprintln!("skipped: {}", error.desc);
                return;
            }
        };
        let device = std::path::PathBuf::from(format!("/sys/class/net/{name}"));
        drop(opened.netdev.attach().unwrap().port(0));
        opened.netdev.close();
        assert!(device.exists());
        drop(opened);
        assert!(!device.exists());
    }
}

/// Frames, with a header where there is one: the host answers a question for its address.
#[test]
fn frames_go_to_the_host_and_come_from_it() {
    use block::{Buffers, HostBuffer};
    use devices::backend::net::{HEADER, Sent};

    for (queues, header) in [(1, true), (1, false), (2, true)] {
        let name = format!("qvu{}", std::process::id() % 1_000_000);
        let options = tap(serde_json::json!({
            "ifname": name, "script": "no", "downscript": "no", "vnet_hdr": header,
            "queues": queues, "sndbuf": 0,
        }));
        let opened = match open("t", &options, &cx()) {
            Ok(opened) => opened,
            Err(error) => {
                eprintln!("skipped: {}", error.desc);
                return;
            }
        };
        assert_eq!(opened.netdev.pairs(), queues);
        assert_eq!(opened.netdev.traits().header, header);
        assert_eq!(opened.netdev.traits().offloads.csum, header);
        let up =
            ip(&format!("addr add 192.0.2.1/24 dev {name}")) && ip(&format!("link set {name} up"));
        if !up {
            eprintln!("skipped: there is no program 'ip', or it may not");
            return;
        }
        let attachment = opened.netdev.attach().unwrap();
        let mut ports: Vec<_> = (0..queues).filter_map(|n| attachment.port(n)).collect();
        let start = if header { HEADER } else { 0 };
        let mut frame = vec![0; start];
        frame.extend([0xff; 6]);
        frame.extend([0x52, 0x54, 0, 1, 2, 3, 8, 6]);
        frame.extend([0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 1, 2, 3, 192, 0, 2, 9]);
        frame.extend([0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
        let question = Buffers::owned(HostBuffer::from_bytes(&frame, 8));
        for port in &mut ports {
            assert!(port.send(&question) == Sent::Done);
        }
        let room = Buffers::owned(Arc::new(HostBuffer::new(4096, 8)));
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        'answer: loop {
            assert!(std::time::Instant::now() < end, "no answer comes");
            for port in &mut ports {
                while let Some(len) = port.receive(&room).unwrap() {
                    let mut got = vec![0; len];
                    room.read_at(0, &mut got);
                    // An ARP reply from the host's address.
                    if got.get(start + 12..start + 14) == Some(&[8, 6])
                        && got.get(start + 28..start + 32) == Some(&[192, 0, 2, 1])
                    {
                        break 'answer;
                    }
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
