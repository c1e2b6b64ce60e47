//! The migration stream, as a snapshot and as a target gets it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    vmm::migration::testing::stream(data);
});
