//! What control is put together from at the start, by the same ways that commands take.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use api_spec::{
    BlockdevOptions, ChardevAddArgs, ChardevInfo, DeviceOptions, ObjectOptions, QmpError,
    QmpResult, Reply, RunState, Value, reply::Empty,
};
use block::{AttachOptions, Attachment, Sharing};
use devices::backend::chardev::CharFrontend;
use qmp::MonitorOptions;

use super::Control;
use super::blockdev::Refusal;
use super::chardevs::Caller;
use super::objects::{self, is_slow};
use crate::accel::qtest::QtestAccel;
use crate::armour::files::Named;
use crate::armour::names;
use crate::cli::plan::QtestPlan;
use crate::logging;
use crate::machine::{References, VhostWant, Wants, wants};
use crate::memory::Backend;
use crate::process::{self, errno};
use crate::startup;
use crate::sys;

/// A qtest server that is to be started once the machine is whole.
pub(super) struct ExpectedQtest {
    accel: Arc<QtestAccel>,
    plan: QtestPlan,
}

/// Who uses a drive.
struct DriveUser {
    /// Its place in the object tree.
    device: String,
    /// The type that has the property.
    owner: String,
}

fn drive_user(options: &DeviceOptions, path: &str) -> DriveUser {
    let name = options.driver.name();
    match name.strip_suffix("-pci") {
        // The property belongs to what is inside the function.
        Some(inner) => DriveUser {
            device: format!("{path}/virtio-backend"),
            owner: format!("{inner}-device"),
        },
        None => DriveUser {
            device: path.to_owned(),
            owner: name.to_owned(),
        },
    }
}

fn answer(reply: &Mutex<Option<Reply<Empty>>>, result: QmpResult<Empty>) {
    let reply = reply.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(reply) = reply {
        reply.send(result);
    }
}

impl Control {
    /// `-add-fd`: an inherited descriptor goes into a set.
    ///
    /// # Errors
    /// As add-fd.
    pub fn add_inherited_fd(
        &mut self,
        set: i64,
        opaque: Option<String>,
        fd: OwnedFd,
    ) -> QmpResult<()> {
        let added = self.fds.add_fd(Some(set), opaque, vec![fd]);
        added
            .map(drop)
            .map_err(|error| QmpError::generic(error.to_string()))
    }

    /// `-object`.
    ///
    /// # Errors
    /// As object-add, in the words of the command line.
    pub fn add_object(&mut self, options: &ObjectOptions) -> QmpResult<()> {
        if self.objects.has(&options.id) {
            let text = format!("Duplicate ID '{}' for object", options.id);
            return Err(QmpError::generic(text));
        }
        self.objects.add(options)
    }

    /// Whether there is a character device of that id.
    pub fn has_chardev(&self, id: &str) -> bool {
        self.list_chardevs().iter().any(|info| info.label == id)
    }

    /// object-add by a client: memory that is to be there at once is made on another thread.
    pub(super) fn add_object_slowly(&mut self, options: ObjectOptions, reply: Reply<Empty>) {
        if !is_slow(&options) {
            return reply.send(self.objects.add(&options).map(|()| Empty));
        }
        if let Err(error) = self.objects.reserve(&options.id) {
            return reply.send(Err(error));
        }
        let id = options.id.clone();
        // Shared, so that it can be given where there is no thread for the work.
        let reply = Arc::new(Mutex::new(Some(reply)));
        let later = reply.clone();
        let (mail, opener) = (self.mail.clone(), self.fds.opener());
        let graph = self.blockdevs.graph();
        let work = move || {
            let made = objects::make(&options, &mail, &opener, &graph);
            (options, made)
        };
        let started = self.do_slowly(work, move |control, (options, made)| {
            let added = control.objects.complete(&options, made);
            answer(&later, added.map(|()| Empty));
        });
        if let Err(error) = started {
            self.objects.give_up(&id);
            let text = format!("Cannot start a thread: {}", errno(&error));
            answer(&reply, Err(QmpError::generic(text)));
        }
    }

