//! Capabilities and parameters of migration, and commands about it when there is none.

use serde_json::{Value, json};
use tests::binary::is_stand_in;
use tests::{Qmp, Vm, VmBuilder};

const CAPABILITIES: [&str; 22] = [
    "xbzrle",
    "rdma-pin-all",
    "auto-converge",
    "zero-blocks",
    "events",
    "postcopy-ram",
    "x-colo",
    "release-ram",
    "return-path",
    "pause-before-switchover",
    "multifd",
    "dirty-bitmaps",
    "postcopy-blocktime",
    "late-block-activate",
    "x-ignore-shared",
    "validate-uuid",
    "background-snapshot",
    "zero-copy-send",
    "postcopy-preempt",
    "switchover-ack",
    "dirty-limit",
    "mapped-ram",
];
/// Those that work here.
const WORKING: [&str; 8] = [
    "auto-converge",
    "events",
    "return-path",
    "pause-before-switchover",
    "multifd",
    "late-block-activate",
    "x-ignore-shared",
    "mapped-ram",
];

fn switch(changes: &[(&str, bool)]) -> Value {
    let one = |(name, state): &(&str, bool)| json!({"capability": name, "state": state});
    json!({"capabilities": changes.iter().map(one).collect::<Vec<_>>()})
}

fn switched_on(vm: &mut Vm) -> Vec<String> {
    let list = vm.query("query-migrate-capabilities");
    let list = list.as_array().expect("a list");
    let on = list.iter().filter(|entry| entry["state"] == json!(true));
    let name = |entry: &Value| entry["capability"].as_str().expect("a name").to_owned();
    on.map(name).collect()
}

fn parameter(vm: &mut Vm, name: &str) -> Value {
    vm.query("query-migrate-parameters")[name].clone()
}

#[test]
fn all_capabilities_are_known_and_off() {
    let mut vm = Vm::none();
    let expected: Vec<Value> = CAPABILITIES
        .iter()
        .map(|name| json!({"capability": name, "state": false}))
        .collect();
    assert_eq!(vm.query("query-migrate-capabilities"), json!(expected));
    // What a client does that wants nothing of all that.
    let off: Vec<_> = CAPABILITIES.iter().map(|name| (*name, false)).collect();
    vm.exec("migrate-set-capabilities", switch(&off));
    assert_eq!(switched_on(&mut vm), [""; 0]);
}

#[test]
fn those_that_work_can_be_switched_on() {
    let mut vm = Vm::none();
    for name in CAPABILITIES {
        if WORKING.contains(&name) {
            vm.exec("migrate-set-capabilities", switch(&[(name, true)]));
            assert_eq!(switched_on(&mut vm), [name]);
            vm.exec("migrate-set-capabilities", switch(&[(name, false)]));
        } else if !is_stand_in() {
            let error = vm.refused("migrate-set-capabilities", switch(&[(name, true)]));
            assert_eq!(
                error.to_string(),
                format!("GenericError: Migration capability '{name}' is not supported")
            );
        }
    }
    let all: Vec<_> = WORKING.iter().map(|name| (*name, true)).collect();
    vm.exec("migrate-set-capabilities", switch(&all));
    assert_eq!(switched_on(&mut vm).len(), WORKING.len());
}

#[test]
fn capabilities_are_switched_together_or_not_at_all() {
    let mut vm = Vm::none();
    let error = vm.refused(
        "migrate-set-capabilities",
        switch(&[("events", true), ("nope", false)]),
    );
    assert_eq!(
        error.desc,
        "Parameter 'capability' does not accept value 'nope'"
    );
    assert_eq!(switched_on(&mut vm), [""; 0]);
    // Contradictions are refused by both, each in its words.
    vm.refused(
        "migrate-set-capabilities",
        switch(&[("mapped-ram", true), ("xbzrle", true)]),
    );
    assert_eq!(switched_on(&mut vm), [""; 0]);
    vm.exec("migrate-set-capabilities", json!({"capabilities": []}));
    let last = switch(&[("events", true), ("events", false)]);
    vm.exec("migrate-set-capabilities", last);
    assert_eq!(switched_on(&mut vm), [""; 0]);
    let error = vm.refused("migrate-set-capabilities", json!({}));
    assert_eq!(error.desc, "Parameter 'capabilities' is missing");
}

