//! Rings, chains and frames at random: nothing panics, hangs or writes where it must not, and a
//! reset makes the interface good.

use proptest::prelude::*;

use super::*;

const OWN: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// A chain of anything: the kind of each buffer, its place and its length.
fn chain() -> impl Strategy<Value = Vec<Buffer>> {
    let place = prop_oneof![
        8 => (0u64..0x8_0000).prop_map(|at| DATA + at),
        1 => any::<u64>(),
        1 => Just(crate::testing::RAM_SIZE - 8),
    ];
    let len = prop_oneof![8 => 0u32..3000, 1 => any::<u32>(), 1 => Just(12u32)];
    let buffer = (any::<bool>(), place, len).prop_map(|(out, at, len)| match out {
        true => Buffer::Out(at, len),
        false => Buffer::In(at, len),
    });
    proptest::collection::vec(buffer, 1..6)
}

proptest! {
    #[test]
    fn chains_and_frames_at_random(
        header in any::<bool>(),
        features in any::<u64>(),
        steps in proptest::collection::vec((0usize..3, chain(), any::<bool>()), 1..40),
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 0..20),
        contents in proptest::collection::vec(any::<u8>(), 0x400),
    ) {
        let guest = FakeGuest::new();
        let traits = if header { WITH_HEADER } else { BARE };
        let mut bench = Bench::with(&guest, traits, (1, ""), features | 1 << 17);
        guest.write(DATA, &contents);
        let mut frames = frames.iter();
        for (queue, chain, indirect) in steps {
            let queue = queue.min(bench.rings.len() - 1);
            if indirect {
                bench.rings[queue].add_indirect(&guest, 0xe000, &chain);
            } else {
                bench.rings[queue].add(&guest, &chain);
            }
            bench.kick(queue);
            if let Some(frame) = frames.next() {
                bench.wires[0].offer(frame);
            }
            bench.run();
            while bench.wires[0].receive().is_some() {}
            guest.thread.pass_timeouts();
        }
        bench.start(u64::MAX);
        bench.command(&[0, 0, 1]);
        let given = bench.give(0, &[5000; 4]);
        bench.run();
        // What was sent before may be among it.
        bench.wires[0].send(&with_header(&frame(OWN, 77)));
        bench.run();
        prop_assert!(bench.got(0, &given).is_some());
    }

    #[test]
    fn rings_at_random(
        bytes in proptest::collection::vec(any::<u8>(), 0x900),
        queue in 0usize..3,
    ) {
        let guest = FakeGuest::new();
        let mut bench = Bench::new(&guest, BARE);
        guest.write(RINGS + RING_STEP * queue as u64, &bytes);
        bench.wires[0].offer(&frame(OWN, 60));
        bench.kick(queue);
        bench.run();
        while bench.wires[0].receive().is_some() {}
        bench.start(u64::MAX);
        bench.transmit(1, DATA, &with_header(&frame(OWN, 60)));
        bench.kick(1);
        prop_assert!(bench.wires[0].receive().is_some());
    }

    /// What the fuzz target does, with plain random bytes.
    #[test]
    fn a_driver_and_a_network_that_do_anything(
        data in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        crate::testing::virtio_net(&data);
    }
}
