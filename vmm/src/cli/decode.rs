//! From single options to the [`Plan`].

use api_spec::globals::Global;
use serde_json::Value;

use super::args::{Arg, CliError};
use super::chardev::{self, ShortForm};
use super::confine;
use super::later;
use super::opts::{Kind, Opts, Table, c_number, parse_mebibytes, split};
use super::plan::{DiskPlan, FdPlan, MonitorOver, MonitorPlan, Plan, RtcBase};
use crate::sys::MemoryLock;

type Done = Result<(), CliError>;

/// Takes one option into the plan.
///
/// # Errors
/// What is wrong with its value, in QEMU's words.
pub fn take(plan: &mut Plan, arg: Arg) -> Done {
    match arg.name {
        "name" => name(plan, &arg),
        "uuid" => uuid(plan, &arg),
        "machine" => machine(plan, &arg),
        "accel" => accel(plan, &arg),
        "cpu" => keep(&mut plan.machine.cpu, arg),
        "smp" => smp(plan, &arg),
        "m" => memory(plan, &arg),
        "object" => push(&mut plan.objects, arg),
        "device" => push(&mut plan.devices, arg),
        "global" => push(&mut plan.globals, global(&arg)?),
        "incoming" => keep(&mut plan.incoming, arg),
        "set" => later::set(plan, &arg),
        "balloon" => balloon(plan, arg),
        "watchdog" => watchdog(plan, arg),
        "watchdog-action" => policy(plan, &arg, "watchdog", &arg.value),
        "netdev" => push(&mut plan.netdevs, arg),
        "nic" => push(&mut plan.nics, arg),
        "net" => push(&mut plan.nets, arg),
        "serial" => serial(plan, arg),
        "blockdev" => push(&mut plan.disks, DiskPlan::Blockdev(arg)),
        "drive" => push(&mut plan.disks, DiskPlan::Drive(arg)),
        "hda" => drive(plan, arg, "index=0,media=disk"),
        "hdb" => drive(plan, arg, "index=1,media=disk"),
        "hdc" => drive(plan, arg, "index=2,media=disk"),
        "hdd" => drive(plan, arg, "index=3,media=disk"),
        "snapshot" => set(&mut plan.snapshot),
        "cdrom" => drive(plan, arg, "index=2,media=cdrom"),
        "chardev" => {
            let arguments = chardev::chardev(&arg.value).map_err(|e| arg.error(e))?;
            push(&mut plan.chardevs, (arg, arguments))
        }
        "qmp" => qmp(plan, arg, false),
        "qmp-pretty" => qmp(plan, arg, true),
        "mon" => mon(plan, arg),
        "monitor" => monitor(&arg),
        "kernel" => keep(&mut plan.machine.kernel, arg.value.into()),
        "initrd" => keep(&mut plan.machine.initrd, arg.value.into()),
        "append" => keep(&mut plan.machine.append, arg.value),
        "rtc" => rtc(plan, &arg),
        "action" => action(plan, &arg),
        "add-fd" => add_fd(plan, arg),
        "msg" => msg(plan, &arg),
        "display" => display(&arg),
        "nographic" => set(&mut plan.nographic),
        "nodefaults" => set(&mut plan.nodefaults),
        "no-user-config" => Ok(()),
        "only-migratable" => set(&mut plan.machine.only_migratable),
        "no-reboot" => policy(plan, &arg, "reboot", "shutdown"),
        "no-shutdown" => policy(plan, &arg, "shutdown", "pause"),
        "S" => set(&mut plan.process.stopped),
        "loadvm" => keep(&mut plan.process.loadvm, arg),
        "daemonize" => set(&mut plan.process.daemonize),
        "pidfile" => keep(&mut plan.process.pidfile, arg.value.into()),
        "D" => keep(&mut plan.process.log_file, arg.value.into()),
        "qtest" => qtest(plan, arg),
        "qtest-log" => keep(&mut plan.qtest.log, arg.value.into()),
        "audio" if arg.value == "none" || arg.value == "driver=none" => Ok(()),
        "vga" if arg.value == "none" => Ok(()),
        "enable-kvm" => machine_accels(plan, "kvm", &arg),
        "d" => push(&mut plan.process.log_levels, arg),
        "overcommit" => overcommit(plan, &arg),
        "sandbox" => confine::sandbox(&mut plan.process.sandbox, &arg),
        "add-dir" => confine::add_dir(&mut plan.process.sandbox, &arg),
        "run-with" => confine::run_with(&mut plan.process.sandbox, &arg),
        "runas" => {
            confine::run_as(&mut plan.process.sandbox, &arg, &arg.value);
            Ok(())
        }
        "chroot" => {
            let directory = arg.value.into();
            keep(&mut plan.process.sandbox.chroot, directory)
        }
        _ => Err(arg.error("This option is not available")),
    }
}

