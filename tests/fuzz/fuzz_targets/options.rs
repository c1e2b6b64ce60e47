//! Command lines, and the options in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    vmm::cli::testing::options(data);
});
