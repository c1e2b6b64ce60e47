use std::cell::Cell;

use api_spec::RunState;

use super::*;
use crate::migration::fake::{Memory, Noise, config, sections};
use crate::migration::wire::{HEAD_LEN, HELLO_LEN, Head};

fn stopped() -> Stopped {
    Stopped {
        state: RunState::Paused,
        sections: sections(),
    }
}

fn saved(memory: &Memory) -> Vec<u8> {
    let mut out = Vec::new();
    let told = Cell::new(0);
    let progress = |bytes| {
        told.set(bytes);
        true
    };
    let bytes = write(&mut out, &config(), &memory.view, &stopped(), &progress).unwrap();
    assert_eq!((bytes, told.get()), (out.len() as u64, out.len() as u64));
    out
}

fn check(found: &MachineConfig) -> Result<(), String> {
    match *found == config() {
        true => Ok(()),
        false => Err("another machine".into()),
    }
}

fn load(mut bytes: &[u8], memory: &Memory) -> Result<Stopped, Broken> {
    read(&mut bytes, &memory.view, &check)
}

#[test]
fn what_was_written_is_read() {
    let from = Memory::new(&[700, 1, 64]);
    from.fill(1);
    let bytes = saved(&from);
    for seed in [0, 2] {
        let to = Memory::new(&[700, 1, 64]);
        if seed > 0 {
            to.fill(seed);
        }
        let read = load(&bytes, &to).unwrap();
        assert_eq!((read.state, read.sections), (RunState::Paused, sections()));
        assert!(to.bytes() == from.bytes());
    }
}

#[test]
fn fresh_memory_costs_nothing() {
    let from = Memory::new(&[16384]);
    from.view.blocks[0].write(123 << 12, &[1; 4096]);
    let bytes = saved(&from);
    assert!(bytes.len() < 64 << 10, "{}", bytes.len());
    let to = Memory::new(&[16384]);
    load(&bytes, &to).unwrap();
    assert!(to.bytes() == from.bytes());
    for memory in [&from, &Memory::new(&[16384])] {
        assert!(memory.resident() <= 2 << 20, "{}", memory.resident());
    }
}

#[test]
fn cut_at_every_byte_it_is_refused() {
    let from = Memory::new(&[3]);
    from.view.blocks[0].write(4096, &[1; 4096]);
    let bytes = saved(&from);
    let to = Memory::new(&[3]);
    // All of the heads, and of the bodies now and then.
    for cut in (0..bytes.len()).filter(|cut| *cut < 600 || cut % 37 == 0) {
        let Err(Broken::Failed(text)) = load(&bytes[..cut], &to) else {
            panic!("taken when cut at {cut}");
        };
        assert!(
            text.starts_with("Migration stream: it ended too early"),
            "{text}"
        );
    }
}

#[test]
fn a_flipped_bit_is_noticed_everywhere_but_in_pages() {
    let from = Memory::new(&[3]);
    let bytes = saved(&from);
    let to = Memory::new(&[3]);
    for at in (0..bytes.len()).filter(|at| at % 7 == 0 || *at < 400) {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(load(&bad, &to).is_err(), "byte {at}");
    }
}

#[test]
fn another_machine_is_refused() {
    let from = Memory::new(&[3, 4]);
    let bytes = saved(&from);
    let refusal = |pages: &[u64]| load(&bytes, &Memory::new(pages)).err().unwrap().to_string();
    let start = "Migration stream: record 'blocks', field ";
    assert_eq!(
        refusal(&[3]),
        format!("{start}'count': 2 where this machine has 1")
    );
    assert_eq!(
        refusal(&[3, 5]),
        format!("{start}'len': 0x4000 of 'block1' where this machine has 0x5000")
    );
    let mut input = bytes.as_slice();
    let check = |_: &MachineConfig| Err("no USB here".to_owned());
    let result = read(&mut input, &from.view, &check);
    assert_eq!(result.err(), Some(Broken::Failed("no USB here".into())));
}

#[test]
fn a_full_disk_and_a_change_of_mind() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(libc::ENOSPC))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let memory = Memory::new(&[700]);
    memory.fill(3);
    let result = write(&mut Full, &config(), &memory.view, &stopped(), &|_| true);
    let text = "Cannot write the machine's state: No space left on device";
    assert_eq!(result, Err(Broken::Failed(text.into())));
    let mut out = Vec::new();
    let result = write(&mut out, &config(), &memory.view, &stopped(), &|bytes| {
        bytes < 1000
    });
    assert_eq!(result, Err(Broken::Cancelled));
}

/// A stream as records: kind, payload and pages.
fn records(bytes: &[u8]) -> Vec<(Kind, Vec<u8>, Vec<u8>)> {
    let mut rest = &bytes[HELLO_LEN..];
    let mut records = Vec::new();
    while let Some((head, behind)) = rest.split_first_chunk::<HEAD_LEN>() {
        let head = Head::decode(head, records.len() as u32).unwrap();
        let (payload, behind) = behind.split_at(head.len as usize);
        let (data, behind) = behind.split_at(head.data as usize);
        records.push((head.kind, payload.to_vec(), data.to_vec()));
        rest = behind;
    }
    records
}

#[test]
fn whatever_is_in_whole_records_nothing_breaks() {
    let from = Memory::new(&[70, 3]);
    from.fill(1);
    let bytes = saved(&from);
    let good = records(&bytes);
    let to = Memory::new(&[70, 3]);
    let mut noise = Noise(2);
    let mut taken = 0;
    for _ in 0..4000 {
        let mut bad = good.clone();
        for _ in 0..1 + noise.next() % 3 {
            let which = noise.next() as usize % bad.len();
            let other = noise.next() as usize % bad.len();
            let (_, payload, data) = &mut bad[which];
            match noise.next() % 8 {
                0..4 if !payload.is_empty() => {
                    let at = noise.next() as usize % payload.len().min(64);
                    payload[at] = match noise.next() % 3 {
                        0 => 0xff,
                        1 => payload[at] ^ 1 << (noise.next() % 8),
                        _ => noise.next() as u8,
                    };
                }
                4 => payload.truncate(noise.next() as usize % (payload.len() + 1)),
                5 => data.truncate(noise.next() as usize % (data.len() + 1)),
                6 => bad.swap(which, other),
                7 => drop(bad.remove(which)),
                _ => {
                    let again = bad[which].clone();
                    bad.insert(other, again);
                }
            }
            if bad.is_empty() {
                break;
            }
        }
        let mut stream = bytes[..HELLO_LEN].to_vec();
        for (sequence, (kind, payload, data)) in (0..).zip(bad) {
            Head::put(&mut stream, kind, sequence, &payload, data.len() as u32);
            stream.extend_from_slice(&data);
        }
        taken += u32::from(load(&stream, &to).is_ok());
    }
    // Some changes are none, or of what only devices understand.
    assert!(taken < 2000, "{taken}");
}
