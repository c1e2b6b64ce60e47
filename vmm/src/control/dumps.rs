//! dump-guest-memory and its kin: the machine is held still while a thread writes its memory.
//!
//! ```text
//! asked --(file opened by a worker)--> hold the machine --> thread writes --> release, DUMP_COMPLETED
//! ```
//! One dump at a time. A client that did not detach is answered at the end.

use std::fs::File;
use std::os::unix::fs::FileTypeExt;

use api_spec::{
    DumpGuestMemoryArgs, DumpGuestMemoryCapability, DumpGuestMemoryFormat as Format,
    DumpQueryResult, DumpStatus, Event, QmpError, QmpResult, RunState,
};

use super::Control;
use super::fds::Opener;
use super::life::{Input, Release};
use crate::dump::guest::GuestMemory;
use crate::dump::output;
use crate::dump::{Compression, Dump, DumpError, Layout, Progress};
use crate::event::Mail;
use crate::process::errno;
use crate::threads::{self, ThreadKind};

/// The last dump.
pub(super) struct Dumps {
    status: DumpStatus,
    total: u64,
    progress: Progress,
}

impl Default for Dumps {
    fn default() -> Self {
        Dumps {
            status: DumpStatus::None,
            total: 0,
            progress: Progress::default(),
        }
    }
}

impl Dumps {
    /// query-dump.
    pub fn query(&self) -> DumpQueryResult {
        let number = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        DumpQueryResult {
            status: self.status,
            completed: number(self.progress.done()),
            total: number(self.total),
        }
    }

    /// Whether one has begun and not ended.
    pub fn is_under_way(&self) -> bool {
        self.status == DumpStatus::Active
    }

    /// The program ends: so does what is under way.
    pub fn shut_down(&self) {
        self.progress.end();
    }
}

/// Called with what became of a dump, or of the attempt to begin it.
pub(super) type Answer = Box<dyn FnOnce(QmpResult<()>) + Send>;

/// query-dump-guest-memory-capability.
pub(super) fn capability() -> DumpGuestMemoryCapability {
    DumpGuestMemoryCapability {
        formats: vec![
            Format::Elf,
            Format::KdumpZlib,
            Format::KdumpRawZlib,
            Format::KdumpSnappy,
            Format::KdumpRawSnappy,
        ],
    }
}

/// Where a dump goes.
enum Target {
    Path(String),
    Fd(String),
}

/// What a client wants, checked.
struct Order {
    layout: Layout,
    part: Option<(u64, u64)>,
    target: Target,
    detach: bool,
}

impl Order {
    fn new(args: &DumpGuestMemoryArgs) -> QmpResult<Self> {
        let format = args.format.unwrap_or(Format::Elf);
        let whole = !args.paging && args.begin.is_none() && args.length.is_none();
        if format != Format::Elf && format != Format::WinDmp && !whole {
            return Err(QmpError::generic(
                "kdump-compressed format doesn't support paging or filter",
            ));
        }
        let part = match (args.begin, args.length) {
            (None, None) => None,
            (Some(_), None) => return Err(QmpError::missing("length")),
            (None, Some(_)) => return Err(QmpError::missing("begin")),
            (Some(_), Some(0)) => {
                let text = "parameter 'length' expects a non-zero size";
                return Err(QmpError::generic(text));
            }
            (Some(begin), Some(len)) => Some((begin.cast_unsigned(), len.cast_unsigned())),
        };
        let target = if let Some(path) = args.protocol.strip_prefix("file:") {
            Target::Path(path.to_owned())
        } else if let Some(name) = args.protocol.strip_prefix("fd:") {
            Target::Fd(name.to_owned())
        } else {
            return Err(QmpError::generic(
                "parameter 'protocol' must start with 'file:' or 'fd:'",
            ));
        };
        Ok(Order {
            layout: layout(format, args.paging)?,
            part,
            target,
            detach: args.detach.unwrap_or(false),
        })
    }
}

