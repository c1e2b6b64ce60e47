use super::*;
use crate::migration::fake::Memory;

#[test]
fn zeroes_are_found() {
    let memory = Memory::new(&[64]);
    let block = &memory.view.blocks[0];
    for at in 0..PAGE {
        block.write(at, &[1]);
        assert!(!is_zero(block, 0), "byte {at}");
        block.write(at, &[0]);
    }
    assert!(is_zero(block, 0) && !is_zero(block, 64) && !is_zero(block, u64::MAX));
    block.write(40 * PAGE + 17, &[1]);
    block.write(41 * PAGE, &[1]);
    for ground in [Ground::of(block), Ground::Unknown] {
        let mut runs = Vec::new();
        scan(block, &ground, 2, 62, Zeroes::All, &mut runs);
        let seen: Vec<_> = runs.iter().map(|r| (r.first, r.count, r.zero)).collect();
        assert_eq!(seen, [(2, 38, true), (40, 2, false), (42, 22, true)]);
    }
}

#[test]
fn zeroes_that_nobody_looks_for() {
    let memory = Memory::new(&[64]);
    let block = &memory.view.blocks[0];
    block.write(3 * PAGE, &[1]);
    let mut runs = Vec::new();
    scan(block, &Ground::Unknown, 2, 4, Zeroes::Untouched, &mut runs);
    let seen: Vec<_> = runs.iter().map(|r| (r.first, r.count, r.zero)).collect();
    assert_eq!(seen, [(2, 4, false)]);
}
