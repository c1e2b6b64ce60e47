use std::fs::File;
use std::io::{Read, Seek, Write};
use std::time::{Duration, Instant};

use super::serve::Server;
use super::*;

/// A launcher that is a thread of the tests: it serves in the same way, and gives nothing up.
pub(crate) fn on_a_thread() -> Launcher {
    let (near, far) = packet::pair().unwrap();
    let null = File::options().read(true).write(true).open("/dev/null");
    let server = Server::new(far, null.unwrap().into(), None, Box::new(|| Ok(())));
    std::thread::spawn(|| server.run());
    Launcher::process(near, None)
}

fn shell(line: &str) -> Request {
    Request::new("/bin/sh").args(["-c", line])
}

/// What it says on its standard output.
fn said(launcher: &Launcher, request: Request) -> String {
    let (read, write) = sys::pipe().unwrap();
    let mut program = launcher.start_program(request.fd(1, write)).unwrap();
    let mut text = String::new();
    File::from(read).read_to_string(&mut text).unwrap();
    assert!(program.wait().unwrap().success());
    text
}

/// Whether there is a process of this number that has not ended.
fn lives(id: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default();
    !state.is_empty() && !state.trim_start().starts_with('Z')
}

fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn programs_run_and_say_how_they_ended() {
    let launcher = on_a_thread();
    assert_eq!(
        said(&launcher, shell("echo $0 here; cat")),
        "/bin/sh here\n"
    );
    let mut program = launcher.start_program(shell("exit 3")).unwrap();
    assert_eq!(program.wait().unwrap().code(), Some(3));
    assert_eq!(program.try_wait().unwrap().unwrap().code(), Some(3));
    program.kill().unwrap();
    let mut program = launcher.start_program(shell("kill -9 $$")).unwrap();
    assert_eq!(program.wait().unwrap().signal(), Some(9));
    // By a name without a path.
    assert_eq!(
        said(&launcher, Request::new("echo").args(["found"])),
        "found\n"
    );
}

#[test]
fn one_that_cannot_be_started_has_the_systems_words() {
    let launcher = on_a_thread();
    for (program, error) in [
        ("/nonexistent/program", libc::ENOENT),
        ("no-such-program-anywhere", libc::ENOENT),
        ("/etc/passwd", libc::EACCES),
        ("/etc/passwd/program", libc::ENOTDIR),
    ] {
        let failed = launcher.start_program(Request::new(program)).unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(error), "{program}");
    }
    let failed = launcher.start_program(Request::new("a\0b")).unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::InvalidInput);
    let long = "x".repeat(ORDER_MAX);
    let failed = launcher.start_program(shell(&long)).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(libc::E2BIG));
    // What just fits in goes over in one packet; the system refuses longer words.
    let long = format!("echo {}", "x".repeat((128 << 10) - 20));
    assert_eq!(said(&launcher, shell(&long)).len(), (128 << 10) - 19);
}

#[test]
fn a_program_has_what_it_was_given_and_no_more() {
    let launcher = on_a_thread();
    let (read, write) = sys::pipe().unwrap();
    File::from(write).write_all(b"through 9").unwrap();
    let mut words = tempfile::tempfile().unwrap();
    let line = "echo err >&2; echo $EXTRA $HOME; cat <&9; ls /proc/self/fd | tr '\\n' ' '; \
                grep SigBlk /proc/self/status; grep SigIgn /proc/self/status";
    let request = shell(line)
        .fd(9, read)
        .fd(2, words.try_clone().unwrap())
        .variable("EXTRA", "more")
        .variable("HOME", "/elsewhere");
    let _blocked = sys::signal_fd(&[libc::SIGTERM]).unwrap();
    let text = said(&launcher, request);
    // 3 is the list's own.
    let (own, signals) = text.split_once("SigBlk").unwrap();
    assert_eq!(own, "more /elsewhere\nthrough 90 1 2 3 9 ");
    let ignored = signals.split_whitespace().nth(3).unwrap();
    let ignored = u64::from_str_radix(ignored, 16).unwrap();
    assert_eq!(ignored & (1 << (libc::SIGPIPE - 1)), 0, "{signals}");
    words.rewind().unwrap();
    let mut text = String::new();
    words.read_to_string(&mut text).unwrap();
    assert_eq!(text, "err\n");
}

