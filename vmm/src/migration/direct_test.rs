use api_spec::RunState;

use super::*;
use crate::migration::fake::{Guest, Memory, Noise, Pair, pair};
use crate::migration::host::{Channel, ChannelKind, SendOptions, SourceEnd};
use crate::migration::pages::Run;
use crate::migration::wire::{Features, HEAD_LEN, HELLO_LEN, Head, Hello, Kind};

fn span(memory: &Memory, first: u64, count: u32) -> Span {
    let zero = false;
    Span::of(&memory.view.blocks[0], &Run { first, count, zero }).unwrap()
}

/// How it is written.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Through,
    Copied,
    Lent,
}

/// What is written so; the file as it was when it was done.
fn written(file: &File, offset: u64, way: Way, memory: &Memory) -> Vec<u8> {
    let direct = way != Way::Through;
    let mut noise = Noise(5);
    let mut expected = Vec::new();
    let mut stream = direct.then(|| Stream::begin(file, offset).expect("the file is fit"));
    if let Some(stream) = &mut stream {
        stream.lends = way == Way::Lent;
    }
    for round in 0..30u32 {
        let mut len = (noise.next() % 4000) as usize;
        let spans = match round % 10 {
            0 | 5 => Vec::new(),
            1 | 6 | 8 => vec![span(memory, 3, 1), span(memory, 7, 2)],
            2 | 4 | 7 => vec![span(memory, u64::from(round), 120)],
            _ => {
                // All that follows has an aligned place, in more pieces than the kernel takes at once.
                let end = offset as usize + expected.len() + len;
                len += end.next_multiple_of(ALIGN) - end;
                (0..1100).map(|at| span(memory, at % 199, 1)).collect()
            }
        };
        let head = &[noise.page(), noise.page()].concat()[..len];
        expected.extend_from_slice(head);
        spans.iter().for_each(|span| span.append_to(&mut expected));
        if let Some(stream) = &mut stream {
            stream.write(head, &spans).unwrap();
        }
    }
    match stream {
        Some(stream) => stream.finish().unwrap(),
        None => file.write_all_at(&expected, offset).unwrap(),
    }
    let mut position = file;
    if direct {
        let at = position.stream_position().unwrap();
        assert_eq!(at, offset + expected.len() as u64);
    }
    assert_eq!(sys::status_flags(file).unwrap() & libc::O_DIRECT, 0);
    let mut found = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut found, 0).unwrap();
    found
}

#[test]
fn all_ways_write_the_same() {
    let memory = Memory::new(&[200]);
    memory.fill(3);
    for directory in [".", "/dev/shm"] {
        for (offset, before) in [
            (0, 0),
            (777, 1000),
            (4096, 4096),
            (4095, 0),
            (9000, 40 << 20),
        ] {
            let files = [Way::Through, Way::Copied, Way::Lent].map(|way| {
                let file = tempfile::tempfile_in(directory).unwrap();
                file.write_all_at(&vec![0x5a; before], 0).unwrap();
                if way != Way::Through && set_direct(&file, true).is_err() {
                    return None;
                }
                Some(written(&file, offset, way, &memory))
            });
            if let [Some(through), Some(copied), Some(lent)] = files {
                assert!(through == copied, "{directory} {offset}");
                assert!(through == lent, "{directory} {offset}");
            }
        }
    }
}

#[test]
fn little_stays_little() {
    let file = tempfile::tempfile_in(".").unwrap();
    for (offset, text) in [(0, &b"abc"[..]), (5000, b"def"), (10, b"")] {
        let Some(mut stream) = Stream::begin(&file, offset) else {
            return;
        };
        stream.write(text, &[]).unwrap();
        stream.finish().unwrap();
    }
    let mut found = vec![0; 5003];
    assert_eq!(file.metadata().unwrap().len(), 5003);
    file.read_exact_at(&mut found, 0).unwrap();
    assert!(found.starts_with(b"abc\0") && found.ends_with(b"\0def"));
}

#[test]
fn what_cannot_be_written_so_is_left_as_it_is() {
    let (_, pipe) = std::io::pipe().unwrap();
    assert!(Stream::begin(&pipe, 0).is_none());
    let file = tempfile::NamedTempFile::new_in(".").unwrap();
    let open = || File::options().append(true).open(file.path()).unwrap();
    // It would not be written where it is told to.
    let appends = open();
    assert!(Stream::begin(&appends, 0).is_none());
    assert!(!is_fit(&appends));
    assert_eq!(sys::status_flags(&appends).unwrap() & libc::O_DIRECT, 0);
    // Given up, the file has no room that nobody uses.
    let file = tempfile::tempfile_in(".").unwrap();
    let memory = Memory::new(&[1000]);
    memory.fill(1);
    if let Some(mut stream) = Stream::begin(&file, 0) {
        for _ in 0..4 {
            stream.write(b"", &[span(&memory, 0, 1000)]).unwrap();
        }
        assert!(file.metadata().unwrap().len() > 4000 * 4096);
        drop(stream);
        assert_eq!(file.metadata().unwrap().len(), 4000 * 4096);
        assert_eq!(sys::status_flags(&file).unwrap() & libc::O_DIRECT, 0);
    }
}