#[test]
fn parameters_are_qemus_by_default() {
    let mut vm = Vm::none();
    let expected = json!({
        "announce-initial": 50, "announce-max": 550, "announce-rounds": 5, "announce-step": 100,
        "throttle-trigger-threshold": 50, "cpu-throttle-initial": 20,
        "cpu-throttle-increment": 10, "cpu-throttle-tailslow": false, "max-cpu-throttle": 99,
        "tls-creds": "", "tls-hostname": "", "tls-authz": "",
        "max-bandwidth": 134_217_728, "avail-switchover-bandwidth": 0, "downtime-limit": 300,
        "x-checkpoint-delay": 20000, "multifd-channels": 2, "multifd-compression": "none",
        "multifd-zlib-level": 1, "multifd-qatzip-level": 1, "multifd-zstd-level": 1,
        "zero-page-detection": "multifd", "xbzrle-cache-size": 67_108_864,
        "max-postcopy-bandwidth": 0, "x-vcpu-dirty-limit-period": 1000, "vcpu-dirty-limit": 1,
        "mode": "normal", "direct-io": false,
    });
    assert_eq!(vm.query("query-migrate-parameters"), expected);
}

#[test]
fn parameters_are_set_within_their_bounds() {
    let mut vm = Vm::none();
    for (name, fine, wrong, message) in [
        (
            "throttle-trigger-threshold",
            json!(100),
            json!(101),
            "Parameter 'throttle_trigger_threshold' expects an integer in the range of 1 to 100",
        ),
        (
            "cpu-throttle-initial",
            json!(1),
            json!(100),
            "Parameter 'cpu_throttle_initial' expects an integer in the range of 1 to 99",
        ),
        (
            "cpu-throttle-increment",
            json!(99),
            json!(0),
            "Parameter 'cpu_throttle_increment' expects an integer in the range of 1 to 99",
        ),
        (
            "max-cpu-throttle",
            json!(70),
            json!(100),
            "Parameter 'max_cpu_throttle' expects an integer in the range of cpu_throttle_initial \
             to 99",
        ),
        (
            "downtime-limit",
            json!(2_000_000),
            json!(2_000_001),
            "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms",
        ),
        (
            "multifd-channels",
            json!(255),
            json!(0),
            "Parameter 'multifd_channels' expects a value between 1 and 255",
        ),
        (
            "multifd-channels",
            json!(8),
            json!(256),
            "Parameter 'multifd-channels' expects uint8_t",
        ),
        (
            "multifd-zstd-level",
            json!(20),
            json!(21),
            "Parameter 'multifd_zstd_level' expects a value between 0 and 20",
        ),
        (
            "multifd-compression",
            json!("zstd"),
            json!("lzo"),
            "Parameter 'multifd-compression' does not accept value 'lzo'",
        ),
        (
            "xbzrle-cache-size",
            json!(4096),
            json!(4097),
            "Parameter 'xbzrle_cache_size' expects a power of two no less than the target page size",
        ),
        (
            "announce-initial",
            json!(100_000),
            json!(100_001),
            "Parameter 'announce_initial' expects a value between 0 and 100000",
        ),
        (
            "announce-rounds",
            json!(0),
            json!(1001),
            "Parameter 'announce_rounds' expects a value between 0 and 1000",
        ),
        (
            "vcpu-dirty-limit",
            json!(2),
            json!(0),
            "Parameter 'vcpu_dirty_limit' must be greater than 1 MB/s",
        ),
        (
            "x-vcpu-dirty-limit-period",
            json!(1),
            json!(1001),
            "Parameter 'x-vcpu-dirty-limit-period' expects a value between 1 and 1000",
        ),
        (
            "max-bandwidth",
            json!(9_223_372_036_854_775_807_i64),
            json!("1k"),
            "Invalid parameter type for 'max-bandwidth', expected: integer",
        ),
        (
            "direct-io",
            json!(true),
            json!("on"),
            "Invalid parameter type for 'direct-io', expected: boolean",
        ),
        (
            "zero-page-detection",
            json!("legacy"),
            json!("all"),
            "Parameter 'zero-page-detection' does not accept value 'all'",
        ),
        (
            "tls-hostname",
            json!("host"),
            json!(1),
            "Invalid parameter type for 'tls-hostname', expected: string or null",
        ),
    ] {
        vm.exec("migrate-set-parameters", json!({name: fine}));
        assert_eq!(parameter(&mut vm, name), fine);
        let error = vm.refused("migrate-set-parameters", json!({name: wrong}));
        // Of types that do not fit each speaks in its own way.
        if !is_stand_in() || !message.starts_with("Invalid parameter type") {
            assert_eq!(error.to_string(), format!("GenericError: {message}"));
        }
        assert_eq!(parameter(&mut vm, name), fine);
    }
}

