//! Images made here, as QEMU sees them.

use serde_json::{Value, json};

use super::super::peer::{Bench, file, is_here};
use super::*;

const MIB: u64 = 1 << 20;

fn sized(size: u64) -> Qcow2Create {
    Qcow2Create {
        size,
        ..Qcow2Create::default()
    }
}

/// Makes it, and gives what qemu-img says of it after a check.
fn made(bench: &Bench, options: &Qcow2Create) -> Value {
    create(&*file(&bench.path("a")), options).unwrap();
    bench.is_clean("a");
    let info = bench.info("a");
    assert_eq!(info["virtual-size"], options.size);
    assert_eq!(info["cluster-size"], options.cluster_size);
    let facts = &info["format-specific"]["data"];
    match options.compat {
        Compat::V2 => assert_eq!(facts["compat"], "0.10"),
        Compat::V3 => {
            assert_eq!(facts["compat"], "1.1");
            assert_eq!(facts["lazy-refcounts"], options.lazy_refcounts);
            assert_eq!(facts["extended-l2"], options.extended_l2);
        }
    }
    assert_eq!(facts["refcount-bits"], options.refcount_bits);
    let compression = match options.compression {
        CompressionKind::Zlib => "zlib",
        CompressionKind::Zstd => "zstd",
    };
    assert_eq!(facts["compression-type"], compression);
    info
}

#[test]
fn every_option_is_seen_by_qemu() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    made(&bench, &sized(0));
    made(&bench, &sized(512));
    made(&bench, &sized(1 << 40));
    for bits in 9..=21 {
        for refcount_bits in [1, 2, 4, 8, 16, 32, 64] {
            let options = Qcow2Create {
                cluster_size: 1 << bits,
                refcount_bits,
                ..sized(64 * MIB + 512)
            };
            made(&bench, &options);
        }
    }
    made(
        &bench,
        &Qcow2Create {
            lazy_refcounts: true,
            ..sized(MIB)
        },
    );
    let compression = CompressionKind::Zstd;
    made(
        &bench,
        &Qcow2Create {
            compression,
            ..sized(MIB)
        },
    );
    made(
        &bench,
        &Qcow2Create {
            compat: Compat::V2,
            ..sized(MIB)
        },
    );
    made(
        &bench,
        &Qcow2Create {
            extended_l2: true,
            ..sized(MIB)
        },
    );
    let empty = std::fs::metadata(bench.path("a")).unwrap().len();
    assert!(empty <= 4 * 65536, "{empty}");
}

#[test]
fn tables_and_data_are_allocated_as_asked() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    for preallocation in [
        Preallocation::Metadata,
        Preallocation::Falloc,
        Preallocation::Full,
    ] {
        for (cluster_size, refcount_bits, extended_l2, compat) in [
            (512, 64, false, Compat::V3),
            (512, 1, false, Compat::V3),
            (4096, 16, false, Compat::V2),
            (65536, 16, false, Compat::V3),
            (65536, 16, true, Compat::V3),
            (2 << 20, 32, false, Compat::V3),
        ] {
            let options = Qcow2Create {
                cluster_size,
                refcount_bits,
                extended_l2,
                compat,
                preallocation,
                ..sized(9 * MIB + 1024)
            };
            made(&bench, &options);
            let (_, report) = bench.check("a", &[]);
            let clusters = options.size.div_ceil(cluster_size);
            assert_eq!(report["allocated-clusters"], clusters, "{report}");
            assert_eq!(report.get("fragmented-clusters"), None);
            let allocated = file(&bench.path("a")).allocated().unwrap();
            assert_eq!(
                allocated >= options.size,
                preallocation != Preallocation::Metadata,
                "{allocated}"
            );
            bench.io("a", &["read -P 0 0 9M"]);
        }
    }
}

#[test]
fn names_of_other_files_are_written() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    bench.img(&["create", "-f", "raw", "base", "1M"]);
    bench.ok("qemu-io", &["-f", "raw", "-c", "write -P 7 0 1M", "base"]);
    let backed = Qcow2Create {
        backing_file: Some("base".into()),
        backing_format: Some("raw".into()),
        ..sized(2 * MIB)
    };
    let info = made(&bench, &backed);
    assert_eq!(info["backing-filename"], "base");
    assert_eq!(info["backing-filename-format"], "raw");
    bench.io("a", &["read -P 7 0 1M", "read -P 0 1M 1M"]);
    let small = Qcow2Create {
        cluster_size: 512,
        ..backed.clone()
    };
    made(&bench, &small);
    let preallocated = Qcow2Create {
        extended_l2: true,
        preallocation: Preallocation::Metadata,
        ..backed
    };
    made(&bench, &preallocated);
    bench.io("a", &["read -P 7 0 1M", "read -P 0 1M 1M"]);
    for (raw, preallocation) in [
        (false, Preallocation::Off),
        (true, Preallocation::Off),
        (true, Preallocation::Full),
    ] {
        let _ = std::fs::remove_file(bench.path("d"));
        let options = Qcow2Create {
            data_file: Some("d".into()),
            data_node: Some(file(&bench.path("d"))),
            data_file_raw: raw,
            preallocation,
            ..sized(3 * MIB)
        };
        let info = made(&bench, &options);
        let facts = &info["format-specific"]["data"];
        assert_eq!(facts["data-file"], "d");
        assert_eq!(facts["data-file-raw"], json!(raw));
        bench.io("a", &["write -P 9 1M 1M", "read -P 0 0 1M"]);
        bench.is_clean("a");
        let there = std::fs::metadata(bench.path("d")).unwrap().len();
        assert!(!raw || there == 3 * MIB);
    }
}

