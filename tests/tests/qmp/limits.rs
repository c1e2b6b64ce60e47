//! What a client may do to the program without others noticing.

use std::io::Write;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::binary::skip_on_stand_in;
use tests::qmp::outcome;
use tests::{Qmp, Vm, VmBuilder, seconds};

/// Two monitors: what the first suffers, the second must not notice.
fn two() -> (Vm, Qmp) {
    let vm = VmBuilder::new().none().monitors(2).start();
    let second = Qmp::connect(&vm.monitor(1));
    (vm, second)
}

/// Writes on a thread of its own, so that this one can read.
#[allow(clippy::disallowed_methods)] // The rule is for threads of the program.
fn writer<T: Send + 'static>(write: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().spawn(write).expect("a thread")
}

/// Resident memory of the program in KiB.
fn resident(vm: &Vm) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", vm.pid())).expect("a status");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("VmRSS");
    line.split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("a number")
}

fn assert_quick(qmp: &mut Qmp) {
    let begin = Instant::now();
    qmp.query("query-status");
    let took = begin.elapsed();
    assert!(took < seconds(2), "the other client waited {took:?}");
}

/// Reads until the answer with this id; returns the errors before it.
fn errors_until(qmp: &mut Qmp, id: &str) -> Vec<String> {
    let mut errors = Vec::new();
    loop {
        let answer = qmp.answer();
        if answer.get("id") == Some(&Value::from(id)) {
            assert!(answer.get("return").is_some(), "{answer}");
            return errors;
        }
        errors.push(outcome(&answer).expect_err("an error").desc);
    }
}

#[test]
fn a_string_of_100_megabytes_is_refused_and_forgotten() {
    if skip_on_stand_in("the reference does it too, in five minutes") {
        return;
    }
    let (mut vm, mut second) = two();
    vm.qmp().set_limit(seconds(120));
    vm.qmp().send(b"{\"execute\": \"query-name\", \"id\": \"");
    let block = vec![b'x'; 1 << 20];
    for part in 0..100 {
        vm.qmp().send(&block);
        if part % 25 == 0 {
            assert_quick(&mut second);
        }
    }
    vm.qmp().send(b"\"}\n");
    vm.qmp()
        .send(b"\xff\n{\"execute\":\"query-name\",\"id\":\"end\"}");
    let errors = errors_until(vm.qmp(), "end");
    assert!(!errors.is_empty());
    assert_quick(&mut second);
    let kib = resident(&vm);
    assert!(kib < 100 << 10, "{kib} KiB are kept");
}

#[test]
fn a_message_of_a_million_tokens_is_refused() {
    if skip_on_stand_in("the reference takes two millions") {
        return;
    }
    let (mut vm, mut second) = two();
    let list = vec!["1"; 500_000].join(",");
    let text = format!("{{\"execute\":\"query-name\",\"arguments\":{{\"a\":[{list}]}}}}");
    vm.qmp().send(text.as_bytes());
    vm.qmp()
        .send(b"{\"execute\":\"query-name\",\"id\":\"end\"}");
    let errors = errors_until(vm.qmp(), "end");
    assert_eq!(errors, ["JSON token count limit exceeded"]);
    assert_quick(&mut second);
}

#[test]
fn ten_thousand_nested_brackets_are_refused() {
    for bracket in ["[", "{\"a\":"] {
        let (mut vm, mut second) = two();
        let text = bracket.repeat(10_000);
        vm.qmp().send(b"{\"execute\":\"query-name\",\"arguments\":");
        vm.qmp().send(text.as_bytes());
        vm.qmp()
            .send(b"\xff\n{\"execute\":\"query-name\",\"id\":\"end\"}");
        let errors = errors_until(vm.qmp(), "end");
        assert!(!errors.is_empty());
        assert_quick(&mut second);
    }
}

#[test]
fn nesting_that_closes_again_is_refused_too() {
    let (mut vm, mut second) = two();
    let text = format!("{}{}\n", "[".repeat(10_000), "]".repeat(10_000));
    vm.qmp().send(text.as_bytes());
    vm.qmp()
        .send(b"\xff\n{\"execute\":\"query-name\",\"id\":\"end\"}");
    assert!(!errors_until(vm.qmp(), "end").is_empty());
    assert_quick(&mut second);
}

#[test]
fn half_a_command_and_a_hang_up() {
    let (mut vm, mut second) = two();
    for half in [
        "{",
        "{\"execute\"",
        "{\"execute\": \"quit",
        "{\"execute\": \"quit\"",
        "[[[[",
        "\"",
        "{\"a\": \"\\",
    ] {
        vm.qmp().send(half.as_bytes());
        drop(vm.take_qmp());
        assert_quick(&mut second);
        vm.put_qmp(Qmp::connect(&vm.monitor(0)));
        vm.assert_alive();
    }
}

#[test]
fn a_command_and_a_hang_up_before_the_answer() {
    let (mut vm, mut second) = two();
    for _ in 0..50 {
        vm.qmp().send(b"{\"execute\":\"query-qmp-schema\"}");
        drop(vm.take_qmp());
        let mut next = Qmp::connect_raw(&vm.monitor(0));
        if tests::binary::is_stand_in() {
            // The reference hands what was not read to the next client.
            drop(next);
            assert_quick(&mut second);
            return;
        }
        next.negotiate();
        vm.put_qmp(next);
    }
    assert_quick(&mut second);
}

