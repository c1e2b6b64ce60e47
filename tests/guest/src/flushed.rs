//! A guest whose machine dies under it. `flush` writes numbered sectors all over its first disk for ever, and says
//! `flushed N` when round N and all before it are safe. `verify=N` in a later life checks that they are: a sector
//! holds what it was given last, or what a later round gave it that nobody promised to keep.

use alloc::vec;
use alloc::vec::Vec;

use crate::churn::{self, Disk, check_at, next, sector};
use crate::pci::Bus;
use crate::say;

/// Places that are written, and sectors from one to the next: each in a cluster of its own, as images have them.
const PLACES: usize = 512;
const STRIDE: usize = 128;
/// Sectors of a round.
const WRITES: usize = 6;
const SEED: u64 = 0x1234_5678_9abc_def1;

/// Writes until it is no more.
pub fn write_for_ever(bus: &mut Bus) {
    let mut disk = churn::disk(bus).expect("a disk");
    let mut random = SEED;
    for round in 1.. {
        for place in places(&mut random) {
            let at = place * STRIDE;
            disk.write_blocks(at, &sector(at, round)).expect("writing");
        }
        disk.flush().expect("flushing");
        say!("flushed {round}");
    }
}

/// Checks all that was flushed up to this round.
pub fn verify(bus: &mut Bus, last: &str) {
    let last: u64 = last.parse().expect("a round");
    let mut disk = churn::disk(bus).expect("a disk");
    let mut random = SEED;
    // What each place may hold; the first is what was promised. One round at most was on its way.
    let mut wanted: Vec<Vec<u64>> = vec![vec![0]; PLACES];
    for round in 1..=last + 2 {
        for place in places(&mut random) {
            if round <= last {
                wanted[place].clear();
            }
            wanted[place].push(round);
        }
    }
    for (place, rounds) in wanted.iter().enumerate() {
        let at = place * STRIDE;
        assert!(
            rounds.iter().any(|round| holds(&mut disk, at, *round)),
            "sector {at} holds none of rounds {rounds:?}"
        );
    }
    say!("verified {last}");
}

fn holds(disk: &mut Disk, at: usize, round: u64) -> bool {
    match round {
        0 => check_at(disk, at, &[0; 512]),
        _ => check_at(disk, at, &sector(at, round)),
    }
}

fn places(random: &mut u64) -> [usize; WRITES] {
    [(); WRITES].map(|()| next(random) as usize % PLACES)
}
