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
