//! human-monitor-command: text commands over the same handlers.

use std::fmt::Write;

use api_spec::{CommandContext, HumanMonitorCommandArgs, QmpError, Reply, ShutdownCause};

use crate::cli;
use crate::control::Control;
use crate::control::hmp::{self, BlockQuery, DeviceLine, Line, Topic, Verb};
use crate::control::life::{Input, Ticket};
use crate::control::migrate;

impl Control {
    /// Runs a line. What goes wrong is text too; only a processor that does not exist is an error.
    pub(super) fn text_command(
        &mut self,
        cx: &mut CommandContext,
        args: &HumanMonitorCommandArgs,
        reply: Reply<String>,
    ) {
        let cpu = match self.chosen_cpu(args.cpu_index) {
            Ok(cpu) => cpu,
            Err(error) => return reply.send(Err(error)),
        };
        let text = match hmp::parse(&args.command_line) {
            Err(text) => text,
            Ok(Line::Empty) => String::new(),
            Ok(Line::Help(about)) => hmp::help(about.as_deref()),
            Ok(Line::Info(None, _)) => hmp::topics(),
            Ok(Line::Info(Some(Topic::Usernet), _)) => return self.tell_usernets(reply),
            Ok(Line::Info(Some(Topic::Mem), _)) => return self.tell_mapped(cpu, reply),
            Ok(Line::Info(Some(Topic::Tlb), _)) => return self.tell_pages(cpu, reply),
            Ok(Line::Memory(line)) => return self.run_memory(cx.monitor.0, cpu, line, reply),
            Ok(Line::Forward(line)) => return self.run_forward(line, reply),
            Ok(Line::Info(Some(topic), words)) => self.tell(topic, &words, cpu),
            Ok(Line::InfoBlock(query)) => self.tell_block(&query),
            Ok(Line::Run(verb)) => return self.run_verb(verb, reply),
            Ok(Line::Migration(line)) => return self.run_migration(cx, line, reply),
            Ok(Line::Net(line)) => return self.run_net(cx, line, reply),
            Ok(Line::Log(line)) => super::logs::run(line),
            Ok(Line::Guest(line)) => said(self.run_guest(line)),
            Ok(Line::Chardev(line)) => return self.run_chardev(cx.monitor, line, reply),
            Ok(Line::Disk(line)) => return self.run_disk(line, reply),
            Ok(Line::Snapshot(line)) => return self.run_snapshot(line, reply),
            Ok(Line::Device(line)) => self.run_device(&line),
        };
        reply.send(Ok(hmp::wire(&text)));
    }

    fn chosen_cpu(&self, index: Option<i64>) -> Result<usize, QmpError> {
        let count = self.machine.as_ref().map_or(0, |m| m.cpu_count());
        let Some(index) = index else { return Ok(0) };
        usize::try_from(index)
            .ok()
            .filter(|index| *index < count)
            .ok_or_else(|| QmpError::wrong_value("cpu-index", "a CPU number"))
    }

    fn run_verb(&mut self, verb: Verb, reply: Reply<String>) {
        match verb {
            Verb::Stop => self.wait_for(reply, Input::Stop),
            Verb::Cont => self.continue_machine(said_to(reply)),
            Verb::SystemReset => self.wait_for(reply, |ticket| {
                Input::Reset(ShutdownCause::HostQmpSystemReset, Some(ticket))
            }),
            Verb::Quit => self.wait_for(reply, |ticket| {
                Input::Shutdown(ShutdownCause::HostQmpQuit, 0, Some(ticket))
            }),
            Verb::SystemPowerdown => {
                self.power_button();
                reply.send(Ok(String::new()));
            }
            Verb::Nmi => reply.send(Ok(hmp::wire(&said(self.nmi().map(|()| String::new()))))),
            Verb::Help
            | Verb::Info
            | Verb::Chardev(_)
            | Verb::Disk(_)
            | Verb::Device(_)
            | Verb::Guest(_)
            | Verb::Forward(_)
            | Verb::Migration(_)
            | Verb::Log(_)
            | Verb::Net(_)
            | Verb::Memory(_)
            | Verb::Snapshot(_) => reply.send(Ok(String::new())),
        }
    }

    fn run_device(&mut self, line: &DeviceLine) -> String {
        match line {
            DeviceLine::Add(options) => match cli::help::of_devices(options) {
                Some(text) => text,
                None => said(self.add_by_text(options).map(|()| String::new())),
            },
            DeviceLine::Del(name) => said(self.device_del(name).map(|()| String::new())),
        }
    }

    fn wait_for(&mut self, reply: Reply<String>, input: impl FnOnce(Ticket) -> Input) {
        let ticket = self.ticket(said_to(reply));
        self.feed(input(ticket));
    }