#[test]
fn parameters_are_set_together_or_not_at_all() {
    let mut vm = Vm::none();
    let before = vm.query("query-migrate-parameters");
    vm.refused(
        "migrate-set-parameters",
        json!({"max-bandwidth": 1, "downtime-limit": 2_000_001}),
    );
    let error = vm.refused(
        "migrate-set-parameters",
        json!({"cpu-throttle-initial": 60, "max-cpu-throttle": 50}),
    );
    assert_eq!(
        error.desc,
        "Parameter 'max_cpu_throttle' expects an integer in the range of cpu_throttle_initial to 99"
    );
    let error = vm.refused("migrate-set-parameters", json!({"foo": 1}));
    assert_eq!(error.desc, "Parameter 'foo' is unexpected");
    vm.exec("migrate-set-parameters", json!({}));
    assert_eq!(vm.query("query-migrate-parameters"), before);
    vm.exec(
        "migrate-set-parameters",
        json!({"cpu-throttle-initial": 60, "max-cpu-throttle": 70, "tls-creds": ""}),
    );
    assert_eq!(parameter(&mut vm, "max-cpu-throttle"), json!(70));
}

#[test]
fn null_clears_a_text() {
    let mut vm = Vm::none();
    vm.exec("migrate-set-parameters", json!({"tls-hostname": "a"}));
    assert_eq!(parameter(&mut vm, "tls-hostname"), json!("a"));
    vm.exec(
        "migrate-set-parameters",
        json!({"tls-hostname": null, "tls-creds": null}),
    );
    assert_eq!(parameter(&mut vm, "tls-hostname"), json!(""));
    assert_eq!(parameter(&mut vm, "tls-creds"), json!(""));
}

#[test]
fn what_does_not_work_here_is_refused_by_name() {
    if is_stand_in() {
        return;
    }
    let mut vm = Vm::none();
    for (name, value) in [
        ("multifd-compression", "zlib"),
        ("mode", "cpr-reboot"),
        ("mode", "cpr-transfer"),
        ("tls-creds", "tls0"),
    ] {
        let error = vm.refused("migrate-set-parameters", json!({name: value}));
        assert_eq!(
            error.desc,
            format!("Migration parameter '{name}' does not support '{value}'")
        );
    }
}

#[test]
fn pages_that_have_their_places_are_not_compressed() {
    let mut vm = Vm::none();
    let on = switch(&[("multifd", true), ("mapped-ram", true)]);
    vm.exec("migrate-set-capabilities", on);
    vm.exec(
        "migrate-set-parameters",
        json!({"multifd-compression": "none"}),
    );
    if is_stand_in() {
        return; // looks at what was set before only
    }
    let error = vm.refused(
        "migrate-set-parameters",
        json!({"multifd-compression": "zstd"}),
    );
    assert_eq!(
        error.desc,
        "Mapped-ram only available for non-compressed non-TLS multifd migration"
    );
}

