use super::*;
use proptest::prelude::*;

fn put(assembler: &mut Assembler, bytes: &[u8]) -> usize {
    let space = assembler.space();
    let count = bytes.len().min(space.len());
    space[..count].copy_from_slice(&bytes[..count]);
    assembler.filled(count);
    count
}

fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        bytes.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
        bytes.extend(frame);
    }
    bytes
}

#[test]
fn a_length_that_no_frame_has_is_told() {
    let mut assembler = Assembler::default();
    assert_eq!(assembler.next(), Next::More);
    put(&mut assembler, &0x0002_0000u32.to_be_bytes());
    assert_eq!(assembler.next(), Next::TooLong(0x2_0000));
    assembler.clear();
    put(&mut assembler, &[0xff; 8]);
    assert_eq!(assembler.next(), Next::TooLong(u32::MAX));
}

#[test]
fn the_longest_frame_fits_wherever_it_begins() {
    let long = vec![7; MOST_FRAME];
    let mut assembler = Assembler::default();
    for before in [0, 1, 1000, 60_000] {
        let bytes = framed(&[vec![1; before], long.clone()]);
        let mut at = 0;
        let mut last = Vec::new();
        while at < bytes.len() {
            at += put(&mut assembler, &bytes[at..]);
            while let Next::Frame(frame) = assembler.next() {
                last = frame.to_vec();
            }
        }
        assert!(last == long);
    }
}

proptest! {
    #[test]
    fn frames_come_out_wherever_the_stream_is_cut(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..40),
        cuts in prop::collection::vec(1usize..5000, 1..200),
    ) {
        let bytes = framed(&frames);
        let mut assembler = Assembler::default();
        let mut cuts = cuts.into_iter().cycle();
        let (mut at, mut out) = (0, Vec::new());
        while at < bytes.len() {
            let piece = cuts.next().unwrap_or(1).min(bytes.len() - at);
            at += put(&mut assembler, &bytes[at..at + piece]);
            loop {
                match assembler.next() {
                    Next::Frame(frame) => out.push(frame.to_vec()),
                    Next::More => break,
                    Next::TooLong(_) => prop_assert!(false),
                }
            }
        }
        let sent: Vec<_> = frames.into_iter().filter(|frame| !frame.is_empty()).collect();
        prop_assert_eq!(out, sent);
    }

    #[test]
    fn garbage_ends_in_a_word_or_in_frames(bytes in prop::collection::vec(any::<u8>(), 0..400_000)) {
        let mut assembler = Assembler::default();
        let mut at = 0;
        'all: while at < bytes.len() {
            let count = put(&mut assembler, &bytes[at..]);
            prop_assert!(count > 0);
            at += count;
            loop {
                match assembler.next() {
                    Next::Frame(frame) => prop_assert!(frame.len() <= MOST_FRAME),
                    Next::More => break,
                    Next::TooLong(_) => break 'all,
                }
            }
        }
    }
}
