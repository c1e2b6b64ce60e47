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