#[test]
fn the_older_commands_still_work() {
    if is_stand_in() {
        return; // they are gone there
    }
    let mut vm = Vm::none();
    vm.exec("migrate_set_speed", json!({"value": 1000}));
    vm.exec("migrate_set_downtime", json!({"value": 0.25}));
    vm.exec("migrate-set-cache-size", json!({"value": 8192}));
    assert_eq!(parameter(&mut vm, "max-bandwidth"), json!(1000));
    assert_eq!(parameter(&mut vm, "downtime-limit"), json!(250));
    assert_eq!(vm.query("query-migrate-cache-size"), json!(8192));
    vm.exec("migrate_set_speed", json!({"value": -1}));
    assert_eq!(parameter(&mut vm, "max-bandwidth"), json!(0));
    vm.refused("migrate_set_downtime", json!({"value": 2001}));
    vm.refused("migrate_set_downtime", json!({"value": -1}));
    vm.refused("migrate-set-cache-size", json!({"value": 7}));
    vm.refused("migrate-set-cache-size", json!({"value": -8192}));
    assert_eq!(parameter(&mut vm, "downtime-limit"), json!(250));
    assert_eq!(vm.query("query-migrate-cache-size"), json!(8192));
}

#[test]
fn there_is_nothing_to_tell_before_the_first_one() {
    let mut vm = Vm::none();
    assert_eq!(vm.query("query-migrate"), json!({}));
    vm.query("migrate_cancel");
    assert_eq!(vm.query("query-migrate"), json!({}));
}

#[test]
fn commands_for_migrations_that_there_are_none_of() {
    let mut vm = Vm::none();
    let error = vm.refused("migrate-start-postcopy", json!({}));
    assert_eq!(
        error.desc,
        "Enable postcopy with migrate_set_capability before the start of migration"
    );
    let spice = json!({"protocol": "spice", "hostname": "a", "port": 1});
    let error = vm.refused("client_migrate_info", spice);
    assert_eq!(error.to_string(), "DeviceNotActive: SPICE is not in use");
    let error = vm.refused(
        "client_migrate_info",
        json!({"protocol": "vnc", "hostname": "a"}),
    );
    assert_eq!(error.desc, "Parameter 'protocol' expects 'spice'");
}

/// Clients ask these out of band, when everything else may hang.
#[test]
fn pause_and_recover_are_answered_out_of_band() {
    let vm = &mut Vm::none();
    drop(vm.take_qmp());
    let mut qmp = Qmp::connect_raw(&vm.monitor(0));
    qmp.greeting();
    qmp.send(b"{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}\n");
    assert_eq!(qmp.answer()["return"], json!({}));
    for (how, command, arguments, message) in [
        (
            "exec-oob",
            "migrate-pause",
            json!({}),
            "migrate-pause is currently only supported during postcopy-active or postcopy-recover \
             state",
        ),
        (
            "execute",
            "migrate-recover",
            json!({"uri": "tcp:127.0.0.1:1"}),
            "Migrate recover can only be run when postcopy is paused.",
        ),
    ] {
        let request = json!({how: command, "arguments": arguments, "id": 1});
        qmp.send(format!("{request}\n").as_bytes());
        let error = json!({"class": "GenericError", "desc": message});
        assert_eq!(qmp.answer(), json!({"error": error, "id": 1}));
    }
    qmp.send(b"{\"exec-oob\": \"migrate-recover\", \"id\": 2}\n");
    let desc = "Parameter 'uri' is missing";
    let error = json!({"class": "GenericError", "desc": desc});
    assert_eq!(qmp.answer(), json!({"error": error, "id": 2}));
}

