//! By which lanes pages go: one on this thread, or several on threads of their own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender as Done, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use super::lane::{GATHERED_PAGES, JOB_PAGES, Job, Lane, Shared, StreamLane};
use crate::migration::answers::Answer;
use crate::migration::host::{Broken, MoreChannels};
use crate::migration::link::{Link, failure};
use crate::migration::records::Sender;
use crate::migration::wire::{Hello, Kind, put_pass};
use crate::threads::{self, ThreadKind};

/// Jobs that wait for a lane: enough that it never waits itself.
const WAITING: usize = 4;

/// Carries pages.
pub trait Carrier {
    /// Takes a job.
    ///
    /// # Errors
    /// When a lane failed, the other side refused, or it was cancelled.
    fn carry(&mut self, job: Job) -> Result<(), Broken>;
    /// All jobs so far are done; nothing of them overtakes a later one.
    ///
    /// # Errors
    /// As [`Carrier::carry`].
    fn end_pass(&mut self, number: u32) -> Result<(), Broken>;
    /// The same for the last one, behind which other records follow at once: what is little may be
    /// kept back until then.
    ///
    /// # Errors
    /// As [`Carrier::carry`].
    fn end_last_pass(&mut self, number: u32) -> Result<(), Broken> {
        self.end_pass(number)
    }
    /// How many pages a job may have.
    fn job_pages(&self) -> u64 {
        JOB_PAGES
    }
    /// The other side has taken in all of that pass, where it says so.
    ///
    /// # Errors
    /// As [`Carrier::carry`].
    fn caught_up(&mut self, _number: u32) -> Result<(), Broken> {
        Ok(())
    }
}

/// All on this thread and the first channel.
pub struct Single {
    lane: StreamLane,
    job_pages: u64,
}

impl Single {
    /// By this lane.
    pub fn new(mut lane: StreamLane) -> Self {
        let job_pages = match lane.sender().sink().is_gathered() {
            true => GATHERED_PAGES,
            false => JOB_PAGES,
        };
        Single { lane, job_pages }
    }

    /// Gives the channel back, with what is kept back.
    pub fn finish(self) -> Sender<Link> {
        self.lane.into_sender()
    }
}

impl Carrier for Single {
    fn carry(&mut self, job: Job) -> Result<(), Broken> {
        check_answers(self.lane.sender().sink())?;
        self.lane.work(&job)
    }

    fn end_pass(&mut self, number: u32) -> Result<(), Broken> {
        self.lane.end_pass(number)
    }

    fn end_last_pass(&mut self, number: u32) -> Result<(), Broken> {
        let sender = self.lane.sender();
        sender.record(Kind::Pass, &put_pass(number))
    }

    fn job_pages(&self) -> u64 {
        self.job_pages
    }

    fn caught_up(&mut self, number: u32) -> Result<(), Broken> {
        wait_until_read(self.lane.sender().sink(), number)
    }
}

/// multifd: pages by more channels, everything else by the first.
pub struct Multi {
    main: Sender<Link>,
    pool: Pool,
}

impl Multi {
    /// Opens the channels that `hello` announces.
    ///
    /// # Errors
    /// When there is no such channel or no thread.
    pub fn connect(
        mut main: Sender<Link>,
        mut more: MoreChannels,
        hello: &Hello,
        zstd: bool,
        shared: Arc<Shared>,
    ) -> Result<Self, Broken> {
        let mut lanes: Vec<Box<dyn Lane>> = Vec::new();
        for number in 1..=hello.channels {
            let hello = Hello {
                channel: number,
                ..*hello
            };
            match open(&mut more, &hello, &shared) {
                Ok(sender) => {
                    lanes.push(Box::new(StreamLane::new(
                        sender,
                        shared.clone(),
                        true,
                        zstd,
                    )));
                }
                Err(broken) => return Err(why(&mut main, broken)),
            }
        }
        let pool = Pool::start("multifd-send", lanes, shared)?;
        Ok(Multi { main, pool })
    }

