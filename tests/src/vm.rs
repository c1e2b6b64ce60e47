//! The program as a child process.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::qmp::QmpError;
use crate::serial::Serial;
use crate::{Qmp, artifacts, binary, seconds, sys};

/// How the program ended.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Exit status; None where a signal ended it.
    pub status: Option<i32>,
    /// The signal.
    pub signal: Option<i32>,
    /// What it printed, where that was not taken by [`VmBuilder::pipes`].
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Exit {
    /// Checks that it refused: status 1 and a message, no panic.
    ///
    /// # Panics
    /// When it did something else.
    pub fn assert_refused(&self) -> &Self {
        assert_eq!(self.status, Some(1), "{self:?}");
        assert!(!self.stderr.trim().is_empty(), "no word on why: {self:?}");
        assert!(!self.stderr.contains("panicked at"), "{self:?}");
        self
    }

    /// Checks that it complained with these words.
    ///
    /// # Panics
    /// When it did not.
    pub fn assert_says(&self, words: &str) -> &Self {
        assert!(self.stderr.contains(words), "no {words:?} in {self:?}");
        self
    }
}

/// What to start.
#[derive(Debug)]
pub struct VmBuilder {
    directory: TempDir,
    args: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    monitors: usize,
    setup: sys::ChildSetup,
    pipes: bool,
    activated: bool,
    program: PathBuf,
}

/// A running program. It is killed on drop.
#[derive(Debug)]
pub struct Vm {
    child: Option<Child>,
    daemon: Option<u32>,
    directory: TempDir,
    qmp: Option<Qmp>,
    /// Its standard input, with [`VmBuilder::pipes`].
    pub stdin: Option<ChildStdin>,
    /// Its standard output, with [`VmBuilder::pipes`].
    pub stdout: Option<ChildStdout>,
}

impl VmBuilder {
    /// No arguments but those that keep defaults out, and one monitor.
    ///
    /// # Panics
    /// When no temporary directory can be made.
    pub fn new() -> Self {
        let mut builder = Self::bare();
        builder.monitors = 1;
        builder.args(["-nodefaults", "-no-user-config", "-display", "none"])
    }

    /// No arguments at all.
    ///
    /// # Panics
    /// When no temporary directory can be made.
    pub fn bare() -> Self {
        VmBuilder {
            directory: tempfile::Builder::new()
                .prefix("qvmd-")
                .tempdir()
                .expect("a temporary directory"),
            args: Vec::new(),
            environment: Vec::new(),
            monitors: 0,
            setup: sys::ChildSetup::default(),
            pipes: false,
            activated: false,
            program: binary::program().to_path_buf(),
        }
    }