#[test]
fn settings_as_text() {
    let mut vm = Vm::none();
    let qmp = vm.qmp();
    let text = qmp.hmp("info migrate_capabilities");
    let lines: Vec<String> = CAPABILITIES
        .iter()
        .map(|c| format!("{c}: off\r\n"))
        .collect();
    assert_eq!(text, lines.concat());
    assert_eq!(qmp.hmp("migrate_set_capability multifd on"), "");
    assert!(
        qmp.hmp("info migrate_capabilities")
            .contains("multifd: on\r\n")
    );
    for (line, answer) in [
        ("migrate_set_parameter max-bandwidth 10", ""),
        ("migrate_set_parameter avail-switchover-bandwidth 1.5G", ""),
        ("migrate_set_parameter downtime-limit 5k", ""),
        ("migrate_set_parameter announce-initial 0x10", ""),
        ("migrate_set_parameter multifd-compression zstd", ""),
        ("migrate_set_parameter cpu-throttle-tailslow on", ""),
        (
            "migrate_set_parameter multifd-channels 0",
            "Error: Parameter 'multifd_channels' expects a value between 1 and 255\r\n",
        ),
        (
            "migrate_set_parameter max-bandwidth x",
            "Error: Invalid size x\r\n",
        ),
        (
            "migrate_set_parameter foo 1",
            "Error: invalid parameter value: foo\r\n",
        ),
        (
            "migrate_set_capability foo on",
            "Error: invalid parameter value: foo\r\n",
        ),
        (
            "migrate_set_capability events maybe",
            "Expected 'on' or 'off'\r\nTry \"help migrate_set_capability\" for more information\r\n",
        ),
        ("migrate_cancel", ""),
        (
            "migrate_start_postcopy",
            "Error: Enable postcopy with migrate_set_capability before the start of migration\r\n",
        ),
        (
            "migrate_recover tcp:0:1",
            "Error: Migrate recover can only be run when postcopy is paused.\r\n",
        ),
        (
            "client_migrate_info spice a",
            "Error: SPICE is not in use\r\n",
        ),
    ] {
        assert_eq!(qmp.hmp(line), answer, "{line}");
    }
    let expected = "announce-initial: 16 ms\r\n\
                    announce-max: 550 ms\r\n\
                    announce-rounds: 5\r\n\
                    announce-step: 100 ms\r\n\
                    throttle-trigger-threshold: 50\r\n\
                    cpu-throttle-initial: 20\r\n\
                    cpu-throttle-increment: 10\r\n\
                    cpu-throttle-tailslow: on\r\n\
                    max-cpu-throttle: 99\r\n\
                    tls-creds: ''\r\n\
                    tls-hostname: ''\r\n\
                    max-bandwidth: 10485760 bytes/second\r\n\
                    avail-switchover-bandwidth: 1610612736 bytes/second\r\n\
                    downtime-limit: 5120 ms\r\n\
                    x-checkpoint-delay: 20000 ms\r\n\
                    multifd-channels: 2\r\n\
                    multifd-compression: zstd\r\n\
                    zero-page-detection: multifd\r\n\
                    xbzrle-cache-size: 67108864 bytes\r\n\
                    max-postcopy-bandwidth: 0\r\n\
                    tls-authz: ''\r\n\
                    x-vcpu-dirty-limit-period: 1000 ms\r\n\
                    vcpu-dirty-limit: 1 MB/s\r\n\
                    mode: normal\r\n\
                    direct-io: off\r\n";
    assert_eq!(qmp.hmp("info migrate_parameters"), expected);
}

#[test]
fn the_older_commands_as_text() {
    if is_stand_in() {
        return; // they are gone there
    }
    let mut vm = Vm::none();
    let qmp = vm.qmp();
    assert_eq!(qmp.hmp("info migrate"), "");
    assert_eq!(qmp.hmp("migrate_set_speed 32"), "");
    assert_eq!(qmp.hmp("migrate_set_downtime 40ms"), "");
    assert_eq!(qmp.hmp("migrate_set_cache_size 8k"), "");
    assert_eq!(
        qmp.hmp("info migrate_cache_size"),
        "xbzrel cache size: 8 kbytes\r\n"
    );
    assert!(qmp.hmp("migrate_set_downtime 3000").starts_with("Error: "));
    assert_eq!(parameter(&mut vm, "max-bandwidth"), json!(32 << 20));
    assert_eq!(parameter(&mut vm, "downtime-limit"), json!(40));
}

#[test]
fn the_command_line_sets_them_too() {
    let mut vm = VmBuilder::new()
        .none()
        .args(["-global", "migration.x-multifd=on"])
        .args(["-global", "migration.multifd-channels=4"])
        .args(["-global", "migration.x-max-bandwidth=1M"])
        .args([
            "-global",
            "driver=migration,property=x-downtime-limit,value=7",
        ])
        .start();
    assert_eq!(switched_on(&mut vm), ["multifd"]);
    assert_eq!(parameter(&mut vm, "multifd-channels"), json!(4));
    assert_eq!(parameter(&mut vm, "max-bandwidth"), json!(1 << 20));
    assert_eq!(parameter(&mut vm, "downtime-limit"), json!(7));
    for (option, message) in [
        (
            "migration.multifd=on",
            "can't apply global migration.multifd=on: Property 'migration.multifd' not found",
        ),
        (
            "migration.x-multifd=maybe",
            "can't apply global migration.x-multifd=maybe: Parameter 'x-multifd' expects 'on' or \
             'off'",
        ),
        (
            "migration.multifd-channels=0",
            "Parameter 'multifd_channels' expects a value between 1 and 255",
        ),
    ] {
        let exit = VmBuilder::new().none().args(["-global", option]).run();
        exit.assert_refused().assert_says(message);
    }
}

