//! Linux moves from process to process, over every way there is, while it works. `QVMD_HOPS` says how often, however
//! long that takes or for at most `QVMD_HOPS_SECONDS` (see `scripts/hops`); without it what fits into a short while is
//! done.

use std::time::{Duration, Instant};

use crate::traveller::{Memory, Traveller};
use crate::ways::Way;

/// No move begins later than so long after the first one: there is not more time for all of them.
const BUDGET: Duration = Duration::from_secs(75);
/// So many are made in any case.
const LEAST: usize = 6;
/// So many moves a device is there, and so many it is not.
const PLUGGED: usize = 6;

/// How often, or how long, if that was said.
fn asked_for(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok();
    value.map(|value| value.parse().expect("a number"))
}

/// What all moves came to.
#[derive(Default)]
struct Sum {
    moves: usize,
    /// On the wire, or into files.
    bytes: u64,
    /// The longest that the machine stood still, in milliseconds.
    longest: u64,
}

/// Moves it once.
fn hop(traveller: &mut Traveller, way: Way, sum: &mut Sum) {
    if way == Way::Shared && traveller.memory == Memory::Private {
        move_into(traveller, Way::Unix, Memory::Shared, sum);
    }
    let memory = match way {
        Way::Shared => Memory::SameShared,
        _ => Memory::Private,
    };
    move_into(traveller, way, memory, sum);
}

fn move_into(traveller: &mut Traveller, way: Way, memory: Memory, sum: &mut Sum) {
    let begun = Instant::now();
    let mut target = traveller.waiting(memory, way == Way::Late);
    let serial = target.serial();
    let started = begun.elapsed();
    let file = traveller.path("state");
    let channels = 2 + traveller.processes * 5 % 15;
    let info = way.go(&mut traveller.vm, &mut target, &file, channels);
    let arrived = begun.elapsed();
    traveller.went_to(target, serial, memory);
    // Mapped memory keeps the file for as long as it is needed.
    let _ = std::fs::remove_file(file);
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_default();
    sum.moves += 1;
    sum.bytes += number(&info["ram"]["transferred"]);
    sum.longest = sum.longest.max(number(&info["downtime"]));
    println!(
        "{way:?}: {:.1} s to start, {:.1} s to arrive, {:.1} s in all; total {} ms, down {} ms, {} \
         pages in {} passes",
        started.as_secs_f64(),
        (arrived - started).as_secs_f64(),
        begun.elapsed().as_secs_f64(),
        info["total-time"],
        info["downtime"],
        info["ram"]["normal"],
        info["ram"]["dirty-sync-count"],
    );
}

/// Every way after the other, from the `first` one on: as often as was asked for, or as many as there is time for up
/// to `most`. A second disk comes and goes meanwhile if it is asked for often, and if it is there at the beginning.
fn moves(traveller: &mut Traveller, first: usize, most: usize) {
    let (asked, begun) = (asked_for("QVMD_HOPS"), Instant::now());
    let budget = match (asked, asked_for("QVMD_HOPS_SECONDS")) {
        (_, Some(limit)) => Duration::from_secs(limit),
        (Some(_), None) => Duration::MAX,
        (None, None) => BUDGET,
    };
    let mut ways = Way::QUICK.to_vec();
    ways.rotate_left(first);
    if asked.is_some() {
        ways.push(Way::Compressed);
    }
    let most = asked.map_or(most, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let mut sum = Sum::default();
    for (count, way) in ways.into_iter().cycle().take(most).enumerate() {
        if count >= LEAST && begun.elapsed() > budget {
            break;
        }
        if asked.is_some() && count % PLUGGED == PLUGGED - 1 {
            match traveller.plugged {
                true => traveller.unplug(),
                false => traveller.plug(),
            }
        }
        hop(traveller, way, &mut sum);
    }
    if traveller.plugged {
        traveller.unplug();
        hop(traveller, Way::Unix, &mut sum);
    }
    println!(
        "{} moves in {:.0} s, {} bytes, {} ms down at most",
        sum.moves,
        begun.elapsed().as_secs_f64(),
        sum.bytes,
        sum.longest
    );
}

#[test]
fn one_processor() {
    let Some(mut traveller) = Traveller::start(1) else {
        return;
    };
    moves(&mut traveller, 0, 28);
    traveller.end();
}

#[test]
fn four_processors_and_a_device_that_comes_and_goes() {
    let Some(mut traveller) = Traveller::start(4) else {
        return;
    };
    traveller.plug();
    moves(&mut traveller, LEAST, 21);
    traveller.end();
}
