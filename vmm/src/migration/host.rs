//! What a migration asks of the program around it. Both sides run on a thread of their own
//! (`ThreadKind::Migration`), own their channels and RAM views, and talk to control by these two
//! traits only: an implementation sends mail and waits for its answer.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use api_spec::RunState;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmstate::Section;

use crate::machine::saved::MachineConfig;

/// Why a migration did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// Somebody wanted it so.
    Cancelled,
    /// With the reason, for people.
    Failed(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Broken::Cancelled => f.write_str("The migration was cancelled"),
            Broken::Failed(reason) => f.write_str(reason),
        }
    }
}

/// How a source ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEnd {
    /// The machine is elsewhere now, or in the file.
    Completed,
    /// It is still here and may go on.
    Here(Broken),
    /// The link broke after the last word that lets the other side run: it is not known which of
    /// both has the machine, so it must not go on here by itself.
    Unknown(Broken),
}

/// A machine that stands still, by value.
pub struct Stopped {
    /// What it was doing.
    pub state: RunState,
    /// Every device's state.
    pub sections: Vec<Section>,
}

/// What the source asks of control.
pub trait SourceHost: Send {
    /// The machine and what it is made of.
    fn config(&self) -> MachineConfig;
    /// A pass over RAM begins; the first is 1.
    fn pass(&mut self, number: u64);
    /// Holds the processors back by so many percent of their time; 0 ends it.
    fn throttle(&mut self, percent: u8);
    /// Parks processors, takes queues back, flushes disks, and gives every device's state. Waits
    /// for `migrate-continue` where a client asked for that. The log of written pages is complete
    /// when it returns.
    ///
    /// # Errors
    /// When it was cancelled meanwhile, or a device cannot be saved. The machine is held then;
    /// how it goes on is decided when the source has ended.
    fn stop(&mut self) -> Result<Stopped, Broken>;
    /// The other side has all: lets go of the disks and their locks.
    ///
    /// # Errors
    /// When what was written cannot be made durable, or it was cancelled. The machine is here.
    fn hand_over(&mut self) -> Result<(), Broken>;
    /// The other side refused after all: takes the disks again.
    ///
    /// # Errors
    /// When somebody else has them now.
    fn take_back(&mut self) -> Result<(), Broken>;
}

/// What the target asks of control.
pub trait TargetHost: Send {
    /// Refuses a machine that is not like this one.
    ///
    /// # Errors
    /// What differs.
    fn check(&mut self, config: &MachineConfig) -> Result<(), String>;
    /// Puts every device's state in; RAM is complete. Disks are not touched.
    ///
    /// # Errors
    /// By section and field. The machine is of no use afterwards.
    fn load(&mut self, stopped: Stopped) -> Result<(), String>;
    /// The other side let go of the machine: takes the disks, unless that is to wait for `cont`
    /// (late-block-activate), and goes on with what the machine was doing.
    ///
    /// # Errors
    /// When another program has them. Nothing runs then.
    fn activate(&mut self) -> Result<(), String>;
}

/// How a machine travels; fixed when it begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SendOptions {
    /// multifd: so many channels beside the first.
    pub multifd: Option<u8>,
    /// multifd-compression=zstd, with its level.
    pub zstd: Option<i32>,
    /// mapped-ram: into a file in which each page has its place.
    pub mapped_ram: bool,
    /// x-ignore-shared: memory that both sides map is left out.
    pub ignore_shared: bool,
    /// auto-converge.
    pub auto_converge: bool,
    /// zero-page-detection=none: nobody looks for pages of zeroes. Those that were never touched
    /// are known without.
    pub zeroes_unseen: bool,
    /// Writes to files bypass the page cache (direct-io).
    pub direct_io: bool,
}

/// What may be changed while it goes on. Relaxed loads and stores.
#[derive(Debug, Default)]
pub struct Tunables {
    /// Bytes in a second; 0 is no limit.
    pub max_bandwidth: AtomicU64,
    /// Milliseconds.
    pub downtime_limit: AtomicU64,
    /// Percent of a pass (throttle-trigger-threshold).
    pub throttle_trigger: AtomicU64,
    /// Percent (cpu-throttle-initial).
    pub throttle_initial: AtomicU64,
    /// Percent (cpu-throttle-increment).
    pub throttle_increment: AtomicU64,
    /// Percent (max-cpu-throttle).
    pub throttle_max: AtomicU64,
    /// cpu-throttle-tailslow: steps get smaller near the end.
    pub throttle_tailslow: AtomicBool,
    /// Bytes in a second once the machine stands still (avail-switchover-bandwidth); 0 is what was
    /// measured.
    pub switchover_bandwidth: AtomicU64,
}

/// What it has done so far; the source counts, query-migrate shows. All in bytes where nothing
/// else is said.
#[derive(Debug, Default)]
pub struct Counters {
    /// All RAM that is to travel.
    pub total: AtomicU64,
    /// Not sent yet.
    pub remaining: AtomicU64,
    /// On the wire, everything.
    pub transferred: AtomicU64,
    /// Pages that were all zeroes.
    pub zero_pages: AtomicU64,
    /// Pages that were sent whole.
    pub normal_pages: AtomicU64,
    /// Pages in a second that the guest wrote in the last pass.
    pub dirty_pages_rate: AtomicU64,
    /// Passes over RAM.
    pub passes: AtomicU64,
    /// By multifd channels.
    pub multifd_bytes: AtomicU64,
    /// Bits in a second, of the last while.
    pub bits_per_second: AtomicU64,
    /// Pages in a second.
    pub pages_per_second: AtomicU64,
    /// Milliseconds that the machine would stand still if it were stopped now.
    pub expected_downtime: AtomicU64,
    /// Microseconds before RAM began to travel.
    pub setup_us: AtomicU64,
    /// Percent by which processors are held back.
    pub throttle: AtomicU64,
}

impl Counters {
    /// Adds to one.
    pub fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }
}

/// A way for bytes: a socket (both directions), a pipe or a file.
#[derive(Debug)]
pub struct Channel {
    /// The descriptor; blocking or not does not matter.
    pub fd: OwnedFd,
    /// What it is.
    pub kind: ChannelKind,
}

/// What a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// Bytes go both ways, and the other side answers.
    Duplex,
    /// Bytes go one way: pipes.
    OneWay,
    /// A file, from this offset on; seekable.
    File {
        /// Where it begins.
        offset: u64,
    },
}

/// Makes or accepts one more channel of the same migration. May block until cancelled.
pub type MoreChannels = Box<dyn FnMut(&Cancel) -> io::Result<Channel> + Send>;

/// Says that it is to end. Clones share it. Whoever waits for bytes waits for its descriptor
/// too (`poll`): nothing about a migration blocks beyond it.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<EventFd>);

impl Cancel {
    /// Not cancelled.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Cancel(Arc::new(EventFd::new(EFD_NONBLOCK)?)))
    }

    /// Cancels, for good.
    pub fn cancel(&self) {
        // Full is as good as set.
        let _ = self.0.write(1);
    }

    /// Readable when it is cancelled; never read from it.
    pub fn event(&self) -> &EventFd {
        &self.0
    }
}
