//! What comes on a monitor: bytes, as one client sends them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    qmp::testing::monitor(data);
});
