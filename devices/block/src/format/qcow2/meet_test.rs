//! Many threads in the same clusters at the same time.

use super::*;

/// Threads that write every fourth sector each, so that they meet in every cluster.
fn meet(origin: &Origin) {
    const THREADS: u64 = 4;
    let dir = dir();
    let (path, bytes) = origin.make(dir.path());
    let disk = Disk::open_spec(spec(&path, origin.qcow2, false)).unwrap();
    let node = &*disk.node;
    let sectors = 2048;
    let written: Vec<HashMap<u64, u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|own| scope.spawn(move || one_of_them(node, own, THREADS, sectors)))
            .collect();
        threads.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let all = disk.read(0, (sectors * SECTOR) as usize);
    let again = |all: &[u8]| {
        for (number, sector) in all.chunks(SECTOR as usize).enumerate() {
            let number = number as u64;
            let own = &written[(number % THREADS) as usize];
            let before = number as usize * SECTOR as usize;
            match own.get(&number) {
                Some(byte) => assert_eq!(sector, vec![*byte; 512], "sector {number}"),
                None => assert_eq!(sector, &bytes[before..before + 512], "sector {number}"),
            }
        }
    };
    again(&all);
    disk.close();
    check(&path);
    let disk = Disk::open(&path);
    again(&disk.read(0, (sectors * SECTOR) as usize));
}

fn one_of_them(node: &dyn BlockNode, own: u64, all: u64, sectors: u64) -> HashMap<u64, u8> {
    let mut dice = Dice(seed().rotate_left(own as u32 * 7) | 1);
    let waker = Waker::new().unwrap();
    let mut lane = node.open_lane(8, &waker).unwrap();
    let mut written = HashMap::new();
    for _ in 0..120 * scale() {
        let mut batch: HashMap<u64, u8> = HashMap::new();
        for _ in 0..1 + dice.roll(6) {
            let number = dice.roll(sectors / all) * all + own;
            if batch.contains_key(&number) {
                continue;
            }
            let offset = number * SECTOR;
            let durability = Durability::Cached;
            let byte = dice.roll(256) as u8;
            let buffers = Buffers::owned(HostBuffer::from_bytes(&[byte; 512], 512));
            let (op, buffers) = match byte {
                0..=40 => {
                    let op = Op::WriteZeroes {
                        offset,
                        len: SECTOR,
                        unmap: Unmap::May,
                        durability,
                    };
                    (op, Buffers::new())
                }
                _ => (Op::Write { offset, durability }, buffers),
            };
            batch.insert(number, if byte <= 40 { 0 } else { byte });
            match dice.roll(3) {
                0 => node.perform(op, &buffers).unwrap(),
                _ => {
                    let done = lane.submit(IoReq::new(op, buffers), Token(number));
                    assert!(done.is_none_or(|done| done.result.is_ok()));
                }
            }
        }
        lane.start();
        let mut done = Vec::new();
        while lane.in_flight() > 0 {
            waker.wait();
            waker.clear();
            lane.reap(&mut done);
            lane.start();
        }
        done.into_iter().for_each(|done| done.result.unwrap());
        written.extend(batch);
        if dice.roll(20) == 0 {
            node.flush().unwrap();
        }
    }
    written
}

#[test]
fn threads_meet_in_every_cluster() {
    let packed: &[&str] = &["write -q -c -P 0x21 0 1M"];
    for (options, backing, filled) in [
        ("", None, &[] as &[&str]),
        ("", Some(1 << 20), &[]),
        ("cluster_size=2M", Some(700 << 10), &[]),
        ("extended_l2=on", None, &[]),
        ("extended_l2=on", Some(1 << 20), &["write -q -P 3 64k 32k"]),
        ("cluster_size=4k", None, packed),
        ("cluster_size=512,lazy_refcounts=on", None, &[]),
        ("data_file=DIR/a.data", None, &[]),
    ] {
        meet(&Origin {
            options,
            backing,
            filled,
            ..Origin::default()
        });
    }
}

/// What a thread knows of the sectors of its clusters; `None` for what was discarded.
type Known = HashMap<u64, Option<u8>>;

