use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use api_spec::RunState;

use super::*;
use crate::migration::fake::*;
use crate::migration::host::{Channel, ChannelKind, SendOptions, SourceEnd};
use crate::migration::ram::PAGE;

fn options(threads: Option<u8>, direct_io: bool) -> SendOptions {
    SendOptions {
        mapped_ram: true,
        multifd: threads,
        direct_io,
        ..SendOptions::default()
    }
}

fn channel(file: &std::path::Path, offset: u64) -> Channel {
    let file = File::options().read(true).write(true).open(file).unwrap();
    Channel {
        fd: file.into(),
        kind: ChannelKind::File { offset },
    }
}

fn save(from: &Memory, path: &std::path::Path, offset: u64, options: SendOptions) -> SourceEnd {
    let ends = vec![(channel(path, offset), channel(path, offset))];
    let guest = Guest::new(&from.view, 2, 20);
    pair(from, from, Some(guest), options, ends).source.run()
}

fn restore(
    to: &Memory,
    path: &std::path::Path,
    offset: u64,
    ram_load: RamLoad,
) -> Result<RunState, Broken> {
    let ends = vec![(channel(path, offset), channel(path, offset))];
    let pair = pair(to, to, None, SendOptions::default(), ends);
    let loaded = pair.loaded.clone();
    let mut target = pair.target;
    target.ram_load = ram_load;
    let result = target.run();
    if result.is_ok() {
        assert_eq!(*loaded.lock().unwrap(), sections());
    }
    result
}

#[test]
fn a_busy_machine_is_in_the_file() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let path = dir.path().join("machine");
    for (offset, threads, direct) in [
        (0, None, false),
        (1000, Some(4), false),
        (8192, Some(2), true),
        (4096, None, true),
    ] {
        // What was there before must not come back.
        let old = vec![0x5a; 20 << 20];
        std::fs::write(&path, &old).unwrap();
        let from = Memory::new(&[3000, 10]);
        from.fill(7);
        let end = save(&from, &path, offset, options(threads, direct));
        if direct && end != SourceEnd::Completed {
            assert!(format!("{end:?}").contains("direct-io"), "{end:?}");
            continue;
        }
        assert_eq!(end, SourceEnd::Completed);
        let mut before = vec![0; offset as usize];
        let file = File::open(&path).unwrap();
        file.read_exact_at(&mut before, 0).unwrap();
        assert!(before.iter().all(|byte| *byte == 0x5a));
        let to = Memory::new(&[3000, 10]);
        to.fill(8);
        assert_eq!(
            restore(&to, &path, offset, RamLoad::Read),
            Ok(RunState::Running)
        );
        assert!(from.bytes() == to.bytes());
        let to = Memory::new(&[3000, 10]);
        to.fill(9);
        let mapped = restore(&to, &path, offset, RamLoad::Map);
        assert_eq!(mapped, Ok(RunState::Running));
        assert!(from.bytes() == to.bytes());
        // Written to, it is a copy that changes.
        let bytes = std::fs::read(&path).unwrap();
        to.fill(10);
        assert!(std::fs::read(&path).unwrap() == bytes);
    }
}

#[test]
fn memory_as_a_disk_does_as_well() {
    // Whether or not it can leave the cache alone.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("machine");
    File::create(&path).unwrap();
    let from = Memory::new(&[3000]);
    from.fill(7);
    let end = save(&from, &path, 100, options(None, false));
    assert_eq!(end, SourceEnd::Completed);
    let to = Memory::new(&[3000]);
    let state = restore(&to, &path, 100, RamLoad::Read);
    assert_eq!(state, Ok(RunState::Running));
    assert!(from.bytes() == to.bytes());
}

#[test]
fn a_file_that_is_appended_to_has_no_places() {
    let file = tempfile::NamedTempFile::new_in(".").unwrap();
    let open = || Channel {
        fd: File::options()
            .append(true)
            .open(file.path())
            .unwrap()
            .into(),
        kind: ChannelKind::File { offset: 0 },
    };
    let from = Memory::new(&[10]);
    let options = options(None, false);
    let pair = pair(&from, &from, None, options, vec![(open(), open())]);
    let why = "'mapped-ram' needs a file that is not open for appending";
    let refused = SourceEnd::Here(Broken::Failed(why.to_owned()));
    assert_eq!(pair.source.run(), refused);
    assert_eq!(file.path().metadata().unwrap().len(), 0);
}