    /// Ends the other channels and gives the first one back.
    ///
    /// # Errors
    /// As [`Carrier::carry`].
    pub fn finish(mut self) -> Result<Sender<Link>, Broken> {
        match self.pool.finish() {
            Ok(()) => Ok(self.main),
            Err(broken) => Err(why(&mut self.main, broken)),
        }
    }
}

/// One more channel.
fn open(more: &mut MoreChannels, hello: &Hello, shared: &Shared) -> Result<Sender<Link>, Broken> {
    let channel = more(shared.fate.cancel()).map_err(|error| {
        let cancelled = shared.fate.check().err();
        cancelled.unwrap_or_else(|| failure("Cannot open a multifd channel", &error))
    })?;
    let mut sender = Sender::new(Link::new(channel, shared.fate.clone())?);
    sender.sink().lend_pages();
    sender.hello(hello);
    sender.flush()?;
    Ok(sender)
}

impl Carrier for Multi {
    fn carry(&mut self, job: Job) -> Result<(), Broken> {
        let result = check_answers(self.main.sink()).and_then(|()| self.pool.carry(job));
        result.map_err(|broken| why(&mut self.main, broken))
    }

    fn end_pass(&mut self, number: u32) -> Result<(), Broken> {
        // First here: readers of the other channels wait for this one.
        let first = self.main.record(Kind::Pass, &put_pass(number));
        let result = first
            .and_then(|()| self.main.flush())
            .and_then(|()| self.pool.end_pass(number));
        result.map_err(|broken| why(&mut self.main, broken))
    }

    fn caught_up(&mut self, number: u32) -> Result<(), Broken> {
        let result = wait_until_read(self.main.sink(), number);
        result.map_err(|broken| why(&mut self.main, broken))
    }
}

/// A channel failed: the other side may be about to say why, on the first one.
fn why(main: &mut Sender<Link>, broken: Broken) -> Broken {
    if broken == Broken::Cancelled {
        return broken;
    }
    let link = main.sink();
    for _ in 0..10 {
        if let Some(refused) = link.heard.refusal() {
            return refused;
        }
        if link.deaf || !link.listens {
            break;
        }
        link.listen_to_the_end(50);
    }
    broken
}

/// Any lane on this thread.
pub struct Inline(pub Box<dyn Lane>);

impl Carrier for Inline {
    fn carry(&mut self, job: Job) -> Result<(), Broken> {
        self.0.work(&job)
    }

    fn end_pass(&mut self, number: u32) -> Result<(), Broken> {
        self.0.end_pass(number)
    }
}

/// Lanes on threads of their own.
pub struct Pool {
    workers: Vec<Worker>,
    next: usize,
    shared: Arc<Shared>,
}

struct Worker {
    orders: SyncSender<Order>,
    done: Receiver<()>,
    thread: JoinHandle<Option<()>>,
}

enum Order {
    Job(Job),
    EndPass(u32),
    Finish,
}

impl Pool {
    /// Starts a thread for each lane, with this name and a number.
    ///
    /// # Errors
    /// When the host gives none.
    pub fn start(
        name: &str,
        lanes: Vec<Box<dyn Lane>>,
        shared: Arc<Shared>,
    ) -> Result<Self, Broken> {
        let mut pool = Pool {
            workers: Vec::new(),
            next: 0,
            shared,
        };
        for (number, lane) in lanes.into_iter().enumerate() {
            let (orders, inbox) = sync_channel(WAITING);
            let (report, done) = channel();
            let fate = pool.shared.fate.clone();
            let body = move || {
                if let Err(broken) = serve(lane, &inbox, &report) {
                    fate.fail(&broken);
                }
            };
            let name = format!("{name}-{number}");
            let thread = threads::spawn(ThreadKind::Migration, &name, None, body)
                .map_err(|error| failure("Cannot start a thread", &error))?;
            pool.workers.push(Worker {
                orders,
                done,
                thread,
            });
        }
        Ok(pool)
    }

