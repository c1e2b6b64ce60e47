//! virtio-rng by its ring.

use tests::qtest::Qtest;
use tests::virtio::Device;

fn bytes(args: &[&str], length: u32) -> Vec<u8> {
    let mut t = Qtest::start(args);
    let mut device = Device::find(&mut t, 4);
    device.negotiate(&mut t, u64::MAX);
    let mut queue = device.queue(&mut t, 0, None);
    device.drive(&mut t);
    let at = t.alloc(u64::from(length));
    let mut got = Vec::new();
    // The device may give less than was asked for.
    while got.len() < length as usize {
        let left = length - got.len() as u32;
        queue.add(&mut t, &[(at, left, true)]);
        queue.kick(&mut t);
        let (_, written) = queue.wait(&mut t);
        assert!(written > 0 && written <= left, "{written} of {left} bytes");
        got.extend(t.read(at, written as usize));
    }
    got
}

#[test]
fn entropy_from_each_source() {
    for args in [
        &["-device", "virtio-rng-pci,addr=4.0"][..],
        &[
            "-object",
            "rng-builtin,id=r",
            "-device",
            "virtio-rng-pci,addr=4.0,rng=r",
        ],
        &[
            "-object",
            "rng-random,id=r,filename=/dev/urandom",
            "-device",
            "virtio-rng-pci,addr=4.0,rng=r",
        ],
    ] {
        let got = bytes(args, 1000);
        let distinct = got.iter().collect::<std::collections::HashSet<_>>().len();
        assert!(distinct > 150, "{distinct} different bytes of 1000");
    }
}

#[test]
fn a_source_that_is_a_file() {
    let got = bytes(
        &[
            "-object",
            "rng-random,id=r,filename=/dev/zero",
            "-device",
            "virtio-rng-pci,addr=4.0,rng=r",
        ],
        100,
    );
    assert_eq!(got, [0; 100]);
}

#[test]
fn a_source_that_is_not_there() {
    let exit = tests::VmBuilder::new()
        .stopped()
        .args(["-object", "rng-random,id=r,filename=/no/such/source"])
        .run();
    exit.assert_refused().assert_says("/no/such/source");
}

#[test]
fn no_more_than_the_limit_in_a_period() {
    let mut t = Qtest::start(&[
        "-device",
        "virtio-rng-pci,addr=4.0,max-bytes=64,period=60000",
    ]);
    let mut device = Device::find(&mut t, 4);
    device.negotiate(&mut t, u64::MAX);
    let mut queue = device.queue(&mut t, 0, None);
    device.drive(&mut t);
    let at = t.alloc(4096);
    queue.add(&mut t, &[(at, 64, true)]);
    queue.add(&mut t, &[(at + 64, 64, true)]);
    queue.kick(&mut t);
    assert_eq!(queue.wait(&mut t).1, 64);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(queue.poll(&mut t), None, "more than the limit");
    if tests::binary::is_stand_in() {
        return;
    }
    t.ok("clock_step 60000000000");
    assert_eq!(queue.wait(&mut t).1, 64);
}

#[test]
fn a_limit_of_nothing_is_refused() {
    for bad in [
        "max-bytes=1,period=0",
        "max-bytes=0",
        "max-bytes=9223372036854775808",
    ] {
        let exit = tests::VmBuilder::new()
            .stopped()
            .arg("-device")
            .arg(format!("virtio-rng-pci,{bad}"))
            .run();
        exit.assert_refused();
    }
}
