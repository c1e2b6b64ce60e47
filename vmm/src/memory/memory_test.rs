use super::*;
use vm_memory::{Bytes, GuestAddressSpace};

fn refusal(options: BackendOptions) -> String {
    Backend::new(options).unwrap_err().to_string()
}

#[test]
fn ram_around_the_hole_is_one_back_end() {
    let mut options = BackendOptions::ram(5 << 30);
    options.reserve = false;
    let ram = MachineRam::new(crate::layout::Board::Q35, &Backend::new(options).unwrap()).unwrap();
    let host = ram.slots[0].host;
    let seen = ram
        .slots
        .iter()
        .map(|slot| (slot.guest, slot.len, slot.host - host));
    let expected = [
        (0, 0xc_0000, 0),
        (1 << 20, (2 << 30) - (1 << 20), 1 << 20),
        (4 << 30, 3 << 30, 2 << 30),
    ];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
    assert_eq!(
        (ram.shadow.guest, ram.shadow.host - host),
        (0xc_0000, 0xc_0000)
    );
    let memory = ram.handle.memory();
    memory
        .write_obj(0x1234_5678u32, GuestAddress(4 << 30))
        .unwrap();
    let found: u32 = memory.read_obj(GuestAddress(4 << 30)).unwrap();
    assert_eq!(found, 0x1234_5678);
    assert!(memory.write_obj(0u32, GuestAddress(0xe000_0000)).is_err());
}

#[test]
fn memfd_is_shared_sealed_and_preallocated() {
    let mut options = BackendOptions::ram(4 << 20);
    options.kind = Kind::Memfd {
        hugetlb: None,
        seal: true,
    };
    options.share = true;
    options.prealloc = true;
    options.prealloc_threads = 2;
    let backend = Backend::new(options).unwrap();
    let file = backend.file.clone().unwrap();
    assert!(file.set_len(1).is_err());
    let ram = MachineRam::new(crate::layout::Board::Q35, &backend).unwrap();
    ram.handle.memory().write_obj(7u8, GuestAddress(9)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 9).unwrap();
    assert_eq!(byte, [7]);
}

#[test]
fn files_are_made_grown_or_refused() {
    let dir = std::env::temp_dir().join(format!("qvmd-memory-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let path = dir.join("ram");
    let with = |path: &Path, readonly| {
        let mut options = BackendOptions::ram(1 << 20);
        options.kind = Kind::File {
            path: path.to_owned(),
            offset: 0,
            align: 0,
            readonly,
            discard_data: false,
        };
        options
    };
    let missing = refusal(with(&path, true));
    let wanted = format!(
        "can't open backing store {} for guest RAM: No such file or directory",
        path.display()
    );
    assert_eq!(missing, wanted);
    let mut odd = with(&path, false);
    odd.size += 1;
    refusal(odd);
    assert!(!path.exists(), "a refused file was left behind");
    Backend::new(with(&path, false)).unwrap();
    assert_eq!(path.metadata().unwrap().len(), 1 << 20);
    File::create(&path).unwrap().set_len(4096).unwrap();
    let short = refusal(with(&path, false));
    assert_eq!(
        short,
        "backing store size 0x1000 does not match 'size' option 0x100000"
    );
    Backend::new(with(&dir, false)).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn what_the_host_cannot_give_is_said() {
    assert_eq!(
        refusal(BackendOptions::ram(1 << 50)),
        "cannot set up guest memory 'pc.ram': Cannot allocate memory"
    );
    assert_eq!(
        refusal(BackendOptions::ram(0)),
        "property 'size' of memory-backend-ram doesn't take value '0'"
    );
    let mut options = BackendOptions::ram(4096);
    options.prealloc_threads = 0;
    assert_eq!(
        refusal(options),
        "property 'prealloc-threads' of memory-backend-ram doesn't take value '0'"
    );
    let mut options = BackendOptions::ram(4096);
    options.host_nodes = vec![0];
    assert!(refusal(options.clone()).starts_with("host-nodes must be empty for policy default"));
    options.policy = HostMemPolicy::Bind;
    options.host_nodes = vec![1000];
    assert!(refusal(options.clone()).starts_with("cannot bind memory to host NUMA nodes: "));
    options.host_nodes.clear();
    assert_eq!(refusal(options), "host-nodes must be set for policy bind");
    let mut options = BackendOptions::ram(3 << 20);
    options.kind = Kind::Memfd {
        hugetlb: Some(2 << 20),
        seal: true,
    };
    assert_eq!(
        refusal(options),
        "memory size 0x300000 must be multiple of page size 0x200000"
    );
}

/// The kernel's flags of the mapping at `addr` (proc_pid_smaps(5), VmFlags).
fn flags_of(addr: u64) -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in maps.lines() {
        let range = line.split(' ').next().unwrap().split_once('-');
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        if let Some((Some(first), Some(end))) = range.map(|(a, b)| (hex(a), hex(b))) {
            inside = (first..end).contains(&addr);
        }
        if let (true, Some(flags)) = (inside, line.strip_prefix("VmFlags:")) {
            return flags.split_whitespace().map(str::to_owned).collect();
        }
    }
    panic!("no mapping at {addr:#x}");
}

#[test]
fn the_kernel_is_told_how_to_treat_it() {
    let there = |path: &str| std::path::Path::new(path).exists();
    for on in [true, false] {
        let mut options = BackendOptions::ram(4 << 20);
        (options.merge, options.dump) = (on, on);
        let backend = Backend::new(options).unwrap();
        let flags = flags_of(backend.mapping.addr() as u64);
        let has = |flag: &str| flags.iter().any(|name| name == flag);
        assert_eq!(has("dd"), !on, "out of core dumps: {flags:?}");
        if there("/sys/kernel/mm/ksm") {
            assert_eq!(has("mg"), on, "merged with equal pages: {flags:?}");
        }
        if there("/sys/kernel/mm/transparent_hugepage") {
            assert!(has("hg"), "in huge pages: {flags:?}");
        }
    }
}
