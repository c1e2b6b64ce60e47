//! The QMP monitors. Their sockets listen from the start on; they are served once the machine is
//! made and on its way, so that no client sees a program that is half there.

use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use api_spec::{Event, MonitorId};
use qmp::{Endpoint, MonitorOptions, Server, ServerHandle};

use super::sink::{Published, Sink};
use super::yank::Yanker;
use crate::event::MailSender;
use crate::threads::{self, ThreadKind};

/// All monitors.
pub struct Monitors {
    mail: MailSender,
    published: Arc<Published>,
    running: Option<Running>,
    /// The chardev that carries each; its place is the monitor's number.
    carriers: Vec<String>,
    /// The server, once it runs.
    line: Arc<OnceLock<ServerHandle>>,
    /// Added and not served yet.
    waiting: Vec<(MonitorId, Endpoint, MonitorOptions)>,
}

struct Running {
    handle: ServerHandle,
    thread: JoinHandle<Option<()>>,
}

impl Monitors {
    /// None yet.
    pub fn new(mail: MailSender, published: Arc<Published>) -> Self {
        Monitors {
            mail,
            published,
            running: None,
            carriers: Vec::new(),
            line: Arc::default(),
            waiting: Vec::new(),
        }
    }

    /// Adds a monitor carried by this chardev; [`Monitors::begin`] serves it.
    ///
    /// # Errors
    /// When there are more than can be counted.
    pub fn add(
        &mut self,
        chardev: &str,
        endpoint: Endpoint,
        options: MonitorOptions,
    ) -> Result<MonitorId> {
        let id = MonitorId(u32::try_from(self.carriers.len())?);
        self.carriers.push(chardev.to_owned());
        self.waiting.push((id, endpoint, options));
        Ok(id)
    }

    /// Serves the monitors that were added.
    ///
    /// # Errors
    /// When the host is out of threads or descriptors.
    pub fn begin(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        if self.running.is_none() {
            self.running = Some(self.start().context("Cannot serve monitors")?);
        }
        if let Some(running) = &self.running {
            for (id, endpoint, options) in self.waiting.drain(..) {
                running.handle.add_monitor(id, endpoint, options);
            }
        }
        Ok(())
    }

    /// Something that parts a monitor from its client.
    pub fn yanker(&self, id: MonitorId) -> Yanker {
        let line = self.line.clone();
        Box::new(move || {
            if let Some(handle) = line.get() {
                handle.drop_client(id);
            }
        })
    }

    fn carried_by(&self, chardev: &str) -> Option<MonitorId> {
        let index = self
            .carriers
            .iter()
            .position(|carrier| carrier == chardev)?;
        u32::try_from(index).ok().map(MonitorId)
    }

    /// Whether the monitor on this chardev has a client now.
    pub fn is_connected(&self, chardev: &str) -> bool {
        match (&self.running, self.carried_by(chardev)) {
            (Some(running), Some(id)) => running.handle.is_connected(id),
            _ => false,
        }
    }

    /// Waits until a client has come to the monitor on this chardev (`wait=on`), and no longer
    /// than `time`; says whether one has. For the start of the program, before control serves
    /// anybody.
    pub fn wait_connected(&self, chardev: &str, time: Duration) -> bool {
        match (&self.running, self.carried_by(chardev)) {
            (Some(running), Some(id)) => running.handle.wait_connected(id, time),
            _ => true,
        }
    }

    /// Sends an event to every client.
    pub fn broadcast(&self, event: Event) {
        if let Some(running) = &self.running {
            running.handle.broadcast(event);
        }
    }

    /// Sends what waits and ends the thread.
    pub fn shut_down(&mut self) {
        if let Some(running) = self.running.take() {
            running.handle.shutdown();
            let _ = running.thread.join();
        }
    }

    fn start(&self) -> std::io::Result<Running> {
        let sink = Sink::new(self.mail.clone(), self.published.clone());
        let package = concat!("qvmd ", env!("CARGO_PKG_VERSION"));
        let (server, handle) = Server::new(Box::new(sink), package)?;
        // There is one server in the program's life.
        let _ = self.line.set(handle.clone());
        let body = move || server.run();
        let thread = threads::spawn(ThreadKind::Qmp, "qmp", Some(self.mail.clone()), body)?;
        Ok(Running { handle, thread })
    }
}

impl Drop for Monitors {
    fn drop(&mut self) {
        self.shut_down();
    }
}
