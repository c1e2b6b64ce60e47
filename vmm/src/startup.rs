//! From the command line to a running program.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use api_spec::{DeviceDriver, DeviceOptions, KvmInfo, NameInfo, UuidInfo, Value};
use descriptors::SocketPath;
use qmp::MonitorOptions;

use crate::accel::AccelKind;
use crate::accel::kvm::KvmAccel;
use crate::accel::qtest::QtestAccel;
use crate::accel::qtest_server::{Endpoint, QtestServer};
use crate::armour::files::{self, Programs};
use crate::armour::launcher::{self, Launcher};
use crate::armour::{names, privileges, seccomp, trap};
use crate::cli::args::Arg;
use crate::cli::migration::IncomingOrder;
use crate::cli::order::{DiskOrder, MonitorOrder, SerialOrder};
use crate::cli::plan::{FdPlan, Identity, ProcessPlan, QtestPlan};
use crate::cli::{self, Order, Request};
use crate::control::Control;
use crate::control::secure::is_early;
use crate::control::sink::{Facts, Published};
use crate::layout::Board;
use crate::logging::items::Items;
use crate::logging::{self, points};
use crate::machine::spec::MachineSpec;
use crate::machine::{ChosenAccel, Machine};
use crate::own_code;
use crate::process::{self, Daemon, PidFile, errno};
use crate::service::Service;
use crate::service::notify::Standing;
use crate::sys;
use crate::threads::{self, ThreadKind};

/// Runs the program with these words; returns its exit status.
pub fn run(words: Vec<OsString>) -> u8 {
    // As early as can be: it may go while we start.
    let parent = std::os::unix::process::parent_id();
    let name = words.first().map(|name| name.to_string_lossy());
    logging::init(name.as_deref().unwrap_or("qvmd"));
    let words: Result<Vec<String>, OsString> = words
        .into_iter()
        .skip(1)
        .map(OsString::into_string)
        .collect();
    let words = match words {
        Ok(words) => words,
        Err(word) => {
            // What goes over the wire is UTF-8, and so are the names that come back on it.
            let shown = word.to_string_lossy();
            logging::report(&format!("{shown}: the argument is not UTF-8"));
            return 1;
        }
    };
    let order = match cli::parse(&words) {
        Ok(Request::Print(text)) => {
            logging::print(&text);
            return 0;
        }
        Ok(Request::Run(order)) => order,
        Err(error) => {
            logging::report(&error.to_string());
            return 1;
        }
    };
    let mut daemon = None;
    let status = match start(*order, parent, &mut daemon) {
        Ok(status) => status,
        Err(error) => {
            logging::report(&process::with_causes(&error));
            // Only now: the parent is to end after the message.
            if let Some(daemon) = daemon {
                daemon.failed();
            }
            1
        }
    };
    logging::finish();
    status
}

/// An error of an option, in QEMU's style: with the option in front.
fn blame<T, E: std::fmt::Display>(arg: &Arg, result: Result<T, E>) -> Result<T> {
    result.map_err(|error| {
        let mut text = arg.error(error).to_string();
        if text.ends_with("Parameter 'id' expects an identifier") {
            text.push_str(IDENTIFIERS);
        }
        anyhow!(text)
    })
}

/// What an identifier is; said to people only.
const IDENTIFIERS: &str = "\nIdentifiers consist of letters, digits, '-', '.', '_', starting with a \
                           letter.";