#[test]
fn what_was_there_does_not_show() {
    if !is_here() {
        return;
    }
    let bench = Bench::new();
    std::fs::write(bench.path("a"), vec![0xaa; 4 << 20]).unwrap();
    let preallocation = Preallocation::Metadata;
    made(
        &bench,
        &Qcow2Create {
            preallocation,
            ..sized(2 * MIB)
        },
    );
    bench.io("a", &["read -P 0 0 2M"]);
}

#[test]
fn what_cannot_be_is_refused_in_qemus_words() {
    let bench = Bench::new();
    let node = file(&bench.path("a"));
    let refused = |change: &dyn Fn(&mut Qcow2Create), words: &str| {
        let mut options = sized(1 << 30);
        change(&mut options);
        let error = create(&*node, &options).unwrap_err().to_string();
        assert_eq!(error, words);
        assert_eq!(node.info().size, 0, "nothing was written");
    };
    refused(
        &|o| o.size = 1000,
        "Image size must be a multiple of 512 bytes",
    );
    let cluster = "Cluster size must be a power of two between 512 and 2048k";
    for size in [0, 256, 1536, 4 << 20] {
        refused(&|o| o.cluster_size = size, cluster);
    }
    let width = "Refcount width must be a power of two and may not exceed 64 bits";
    for bits in [0, 3, 128] {
        refused(&|o| o.refcount_bits = bits, width);
    }
    refused(
        &|o| (o.extended_l2, o.cluster_size) = (true, 8192),
        "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes",
    );
    let later = "compatibility level 1.1 and above (use version=v3 or greater)";
    type Change<'a> = (&'a dyn Fn(&mut Qcow2Create), &'a str);
    let old: [Change; 4] = [
        (
            &|o| o.extended_l2 = true,
            "Extended L2 entries are only supported with",
        ),
        (
            &|o| o.lazy_refcounts = true,
            "Lazy refcounts only supported with",
        ),
        (
            &|o| o.data_file = Some("d".into()),
            "External data files are only supported with",
        ),
        (
            &|o| o.compression = CompressionKind::Zstd,
            "Non-zlib compression type is only supported with",
        ),
    ];
    for (change, words) in old {
        let both = |o: &mut Qcow2Create| {
            o.compat = Compat::V2;
            change(o);
        };
        refused(&both, &format!("{words} {later}"));
    }
    refused(
        &|o| (o.compat, o.refcount_bits) = (Compat::V2, 8),
        "Different refcount widths than 16 bits require compatibility level 1.1 or above \
         (use version=v3 or greater)",
    );
    refused(
        &|o| (o.backing_file, o.preallocation) = (Some("b".into()), Preallocation::Full),
        "Backing file and preallocation can only be used at the same time if extended_l2 is on",
    );
    refused(
        &|o| o.backing_format = Some("raw".into()),
        "Backing format cannot be used without backing file",
    );
    refused(
        &|o| o.data_file_raw = true,
        "data-file-raw requires data-file",
    );
    refused(
        &|o| {
            (o.data_file, o.data_file_raw) = (Some("d".into()), true);
            o.backing_file = Some("b".into());
        },
        "Backing file and data-file-raw cannot be used at the same time",
    );
    let name = "x".repeat(1024);
    refused(
        &|o| {
            o.backing_file = Some(name.clone());
            o.backing_format = Some("raw".into());
        },
        &format!("Could not assign backing file '{name}' with format 'raw': Invalid argument"),
    );
    let name = "x".repeat(500);
    refused(
        &|o| (o.backing_file, o.cluster_size) = (Some(name.clone()), 512),
        &format!("Could not assign backing file '{name}': No space left on device"),
    );
    let large = "Could not resize image: Failed to grow the L1 table: File too large";
    refused(&|o| (o.size, o.cluster_size) = (1 << 40, 512), large);
    refused(&|o| o.size = 1 << 62, large);
    refused(
        &|o| o.size = (1 << 63) - 512,
        "Could not resize image: offset(9223372036854775296) exceeds maximum(9223372035781033984)",
    );
}

#[test]
fn what_is_given_up_is_no_image() {
    let bench = Bench::new();
    let node = file(&bench.path("a"));
    let options = Qcow2Create {
        preallocation: Preallocation::Full,
        ..sized(64 * MIB)
    };
    create(&*node, &sized(MIB)).unwrap();
    for most in [0, 1, 5] {
        let asked = std::cell::Cell::new(0);
        let goes_on = || asked.replace(asked.get() + 1) < most;
        let error = create_while(&*node, &options, &goes_on).unwrap_err();
        assert!(error.to_string().contains("canceled"), "{error}");
        assert_eq!(asked.get(), most + 1);
        let mut magic = [1; 4];
        node.read_at(0, &mut magic).unwrap();
        assert_eq!(magic, [0; 4]);
    }
    create_while(&*node, &options, &|| true).unwrap();
}
