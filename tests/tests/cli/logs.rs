//! -d, -D and -trace.

use std::fs;

use tests::VmBuilder;
use tests::binary::skip_on_stand_in;

fn bare(args: &[&str]) -> tests::Exit {
    VmBuilder::bare().args(args).run()
}

#[test]
fn items_and_points_are_listed() {
    let exit = bare(&["-d", "help"]);
    assert_eq!(exit.status, Some(0), "{exit:?}");
    assert!(exit.stdout.starts_with("Log items (comma separated):\n"));
    for item in ["guest_errors", "trace:PATTERN"] {
        assert!(exit.stdout.contains(item), "{exit:?}");
    }
    for args in [["-trace", "help"], ["-d", "trace:help"]] {
        let exit = bare(&args);
        assert_eq!(exit.status, Some(0), "{exit:?}");
        for point in ["virtio_notify", "handle_qmp_command", "runstate_set"] {
            assert!(exit.stdout.lines().any(|line| line == point), "{point}");
        }
    }
}

#[test]
fn what_is_wrong_ends_the_program() {
    if skip_on_stand_in("it has other items and words") {
        return;
    }
    for (args, words) in [
        (["-d", "foo"], "-d foo: unknown log item 'foo'"),
        (["-d", "virtio=loud"], "unknown log item 'virtio=loud'"),
        (["-D", "/tmp/a%x"], "Bad logfile template: /tmp/a%x"),
        (
            ["-D", "/nonexistent/a"],
            "Error opening logfile /nonexistent/a: No such file or directory",
        ),
        (["-trace", "foo=bar"], "Invalid parameter 'foo'"),
        (
            ["-trace", "events=/nonexistent"],
            "/nonexistent: No such file or directory",
        ),
        (
            ["-trace", "file=/nonexistent/x"],
            "No such file or directory",
        ),
    ] {
        let exit = VmBuilder::new().none().args(args).run();
        assert_eq!(exit.status, Some(1), "{args:?}: {exit:?}");
        assert!(exit.stderr.contains(words), "{args:?}: {exit:?}");
    }
}

#[test]
fn a_log_that_nobody_reads_is_refused_and_not_waited_for() {
    if skip_on_stand_in("it waits for a reader") {
        return;
    }
    let builder = VmBuilder::new().none();
    let pipe = builder.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    let exit = builder.arg("-D").arg(&pipe).run();
    assert_eq!(exit.status, Some(1), "{exit:?}");
    let pipe = pipe.display();
    let words = format!("Error opening logfile {pipe}: No such device or address");
    assert!(exit.stderr.contains(&words), "{exit:?}");
}

#[test]
fn points_speak_into_a_file_of_their_own() {
    if skip_on_stand_in("it has other items and words") {
        return;
    }
    let builder = VmBuilder::new().none();
    let (events, file) = (builder.path("events"), builder.path("said"));
    fs::write(
        &events,
        "# all but answers\nmonitor_*\n-monitor_qmp_*\n\nhandle_qmp_command\n",
    )
    .expect("a file");
    let option = format!("events={},file={}", events.display(), file.display());
    let mut vm = builder
        .args(["-trace", &option, "-trace", "nosuch"])
        .start();
    vm.query("query-uuid");
    let said = fs::read_to_string(&file).expect("the file");
    assert!(
        said.contains(":handle_qmp_command name=query-uuid\n"),
        "{said}"
    );
    assert!(!said.contains("monitor_qmp_respond"), "{said}");
    assert!(
        vm.stderr()
            .contains(": -trace nosuch: warning: trace event 'nosuch' does not exist\n")
    );
}
