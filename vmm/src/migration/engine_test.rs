use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use api_spec::RunState;

use super::*;
use crate::machine::saved::MachineConfig;
use crate::migration::fake::*;
use crate::migration::host::ChannelKind;
use crate::migration::pages::{Codec, Pages, Run};
use crate::migration::ram::PAGE;
use crate::migration::target::Target;

fn multifd(channels: u8, zstd: bool) -> SendOptions {
    SendOptions {
        multifd: Some(channels),
        zstd: zstd.then_some(1),
        ..SendOptions::default()
    }
}

fn failed(text: &str) -> Broken {
    Broken::Failed(text.to_owned())
}

#[test]
fn a_busy_machine_arrives_whole() {
    for options in [
        SendOptions::default(),
        multifd(2, false),
        multifd(16, false),
        multifd(3, true),
    ] {
        let from = Memory::new(&[3000, 10]);
        from.fill(7);
        let to = Memory::new(&[3000, 10]);
        // What was there before does not matter.
        to.fill(8);
        // Packing is slow in a build for tests.
        let pause = if options.zstd.is_some() { 5000 } else { 20 };
        let guest = Guest::new(&from.view, 2, pause);
        let channels = sockets(1 + usize::from(options.multifd.unwrap_or(0)));
        let pair = pair(&from, &to, Some(guest), options.clone(), channels);
        let (said, loaded) = (pair.said.clone(), pair.loaded.clone());
        let counters = pair.source.counters.clone();
        let (end, state) = pair.run();
        assert_eq!((end, state), (SourceEnd::Completed, Ok(RunState::Running)));
        assert!(from.bytes() == to.bytes(), "{options:?}");
        assert_eq!(*loaded.lock().unwrap(), sections());
        let order = ["stop", "load", "hand_over", "activate"];
        assert_eq!(*said.lock().unwrap(), order);
        assert_eq!(get(&counters.total), 3010 * PAGE);
        assert_eq!(get(&counters.remaining), 0);
        assert!(get(&counters.passes) >= 2);
        assert!(get(&counters.normal_pages) >= 1500 && get(&counters.zero_pages) >= 500);
        let by_multifd = get(&counters.multifd_bytes);
        assert_eq!(by_multifd > 0, options.multifd.is_some());
        assert!(get(&counters.transferred) > by_multifd);
    }
}

#[test]
fn bytes_that_go_one_way_are_enough() {
    let from = Memory::new(&[600]);
    from.fill(1);
    let to = Memory::new(&[600]);
    let (reader, writer) = std::io::pipe().unwrap();
    let channels = vec![(one_way(writer), one_way(reader))];
    let pair = pair(&from, &to, None, SendOptions::default(), channels);
    let said = pair.said.clone();
    let (end, state) = pair.run();
    assert_eq!((end, state), (SourceEnd::Completed, Ok(RunState::Running)));
    assert!(from.bytes() == to.bytes());
    // Which of the two is first is nobody's concern: hand_over comes before the end.
    let said = said.lock().unwrap();
    let at = |what: &str| said.iter().position(|word| word == what).unwrap();
    assert!(at("hand_over") < at("load") && at("load") < at("activate"));
}

#[test]
fn a_plain_file_holds_the_stream() {
    let from = Memory::new(&[600]);
    from.fill(1);
    let to = Memory::new(&[600]);
    let file = tempfile::tempfile().unwrap();
    let channel = |file: &File| Channel {
        fd: file.try_clone().unwrap().into(),
        kind: ChannelKind::File { offset: 777 },
    };
    let channels = vec![(channel(&file), channel(&file))];
    let Pair { source, target, .. } = pair(&from, &to, None, SendOptions::default(), channels);
    assert_eq!(source.run(), SourceEnd::Completed);
    assert_eq!(target.run(), Ok(RunState::Running));
    assert!(from.bytes() == to.bytes());
}

