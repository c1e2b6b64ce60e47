//! Trace points: which are on, and where what they say goes.

use std::fmt;
use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use trace::TracePoint;
use trace::pattern::is_pattern;

use super::output::Output;

/// The file of `-trace file=`; without, they go to the log. A leaf, as that of the log.
static FILE: Mutex<Option<Output>> = Mutex::new(None);

/// Lets points speak.
pub(super) fn init() {
    trace::set_sink(say);
}

/// `4711@1795530823.123456:iothread0:virtio_notify vq=0`: process, time, thread, name, values.
fn say(point: &'static TracePoint, values: fmt::Arguments<'_>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or(Duration::ZERO);
    let thread = std::thread::current();
    let mut text = super::one_line(&format!(
        "{}@{}.{:06}:{}:{}{values}",
        std::process::id(),
        now.as_secs(),
        now.subsec_micros(),
        thread.name().unwrap_or("-"),
        point.name(),
    ));
    text.push('\n');
    let mut file = file();
    match file.as_mut() {
        Some(file) => file.put(&text),
        None => {
            drop(file);
            super::output().put(&text);
        }
    }
}

fn file() -> MutexGuard<'static, Option<Output>> {
    FILE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether all has been written.
pub(super) fn drained() -> bool {
    file().as_mut().is_none_or(Output::drained)
}

/// Switches what a pattern fits. A name that does not exist is told of, and no error.
pub fn switch(pattern: &str, on: bool) {
    if let Err(unknown) = switched(pattern, on) {
        log::warn!("{unknown}");
    }
}

fn switched(pattern: &str, on: bool) -> Result<(), String> {
    let mut found = is_pattern(pattern);
    for point in trace::matching(pattern) {
        point.set(on);
        found = true;
    }
    let unknown = || format!("trace event '{pattern}' does not exist");
    found.then_some(()).ok_or_else(unknown)
}

/// The points of a name or a pattern.
///
/// # Errors
/// In QEMU's words, when a name without a star does not exist.
pub fn named(name: &str) -> Result<Vec<&'static TracePoint>, String> {
    match is_pattern(name) {
        true => Ok(trace::matching(name).collect()),
        false => trace::find(name)
            .map(|point| vec![point])
            .ok_or_else(|| format!("unknown event \"{name}\"")),
    }
}

/// Their names, a line each.
pub fn list() -> String {
    let line = |point: &&TracePoint| format!("{}\n", point.name());
    trace::ALL.iter().map(line).collect()
}

/// `-trace [[enable=]PATTERN][,events=FILE][,file=FILE]`.
///
/// # Errors
/// For a parameter that does not exist, and a file that cannot be opened.
pub fn obey(location: &str, text: &str) -> Result<(), String> {
    let switch = |pattern: &str, on| {
        if let Err(unknown) = switched(pattern, on) {
            super::report(&format!("{location}: warning: {unknown}"));
        }
    };
    for (index, part) in text.split(',').filter(|part| !part.is_empty()).enumerate() {
        match part.split_once('=') {
            None if index == 0 => switch(part, true),
            None => return Err(format!("Invalid parameter '{part}'")),
            Some(("enable", pattern)) => switch(pattern, true),
            Some(("events", path)) => read_events(path, switch)?,
            Some(("file", path)) => set_file(path)?,
            Some((other, _)) => return Err(format!("Invalid parameter '{other}'")),
        }
    }
    Ok(())
}

/// A line for each pattern: on, or off with a minus in front; `#` begins a comment.
fn read_events(path: &str, switch: impl Fn(&str, bool)) -> Result<(), String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("{path}: {}", errno_text::errno_text(&error)))?;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.strip_prefix('-') {
            Some(pattern) => switch(pattern, false),
            None => switch(line, true),
        }
    }
    Ok(())
}

fn set_file(path: &str) -> Result<(), String> {
    let made = File::options().create(true).append(true).open(path);
    let made = made.map_err(|error| format!("{path}: {}", errno_text::errno_text(&error)))?;
    *file() = Some(Output::file(made));
    Ok(())
}
