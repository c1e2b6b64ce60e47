//! The plan with everything decoded: what is left can only fail because of the host.

use api_spec::keyval::{self, Argument, Flags};
use api_spec::{
    BlockdevOptions, ChardevAddArgs, ChardevBackendKind, Decode, DeviceOptions, Mode,
    ObjectOptions, Value, decode_value,
};

use super::args::{Arg, CliError};
use super::chardev::{self, ShortForm};
use super::migration::{self, IncomingOrder, SettingOrder};
use super::net::{self, NetOrders};
use super::plan::{
    DiskPlan, FdPlan, Identity, MonitorOver, MonitorPlan, Plan, ProcessPlan, QtestPlan,
};
use crate::control::life::Policy;
use crate::machine::spec::{MachineKind, MachineSpec};

/// Everything to be made, in the types of the QMP commands that make it.
pub struct Order {
    /// `-name`, `-uuid`.
    pub identity: Identity,
    /// The machine.
    pub machine: MachineSpec,
    /// `-object`.
    pub objects: Vec<(Arg, ObjectOptions)>,
    /// `-chardev`, then those that monitors and serial ports bring along.
    pub chardevs: Vec<(Arg, ChardevAddArgs)>,
    /// `-blockdev` and `-drive`.
    pub disks: Vec<DiskOrder>,
    /// `-netdev`, `-nic`, `-net`.
    pub nets: NetOrders,
    /// `-serial`, and a first one that is there by default.
    pub serials: Vec<SerialOrder>,
    /// `-qmp`, `-mon`.
    pub monitors: Vec<MonitorOrder>,
    /// `-device`.
    pub devices: Vec<(Arg, DeviceOptions)>,
    /// `-incoming`.
    pub incoming: Option<IncomingOrder>,
    /// `-global migration...`.
    pub migration: Vec<SettingOrder>,
    /// `-add-fd`.
    pub fds: Vec<FdPlan>,
    /// How the process behaves.
    pub process: ProcessPlan,
    /// What is done on reboot, shutdown and panic.
    pub policy: Policy,
    /// `-qtest`.
    pub qtest: QtestPlan,
}

/// One disk option.
pub enum DiskOrder {
    /// `-blockdev`.
    Blockdev(Arg, Box<BlockdevOptions>),
    /// `-drive`.
    Drive(Arg),
}

/// One serial port.
pub struct SerialOrder {
    /// The option.
    pub arg: Arg,
    /// The chardev it is connected to; `None` for a port that is not there (`-serial none`).
    pub chardev: Option<String>,
}

/// One monitor.
pub struct MonitorOrder {
    /// The option.
    pub arg: Arg,
    /// The chardev that carries it.
    pub chardev: String,
    /// Whether answers are indented.
    pub pretty: bool,
}

impl Order {
    /// Decodes all options.
    ///
    /// # Errors
    /// What is wrong with the first one that is.
    pub fn check(plan: Plan) -> Result<Self, CliError> {
        if plan.process.daemonize && plan.nographic {
            let message = "-nographic cannot be used with -daemonize";
            return Err(CliError::plain(message));
        }
        if plan.process.daemonize && plan.process.sandbox.exit_with_parent {
            // The parent leaves as soon as the start is done.
            let message = "exit-with-parent cannot be used with -daemonize";
            return Err(CliError::plain(message));
        }
        if plan.incoming.is_some() && plan.process.loadvm.is_some() {
            let message = "'incoming' and 'loadvm' options are mutually exclusive";
            return Err(CliError::plain(message));
        }
        let machine = MachineSpec::check(plan.machine)?;
        let mut chardevs = Vec::new();
        for (arg, members) in plan.chardevs {
            let args = decode_args(&arg, Value::Object(members))?;
            chardevs.push((arg, args));
        }
        let mut monitors = Vec::new();
        let mut index = 0usize;
        for monitor in plan.monitors {
            // Those of -mon bring no character device along, and do not count.
            let counts = monitor.arg.name != "mon";
            monitors.push(monitor_order(index, monitor, &mut chardevs)?);
            index = index.saturating_add(counts.into());
        }
        let serials = serial_orders(
            plan.serials,
            plan.nodefaults || machine.kind == MachineKind::None,
            plan.nographic,
            &mut chardevs,
        )?;
        if plan.process.daemonize {
            refuse_stdio(&chardevs)?;
        }
        let (settings, globals) = migration::of_globals(plan.globals)?;
        // Devices are decoded with them, here and later.
        api_spec::globals::install(globals);
        Ok(Order {
            identity: plan.identity,
            objects: decode_all(plan.objects, "qom-type", Mode::Strict)?,
            chardevs,
            disks: disk_orders(plan.disks, plan.snapshot)?,
            nets: net::orders(plan.netdevs, plan.nics, plan.nets)?,
            serials,
            monitors,
            devices: decode_all(plan.devices, "driver", Mode::Lenient)?,
            incoming: plan.incoming.map(migration::incoming).transpose()?,
            migration: settings,
            fds: plan.fds,
            process: plan.process,
            policy: plan.policy,
            qtest: plan.qtest,
            machine,
        })
    }
}

