//! An interface whose driver and network do anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    devices::testing::virtio_net(data);
});