    /// `-chardev`.
    ///
    /// # Errors
    /// As chardev-add, in the words of the command line.
    pub fn add_chardev(&mut self, args: &ChardevAddArgs) -> QmpResult<()> {
        // Descriptors are named by number here: they are inherited ones.
        let mut inherited = |name: &str| name.parse().ok().and_then(|fd| sys::adopt(fd).ok());
        let caller = Caller::CommandLine;
        let made = self
            .chardevs
            .add(caller, &args.id, &args.backend, &mut inherited)?;
        if let Some(path) = made.pty {
            // Clients read it there.
            let id = &args.id;
            logging::print(&format!("char device redirected to {path} (label {id})\n"));
        }
        Ok(())
    }

    /// The files that were opened by name so far; to be asked once, when everything of the
    /// command line is there.
    pub fn named_files(&self) -> Vec<Named> {
        names::of_opened(self.fds.take_opened())
    }

    /// blockdev-add.
    ///
    /// # Errors
    /// As blockdev-add.
    pub fn add_block_node(&mut self, options: BlockdevOptions) -> Result<(), Refusal> {
        self.blockdevs.add(options, &mut self.fds.opener())
    }

    /// `-drive`; gives the devices that it brings along.
    ///
    /// # Errors
    /// What is wrong with the option, or with its file.
    pub fn add_drive(&mut self, text: &str) -> Result<Vec<DeviceOptions>, Refusal> {
        let made = self.blockdevs.drive(text, &mut self.fds.opener())?;
        let devices = made.devices.into_iter().map(Value::Object);
        let decode = |value| api_spec::decode_value(value, api_spec::Mode::Strict);
        Ok(devices.map(decode).collect::<Result<_, _>>()?)
    }

    /// Runs a monitor on a chardev.
    ///
    /// # Errors
    /// When there is no such chardev, it is in use, or cannot carry a monitor.
    pub fn add_monitor(&mut self, chardev: &str, options: MonitorOptions) -> Result<()> {
        let endpoint = self.chardevs.take_endpoint(chardev)?;
        let id = self.monitors.add(chardev, endpoint, options)?;
        self.chardevs.set_yanker(chardev, self.monitors.yanker(id));
        Ok(())
    }

    /// Serves the character devices that nobody took as well, and waits for the clients of those
    /// with `wait=on`; a signal ends the program meanwhile. `option` has the words of the option
    /// that made a device.
    ///
    /// # Errors
    /// When the host is out of threads.
    pub fn begin_chardevs(&mut self, option: &BTreeMap<String, String>) -> Result<()> {
        self.chardevs.begin()?;
        for (id, name, is_monitor) in self.chardevs.waiting() {
            let option = option.get(&id).map_or("", String::as_str);
            let gap = if option.is_empty() { "" } else { ": " };
            logging::report(&format!(
                "{option}{gap}info: QEMU waiting for connection on: {name}"
            ));
            if is_monitor {
                self.monitors.begin()?;
                process::interruptibly(|| self.monitors.wait_connected(&id))?;
            } else {
                process::interruptibly(|| self.chardevs.wait_connected(&id))??;
            }
        }
        Ok(())
    }

    pub(super) fn list_chardevs(&self) -> Vec<ChardevInfo> {
        self.chardevs.query(&|id| self.monitors.is_connected(id))
    }

    /// The memory backend of that id, for the machine.
    pub fn take_memory(&mut self, id: &str) -> Option<Arc<Backend>> {
        self.objects.take_memory(id)
    }

    /// Makes a device and plugs it: `-device`. `builtin` when the machine brings it along.
    ///
    /// # Errors
    /// When something that it names is not there or in use, and what the device refuses.
    pub fn plug(&mut self, options: DeviceOptions, builtin: bool) -> Result<(), Refusal> {
        let Some(machine) = &self.machine else {
            let name = options.driver.name();
            let text = match &options.bus {
                Some(bus) => format!("Bus '{bus}' not found"),
                None => format!("No 'PCI' bus found for device '{name}'"),
            };
            return Err(QmpError::generic(text).into());
        };
        // Before anything is taken for it.
        machine.check_place(&options)?;
        let path = machine.path_for(&options, builtin);
        let references = self.look_up(&options, &path)?;
        let drive = references.node.as_ref().map(Arc::downgrade);
        if let Some(machine) = &mut self.machine {
            machine.add_device(options, references, builtin)?;
        }
        // From now on it goes with its device.
        if let Some(drive) = drive.and_then(|drive| drive.upgrade()) {
            drive.keep_drive(false);
        }
        Ok(())
    }

