use super::*;
use crate::control::nets::{NetCaller, NetService};
use crate::event::Mailbox;

fn cx() -> NetOpenCx {
    NetOpenCx::new(
        NetCaller::Command,
        Mailbox::new().unwrap().sender(),
        NetService::default(),
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
