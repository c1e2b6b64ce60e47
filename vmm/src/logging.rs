//! Messages for people: on standard error or in the file of `-D`, in QEMU's style.
//!
//! `NAME: -option value: message` for what is wrong with the command line, `NAME: message` for the
//! rest, `NAME: warning: message` for warnings; `-msg timestamp=on` puts the time in front.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::armour::trap;
use log::{Level, LevelFilter, Log, Metadata, Record};

static PROGRAM: OnceLock<String> = OnceLock::new();
static GUEST: OnceLock<String> = OnceLock::new();
static FILE: OnceLock<File> = OnceLock::new();
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
}

/// The name of the program as it was called.
pub fn program() -> &'static str {
    PROGRAM.get().map_or("qvmd", String::as_str)
}

/// `-d LEVEL[,MODULE=LEVEL]...`: how much is logged, by module where named.
///
/// # Errors
/// For a level that is none.
pub fn set_levels(text: &str) -> Result<(), String> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (module, level) = match part.split_once('=') {
            Some((module, level)) => (Some(module), level),
            None => (None, part),
        };
        let level: LevelFilter = level
            .parse()
            .map_err(|_| format!("unknown log level '{level}'"))?;
        match module {
            Some(module) => modules.push((module.to_owned(), level)),
            None => modules.push((String::new(), level)),
        }
    }
    let highest = modules.iter().map(|(_, level)| *level).max();
    log::set_max_level(highest.unwrap_or(LevelFilter::Warn).max(LevelFilter::Warn));
    Ok(())
}

/// Whether messages of `target` at `level` are wanted: the last entry that names it decides.
fn wanted(target: &str, level: Level) -> bool {
    let modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
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

/// `-D FILE`: the log goes there from now on.
pub fn set_file(file: File) {
    let _ = FILE.set(file);
    if let Some(file) = FILE.get() {
        trap::also_to(file.as_raw_fd());
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

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level() && wanted(metadata.target(), metadata.level())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = match record.level() {
            Level::Error => line(&record.args().to_string()),
            Level::Warn => line(&format!("warning: {}", record.args())),
            Level::Info => line(&format!("info: {}", record.args())),
            level @ (Level::Debug | Level::Trace) => {
                let level = level.as_str().to_ascii_lowercase();
                line(&format!("{level}: {}: {}", record.target(), record.args()))
            }
        };
        match FILE.get() {
            Some(mut file) => write_out(&mut file, &text),
            None => write_out(&mut std::io::stderr().lock(), &text),
        }
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