/// `driver.property=value`, or the three as a list.
fn global(arg: &Arg) -> Result<Global, CliError> {
    if let Some((driver, rest)) = arg.value.split_once('.')
        && let Some((property, value)) = rest.split_once('=')
        && !driver.contains(['=', ','])
    {
        return Ok(Global {
            driver: driver.to_owned(),
            property: property.to_owned(),
            value: value.to_owned(),
        });
    }
    let table = Table {
        implied: None,
        keys: &[
            ("driver", Kind::Text),
            ("property", Kind::Text),
            ("value", Kind::Text),
        ],
    };
    let opts = opts(arg, &table)?;
    let text = |key| opts.text(key).map(str::to_owned);
    match (text("driver"), text("property"), text("value")) {
        (Some(driver), Some(property), Some(value)) => Ok(Global {
            driver,
            property,
            value,
        }),
        _ => Err(arg.error("options 'driver', 'property', and 'value' are required")),
    }
}

/// A device under a name of its own.
fn balloon(plan: &mut Plan, mut arg: Arg) -> Done {
    let (kind, rest) = match arg.value.split_once(',') {
        Some((kind, rest)) => (kind, format!(",{rest}")),
        None => (arg.value.as_str(), String::new()),
    };
    match kind {
        "none" => Ok(()),
        "virtio" => {
            arg.value = format!("virtio-balloon-pci{rest}");
            push(&mut plan.devices, arg)
        }
        _ => Err(arg.error(format!("'{kind}' is no balloon: there are none and virtio"))),
    }
}

/// The same for watchdogs.
fn watchdog(plan: &mut Plan, arg: Arg) -> Done {
    match arg.value.as_str() {
        "i6300esb" => push(&mut plan.devices, arg),
        model => Err(arg.error(format!(
            "Unknown -watchdog device '{model}', try -watchdog help"
        ))),
    }
}

/// An option that names a file and nothing else.
fn drive(plan: &mut Plan, mut arg: Arg, place: &str) -> Done {
    // A comma belongs to the name.
    let file = arg.value.replace(',', ",,");
    arg.value = format!("{place},file={file}");
    push(&mut plan.disks, DiskPlan::Drive(arg))
}

fn keep<T>(place: &mut Option<T>, value: T) -> Done {
    *place = Some(value);
    Ok(())
}

fn push<T>(list: &mut Vec<T>, value: T) -> Done {
    list.push(value);
    Ok(())
}

fn set(flag: &mut bool) -> Done {
    *flag = true;
    Ok(())
}

fn opts(arg: &Arg, table: &Table) -> Result<Opts, CliError> {
    Opts::parse(&arg.value, table).map_err(|message| arg.error(message))
}

fn name(plan: &mut Plan, arg: &Arg) -> Done {
    let table = Table {
        implied: Some("guest"),
        keys: &[
            ("guest", Kind::Text),
            ("process", Kind::Text),
            ("debug-threads", Kind::Bool),
        ],
    };
    let opts = opts(arg, &table)?;
    let identity = &mut plan.identity;
    identity.guest = opts
        .text("guest")
        .map(str::to_owned)
        .or(identity.guest.take());
    identity.process = opts
        .text("process")
        .map(str::to_owned)
        .or(identity.process.take());
    identity.debug_threads = opts.flag("debug-threads").or(identity.debug_threads);
    Ok(())
}

