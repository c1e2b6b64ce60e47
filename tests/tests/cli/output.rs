//! Text that is printed and parsed by clients.

use tests::VmBuilder;
use tests::binary::{first_line_of_version, is_stand_in};

fn printed(args: &[&str]) -> String {
    let exit = VmBuilder::bare().args(args).run();
    assert_eq!(exit.status, Some(0), "{args:?}: {exit:?}");
    assert!(!exit.stdout.is_empty(), "{args:?}: {exit:?}");
    exit.stdout
}

#[test]
fn the_first_line_of_version() {
    let line = first_line_of_version();
    assert!(line.starts_with("QEMU emulator version 10.0.2 ("), "{line}");
    // One client takes the fourth word.
    assert_eq!(line.split(' ').nth(3), Some("10.0.2"));
    if !is_stand_in() {
        let own = line
            .split("(qvmd ")
            .nth(1)
            .and_then(|rest| rest.strip_suffix(')'));
        let parts = own.map(|own| {
            own.split('.')
                .filter(|part| part.parse::<u32>().is_ok())
                .count()
        });
        assert_eq!(parts, Some(3), "{line}");
    }
    for spelling in ["-version", "--version"] {
        assert_eq!(printed(&[spelling]).lines().next(), Some(line));
    }
}

#[test]
fn help_names_every_option() {
    for spelling in ["-help", "--help", "-h"] {
        let help = printed(&[spelling]);
        for option in api_spec::OPTIONS {
            // Synonyms are not all spelled out by the reference.
            let listed = help.contains(&format!("-{}", option.name));
            assert!(listed || is_stand_in(), "{spelling}: no -{}", option.name);
        }
    }
}

#[test]
fn help_as_a_value() {
    for value in ["help", "?"] {
        let machines = printed(&["-machine", value]);
        assert!(
            machines.starts_with("Supported machines are:\n"),
            "{machines}"
        );
        for name in ["pc", "pc-i440fx-10.0", "q35", "pc-q35-10.0", "none"] {
            assert!(
                machines
                    .lines()
                    .any(|line| line.split_whitespace().next() == Some(name)),
                "no {name} in {machines}"
            );
        }
        let cpus = printed(&["-cpu", value]);
        for name in ["host", "max", "qemu64", "kvm64"] {
            assert!(
                cpus.split_whitespace().any(|word| word == name),
                "no {name} in {cpus}"
            );
        }
        let devices = printed(&["-device", value]);
        for name in [
            "virtio-blk-pci",
            "virtio-rng-pci",
            "virtio-serial-pci",
            "virtconsole",
            "virtserialport",
            "pcie-root-port",
            "isa-serial",
            "pvpanic",
            "pvpanic-pci",
            "virtio-balloon-pci",
            "i6300esb",
            "vmgenid",
            "isa-debug-exit",
        ] {
            assert!(
                devices.contains(&format!("name \"{name}\"")),
                "no {name} in {devices}"
            );
        }
        let accels = printed(&["-accel", value]);
        assert!(accels.contains("kvm"), "{accels}");
        assert!(is_stand_in() || accels.contains("qtest"), "{accels}");
    }
}

#[test]
fn help_on_a_device() {
    let text = printed(&["-device", "virtio-blk-pci,help"]);
    assert!(text.starts_with("virtio-blk-pci options:\n"), "{text}");
    for property in [
        "drive=<str>",
        "num-queues=<uint16>",
        "serial=<str>",
        "addr=<",
        "iothread=<",
    ] {
        assert!(
            text.contains(&format!("  {property}")),
            "no {property} in {text}"
        );
    }
}

#[test]
fn help_on_what_is_not_there() {
    let exit = VmBuilder::bare().args(["-device", "bogus,help"]).run();
    // The reference calls that a success.
    exit.assert_says("bogus");
    if !is_stand_in() {
        exit.assert_refused();
    }
}