fn start(order: Order, parent: u32, daemon: &mut Option<Daemon>) -> Result<u8> {
    prepare_process(&order)?;
    let service = Service::take();
    let is_silent = order.process.daemonize && order.process.log_file.is_none();
    if order.process.daemonize {
        *daemon = Some(process::daemonize()?);
    }
    let sandbox = order.process.sandbox.clone();
    let launcher = launcher::start(&sandbox)?;
    privileges::begin(&sandbox, parent)?;
    files::begin(&sandbox, &names::of_order(&order), Programs::Elsewhere)?;
    if let Some(when) = order.process.mem_lock {
        // In the process that stays: a child does not inherit it.
        privileges::prepare_memory_lock();
        sys::lock_memory(when).context("locking memory failed")?;
    }
    let _pid_file = match &order.process.pidfile {
        Some(path) => Some(PidFile::create(path)?),
        None => None,
    };
    if is_silent {
        trap::also_to_system_log();
    }
    trap::handle().context("Cannot handle signals")?;
    seccomp::arm(&sandbox).map_err(|error| anyhow!(error))?;
    let stopped = order.process.stopped;
    let loadvm = order.process.loadvm.clone();
    let mut control = build(order, launcher.clone(), service)?;
    if let Some(arg) = loadvm {
        blame(&arg, control.load_first(arg.value.clone()))?;
    }
    files::finish(&control.named_files())?;
    privileges::finish(&sandbox)?;
    let dropped = launcher.drop_privileges();
    dropped.context("Cannot drop the privileges of the process that starts programs")?;
    files::restrict()?;
    threads::spawner::begin().context("Cannot start a thread")?;
    seccomp::install(ThreadKind::Control, "control").context("Cannot install a filter")?;
    #[cfg(debug_assertions)]
    crate::armour::provoke(ThreadKind::Control);
    control.start(stopped)?;
    let standing = match daemon {
        None => Standing::Started,
        Some(daemon) => {
            leave_terminal(daemon, &launcher)?;
            Standing::Background
        }
    };
    control.tell_ready(standing);
    own_code::rest();
    Ok(control.run())
}

fn leave_terminal(daemon: &mut Daemon, launcher: &Launcher) -> Result<()> {
    let left = launcher.leave_directory();
    left.context("Cannot go into the background")?;
    daemon.ready().context("Cannot go into the background")
}

/// What concerns the process alone.
fn prepare_process(order: &Order) -> Result<()> {
    let ProcessPlan {
        log_file,
        log_levels,
        traces,
        ..
    } = &order.process;
    threads::set_naming(order.identity.debug_threads.unwrap_or(true));
    for arg in log_levels {
        let items = blame(arg, Items::read(&arg.value))?;
        logging::add_items(&items);
    }
    if let Some(path) = log_file {
        logging::open_file(&path.to_string_lossy()).map_err(|text| anyhow!(text))?;
    }
    for arg in traces {
        blame(arg, points::obey(&arg.location, &arg.value))?;
    }
    if let Some(name) = &order.identity.process {
        sys::set_process_name(name);
    }
    Ok(())
}

fn facts(identity: &Identity) -> Facts {
    let uuid = identity.uuid.unwrap_or_default();
    Facts {
        name: NameInfo {
            name: identity.guest.clone(),
        },
        uuid: UuidInfo {
            uuid: uuid.hyphenated().to_string(),
        },
        kvm: KvmInfo {
            enabled: false,
            present: true,
        },
    }
}

