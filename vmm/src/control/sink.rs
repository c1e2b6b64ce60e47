//! Between the monitors' thread and control: commands go over as mail; what can be answered from
//! published state is answered at once, without a change of threads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use api_spec::{
    Command, CommandContext, Encode, KvmInfo, MonitorId, NameInfo, QmpResult, Responder, RunState,
    StatusInfo, SysEmuTarget, TargetInfo, UuidInfo, to_json,
};
use arc_swap::ArcSwap;
use devices::bus::lock;
use qmp::CommandSink;
use qmp::server::{Client, ClientPlace};

use super::migrate::never;
use super::yank::Yanks;
use crate::event::{Mail, MailSender};

/// What never changes while the program runs.
#[derive(Debug, Clone)]
pub struct Facts {
    /// `-name`.
    pub name: NameInfo,
    /// `-uuid`, or all zeroes.
    pub uuid: UuidInfo,
    /// The accelerator.
    pub kvm: KvmInfo,
}

/// State that control publishes for the monitors' thread. Whoever got the reply of a command that
/// changed it sees the new state: it is stored before the reply is sent.
pub struct Published {
    status: ArcSwap<StatusInfo>,
    facts: ArcSwap<Facts>,
    yanks: Arc<Yanks>,
}

impl Published {
    /// The state of a program that has just begun.
    pub fn new(facts: Facts) -> Arc<Self> {
        Arc::new(Published {
            status: ArcSwap::from_pointee(StatusInfo {
                running: false,
                status: RunState::Prelaunch,
            }),
            facts: ArcSwap::from_pointee(facts),
            yanks: Arc::default(),
        })
    }

    /// Publishes the run state.
    pub fn set_status(&self, status: RunState) {
        trace::point!(RUNSTATE_SET, new_state = status.name());
        self.status.store(Arc::new(StatusInfo {
            running: status == RunState::Running,
            status,
        }));
    }

    /// The run state.
    pub fn status(&self) -> StatusInfo {
        self.status.load().as_ref().clone()
    }

    /// Connections that can be broken.
    pub fn yanks(&self) -> &Arc<Yanks> {
        &self.yanks
    }

    /// What never changes, once the machine is made.
    pub fn facts(&self) -> Arc<Facts> {
        self.facts.load_full()
    }

    /// Says which accelerator was taken.
    pub fn set_kvm(&self, enabled: bool) {
        let mut facts = self.facts().as_ref().clone();
        facts.kvm.enabled = enabled;
        self.facts.store(Arc::new(facts));
    }
}

/// The monitors' way to control.
pub struct Sink {
    mail: MailSender,
    published: Arc<Published>,
    /// What the programs of clients are called. For control alone.
    programs: Arc<Mutex<BTreeMap<MonitorId, String>>>,
}

impl Sink {
    /// Hands commands to the owner of the mailbox behind `mail`.
    pub fn new(mail: MailSender, published: Arc<Published>) -> Self {
        let programs = Arc::default();
        Sink {
            mail,
            published,
            programs,
        }
    }

    /// Logs who came or left. Control looks up what the program is called: the thread of the
    /// monitors opens no files.
    fn tell(&self, monitor: MonitorId, client: &Client, came: bool) {
        if !log::log_enabled!(log::Level::Info) {
            return;
        }
        let (programs, client) = (self.programs.clone(), client.clone());
        self.mail.send(Mail::Done(Box::new(move |_| {
            let mut programs = lock(&programs);
            if came {
                programs.remove(&monitor);
                if let ClientPlace::Process { pid, .. } = client.place
                    && let Ok(name) = std::fs::read_to_string(format!("/proc/{pid}/comm"))
                {
                    programs.insert(monitor, name.trim_end().to_owned());
                }
            }
            let text = client.describe(programs.get(&monitor).map(String::as_str));
            let verb = if came { "" } else { " left" };
            log::info!("Monitor {}: client{verb}: {text}", monitor.0);
        })));
    }
}

/// The target that this program is for.
pub fn target() -> TargetInfo {
    TargetInfo {
        arch: SysEmuTarget::X8664,
    }
}

impl CommandSink for Sink {
    fn submit(&mut self, cx: CommandContext, command: Command, responder: Responder) {
        self.mail.send(Mail::Command {
            cx,
            command: Box::new(command),
            responder,
        });
    }

    fn client_came(&mut self, monitor: MonitorId, client: &Client) {
        self.tell(monitor, client, true);
    }

    fn client_left(&mut self, monitor: MonitorId, client: &Client) {
        self.tell(monitor, client, false);
    }

    fn try_fast(&mut self, command: &Command) -> Option<QmpResult<String>> {
        fn json(value: &impl Encode) -> Option<QmpResult<String>> {
            Some(Ok(to_json(value)))
        }
        match command {
            Command::QueryStatus => json(self.published.status.load().as_ref()),
            Command::QueryVersion => json(&super::commands::version()),
            Command::QueryName => json(&self.published.facts.load().name),
            Command::QueryUuid => json(&self.published.facts.load().uuid),
            Command::QueryKvm => json(&self.published.facts.load().kvm),
            Command::QueryTarget => json(&target()),
            // Also while control waits for what is to be yanked.
            Command::QueryYank => json(&self.published.yanks.query()),
            Command::Yank(args) => Some(
                self.published
                    .yanks
                    .yank(&args.instances)
                    .map(|()| "{}".to_owned()),
            ),
            // Nothing changes what these answer; a client asks out of band.
            Command::MigratePause => Some(Err(never::pause())),
            Command::MigrateRecover(_) => Some(Err(never::recover())),
            _ => None,
        }
    }
}
