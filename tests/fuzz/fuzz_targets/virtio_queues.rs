//! Virtio devices whose driver does anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    devices::testing::virtio_queues(data);
});
