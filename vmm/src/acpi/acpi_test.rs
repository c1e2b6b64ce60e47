use super::*;
use std::process::Command;

fn config(cpus: u32) -> AcpiConfig {
    let layout = RamLayout::q35(4 << 30);
    AcpiConfig {
        layout,
        apic_ids: (0..cpus).collect(),
        serial: vec![
            SerialPort {
                index: 0,
                port: 0x3f8,
                irq: 4,
            },
            SerialPort {
                index: 1,
                port: 0x2f8,
                irq: 3,
            },
        ],
        pvpanic: Some(0x505),
        generation: true,
        keyboard: false,
        last_bus: 15,
        mmio64: Some(layout.mmio64()),
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

#[test]
fn tables_are_whole_and_point_to_each_other() {
    let tables = build(&config(255)).unwrap();
    let find = |addr: u64| {
        tables
            .parts
            .iter()
            .find(|(at, _)| *at == addr)
            .map(|(_, b)| b)
    };
    let mut end = 0;
    for (at, bytes) in &tables.parts {
        assert!(*at >= end && *at >= layout::TABLES.base, "no overlap");
        end = at + bytes.len() as u64;
        assert!(end <= layout::TABLES.end());
        if &bytes[..4] != b"FACS" && &bytes[..4] != b"RSD " {
            assert_eq!(sum(bytes), 0, "{:?}", &bytes[..4]);
            let len = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
            assert_eq!(len as usize, bytes.len());
        }
    }
    let rsdp = find(RSDP).unwrap();
    assert_eq!((sum(&rsdp[..20]), sum(rsdp)), (0, 0));
    let xsdt = find(u64::from_le_bytes(rsdp[24..32].try_into().unwrap())).unwrap();
    let found: Vec<[u8; 4]> = xsdt[36..]
        .chunks(8)
        .map(|entry| u64::from_le_bytes(entry.try_into().unwrap()))
        .map(|at| find(at).unwrap()[..4].try_into().unwrap())
        .collect();
    assert_eq!(found, [*b"FACP", *b"APIC", *b"MCFG", *b"WAET"]);
    assert!(build(&config(4000)).is_none(), "too many processors");
}

#[test]
fn the_reference_compiler_takes_them() {
    if Command::new("iasl").arg("-v").output().is_err() {
        eprintln!("skipped: no iasl");
        return;
    }
    let dir = std::env::temp_dir().join(format!("qvmd-acpi-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for (_, bytes) in build(&config(3)).unwrap().parts {
        let signature = String::from_utf8_lossy(&bytes[..4]).into_owned();
        if signature == "FACS" || signature == "RSD " {
            continue;
        }
        let file = dir.join(format!("{signature}.dat"));
        std::fs::write(&file, &bytes).unwrap();
        let run = |args: &[&str], file: &str| {
            let output = Command::new("iasl")
                .args(args)
                .arg(file)
                .current_dir(&dir)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{signature}: {text}");
            text
        };
        let text = run(&["-d"], &format!("{signature}.dat"));
        assert!(
            !text.contains("Warning") && !text.contains("Error"),
            "{text}"
        );
        if signature == "DSDT" {
            let text = run(&["-p", "again"], "DSDT.dsl");
            assert!(text.contains(" 0 Errors, 0 Warnings"), "{text}");
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn pins_are_wired_as_on_q35() {
    assert_eq!(layout::intx_gsi(0, 0), 20);
    assert_eq!(layout::intx_gsi(3, 1), 20);
    assert_eq!(layout::intx_gsi(4, 3), 23);
    assert_eq!(layout::intx_gsi(31, 0), 16);
    assert_eq!(layout::intx_gsi(30, 2), 22);
    assert_eq!(layout::intx_gsi(25, 3), 19);
}