#[test]
fn an_incoming_machine_that_makes_no_sense_is_refused_at_once() {
    for (value, message) in [
        ("foo:bar", "unknown migration protocol: foo:bar"),
        ("tcp:", "error parsing address ''"),
        ("unix:", "invalid Unix socket address"),
        (
            "file:/a,offset=x",
            "file URI has bad offset x: Invalid argument",
        ),
        ("", "Parameter 'channel-type' is missing"),
        (
            "tcp",
            "Parameter 'channel-type' does not accept value 'tcp'",
        ),
        ("{\"a\": 1}", "Parameter 'channel-type' is missing"),
        ("help", "Help is not available for this option"),
    ] {
        let exit = VmBuilder::new().none().args(["-incoming", value]).run();
        let message = format!("-incoming {value}: {message}");
        exit.assert_refused().assert_says(&message);
    }
}

#[test]
fn addresses_that_make_no_sense() {
    let mut vm = Vm::none();
    for (uri, message) in [
        ("", "unknown migration protocol: "),
        ("tcp", "unknown migration protocol: tcp"),
        ("foo:bar", "unknown migration protocol: foo:bar"),
        ("tcp:", "error parsing address ''"),
        ("tcp:host", "error parsing address 'host'"),
        ("tcp:[::1:4", "error parsing IPv6 address '[::1:4'"),
        ("tcp:[::1]:4,ipv4=foo", "error parsing 'ipv4' flag '=foo'"),
        ("tcp:127.0.0.1:1,to=x", "error parsing to= argument"),
        ("unix:", "invalid Unix socket address"),
        ("fd:", "invalid file descriptor address"),
        (
            "file:/a,offset=x",
            "file URI has bad offset x: Invalid argument",
        ),
    ] {
        let error = vm.refused("migrate", json!({"uri": uri}));
        assert_eq!(error.to_string(), format!("GenericError: {message}"));
    }
    let neither = "need either 'uri' or 'channels' argument";
    assert_eq!(vm.refused("migrate", json!({})).desc, neither);
    assert_eq!(vm.refused("migrate", json!({"channels": []})).desc, neither);
    let main = json!({"channel-type": "main", "addr": {
        "transport": "socket", "type": "unix", "path": "/a"}});
    let error = vm.refused("migrate", json!({"channels": [main, main]}));
    assert_eq!(error.desc, "Channel list has more than one main entry");
    let how = json!({"channel-type": "main", "addr": {"transport": "pigeon"}});
    let error = vm.refused("migrate", json!({"channels": [how]}));
    assert_eq!(
        error.desc,
        "Parameter 'transport' does not accept value 'pigeon'"
    );
    if !is_stand_in() {
        // QEMU ends when it is asked these, or speaks such protocols.
        for (uri, message) in [
            ("vsock:1:2", "Migration protocol 'vsock' is not supported"),
            ("rdma:h:1", "Migration protocol 'rdma' is not supported"),
        ] {
            assert_eq!(vm.refused("migrate", json!({"uri": uri})).desc, message);
        }
        let cpr = json!({"channel-type": "cpr", "addr": main["addr"]});
        let error = vm.refused("migrate", json!({"channels": [cpr]}));
        assert_eq!(error.desc, "Migration channel type 'cpr' is not supported");
        let nothing = json!({"channel-type": "main", "addr": {"transport": "exec", "args": []}});
        let error = vm.refused("migrate", json!({"channels": [nothing]}));
        assert_eq!(
            error.desc,
            "Parameter 'args' expects a program and its arguments"
        );
    }
    assert_eq!(vm.query("query-migrate"), json!({}));
}

