use super::*;
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
        .run()
        .unwrap();
    assert_eq!(fs::read_to_string(said).unwrap(), "tap7\n");

    let script = program("bad", "exit 3");
    let path = script.to_str().unwrap();
    let error = Script::new(path, "tap7").unwrap().run().unwrap_err();
    assert_eq!(
        error.desc,
        format!("network script {path} failed with status 768")
    );
    assert_eq!(
        Script::new("/nonexistent", "tap7")
            .unwrap()
            .run()
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
    let ran = script.run();
    assert!(crate::sys::is_inherited(inherited), "it is still ours");
    let _ = crate::sys::adopt(inherited);
    ran.unwrap();
    let said = fs::read_to_string(said).unwrap();
    assert_eq!(said.split_whitespace().nth(1), Some("0000000000000000"));
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
    let null = fs::File::open("/dev/null").unwrap();
    drop(DownScript::new(script, true, null.into()));
    assert_eq!(fs::read_to_string(said).unwrap(), "tap8\n");
}

#[test]
fn a_helper_that_fails_is_quoted() {
    let helper = program("helper", "echo 'access denied by acl file' >&2; exit 1");
    let error = run_helper(helper.to_str().unwrap(), None).unwrap_err();
    assert_eq!(
        error.desc,
        "bridge helper failed: access denied by acl file"
    );
    let error = run_helper("/nonexistent", None).unwrap_err();
    assert_eq!(
        error.desc,
        "bridge helper failed: No such file or directory"
    );
}

#[test]
fn a_helper_that_passes_nothing_is_refused() {
    let error = run_helper("/bin/true", None).unwrap_err();
    assert_eq!(error.desc, "failed to recv file descriptor");
}

#[test]
fn a_helper_with_spaces_is_for_the_shell() {
    let words = |command: Command| {
        let args: Vec<_> = command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect();
        args.join(" ")
    };
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