/// Decodes the value of an option that shares its type with a QMP command.
fn decode<T: Decode>(arg: &Arg, implied: &str, json: Mode) -> Result<T, CliError> {
    let parsed = keyval::parse(&arg.value, Some(implied), Flags::Refused);
    let decoded = parsed.and_then(|argument| match argument {
        Argument::Json(object) => decode_value(Value::Object(object), json),
        text @ (Argument::Text(_) | Argument::Help(_)) => text.decode(),
    });
    decoded.map_err(|error| arg.error(error))
}

fn decode_all<T: Decode>(
    args: Vec<Arg>,
    implied: &str,
    json: Mode,
) -> Result<Vec<(Arg, T)>, CliError> {
    let one = |arg: Arg| decode(&arg, implied, json).map(|decoded| (arg, decoded));
    args.into_iter().map(one).collect()
}

fn decode_args<T: Decode>(arg: &Arg, value: Value) -> Result<T, CliError> {
    decode_value(value, Mode::Lenient).map_err(|error| arg.error(error))
}

/// There is no terminal in the background.
fn refuse_stdio(chardevs: &[(Arg, ChardevAddArgs)]) -> Result<(), CliError> {
    let stdio = |args: &ChardevAddArgs| args.backend.r#type.kind() == ChardevBackendKind::Stdio;
    match chardevs.iter().find(|(_, args)| stdio(args)) {
        Some((arg, _)) => Err(arg.error("cannot use stdio with -daemonize")),
        None => Ok(()),
    }
}

fn disk_orders(plans: Vec<DiskPlan>, snapshot: bool) -> Result<Vec<DiskOrder>, CliError> {
    let one = |plan| match plan {
        DiskPlan::Blockdev(arg) => {
            let options: BlockdevOptions = decode(&arg, "driver", Mode::Strict)?;
            Ok(DiskOrder::Blockdev(arg, Box::new(options)))
        }
        DiskPlan::Drive(mut arg) => {
            if snapshot {
                // In front, so that the drive's own word counts.
                arg.value = format!("snapshot=on,{}", arg.value);
            }
            Ok(DiskOrder::Drive(arg))
        }
    };
    plans.into_iter().map(one).collect()
}

/// Adds a chardev that an option brings along, and returns its id.
fn add_chardev(
    arg: &Arg,
    id: String,
    backend: Value,
    chardevs: &mut Vec<(Arg, ChardevAddArgs)>,
) -> Result<String, CliError> {
    let members = serde_json::json!({ "id": id, "backend": backend });
    let args = decode_args(arg, members)?;
    chardevs.push((arg.clone(), args));
    Ok(id)
}

fn monitor_order(
    index: usize,
    plan: MonitorPlan,
    chardevs: &mut Vec<(Arg, ChardevAddArgs)>,
) -> Result<MonitorOrder, CliError> {
    let chardev = match plan.over {
        MonitorOver::Chardev(id) => id,
        MonitorOver::New(backend) => add_chardev(
            &plan.arg,
            format!("compat_monitor{index}"),
            backend,
            chardevs,
        )?,
    };
    Ok(MonitorOrder {
        arg: plan.arg,
        chardev,
        pretty: plan.pretty,
    })
}

/// Serial ports as asked for. Without any a machine has one that leads nowhere, or with
/// `-nographic` to standard input and output.
fn serial_orders(
    mut args: Vec<Arg>,
    nodefaults: bool,
    nographic: bool,
    chardevs: &mut Vec<(Arg, ChardevAddArgs)>,
) -> Result<Vec<SerialOrder>, CliError> {
    if args.is_empty() && !nodefaults {
        let value = if nographic { "stdio" } else { "null" };
        args.push(Arg {
            name: "serial",
            value: value.to_owned(),
            location: format!("-serial {value}"),
        });
    }
    let mut orders = Vec::new();
    for (index, arg) in args.into_iter().enumerate() {
        let form = chardev::short_form(&arg.value).map_err(|error| arg.error(error))?;
        let chardev = match form {
            ShortForm::None => None,
            ShortForm::Existing(id) => Some(id),
            ShortForm::New { backend, mux } => {
                if mux {
                    let message = "Text monitors are not available: leave 'mon:' out";
                    return Err(arg.error(message));
                }
                Some(add_chardev(
                    &arg,
                    format!("serial{index}"),
                    backend,
                    chardevs,
                )?)
            }
        };
        orders.push(SerialOrder { arg, chardev });
    }
    Ok(orders)
}
