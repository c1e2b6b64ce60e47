use super::*;
use crate::cli::args::Arg;
use crate::cli::decode;
use crate::cli::plan::Plan;

fn spec(options: &[(&'static str, &str)]) -> Result<MachineSpec, String> {
    let mut plan = Plan::default();
    for (name, value) in options {
        let arg = Arg {
            name,
            value: (*value).to_owned(),
            location: format!("-{name} {value}"),
        };
        decode::take(&mut plan, arg).map_err(|error| error.to_string())?;
    }
    MachineSpec::check(plan.machine).map_err(|error| error.to_string())
}

#[test]
fn defaults_are_those_of_a_pc() {
    let spec = spec(&[]).unwrap();
    assert_eq!(spec.kind, MachineKind::Q35);
    assert_eq!(spec.accels, [AccelKind::Kvm]);
    assert_eq!((spec.ram.0, spec.topology.cpus), (128 << 20, 1));
    assert_eq!(spec.cpu_text, "qemu64");
    assert!(spec.mem_merge && spec.dump_guest_core && spec.i8042);
}

#[test]
fn machines_go_by_name_and_alias() {
    for (name, kind) in [
        ("pc", MachineKind::Pc),
        ("pc-i440fx-10.0", MachineKind::Pc),
        ("pc-i440fx-10.0,", MachineKind::Pc),
        ("type=pc,usb=off,vmport=off,hpet=off", MachineKind::Pc),
        ("q35", MachineKind::Q35),
        ("none", MachineKind::None),
    ] {
        assert_eq!(spec(&[("machine", name)]).unwrap().kind, kind, "{name}");
    }
    let error = spec(&[("machine", "pc,foo=1")]).unwrap_err();
    assert!(error.contains("Property 'pc-i440fx-10.0-machine.foo' not found"));
    let error = spec(&[("machine", "pc-i440fx-9.2")]).unwrap_err();
    assert!(error.contains("unsupported machine type: \"pc-i440fx-9.2\""));
}

#[test]
fn several_accelerators_are_tried_in_turn() {
    let chosen = spec(&[("machine", "q35,accel=tcg:kvm:qtest")]).unwrap();
    assert_eq!(chosen.accels, [AccelKind::Kvm, AccelKind::Qtest]);
    assert_eq!(chosen.missing_accels, ["tcg"]);
    assert!(spec(&[("accel", "kvm"), ("accel", "tcg")]).is_ok());
}

#[test]
fn properties_of_the_machine_are_taken_or_refused() {
    let set = spec(&[(
        "machine",
        "q35,mem-merge=off,dump_guest_core=off,memory-backend=m,usb=off,vmport=off,hpet=off,acpi=on",
    )])
    .unwrap();
    assert!(!set.mem_merge && !set.dump_guest_core);
    assert_eq!(set.memory_backend.map(|(id, _)| id).as_deref(), Some("m"));
    for (value, text) in [
        (
            "q35,mem-merge=maybe",
            "Parameter 'mem-merge' expects 'on' or 'off'",
        ),
        (
            "q35,acpi=off",
            "Property 'acpi' cannot be 'off': not supported",
        ),
        ("q35,pflash0=x", "Property 'pflash0' is not supported"),
        (
            "q35,foo=bar",
            "Property 'pc-q35-10.0-machine.foo' not found",
        ),
    ] {
        let error = spec(&[("machine", value)]).unwrap_err();
        assert_eq!(error, format!("-machine {value}: {text}"));
    }
}

#[test]
fn kernels_come_before_what_belongs_to_them() {
    let error = spec(&[("initrd", "x")]).unwrap_err();
    assert_eq!(error, "-initrd only allowed with -kernel option");
    assert!(spec(&[("initrd", "x"), ("kernel", "k"), ("append", "a")]).is_ok());
    let error = spec(&[("smp", "256")]).unwrap_err();
    let text = "Invalid SMP CPUs 256. The max CPUs supported by machine 'pc-q35-10.0' is 255";
    assert_eq!(error, text);
}

#[test]
fn topologies_whose_apic_ids_do_not_fit_are_refused() {
    assert!(spec(&[("smp", "255")]).is_ok());
    let error = spec(&[("smp", "255,sockets=85,cores=3")]).unwrap_err();
    let text = "Invalid CPU topology: it takes APIC ids up to 338, and the highest is 254";
    assert_eq!(error, text);
}