#[test]
fn a_client_that_never_reads_stops_only_itself() {
    let (mut vm, mut second) = two();
    let mut stuck = vm.take_qmp();
    // Until it takes no more, or enough was sent to fill every buffer.
    let request = b"{\"execute\":\"query-qmp-schema\"}".repeat(64);
    let end = Instant::now() + Duration::from_secs(2);
    let mut sent = 0;
    while Instant::now() < end && sent < 4 << 20 {
        if !tests::sys::wait_writable(stuck.as_output(), Duration::from_millis(100)) {
            break;
        }
        // A short write suffices: the socket would block in the middle of a long one.
        let part = sent % request.len();
        let piece = &request[part..(part + 1024).min(request.len())];
        if stuck.try_send(piece).is_err() {
            break;
        }
        sent += piece.len();
        if sent % (64 * 1024) == 0 {
            assert_quick(&mut second);
        }
    }
    assert_quick(&mut second);
    // Once it is gone the monitor is there for the next one.
    drop(stuck);
    let mut next = Qmp::connect_raw(&vm.monitor(0));
    if !tests::binary::is_stand_in() {
        next.negotiate();
        next.query("query-status");
        let kib = resident(&vm);
        assert!(kib < 200 << 10, "{kib} KiB are kept");
    }
    assert_quick(&mut second);
}

#[test]
fn a_client_that_reads_late_gets_everything() {
    let (mut vm, mut second) = two();
    vm.qmp().set_limit(seconds(60));
    for id in 0..30 {
        vm.qmp().send(
            json!({"execute": "query-qmp-schema", "id": id})
                .to_string()
                .as_bytes(),
        );
    }
    assert_quick(&mut second);
    for id in 0..30 {
        let answer = vm.qmp().answer();
        assert_eq!(answer["id"], id);
        assert!(answer["return"].is_array());
    }
}

#[test]
fn events_do_not_pile_up_for_a_client_that_never_reads() {
    let mut vm = VmBuilder::new().stopped().monitors(2).start();
    let _stuck = Qmp::connect(&vm.monitor(1));
    for _ in 0..2000 {
        vm.query("system_powerdown");
    }
    vm.qmp().pending_events();
    vm.assert_alive();
}

#[test]
fn a_flood_from_one_client_leaves_room_for_others() {
    let (mut vm, mut second) = two();
    let mut flood = vm.take_qmp();
    let socket = flood
        .as_output()
        .try_clone_to_owned()
        .expect("a descriptor");
    let writing = writer(move || {
        let mut socket = std::fs::File::from(socket);
        let text = b"{\"execute\":\"query-name\"}".repeat(100);
        (0..200).all(|_| socket.write_all(&text).is_ok())
    });
    for _ in 0..20 {
        assert_quick(&mut second);
    }
    flood.set_limit(seconds(60));
    for _ in 0..20_000 {
        assert!(flood.answer().get("return").is_some());
    }
    assert!(writing.join().expect("the writer"));
    assert_quick(&mut second);
}

#[test]
fn garbage_without_end_costs_no_memory() {
    if skip_on_stand_in("the reference answers each of the bytes") {
        return;
    }
    let (mut vm, mut second) = two();
    let before = resident(&vm);
    let mut garbage = Vec::new();
    let mut state = 12345u32;
    for _ in 0..(1 << 20) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        garbage.push(state.to_be_bytes()[0]);
    }
    let mut noisy = vm.take_qmp();
    let socket = noisy
        .as_output()
        .try_clone_to_owned()
        .expect("a descriptor");
    let writing = writer(move || {
        let mut socket = std::fs::File::from(socket);
        let _ = socket.write_all(&garbage);
        let _ = socket.write_all(b"\xff\n{\"execute\":\"query-name\",\"id\":\"end\"}");
    });
    noisy.set_limit(seconds(60));
    errors_until(&mut noisy, "end");
    writing.join().expect("the writer");
    assert_quick(&mut second);
    let after = resident(&vm);
    assert!(after < before + (32 << 10), "{before} KiB became {after}");
}

#[test]
fn answers_but_the_schema_stay_under_64_kib() {
    // Clients abort the connection on a longer line.
    if skip_on_stand_in("the reference's are larger") {
        return;
    }
    let mut vm = VmBuilder::new().stopped().args(["-smp", "8"]).start();
    for command in [
        "query-commands",
        "query-machines",
        "query-pci",
        "query-cpus-fast",
        "query-events",
        "qom-list-types",
        "query-command-line-options",
        "query-block",
        "query-chardev",
    ] {
        vm.qmp()
            .send(json!({"execute": command}).to_string().as_bytes());
        let line = vm.qmp().recv_bytes().expect("an answer");
        assert!(line.len() < 65_536, "{command}: {} bytes", line.len());
        assert!(line.starts_with(b"{\"return\""), "{command}");
    }
    vm.qmp().send(b"{\"execute\":\"query-qmp-schema\"}");
    let line = vm.qmp().recv_bytes().expect("an answer");
    assert!(line.len() < 10 << 20, "{} bytes", line.len());
}
