//! The last words of a thread that made a system call which its filter forbids, or that touched
//! memory behind which its file is gone.
//!
//! The kernel sends it SIGSYS or SIGBUS in the middle of whatever it did. The handlers allocate
//! nothing and take no lock: they write one line to standard error and to the log, and let the
//! signal have its way, which ends the process.
#![allow(unsafe_code)] // a signal handler

use std::cell::Cell;
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicI32, Ordering};

use super::calls;
use crate::threads::ThreadKind;

/// A thread's name, as far as it is told.
const NAME: usize = 48;
/// si_code of a SIGSYS that a filter sent (asm-generic/siginfo.h).
const SYS_SECCOMP: i32 = 1;

thread_local! {
    /// Who the thread is. Has no destructor, so that it can be read at any time.
    static SELF: Cell<([u8; NAME], usize, Option<ThreadKind>)> = const { Cell::new(([0; NAME], 0, None)) };
}

/// The file of `-D`; -1 while there is none.
static LOG: AtomicI32 = AtomicI32::new(-1);
/// The system's log; -1 where nothing is to go there.
static SYSTEM_LOG: AtomicI32 = AtomicI32::new(-1);
/// LOG_DAEMON and LOG_CRIT, as RFC 5424 section 6.2.1 puts them together.
const PRIORITY: &str = "<26>";

unsafe extern "C" {
    /// Where the program begins in memory; made by the linker.
    safe static __ehdr_start: u8;
    /// Where its code ends.
    safe static etext: u8;
}

/// What the calling thread is called in messages.
pub fn introduce(kind: ThreadKind, name: &str) {
    let mut bytes = [0; NAME];
    let mut length = 0;
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
        length += 1;
    }
    SELF.set((bytes, length, Some(kind)));
}

/// What the calling thread is called.
pub fn own_name() -> String {
    let (name, length, _) = SELF.get();
    String::from_utf8_lossy(name.get(..length).unwrap_or_default()).into_owned()
}

/// Last words go to this open descriptor too, which must stay open; -1 is none.
pub fn also_to(fd: i32) {
    LOG.store(fd, Ordering::Relaxed);
}

