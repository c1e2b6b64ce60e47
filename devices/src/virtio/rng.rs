//! `virtio-rng-pci`: entropy for the guest (Virtio 1.2, section 5.4).

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex};

use api_spec::{QmpError, QmpResult};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::{
    ActiveQueues, Chain, PlacedWorker, VirtioDevice, VirtioPci, VirtioPciProps, VirtioTraits,
    Virtqueue,
};
use crate::backend::rng::{BuiltinEntropy, Entropy};
use crate::bus::lock;
use crate::clock::{Clock, Timer, TimerTarget, Timers};
use crate::cx::BuildCx;
use crate::ram::GuestRam;
use crate::worker::{QueueState, QueueWorker, Watch, WatchToken};

const DEVICE_TYPE: u16 = 4;
/// PCI class "other".
const CLASS: u32 = 0xff_0000;
const QUEUE_SIZE: u16 = 8;
/// Bytes asked of the source at once.
const CHUNK: usize = 4096;
/// Bytes for one request of the driver at most; the driver asks again.
const MOST_PER_REQUEST: usize = 64 << 10;
/// When to ask a dry source again that cannot be watched.
const RETRY_NS: u64 = 10_000_000;

const KICK: WatchToken = WatchToken(0);
const SOURCE: WatchToken = WatchToken(1);
const PERIOD: WatchToken = WatchToken(2);

/// What can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RngProps {
    /// Bytes for each period at most.
    pub max_bytes: u64,
    /// Milliseconds of a period.
    pub period_ms: u32,
    /// The transport.
    pub pci: VirtioPciProps,
}

impl Default for RngProps {
    /// QEMU's defaults: as good as no limit.
    fn default() -> Self {
        RngProps {
            max_bytes: i64::MAX as u64,
            period_ms: 1 << 16,
            pci: VirtioPciProps::default(),
        }
    }
}

/// Builds the function from a driver's properties.
///
/// # Errors
/// As [`with_props`], and for what the transport does not have.
pub fn build(props: &api_spec::VirtioRngPciProps, cx: &BuildCx) -> QmpResult<VirtioPci> {
    let pci = crate::virtio_pci_props!(props, cx)?;
    with_props(
        RngProps {
            max_bytes: props.max_bytes,
            period_ms: props.period,
            pci,
        },
        cx,
    )
}

/// Builds the function around `cx.entropy`, or the kernel's generator.
///
/// # Errors
/// For limits that make no sense, and when there are no interrupt routes left.
pub fn with_props(props: RngProps, cx: &BuildCx) -> QmpResult<VirtioPci> {
    if props.period_ms == 0 {
        return Err(QmpError::generic(
            "'period' parameter expects a positive integer",
        ));
    }
    if props.max_bytes == 0 || i64::try_from(props.max_bytes).is_err() {
        let desc = "'max-bytes' parameter must be positive, and less than 2^63";
        return Err(QmpError::generic(desc));
    }
    let period = Period::new(&cx.clock, &*cx.timers)
        .map_err(|error| QmpError::generic(error.to_string()))?;
    let device = Rng {
        entropy: cx
            .entropy
            .clone()
            .unwrap_or_else(|| Arc::new(BuiltinEntropy)),
        quota: Arc::new(Mutex::new(Quota {
            max_bytes: props.max_bytes,
            period_ns: u64::from(props.period_ms).saturating_mul(1_000_000),
            left: props.max_bytes,
            period,
            failed: false,
        })),
    };
    VirtioPci::new(Box::new(device), props.pci, cx)
        .map_err(|error| QmpError::generic(error.to_string()))
}

struct Rng {
    entropy: Arc<dyn Entropy>,
    /// The worker's, while there is one.
    quota: Arc<Mutex<Quota>>,
}

/// Tells the worker that a period of the guest's time is over.
struct PeriodEnd(EventFd);

impl TimerTarget for PeriodEnd {
    fn expired(&self) {
        // Fails only when it was signalled ever so often and not looked at.
        let _ = self.0.write(1);
    }
}

/// What is left of a period's bytes. It outlives the workers, or a driver would have more than
/// its share by resets.
struct Quota {
    max_bytes: u64,
    period_ns: u64,
    /// Bytes left in this period.
    left: u64,
    period: Period,
    /// A failure of the source was logged; a guest cannot fill the log with others.
    failed: bool,
}

impl Quota {
    /// A period begins with the first request in it.
    fn begin(&mut self) {
        if self.max_bytes < i64::MAX as u64 {
            self.period.start(self.period_ns);
        }
    }

    fn period_over(&mut self) {
        self.period.over();
        self.left = self.max_bytes;
    }
}

/// The period, on the guest's clock.
struct Period {
    clock: Arc<dyn Clock>,
    timer: Box<dyn Timer>,
    end: Arc<PeriodEnd>,
    running: bool,
}

impl Period {
    fn new(clock: &Arc<dyn Clock>, timers: &dyn Timers) -> io::Result<Self> {
        let end = Arc::new(PeriodEnd(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?));
        Ok(Period {
            clock: clock.clone(),
            timer: timers.timer(end.clone()),
            end,
            running: false,
        })
    }

    fn start(&mut self, length_ns: u64) {
        if !std::mem::replace(&mut self.running, true) {
            let now = self.clock.now_ns();
            self.timer.arm(now.saturating_add(length_ns));
        }
    }

    fn over(&mut self) {
        let _ = self.end.0.read();
        self.running = false;
    }
}

impl VirtioDevice for Rng {
    fn traits(&self) -> VirtioTraits {
        VirtioTraits {
            device_type: DEVICE_TYPE,
            features: 0,
            queue_sizes: vec![QUEUE_SIZE],
            vectors: 2,
            class: CLASS,
            config_len: 0,
        }
    }