fn layout(format: Format, paging: bool) -> QmpResult<Layout> {
    let kdump = |compression, flattened| {
        Ok(Layout::Kdump {
            compression,
            flattened,
        })
    };
    let missing = |name| Err(QmpError::generic(format!("{name} is not available now")));
    match format {
        Format::Elf => Ok(Layout::Elf { paging }),
        Format::KdumpZlib => kdump(Compression::Zlib, true),
        Format::KdumpRawZlib => kdump(Compression::Zlib, false),
        Format::KdumpSnappy => kdump(Compression::Snappy, true),
        Format::KdumpRawSnappy => kdump(Compression::Snappy, false),
        Format::KdumpLzo | Format::KdumpRawLzo => missing("kdump-lzo"),
        // The guest's driver tells of it through a device that we have not.
        Format::WinDmp => missing("win-dmp"),
    }
}

/// A dump whose file is being opened, or whose machine is being held.
struct Begun {
    layout: Layout,
    all: GuestMemory,
    part: GuestMemory,
    detach: bool,
    before: Dumps,
    answer: Answer,
}

impl Control {
    /// dump-guest-memory. `monitor` is where descriptors are looked for.
    pub(super) fn dump_memory(&mut self, monitor: u32, args: &DumpGuestMemoryArgs, answer: Answer) {
        match self.begin_dump(monitor, args) {
            Ok((order, all, part, file)) => {
                let new = Dumps {
                    status: DumpStatus::Active,
                    total: part.size(),
                    progress: Progress::default(),
                };
                let begun = Begun {
                    layout: order.layout,
                    all,
                    part,
                    detach: order.detach,
                    before: std::mem::replace(&mut self.dumps, new),
                    answer,
                };
                match (file, order.target) {
                    (Some(file), _) => self.hold_for_dump(begun, file),
                    (None, Target::Path(path) | Target::Fd(path)) => self.open_dump(begun, path),
                }
            }
            Err(error) => answer(Err(error)),
        }
    }

    fn begin_dump(
        &mut self,
        monitor: u32,
        args: &DumpGuestMemoryArgs,
    ) -> QmpResult<(Order, GuestMemory, GuestMemory, Option<File>)> {
        if self.dumps.is_under_way() {
            let text = "There is a dump in process, please wait.";
            return Err(QmpError::generic(text));
        }
        if self.life.state() == RunState::Inmigrate {
            let text = "Dump not allowed during incoming migration.";
            return Err(QmpError::generic(text));
        }
        if self.is_migrating() {
            // It would hold the machine when that is to be handed over.
            let text = "disallowing migration blocker (migration/snapshot in progress) for: Live \
                        migration disabled: dump-guest-memory in progress";
            return Err(QmpError::generic(text));
        }
        let order = Order::new(args)?;
        let machine = self.machine.as_ref();
        let all = machine.map_or_else(GuestMemory::default, |machine| machine.guest_memory());
        let part = match order.part {
            Some((begin, len)) => all.part(begin, len),
            None => all.clone(),
        };
        if part.size() == 0 {
            return Err(QmpError::generic("dump: no guest memory to dump"));
        }
        // The last thing that can fail: the descriptor is the dump's now.
        let file = match &order.target {
            Target::Fd(name) => Some(File::from(self.dump_fd(monitor, name)?)),
            Target::Path(_) => None,
        };
        Ok((order, all, part, file))
    }

    fn dump_fd(&mut self, monitor: u32, name: &str) -> QmpResult<std::os::fd::OwnedFd> {
        let taken = self.fds.take(monitor, name);
        taken.map_err(|_| {
            QmpError::generic(format!("File descriptor named '{name}' has not been found"))
        })
    }

    /// Opening may block, and has a thread of its own.
    fn open_dump(&mut self, begun: Begun, path: String) {
        let opener = self.fds.opener();
        // Answered here when there is no thread.
        let begun = std::sync::Arc::new(std::sync::Mutex::new(Some(begun)));
        let waiting = begun.clone();
        let take = |begun: &std::sync::Mutex<Option<Begun>>| devices::bus::lock(begun).take();
        let started = self.do_slowly(
            move || create(&opener, &path, 0o400, "create"),
            move |control, opened| {
                let Some(begun) = take(&waiting) else { return };
                match opened {
                    Ok(file) => control.hold_for_dump(begun, file),
                    Err(error) => control.give_up_dump(begun, error),
                }
            },
        );
        if let Err(error) = started
            && let Some(begun) = take(&begun)
        {
            self.give_up_dump(begun, no_thread(&error));
        }
    }

