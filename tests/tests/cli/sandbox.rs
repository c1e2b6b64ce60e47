//! The filters of system calls: a thread that does what it may not ends the process, loudly; so
//! does one that panics.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Exit, Qmp, Vm, VmBuilder, binary};

const SIGSYS: i32 = 31;

/// The kinds of threads (but those of disks: see the qtest suite), and the names of those that [`end`] has of each.
const KINDS: [(&str, &str); 10] = [
    ("control", "control"),
    ("spawner", "spawner"),
    ("qmp", "qmp"),
    ("chardev", "chardev"),
    ("net", "net"),
    ("io", "IO t0"),
    ("vcpu", "CPU 0"),
    ("qtest", "qtest"),
    ("worker", "job"),
    ("migration", "migration"),
];

/// The program with a thread of that kind, which does what it is asked to; with its log as
/// standard output.
fn end(kind: &str, wish: &str) -> Exit {
    let builder = Vm::builder().env("QVMD_PROVOKE", format!("{kind}:{wish}"));
    let log = builder.path("log");
    let mut vm = with_thread(builder, kind).arg("-D").arg(&log).spawn();
    if matches!(kind, "worker" | "migration") {
        let monitor = vm.monitor(0);
        let mut qmp = Qmp::over_socket(vm.connect_when_ready(&monitor).into());
        qmp.negotiate();
        for command in commands(kind) {
            // It may be gone in between.
            if qmp.try_send(format!("{command}\n").as_bytes()).is_err() {
                break;
            }
        }
    }
    let mut exit = vm
        .wait_within(Duration::from_secs(20))
        .unwrap_or_else(|| panic!("{kind} still runs: {}", vm.stderr()));
    exit.stdout = fs::read_to_string(&log).unwrap_or_default();
    exit
}

fn with_thread(builder: VmBuilder, kind: &str) -> VmBuilder {
    let socket = |name: &str| builder.path(name).display().to_string();
    match kind {
        "chardev" => {
            let chardev = format!("socket,id=c0,path={},server=on,wait=off", socket("c0"));
            builder.none().arg("-chardev").arg(chardev)
        }
        "net" => {
            let path = socket("n0");
            let netdev = format!("stream,id=n0,server=on,addr.type=unix,addr.path={path}");
            builder.none().arg("-netdev").arg(netdev)
        }
        "io" => builder.none().args(["-object", "iothread,id=t0"]),
        "vcpu" => builder.args(["-machine", "q35", "-accel", "kvm", "-m", "64"]),
        "qtest" => {
            let qtest = format!("unix:{},server=on,wait=off", socket("qtest"));
            builder.idle().arg("-qtest").arg(qtest)
        }
        "migration" => builder.stopped(),
        _ => builder.none(),
    }
}

fn commands(kind: &str) -> Vec<Value> {
    match kind {
        "worker" => {
            let file = json!({"driver": "file", "filename": "made", "size": 65536});
            let create = json!({"job-id": "j", "options": file});
            vec![json!({"execute": "blockdev-create", "arguments": create})]
        }
        "migration" => {
            vec![json!({"execute": "migrate", "arguments": {"uri": "file:state"}})]
        }
        _ => Vec::new(),
    }
}

/// Whether there is no such thread here.
fn left_out(kind: &str) -> bool {
    kind == "vcpu" && !binary::has_kvm()
}

#[test]
fn a_forbidden_call_ends_it_and_is_told_of() {
    if binary::skip_without_hooks() {
        return;
    }
    for (kind, name) in KINDS {
        if left_out(kind) {
            continue;
        }
        let exit = end(kind, "forbidden");
        assert_eq!(exit.signal, Some(SIGSYS), "{kind}: {exit:?}");
        let first = format!("qvmd: thread '{name}");
        let words = format!("({kind}) made system call 59 (execve) at 0x");
        for text in [&exit.stderr, &exit.stdout] {
            let told = |line: &str| line.starts_with(&first) && line.contains(&words);
            assert!(text.lines().any(told), "{kind}: {exit:?}");
            assert!(text.contains("see docs/security.md"), "{kind}: {exit:?}");
        }
    }
}

#[test]
fn a_panic_ends_it_in_order_and_is_told_of() {
    if binary::skip_without_hooks() {
        return;
    }
    for (kind, name) in KINDS {
        if left_out(kind) {
            continue;
        }
        let exit = end(kind, "panic");
        assert_eq!(exit.signal, None, "{kind}: {exit:?}");
        assert_ne!(exit.status, Some(0), "{kind}: {exit:?}");
        let failed = format!("Thread '{name}");
        assert!(exit.stdout.contains(&failed), "{kind}: {exit:?}");
        assert!(
            exit.stdout.contains("This was asked for"),
            "{kind}: {exit:?}"
        );
    }
}

#[test]
fn without_the_sandbox_there_are_no_filters() {
    if binary::skip_without_hooks() {
        return;
    }
    let builder = Vm::builder().env("QVMD_PROVOKE", "qmp:forbidden").none();
    let vm = builder.args(["-sandbox", "off"]).start();
    let exit = vm.quit();
    exit.assert_says("warning: The sandbox is off");
}

#[test]
fn the_operator_allows_a_call() {
    if binary::skip_without_hooks() {
        return;
    }
    for allowed in ["execve", "execve:qmp", "59:qmp"] {
        let builder = Vm::builder().env("QVMD_PROVOKE", "qmp:forbidden").none();
        let words = format!("on,allow={allowed}");
        let vm = builder.args(["-sandbox", &words]).start();
        let exit = vm.quit();
        exit.assert_says(&format!("{allowed} is allowed beyond the filters"));
    }
    // Another kind's is no help.
    let builder = Vm::builder().env("QVMD_PROVOKE", "qmp:forbidden").none();
    let exit = builder
        .args(["-sandbox", "on,allow=execve:vcpu"])
        .spawn()
        .wait();
    assert_eq!(exit.signal, Some(SIGSYS), "{exit:?}");
}

#[test]
fn what_cannot_be_allowed_is_refused() {
    if binary::skip_on_stand_in("it has no such option") {
        return;
    }
    for (allowed, words) in [
        ("excve", "There is no system call 'excve'"),
        (
            "execve:cpu",
            "There is no kind of thread 'cpu'; there are control, spawner",
        ),
    ] {
        let words_given = format!("on,allow={allowed}");
        let exit = Vm::builder().none().args(["-sandbox", &words_given]).run();
        exit.assert_refused().assert_says(words);
    }
}

#[test]
fn every_thread_has_a_filter() {
    if binary::skip_on_stand_in("its threads are others") {
        return;
    }
    let vm = Vm::builder()
        .idle()
        .args(["-object", "iothread,id=t0"])
        .start();
    let tasks = fs::read_dir(format!("/proc/{}/task", vm.pid())).expect("a process");
    for task in tasks.flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        assert!(status.contains("\nSeccomp:\t2\n"), "{status}");
        assert!(status.contains("\nNoNewPrivs:\t1\n"), "{status}");
    }
    vm.quit();
}
