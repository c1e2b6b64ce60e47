//! Standard input and output of a process of our own: this test program, started once more.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio as Pipe};

use super::tests::{Served, read_all, until, write_all};
use super::*;

const MARK: &str = "QVMD_TEST_STDIO";

/// What the second process does: says that it is ready, and echoes five bytes.
#[test]
fn child() {
    if std::env::var_os(MARK).is_none() {
        return;
    }
    let served = Served::new();
    let chardev = served.start(Source::Stdio(Stdio::open(false).unwrap()));
    assert_eq!(chardev.filename(), "stdio");
    let port = chardev.take_frontend().unwrap();
    write_all(&port, b"<ready>");
    let got = read_all(&port, 5);
    write_all(&port, &[b"<", &got[..], b">"].concat());
    drop(port);
    drop(chardev);
}

fn start(input: Pipe, output: Pipe) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "backend::chardev::stdio_tests::child",
            "--nocapture",
        ])
        .env(MARK, "1")
        .stdin(input)
        .stdout(output)
        .spawn()
        .unwrap()
}

fn read_until(file: &mut impl Read, end: &str) -> String {
    let mut all = String::new();
    let mut byte = [0];
    until("output", || {
        if file.read(&mut byte).unwrap_or(0) == 1 {
            all.push(char::from(byte[0]));
        }
        all.ends_with(end)
    });
    all
}

#[test]
fn pipes_carry_both_directions() {
    let mut child = start(Pipe::piped(), Pipe::piped());
    let mut output = child.stdout.take().unwrap();
    read_until(&mut output, "<ready>");
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"\x00\nabc").unwrap();
    read_until(&mut output, "<\x00\nabc>");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_file_as_input_ends_and_output_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::write(&input, "12345").unwrap();
    let mut child = start(
        File::open(&input).unwrap().into(),
        File::create(&output).unwrap().into(),
    );
    assert!(child.wait().unwrap().success());
    let text = std::fs::read_to_string(&output).unwrap();
    assert!(
        text.contains("<ready>") && text.contains("<12345>"),
        "{text}"
    );
}

#[test]
fn a_terminal_is_quiet_meanwhile_and_as_before_after_it() {
    let (mut master, path) = sys::open_pty().unwrap();
    let slave = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(&path)
            .unwrap()
    };
    let kept = slave();
    let before = sys::terminal_settings(&kept).unwrap();
    assert!(before.c_lflag & libc::ECHO != 0);
    let mut child = start(slave().into(), slave().into());
    read_until(&mut master, "<ready>");
    let quiet = sys::terminal_settings(&kept).unwrap();
    assert_eq!(quiet.c_lflag & (libc::ECHO | libc::ICANON | libc::ISIG), 0);
    assert!(quiet.c_oflag & libc::OPOST != 0);
    // Control-C is a character like others.
    master.write_all(b"ab\x03d\r").unwrap();
    read_until(&mut master, "<ab\x03d\r>");
    assert!(child.wait().unwrap().success());
    let after = sys::terminal_settings(&kept).unwrap();
    assert_eq!(after.c_lflag, before.c_lflag);
    // The others who have the terminal open still wait for input.
    assert_eq!(sys::status_flags(&kept).unwrap() & libc::O_NONBLOCK, 0);
}
