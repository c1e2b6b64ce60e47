//! qed images: opened, looked at, read, and written where that can be done.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::image(block::FormatKind::Qed, data);
});
