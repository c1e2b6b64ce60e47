//! How far a migration is, and how that is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use api_spec::{MigrationInfo, MigrationStats, MigrationStatus, SocketAddress};

use super::settings::Activity;
use crate::migration::host::Counters;
use crate::migration::ram::PAGE;

/// The last migration, or the one under way. Control alone changes it.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Where it is; `None` before the first one.
    pub status: MigrationStatus,
    /// When it began.
    pub started: Option<Instant>,
    /// When it ended, however it did.
    pub ended: Option<Instant>,
    /// When the guest was stopped for it.
    pub stopped: Option<Instant>,
    /// How many bytes had been sent when the guest was stopped.
    pub sent_before_stop: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
    /// What the source counts; a target has none.
    pub counters: Option<Arc<Counters>>,
    /// Where a target listens.
    pub listening: Vec<SocketAddress>,
    /// Why the machine cannot be sent at present.
    pub blockers: Vec<String>,
}

impl Default for Progress {
    fn default() -> Self {
        Progress {
            status: MigrationStatus::None,
            started: None,
            ended: None,
            stopped: None,
            sent_before_stop: None,
            error: None,
            counters: None,
            listening: Vec::new(),
            blockers: Vec::new(),
        }
    }
}

impl Progress {
    /// A machine begins to be sent. Until something was measured it is expected to stand still
    /// for as long as it may: `limit` milliseconds.
    pub fn outgoing(counters: Arc<Counters>, limit: u64, now: Instant) -> Self {
        counters.expected_downtime.store(limit, Ordering::Relaxed);
        Progress {
            status: MigrationStatus::Setup,
            started: Some(now),
            counters: Some(counters),
            ..Progress::default()
        }
    }

    /// A machine is awaited, at these addresses where it listens.
    pub fn incoming(listening: Vec<SocketAddress>, now: Instant) -> Self {
        Progress {
            status: MigrationStatus::Setup,
            started: Some(now),
            listening,
            ..Progress::default()
        }
    }

    /// Whether it has begun and not ended: then there cannot be another one.
    pub const fn is_running(&self) -> bool {
        use MigrationStatus as S;
        match self.status {
            S::None | S::Cancelled | S::Completed | S::Failed => false,
            S::Setup
            | S::Cancelling
            | S::Active
            | S::PostcopyActive
            | S::PostcopyPaused
            | S::PostcopyRecoverSetup
            | S::PostcopyRecover
            | S::Colo
            | S::PreSwitchover
            | S::Device
            | S::WaitUnplug => true,
        }
    }

    /// Whether it goes on, and which way.
    pub const fn activity(&self) -> Activity {
        match (self.is_running(), &self.counters) {
            (false, _) => Activity::Idle,
            (true, Some(_)) => Activity::Sending,
            (true, None) => Activity::Receiving,
        }
    }

    /// It got somewhere. Whether that is news, so that an event tells of it.
    pub fn reach(&mut self, status: MigrationStatus, now: Instant) -> bool {
        let news = self.status != status;
        self.status = status;
        if !self.is_running() {
            self.ended.get_or_insert(now);
        }
        news
    }

    /// It failed. Whether that is news.
    pub fn fail(&mut self, reason: impl Into<String>, now: Instant) -> bool {
        self.error.get_or_insert(reason.into());
        self.reach(MigrationStatus::Failed, now)
    }

    /// The guest was stopped for it.
    pub fn guest_stopped(&mut self, now: Instant) {
        self.stopped.get_or_insert(now);
        let sent = self.counters.as_ref().map(|c| get(&c.transferred));
        self.sent_before_stop = self.sent_before_stop.or(sent);
    }

    /// How long the guest stood still, once it is over.
    pub fn downtime(&self) -> Option<Duration> {
        let (stopped, ended) = (self.stopped?, self.ended?);
        Some(ended.saturating_duration_since(stopped))
    }
}

/// query-migrate.
pub fn info(progress: &Progress, now: Instant) -> MigrationInfo {
    use MigrationStatus as S;
    let mut info = MigrationInfo {
        blocked_reasons: some_of(&progress.blockers),
        error_desc: progress.error.clone(),
        ..MigrationInfo::default()
    };
    if progress.status == S::None {
        return info;
    }
    info.status = Some(progress.status);
    info.socket_address = some_of(&progress.listening);
    let (Some(counters), Some(started)) = (&progress.counters, progress.started) else {
        return info;
    };
    match progress.status {
        S::None | S::Setup | S::Cancelled | S::Failed => return info,
        S::Completed => info.downtime = progress.downtime().map(milliseconds),
        _ => {
            info.expected_downtime = Some(int(get(&counters.expected_downtime)));
            let throttle = get(&counters.throttle);
            info.cpu_throttle_percentage = (throttle > 0).then(|| int(throttle));
        }
    }
    let until = progress.ended.unwrap_or(now);
    info.total_time = Some(milliseconds(until.saturating_duration_since(started)));
    info.setup_time = Some(int(get(&counters.setup_us) / 1000));
    info.ram = Some(stats(counters, progress.sent_before_stop));
    info
}

fn stats(counters: &Counters, sent_before_stop: Option<u64>) -> MigrationStats {
    let transferred = get(&counters.transferred);
    let precopy = sent_before_stop.map_or(transferred, |sent| sent.min(transferred));
    let normal = get(&counters.normal_pages);
    MigrationStats {
        transferred: int(transferred),
        remaining: int(get(&counters.remaining)),
        total: int(get(&counters.total)),
        duplicate: int(get(&counters.zero_pages)),
        normal: int(normal),
        normal_bytes: int(normal.saturating_mul(PAGE)),
        dirty_pages_rate: int(get(&counters.dirty_pages_rate)),
        mbps: megabits(get(&counters.bits_per_second)),
        dirty_sync_count: int(get(&counters.passes)),
        postcopy_requests: 0,
        page_size: int(PAGE),
        multifd_bytes: get(&counters.multifd_bytes),
        pages_per_second: get(&counters.pages_per_second),
        precopy_bytes: precopy,
        downtime_bytes: transferred.saturating_sub(precopy),
        postcopy_bytes: 0,
        dirty_sync_missed_zero_copy: 0,
    }
}

/// Bits in a second as megabits, exact to the kilobit.
fn megabits(bits: u64) -> f64 {
    f64::from(u32::try_from(bits / 1000).unwrap_or(u32::MAX)) / 1000.0
}

fn some_of<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "query_test.rs"]
mod tests;