fn uuid(plan: &mut Plan, arg: &Arg) -> Done {
    let dashed = arg.value.len() == 36;
    let parsed = uuid::Uuid::try_parse(&arg.value).ok().filter(|_| dashed);
    let parsed = parsed.ok_or_else(|| arg.error("failed to parse UUID string: wrong format"))?;
    keep(&mut plan.identity.uuid, parsed)
}

fn machine(plan: &mut Plan, arg: &Arg) -> Done {
    for (index, item) in split(&arg.value).into_iter().enumerate() {
        let (key, value) = match item.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None if index == 0 => ("type".to_owned(), item),
            None => return Err(arg.error(format!("Expected '=' after parameter '{item}'"))),
        };
        match key.as_str() {
            "type" => plan.machine.kind = Some((value, arg.clone())),
            "accel" => machine_accels(plan, &value, arg)?,
            "kernel" => plan.machine.kernel = Some(value.into()),
            "initrd" => plan.machine.initrd = Some(value.into()),
            "append" => plan.machine.append = Some(value),
            _ => plan.machine.properties.push((key, value, arg.clone())),
        }
    }
    Ok(())
}

const TWO_WAYS: &str = "The -accel and \"-machine accel=\" options are incompatible";

/// `-machine accel=` and `-enable-kvm`: a list, of which the last one given counts.
fn machine_accels(plan: &mut Plan, list: &str, arg: &Arg) -> Done {
    let accels = &mut plan.machine.accels;
    if accels.iter().any(|(_, other)| other.name == "accel") {
        return Err(arg.error(TWO_WAYS));
    }
    *accels = list
        .split(':')
        .map(|name| (name.to_owned(), arg.clone()))
        .collect();
    Ok(())
}

fn accel(plan: &mut Plan, arg: &Arg) -> Done {
    let from_machine = |(_, other): &(String, Arg)| other.name != "accel";
    if plan.machine.accels.iter().any(from_machine) {
        return Err(arg.error(TWO_WAYS));
    }
    let table = Table {
        implied: Some("accel"),
        keys: &[
            ("accel", Kind::Text),
            ("kernel-irqchip", Kind::Text),
            ("thread", Kind::Text),
        ],
    };
    let opts = opts(arg, &table)?;
    if let Some(mode) = opts.text("kernel-irqchip") {
        let entry = ("kernel-irqchip".to_owned(), mode.to_owned(), arg.clone());
        plan.machine.properties.push(entry);
    }
    let name = opts.text("accel").unwrap_or_default().to_owned();
    push(&mut plan.machine.accels, (name, arg.clone()))
}

fn smp(plan: &mut Plan, arg: &Arg) -> Done {
    let table = Table {
        implied: Some("cpus"),
        keys: &[
            ("cpus", Kind::Number),
            ("maxcpus", Kind::Number),
            ("sockets", Kind::Number),
            ("dies", Kind::Number),
            ("modules", Kind::Number),
            ("cores", Kind::Number),
            ("threads", Kind::Number),
        ],
    };
    let opts = opts(arg, &table)?;
    let smp = &mut plan.machine.smp;
    for (place, key) in [
        (&mut smp.cpus, "cpus"),
        (&mut smp.maxcpus, "maxcpus"),
        (&mut smp.sockets, "sockets"),
        (&mut smp.dies, "dies"),
        (&mut smp.modules, "modules"),
        (&mut smp.cores, "cores"),
        (&mut smp.threads, "threads"),
    ] {
        *place = opts.number(key).or(*place);
    }
    Ok(())
}

fn memory(plan: &mut Plan, arg: &Arg) -> Done {
    let table = Table {
        implied: Some("size"),
        keys: &[
            ("size", Kind::Size),
            ("slots", Kind::Number),
            ("maxmem", Kind::Size),
        ],
    };
    let opts = opts(arg, &table)?;
    let size = opts.text("size").and_then(parse_mebibytes);
    if opts.text("size").is_some() && size.is_none() {
        return Err(arg.error("ram size too large"));
    }
    let slots = opts.number("slots").unwrap_or(0);
    // A bare number counts bytes here.
    let grows = opts.size("maxmem").is_some_and(|max| Some(max) != size);
    if slots != 0 || grows {
        return Err(arg.error("Memory cannot be added at run time: slots and maxmem have no use"));
    }
    // A size of zero is the default size, as in QEMU.
    if let Some(size) = size.filter(|size| *size != 0) {
        plan.machine.memory = Some((size, arg.clone()));
    }
    Ok(())
}