    /// Appends an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name, value.as_ref().to_owned()));
        self
    }

    /// An empty machine.
    #[must_use]
    pub fn none(self) -> Self {
        self.args(["-machine", "none"])
    }

    /// A q35 that no processor runs, and that waits to be continued.
    #[must_use]
    pub fn stopped(self) -> Self {
        self.args(["-machine", "q35", "-accel", "qtest", "-m", "64", "-S"])
    }

    /// A q35 that no processor runs, in the state `running`.
    #[must_use]
    pub fn idle(self) -> Self {
        self.args(["-machine", "q35", "-accel", "qtest", "-m", "64"])
    }

    /// The older PC that no processor runs, in the state `running`.
    #[must_use]
    pub fn idle_pc(self) -> Self {
        self.args(["-machine", "pc", "-accel", "qtest", "-m", "64"])
    }

    /// A q35 on the accelerator that runs guests, with a serial console: see [`Vm::serial`].
    #[must_use]
    pub fn guest(self) -> Self {
        self.guest_on("q35")
    }

    /// The same on another machine.
    #[must_use]
    pub fn guest_on(self, machine: &str) -> Self {
        let accel = artifacts::accelerator();
        let cpu = if accel == "kvm" { "host" } else { "max" };
        let console = self.path("serial.sock");
        self.args(["-machine", machine, "-accel", &accel, "-cpu", cpu])
            .arg("-chardev")
            .arg(format!(
                "socket,id=serial0,path={},server=on,wait=off",
                console.display()
            ))
            .args(["-serial", "chardev:serial0"])
    }

    /// So many monitors; [`Vm::monitor`] gives the path of each.
    #[must_use]
    pub fn monitors(mut self, count: usize) -> Self {
        self.monitors = count;
        self
    }

    /// Hands a descriptor down under a number.
    #[must_use]
    pub fn fd(mut self, fd: impl Into<OwnedFd>, number: RawFd) -> Self {
        self.setup.fds.push((fd.into(), number));
        self
    }

    /// Limits its address space.
    #[must_use]
    pub fn address_space(mut self, bytes: u64) -> Self {
        self.setup.address_space = Some(bytes);
        self
    }

    /// Runs it as another user, from a copy that the user can reach.
    ///
    /// # Panics
    /// When the directory cannot be opened to that user.
    #[must_use]
    pub fn user(mut self, id: u32) -> Self {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.directory.path(), fs::Permissions::from_mode(0o777))
            .expect("permissions can be set");
        let copy = self.path("program");
        if self.program.components().count() > 1 && fs::copy(&self.program, &copy).is_ok() {
            self.program = copy;
        }
        self.setup.user = Some(id);
        self
    }

    /// Connects pipes to its standard input and output.
    #[must_use]
    pub fn pipes(mut self) -> Self {
        self.pipes = true;
        self
    }

    /// Passes it sockets as a service manager does, from descriptor 3 on, with these names.
    #[must_use]
    pub fn activated(mut self, sockets: Vec<OwnedFd>, names: &str) -> Self {
        self.activated = true;
        // Above all numbers that they are to have, or one would be put over another.
        let sockets = sockets.iter().map(sys::out_of_the_way).collect::<Vec<_>>();
        let builder = self.env("LISTEN_FDS", sockets.len().to_string());
        let builder = builder.env("LISTEN_FDNAMES", names);
        (3..)
            .zip(sockets)
            .fold(builder, |builder, (number, socket)| {
                builder.fd(socket, number)
            })
    }

    /// A path in its directory, which is gone with it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// Starts it and waits until its monitors, if it has any, answer.
    ///
    /// # Panics
    /// When it ends before.
    pub fn start(self) -> Vm {
        let monitors = self.monitors;
        let mut vm = self.spawn();
        if monitors > 0 {
            let stream = vm.connect_when_ready(&vm.monitor(0));
            let mut qmp = Qmp::over_socket(stream.into());
            qmp.negotiate();
            vm.qmp = Some(qmp);
        }
        vm
    }

    /// Starts it and waits for nothing.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(mut self) -> Vm {
        for i in 0..self.monitors {
            let path = self.path(&format!("qmp{i}.sock"));
            self.args.push("-qmp".into());
            self.args
                .push(format!("unix:{},server=on,wait=off", path.display()).into());
        }
        if binary::is_stand_in() {
            self.stand_in_for_qtest();
        }
        let file = |name: &str| File::create(self.path(name)).expect("a file can be made");
        let mut command = match self.activated {
            // Only the process itself knows its number beforehand.
            true => {
                let mut shell = Command::new("sh");
                shell.args(["-c", r#"LISTEN_PID=$$ exec "$0" "$@""#]);
                shell.arg(&self.program);
                shell
            }
            false => Command::new(&self.program),
        };
        command
            .args(&self.args)
            .envs(self.environment.iter().cloned())
            .current_dir(self.directory.path())
            .stderr(file("stderr"));
        if self.pipes {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null()).stdout(file("stdout"));
        }
        sys::prepare(&mut command, self.setup);
        let mut child = command.spawn().expect("the program starts");
        Vm {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            child: Some(child),
            daemon: None,
            directory: self.directory,
            qmp: None,
        }
    }

    /// Distributions leave the reference's qtest accelerator out. A processor that halts in its first
    /// instruction comes near to it: all but the virtual clock is the same.
    fn stand_in_for_qtest(&mut self) {
        let mut args = Vec::new();
        for arg in std::mem::take(&mut self.args) {
            let is_accel = args.last().is_some_and(|last| last == "-accel");
            if is_accel && arg == "qtest" {
                let firmware = self.path("halt.bin");
                fs::write(&firmware, halting_firmware()).expect("a file can be made");
                args.extend(["tcg".into(), "-bios".into(), firmware.into()]);
            } else {
                args.push(arg);
            }
        }
        self.args = args;
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it runs for more than 30 seconds.
    pub fn run(mut self) -> Exit {
        self.monitors = 0;
        self.spawn().wait()
    }
}

/// A firmware of 64 KiB whose first instructions, 16 bytes before its end, are `cli`, `hlt` and a
/// jump back to the latter.
fn halting_firmware() -> Vec<u8> {
    let mut bytes = vec![0; 0xfff0];
    bytes.extend_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    bytes.resize(0x1_0000, 0);
    bytes
}

impl Default for VmBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl Vm {
    /// See [`VmBuilder::new`].
    pub fn builder() -> VmBuilder {
        VmBuilder::new()
    }

    /// A running program with an empty machine.
    pub fn none() -> Vm {
        VmBuilder::new().none().start()
    }