    /// `path` is where the object tree will have the device.
    fn look_up(&mut self, options: &DeviceOptions, path: &str) -> Result<References, Refusal> {
        let wants = wants(&options.driver);
        let name = options.driver.name();
        let mut references = References::default();
        if let Some(id) = wants.io_thread {
            references.io_thread = Some(self.objects.io_thread("iothread", id)?);
        }
        if let Some(id) = wants.rng {
            references.entropy = Some(self.objects.entropy("rng", id)?);
        }
        if let Some(id) = wants.chardev {
            references.chardev = Some(self.take_frontend(id, name)?);
        }
        if let Some(id) = wants.netdev {
            let owner = drive_user(options, path).owner;
            references.netdev = Some(self.nets.attach(id, &owner)?);
        }
        if let Some(vhost) = wants.vhost {
            references.vhost = Some(self.open_vhost(vhost)?);
        }
        if wants.drive.is_none() && wants.needs_drive {
            return Err(QmpError::generic("drive property not set").into());
        }
        let is_drive = |id: &&str| self.blockdevs.is_drive(id);
        references.drive_name = wants.drive.filter(is_drive).map(str::to_owned);
        references.node = self.attach_drive(wants, &drive_user(options, path))?;
        Ok(references)
    }

    /// Opens the vhost device that a driver needs, or takes the one that it names.
    fn open_vhost(&mut self, want: VhostWant<'_>) -> QmpResult<OwnedFd> {
        let VhostWant { name, path, fd } = want;
        let refuse = |what: &str, error: &std::io::Error| {
            let why = process::errno(error);
            QmpError::generic(format!("{name}: {what}: {why}"))
        };
        let Some(fd) = fd else {
            let opened = self.fds.opener().open(path, libc::O_RDWR, 0);
            return opened
                .map(OwnedFd::from)
                .map_err(|error| refuse("failed to open vhost device", &error));
        };
        match fd.parse() {
            Ok(number) => sys::adopt(number)
                .map_err(|error| refuse("unable to set non-blocking mode", &error)),
            Err(_) => self.fds.take_named(fd).map_err(|_| {
                QmpError::generic(format!(
                    "{name}: unable to parse vhostfd: File descriptor named '{fd}' has not been \
                     found"
                ))
            }),
        }
    }

    /// Gives a device what it names as its drive.
    fn attach_drive(
        &mut self,
        wants: Wants<'_>,
        user: &DriveUser,
    ) -> Result<Option<Arc<Attachment>>, Refusal> {
        let how = AttachOptions {
            sharing: match wants.share_rw {
                true => Sharing::Writers,
                false => Sharing::Exclusive,
            },
            read_only: wants.read_only,
        };
        let DriveUser { device, owner } = user;
        let blocks = &mut self.blockdevs;
        let attached = match (wants.drive, wants.removable) {
            (drive, true) => blocks.attach_removable(drive, device, how, owner)?,
            (Some(drive), false) => blocks.attach(drive, device, how, owner)?,
            (None, false) => return Ok(None),
        };
        attached.keep_drive(true);
        Ok(Some(attached))
    }

    fn take_frontend(&mut self, id: &str, driver: &str) -> QmpResult<CharFrontend> {
        // The property belongs to a part inside isa-serial.
        let owner = if driver == "isa-serial" {
            "serial"
        } else {
            driver
        };
        let taken = self.chardevs.take_frontend(id);
        taken.map_err(|error| error.describe(owner))
    }

    /// Remembers to serve the qtest protocol once the machine is whole.
    pub(crate) fn expect_qtest(&mut self, accel: Arc<QtestAccel>, plan: QtestPlan) {
        self.expected_qtest = Some(ExpectedQtest { accel, plan });
    }

    /// Everything is plugged: sets the machine up for its start.
    ///
    /// # Errors
    /// When the kernel does not fit or the accelerator refuses.
    pub fn power_on(&mut self) -> Result<()> {
        let Some(machine) = &mut self.machine else {
            return Ok(());
        };
        match self.life.state() {
            RunState::Inmigrate => machine.prepare_incoming(),
            _ => machine.power_on()?,
        }
        if let Some(expected) = self.expected_qtest.take() {
            let clock = machine.clock().clone();
            let server = startup::serve_qtest(&expected.accel, clock, &expected.plan)?;
            self.set_qtest(server);
        }
        Ok(())
    }
}
