use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tempfile::TempDir;

use super::*;

fn options(path: &Path, size: u64, preallocation: Preallocation) -> FileCreate {
    FileCreate {
        filename: path.to_str().unwrap().to_owned(),
        size,
        preallocation,
        nocow: true,
        extent_size_hint: None,
    }
}

fn open(options: FileCreate) -> Result<NewFile, BlockError> {
    let mut opener = |path: &str, flags: i32| {
        File::options()
            .read(true)
            .write(true)
            .create(flags & libc::O_CREAT != 0)
            .truncate(false)
            .open(path)
    };
    NewFile::open(options, &mut opener)
}

fn make(options: FileCreate) -> Result<(), BlockError> {
    open(options)?.fill(&|| true)
}

#[test]
fn files_get_their_size_and_storage() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.img");
    for (preallocation, size) in [
        (Preallocation::Off, 3 << 20),
        (Preallocation::Falloc, 0),
        (Preallocation::Falloc, 3 << 20),
        (Preallocation::Full, (2 << 20) + 512),
        (Preallocation::Off, 0),
    ] {
        // What was there is gone.
        std::fs::write(&path, [7; 9000]).unwrap();
        make(options(&path, size, preallocation)).unwrap();
        let data = std::fs::metadata(&path).unwrap();
        assert_eq!(data.len(), size, "{preallocation:?}");
        let stored = data.blocks() * 512;
        match preallocation {
            Preallocation::Off => assert_eq!(stored, 0),
            _ => assert!(stored >= size),
        }
        assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.img");
    let refused = |options| make(options).unwrap_err().to_string();
    assert_eq!(
        refused(options(&path, 512, Preallocation::Metadata)),
        "Unsupported preallocation mode 'metadata'"
    );
    let hint = FileCreate {
        extent_size_hint: Some(1 << 32),
        ..options(&path, 512, Preallocation::Off)
    };
    assert_eq!(refused(hint), "Extent size hint is too large");
    assert!(!path.exists(), "nothing was made");
    let nowhere = dir.path().join("no/a.img");
    let text = refused(options(&nowhere, 512, Preallocation::Off));
    let wanted = format!(
        "Could not create '{}': No such file or directory",
        nowhere.display()
    );
    assert_eq!(text, wanted);
    assert_eq!(
        refused(options(&path, u64::MAX, Preallocation::Off)),
        "Image size is too large"
    );
    std::fs::write(&path, [7; 9000]).unwrap();
    for preallocation in [Preallocation::Off, Preallocation::Falloc] {
        let text = refused(options(&path, i64::MAX as u64, preallocation));
        assert!(text.starts_with("Could not "), "{text}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    }
}

#[test]
fn files_in_use_are_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.img");
    std::fs::write(&path, [7; 9000]).unwrap();
    let user = File::open(&path).unwrap();
    let lock = ImageLock::new(&user, "a", Locking::On).unwrap();
    lock.set(&user, Perms::device(true, false)).unwrap();
    let error = make(options(&path, 0, Preallocation::Off)).unwrap_err();
    assert_eq!(error.to_string(), "Failed to get \"write\" lock");
    assert!(error.hint().unwrap().starts_with("Is another process"));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 9000);
    lock.set(&user, Perms::NONE).unwrap();
    make(options(&path, 0, Preallocation::Off)).unwrap();
}

#[test]
fn making_a_file_can_be_ended() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.img");
    let new = open(options(&path, 8 << 20, Preallocation::Full)).unwrap();
    let error = new.fill(&|| false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Could not write zeros for preallocation: Operation canceled"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
}