#[test]
fn zeroes_are_holes() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let path = dir.path().join("machine");
    File::create(&path).unwrap();
    let from = Memory::new(&[16384]);
    from.view.blocks[0].write(5 * PAGE, &[1; 4096]);
    let ends = vec![(channel(&path, 0), channel(&path, 0))];
    let end = pair(&from, &from, None, options(None, false), ends)
        .source
        .run();
    assert_eq!(end, SourceEnd::Completed);
    let found = path.metadata().unwrap();
    assert!(found.len() > 64 << 20 && found.blocks() * 512 < 1 << 20);
    let to = Memory::new(&[16384]);
    restore(&to, &path, 0, RamLoad::Read).unwrap();
    assert!(to.resident() <= 4 << 20, "{}", to.resident());
}

#[test]
fn files_that_are_not_whole_are_refused() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let path = dir.path().join("machine");
    File::create(&path).unwrap();
    let from = Memory::new(&[20]);
    from.fill(1);
    assert_eq!(
        save(&from, &path, 0, options(None, false)),
        SourceEnd::Completed
    );
    let whole = std::fs::read(&path).unwrap();
    let to = Memory::new(&[20]);
    let refusal = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let refusals =
            [RamLoad::Read, RamLoad::Map].map(|how| restore(&to, &path, 0, how).unwrap_err());
        refusals[0].to_string()
    };
    for cut in [0, 40, 100, 5000, 2 << 20, whole.len() - 1] {
        let text = refusal(&whole[..cut]);
        assert!(text.contains("seal") || cut < 100, "{cut}: {text}");
    }
    let mut unsealed = whole.clone();
    unsealed[64..92].fill(0);
    assert_eq!(
        refusal(&unsealed),
        "Migration stream: record 'seal', field 'magic': the file was not completed"
    );
    // Heads and tail, a bit at a time; RAM itself has no checksum.
    let heads = (8..40).chain(64..92).chain(4096..4150);
    let tail = ((4 << 20)..whole.len()).step_by(211);
    for at in heads.step_by(5).chain(tail) {
        let mut bad = whole.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bad).unwrap();
        let result = restore(&to, &path, 0, RamLoad::Read);
        assert!(result.is_err(), "byte {at}");
    }
    // Moved by less than a page, it cannot be mapped.
    let mut moved = vec![0; 12];
    moved.extend_from_slice(&whole);
    std::fs::write(&path, &moved).unwrap();
    assert_eq!(
        restore(&to, &path, 12, RamLoad::Read),
        Ok(RunState::Running)
    );
    assert_eq!(
        restore(&to, &path, 12, RamLoad::Map)
            .unwrap_err()
            .to_string(),
        "RAM 'block0' cannot be mapped from the file: the offset is no multiple of 4096"
    );
    std::fs::write(&path, &whole).unwrap();
    let shared = Arc::new(mapping::memfd(None, false).unwrap());
    shared.set_len(20 * PAGE).unwrap();
    let text = restore(&Memory::shared(shared, 20), &path, 0, RamLoad::Map).unwrap_err();
    assert_eq!(
        text.to_string(),
        "RAM 'block0' cannot be mapped from the file: it is shared, or of a file or huge pages; \
         read it instead"
    );
    // While it is mapped, nobody writes it.
    restore(&to, &path, 0, RamLoad::Map).unwrap();
    let end = save(&from, &path, 0, options(None, false));
    let busy = Broken::Failed("The file is in use by another process".into());
    assert_eq!(end, SourceEnd::Here(busy));
    // A stream is not a file with places.
    File::create(dir.path().join("other")).unwrap();
    let other = dir.path().join("other");
    let plain = SendOptions::default();
    assert_eq!(save(&from, &other, 0, plain), SourceEnd::Completed);
    let text = restore(&from, &other, 0, RamLoad::Map).unwrap_err();
    assert!(text.to_string().contains("mapped-ram"), "{text}");
}
