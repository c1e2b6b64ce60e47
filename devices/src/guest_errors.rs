//! What guests do wrong: counted always, by device and kind, and logged at a bounded rate. It is
//! never an error for anybody but the guest, which gets what its specification says.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The driver broke the rules of virtqueues; the device waits for a reset.
    NeedsReset,
    /// A request makes no sense.
    BadRequest,
    /// A register was used in a way that it cannot be.
    BadRegister,
}

impl Kind {
    /// As clients see it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::NeedsReset => "needs-reset",
            Kind::BadRequest => "bad-request",
            Kind::BadRegister => "bad-register",
        }
    }

    /// Whether it is logged without being asked for: a device stands still.
    const fn is_loud(self) -> bool {
        matches!(self, Kind::NeedsReset)
    }
}

/// How often something was wrong with a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The device's id, or its driver's name; `*` for all those beyond the first thousand.
    pub device: String,
    /// What was wrong.
    pub kind: Kind,
    /// How often, since the start of the program.
    pub count: u64,
    /// What was said of the last one that was logged or could have been.
    pub last: String,
}

/// Counters in all. Devices can come and go for ever, and each may have its own.
const MOST: usize = 1024;
/// Messages of one counter in one [`SPAN`].
const BURST: u32 = 5;
const SPAN: Duration = Duration::from_secs(10);
/// Bytes of a message; some of it is the guest's.
const LONGEST: usize = 256;

#[derive(Debug)]
struct Counter {
    count: u64,
    last: String,
    since: Instant,
    /// In this span.
    told: u32,
    /// Since the last message.
    untold: u64,
}

type Counters = BTreeMap<Kind, BTreeMap<String, Counter>>;

/// A leaf: nothing else is locked while it is held.
static COUNTERS: Mutex<Counters> = Mutex::new(BTreeMap::new());
static WANTED: AtomicBool = AtomicBool::new(false);

/// `-d guest_errors`: log the quiet kinds too.
pub fn set_logged(on: bool) {
    WANTED.store(on, Ordering::Relaxed);
}

/// Counts one, and logs it if that is due.
pub fn count(device: &str, kind: Kind, what: fmt::Arguments<'_>) {
    trace::point!(
        GUEST_ERROR,
        device = device,
        kind = kind.name(),
        what = what
    );
    let mut counters = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    let told = note(&mut counters, device, kind, what, Instant::now());
    drop(counters);
    let Some(untold) = told else { return };
    if !kind.is_loud() && !WANTED.load(Ordering::Relaxed) {
        return;
    }
    let more = match untold {
        0 => String::new(),
        untold => format!(" ({untold} more were not logged)"),
    };
    match kind {
        Kind::NeedsReset => {
            log::warn!("Device '{device}' needs a reset by its driver: {what}{more}");
        }
        Kind::BadRequest | Kind::BadRegister => {
            log::warn!(
                "Guest error of device '{device}' ({}): {what}{more}",
                kind.name()
            );
        }
    }
}

/// Counts it; when it is to be logged, how many were not since the last that was.
fn note(
    counters: &mut Counters,
    device: &str,
    kind: Kind,
    what: fmt::Arguments<'_>,
    now: Instant,
) -> Option<u64> {
    let known: usize = counters.values().map(BTreeMap::len).sum();
    let of_kind = counters.entry(kind).or_default();
    let device = match known < MOST || of_kind.contains_key(device) {
        true => device,
        false => "*",
    };
    if !of_kind.contains_key(device) {
        let fresh = Counter {
            count: 0,
            last: String::new(),
            since: now,
            told: 0,
            untold: 0,
        };
        of_kind.insert(device.to_owned(), fresh);
    }
    let counter = of_kind.get_mut(device)?;
    counter.count = counter.count.saturating_add(1);
    if now.saturating_duration_since(counter.since) >= SPAN {
        counter.since = now;
        counter.told = 0;
    }
    if counter.told >= BURST {
        counter.untold = counter.untold.saturating_add(1);
        return None;
    }
    counter.told += 1;
    counter.last = what.to_string();
    let mut end = counter.last.len().min(LONGEST);
    while !counter.last.is_char_boundary(end) {
        end -= 1;
    }
    counter.last.truncate(end);
    Some(std::mem::take(&mut counter.untold))
}

/// All counters, by device and kind.
pub fn list() -> Vec<Count> {
    let counters = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all: Vec<_> = counters
        .iter()
        .flat_map(|(kind, devices)| devices.iter().map(move |(id, c)| (*kind, id, c)))
        .map(|(kind, device, counter)| Count {
            device: device.clone(),
            kind,
            count: counter.count,
            last: counter.last.clone(),
        })
        .collect();
    all.sort_by(|a, b| (&a.device, a.kind).cmp(&(&b.device, b.kind)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_few_logged() {
        let mut counters = Counters::new();
        let start = Instant::now();
        let mut hit = |after| {
            let what = format_args!("x");
            note(&mut counters, "d", Kind::BadRequest, what, start + after)
        };
        let first: Vec<_> = (0..100).map(|_| hit(Duration::ZERO)).collect();
        assert_eq!(first.iter().flatten().count(), 5);
        assert_eq!(hit(SPAN), Some(95));
        assert_eq!(hit(SPAN), Some(0));
        let of_kind = &counters[&Kind::BadRequest];
        assert_eq!(of_kind["d"].count, 102);
    }

    #[test]
    fn many_devices_do_not_grow_it_for_ever() {
        let mut counters = Counters::new();
        let now = Instant::now();
        for index in 0..3 * MOST {
            let what = format_args!("{}", "ä".repeat(1000));
            note(
                &mut counters,
                &format!("d{index}"),
                Kind::NeedsReset,
                what,
                now,
            );
        }
        let of_kind = &counters[&Kind::NeedsReset];
        assert_eq!(of_kind.len(), MOST + 1);
        assert_eq!(of_kind["*"].count, (2 * MOST) as u64);
        assert!(of_kind.values().all(|c| c.last.len() <= LONGEST));
    }
}
