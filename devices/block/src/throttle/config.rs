//! What a group is limited to.

use crate::error::BlockError;

/// Largest value of all limits, as QEMU has it.
const MOST: u64 = 1_000_000_000_000_000;

/// What is limited, in the order of [`Limits::rates`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Bytes, read and written.
    BpsTotal,
    /// Bytes read.
    BpsRead,
    /// Bytes written.
    BpsWrite,
    /// Requests.
    IopsTotal,
    /// Reads.
    IopsRead,
    /// Writes.
    IopsWrite,
}

impl Measure {
    /// All of them.
    pub const ALL: [Measure; 6] = [
        Measure::BpsTotal,
        Measure::BpsRead,
        Measure::BpsWrite,
        Measure::IopsTotal,
        Measure::IopsRead,
        Measure::IopsWrite,
    ];

    /// Its name in options: `iops-total` and so on.
    pub const fn name(self) -> &'static str {
        match self {
            Measure::BpsTotal => "bps-total",
            Measure::BpsRead => "bps-read",
            Measure::BpsWrite => "bps-write",
            Measure::IopsTotal => "iops-total",
            Measure::IopsRead => "iops-read",
            Measure::IopsWrite => "iops-write",
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// Whether requests are counted rather than bytes.
    pub const fn counts_requests(self) -> bool {
        match self {
            Measure::BpsTotal | Measure::BpsRead | Measure::BpsWrite => false,
            Measure::IopsTotal | Measure::IopsRead | Measure::IopsWrite => true,
        }
    }
}

/// One rate. Units are bytes or requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Units per second in the long run; 0 is no limit.
    pub average: u64,
    /// Units per second in a burst; 0 is none but a tenth of a second's worth.
    pub max: u64,
    /// Seconds that a burst may last.
    pub max_length: u64,
}

impl Default for Rate {
    fn default() -> Self {
        Rate {
            average: 0,
            max: 0,
            max_length: 1,
        }
    }
}

/// What a group is limited to; by default nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    rates: [Rate; 6],
    /// A request counts once for each so many bytes; 0 counts each once.
    pub iops_size: u64,
}

impl Limits {
    /// What is said of numbers below zero or above the greatest.
    pub const OUT_OF_RANGE: &str = "bps/iops/max values must be within [0, 1000000000000000]";

    /// All rates, in the order of [`Measure::ALL`].
    pub fn rates(&self) -> &[Rate; 6] {
        &self.rates
    }

    /// One rate.
    pub fn rate(&self, measure: Measure) -> Rate {
        self.rates.get(measure.index()).copied().unwrap_or_default()
    }

    /// Sets one rate.
    pub fn set(&mut self, measure: Measure, rate: Rate) {
        if let Some(place) = self.rates.get_mut(measure.index()) {
            *place = rate;
        }
    }

    /// Whether anything is limited.
    pub fn any(&self) -> bool {
        self.rates.iter().any(|rate| rate.average > 0)
    }

    /// # Errors
    /// In QEMU's words, for limits that make no sense.
    pub fn check(&self) -> Result<(), BlockError> {
        match self.complaint() {
            Some(text) => Err(BlockError::Unsupported(text)),
            None => Ok(()),
        }
    }

    fn complaint(&self) -> Option<String> {
        let [total, read, write] =
            [Measure::BpsTotal, Measure::BpsRead, Measure::BpsWrite].map(|m| self.rate(m));
        let [requests, reads, writes] =
            [Measure::IopsTotal, Measure::IopsRead, Measure::IopsWrite].map(|m| self.rate(m));
        let both = |all: u64, one: u64, other: u64| all > 0 && (one > 0 || other > 0);
        let clash = |(all, one, other): (Rate, Rate, Rate)| {
            both(all.average, one.average, other.average) || both(all.max, one.max, other.max)
        };
        if clash((total, read, write)) || clash((requests, reads, writes)) {
            let text = "bps/iops/max total values and read/write values cannot be used at the \
                        same time";
            return Some(text.to_owned());
        }
        if self.iops_size > 0 && [requests, reads, writes].iter().all(|r| r.average == 0) {
            return Some("iops size requires an iops value to be set".to_owned());
        }
        self.rates.iter().find_map(|rate| rate.complaint())
    }
}

impl Rate {
    fn complaint(self) -> Option<String> {
        let Rate {
            average,
            max,
            max_length,
        } = self;
        if average > MOST || max > MOST {
            return Some(Limits::OUT_OF_RANGE.to_owned());
        }
        let text = if max_length == 0 {
            "the burst length cannot be 0"
        } else if max_length > 1 && max == 0 {
            "burst length set without burst rate"
        } else if max > 0 && MOST.checked_div(max).is_some_and(|most| max_length > most) {
            "burst length too high for this burst rate"
        } else if max > 0 && average == 0 {
            "bps_max/iops_max require corresponding bps/iops values"
        } else if max > 0 && max < average {
            "bps_max/iops_max cannot be lower than bps/iops"
        } else {
            return None;
        };
        Some(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(set: &[(Measure, u64, u64, u64)], iops_size: u64) -> Limits {
        let mut limits = Limits {
            iops_size,
            ..Limits::default()
        };
        for (measure, average, max, max_length) in set {
            let rate = Rate {
                average: *average,
                max: *max,
                max_length: *max_length,
            };
            limits.set(*measure, rate);
        }
        limits
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        use Measure::*;
        let cases: &[(&[_], u64, Option<&str>)] = &[
            (&[], 0, None),
            (&[(BpsTotal, 1, 0, 1), (IopsRead, 1, 2, 3)], 4096, None),
            (&[(BpsRead, 1, 0, 1), (BpsWrite, 1, 0, 1)], 0, None),
            (
                &[(BpsTotal, 1, 0, 1), (BpsWrite, 1, 0, 1)],
                0,
                Some("at the same time"),
            ),
            (
                &[(IopsTotal, 0, 9, 1), (IopsRead, 9, 9, 1)],
                0,
                Some("at the same time"),
            ),
            (&[(BpsTotal, 1, 0, 1)], 512, Some("iops size requires")),
            (&[(BpsTotal, MOST + 1, 0, 1)], 0, Some("within [0, 1000000")),
            (&[(BpsTotal, 1, 1, 0)], 0, Some("cannot be 0")),
            (&[(BpsTotal, 1, 0, 2)], 0, Some("without burst rate")),
            (&[(BpsTotal, 1, MOST / 2, 3)], 0, Some("too high")),
            (&[(BpsTotal, 0, 1, 1)], 0, Some("require corresponding")),
            (&[(BpsTotal, 3, 2, 1)], 0, Some("cannot be lower")),
        ];
        for (set, size, expected) in cases {
            let told = limits(set, *size).check().map_err(|e| e.to_string()).err();
            match (told, expected) {
                (None, None) => {}
                (Some(told), Some(part)) => assert!(told.contains(part), "{told}"),
                (told, _) => panic!("{set:?}: {told:?}"),
            }
        }
    }
}
