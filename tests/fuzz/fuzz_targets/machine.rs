//! A whole machine, of either board, whose guest does anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    vmm::machine::testing::machine(data);
    // SAFETY: the machine of this case is gone with its threads, and there is no other.
    unsafe { vmm::memory::unmap_machines() };
});
