//! Leaky buckets. Requests pour units in; time lets them leak out at the rate that is allowed;
//! while a bucket is too full, requests wait. Pure: time comes in as an argument.
//!
//! A bucket holds what a burst may bring: the burst's rate for its length, or a tenth of a
//! second's worth of the average where there is no burst. A burst of more than a second has a
//! second bucket that leaks at the burst's rate and holds a tenth of a second of it, so that the
//! whole burst cannot be spent at once.

use std::time::Duration;

use super::config::{Limits, Measure, Rate};

/// Reads and writes are limited apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

impl Direction {
    pub const BOTH: [Direction; 2] = [Direction::Read, Direction::Write];

    pub const fn index(self) -> usize {
        self as usize
    }

    fn measures(self) -> [Measure; 4] {
        match self {
            Direction::Read => [
                Measure::BpsTotal,
                Measure::BpsRead,
                Measure::IopsTotal,
                Measure::IopsRead,
            ],
            Direction::Write => [
                Measure::BpsTotal,
                Measure::BpsWrite,
                Measure::IopsTotal,
                Measure::IopsWrite,
            ],
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Level {
    /// Units that have not leaked out at the average rate.
    average: f64,
    /// The same at the burst's rate.
    burst: f64,
}

/// The buckets of a group.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    limits: Limits,
    levels: [Level; 6],
    /// Time up to which they have leaked.
    leaked: Duration,
}

impl Buckets {
    /// Empty ones at `now`, which is since any fixed moment.
    pub fn new(limits: Limits, now: Duration) -> Self {
        Buckets {
            limits,
            levels: Default::default(),
            leaked: now,
        }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How long the next request of that direction has to wait at `now`; zero when it may go.
    pub fn wait(&mut self, direction: Direction, now: Duration) -> Duration {
        self.leak(now);
        let waits = direction.measures().map(|measure| {
            let level = self.levels.get(measure.index()).copied();
            seconds_to_wait(self.limits.rate(measure), level.unwrap_or_default())
        });
        let longest = waits.into_iter().fold(0.0, f64::max);
        // Not an instant too early: what is rounded down would have to be waited for again.
        let nanoseconds = (longest * 1e9).ceil();
        Duration::from_nanos(nanoseconds as u64)
    }

    /// Pours a request of `len` bytes in.
    pub fn account(&mut self, direction: Direction, len: u64) {
        let requests = match self.limits.iops_size {
            0 => 1.0,
            size => (len as f64 / size as f64).max(1.0),
        };
        for measure in direction.measures() {
            let units = match measure.counts_requests() {
                true => requests,
                false => len as f64,
            };
            if let Some(level) = self.levels.get_mut(measure.index()) {
                level.average += units;
                level.burst += units;
            }
        }
    }

    fn leak(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.leaked).as_secs_f64();
        self.leaked = self.leaked.max(now);
        for (level, rate) in self.levels.iter_mut().zip(self.limits.rates()) {
            level.average = (level.average - rate.average as f64 * seconds).max(0.0);
            level.burst = (level.burst - rate.max as f64 * seconds).max(0.0);
        }
    }
}

/// Seconds until enough has leaked out.
fn seconds_to_wait(rate: Rate, level: Level) -> f64 {
    const SHORT: f64 = 0.1;
    let average = rate.average as f64;
    if rate.average == 0 {
        return 0.0;
    }
    let max = rate.max as f64;
    let room = match rate.max {
        0 => average * SHORT,
        _ => max * rate.max_length as f64,
    };
    let wait = ((level.average - room) / average).max(0.0);
    if rate.max == 0 || rate.max_length == 1 {
        return wait;
    }
    wait.max((level.burst - max * SHORT) / max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Sends as much as may pass from `from` to `to`, in requests of `len` bytes; how many did.
    fn saturate(
        buckets: &mut Buckets,
        direction: Direction,
        len: u64,
        (from, to): (Duration, Duration),
    ) -> u64 {
        let (mut now, mut count) = (from, 0);
        loop {
            now += buckets.wait(direction, now);
            if now >= to {
                return count;
            }
            buckets.account(direction, len);
            count += 1;
        }
    }

    fn limited(measure: Measure, average: u64, max: u64, max_length: u64) -> Buckets {
        let mut limits = Limits::default();
        let rate = Rate {
            average,
            max,
            max_length,
        };
        limits.set(measure, rate);
        limits.check().unwrap();
        Buckets::new(limits, Duration::ZERO)
    }

    fn near(got: u64, expected: f64) {
        let off = (got as f64 - expected).abs() / expected;
        assert!(off < 0.01, "{got} rather than {expected}");
    }

    #[test]
    fn rates_hold_in_the_long_run() {
        let minute = (SECOND, 61 * SECOND);
        for (measure, direction, average, len, expected) in [
            (Measure::IopsTotal, Direction::Read, 100, 4096, 6000.0),
            (Measure::IopsTotal, Direction::Write, 1000, 1 << 20, 60000.0),
            (Measure::IopsRead, Direction::Read, 50, 512, 3000.0),
            (Measure::BpsTotal, Direction::Write, 1 << 20, 4096, 15360.0),
            (Measure::BpsWrite, Direction::Write, 1 << 24, 65536, 15360.0),
        ] {
            let mut buckets = limited(measure, average, 0, 1);
            near(saturate(&mut buckets, direction, len, minute), expected);
        }
    }

    #[test]
    fn the_other_direction_is_not_limited() {
        let mut buckets = limited(Measure::IopsRead, 1, 0, 1);
        for _ in 0..1000 {
            buckets.account(Direction::Read, 512);
            buckets.account(Direction::Write, 512);
        }
        assert!(buckets.wait(Direction::Write, Duration::ZERO).is_zero());
        assert!(buckets.wait(Direction::Read, Duration::ZERO) > 900 * SECOND);
    }

    #[test]
    fn a_burst_of_a_second_may_come_at_once() {
        let mut buckets = limited(Measure::IopsTotal, 100, 1000, 1);
        let now = (SECOND, SECOND + Duration::from_millis(1));
        let at_once = saturate(&mut buckets, Direction::Read, 512, now);
        near(at_once, 1001.0);
        let later = (now.1, now.1 + 10 * SECOND);
        near(saturate(&mut buckets, Direction::Read, 512, later), 1000.0);
    }

    #[test]
    fn a_long_burst_keeps_its_own_rate() {
        let mut buckets = limited(Measure::IopsTotal, 100, 1000, 10);
        let burst = (SECOND, 6 * SECOND);
        // Five seconds at the burst's rate, and its tenth of a second at once.
        near(saturate(&mut buckets, Direction::Read, 512, burst), 5100.0);
        // It may bring 10000 in all; then the average is left.
        let rest = (6 * SECOND, 60 * SECOND);
        let all = 5100.0 + saturate(&mut buckets, Direction::Read, 512, rest) as f64;
        assert!((all - (10_000.0 + 59.0 * 100.0)).abs() < 150.0, "{all}");
    }

    #[test]
    fn large_requests_count_more_than_once() {
        let mut buckets = limited(Measure::IopsTotal, 100, 0, 1);
        buckets.limits.iops_size = 4096;
        let time = (SECOND, 101 * SECOND);
        near(
            saturate(&mut buckets, Direction::Read, 16384, time),
            100.0 * 100.0 / 4.0,
        );
        let time = (101 * SECOND, 201 * SECOND);
        near(saturate(&mut buckets, Direction::Read, 512, time), 10_000.0);
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_does_no_harm() {
        let mut buckets = limited(Measure::IopsTotal, 10, 0, 1);
        (0..11).for_each(|_| buckets.account(Direction::Read, 0));
        let wait = buckets.wait(Direction::Read, 5 * SECOND);
        assert!(wait.is_zero());
        (0..11).for_each(|_| buckets.account(Direction::Read, 0));
        let wait = buckets.wait(Direction::Read, SECOND);
        assert_eq!(wait, buckets.wait(Direction::Read, SECOND));
        assert_eq!(wait, SECOND);
    }

    proptest::proptest! {
        /// Whatever is asked when: no more passes than the rate allows, and who waits as long as
        /// he is told may go then.
        #[test]
        fn never_more_than_allowed(
            average in 1u64..100_000,
            factor in 0u64..20,
            max_length in 1u64..5,
            requests in proptest::collection::vec((0u64..300, 1u64..5000), 1..200),
        ) {
            let max = average * factor;
            let max_length = if max == 0 { 1 } else { max_length };
            let mut buckets = limited(Measure::BpsTotal, average, max, max_length);
            let (mut now, mut sent, mut largest) = (Duration::ZERO, 0, 0);
            for (pause, len) in requests {
                now += Duration::from_millis(pause);
                let wait = buckets.wait(Direction::Write, now);
                now += wait;
                let again = buckets.wait(Direction::Write, now);
                proptest::prop_assert!(again <= Duration::from_nanos(2), "{again:?}");
                buckets.account(Direction::Write, len);
                sent += len;
                largest = largest.max(len);
                let room = match max {
                    0 => average as f64 / 10.0,
                    max => (max * max_length) as f64,
                };
                let allowed = average as f64 * now.as_secs_f64() + room + largest as f64;
                proptest::prop_assert!(sent as f64 <= allowed * 1.000_001 + 1.0);
            }
        }

        /// A group with work all the time gets what its limit says.
        #[test]
        fn never_less_than_allowed(average in 10u64..1_000_000, len in 1u64..100_000) {
            let mut buckets = limited(Measure::BpsTotal, average, 0, 1);
            let (mut now, mut sent) = (Duration::ZERO, 0);
            for _ in 0..300 {
                now += buckets.wait(Direction::Read, now);
                buckets.account(Direction::Read, len);
                sent += len;
            }
            let expected = average as f64 * now.as_secs_f64();
            proptest::prop_assert!(sent as f64 >= expected * 0.999_999);
        }
    }
}