fn serial(plan: &mut Plan, arg: Arg) -> Done {
    if let Err(message) = chardev::short_form(&arg.value) {
        let text = &arg.value;
        log::debug!("{message}");
        let message = format!("could not connect serial device to character backend '{text}'");
        return Err(arg.error(message));
    }
    push(&mut plan.serials, arg)
}

fn qmp(plan: &mut Plan, arg: Arg, pretty: bool) -> Done {
    let over = match chardev::short_form(&arg.value) {
        Ok(ShortForm::None) => return Ok(()),
        Ok(ShortForm::Existing(id)) => MonitorOver::Chardev(id),
        Ok(ShortForm::New {
            backend,
            mux: false,
        }) => MonitorOver::New(backend),
        Ok(ShortForm::New { .. }) | Err(_) => {
            return Err(arg.error(format!("parse error: {}", arg.value)));
        }
    };
    push(&mut plan.monitors, MonitorPlan { arg, over, pretty })
}

fn mon(plan: &mut Plan, arg: Arg) -> Done {
    let table = Table {
        implied: Some("chardev"),
        keys: &[
            ("chardev", Kind::Text),
            ("mode", Kind::Text),
            ("pretty", Kind::Bool),
            ("id", Kind::Text),
        ],
    };
    let opts = opts(&arg, &table)?;
    let Some(id) = opts.text("chardev") else {
        return Err(arg.error("Parameter 'chardev' is missing"));
    };
    match opts.text("mode") {
        Some("control") => {}
        None | Some("readline") => {
            return Err(arg.error("Text monitors are not available, use mode=control"));
        }
        Some(mode) => {
            return Err(arg.error(format!("Parameter 'mode' does not accept value '{mode}'")));
        }
    }
    let pretty = opts.flag("pretty").unwrap_or(false);
    let over = MonitorOver::Chardev(id.to_owned());
    push(&mut plan.monitors, MonitorPlan { arg, over, pretty })
}

fn monitor(arg: &Arg) -> Done {
    match arg.value.as_str() {
        "none" | "null" => Ok(()),
        _ => Err(arg.error("Text monitors are not available, use -qmp")),
    }
}

fn rtc(plan: &mut Plan, arg: &Arg) -> Done {
    let table = Table {
        implied: None,
        keys: &[
            ("base", Kind::Text),
            ("clock", Kind::Text),
            ("driftfix", Kind::Text),
        ],
    };
    let opts = opts(arg, &table)?;
    let rtc = &mut plan.machine.rtc;
    let invalid = |value: &str| arg.error(format!("invalid option value '{value}'"));
    match opts.text("base") {
        None => {}
        Some("utc") => rtc.base = RtcBase::Utc,
        Some("localtime") => rtc.base = RtcBase::LocalTime,
        Some(date) => {
            rtc.base = RtcBase::At(date_of(date).ok_or_else(|| {
                arg.error(
                    "invalid datetime format\nvalid formats: '2006-06-17T16:01:21' or '2006-06-17'",
                )
            })?);
        }
    }
    match opts.text("clock") {
        None | Some("host" | "rt") => rtc.virtual_clock = false,
        Some("vm") => rtc.virtual_clock = true,
        Some(other) => return Err(invalid(other)),
    }
    match opts.text("driftfix") {
        None | Some("none" | "slew") => Ok(()),
        Some(other) => Err(invalid(other)),
    }
}