    /// Ends all threads, their jobs done.
    ///
    /// # Errors
    /// As [`Carrier::carry`].
    pub fn finish(mut self) -> Result<(), Broken> {
        self.all(|| Order::Finish)?;
        for worker in self.workers.drain(..) {
            drop(worker.orders);
            // What went wrong is known by now.
            let _ = worker.thread.join();
        }
        Ok(())
    }

    fn all(&self, order: impl Fn() -> Order) -> Result<(), Broken> {
        for worker in &self.workers {
            if worker.orders.send(order()).is_err() {
                return Err(self.lost());
            }
        }
        for worker in &self.workers {
            if worker.done.recv().is_err() {
                return Err(self.lost());
            }
        }
        Ok(())
    }

    fn lost(&self) -> Broken {
        let unknown = || Broken::Failed("A multifd thread ended".to_owned());
        match self.shared.fate.check() {
            Err(broken) => broken,
            Ok(()) => self.shared.fate.reason(unknown()),
        }
    }
}

impl Carrier for Pool {
    fn carry(&mut self, job: Job) -> Result<(), Broken> {
        self.next = self.next.wrapping_add(1);
        let index = self.next.checked_rem(self.workers.len()).unwrap_or(0);
        let sent = match self.workers.get(index) {
            Some(worker) => worker.orders.send(Order::Job(job)).is_ok(),
            None => false,
        };
        match sent {
            true => Ok(()),
            false => Err(self.lost()),
        }
    }

    fn end_pass(&mut self, number: u32) -> Result<(), Broken> {
        self.all(|| Order::EndPass(number))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.workers.is_empty() {
            return;
        }
        // Given up: nobody waits for the other side any more.
        self.shared
            .fate
            .fail(&Broken::Failed("The migration was given up".to_owned()));
        for worker in self.workers.drain(..) {
            drop(worker.orders);
            let _ = worker.thread.join();
        }
    }
}

fn serve(
    mut lane: Box<dyn Lane>,
    orders: &Receiver<Order>,
    report: &Done<()>,
) -> Result<(), Broken> {
    // Whether anybody hears the report does not matter.
    while let Ok(order) = orders.recv() {
        match order {
            Order::Job(job) => lane.work(&job)?,
            Order::EndPass(number) => {
                lane.end_pass(number)?;
                let _ = report.send(());
            }
            Order::Finish => {
                lane.finish()?;
                let _ = report.send(());
            }
        }
    }
    Ok(())
}

/// The other side may have said early that it will not have the machine.
fn check_answers(link: &mut Link) -> Result<(), Broken> {
    if !link.listens {
        return Ok(());
    }
    link.listen(0)?;
    match link.heard.refusal() {
        Some(refused) => Err(refused),
        None if link.deaf => Err(Broken::Failed("The link was lost".to_owned())),
        None if link.heard.is_empty() => Ok(()),
        None => match link.heard.take()? {
            Some(Answer::Refused(reason)) => Err(Answer::refusal(&reason)),
            Some(Answer::Passed(_) | Answer::Ready | Answer::Running) => Err(out_of_turn()),
            None => Ok(()),
        },
    }
}

/// Waits for the word that this pass is in memory there: what the machine would have to wait for if
/// it were stopped now.
fn wait_until_read(link: &mut Link, number: u32) -> Result<(), Broken> {
    if !link.listens {
        return Ok(());
    }
    loop {
        match link.heard.take()? {
            Some(Answer::Passed(found)) if found == number => return Ok(()),
            Some(Answer::Refused(reason)) => return Err(Answer::refusal(&reason)),
            Some(_) => return Err(out_of_turn()),
            None if link.deaf => return Err(Broken::Failed("The link was lost".to_owned())),
            None => link.listen(1000)?,
        }
    }
}

fn out_of_turn() -> Broken {
    Broken::Failed("The other side spoke out of turn".to_owned())
}
