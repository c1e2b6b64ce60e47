use std::fs::File;
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use vm_memory::bitmap::{Bitmap, NewBitmap};
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{Bytes, FileOffset, GuestMemoryAtomic};

use super::*;

const LEN: usize = 16 * 4096;
/// Where the tests have RAM.
const BASE: u64 = 0x10_0000;

fn memfd(flags: u32, len: u64) -> Option<File> {
    // SAFETY: the name is a C string; the descriptor is new and ours.
    let file = unsafe {
        let fd = libc::memfd_create(c"discard-test".as_ptr(), flags);
        if fd < 0 {
            return None;
        }
        File::from_raw_fd(fd)
    };
    file.set_len(len).ok()?;
    Some(file)
}

fn ram(file: Option<(&File, u64)>, flags: i32, len: usize) -> Option<RamHandle> {
    let flags = match file {
        Some(_) => flags,
        None => flags | libc::MAP_ANONYMOUS,
    };
    let mut builder = MmapRegionBuilder::new_with_bitmap(len, Written::with_len(len))
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .with_mmap_flags(flags);
    if let Some((file, offset)) = file {
        let file = File::from(file.as_fd().try_clone_to_owned().ok()?);
        builder = builder.with_file_offset(FileOffset::new(file, offset));
    }
    let region = GuestRegionMmap::new(builder.build().ok()?, GuestAddress(BASE))?;
    Some(GuestMemoryAtomic::new(
        GuestRam::from_regions(vec![region]).ok()?,
    ))
}

fn fill(ram: &RamHandle, len: usize) {
    let all = vec![0x5a; len];
    ram.memory()
        .write_slice(&all, GuestAddress(BASE))
        .expect("RAM");
}

fn byte(ram: &RamHandle, page: u64) -> u8 {
    ram.memory()
        .read_obj(GuestAddress(BASE + page * GUEST_PAGE))
        .expect("RAM")
}

#[test]
fn each_kind_of_memory_is_given_back() {
    let file = memfd(0, 2 * LEN as u64).expect("a memfd");
    let offset = LEN as u64;
    for (which, file, flags) in [
        ("anonymous", None, libc::MAP_PRIVATE),
        ("anonymous, shared", None, libc::MAP_SHARED),
        ("a file", Some((&file, offset)), libc::MAP_SHARED),
        ("a copy of a file", Some((&file, offset)), libc::MAP_PRIVATE),
    ] {
        let ram = ram(file, flags, LEN).expect("memory");
        fill(&ram, LEN);
        let mut discarder = Discarder::new(&ram);
        let done = discarder.discard(BASE + GUEST_PAGE, 2 * GUEST_PAGE);
        assert_eq!(done, 2 * GUEST_PAGE, "{which}");
        // Reading would bring pages back.
        if let (Some((file, _)), libc::MAP_SHARED) = (file, flags) {
            let blocks = file.metadata().expect("a file").blocks() * 512;
            assert_eq!(blocks, LEN as u64 - 2 * GUEST_PAGE, "{which}");
        }
        let found: Vec<u8> = (0..4).map(|page| byte(&ram, page)).collect();
        assert_eq!(found, [0x5a, 0, 0, 0x5a], "{which}");
        if let Some((file, _)) = file {
            punch(file, 0, 2 * LEN as u64).expect("a hole");
        }
    }
}

#[test]
fn nothing_outside_of_ram_and_no_part_of_a_page() {
    let ram = ram(None, libc::MAP_PRIVATE, LEN).expect("memory");
    fill(&ram, LEN);
    let mut discarder = Discarder::new(&ram);
    let end = BASE + LEN as u64;
    for (at, len, done) in [
        (0, BASE, 0),
        (0, u64::MAX, 0),
        (end, 4096, 0),
        (u64::MAX - 4096, u64::MAX, 0),
        (BASE + 1, 4096, 0),
        (BASE + 1, 8190, 0),
        (BASE, 0, 0),
        (BASE + 1, 8191, 4096),
        (end - 4096, u64::MAX, 4096),
    ] {
        assert_eq!(discarder.discard(at, len), done, "{at:#x} {len:#x}");
    }
    assert_eq!((byte(&ram, 0), byte(&ram, 1), byte(&ram, 15)), (0x5a, 0, 0));
    assert_eq!(discarder.page_at(BASE - 1), None);
    assert_eq!(discarder.page_at(end), None);
    let page = HostPage {
        base: BASE,
        len: GUEST_PAGE,
    };
    assert_eq!(discarder.page_at(BASE + 4095), Some(page));
}

