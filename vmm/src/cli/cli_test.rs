use super::*;
use crate::machine::spec::MachineKind;

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn order(text: &str) -> Box<Order> {
    match parse(&words(text)) {
        Ok(Request::Run(order)) => order,
        Ok(Request::Print(text)) => panic!("printed {text}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn options_decode_into_the_types_of_their_commands() {
    let order = order(
        "-M none -object iothread,id=io1 -object {\"qom-type\":\"rng-builtin\",\"id\":\"r\"} \
         -blockdev driver=null-co,node-name=n,size=1048576 -device {\"driver\":\"pvpanic\",\"events\":\"1\"} \
         -qmp unix:/x,server=on,wait=off -serial chardev:c -chardev null,id=c",
    );
    assert_eq!(order.machine.kind, MachineKind::None);
    assert_eq!(order.objects.len(), 2);
    assert_eq!(order.monitors[0].chardev, "compat_monitor0");
    assert_eq!(order.serials[0].chardev.as_deref(), Some("c"));
    let ids: Vec<&str> = order
        .chardevs
        .iter()
        .map(|(_, args)| args.id.as_str())
        .collect();
    assert_eq!(ids, ["c", "compat_monitor0"]);
}

#[test]
fn help_and_version_are_printed() {
    for (text, line) in [
        ("-version", "QEMU emulator version 10.0.2 (qvmd "),
        ("-S --version -bogus", "QEMU emulator version 10.0.2 (qvmd "),
        ("-h", "QEMU emulator version"),
        ("-machine help", "Supported machines are:"),
        ("-M ?", "Supported machines are:"),
        ("-accel help", "Accelerators supported in QEMU binary:"),
        ("-cpu help", "Available CPUs:"),
        ("-device help", "Controller/Bridge/Hub devices:"),
        ("-device virtio-blk-pci,help", "virtio-blk-pci options:"),
        ("-object help", "List of user creatable objects:"),
    ] {
        match parse(&words(text)) {
            Ok(Request::Print(printed)) => assert!(printed.starts_with(line), "{printed}"),
            Ok(Request::Run(_)) => panic!("{text} runs"),
            // -bogus is found first.
            Err(error) => assert!(error.to_string().contains("bogus"), "{error}"),
        }
    }
}

#[test]
fn mistakes_are_found_before_anything_is_made() {
    for (text, message) in [
        (
            "-M foo",
            "-M foo: unsupported machine type: \"foo\"\nUse -machine help to list supported machines",
        ),
        (
            "-M q35,foo=1",
            "-M q35,foo=1: Property 'pc-q35-10.0-machine.foo' not found",
        ),
        ("-accel tcg", "-accel tcg: invalid accelerator tcg"),
        ("-cpu foo", "unable to find CPU model 'foo'"),
        (
            "-device foo",
            "-device foo: 'foo' is not a valid device model name",
        ),
        (
            "-device pvpanic,foo=1",
            "-device pvpanic,foo=1: Property 'pvpanic.foo' not found",
        ),
        (
            "-device pvpanic,ioport",
            "-device pvpanic,ioport: Expected '=' after parameter 'ioport'",
        ),
        (
            "-object foo,id=a",
            "-object foo,id=a: Parameter 'qom-type' does not accept value 'foo'",
        ),
        ("-append x", "-append only allowed with -kernel option"),
        (
            "-blockdev driver=foo",
            "-blockdev driver=foo: Parameter 'driver' does not accept value 'foo'",
        ),
        (
            "-m 4K",
            "-m 4K: memory size 0x1000 is too small: at least 1 MiB",
        ),
    ] {
        match parse(&words(text)) {
            Err(error) => assert_eq!(error.to_string(), message),
            Ok(_) => panic!("{text} is accepted"),
        }
    }
}