#[test]
fn not_every_stream_goes_everywhere() {
    let mut vm = Vm::none();
    let refused = |vm: &mut Vm, uri: &str| vm.refused("migrate", json!({"uri": uri})).desc;
    vm.exec("migrate-set-capabilities", switch(&[("mapped-ram", true)]));
    let seekable = "Migration requires seekable transport (e.g. file)";
    for uri in ["tcp:127.0.0.1:1", "exec:cat >/dev/null", "unix:/a"] {
        assert_eq!(refused(&mut vm, uri), seekable, "{uri}");
    }
    let change = switch(&[("mapped-ram", false), ("multifd", true)]);
    vm.exec("migrate-set-capabilities", change);
    let several = "Migration requires multi-channel URIs (e.g. tcp)";
    for uri in ["file:/a", "exec:cat >/dev/null"] {
        assert_eq!(refused(&mut vm, uri), several, "{uri}");
    }
    assert_eq!(vm.query("query-migrate"), json!({}));
}

#[test]
fn nothing_is_under_way() {
    let mut vm = Vm::none();
    for state in ["pre-switchover", "active"] {
        let error = vm.refused("migrate-continue", json!({"state": state}));
        assert_eq!(error.desc, "Migration not in expected state: none");
    }
    let error = vm.refused("migrate-continue", json!({"state": "foo"}));
    assert_eq!(error.desc, "Parameter 'state' does not accept value 'foo'");
    let again = json!({"uri": "tcp:127.0.0.1:1", "resume": true});
    let error = vm.refused("migrate", again);
    assert_eq!(error.desc, "Cannot resume if there is no paused migration");
    for arguments in [
        json!({"uri": "tcp:127.0.0.1:0"}),
        json!({"uri": "foo:bar"}),
        json!({}),
    ] {
        let error = vm.refused("migrate-incoming", arguments);
        assert_eq!(
            error.desc,
            "'-incoming' was not specified on the command line"
        );
    }
    let qmp = vm.qmp();
    for (line, answer) in [
        (
            "migrate foo:bar",
            "Error: unknown migration protocol: foo:bar\r\n",
        ),
        (
            "migrate -d -r tcp:127.0.0.1:1",
            "Error: Cannot resume if there is no paused migration\r\n",
        ),
        (
            "migrate_continue pre-switchover",
            "Error: Migration not in expected state: none\r\n",
        ),
        (
            "migrate_incoming tcp:0:1",
            "Error: '-incoming' was not specified on the command line\r\n",
        ),
    ] {
        assert_eq!(qmp.hmp(line), answer, "{line}");
    }
}

#[test]
fn a_machine_is_awaited() {
    let mut vm = small().args(["-incoming", "defer"]).start();
    assert_eq!(vm.query("query-status")["status"], json!("inmigrate"));
    for (uri, message) in [
        ("foo:bar", "unknown migration protocol: foo:bar"),
        ("tcp:", "error parsing address ''"),
        ("unix:", "invalid Unix socket address"),
    ] {
        let error = vm.refused("migrate-incoming", json!({"uri": uri}));
        assert_eq!(error.desc, message);
        assert_eq!(vm.query("query-migrate"), json!({}));
    }
    if !is_stand_in() {
        let map = json!({"uri": "tcp:127.0.0.1:0", "ram-load": "map"});
        let error = vm.refused("migrate-incoming", map);
        assert_eq!(
            error.desc,
            "Parameter 'ram-load' can only be 'map' for files"
        );
    }
    let error = vm.refused("migrate", json!({"uri": "tcp:127.0.0.1:1"}));
    assert_eq!(error.desc, "Guest is waiting for an incoming migration");
    let listen = json!({"uri": "tcp:127.0.0.1:0", "exit-on-error": false});
    vm.exec("migrate-incoming", listen.clone());
    let info = vm.query("query-migrate");
    assert_eq!(info["status"], json!("setup"));
    let address = &info["socket-address"][0];
    assert_eq!(
        (&address["type"], &address["host"]),
        (&json!("inet"), &json!("127.0.0.1"))
    );
    let port = address["port"].as_str().expect("a port").to_owned();
    assert_ne!(port, "0");
    let text = vm.qmp().hmp("info migrate");
    let listens = format!("socket address: [\r\n\ttcp:127.0.0.1:{port}\r\n]\r\n");
    assert!(text.contains("Migration status: setup\r\n"), "{text}");
    assert!(text.contains(&listens), "{text}");
    let error = vm.refused("migrate-incoming", listen);
    assert_eq!(
        error.desc,
        "The incoming migration has already been started"
    );
    let error = vm.refused("migrate-set-capabilities", switch(&[("multifd", true)]));
    assert_eq!(error.desc, "Multifd must be set before incoming starts");
    vm.exec("migrate-set-capabilities", switch(&[("events", true)]));
    vm.exec("migrate-set-parameters", json!({"max-bandwidth": 1}));
}