/// Seconds since 1970 of `YYYY-MM-DD` or `YYYY-MM-DDTHH:MM:SS`.
fn date_of(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let three = |text: &str, separator: char| -> Option<[i64; 3]> {
        let mut parts = text.split(separator).map(|part| part.parse::<i64>().ok());
        let found = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(found)
    };
    let [year, month, day] = three(date, '-')?;
    let [hour, minute, second] = three(time, ':')?;
    let fits = (1900..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..61).contains(&second);
    if !fits {
        return None;
    }
    // Days since 0000-03-01, so that the leap day is a year's last.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

fn action(plan: &mut Plan, arg: &Arg) -> Done {
    for item in split(&arg.value) {
        let Some((key, value)) = item.split_once('=') else {
            return Err(arg.error(format!("Expected '=' after parameter '{item}'")));
        };
        if !matches!(key, "reboot" | "shutdown" | "panic" | "watchdog") {
            return Err(arg.error(format!("Invalid parameter '{key}'")));
        }
        policy(plan, arg, key, value)?;
    }
    Ok(())
}

fn policy(plan: &mut Plan, arg: &Arg, key: &str, value: &str) -> Done {
    Plan::set_policy(&mut plan.policy, key, value).map_err(|message| arg.error(message))
}

fn add_fd(plan: &mut Plan, arg: Arg) -> Done {
    let table = Table {
        implied: None,
        keys: &[
            ("fd", Kind::Number),
            ("set", Kind::Number),
            ("opaque", Kind::Text),
        ],
    };
    let opts = opts(&arg, &table)?;
    let number = |key| {
        opts.text(key)
            .and_then(c_number)
            .and_then(|n| i32::try_from(n).ok())
    };
    let Some(fd) = number("fd") else {
        return Err(arg.error("fd option is required and must be non-negative"));
    };
    if fd <= 2 {
        return Err(arg.error("fd cannot be a standard I/O stream"));
    }
    let Some(set) = number("set") else {
        return Err(arg.error("set option is required and must be non-negative"));
    };
    let opaque = opts.text("opaque").map(str::to_owned);
    push(
        &mut plan.fds,
        FdPlan {
            arg,
            fd,
            set: i64::from(set),
            opaque,
        },
    )
}

fn msg(plan: &mut Plan, arg: &Arg) -> Done {
    let table = Table {
        implied: None,
        keys: &[("timestamp", Kind::Bool), ("guest-name", Kind::Bool)],
    };
    let opts = opts(arg, &table)?;
    plan.process.timestamp = opts.flag("timestamp").unwrap_or(plan.process.timestamp);
    plan.process.log_guest_name = opts
        .flag("guest-name")
        .unwrap_or(plan.process.log_guest_name);
    Ok(())
}

fn overcommit(plan: &mut Plan, arg: &Arg) -> Done {
    let table = Table {
        implied: None,
        keys: &[("mem-lock", Kind::Text), ("cpu-pm", Kind::Bool)],
    };
    let opts = opts(arg, &table)?;
    if opts.flag("cpu-pm") == Some(true) {
        return Err(arg.error("cpu-pm is not supported"));
    }
    plan.process.mem_lock = match opts.text("mem-lock") {
        None => plan.process.mem_lock,
        Some("on" | "yes" | "true" | "y") => Some(MemoryLock::Now),
        Some("on-fault") => Some(MemoryLock::OnFault),
        Some("off" | "no" | "false" | "n") => None,
        Some(_) => {
            let message = "parameter 'mem-lock' expects one of 'on', 'off', 'on-fault'";
            return Err(arg.error(message));
        }
    };
    Ok(())
}

fn display(arg: &Arg) -> Done {
    let value = arg.value.strip_prefix("type=").unwrap_or(&arg.value);
    match value {
        "none" => Ok(()),
        other => Err(arg.error(format!("Parameter 'type' does not accept value '{other}'"))),
    }
}

fn qtest(plan: &mut Plan, arg: Arg) -> Done {
    match chardev::short_form(&arg.value) {
        Ok(ShortForm::New {
            backend,
            mux: false,
        }) if backend.get("type").and_then(Value::as_str) == Some("socket") => {
            keep(&mut plan.qtest.socket, (backend, arg))
        }
        _ => {
            let message = format!("Failed to initialize device for qtest: \"{}\"", arg.value);
            Err(arg.error(message))
        }
    }
}

#[cfg(test)]
#[path = "decode_test.rs"]
mod tests;