/// Makes everything in the order in which it builds on each other: descriptors, chardevs and
/// monitors, objects, disks, the machine, its devices.
fn build(order: Order, launcher: Launcher, service: Service) -> Result<Control> {
    let published = Published::new(facts(&order.identity));
    let mut control = Control::new(published.clone(), order.policy, launcher)?;
    control.set_service(service);
    add_fds(&mut control, &order.fds)?;
    for setting in order.migration {
        control.set_migration(setting)?;
    }
    if order.incoming.is_some() {
        control.expect_machine();
    }
    let (early, late): (Vec<_>, Vec<_>) = order
        .objects
        .into_iter()
        .partition(|(_, options)| is_early(options));
    for (arg, options) in &early {
        blame(arg, control.add_object(options))?;
    }
    let mut makers = BTreeMap::new();
    for (arg, args) in order.chardevs {
        blame(&arg, control.add_chardev(&args))?;
        makers.insert(args.id, arg.location);
    }
    add_monitors(&mut control, order.monitors)?;
    for (arg, options) in &late {
        blame(arg, control.add_object(options))?;
    }
    let mut devices = order.devices;
    for disk in order.disks {
        match disk {
            DiskOrder::Blockdev(arg, options) => {
                blame(&arg, control.add_block_node(*options))?;
            }
            DiskOrder::Drive(arg) => {
                let made = blame(&arg, control.add_drive(&arg.value))?;
                devices.extend(made.into_iter().map(|device| (arg.clone(), device)));
            }
        }
    }
    for (arg, options) in &order.nets.netdevs {
        blame(arg, control.add_netdev(options))?;
    }
    let uuid = order.identity.uuid;
    match order.machine.kind.board() {
        None => no_machine(&mut control, &published, &order.machine, &order.qtest)?,
        Some(board) => {
            let chosen = add_machine(&mut control, order.machine, board, uuid)?;
            published.set_kvm(matches!(chosen, ChosenAccel::Kvm(_)));
            add_serials(&mut control, order.serials)?;
            add_qtest_later(&mut control, &chosen, order.qtest)?;
        }
    }
    for (arg, options) in order.nets.nics {
        blame(&arg, control.plug(options, true))?;
    }
    for (arg, options) in devices {
        blame(&arg, control.plug(options, false))?;
    }
    for remark in api_spec::globals::remarks() {
        log::warn!("{remark}");
    }
    control.remark_on_sockets();
    control.power_on()?;
    control.begin_chardevs(&makers)?;
    if let Some(IncomingOrder {
        arg,
        from: Some((address, ram_load)),
    }) = order.incoming
    {
        blame(&arg, control.receive_at_start(address, ram_load))?;
    }
    Ok(control)
}

/// `-add-fd`: sets hold duplicates, so that one descriptor may go into several.
fn add_fds(control: &mut Control, plans: &[FdPlan]) -> Result<()> {
    for plan in plans {
        if !sys::is_inherited(plan.fd) {
            return blame(&plan.arg, Err("fd is not valid or already in use"));
        }
        let copy = sys::duplicate(plan.fd);
        let copy = copy.map_err(|error| format!("error duplicating fd: {}", errno(&error)));
        let fd = blame(&plan.arg, copy)?;
        let added = control.add_inherited_fd(plan.set, plan.opaque.clone(), fd);
        blame(&plan.arg, added)?;
    }
    for plan in plans {
        // Gone already where it was named twice.
        drop(sys::adopt(plan.fd));
    }
    Ok(())
}

fn add_monitors(control: &mut Control, orders: Vec<MonitorOrder>) -> Result<()> {
    for order in orders {
        let options = MonitorOptions {
            pretty: order.pretty,
        };
        blame(&order.arg, control.add_monitor(&order.chardev, options))?;
    }
    Ok(())
}

/// `-machine none`: nothing but QMP. An accelerator that was asked for by name is tried, so that
/// query-kvm tells the truth; qtest answers without anything behind it.
fn no_machine(
    control: &mut Control,
    published: &Published,
    spec: &MachineSpec,
    qtest: &QtestPlan,
) -> Result<()> {
    let kvm = spec.accels_named && spec.accels.first() == Some(&AccelKind::Kvm);
    if kvm {
        match KvmAccel::probe() {
            Ok(()) => published.set_kvm(true),
            Err(error) if spec.accels.len() + spec.missing_accels.len() == 1 => {
                return Err(error.into());
            }
            Err(error) => log::warn!("{error}"),
        }
    }
    if qtest.socket.is_some() {
        let accel = QtestAccel::empty(control.mail())?;
        let clock = crate::clock::GuestClock::new(
            crate::clock::Motion::Stepped,
            spec.rtc_base,
            spec.rtc_source,
        )?;
        let server = serve_qtest(&accel, clock, qtest)?;
        control.set_qtest(server);
    }
    Ok(())
}