#[test]
fn one_whose_owner_goes_is_killed_with_what_it_started() {
    let launcher = on_a_thread();
    let (read, write) = sys::pipe().unwrap();
    let request = shell("sleep 1000 & echo $!; wait").group(Group::Leader);
    let program = launcher.start_program(request.fd(1, write)).unwrap();
    let mut text = [0; 16];
    let len = File::from(read).read(&mut text).unwrap();
    let sleeper = String::from_utf8_lossy(&text[..len]).into_owned();
    let leader = program.id().to_string();
    assert!(lives(&sleeper) && lives(&leader));
    drop(program);
    until("killed", || !lives(&sleeper) && !lives(&leader));

    let mut program = launcher.start_program(shell("exec sleep 1000")).unwrap();
    assert!(program.try_wait().unwrap().is_none());
    program.kill().unwrap();
    assert_eq!(program.wait().unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn the_end_of_the_vmm_is_the_end_of_what_lives_with_it() {
    let launcher = on_a_thread();
    let start = |lifetime| {
        let request = shell("exec sleep 1000").lifetime(lifetime);
        launcher.start_program(request).unwrap()
    };
    let (line, own) = (start(Lifetime::Line), start(Lifetime::Own));
    let own_id = own.id().to_string();
    // As at the end of the VMM, but that the lines are still open.
    sys::shut_down_socket(launcher.socket().unwrap());
    until("killed", || !lives(&line.id().to_string()));
    drop(own);
    std::thread::sleep(Duration::from_millis(20));
    assert!(lives(&own_id));
    let _ = std::process::Command::new("kill").arg(&own_id).status();
    // A child of the tests.
    until("ended", || !lives(&own_id));
}

#[test]
fn a_launcher_that_is_gone_is_an_error() {
    let (near, far) = packet::pair().unwrap();
    drop(far);
    let error = Launcher::process(near, None).start_program(shell("true"));
    let text = error.unwrap_err().to_string();
    assert_eq!(text, "The process that starts programs has ended");
}

#[test]
fn nothing_is_started_where_nothing_may_be() {
    let launcher = Launcher::denied();
    let error = launcher.start_program(shell("true")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    let text = "Programs may not be started (-sandbox spawn=deny)";
    assert_eq!(error.to_string(), text);
    assert_eq!(launcher.check().unwrap_err().to_string(), text);
    launcher.leave_directory().unwrap();
    launcher.drop_privileges().unwrap();
}

#[test]
fn there_is_an_end_to_programs() {
    let launcher = on_a_thread();
    let request = || shell("exec sleep 1000");
    let start = || launcher.start_program(request());
    let mut programs: Vec<_> = (0..PROGRAMS_MAX).map(|_| start().unwrap()).collect();
    let error = start().unwrap_err().to_string();
    assert_eq!(error, format!("{PROGRAMS_MAX} programs run already"));
    programs.pop();
    until("room", || start().is_ok());
}

/// Whatever comes, the launcher serves the next one.
#[test]
fn nonsense_is_answered_and_survived() {
    let launcher = on_a_thread();
    let socket = launcher.socket().unwrap();
    let good = match shell("true").into_order().unwrap() {
        (Order::Start(mut start), _) => {
            start.targets.clear();
            Order::Start(start).encode()
        }
        _ => Vec::new(),
    };
    let missing = Order::Start(Start {
        program: c"true".into(),
        arguments: Vec::new(),
        environment: Vec::new(),
        targets: vec![5],
        lifetime: Lifetime::Own,
        group: Group::Ours,
    });
    for (bytes, extra, refusal) in [
        (vec![77], 0, "there is no order of kind 77"),
        (good[..7].to_vec(), 0, "an order has the wrong length"),
        (vec![1; 170 << 10], 0, "an order is too long"),
        (
            missing.encode(),
            0,
            "a program's descriptors did not come along",
        ),
        (
            good.clone(),
            3,
            "a program's descriptors did not come along",
        ),
    ] {
        let (near, far) = packet::pair().unwrap();
        let along = vec![far.as_fd(); extra + 1];
        packet::send(socket, &bytes, &along, Wait::Yes).unwrap();
        assert_eq!(
            answer(&near, Wait::Yes).unwrap(),
            Answer::Refused(refusal.into())
        );
        drop(far);
        // The launcher keeps nothing of it.
        assert!(answer(&near, Wait::Yes).is_err());
    }
    // Without a line there is nobody to tell.
    packet::send(socket, &good, &[], Wait::Yes).unwrap();
    // A line on which nonsense is said has come to its end.
    let program = launcher.start_program(shell("exec sleep 1000")).unwrap();
    packet::send(&program.line, b"kindly", &[], Wait::Yes).unwrap();
    until("killed", || !lives(&program.id().to_string()));
    assert_eq!(said(&launcher, shell("echo still here")), "still here\n");
}

#[test]
fn a_launcher_that_takes_no_orders_is_not_waited_for_for_ever() {
    let (near, far) = packet::pair().unwrap();
    let order = [0; 4096];
    while packet::send(&near, &order, &[], Wait::No).is_ok() {}
    let late = hand_over(&near, &order, &[], 50).unwrap_err();
    assert_eq!(late.raw_os_error(), Some(libc::ETIMEDOUT));
    // One that is only slow gets it.
    let slow = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        while packet::receive(&far, order.len(), Wait::No).is_ok() {}
        far
    });
    hand_over(&near, &order, &[], 10_000).unwrap();
    drop(slow.join().unwrap());
    // And one that is gone is told of at once.
    let gone = hand_over(&near, &order, &[], 10_000).unwrap_err();
    assert_eq!(gone.kind(), super::gone().kind());
}