    fn config_read(&self, _offset: usize, _data: &mut [u8]) {}

    fn start(&mut self, active: ActiveQueues) -> io::Result<Vec<PlacedWorker>> {
        let ActiveQueues {
            queues,
            ram,
            device,
            features: _,
            writers: _,
        } = active;
        let worker = |queue| {
            let worker = Box::new(RngWorker {
                queue: Virtqueue::new(queue, &ram, &device),
                chain: Chain::new(),
                entropy: self.entropy.clone(),
                quota: self.quota.clone(),
                retrying: false,
                source_watched: false,
                quiet: false,
            });
            Ok(PlacedWorker { thread: 0, worker })
        };
        queues.into_iter().map(worker).collect()
    }

    fn stopped(&mut self, _states: &[QueueState]) {}

    fn reset(&mut self) {}
}

struct RngWorker {
    queue: Virtqueue,
    chain: Chain,
    entropy: Arc<dyn Entropy>,
    /// A leaf; nobody else takes it while the worker runs.
    quota: Arc<Mutex<Quota>>,
    /// A dry source that cannot be watched is asked again after a while.
    retrying: bool,
    source_watched: bool,
    quiet: bool,
}

/// How a chain was served.
enum Served {
    /// Given back.
    Done,
    /// The source is dry; the chain was put back.
    Dry,
}

impl RngWorker {
    fn serve(&mut self, watch: &mut dyn Watch) {
        let memory = self.queue.memory();
        let quota = self.quota.clone();
        let mut quota = lock(&quota);
        let mut budget = self.queue.size().saturating_mul(2);
        while !self.quiet && quota.left > 0 {
            let Some(rest) = budget.checked_sub(1) else {
                // A driver that keeps pace must not hold up the thread for ever.
                self.queue.kick_self();
                break;
            };
            budget = rest;
            if !self.queue.pop(&memory, &mut self.chain) {
                break;
            }
            quota.begin();
            match self.fill_chain(&memory, &mut quota.left) {
                Ok(Served::Done) => {}
                Ok(Served::Dry) => {
                    self.queue.unpop();
                    self.wait_for_source(watch);
                    break;
                }
                Err(error) => {
                    // Served without bytes, so that the driver sees that there are none.
                    if !std::mem::replace(&mut quota.failed, true) {
                        log::warn!("Entropy source failed: {error}");
                    }
                    self.queue.complete(&memory, self.chain.head(), 0);
                }
            }
        }
        self.queue.notify(&memory);
    }

    fn fill_chain(&mut self, memory: &GuestRam, left: &mut u64) -> io::Result<Served> {
        let room = usize::try_from(self.chain.writable.len().min(*left)).unwrap_or(CHUNK);
        let room = room.min(MOST_PER_REQUEST);
        let mut buffer = [0; CHUNK];
        let mut done = 0usize;
        while done < room {
            let len = CHUNK.min(room.saturating_sub(done));
            let part = buffer.get_mut(..len).unwrap_or(&mut []);
            let got = match self.entropy.fill(part) {
                Err(error) if done == 0 => return Err(error),
                Err(_) | Ok(0) => break,
                Ok(got) => got.min(len),
            };
            let bytes = buffer.get(..got).unwrap_or(&[]);
            self.chain.writable.write(memory, done as u64, bytes);
            done = done.saturating_add(got);
        }
        if done == 0 && room > 0 {
            return Ok(Served::Dry);
        }
        *left = left.saturating_sub(done as u64);
        let written = u32::try_from(done).unwrap_or(u32::MAX);
        self.queue.complete(memory, self.chain.head(), written);
        Ok(Served::Done)
    }

    fn period_fd(&self) -> RawFd {
        lock(&self.quota).period.end.0.as_raw_fd()
    }

    fn wait_for_source(&mut self, watch: &mut dyn Watch) {
        if self.source_watched {
            return;
        }
        let watched = self.entropy.event_fd().map(|fd| watch.readable(fd, SOURCE));
        self.source_watched = matches!(watched, Some(Ok(())));
        if !self.source_watched && !std::mem::replace(&mut self.retrying, true) {
            watch.timeout(Some(RETRY_NS));
        }
    }

    fn leave_source(&mut self, watch: &mut dyn Watch) {
        if std::mem::take(&mut self.source_watched)
            && let Some(fd) = self.entropy.event_fd()
        {
            watch.remove(fd);
        }
    }
}

impl QueueWorker for RngWorker {
    fn register(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
        watch
            .readable(self.queue.kick_fd(), KICK)
            .and_then(|()| watch.readable(self.period_fd(), PERIOD))
            .inspect_err(|error| {
                self.queue
                    .break_down(&format!("cannot be watched: {error}"))
            })?;
        self.serve(watch);
        Ok(())
    }

    fn on_event(&mut self, token: WatchToken, watch: &mut dyn Watch) {
        match token {
            SOURCE => self.leave_source(watch),
            PERIOD => lock(&self.quota).period_over(),
            _ => self.queue.take_kick(),
        }
        self.serve(watch);
    }

    fn on_timeout(&mut self, watch: &mut dyn Watch) {
        self.retrying = false;
        self.serve(watch);
    }

    fn quiesce(&mut self, watch: &mut dyn Watch) {
        if !std::mem::replace(&mut self.quiet, true) {
            watch.remove(self.queue.kick_fd());
            watch.remove(self.period_fd());
            self.leave_source(watch);
            watch.timeout(None);
        }
    }

    fn drained(&self) -> bool {
        true
    }

    fn into_state(self: Box<Self>) -> Vec<QueueState> {
        vec![self.queue.state()]
    }
}
