//! Counters of what was done, for query-blockstats.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::histogram::{Histogram, HistogramSlot};
use crate::notice::Reporter;
use crate::request::{IoReq, Op};
use crate::threshold::Threshold;

/// Kinds of requests that are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// Reads.
    Read,
    /// Writes, and zeroes written without data.
    Write,
    /// Flushes.
    Flush,
    /// Discards.
    Unmap,
}

/// Counters of one kind at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of requests that succeeded.
    pub bytes: u64,
    /// Requests that succeeded.
    pub operations: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that made no sense and were not tried.
    pub invalid: u64,
    /// Nanoseconds from their start to their end, together.
    pub total_time_ns: u64,
}

#[derive(Debug, Default)]
struct Counters {
    bytes: AtomicU64,
    operations: AtomicU64,
    failed: AtomicU64,
    invalid: AtomicU64,
    total_time_ns: AtomicU64,
    histogram: HistogramSlot,
}

/// Counters, and what is watched for; any thread.
#[derive(Debug, Default)]
pub struct Stats {
    read: Counters,
    write: Counters,
    flush: Counters,
    unmap: Counters,
    wr_highest_offset: AtomicU64,
    /// Nanoseconds after [`epoch`], plus one; 0 is never.
    last_access: AtomicU64,
    threshold: Threshold,
    zone_append: HistogramSlot,
}

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Stats {
    fn of(&self, account: Account) -> &Counters {
        match account {
            Account::Read => &self.read,
            Account::Write => &self.write,
            Account::Flush => &self.flush,
            Account::Unmap => &self.unmap,
        }
    }

    /// Counts the end of a request.
    pub fn ended(&self, account: Account, bytes: u64, started: Instant, failed: bool) {
        let counters = self.of(account);
        let now = Instant::now();
        if failed {
            counters.failed.fetch_add(1, Ordering::Relaxed);
        } else {
            counters.bytes.fetch_add(bytes, Ordering::Relaxed);
            counters.operations.fetch_add(1, Ordering::Relaxed);
        }
        let time = nanoseconds(now.saturating_duration_since(started));
        counters.total_time_ns.fetch_add(time, Ordering::Relaxed);
        counters.histogram.count(time);
        self.touch(now);
    }

    /// Counts a request that made no sense.
    pub fn invalid(&self, account: Account) {
        self.of(account).invalid.fetch_add(1, Ordering::Relaxed);
        self.touch(Instant::now());
    }

    /// Takes note of the end of a write.
    pub fn wrote_to(&self, end: u64) {
        self.wr_highest_offset.fetch_max(end, Ordering::Relaxed);
    }

    /// Counts the end of a request on a node.
    pub(crate) fn request_ended(&self, request: &IoReq, result: &io::Result<()>) {
        self.op_ended(request.op, request.range(), request.started, result);
    }

    /// The same for one that is no request of a lane.
    pub(crate) fn op_ended(
        &self,
        op: Op,
        range: Option<(u64, u64)>,
        started: Instant,
        result: &io::Result<()>,
    ) {
        let (offset, len) = range.unwrap_or((0, 0));
        let account = match op {
            Op::Read { .. } => Account::Read,
            Op::Write { .. } | Op::WriteZeroes { .. } => Account::Write,
            Op::Flush => Account::Flush,
            Op::Discard { .. } => Account::Unmap,
        };
        self.ended(account, len, started, result.is_err());
        if account == Account::Write && result.is_ok() {
            self.wrote_to(offset.saturating_add(len));
        }
    }

    /// Counts requests of a kind by how long they take from now on, between these nanoseconds, or
    /// not any more. False when they do not ascend from above 0.
    pub fn set_histogram(&self, account: Account, boundaries: Option<&[u64]>) -> bool {
        self.of(account).histogram.set(boundaries)
    }

    /// The histogram of a kind, where there is one.
    pub fn histogram(&self, account: Account) -> Option<Histogram> {
        self.of(account).histogram.get()
    }

    /// The same for appends to zones, which no device here has: its bins stay empty.
    pub fn set_zone_append_histogram(&self, boundaries: Option<&[u64]>) -> bool {
        self.zone_append.set(boundaries)
    }

    /// The histogram of appends to zones, where there is one.
    pub fn zone_append_histogram(&self) -> Option<Histogram> {
        self.zone_append.get()
    }

    /// The offset behind which the next write is told of; 0 where none is.
    pub fn write_threshold(&self) -> u64 {
        self.threshold.get()
    }

    pub(crate) fn set_write_threshold(&self, offset: u64, told: Reporter) {
        self.threshold.set(offset, told);
    }

    /// A write is about to end at `end`.
    pub(crate) fn about_to_write(&self, end: u64) {
        self.threshold.look(end);
    }

    fn touch(&self, now: Instant) {
        let at = nanoseconds(now.saturating_duration_since(epoch())).saturating_add(1);
        self.last_access.store(at, Ordering::Relaxed);
    }

    /// The counters of one kind.
    pub fn counts(&self, account: Account) -> Counts {
        let counters = self.of(account);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            bytes: load(&counters.bytes),
            operations: load(&counters.operations),
            failed: load(&counters.failed),
            invalid: load(&counters.invalid),
            total_time_ns: load(&counters.total_time_ns),
        }
    }

    /// The end of the write that reached furthest.
    pub fn highest_offset(&self) -> u64 {
        self.wr_highest_offset.load(Ordering::Relaxed)
    }

    /// Nanoseconds since the last request ended; `None` before the first.
    pub fn idle_ns(&self) -> Option<u64> {
        let last = self.last_access.load(Ordering::Relaxed).checked_sub(1)?;
        Some(nanoseconds(epoch().elapsed()).saturating_sub(last))
    }
}
