use super::*;

fn arg(name: &'static str, value: &str) -> Arg {
    let location = if value.is_empty() {
        format!("-{name}")
    } else {
        format!("-{name} {value}")
    };
    Arg {
        name,
        value: value.to_owned(),
        location,
    }
}

fn plan(options: &[(&'static str, &str)]) -> Result<Plan, CliError> {
    let mut plan = Plan::default();
    for (name, value) in options {
        take(&mut plan, arg(name, value))?;
    }
    Ok(plan)
}

#[test]
fn repeated_options_add_up() {
    let plan = plan(&[
        ("name", "a,debug-threads=on"),
        ("name", "process=p"),
        ("machine", "q35,accel=kvm:qtest,"),
        ("machine", "usb=off"),
        ("smp", "4"),
        ("smp", "sockets=2"),
        ("m", "1G"),
        ("m", "size=512"),
        ("no-shutdown", ""),
        ("action", "panic=none,reboot=shutdown"),
    ])
    .unwrap();
    assert_eq!(plan.identity.guest.as_deref(), Some("a"));
    assert_eq!(plan.identity.process.as_deref(), Some("p"));
    assert_eq!(plan.identity.debug_threads, Some(true));
    assert_eq!(plan.machine.kind.as_ref().unwrap().0, "q35");
    let accels: Vec<&str> = plan
        .machine
        .accels
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(accels, ["kvm", "qtest"]);
    assert_eq!(plan.machine.properties[0].0, "usb");
    assert_eq!(
        (plan.machine.smp.cpus, plan.machine.smp.sockets),
        (Some(4), Some(2))
    );
    assert_eq!(plan.machine.memory.as_ref().unwrap().0, 512 << 20);
    assert_eq!(plan.policy.shutdown, api_spec::ShutdownAction::Pause);
    assert_eq!(plan.policy.reboot, api_spec::RebootAction::Shutdown);
}

#[test]
fn refusals_name_option_and_value() {
    const SIZE: &str = "Parameter 'size' expects a non-negative number below 2^64\nOptional \
                        suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand \
                        exabytes, respectively.";
    for (name, value, message) in [
        ("m", "12x", SIZE),
        (
            "m",
            "1G,slots=2",
            "Memory cannot be added at run time: slots and maxmem have no use",
        ),
        ("m", "17592186044416", "ram size too large"),
        ("smp", "x", "Parameter 'cpus' expects a number"),
        ("uuid", "x", "failed to parse UUID string: wrong format"),
        ("name", "a,foo=b", "Invalid parameter 'foo'"),
        (
            "rtc",
            "base=x",
            "invalid datetime format\nvalid formats: '2006-06-17T16:01:21' or '2006-06-17'",
        ),
        ("rtc", "clock=x", "invalid option value 'x'"),
        (
            "action",
            "panic=x",
            "Parameter 'panic' does not accept value 'x'",
        ),
        ("action", "foo=x", "Invalid parameter 'foo'"),
        (
            "add-fd",
            "set=1",
            "fd option is required and must be non-negative",
        ),
        ("add-fd", "fd=1,set=1", "fd cannot be a standard I/O stream"),
        (
            "add-fd",
            "fd=5",
            "set option is required and must be non-negative",
        ),
        (
            "display",
            "gtk",
            "Parameter 'type' does not accept value 'gtk'",
        ),
        ("mon", "mode=control", "Parameter 'chardev' is missing"),
        (
            "mon",
            "c,mode=x",
            "Parameter 'mode' does not accept value 'x'",
        ),
        ("qmp", "foo", "parse error: foo"),
        (
            "serial",
            "foo",
            "could not connect serial device to character backend 'foo'",
        ),
        (
            "qtest",
            "foo",
            "Failed to initialize device for qtest: \"foo\"",
        ),
        ("machine", "q35,foo", "Expected '=' after parameter 'foo'"),
    ] {
        let error = plan(&[(name, value)]).unwrap_err().to_string();
        assert_eq!(error, format!("-{name} {value}: {message}"));
    }
    let error = plan(&[("machine", "q35,accel=kvm"), ("accel", "qtest")]).unwrap_err();
    assert_eq!(
        error.message,
        "The -accel and \"-machine accel=\" options are incompatible"
    );
}

#[test]
fn dates_count_from_1970() {
    for (text, seconds) in [
        ("1970-01-01", Some(0)),
        ("2006-06-17T16:01:21", Some(1_150_560_081)),
        ("2000-02-29", Some(951_782_400)),
        ("2000-13-01", None),
        ("2000-01", None),
        ("2000-01-01-01", None),
        ("x", None),
    ] {
        assert_eq!(date_of(text), seconds, "{text}");
    }
}

#[test]
fn short_options_of_disks_are_drives() {
    let plan = plan(&[
        ("hda", "a,b.img"),
        ("hdd", "d.img"),
        ("cdrom", "c.iso"),
        ("drive", "file=e.img"),
    ])
    .unwrap();
    let drives: Vec<_> = plan
        .disks
        .iter()
        .map(|disk| match disk {
            DiskPlan::Drive(arg) => (arg.value.as_str(), arg.location.as_str()),
            DiskPlan::Blockdev(arg) => panic!("{arg:?}"),
        })
        .collect();
    assert_eq!(
        drives,
        [
            ("index=0,media=disk,file=a,,b.img", "-hda a,b.img"),
            ("index=3,media=disk,file=d.img", "-hdd d.img"),
            ("index=2,media=cdrom,file=c.iso", "-cdrom c.iso"),
            ("file=e.img", "-drive file=e.img"),
        ]
    );
}