#[test]
fn shared_memory_is_left_out_where_both_say_so() {
    let file = Arc::new(crate::memory::mapping::memfd(None, false).unwrap());
    file.set_len(100 * PAGE).unwrap();
    let (from, to) = (
        Memory::shared(file.clone(), 100),
        Memory::shared(file.clone(), 100),
    );
    from.fill(1);
    let options = SendOptions {
        ignore_shared: true,
        ..SendOptions::default()
    };
    let pair1 = pair(&from, &to, None, options.clone(), sockets(1));
    let counters = pair1.source.counters.clone();
    assert_eq!(pair1.run(), (SourceEnd::Completed, Ok(RunState::Running)));
    assert_eq!((get(&counters.total), get(&counters.normal_pages)), (0, 0));
    let private = Memory::new(&[100]);
    let (end, state) = pair(&from, &private, None, options, sockets(1)).run();
    let text = "Migration stream: record 'blocks', field 'flags': 'block0' is left out, and is \
                not shared memory here";
    assert_eq!(state, Err(failed(text)));
    assert_eq!(end, SourceEnd::Here(Answer::refusal(text)));
    // Sent whole, holes cost nothing on either side.
    let other = Arc::new(crate::memory::mapping::memfd(None, false).unwrap());
    other.set_len(100 * PAGE).unwrap();
    let to = Memory::shared(other, 100);
    let ends = pair(&from, &to, None, SendOptions::default(), sockets(1)).run();
    assert_eq!(ends, (SourceEnd::Completed, Ok(RunState::Running)));
    assert!(from.bytes() == to.bytes());
}

/// Runs a pair in which one host fails at `at`.
fn failing(at: &'static str, channels: u8) -> (SourceEnd, Result<RunState, Broken>, Vec<String>) {
    let from = Memory::new(&[2000]);
    from.fill(1);
    let to = Memory::new(&[2000]);
    let options = match channels {
        0 => SendOptions::default(),
        channels => multifd(channels, false),
    };
    let mut pair = pair(
        &from,
        &to,
        None,
        options,
        sockets(1 + usize::from(channels)),
    );
    let machine = match at {
        "check" => "isapc",
        _ => "pc-q35-10.0",
    };
    pair.source.host = Box::new(FakeSource {
        config: MachineConfig {
            machine: machine.into(),
            ..config()
        },
        guest: None,
        notes: pair.said.clone(),
        sections: sections(),
        fails: at,
        passes: Arc::default(),
    });
    pair.target.host = Box::new(FakeTarget {
        config: config(),
        notes: pair.said.clone(),
        loaded: pair.loaded.clone(),
        fails: if at == "take_back" { "activate" } else { at },
    });
    let said = pair.said.clone();
    let (end, state) = pair.run();
    let said = said.lock().unwrap().clone();
    (end, state, said)
}

#[test]
fn the_source_learns_why_and_keeps_the_machine() {
    for channels in [0, 3] {
        for (at, reason, said) in [
            ("check", "machine 'isapc' is another one", &[][..]),
            ("load", "Section 'x': load failed", &["stop", "load"]),
            (
                "activate",
                "activate failed",
                &["stop", "load", "hand_over", "activate", "take_back"],
            ),
        ] {
            let (end, state, notes) = failing(at, channels);
            assert_eq!(end, SourceEnd::Here(Answer::refusal(reason)), "{channels}");
            assert_eq!(state, Err(failed(reason)));
            if at != "check" {
                assert_eq!(notes, said);
            }
        }
    }
}

#[test]
fn what_fails_on_the_source_ends_the_target() {
    for at in ["stop", "hand_over"] {
        let (end, state, said) = failing(at, 2);
        assert_eq!(end, SourceEnd::Here(failed(&format!("{at} failed"))));
        assert!(state.is_err() && !said.contains(&"activate".to_owned()));
    }
    let (end, _, _) = failing("take_back", 0);
    assert!(matches!(end, SourceEnd::Unknown(_)), "{end:?}");
}

/// Passes bytes on until there were so many one way or the other; then both ends are lost. How many
/// there were.
fn proxy(mut a: UnixStream, mut b: UnixStream, there: usize, back: usize) -> [usize; 2] {
    let copies = [
        (a.try_clone().unwrap(), b.try_clone().unwrap(), there),
        (b.try_clone().unwrap(), a.try_clone().unwrap(), back),
    ];
    let carry = |(mut from, mut to, most): (UnixStream, UnixStream, usize)| {
        std::thread::spawn(move || {
            let mut left = most;
            let mut buffer = [0; 4096];
            while left > 0 {
                let room = left.min(buffer.len());
                match from.read(&mut buffer[..room]) {
                    Ok(got @ 1..) if to.write_all(&buffer[..got]).is_ok() => left -= got,
                    Ok(0) => {
                        let _ = to.shutdown(std::net::Shutdown::Write);
                        return most - left;
                    }
                    _ => break,
                }
            }
            for end in [from, to] {
                let _ = end.shutdown(std::net::Shutdown::Both);
            }
            most - left
        })
    };
    let counts = copies.map(carry).map(|thread| thread.join().unwrap());
    let _ = (a.flush(), b.flush());
    counts
}

