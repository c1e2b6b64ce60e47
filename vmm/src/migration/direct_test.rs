use super::*;
use crate::migration::fake::{Memory, Noise};
use crate::migration::pages::Run;

fn span(memory: &Memory, first: u64, count: u32) -> Span {
    let zero = false;
    Span::of(&memory.view.blocks[0], &Run { first, count, zero }).unwrap()
}

/// What is written, by either way; the file as it was when it was done.
fn written(file: &File, offset: u64, direct: bool, memory: &Memory) -> Vec<u8> {
    let mut noise = Noise(5);
    let mut expected = Vec::new();
    let mut stream = direct.then(|| Stream::begin(file, offset).expect("the file is fit"));
    for round in 0..60u32 {
        let head = &noise.page()[..(noise.next() % 4000) as usize];
        let spans = match round % 3 {
            0 => Vec::new(),
            1 => vec![span(memory, 3, 1), span(memory, 7, 2)],
            _ => vec![span(memory, u64::from(round), 120)],
        };
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
fn both_ways_write_the_same() {
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
            let files = [false, true].map(|direct| {
                let file = tempfile::tempfile_in(directory).unwrap();
                file.write_all_at(&vec![0x5a; before], 0).unwrap();
                if direct && set_direct(&file, true).is_err() {
                    return None;
                }
                Some(written(&file, offset, direct, &memory))
            });
            if let [Some(through), Some(past)] = files {
                assert!(through == past, "{directory} {offset}");
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
    write_all(&file, b"abc", 77).unwrap();
    assert_eq!(sys::status_flags(&file).unwrap() & libc::O_DIRECT, 0);
    let mut found = [0; 80];
    file.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(found[77..], *b"abc");
}

#[test]
fn a_full_disk_is_told() {
    let memory = Memory::new(&[3000]);
    memory.fill(1);
    let file = tempfile::tempfile_in(".").unwrap();
    let Some(mut stream) = Stream::begin(&file, 0) else {
        return;
    };
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
}
