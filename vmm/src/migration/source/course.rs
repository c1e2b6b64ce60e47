//! Passes over RAM: when there is one more, when processors are held back, when the machine is
//! stopped.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::carrier::Carrier;
use super::lane::{Job, Shared};
use super::{Parts, get};
use crate::migration::host::{Broken, Counters, Stopped, Tunables};
use crate::migration::link::failure;
use crate::migration::load::empty_sets;
use crate::migration::ram::{PAGE, PageSet};

/// A pass takes at least so many milliseconds: a guest that writes always has something to send,
/// and asking what costs it time.
const SHORTEST_PASS: u64 = 10;
/// How often rates are told.
const TELL: Duration = Duration::from_millis(200);

/// What a pass was like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pass {
    /// Bytes that went out.
    pub sent: u64,
    /// Seconds it took.
    pub seconds: f64,
    /// Bytes of the pages that were written meanwhile.
    pub dirty: u64,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// One more pass, with processors held back by so many percent.
    Again(u8),
    /// The rest is little enough.
    Stop,
}

/// Decides after each pass. Pure.
#[derive(Debug, Default)]
pub struct Course {
    throttle: u8,
    too_fast: u32,
}

impl Course {
    /// A pass is over.
    pub fn after(&mut self, pass: &Pass, tunables: &Tunables, auto_converge: bool) -> Next {
        let limit = get(&tunables.downtime_limit);
        if pass.dirty == 0 || pass.downtime(tunables) <= limit {
            return Next::Stop;
        }
        if auto_converge {
            self.hold_back(pass, tunables);
        }
        Next::Again(self.throttle)
    }

    fn hold_back(&mut self, pass: &Pass, tunables: &Tunables) {
        let most_dirty = pass.sent as f64 * get(&tunables.throttle_trigger) as f64 / 100.0;
        if (pass.dirty as f64) <= most_dirty {
            return;
        }
        // Once may be chance.
        self.too_fast = self.too_fast.saturating_add(1);
        if self.too_fast < 2 {
            return;
        }
        self.too_fast = 0;
        let next = match self.throttle {
            0 => get(&tunables.throttle_initial),
            now => {
                u64::from(now).saturating_add(self.step(pass.dirty as f64 / most_dirty, tunables))
            }
        };
        let next = next.min(get(&tunables.throttle_max)).min(99);
        self.throttle = u8::try_from(next).unwrap_or(99).max(self.throttle);
    }

    /// Percent to add, for a guest that writes so many times too much. With tailslow no more than
    /// brings it down to what is wanted.
    fn step(&self, excess: f64, tunables: &Tunables) -> u64 {
        let increment = get(&tunables.throttle_increment);
        if !tunables.throttle_tailslow.load(Ordering::Relaxed) {
            return increment;
        }
        let runs = f64::from(100u8.saturating_sub(self.throttle));
        let enough = (runs - runs / excess.max(1.0)).ceil();
        increment.min(enough as u64)
    }
}

impl Pass {
    /// Bytes in a second.
    pub fn bandwidth(&self) -> f64 {
        self.sent as f64 / self.seconds.max(1e-6)
    }

    /// Milliseconds for what is left, at this pass's rate where no other one is given.
    pub fn downtime(&self, tunables: &Tunables) -> u64 {
        if self.dirty == 0 {
            return 0;
        }
        let bandwidth = match get(&tunables.switchover_bandwidth) {
            0 => self.bandwidth().max(1.0),
            given => given as f64,
        };
        (self.dirty as f64 * 1000.0 / bandwidth).ceil() as u64
    }
}

/// Sends all of RAM, pass after pass, until the machine stands still and nothing is left.
pub fn run(carrier: &mut dyn Carrier, parts: &mut Parts) -> Result<Stopped, Broken> {
    let result = guarded(carrier, parts);
    if get(&parts.shared.counters.throttle) != 0 {
        throttle(parts, 0);
    }
    if let Err(broken) = &result {
        // Before lanes are taken down: this is the reason, not that they were.
        parts.shared.fate.fail(broken);
    }
    result
}

