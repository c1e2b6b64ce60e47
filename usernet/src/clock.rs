//! The time that the network lives in. It stands still while the guest does, so that connections
//! outlive a stop of any length: nothing is sent again to a guest that cannot answer.
//!
//! The child is not told of stops. It sees that frames it sent lie untaken in the socket: after
//! [`PATIENCE`] without progress the clock stops, and it goes on with the first frame taken.

use std::time::{Duration, Instant};

/// A guest that runs takes its frames sooner.
const PATIENCE: Duration = Duration::from_millis(1000);
/// How soon a stopped clock is looked at again.
const LOOK_AGAIN_MS: u32 = 100;

/// What can be seen of the guest, since the last time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Bytes that lie in the socket, with the kernel's own.
    pub untaken: usize,
    /// Bytes that were put there.
    pub sent: usize,
    /// It sent something itself.
    pub heard: bool,
}

/// See the module.
pub struct GuestClock {
    origin: Instant,
    /// Time that did not count so far.
    stood: Duration,
    /// Since when it stands.
    standing: Option<Instant>,
    /// Bytes that lay untaken, and since when none of them was taken.
    untaken: Option<(usize, Instant)>,
}

impl Default for GuestClock {
    fn default() -> Self {
        GuestClock {
            origin: Instant::now(),
            stood: Duration::ZERO,
            standing: None,
            untaken: None,
        }
    }
}

impl GuestClock {
    /// Nanoseconds, from one on: to the library 0 is no time.
    pub fn now_ns(&self) -> i64 {
        self.at(self.standing.unwrap_or_else(Instant::now))
    }

    fn at(&self, instant: Instant) -> i64 {
        let run = instant
            .saturating_duration_since(self.origin)
            .saturating_sub(self.stood);
        i64::try_from(run.as_nanos())
            .unwrap_or(i64::MAX)
            .saturating_add(1_000_000_000)
    }

    /// Told how the guest does. Milliseconds until it wants to be told again.
    pub fn observe(&mut self, seen: Seen) -> Option<u32> {
        self.observe_at(seen, Instant::now())
    }

    fn observe_at(&mut self, seen: Seen, now: Instant) -> Option<u32> {
        let Seen {
            untaken,
            sent,
            heard,
        } = seen;
        let progress = heard
            || untaken == 0
            || self
                .untaken
                .is_none_or(|(before, _)| untaken < before.saturating_add(sent));
        if progress {
            self.untaken = (untaken > 0).then_some((untaken, now));
            if let Some(since) = self.standing.take() {
                self.stood = self
                    .stood
                    .saturating_add(now.saturating_duration_since(since));
            }
        } else if let Some((before, since)) = &mut self.untaken {
            *before = untaken;
            if self.standing.is_none() && now.saturating_duration_since(*since) >= PATIENCE {
                self.standing = Some(now);
            }
        }
        (untaken > 0).then_some(LOOK_AGAIN_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(untaken: usize, sent: usize) -> Seen {
        Seen {
            untaken,
            sent,
            heard: false,
        }
    }

    #[test]
    fn the_clock_stands_while_the_guest_takes_nothing() {
        let mut clock = GuestClock::default();
        let start = clock.origin;
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(clock.observe_at(seen(0, 0), at(0)), None);
        assert_eq!(clock.observe_at(seen(100, 50), at(10)), Some(LOOK_AGAIN_MS));
        assert_eq!(
            clock.observe_at(seen(200, 50), at(500)),
            Some(LOOK_AGAIN_MS)
        );
        assert!(clock.standing.is_none());
        clock.observe_at(seen(200, 0), at(1010));
        assert_eq!(clock.standing, Some(at(1010)));
        let stopped = clock.now_ns();
        clock.observe_at(seen(200, 0), at(60_000));
        assert_eq!(clock.now_ns(), stopped);
        // One frame is taken: time goes on where it stood.
        clock.observe_at(seen(50, 0), at(61_010));
        assert_eq!(clock.stood, Duration::from_millis(60_000));
        assert_eq!(clock.at(at(61_010)), stopped);
        assert_eq!(clock.observe_at(seen(0, 0), at(61_020)), None);
    }

    #[test]
    fn a_guest_that_takes_frames_or_sends_some_keeps_it_going() {
        let mut clock = GuestClock::default();
        let start = clock.origin;
        for step in 0..100u64 {
            // As much lies there as before, but more was sent meanwhile.
            clock.observe_at(seen(1000, 100), start + Duration::from_millis(step * 900));
            assert!(clock.standing.is_none(), "{step}");
        }
        for step in 100..200u64 {
            let heard = Seen {
                untaken: 5000,
                sent: 0,
                heard: true,
            };
            clock.observe_at(heard, start + Duration::from_millis(step * 900));
            assert!(clock.standing.is_none(), "{step}");
        }
    }
}
