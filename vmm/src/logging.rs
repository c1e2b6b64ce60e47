//! Messages for people: on standard error or in the file of `-D`, in QEMU's style.
//!
//! `NAME: -option value: message` for what is wrong with the command line, `NAME: message` for the
//! rest, `NAME: warning: message` for warnings; `-msg timestamp=on` puts the time in front.

pub mod items;
mod output;
pub mod points;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::armour::trap;
use log::{Level, LevelFilter, Log, Metadata, Record};

use items::Items;
use output::Output;

static PROGRAM: OnceLock<String> = OnceLock::new();
static GUEST: OnceLock<String> = OnceLock::new();
/// A leaf: nothing else is locked while it is held, and nobody waits for the host meanwhile.
static OUTPUT: Mutex<Output> = Mutex::new(Output::stderr());
static MODULES: Mutex<Vec<(String, LevelFilter)>> = Mutex::new(Vec::new());
static TIMESTAMP: AtomicBool = AtomicBool::new(false);

struct Logger;

static LOGGER: Logger = Logger;

/// Starts logging; `argv0` gives the name that stands before each message.
pub fn init(argv0: &str) {
    let name = argv0
        .rsplit('/')
        .next()
        .filter(|name| !name.is_empty())
        .unwrap_or("qvmd");
    let _ = PROGRAM.set(name.to_owned());
    let level = match std::env::var("QVMD_LOG").as_deref() {
        Ok("trace") => LevelFilter::Trace,
        Ok("debug") => LevelFilter::Debug,
        Ok("info") => LevelFilter::Info,
        _ => LevelFilter::Warn,
    };
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(level);
    }
    points::init();
}

/// The name of the program as it was called.
pub fn program() -> &'static str {
    PROGRAM.get().map_or("qvmd", String::as_str)
}

/// How much is logged from now on: `-d` adds to what was asked for, HMP's `log` replaces it.
pub fn add_items(items: &Items) {
    let mut modules = modules();
    modules.extend(items.levels.iter().cloned());
    let highest = modules.iter().map(|(_, level)| *level).max();
    log::set_max_level(highest.unwrap_or(LevelFilter::Warn).max(LevelFilter::Warn));
    drop(modules);
    if items.guest_errors {
        devices::guest_errors::set_logged(true);
    }
    for pattern in &items.traced {
        points::switch(pattern, true);
    }
}

/// As little as without `-d`. Trace points stay as they are: they have commands of their own.
pub fn clear_items() {
    modules().clear();
    log::set_max_level(LevelFilter::Warn);
    devices::guest_errors::set_logged(false);
}

fn modules() -> MutexGuard<'static, Vec<(String, LevelFilter)>> {
    MODULES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether messages of `target` at `level` are wanted: the last entry that names it decides.
fn wanted(target: &str, level: Level) -> bool {
    let modules = modules();
    if modules.is_empty() {
        return true;
    }
    let named = |module: &str| module.is_empty() || target.split("::").any(|part| part == module);
    let found = modules.iter().rev().find(|(module, _)| named(module));
    level <= found.map_or(LevelFilter::Warn, |(_, level)| *level)
}

/// `-msg timestamp=on`.
pub fn set_timestamp(on: bool) {
    TIMESTAMP.store(on, Ordering::Relaxed);
}

/// `-msg guest-name=on`: the guest's name goes in front of messages.
pub fn set_guest_name(name: &str) {
    let _ = GUEST.set(name.to_owned());
}

/// `-D FILE` and HMP's `logfile`: the log goes there from now on; `%d` in the name stands for the
/// number of this process. Opened anew under its name, it is another file after a rotation. When
/// that fails the log goes on where it went.
///
/// # Errors
/// In QEMU's words.
pub fn open_file(name: &str) -> Result<(), String> {
    let path = template(name)?;
    // A FIFO that nobody reads is refused, and not waited for.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut options = File::options();
    options.create(true).append(true).custom_flags(flags);
    let file = options.open(&path).map_err(|error| {
        format!(
            "Error opening logfile {path}: {}",
            errno_text::errno_text(&error)
        )
    })?;
    // Before the old one is closed.
    trap::also_to(file.as_raw_fd());
    *output() = Output::file(file);
    Ok(())
}

