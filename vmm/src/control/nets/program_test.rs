use super::*;
use crate::armour::launcher::on_a_thread;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;

fn program(name: &str, lines: &str) -> tempfile::TempPath {
    let file = tempfile::Builder::new().prefix(name).tempfile().unwrap();
    fs::write(file.path(), format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Closed, or it could not be run.
    file.into_temp_path()
}

#[test]
fn a_script_gets_the_device_and_its_status_counts() {
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    let script = program("up", &format!("echo \"$@\" > {}", said.display()));
    Script::new(script.to_str().unwrap(), "tap7")
        .unwrap()
        .run(&on_a_thread())
        .unwrap();
    assert_eq!(fs::read_to_string(said).unwrap(), "tap7\n");

    let script = program("bad", "exit 3");
    let path = script.to_str().unwrap();
    let error = Script::new(path, "tap7")
        .unwrap()
        .run(&on_a_thread())
        .unwrap_err();
    assert_eq!(
        error.desc,
        format!("network script {path} failed with status 768")
    );
    assert_eq!(
        Script::new("/nonexistent", "tap7")
            .unwrap()
            .run(&on_a_thread())
            .unwrap_err()
            .desc,
        "network script /nonexistent could not be run: No such file or directory"
    );
}

#[test]
fn programs_inherit_neither_signals_nor_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    // As in all threads of the program.
    let _signals = crate::sys::signal_fd(&[libc::SIGTERM, libc::SIGINT]).unwrap();
    let file = fs::File::open("/dev/null").unwrap();
    #[allow(unsafe_code)] // a descriptor that programs would inherit
    // SAFETY: no pointers.
    let inherited = unsafe { libc::dup(file.as_raw_fd()) };
    assert!(crate::sys::is_inherited(inherited));
    let path = said.display();
    let lines =
        format!("grep SigBlk /proc/self/status > {path}; test ! -e /proc/self/fd/{inherited}");
    let script = program("up", &lines);
    let script = Script::new(script.to_str().unwrap(), "tap7").unwrap();
    let ran = script.run(&on_a_thread());
    assert!(crate::sys::is_inherited(inherited), "it is still ours");
    let _ = crate::sys::adopt(inherited);
    ran.unwrap();
    let said = fs::read_to_string(said).unwrap();
    assert_eq!(said.split_whitespace().nth(1), Some("0000000000000000"));
}

fn null() -> Arc<OwnedFd> {
    Arc::new(fs::File::open("/dev/null").unwrap().into())
}

#[test]
fn no_script_is_no_script() {
    assert_eq!(Script::new("no", "tap7"), None);
    assert_eq!(Script::new("", "tap7"), None);
}

#[test]
fn the_script_for_the_end_runs_when_its_owner_goes() {
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    let script = program("down", &format!("echo \"$@\" > {}", said.display()));
    let script = Script::new(script.to_str().unwrap(), "tap8").unwrap();
    drop(DownScript::new(script, &on_a_thread(), true, null()).unwrap());
    assert_eq!(fs::read_to_string(said).unwrap(), "tap8\n");
}

#[test]
fn a_helper_that_fails_is_quoted() {
    let helper = program("helper", "echo 'access denied by acl file' >&2; exit 1");
    let error = run_helper(&on_a_thread(), helper.to_str().unwrap(), None).unwrap_err();
    assert_eq!(
        error.desc,
        "bridge helper failed: access denied by acl file"
    );
    let error = run_helper(&on_a_thread(), "/nonexistent", None).unwrap_err();
    assert_eq!(
        error.desc,
        "bridge helper failed: No such file or directory"
    );
}

#[test]
fn a_helper_that_passes_nothing_is_refused() {
    let error = run_helper(&on_a_thread(), "/bin/true", None).unwrap_err();
    assert_eq!(error.desc, "failed to recv file descriptor");
}

#[test]
fn a_helper_with_spaces_is_for_the_shell() {
    let words = |(_, arguments): (&str, Vec<String>)| arguments.join(" ");
    assert_eq!(
        words(helper_command("/x/helper", "br1")),
        "--use-vnet --fd=0 --br=br1"
    );
    assert_eq!(
        words(helper_command("sudo helper", "br1")),
        "-c sudo helper --use-vnet --fd=0 --br=br1"
    );
    assert_eq!(
        words(helper_command("sudo helper --br=br2", "br1")),
        "-c sudo helper --br=br2 --use-vnet --fd=0"
    );
}

#[test]
fn where_no_program_may_be_run_the_option_is_named() {
    let denied = Launcher::denied();
    let why = "Programs may not be started (-sandbox spawn=deny)";
    let script = || Script::new("/etc/up", "tap7").unwrap();
    let script_error = format!("network script /etc/up could not be run: {why}");
    assert_eq!(script().run(&denied).unwrap_err().desc, script_error);
    let down = DownScript::new(script(), &denied, true, null());
    assert_eq!(down.err().unwrap().desc, script_error);
    // Nobody asked for it.
    let down = DownScript::new(script(), &denied, false, null());
    assert!(down.unwrap().is_none());
    let error = run_helper(&denied, "/bin/true", None).unwrap_err();
    assert_eq!(error.desc, format!("bridge helper failed: {why}"));
}