/// A machine that does not run, on whatever there is that takes the state of one.
fn small() -> VmBuilder {
    let accel = if is_stand_in() { "kvm" } else { "qtest" };
    let args = ["-machine", "q35", "-accel", accel, "-m", "64", "-S"];
    VmBuilder::new().args(args)
}

fn keys(value: &Value) -> Vec<&str> {
    let members = value.as_object().expect("an object");
    let mut keys: Vec<_> = members.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn what_is_told_of_one_that_is_done() {
    if is_stand_in() && !tests::binary::has_kvm() {
        return;
    }
    let mut vm = small().start();
    vm.exec("migrate-set-capabilities", switch(&[("events", true)]));
    let uri = format!("file:{}", vm.path("state").display());
    vm.exec("migrate", json!({"uri": uri}));
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "completed") {
        let event = vm.qmp().event("MIGRATION");
        let status = event["data"]["status"].as_str().expect("a status");
        seen.push(status.to_owned());
    }
    assert_eq!(seen, ["setup", "active", "device", "completed"]);
    vm.wait_status("postmigrate");
    let info = vm.query("query-migrate");
    assert_eq!(
        keys(&info),
        ["downtime", "ram", "setup-time", "status", "total-time"]
    );
    assert_eq!(
        keys(&info["ram"]),
        [
            "dirty-pages-rate",
            "dirty-sync-count",
            "dirty-sync-missed-zero-copy",
            "downtime-bytes",
            "duplicate",
            "mbps",
            "multifd-bytes",
            "normal",
            "normal-bytes",
            "page-size",
            "pages-per-second",
            "postcopy-bytes",
            "postcopy-requests",
            "precopy-bytes",
            "remaining",
            "total",
            "transferred"
        ]
    );
    assert_eq!(info["ram"]["remaining"], json!(0));
    assert_eq!(info["ram"]["page-size"], json!(4096));
    let total = info["ram"]["total"].as_u64().expect("a number");
    assert!(total >= 64 << 20, "{total}");
    let text = vm.qmp().hmp("info migrate");
    for line in [
        "Migration status: completed\r\n",
        "total time: ",
        "remaining ram: 0 kbytes\r\n",
        "page size: 4 kbytes\r\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let error = vm.refused("migrate", json!({"uri": uri}));
    assert_eq!(
        error.desc,
        "Can't migrate the vm that was paused due to previous migration"
    );
}

#[test]
fn what_is_told_of_one_that_failed() {
    let mut vm = small().start();
    let uri = "tcp:127.0.0.1:1";
    let text = vm.qmp().hmp(&format!("migrate {uri}"));
    assert_eq!(
        text,
        "terminal does not allow synchronous migration, continuing detached\r\n"
    );
    let failed = loop {
        let info = vm.query("query-migrate");
        match info["status"].as_str() {
            Some("setup" | "active") => std::thread::sleep(std::time::Duration::from_millis(10)),
            _ => break info,
        }
    };
    let reason = "Failed to connect to '127.0.0.1:1': Connection refused";
    assert_eq!(failed, json!({"status": "failed", "error-desc": reason}));
    let text = vm.qmp().hmp("info migrate");
    let told = format!("Migration status: failed ({reason})\r\ntotal time: 0 ms\r\n");
    assert!(text.contains(&told), "{text}");
    assert_eq!(vm.query("query-status")["status"], json!("prelaunch"));
    assert_eq!(vm.qmp().hmp(&format!("migrate -d {uri}")), "");
}
