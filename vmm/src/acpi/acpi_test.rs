use super::*;
use crate::layout::Board;
use std::process::Command;

const BOARDS: [Board; 2] = [Board::Q35, Board::I440fx];

fn config(board: Board, cpus: u32) -> AcpiConfig {
    let layout = RamLayout::new(board, 4 << 30);
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
        bridges: 1 << 5,
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

#[test]
fn tables_are_whole_and_point_to_each_other() {
    for (board, tables) in [
        (Board::Q35, &[*b"FACP", *b"APIC", *b"MCFG", *b"WAET"][..]),
        (Board::I440fx, &[*b"FACP", *b"APIC", *b"WAET"]),
    ] {
        check_whole(board, tables);
        assert!(build(&config(board, 4000)).is_none(), "too many processors");
    }
}

fn check_whole(board: Board, expected: &[[u8; 4]]) {
    let tables = build(&config(board, 255)).unwrap();
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
    assert_eq!(found, expected);
}

#[test]
fn the_reference_compiler_takes_them() {
    if Command::new("iasl").arg("-v").output().is_err() {
        eprintln!("skipped: no iasl");
        return;
    }
    BOARDS.into_iter().for_each(compile);
}

fn compile(board: Board) {
    let name = format!("qvmd-acpi-{board:?}-{}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    for (_, bytes) in build(&config(board, 3)).unwrap().parts {
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
fn slots_with_hot_plug_are_those_that_can_be_emptied() {
    let dsdt = |board| {
        let parts = build(&config(board, 1)).unwrap().parts;
        let found = parts
            .into_iter()
            .find(|(_, bytes)| bytes.starts_with(b"DSDT"));
        found.unwrap().1
    };
    let has = |bytes: &[u8], name: &str| bytes.windows(4).any(|four| four == name.as_bytes());
    let pc = dsdt(Board::I440fx);
    for (slot, hot) in [(0, false), (1, false), (2, true), (5, false), (31, true)] {
        assert_eq!(has(&pc, &format!("S{:02X}_", slot << 3)), hot, "{slot}");
    }
    assert!(has(&pc, "_E01") && has(&pc, "LNKS") && !has(&pc, "LNKE") && !has(&pc, "_OSC"));
    let q35 = dsdt(Board::Q35);
    assert!(has(&q35, "_OSC") && has(&q35, "LNKH") && !has(&q35, "_E01") && !has(&q35, "S10_"));
}
