//! Good images of the formats that are written: what was written is read back, whatever fails in
//! between.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::operations(data);
});