    fn tell(&mut self, topic: Topic, words: &[String], cpu: usize) -> String {
        let facts = self.published.facts();
        match topic {
            Topic::Status => {
                let status = self.published.status();
                match status.running {
                    true => "VM status: running\n".to_owned(),
                    false if status.status == api_spec::RunState::Paused => {
                        "VM status: paused\n".to_owned()
                    }
                    false => format!("VM status: paused ({})\n", status.status.name()),
                }
            }
            Topic::Version => {
                let version = super::version();
                let (q, package) = (version.qemu, version.package);
                format!("{}.{}.{} {package}\n", q.major, q.minor, q.micro)
            }
            Topic::Name => facts
                .name
                .name
                .as_ref()
                .map_or_else(String::new, |name| format!("{name}\n")),
            Topic::Uuid => format!("{}\n", facts.uuid.uuid),
            Topic::Kvm => match (facts.kvm.present, facts.kvm.enabled) {
                (true, true) => "kvm support: enabled\n".to_owned(),
                (true, false) => "kvm support: disabled\n".to_owned(),
                (false, _) => "kvm support: not compiled\n".to_owned(),
            },
            Topic::Cpus => self.tell_cpus(cpu),
            Topic::Registers => self.tell_registers(words, cpu),
            Topic::Pci => self
                .machine
                .as_ref()
                .map_or_else(String::new, |m| m.pci_text()),
            Topic::Qtree => self
                .machine
                .as_ref()
                .map_or_else(String::new, |m| m.qtree()),
            Topic::Block => self.tell_block(&BlockQuery::default()),
            Topic::BlockStats => self.tell_block_stats(),
            Topic::Snapshots => self.tell_snapshots(),
            Topic::Network => self.tell_networks(),
            Topic::Chardev => self.tell_chardevs(),
            // Told by a worker.
            Topic::Usernet | Topic::Mem | Topic::Tlb => String::new(),
            Topic::Dump => self.tell_dump(),
            Topic::Balloon => self.tell_balloon(),
            Topic::IoThreads => self.tell_io_threads(),
            Topic::Migrate => migrate::text::info(&self.migration_info()),
            Topic::MigrateCapabilities => {
                migrate::text::capabilities(&self.migrate.settings.capabilities().list())
            }
            Topic::MigrateParameters => {
                migrate::text::parameters(self.migrate.settings.parameters())
            }
            Topic::MigrateCacheSize => {
                migrate::text::cache_size(self.migrate.settings.parameters())
            }
            Topic::GuestErrors => super::logs::guest_errors(),
            Topic::TraceEvents => super::logs::trace_events(words),
            Topic::Generation => said(self.generation_id().map(|info| format!("{}\n", info.guid))),
        }
    }

    fn tell_cpus(&self, current: usize) -> String {
        let mut text = String::new();
        for (index, cpu) in self.cpus().into_iter().enumerate() {
            let mark = if index == current { '*' } else { ' ' };
            let _ = writeln!(text, "{mark} CPU #{index}: thread_id={}", cpu.thread_id);
        }
        text
    }

    fn tell_registers(&self, words: &[String], cpu: usize) -> String {
        let Some(machine) = &self.machine else {
            return "No CPU available\n".to_owned();
        };
        let chosen: Vec<usize> = match words {
            [] => vec![cpu],
            [all] if all == "-a" => (0..machine.cpu_count()).collect(),
            [switch] if switch.starts_with('-') => {
                let letter = switch.chars().find(|c| !"-a".contains(*c)).unwrap_or('-');
                let text = format!("registers: unsupported option -{letter}");
                return hmp::memory::with_help(&text, "info registers");
            }
            [index] => match index.parse() {
                Ok(index) if index < machine.cpu_count() => vec![index],
                Ok(index) => return format!("CPU#{index} not available\n"),
                Err(_) => {
                    let bad = index.chars().find(|c| !c.is_ascii_digit()).unwrap_or('0');
                    let text = format!("invalid char '{bad}' in expression");
                    return hmp::memory::with_help(&text, "info registers");
                }
            },
            _ => return hmp::extraneous("info registers"),
        };
        let mut text = String::new();
        for index in chosen {
            let registers = machine.cpu(index).map(|cpu| cpu.describe(true));
            let registers = registers.map_err(QmpError::generic);
            let _ = writeln!(text, "\nCPU#{index}\n{}", said(registers).trim_end());
        }
        text
    }

    fn tell_chardevs(&self) -> String {
        let mut text = String::new();
        for info in self.list_chardevs() {
            let _ = writeln!(text, "{}: filename={}", info.label, info.filename);
        }
        text
    }
}

/// Says what became of it.
fn said_to(reply: Reply<String>) -> crate::control::Waiter {
    Box::new(move |result| {
        reply.send(Ok(hmp::wire(&said(result.map(|()| String::new())))));
    })
}

/// A result as the text monitor shows it.
pub(super) fn said(result: Result<String, QmpError>) -> String {
    result.unwrap_or_else(|error| format!("Error: {}\n", error.desc))
}