#[test]
fn what_is_discarded_counts_as_changed() {
    let ram = ram(None, libc::MAP_PRIVATE, LEN).expect("memory");
    let mut discarder = Discarder::new(&ram);
    discarder.discard(BASE + 2 * GUEST_PAGE, GUEST_PAGE);
    let memory = ram.memory();
    let region = memory.find_region(GuestAddress(BASE)).expect("a region");
    let dirty: Vec<bool> = (0..4)
        .map(|page| region.bitmap().dirty_at(page * 4096))
        .collect();
    assert_eq!(dirty, [false, false, true, false]);
}

#[test]
fn copies_of_a_file_never_become_zeroes() {
    let file = memfd(0, LEN as u64).expect("a memfd");
    let private = ram(Some((&file, 0)), libc::MAP_PRIVATE, LEN).expect("memory");
    fill(&private, LEN);
    let mut discarder = Discarder::new(&private);
    assert_eq!(discarder.discard_to_zero(BASE, GUEST_PAGE), 0);
    assert_eq!(byte(&private, 0), 0x5a);
    let shared = ram(Some((&file, 0)), libc::MAP_SHARED, LEN).expect("memory");
    let mut discarder = Discarder::new(&shared);
    assert_eq!(discarder.discard_to_zero(BASE, GUEST_PAGE), GUEST_PAGE);
    assert_eq!(discarder.discard_to_zero(0, GUEST_PAGE), 0);
}

#[test]
fn large_pages_are_given_back_whole() {
    const HUGE: u64 = 2 << 20;
    let len = 2 * HUGE;
    let flags = libc::MFD_HUGETLB | 21 << libc::MFD_HUGE_SHIFT;
    let mapped = memfd(flags, len)
        .and_then(|file| Some((ram(Some((&file, 0)), libc::MAP_SHARED, len as usize)?, file)));
    let Some((ram, file)) = mapped else {
        println!("skipped: the host has no huge pages to spare");
        return;
    };
    fill(&ram, len as usize);
    let mut discarder = Discarder::new(&ram);
    let page = discarder.page_at(BASE + HUGE + 5).expect("a page");
    assert_eq!((page.base, page.len), (BASE + HUGE, HUGE));
    assert_eq!(discarder.discard(BASE + 4096, HUGE), 0);
    assert_eq!(discarder.discard(BASE + 4096, 2 * HUGE), HUGE);
    assert_eq!(file.metadata().expect("a file").blocks() * 512, HUGE);
    assert_eq!((byte(&ram, 511), byte(&ram, 512)), (0x5a, 0));
}

#[test]
fn ram_that_comes_later_is_found() {
    let handle = ram(None, libc::MAP_PRIVATE, LEN).expect("memory");
    let mut discarder = Discarder::new(&handle);
    let other = GuestRegionMmap::from_range(GuestAddress(8 << 20), LEN, None).expect("memory");
    let more = handle
        .memory()
        .insert_region(Arc::new(other))
        .expect("room");
    handle.lock().expect("a lock").replace(more);
    assert_eq!(discarder.page_at(8 << 20), None);
    discarder.refresh();
    assert!(discarder.page_at(8 << 20).is_some());
}

#[test]
fn memory_that_shows_a_file_since_never_becomes_zeroes() {
    let handle = ram(None, libc::MAP_PRIVATE, LEN).expect("memory");
    fill(&handle, LEN);
    let mut discarder = Discarder::new(&handle);
    assert_eq!(discarder.discard_to_zero(BASE, GUEST_PAGE), GUEST_PAGE);
    let memory = handle.memory();
    let region = memory.find_region(GuestAddress(BASE)).expect("a region");
    declare_copies(region.as_ptr() as u64, region.len());
    assert_eq!(discarder.discard_to_zero(BASE + 4096, GUEST_PAGE), 0);
    assert_eq!(byte(&handle, 1), 0x5a);
    assert_eq!(discarder.discard(BASE + 4096, GUEST_PAGE), GUEST_PAGE);
    // Declared for ever: these addresses must not become another test's.
    std::mem::forget(handle.clone());
}