/// One of some threads that have clusters of their own: they write, read, give up and fill them
/// again, so that places go from one to another while requests are on their way.
fn churn(node: &dyn BlockNode, own: u64, all: u64, cluster: u64) -> Known {
    let mut dice = Dice(seed().rotate_left(own as u32 * 11 + 3) | 1);
    let waker = Waker::new().unwrap();
    let mut lane = node.open_lane(8, &waker).unwrap();
    let (size, per_cluster) = (node.info().size, cluster / SECTOR);
    let mut known = Known::new();
    for _ in 0..150 * scale() {
        let mut reads: HashMap<u64, (u64, Buffers)> = HashMap::new();
        let mut taken = Vec::new();
        for token in 0..1 + dice.roll(6) {
            let number = dice.roll(size / cluster / all) * all + own;
            if taken.contains(&number) {
                continue;
            }
            taken.push(number);
            let start = dice.roll(per_cluster);
            let count = 1 + dice.roll(per_cluster - start).min(dice.roll(300));
            let (first, whole) = (number * per_cluster + start, number * per_cluster);
            let durability = match dice.roll(30) {
                0 => Durability::Durable,
                _ => Durability::Cached,
            };
            let byte = dice.roll(255) as u8 + 1;
            let mut buffers = Buffers::new();
            let (offset, len) = (number * cluster, cluster);
            let op = match dice.roll(10) {
                0 | 1 => {
                    known.extend((whole..whole + per_cluster).map(|at| (at, Some(0))));
                    Op::WriteZeroes {
                        offset,
                        len,
                        unmap: Unmap::May,
                        durability,
                    }
                }
                2 => {
                    known.extend((whole..whole + per_cluster).map(|at| (at, None)));
                    Op::Discard { offset, len }
                }
                3..=5 => {
                    let memory = HostBuffer::new((count * SECTOR) as usize, 512);
                    buffers = Buffers::owned(Arc::new(memory));
                    reads.insert(token, (first, buffers.clone()));
                    let offset = first * SECTOR;
                    Op::Read { offset }
                }
                _ => {
                    let bytes = vec![byte; (count * SECTOR) as usize];
                    buffers = Buffers::owned(HostBuffer::from_bytes(&bytes, 512));
                    known.extend((first..first + count).map(|at| (at, Some(byte))));
                    let offset = first * SECTOR;
                    Op::Write { offset, durability }
                }
            };
            match dice.roll(3) {
                0 => node.perform(op, &buffers).unwrap(),
                _ => {
                    let done = lane.submit(IoReq::new(op, buffers), Token(token));
                    assert!(done.is_none_or(|done| done.result.is_ok()));
                }
            }
        }
        lane.start();
        let mut done = Vec::new();
        while lane.in_flight() > 0 {
            waker.wait();
            waker.clear();
            lane.reap(&mut done);
            lane.start();
        }
        done.into_iter().for_each(|done| done.result.unwrap());
        for (first, buffers) in reads.values() {
            let mut bytes = vec![0; buffers.len() as usize];
            buffers.read_at(0, &mut bytes);
            is_known(&known, *first, &bytes);
        }
        if dice.roll(10) == 0 {
            node.flush().unwrap();
        }
    }
    known
}

fn is_known(known: &Known, first: u64, bytes: &[u8]) {
    for (number, sector) in (first..).zip(bytes.chunks(SECTOR as usize)) {
        if let Some(Some(byte)) = known.get(&number) {
            assert!(
                sector.iter().all(|other| other == byte),
                "sector {number}: {} instead of {byte}",
                sector[0]
            );
        }
    }
}

#[test]
fn clusters_change_hands_among_threads() {
    let little = Qcow2Options {
        l2_cache_size: Some(1024),
        l2_cache_entry_size: Some(512),
        refcount_cache_size: Some(1024),
        ..Qcow2Options::default()
    };
    for (options, cluster, backing, snapshot, qcow2) in [
        ("", 64 << 10, None, false, Qcow2Options::default()),
        ("cluster_size=4k", 4 << 10, None, false, little),
        ("cluster_size=512,refcount_bits=64", 512, None, true, little),
        ("extended_l2=on", 64 << 10, Some(1 << 20), false, little),
        (
            "lazy_refcounts=on,cluster_size=4k",
            4 << 10,
            None,
            true,
            little,
        ),
        (
            "compat=0.10,cluster_size=4k",
            4 << 10,
            Some(1 << 20),
            false,
            little,
        ),
    ] {
        const THREADS: u64 = 4;
        let dir = dir();
        let origin = Origin {
            options,
            backing,
            snapshot,
            qcow2,
            ..Origin::default()
        };
        let (path, _) = origin.make(dir.path());
        let disk = Disk::open_spec(spec(&path, origin.qcow2, false)).unwrap();
        let node = &*disk.node;
        let known: Vec<Known> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|own| scope.spawn(move || churn(node, own, THREADS, cluster)))
                .collect();
            threads.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let size = disk.node.info().size as usize;
        let all = disk.read(0, size);
        known.iter().for_each(|known| is_known(known, 0, &all));
        disk.close();
        check(&path);
        let disk = Disk::open(&path);
        assert!(disk.read(0, size) == all, "{options}");
    }
}