/// Last words go to the system's log too, where there is one: for a program that has no standard
/// error any more.
pub fn also_to_system_log() {
    let connected = UnixDatagram::unbound().and_then(|socket| {
        socket.connect("/dev/log")?;
        // A log that does not read holds nobody up.
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    if let Ok(socket) = connected {
        SYSTEM_LOG.store(socket.into_raw_fd(), Ordering::Relaxed);
    }
}

type Handler = extern "C" fn(i32, *const libc::siginfo_t, *const libc::c_void);

/// Installs the handlers, and sees to it that the signals are not blocked, here and in all threads
/// that are started from here.
///
/// # Errors
/// Those of sigaction(2).
pub fn handle() -> io::Result<()> {
    install(libc::SIGSYS, on_forbidden_call, 0)?;
    // Without another call the default is in force when the handler returns.
    install(libc::SIGBUS, on_lost_memory, libc::SA_RESETHAND)
}

fn install(signal: i32, handler: Handler, more: i32) -> io::Result<()> {
    // SAFETY: the structure is filled in as sigaction(2) wants it; the handler makes only calls
    // that may be made in one. The set is initialised before use.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | more;
        // Nothing comes between its words.
        libc::sigfillset(&mut action.sa_mask);
        if libc::sigaction(signal, &action, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        match libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut()) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// What was touched is touched again when it returns, and the process ends by it.
extern "C" fn on_lost_memory(signal: i32, info: *const libc::siginfo_t, _: *const libc::c_void) {
    // SAFETY: the kernel hands it over for as long as the handler runs; the address is there for
    // faults.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as u64) };
    let mut line = Line::new();
    // Others' signals have a code that is not positive.
    if code <= 0 {
        line.text("qvmd: SIGBUS was sent to us; the program ends\n");
    } else {
        line.text("qvmd: thread '");
        who(&mut line);
        line.text(" touched memory at ");
        line.hex(address);
        line.text(" that is lost: its file was cut, has no room or cannot be read, or the memory is broken\n");
    }
    line.write();
    if code <= 0 {
        // SAFETY: may be called in a handler.
        unsafe { libc::raise(signal) };
    }
}

extern "C" fn on_forbidden_call(
    signal: i32,
    info: *const libc::siginfo_t,
    context: *const libc::c_void,
) {
    // SAFETY: the kernel hands over both for as long as the handler runs.
    let (code, registers) = unsafe {
        let context = &*context.cast::<libc::ucontext_t>();
        ((*info).si_code, &context.uc_mcontext.gregs)
    };
    let mut line = Line::new();
    if code == SYS_SECCOMP {
        last_words(&mut line, registers);
    } else {
        line.text("qvmd: SIGSYS was sent to us; the program ends\n");
    }
    line.write();
    // Where the filter forbids this too, it is the end: a trap while the signal is blocked kills.
    // Elsewhere the signal comes again when the handler returns, and kills then.
    // SAFETY: calls that may be made in a handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &action, std::ptr::null_mut());
        libc::raise(signal);
    }
}

fn last_words(line: &mut Line, registers: &[libc::greg_t; 23]) {
    let register = |index: i32| {
        let value = usize::try_from(index)
            .ok()
            .and_then(|index| registers.get(index));
        value.copied().unwrap_or(0)
    };
    line.text("qvmd: thread '");
    who(line);
    line.text(" made system call ");
    // Back from the kernel, the number is in its register still.
    let number = register(libc::REG_RAX);
    line.decimal(number.unsigned_abs());
    line.text(" (");
    line.text(calls::name(number).unwrap_or("unknown"));
    line.text(") at ");
    let address = register(libc::REG_RIP) as u64;
    line.hex(address);
    let (start, end) = (&raw const __ehdr_start as u64, &raw const etext as u64);
    if (start..end).contains(&address) {
        line.text(" (program + ");
        line.hex(address - start);
        line.text(")");
    }
    line.text(", which its filter forbids; see docs/security.md (arguments");
    let arguments = [
        libc::REG_RDI,
        libc::REG_RSI,
        libc::REG_RDX,
        libc::REG_R10,
        libc::REG_R8,
        libc::REG_R9,
    ];
    for argument in arguments {
        line.text(" ");
        line.hex(register(argument) as u64);
    }
    line.text(")\n");
}

/// The calling thread's name, the quote behind it and its kind.
fn who(line: &mut Line) {
    let (name, length, kind) = SELF.get();
    line.bytes(name.get(..length).unwrap_or_default());
    line.text("' (");
    line.text(kind.map_or("unknown", ThreadKind::name));
    line.text(")");
}

/// A line that is put together without memory from anywhere.
struct Line {
    bytes: [u8; 512],
    length: usize,
}

impl Line {
    fn new() -> Self {
        Line {
            bytes: [0; 512],
            length: 0,
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
            self.length += 1;
        }
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn decimal(&mut self, value: u64) {
        self.digits(value, 10);
    }

    fn hex(&mut self, value: u64) {
        self.text("0x");
        self.digits(value, 16);
    }

    fn digits(&mut self, mut value: u64, base: u64) {
        let mut digits = [b'0'; 20];
        let mut count = 0;
        for digit in digits.iter_mut().rev() {
            let of_base = (value % base) as usize;
            *digit = *b"0123456789abcdef".get(of_base).unwrap_or(&b'?');
            value /= base;
            count += 1;
            if value == 0 {
                break;
            }
        }
        self.bytes(digits.get(digits.len() - count..).unwrap_or_default());
    }

    /// To whoever listens.
    fn write(&self) {
        write_to(libc::STDERR_FILENO, self.all());
        write_to(LOG.load(Ordering::Relaxed), self.all());
        let system_log = SYSTEM_LOG.load(Ordering::Relaxed);
        if system_log >= 0 {
            let mut message = Line::new();
            message.text(PRIORITY);
            message.bytes(self.all());
            write_to(system_log, message.all());
        }
    }

    fn all(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// -1 is nobody.
fn write_to(fd: i32, text: &[u8]) {
    if fd >= 0 {
        // SAFETY: as many bytes are read as there are. Nobody is left to be told of a failure.
        unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
    }
}