/// The name with this process's number for `%d`, which may stand there once.
fn template(name: &str) -> Result<String, String> {
    let bad = || format!("Bad logfile template: {name}");
    match name.split_once('%') {
        None => Ok(name.to_owned()),
        Some((front, back)) => {
            let back = back.strip_prefix('d').filter(|back| !back.contains('%'));
            let back = back.ok_or_else(bad)?;
            Ok(format!("{front}{}{back}", std::process::id()))
        }
    }
}

fn output() -> MutexGuard<'static, Output> {
    OUTPUT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program ends: what still waits gets a moment to leave.
pub fn finish() {
    let end = Instant::now() + Duration::from_millis(500);
    while !(output().drained() && points::drained()) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A message about what the user asked for; always on standard error.
pub fn report(message: &str) {
    write_out(&mut std::io::stderr().lock(), &line(message));
}

/// Text that was asked for, on standard output. Whoever reads it may leave early.
pub fn print(text: &str) {
    write_out(&mut std::io::stdout().lock(), text);
    let _ = std::io::stdout().flush();
}

fn line(message: &str) -> String {
    let mut text = String::with_capacity(message.len() + 48);
    if TIMESTAMP.load(Ordering::Relaxed) {
        text.push_str(&iso8601(SystemTime::now()));
        text.push(' ');
    }
    if let Some(guest) = GUEST.get() {
        text.push_str(guest);
        text.push(' ');
    }
    text.push_str(program());
    text.push_str(": ");
    text.push_str(message);
    text.push('\n');
    text
}

fn write_out(out: &mut dyn Write, text: &str) {
    // Nowhere is left to complain to when this fails.
    let _ = out.write_all(text.as_bytes());
}

/// Text as one line: what a guest or a client chose cannot begin lines of its own, nor move a
/// terminal's cursor.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() && c != '\t' {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level() && wanted(metadata.target(), metadata.level())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let said = one_line(&record.args().to_string());
        let text = match record.level() {
            Level::Error => line(&said),
            Level::Warn => line(&format!("warning: {said}")),
            Level::Info => line(&format!("info: {said}")),
            level @ (Level::Debug | Level::Trace) => {
                let level = level.as_str().to_ascii_lowercase();
                line(&format!("{level}: {}: {said}", record.target()))
            }
        };
        output().put(&text);
    }

    fn flush(&self) {}
}

/// `2026-11-24T14:33:43.123456Z`.
pub fn iso8601(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let [year, month, day, hour, minute, second] = civil_time(since.as_secs());
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z",
        since.subsec_micros()
    )
}

/// Seconds since 1970 as year, month, day, hour, minute and second.
pub fn civil_time(seconds: u64) -> [u64; 6] {
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let second = seconds % 86_400;
    [
        year,
        month,
        day,
        second / 3600,
        second / 60 % 60,
        second % 60,
    ]
}

/// Year, month and day of a day counted from 1970-01-01 in the Gregorian calendar.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that the leap day is a year's last.
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(one_line("a\tb ä"), "a\tb ä");
        assert_eq!(
            one_line("a\nqvmd: b\u{1b}[2J\r"),
            "a\\nqvmd: b\\u{1b}[2J\\r"
        );
    }

    #[test]
    fn the_process_may_be_in_the_name() {
        let id = std::process::id();
        assert_eq!(template("/tmp/a").unwrap(), "/tmp/a");
        assert_eq!(template("/tmp/a%d.log").unwrap(), format!("/tmp/a{id}.log"));
        for bad in ["a%x", "a%", "a%d%d", "a%%d"] {
            let error = template(bad).unwrap_err();
            assert_eq!(error, format!("Bad logfile template: {bad}"));
        }
    }

    #[test]
    fn time_is_written_as_iso_8601() {
        for (seconds, micros, text) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, 5, "2000-02-29T00:00:00.000005Z"),
            (1_795_530_823, 999_999, "2026-11-24T14:33:43.999999Z"),
            (4_107_542_399, 0, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000Z"),
        ] {
            let time = UNIX_EPOCH + Duration::new(seconds, micros * 1000);
            assert_eq!(iso8601(time), text);
        }
    }
}