#[test]
fn a_refusal_goes_through_the_cache() {
    let file = tempfile::tempfile_in(".").unwrap();
    if set_direct(&file, true).is_err() {
        return;
    }
    // No place that can be written past the cache.
    write_all(&file, b"abc", &[], 77).unwrap();
    assert_eq!(sys::status_flags(&file).unwrap() & libc::O_DIRECT, 0);
    let memory = Memory::new(&[2]);
    memory.fill(1);
    set_direct(&file, true).unwrap();
    write_all(&file, b"def", &[span(&memory, 0, 2)], 80).unwrap();
    let mut found = [0; 83 + 8192];
    file.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(found[77..83], *b"abcdef");
    assert_eq!(found[83..], memory.bytes()[0]);
}

#[test]
fn a_full_disk_is_told() {
    let memory = Memory::new(&[3000]);
    memory.fill(1);
    for lends in [false, true] {
        let file = tempfile::tempfile_in(".").unwrap();
        let Some(mut stream) = Stream::begin(&file, 0) else {
            return;
        };
        stream.lends &= lends;
        // Whatever is written from here on, cannot be.
        let read_only = File::open("/dev/null").unwrap();
        stream.writers = Writers::start(&Arc::new(read_only));
        let mut write = || {
            for _ in 0..10 {
                stream.write(b"", &[span(&memory, 0, 3000)])?;
            }
            stream.drain()
        };
        let told = write().unwrap_err().to_string();
        assert_eq!(told, "Cannot write the file: Bad file descriptor");
        drop(stream);
        // Room is given back.
        assert!(file.metadata().unwrap().len() <= 30_000 * 4096);
    }
}

/// Records of a stream: what they are, and where the pages behind them begin.
fn records(bytes: &[u8]) -> (Hello, Vec<(Kind, usize, usize)>) {
    let hello = Hello::decode(bytes[..HELLO_LEN].try_into().unwrap()).unwrap();
    let (mut at, mut found) = (HELLO_LEN, Vec::new());
    while at < bytes.len() {
        let head = bytes[at..at + HEAD_LEN].try_into().unwrap();
        let head = Head::decode(head, found.len() as u32).unwrap();
        let payload = at + HEAD_LEN..at + HEAD_LEN + head.len as usize;
        head.check(&bytes[payload.clone()]).unwrap();
        found.push((head.kind, payload.end, head.data as usize));
        at = payload.end + head.data as usize;
    }
    (hello, found)
}

#[test]
fn a_busy_machine_is_saved_from_where_its_memory_is() {
    for (directory, offset) in [(".", 0), (".", 777), (".", 8192), ("/dev/shm", 4095)] {
        let from = Memory::new(&[6000, 100]);
        from.fill(7);
        let to = Memory::new(&[6000, 100]);
        to.fill(8);
        let file = tempfile::tempfile_in(directory).unwrap();
        let before = vec![0x5a; offset as usize];
        file.write_all_at(&before, 0).unwrap();
        let channel = || Channel {
            fd: file.try_clone().unwrap().into(),
            kind: ChannelKind::File { offset },
        };
        let guest = Guest::new(&from.view, 2, 20);
        let channels = vec![(channel(), channel())];
        let Pair { source, target, .. } =
            pair(&from, &to, Some(guest), SendOptions::default(), channels);
        assert_eq!(source.run(), SourceEnd::Completed);
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes[..before.len()], before);
        let (hello, found) = records(&bytes[before.len()..]);
        // All of it, and nothing behind it.
        assert_eq!(found.last().unwrap().0, Kind::End);
        let fillers = found.iter().filter(|record| record.0 == Kind::Filler);
        if hello.features.has(Features::FILLED) {
            assert!(fillers.count() > 2);
            let large = found.iter().filter(|record| record.2 >= LEAST_LENT);
            assert!(large.clone().any(|record| record.2 > 1 << 20));
            for (_, at, _) in large {
                assert!((before.len() + at).is_multiple_of(ALIGN));
            }
        } else {
            assert_eq!(fillers.count(), 0);
        }
        assert_eq!(target.run(), Ok(RunState::Running));
        assert!(from.bytes() == to.bytes(), "{directory} {offset}");
    }
}