#[test]
fn a_link_cut_at_any_moment_never_makes_two_machines() {
    let from = Memory::new(&[40]);
    from.fill(1);
    let to = Memory::new(&[40]);
    let mut noise = Noise(99);
    let (mut here, mut unknown, mut completed) = (0, 0, 0);
    // Counted once, by a link that is never cut.
    let (mut whole, mut answers) = (0, 0);
    for round in 0..220 {
        let (there, back) = match round {
            0 => (usize::MAX, usize::MAX),
            // Around the last word: a head of 20 bytes.
            1..60 => (whole - 40 + round, usize::MAX),
            // Around the last answers, of 20 bytes each.
            60..110 => (usize::MAX, answers - 45 + round - 60),
            _ => (noise.next() as usize % whole, usize::MAX),
        };
        let (out, first) = UnixStream::pair().unwrap();
        let (second, into) = UnixStream::pair().unwrap();
        let link = std::thread::spawn(move || proxy(first, second, there, back));
        let channels = vec![(duplex(out), duplex(into))];
        let pair = pair(&from, &to, None, SendOptions::default(), channels);
        let said = pair.said.clone();
        let (end, state) = pair.run();
        let counts = link.join().unwrap();
        if round == 0 {
            [whole, answers] = counts;
        }
        let activated = said.lock().unwrap().contains(&"activate".to_owned());
        assert_eq!(state.is_ok(), activated);
        match end {
            SourceEnd::Completed => {
                assert!(state.is_ok());
                completed += 1;
            }
            SourceEnd::Here(_) => {
                assert!(state.is_err(), "two machines: {there} {back}");
                here += 1;
            }
            SourceEnd::Unknown(_) => unknown += 1,
        }
    }
    assert!(
        here > 100 && unknown > 10 && completed > 1,
        "{here} {unknown} {completed}"
    );
}

#[test]
fn it_can_be_cancelled_wherever_it_waits() {
    let from = Memory::new(&[4000]);
    from.fill(1);
    let to = Memory::new(&[4000]);
    for (channels, how) in [(0, "pace"), (2, "pace"), (0, "deaf"), (3, "deaf")] {
        let options = match channels {
            0 => SendOptions::default(),
            channels => multifd(channels, false),
        };
        let mut pair = pair(
            &from,
            &to,
            None,
            options,
            sockets(1 + usize::from(channels)),
        );
        let limit = if how == "pace" { 100_000 } else { 0 };
        let tunables = pair.source.tunables.clone();
        tunables.max_bandwidth.store(limit, Ordering::Relaxed);
        // Nobody reads, or asks for the other channels.
        let target = match how {
            "deaf" => None,
            _ => {
                let target = std::mem::replace(&mut pair.target, idle(&to));
                Some(std::thread::spawn(|| target.run()))
            }
        };
        let cancel = pair.source.cancel.clone();
        let source = std::thread::spawn(|| pair.source.run());
        std::thread::sleep(Duration::from_millis(150));
        let begun = Instant::now();
        cancel.cancel();
        assert_eq!(source.join().unwrap(), SourceEnd::Here(Broken::Cancelled));
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(5), "{how} {channels}: {took:?}");
        if let Some(target) = target {
            assert!(target.join().unwrap().is_err());
        }
    }
}

fn idle(to: &Memory) -> Target {
    pair(to, to, None, SendOptions::default(), sockets(1)).target
}

#[test]
fn a_target_that_waits_can_be_cancelled() {
    let memory = Memory::new(&[10]);
    let (_kept, end) = UnixStream::pair().unwrap();
    let mut target = idle(&memory);
    target.main = duplex(end);
    let cancel = target.cancel.clone();
    let target = std::thread::spawn(|| target.run());
    std::thread::sleep(Duration::from_millis(50));
    cancel.cancel();
    assert_eq!(target.join().unwrap(), Err(Broken::Cancelled));
}