fn add_machine(
    control: &mut Control,
    spec: MachineSpec,
    board: Board,
    uuid: Option<uuid::Uuid>,
) -> Result<ChosenAccel> {
    let backend = match &spec.memory_backend {
        None => None,
        Some((id, _)) => {
            let found = control.take_memory(id);
            let found = found.ok_or_else(|| anyhow!("Memory backend '{id}' not found"))?;
            let size = found.options().size;
            if let (asked, Some(arg)) = (spec.ram.0, &spec.ram.1)
                && asked != size
            {
                let text = format!(
                    "Machine memory size does not match the size of the memory backend: \
                     {asked:#x} is asked for, '{id}' has {size:#x}"
                );
                return blame(arg, Err(text));
            }
            Some(found)
        }
    };
    if spec.kernel.is_none() && spec.accels.first() == Some(&AccelKind::Kvm) {
        log::info!("There is no kernel and no firmware: the processors stay halted");
    }
    let (machine, chosen) = Machine::build(spec, board, backend, uuid, &control.mail())?;
    control.set_machine(machine)?;
    Ok(chosen)
}

fn add_serials(control: &mut Control, orders: Vec<SerialOrder>) -> Result<()> {
    for (index, order) in (0u32..).zip(orders) {
        let Some(chardev) = order.chardev else {
            continue;
        };
        let members = serde_json::json!({
            "driver": "isa-serial",
            "index": index,
            "chardev": chardev,
        });
        let options: DeviceOptions = blame(
            &order.arg,
            api_spec::decode_value(members, api_spec::Mode::Strict),
        )?;
        debug_assert!(matches!(options.driver, DeviceDriver::IsaSerial(_)));
        if !control.has_chardev(&chardev) {
            let text = &order.arg.value;
            let message = "could not connect serial device to character backend";
            return blame(&order.arg, Err(format!("{message} '{text}'")));
        }
        blame(&order.arg, control.plug(options, true))?;
    }
    Ok(())
}

fn add_qtest_later(control: &mut Control, chosen: &ChosenAccel, plan: QtestPlan) -> Result<()> {
    if plan.socket.is_none() {
        return Ok(());
    }
    match chosen {
        ChosenAccel::Qtest(accel) => {
            control.expect_qtest(accel.clone(), plan);
            Ok(())
        }
        // As in QEMU the protocol can be served beside another accelerator; it would see a
        // running guest then, and nobody asks for that.
        ChosenAccel::Kvm(_) => bail!("-qtest needs -accel qtest"),
    }
}

/// Serves the qtest protocol on the socket of the plan.
///
/// # Errors
/// When the socket cannot be had.
pub fn serve_qtest(
    accel: &QtestAccel,
    clock: Arc<crate::clock::GuestClock>,
    plan: &QtestPlan,
) -> Result<QtestServer> {
    let Some((backend, arg)) = &plan.socket else {
        bail!("There is no -qtest socket");
    };
    let endpoint = blame(
        arg,
        qtest_endpoint(backend).map_err(|error| process::with_causes(&error)),
    )?;
    let log = match &plan.log {
        Some(path) if path != Path::new("none") && path != Path::new("/dev/null") => {
            let file = File::create(path);
            Some(file.with_context(|| format!("Cannot open {}", path.display()))?)
        }
        _ => None,
    };
    Ok(QtestServer::start(accel, endpoint, clock, log)?)
}

/// The unix socket of a chardev's backend; other kinds are not served.
fn qtest_endpoint(backend: &Value) -> Result<Endpoint> {
    use std::os::unix::net::{UnixListener, UnixStream};
    let path = backend
        .pointer("/data/addr/data/path")
        .and_then(Value::as_str);
    let path = path.ok_or_else(|| anyhow!("Only unix sockets carry the qtest protocol"))?;
    let server = backend.pointer("/data/server").and_then(Value::as_bool);
    if server == Some(true) {
        // What an earlier run left behind.
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)
            .map_err(|error| anyhow!("Failed to bind socket to {path}: {}", errno(&error)))?;
        let path = SocketPath::new(path.into());
        return Ok(Endpoint::Listening(listener, path));
    }
    let stream = UnixStream::connect(path)
        .map_err(|error| anyhow!("Failed to connect to '{path}': {}", errno(&error)))?;
    Ok(Endpoint::Connected(stream))
}

/// Everything that this command line makes, before it runs. No programs are started.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn build_for_test(words: &[&str]) -> Result<Control> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    match cli::parse(&words)? {
        Request::Run(order) => build(*order, Launcher::denied(), Service::default()),
        Request::Print(text) => bail!("It asks for a text: {text}"),
    }
}