    /// A running program with a q35 that waits to be continued, and that no processor runs.
    pub fn stopped() -> Vm {
        VmBuilder::new().stopped().start()
    }

    /// The first monitor's client.
    ///
    /// # Panics
    /// When there is none.
    pub fn qmp(&mut self) -> &mut Qmp {
        self.qmp.as_mut().expect("a monitor")
    }

    /// Takes the first monitor's client away.
    ///
    /// # Panics
    /// When there is none.
    pub fn take_qmp(&mut self) -> Qmp {
        self.qmp.take().expect("a monitor")
    }

    /// Gives it another client.
    pub fn put_qmp(&mut self, qmp: Qmp) {
        self.qmp = Some(qmp);
    }

    /// See [`Qmp::exec`].
    pub fn exec(&mut self, command: &str, arguments: Value) -> Value {
        self.qmp().exec(command, arguments)
    }

    /// See [`Qmp::query`].
    pub fn query(&mut self, command: &str) -> Value {
        self.qmp().query(command)
    }

    /// See [`Qmp::refused`].
    pub fn refused(&mut self, command: &str, arguments: Value) -> QmpError {
        self.qmp().refused(command, arguments)
    }

    /// Path of a monitor.
    pub fn monitor(&self, index: usize) -> PathBuf {
        self.path(&format!("qmp{index}.sock"))
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// Its process.
    ///
    /// # Panics
    /// When it has ended.
    pub fn pid(&self) -> u32 {
        self.daemon
            .or_else(|| self.child.as_ref().map(Child::id))
            .expect("a process")
    }

    /// Takes note of the process that went to the background, so that it ends with this.
    pub fn adopt_daemon(&mut self, pid: u32) {
        self.daemon = Some(pid);
    }

    /// The serial console of [`VmBuilder::guest`].
    pub fn serial(&mut self) -> Serial {
        let path = self.path("serial.sock");
        Serial::over(self.connect_when_ready(&path))
    }

    /// Connects to a socket of the program as soon as it listens.
    ///
    /// # Panics
    /// When the program ends or the time is over.
    pub fn connect_when_ready(&mut self, path: &Path) -> UnixStream {
        let end = Instant::now() + seconds(30);
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => return stream,
                Err(e)
                    if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
                Err(e) => panic!("cannot connect to {}: {e}", path.display()),
            }
            if let Some(child) = &mut self.child
                && let Ok(Some(status)) = child.try_wait()
                && !status.success()
            {
                panic!("the program ended with {status}: {}", self.stderr());
            }
            assert!(
                Instant::now() < end,
                "nobody listens at {}: {}",
                path.display(),
                self.stderr()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// What it complained of so far.
    pub fn stderr(&self) -> String {
        self.text("stderr")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        sys::kill(self.pid(), signal);
    }

    /// Checks that it runs and answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn assert_alive(&mut self) {
        assert_eq!(
            self.qmp().exec("query-version", json!({}))["qemu"]["major"],
            10
        );
    }

    /// Waits until the machine is in this state.
    ///
    /// # Panics
    /// When it does not get there.
    pub fn wait_status(&mut self, status: &str) {
        let end = Instant::now() + seconds(10);
        loop {
            let now = self.query("query-status");
            if now["status"] == status {
                return;
            }
            assert!(Instant::now() < end, "{now}, not {status}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it by `quit`, and checks that it does.
    ///
    /// # Panics
    /// When it ends otherwise.
    pub fn quit(mut self) -> Exit {
        let returned = self.exec("quit", json!({}));
        assert_eq!(returned, json!({}));
        let exit = self.wait();
        assert_eq!(exit.status, Some(0), "{exit:?}");
        exit
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it runs for more than 30 seconds.
    pub fn wait(&mut self) -> Exit {
        self.wait_within(seconds(30))
            .unwrap_or_else(|| panic!("the program still runs: {}", self.stderr()))
    }

    /// Waits for its end, so long at most.
    ///
    /// # Panics
    /// When it was waited for already.
    pub fn wait_within(&mut self, limit: Duration) -> Option<Exit> {
        let end = Instant::now() + limit;
        let child = self.child.as_mut().expect("not waited for");
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if Instant::now() >= end {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        };
        self.child = None;
        Some(Exit {
            status: status.code(),
            signal: status.signal(),
            stdout: self.text("stdout"),
            stderr: self.text("stderr"),
        })
    }

    fn text(&self, name: &str) -> String {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(pid) = self.daemon.take() {
            sys::kill(pid, libc::SIGKILL);
        }
        if thread::panicking() {
            eprintln!("the program's words: {}", self.stderr());
        }
    }
}