    /// It was not begun after all: what query-dump told before still holds.
    fn give_up_dump(&mut self, begun: Begun, error: QmpError) {
        self.dumps = begun.before;
        (begun.answer)(Err(error));
    }

    fn hold_for_dump(&mut self, begun: Begun, file: File) {
        let raw = matches!(
            begun.layout,
            Layout::Kdump {
                flattened: false,
                ..
            }
        );
        if raw && output::start(&file).is_none() {
            let text = "kdump-raw formats require a seekable file";
            return self.give_up_dump(begun, QmpError::generic(text));
        }
        let mail = self.mail.clone();
        let ticket = self.ticket(Box::new(move |held| {
            mail.send(Mail::Done(Box::new(
                move |control: &mut Control| match held {
                    Ok(()) => control.write_dump(begun, file),
                    Err(error) => control.give_up_dump(begun, error),
                },
            )));
        }));
        self.feed(Input::Hold(RunState::SaveVm, ticket));
    }

    /// The machine is held.
    fn write_dump(&mut self, begun: Begun, file: File) {
        let Begun {
            layout,
            all,
            part,
            detach,
            before: _,
            answer,
        } = begun;
        let cpus = match self.machine.as_ref().map(|machine| machine.cpu_views()) {
            Some(Err(error)) => return self.dump_ended(Err(error), Some(answer)),
            Some(Ok(cpus)) => cpus,
            None => Vec::new(),
        };
        let dump = Dump {
            layout,
            all,
            part,
            cpus,
        };
        let (mail, progress) = (self.mail.clone(), self.dumps.progress.clone());
        let (told, waits) = match detach {
            true => (Some(answer), None),
            false => (None, Some(answer)),
        };
        // Answered here when there is no thread.
        let waits = std::sync::Arc::new(std::sync::Mutex::new(waits));
        let waiting = waits.clone();
        let body = move || {
            let result = dump
                .write(file, &progress)
                .map_err(|error: DumpError| error.to_string());
            mail.send(Mail::Done(Box::new(move |control: &mut Control| {
                let answer = devices::bus::lock(&waiting).take();
                control.dump_ended(result, answer);
            })));
        };
        let own = Some(self.mail.clone());
        match threads::spawn(ThreadKind::Migration, "dump", own, body) {
            Ok(_) => {
                if let Some(answer) = told {
                    answer(Ok(()));
                }
            }
            Err(error) => {
                let answer = told.or_else(|| devices::bus::lock(&waits).take());
                self.dump_ended(Err(no_thread(&error).desc), answer);
            }
        }
    }

    fn dump_ended(&mut self, result: Result<(), String>, answer: Option<Answer>) {
        self.dumps.status = match &result {
            Ok(()) => DumpStatus::Completed,
            Err(_) => DumpStatus::Failed,
        };
        self.emit(Event::DumpCompleted {
            result: self.dumps.query(),
            error: result.as_ref().err().cloned(),
        });
        self.feed(Input::Release(Release::Back));
        if let Some(answer) = answer {
            answer(result.map_err(QmpError::generic));
        }
    }
}

/// Makes a file, or empties one that is there; `verb` is what the error says about it. Blocks, but
/// not for somebody to read a FIFO.
pub(super) fn create(opener: &Opener, path: &str, mode: u32, verb: &str) -> QmpResult<File> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
    let is_fifo = std::fs::metadata(path).is_ok_and(|data| data.file_type().is_fifo());
    let opened = match is_fifo {
        // Stays open until the other one is: the reader cannot go meanwhile unseen.
        true => opener
            .open(path, libc::O_WRONLY | libc::O_NONBLOCK, mode)
            .and_then(|_there_is_a_reader| opener.open(path, flags, mode)),
        false => opener.open(path, flags, mode),
    };
    opened
        .map_err(|error| QmpError::generic(format!("Could not {verb} '{path}': {}", errno(&error))))
}

pub(super) fn no_thread(error: &std::io::Error) -> QmpError {
    QmpError::generic(format!("No thread for it: {}", errno(error)))
}
