use std::io::{Read, Seek, SeekFrom};

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::super::Layout;
use super::super::guest::tests::two_pieces;
use super::*;
use crate::vcpu::view::CpuView;

const LOW: u64 = 0x10_0000;
const HIGH: u64 = 1 << 24;

/// Each with its flag in crash's diskdump.h.
const COMPRESSIONS: [(Compression, u64); 2] = [(Compression::Zlib, 1), (Compression::Snappy, 4)];

fn dumped(compression: Compression, flattened: bool, bytes: &[u8]) -> Vec<u8> {
    let memory = two_pieces(bytes, LOW, HIGH);
    let dump = Dump {
        layout: Layout::Kdump {
            compression,
            flattened,
        },
        all: memory.clone(),
        part: memory,
        cpus: vec![CpuView::power_on(true)],
    };
    let mut file = tempfile::tempfile().unwrap();
    let progress = Progress::default();
    dump.write(file.try_clone().unwrap(), &progress).unwrap();
    assert_eq!(progress.done(), bytes.len() as u64);
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut dumped = Vec::new();
    file.read_to_end(&mut dumped).unwrap();
    dumped
}

fn number<const N: usize>(bytes: &[u8], at: u64) -> u64 {
    let at = usize::try_from(at).unwrap();
    let mut long = [0; 8];
    long[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(long)
}

/// The records of the flattened format, each at its place.
fn rearranged(flat: &[u8]) -> Vec<u8> {
    assert!(flat.starts_with(b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01"));
    let mut whole = Vec::new();
    let mut rest = &flat[4096..];
    loop {
        let (head, data) = rest.split_at(16);
        let [offset, len] =
            [&head[..8], &head[8..]].map(|part| i64::from_be_bytes(part.try_into().unwrap()));
        if offset == -1 {
            assert_eq!((len, data.len()), (-1, 0));
            return whole;
        }
        let (offset, len) = (offset as usize, len as usize);
        let (data, behind) = data.split_at(len);
        whole.resize(whole.len().max(offset + len), 0);
        whole[offset..offset + len].copy_from_slice(data);
        rest = behind;
    }
}

/// A page of a dump by what its flags say.
fn unpacked(flags: u64, data: &[u8]) -> Vec<u8> {
    match flags {
        0 => data.to_vec(),
        1 => decompress_to_vec_zlib_with_limit(data, 4096).expect("zlib"),
        4 => snap::raw::Decoder::new()
            .decompress_vec(data)
            .expect("snappy"),
        other => panic!("{other}"),
    }
}

/// The pages of a dump by number, as crash looks for them, each with its flags.
fn pages(dump: &[u8]) -> Vec<(u64, Vec<u8>, u64)> {
    assert!(dump.starts_with(b"KDUMP   \x06\0\0\0"));
    let word = |at| number::<4>(dump, at);
    let (block, sub_blocks, bitmap_blocks) = (word(428), word(432), word(436));
    let frames = number::<8>(dump, block + 96);
    assert_eq!((block, word(440)), (4096, frames));
    let bitmaps = (1 + sub_blocks) * block;
    let bit = |map: u64, frame: u64| {
        let at = bitmaps + map * bitmap_blocks / 2 * block + frame / 8;
        dump[at as usize] >> (frame % 8) & 1 == 1
    };
    let mut descriptor = bitmaps + bitmap_blocks * block;
    let mut found = Vec::new();
    for frame in 0..frames {
        assert_eq!(bit(0, frame), bit(1, frame));
        if !bit(1, frame) {
            continue;
        }
        let (offset, size) = (number::<8>(dump, descriptor), word(descriptor + 8));
        let data = &dump[offset as usize..(offset + size) as usize];
        let flags = word(descriptor + 12);
        let page = unpacked(flags, data);
        assert_eq!(page.len(), 4096);
        // Only what became smaller is kept so.
        assert!(size < 4096 || flags == 0, "{size}");
        found.push((frame, page, flags));
        descriptor += 24;
    }
    found
}

#[test]
fn every_page_is_found_again() {
    let mut bytes = vec![0u8; 3 << 20];
    let mut seed = 1u64;
    for (number, page) in bytes.chunks_mut(4096).enumerate() {
        match number % 3 {
            0 => {}
            1 => page.fill(number as u8 | 1),
            _ => page.iter_mut().for_each(|byte| {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                *byte = (seed >> 56) as u8;
            }),
        }
    }
    for (compression, flag) in COMPRESSIONS {
        let raw = dumped(compression, false, &bytes);
        let flat = dumped(compression, true, &bytes);
        assert_eq!(number::<4>(&raw, 424), flag);
        let low = bytes[..LOW as usize].chunks(4096).zip(0u64..);
        let high = bytes[LOW as usize..].chunks(4096).zip(HIGH / 4096..);
        // Zeroes and noise are there as they are.
        let flags = [0, flag, 0].into_iter().cycle();
        let expected: Vec<_> = low
            .chain(high)
            .zip(flags)
            .map(|((page, at), flags)| (at, page.to_vec(), flags))
            .collect();
        assert!(pages(&raw) == expected, "{compression:?}");
        assert!(rearranged(&flat) == raw, "{compression:?}");
        let (at, len) = (number::<8>(&raw, 4096 + 48), number::<8>(&raw, 4096 + 56));
        let notes = &raw[at as usize..(at + len) as usize];
        assert_eq!(notes, notes::notes(&[CpuView::power_on(true)]));
    }
}

#[test]
fn zeroes_cost_no_room() {
    for (compression, _) in COMPRESSIONS {
        let raw = dumped(compression, false, &vec![0; 2 << 20]);
        assert!(raw.len() < 40_000, "{}", raw.len());
        assert_eq!(pages(&raw).len(), 512);
    }
}