fn guarded(carrier: &mut dyn Carrier, parts: &mut Parts) -> Result<Stopped, Broken> {
    parts
        .log
        .start()
        .map_err(|error| failure("Cannot log which pages are written", &error))?;
    let setup = parts.begun.elapsed().as_micros();
    let setup = u64::try_from(setup).unwrap_or(u64::MAX);
    let counters = parts.shared.counters.clone();
    counters.setup_us.store(setup, Ordering::Relaxed);
    parts.sets = everything(&parts.shared);
    let mut course = Course::default();
    let mut number = 1;
    loop {
        let begun = Instant::now();
        let before = get(&counters.transferred);
        pass(carrier, parts, number)?;
        carrier.end_pass(number)?;
        carrier.caught_up(number)?;
        let sent = get(&counters.transferred).saturating_sub(before);
        let elapsed = begun.elapsed();
        collect(parts)?;
        let pass = Pass {
            sent,
            seconds: elapsed.as_secs_f64(),
            dirty: left(&parts.sets),
        };
        let downtime = pass.downtime(&parts.shared.tunables);
        counters
            .expected_downtime
            .store(downtime, Ordering::Relaxed);
        tell(&counters, &pass, begun.elapsed());
        number = number.saturating_add(1);
        let auto = parts.options.auto_converge;
        match course.after(&pass, &parts.shared.tunables, auto) {
            Next::Stop => break,
            Next::Again(percent) => {
                if u64::from(percent) != get(&counters.throttle) {
                    throttle(parts, percent);
                }
                let took = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
                let rest = SHORTEST_PASS.saturating_sub(took);
                parts.shared.fate.sleep(i32::try_from(rest).unwrap_or(0))?;
            }
        }
    }
    parts.shared.fate.check()?;
    parts.shared.pace.release();
    let stopped = parts.host.stop()?;
    parts.shared.fate.check()?;
    collect(parts)?;
    pass(carrier, parts, number)?;
    carrier.end_last_pass(number)?;
    Ok(stopped)
}

/// Sends the pages of the sets, which are empty then.
fn pass(carrier: &mut dyn Carrier, parts: &mut Parts, number: u32) -> Result<(), Broken> {
    let counters = parts.shared.counters.clone();
    let sets = &mut parts.sets;
    counters.remaining.store(left(sets), Ordering::Relaxed);
    counters.passes.store(u64::from(number), Ordering::Relaxed);
    parts.host.pass(u64::from(number));
    let mut rate = Rate::new(&counters);
    for (block, set) in sets.iter_mut().enumerate() {
        let mut from = 0;
        while let Some(job) = next_job(block, set, &mut from, carrier.job_pages()) {
            carrier.carry(job)?;
            rate.tell(&counters);
        }
    }
    Ok(())
}

/// Takes pages out of a set, at most so many, from page `from` on.
fn next_job(block: usize, set: &mut PageSet, from: &mut u64, most: u64) -> Option<Job> {
    let mut job = Job {
        block,
        ranges: Vec::new(),
    };
    let mut room = most;
    while room > 0
        && let Some((first, count)) = set.take_run(*from, room)
    {
        job.ranges.push((first, u32::try_from(count).unwrap_or(0)));
        *from = first.saturating_add(count);
        room = room.saturating_sub(count);
    }
    (!job.ranges.is_empty()).then_some(job)
}

fn everything(shared: &Shared) -> Vec<PageSet> {
    let all = shared.entries.iter().map(|entry| match entry.left_out {
        true => PageSet::none(entry.len / PAGE),
        false => PageSet::all(entry.len / PAGE),
    });
    all.collect()
}

/// Adds to the sets what was written.
fn collect(parts: &mut Parts) -> Result<(), Broken> {
    let Parts {
        log, shared, sets, ..
    } = parts;
    // What is left out is in the log all the same.
    if sets.len() != shared.view.blocks.len() {
        *sets = empty_sets(&shared.view);
    }
    log.collect(sets)
        .map_err(|error| failure("Cannot tell which pages were written", &error))?;
    for (set, entry) in sets.iter_mut().zip(&shared.entries) {
        if entry.left_out {
            *set = PageSet::none(entry.len / PAGE);
        }
    }
    Ok(())
}

fn left(sets: &[PageSet]) -> u64 {
    let pages = sets.iter().map(PageSet::count);
    pages.fold(0, u64::saturating_add).saturating_mul(PAGE)
}

fn throttle(parts: &mut Parts, percent: u8) {
    let counters = &parts.shared.counters;
    counters
        .throttle
        .store(u64::from(percent), Ordering::Relaxed);
    parts.host.throttle(percent);
}

fn tell(counters: &Counters, pass: &Pass, elapsed: Duration) {
    counters.remaining.store(pass.dirty, Ordering::Relaxed);
    if get(&counters.bits_per_second) == 0 {
        // Over before there was a rate.
        let bits = (pass.bandwidth() * 8.0) as u64;
        counters.bits_per_second.store(bits, Ordering::Relaxed);
    }
    let pages = (pass.dirty / PAGE) as f64;
    let rate = pages / elapsed.as_secs_f64().max(1e-6);
    counters
        .dirty_pages_rate
        .store(rate as u64, Ordering::Relaxed);
}