#[test]
fn processors_are_held_back_and_let_go() {
    let from = Memory::new(&[2000]);
    from.fill(1);
    let to = Memory::new(&[2000]);
    let guest = Guest::new(&from.view, 1, 50);
    let options = SendOptions {
        auto_converge: true,
        ..SendOptions::default()
    };
    let pair = pair(&from, &to, Some(guest), options, sockets(1));
    let tunables = pair.source.tunables.clone();
    tunables.max_bandwidth.store(5_000_000, Ordering::Relaxed);
    tunables.downtime_limit.store(0, Ordering::Relaxed);
    tunables.throttle_trigger.store(10, Ordering::Relaxed);
    let (cancel, said) = (pair.source.cancel.clone(), pair.said.clone());
    let running = std::thread::spawn(|| pair.run());
    let begun = Instant::now();
    while !said.lock().unwrap().contains(&"throttle 30".to_owned()) {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    cancel.cancel();
    let (end, _) = running.join().unwrap();
    assert_eq!(end, SourceEnd::Here(Broken::Cancelled));
    let said = said.lock().unwrap();
    assert_eq!(said.first().map(String::as_str), Some("throttle 20"));
    assert_eq!(said.last().map(String::as_str), Some("throttle 0"));
}

#[test]
fn a_source_that_goes_before_its_other_channels_come_is_not_waited_for() {
    let to = Memory::new(&[10]);
    let (main, into) = UnixStream::pair().unwrap();
    let mut target = idle(&to);
    target.main = duplex(into);
    target.more = Box::new(|cancel| {
        let mut fds = [crate::sys::poll_entry(
            std::os::fd::AsRawFd::as_raw_fd(cancel.event()),
            libc::POLLIN,
        )];
        crate::sys::poll(&mut fds, Some(20_000))?;
        Err(std::io::ErrorKind::Interrupted.into())
    });
    let target = std::thread::spawn(|| target.run());
    let hello = Hello {
        features: Features::MULTIFD.with(Features::ANSWERS, true),
        id: [7; 16],
        channel: 0,
        channels: 2,
    };
    let fate = Fate::new(Cancel::new().unwrap()).unwrap();
    let mut sender = Sender::new(Link::new(duplex(main), fate).unwrap());
    sender.hello(&hello);
    sender
        .record(Kind::Config, &put_config(&config()).unwrap())
        .unwrap();
    let entries = pages::entries(&to.view, false);
    sender.record(Kind::Blocks, &put_blocks(&entries)).unwrap();
    sender.flush().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(!target.is_finished());
    let begun = Instant::now();
    drop(sender);
    assert_eq!(target.join().unwrap(), Err(failed("The link was lost")));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_channel_of_another_migration_is_refused() {
    let (from, to) = (Memory::new(&[10]), Memory::new(&[10]));
    let mut ends = sockets(2);
    let (stray, wrong) = UnixStream::pair().unwrap();
    ends[1].1 = duplex(wrong);
    let hello = Hello {
        features: Features::MULTIFD.with(Features::ANSWERS, true),
        id: [7; 16],
        channel: 1,
        channels: 1,
    };
    (&stray).write_all(&hello.encode()).unwrap();
    let (end, state) = pair(&from, &to, None, multifd(1, false), ends).run();
    let text = "Migration stream: record 'hello', field 'id': a channel of another migration";
    assert_eq!(state, Err(failed(text)));
    assert_eq!(end, SourceEnd::Here(Answer::refusal(text)));
}

/// Says these bytes to a target, and what it makes of them.
fn tell(bytes: &[u8], to: &Memory) -> String {
    let (mut out, into) = UnixStream::pair().unwrap();
    let mut target = idle(to);
    target.main = duplex(into);
    let target = std::thread::spawn(|| target.run());
    out.write_all(bytes).unwrap();
    drop(out);
    target.join().unwrap().unwrap_err().to_string()
}

#[test]
fn records_out_of_order_repeated_or_missing() {
    let from = Memory::new(&[3]);
    from.fill(1);
    let to = Memory::new(&[3]);
    let hello = Hello {
        features: Features::default(),
        id: [1; 16],
        channel: 0,
        channels: 0,
    };
    let config = put_config(&config()).unwrap();
    let blocks = put_blocks(&pages::entries(&from.view, false));
    let runs = |first, count| Run {
        first,
        count,
        zero: true,
    };
    let zero = |runs: &[Run]| Pages::encode(0, Codec::Plain, runs);
    let start = "Migration stream: record ";
    let all = zero(&[runs(0, 3)]);
    for (records, reason) in [
        (
            vec![(Kind::Blocks, blocks.clone())],
            "'blocks', field 'kind': is out of place, 'config' was expected",
        ),
        (
            vec![(Kind::Filler, vec![0; 9])],
            "'filler', field 'kind': was not announced",
        ),
        (
            vec![(Kind::Config, config.clone()), (Kind::Pages, all.clone())],
            "'pages', field 'kind': is out of place, 'blocks' was expected",
        ),
        (
            vec![
                (Kind::Config, config.clone()),
                (Kind::Blocks, blocks.clone()),
                (Kind::Pages, zero(&[runs(1, 3)])),
            ],
            "'pages', field 'count': 3 pages from page 1 on, of 3",
        ),
        (
            vec![
                (Kind::Config, config.clone()),
                (Kind::Blocks, blocks.clone()),
                (Kind::Pages, zero(&[runs(1, 1), runs(0, 1)])),
            ],
            "'pages', field 'first': page 0 comes after page 2",
        ),
        (
            vec![
                (Kind::Config, config.clone()),
                (Kind::Blocks, blocks.clone()),
                (Kind::Pages, zero(&[runs(u64::MAX, 1)])),
            ],
            "'pages', field 'count': 1 pages from page 18446744073709551615 on, of 3",
        ),
        (
            vec![
                (Kind::Config, config.clone()),
                (Kind::Blocks, blocks.clone()),
                (Kind::Pages, zero(&[runs(0, 2)])),
                (Kind::State, put_state(RunState::Running, 0)),
            ],
            "'pages', field 'first': 1 pages of 'block0' never came",
        ),
        (
            vec![
                (Kind::Config, config.clone()),
                (Kind::Blocks, blocks.clone()),
                (Kind::Pages, all.clone()),
                (Kind::Pass, vec![2, 0, 0, 0]),
            ],
            "'pass', field 'number': 2 where 1 was expected",
        ),
        (
            vec![
                (Kind::Config, config.clone()),
                (Kind::Blocks, blocks.clone()),
                (Kind::Pages, all.clone()),
                (Kind::State, put_state(RunState::Running, 2)),
                (Kind::End, vec![]),
            ],
            "'end', field 'kind': is out of place, 'section' was expected",
        ),
    ] {
        let mut bytes = hello.encode().to_vec();
        for (sequence, (kind, payload)) in (0..).zip(records) {
            crate::migration::wire::Head::put(&mut bytes, kind, sequence, &payload, 0);
        }
        assert_eq!(tell(&bytes, &to), format!("{start}{reason}"));
    }
}

#[test]
#[ignore = "measures; build with optimisation"]
fn rates() {
    const PAGES: u64 = 1 << 18;
    for (what, options) in [
        ("one channel", SendOptions::default()),
        ("multifd 2", multifd(2, false)),
        ("multifd 4", multifd(4, false)),
    ] {
        for (kind, percent) in [("random", 100), ("zero", 0), ("half", 50)] {
            let from = Memory::new(&[PAGES]);
            let block = &from.view.blocks[0];
            let mut noise = Noise(5);
            let page = noise.page();
            for at in 0..PAGES {
                // Touched, as a guest's are.
                block.write(at * PAGE, &[0; PAGE as usize]);
                if noise.next() % 100 < percent {
                    block.write(at * PAGE, &page);
                }
            }
            let to = Memory::new(&[PAGES]);
            let channels = sockets(1 + usize::from(options.multifd.unwrap_or(0)));
            let pair = pair(&from, &to, None, options.clone(), channels);
            let (begun, before) = (Instant::now(), cpu());
            let ends = pair.run();
            let busy = cpu() - before;
            let took = begun.elapsed().as_secs_f64();
            assert_eq!(ends, (SourceEnd::Completed, Ok(RunState::Running)));
            let rate = (PAGES * PAGE) as f64 / took / 1e9;
            println!("{what}, {kind}: {rate:.2} GB/s, {busy:.2} s of processors");
        }
    }
}

/// Seconds that this process's threads have run.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, words) = stat.rsplit_once(") ").unwrap();
    let ticks = words.split(' ').skip(11).take(2);
    ticks.map(|word| word.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}
