//! Linux moves from process to process, over every way there is, while it works.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::Vm;
use tests::migrate::{arrive, go, listen};

use crate::traveller::Traveller;

/// No move begins later than so long after the first one: there is not more time for all of them.
const BUDGET: Duration = Duration::from_secs(75);

/// How it gets there. Not with zstd: a program that is not optimized, in an emulated host, is too slow for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Unix,
    Tcp,
    /// Through a program's pipe into a file, and through one out of it.
    Exec,
    File,
    /// A file whose pages have their places, which is the target's memory.
    Mapped,
    /// Several channels.
    Channels,
}

impl Way {
    const ALL: [Way; 6] = [
        Way::Unix,
        Way::Mapped,
        Way::Tcp,
        Way::Channels,
        Way::File,
        Way::Exec,
    ];

    /// Off, too, where they are not needed: what was a target is a source now.
    fn capabilities(self) -> Value {
        json!({"capabilities": [
            {"capability": "events", "state": true},
            {"capability": "mapped-ram", "state": self == Way::Mapped},
            {"capability": "multifd", "state": self == Way::Channels},
        ]})
    }
}

/// Where it listens, by the name that the other side calls.
fn listens(target: &mut Vm, way: Way) -> String {
    if way == Way::Unix {
        let uri = format!("unix:{}", target.path("migration.sock").display());
        listen(target, &uri);
        return uri;
    }
    listen(target, "tcp:127.0.0.1:0");
    let info = target.query("query-migrate");
    let port = info["socket-address"][0]["port"].as_str();
    format!("tcp:127.0.0.1:{}", port.expect("a port"))
}

/// Moves it once; what the source told at the end.
fn hop(traveller: &mut Traveller, way: Way) {
    let begun = Instant::now();
    let mut target = traveller.waiting();
    let serial = target.serial();
    // What is lost by a slow host is made up for by patience.
    let parameters = json!({"downtime-limit": 2000, "max-bandwidth": 0});
    for vm in [&mut traveller.vm, &mut target] {
        vm.exec("migrate-set-capabilities", way.capabilities());
        vm.exec("migrate-set-parameters", parameters.clone());
    }
    let started = begun.elapsed();
    let file = traveller.path("state");
    let info = match way {
        Way::Exec => {
            let info = go(&mut traveller.vm, &format!("exec:cat >{}", file.display()));
            listen(&mut target, &format!("exec:cat {}", file.display()));
            info
        }
        Way::File | Way::Mapped => {
            let uri = format!("file:{}", file.display());
            let info = go(&mut traveller.vm, &uri);
            let load = if way == Way::Mapped { "map" } else { "read" };
            target.exec("migrate-incoming", json!({"uri": uri, "ram-load": load}));
            info
        }
        _ => {
            let uri = listens(&mut target, way);
            go(&mut traveller.vm, &uri)
        }
    };
    arrive(&mut target);
    let arrived = begun.elapsed();
    traveller.went_to(target, serial);
    // Mapped memory keeps the file for as long as it is needed.
    let _ = std::fs::remove_file(file);
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

/// Every way once, and as many times more as there is time for, up to `most`.
fn moves(traveller: &mut Traveller, most: usize) {
    let begun = Instant::now();
    let mut count = 0;
    for way in Way::ALL.into_iter().cycle().take(most) {
        if count >= Way::ALL.len() && begun.elapsed() > BUDGET {
            break;
        }
        hop(traveller, way);
        count += 1;
    }
    println!("{count} moves in {:.0} s", begun.elapsed().as_secs_f64());
}

#[test]
fn one_processor() {
    let Some(mut traveller) = Traveller::start(1) else {
        return;
    };
    moves(&mut traveller, 28);
    traveller.end();
}

#[test]
fn four_processors_and_a_device_that_comes_and_goes() {
    let Some(mut traveller) = Traveller::start(4) else {
        return;
    };
    traveller.plug();
    moves(&mut traveller, 21);
    traveller.unplug();
    hop(&mut traveller, Way::Unix);
    traveller.end();
}