/// How fast it goes, as far as the last while shows.
struct Rate {
    since: Instant,
    bytes: u64,
    pages: u64,
}

impl Rate {
    fn new(counters: &Counters) -> Self {
        Rate {
            since: Instant::now(),
            bytes: get(&counters.transferred),
            pages: pages(counters),
        }
    }

    fn tell(&mut self, counters: &Counters) {
        let elapsed = self.since.elapsed();
        if elapsed < TELL {
            return;
        }
        let now = Rate::new(counters);
        let rate = |now: u64, then: u64| {
            (now.saturating_sub(then) as f64 / elapsed.as_secs_f64().max(1e-6)) as u64
        };
        let bits = rate(now.bytes, self.bytes).saturating_mul(8);
        counters.bits_per_second.store(bits, Ordering::Relaxed);
        let pages = rate(now.pages, self.pages);
        counters.pages_per_second.store(pages, Ordering::Relaxed);
        *self = now;
    }
}

fn pages(counters: &Counters) -> u64 {
    get(&counters.normal_pages).saturating_add(get(&counters.zero_pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunables() -> Tunables {
        let tunables = Tunables::default();
        for (value, to) in [
            (&tunables.downtime_limit, 300),
            (&tunables.throttle_trigger, 50),
            (&tunables.throttle_initial, 20),
            (&tunables.throttle_increment, 30),
            (&tunables.throttle_max, 75),
        ] {
            value.store(to, Ordering::Relaxed);
        }
        tunables
    }

    fn pass(sent: u64, dirty: u64) -> Pass {
        Pass {
            sent,
            seconds: 1.0,
            dirty,
        }
    }

    #[test]
    fn it_stops_when_the_rest_is_little_enough() {
        let tunables = tunables();
        let mut course = Course::default();
        for (sent, dirty, next) in [
            (1000, 0, Next::Stop),
            (1000, 300, Next::Stop),
            (1000, 301, Next::Again(0)),
            (0, 1000, Next::Again(0)),
            (0, 0, Next::Stop),
        ] {
            assert_eq!(course.after(&pass(sent, dirty), &tunables, false), next);
        }
    }

    #[test]
    fn processors_are_held_back_step_by_step() {
        let tunables = tunables();
        let mut course = Course::default();
        let mut next = |dirty| course.after(&pass(1000, dirty), &tunables, true);
        let seen: Vec<Next> = [600, 600, 400, 600, 600, 600, 600, 600, 600]
            .into_iter()
            .map(&mut next)
            .collect();
        let percents = [0, 20, 20, 20, 50, 50, 75, 75, 75];
        assert_eq!(seen, percents.map(Next::Again));
        assert_eq!(next(100), Next::Stop);
    }

    #[test]
    fn the_rate_for_the_rest_may_be_given() {
        let tunables = tunables();
        let mut course = Course::default();
        let slow = pass(1000, 900);
        assert_eq!(slow.downtime(&tunables), 900);
        assert_eq!(course.after(&slow, &tunables, false), Next::Again(0));
        tunables.switchover_bandwidth.store(3000, Ordering::Relaxed);
        assert_eq!(slow.downtime(&tunables), 300);
        assert_eq!(course.after(&slow, &tunables, false), Next::Stop);
        tunables.switchover_bandwidth.store(1, Ordering::Relaxed);
        assert_eq!(
            course.after(&pass(1000, 1), &tunables, false),
            Next::Again(0)
        );
    }

    #[test]
    fn the_last_steps_may_be_small() {
        let tunables = tunables();
        tunables.throttle_tailslow.store(true, Ordering::Relaxed);
        let mut course = Course::default();
        let mut next = |dirty| course.after(&pass(1000, dirty), &tunables, true);
        // 500 may be written: from 80 percent of the time down to 80 * 500 / 550.
        let seen: Vec<Next> = [600, 600, 550, 550, 5000, 5000, 501, 501]
            .into_iter()
            .map(&mut next)
            .collect();
        let percents = [0, 20, 20, 28, 28, 58, 58, 59];
        assert_eq!(seen, percents.map(Next::Again));
    }

    #[test]
    fn jobs_are_bounded_and_miss_nothing() {
        let mut set = PageSet::all(1000);
        for page in (0..500).step_by(3) {
            set.remove(page);
        }
        let mut missing = set.clone();
        let mut from = 0;
        while let Some(job) = next_job(0, &mut set, &mut from, 128) {
            assert!(job.pages() <= 128 && job.pages() > 0);
            for (first, count) in job.ranges {
                for page in first..first + u64::from(count) {
                    assert!(missing.contains(page));
                    missing.remove(page);
                }
            }
        }
        assert_eq!((set.count(), missing.count()), (0, 0));
    }
}
