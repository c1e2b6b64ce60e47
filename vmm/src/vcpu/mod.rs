//! vCPUs: one thread each, that runs the guest and carries its accesses to the devices.
//!
//! ```text
//!            resume                 access with an effect
//!  Parked ----------> Running --------------------------> WithControl
//!    ^                 |   ^                                   |
//!    +-----------------+   +-----------------------------------+
//!      pause asked for,           control carried it out
//!      or the guest cannot go on
//! ```
//! Whoever asks for a pause is told by mail when a vCPU parked. A vCPU that is with control
//! counts as running for a pause, and as stopped for whoever looks at its registers.

mod describe;
pub mod run;
mod saved;
pub mod state;
mod throttle;
pub mod view;

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use devices::effect::{Effect, PowerEffect};
use devices::map::Space;
use kvm_bindings::{CpuId, kvm_msi};
use kvm_ioctls::{VcpuFd, VmFd};

use crate::accel::kvm::KvmAccel;
use crate::accel::{AccelError, SharedMap};
use crate::event::{MachineEvent, MailSender};
use crate::sys;
use crate::threads::{self, ThreadKind};
use run::{Exit, RunLoop, RunPage};
use saved::{Abilities, SharedCpuid};
use state::PowerOn;
use throttle::Throttle;
use view::CpuView;

pub use state::Entry;

/// The longest that a vCPU may take to come out of the guest: the length of one device access.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Park,
    Run,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Parked,
    Running,
    WithControl,
    Ended,
}

struct Turn {
    want: Want,
    phase: Phase,
    /// Whether control is to be told of the next parking.
    tell: bool,
    /// For how long it is to stay out of the guest, once: see [`throttle`].
    rest: Option<Duration>,
}

/// What a vCPU's thread and control share.
struct Vcpu {
    index: u32,
    apic_id: u32,
    /// Held for a few instructions, never while the guest runs. Leaf.
    turn: Mutex<Turn>,
    changed: Condvar,
    tid: AtomicI32,
    page: RunPage,
    power_on: PowerOn,
    /// What CPUID tells the guest.
    cpuid: SharedCpuid,
    /// Behind the page, which must go first.
    fd: VcpuFd,
}

impl Vcpu {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what is wanted and gets the vCPU out of the guest.
    fn ask(&self, want: Want, tell: bool) {
        let mut turn = self.turn();
        turn.want = want;
        turn.tell = tell;
        // Also while it is with control: it must not enter the guest again. Taken back, under
        // this lock, when it starts to run.
        self.page.set_immediate_exit(want != Want::Run);
        if want != Want::Run && turn.phase == Phase::Running {
            run::kick(self.tid.load(Ordering::Acquire));
        }
        self.changed.notify_all();
    }

    fn wait_while(&self, condition: impl Fn(&Turn) -> bool) -> bool {
        let turn = self.turn();
        let waited = self
            .changed
            .wait_timeout_while(turn, PATIENCE, |turn| condition(turn));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn enter(&self, phase: Phase) {
        self.turn().phase = phase;
        self.changed.notify_all();
    }
}

/// All vCPUs of a machine; owned by control.
pub struct Vcpus {
    vm: Option<Arc<VmFd>>,
    list: Vec<(Arc<Vcpu>, JoinHandle<Option<()>>)>,
    /// vCPUs that exist and never run (qtest).
    idle: usize,
    /// How they are saved; `None` where they never run.
    abilities: Option<Abilities>,
    /// Holds them back.
    throttle: Throttle,
}

/// What a vCPU is made of.
pub struct VcpuConfig {
    /// Its APIC id.
    pub apic_id: u32,
    /// What CPUID tells it.
    pub cpuid: CpuId,
}

impl Vcpus {
    /// vCPUs that are shown and never run.
    pub fn idle(count: u32) -> Self {
        let idle = usize::try_from(count).unwrap_or(0);
        Vcpus {
            vm: None,
            list: Vec::new(),
            idle,
            abilities: None,
            throttle: Throttle::default(),
        }
    }

    /// Makes vCPUs and their threads, parked. The first is the boot processor.
    ///
    /// # Errors
    /// When the host has no more of either.
    pub fn start(
        accel: &KvmAccel,
        configs: Vec<VcpuConfig>,
        map: &Arc<SharedMap>,
        mail: &MailSender,
    ) -> Result<Self, AccelError> {
        run::install_kick_handler().map_err(AccelError::failed("sigaction"))?;
        let failed = AccelError::failed::<kvm_ioctls::Error>;
        let page_len = accel.vm().run_size();
        let mut vcpus = Vcpus {
            vm: Some(accel.vm().clone()),
            list: Vec::new(),
            idle: 0,
            abilities: Some(
                Abilities::new(accel.kvm(), accel.vm())
                    .map_err(failed("KVM_GET_MSR_INDEX_LIST"))?,
            ),
            throttle: Throttle::default(),
        };
        for (index, config) in (0u32..).zip(configs) {
            let fd = accel.create_vcpu(config.apic_id)?;
            state::set_cpuid(&fd, &config.cpuid).map_err(failed("KVM_SET_CPUID2"))?;
            let vcpu = Arc::new(Vcpu {
                index,
                apic_id: config.apic_id,
                turn: Mutex::new(Turn {
                    want: Want::Park,
                    phase: Phase::Parked,
                    tell: false,
                    rest: None,
                }),
                changed: Condvar::new(),
                tid: AtomicI32::new(0),
                page: RunPage::new(&fd, page_len).map_err(AccelError::failed("mmap"))?,
                power_on: PowerOn::capture(&fd).map_err(failed("KVM_GET_SREGS"))?,
                cpuid: SharedCpuid::new(config.cpuid),
                fd,
            });
            let (own, map, mail2) = (vcpu.clone(), map.clone(), mail.clone());
            let name = format!("CPU {index}/KVM");
            let body = move || {
                Runner {
                    vcpu: &own,
                    map: &map,
                    mail: &mail2,
                }
                .serve()
            };
            let thread = threads::spawn(ThreadKind::Vcpu, &name, Some(mail.clone()), body)
                .map_err(AccelError::failed("clone"))?;
            vcpus.list.push((vcpu, thread));
        }
        Ok(vcpus)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len().max(self.idle)
    }

    /// The threads' numbers in the host, in order of index. vCPUs that never run show the
    /// process's.
    pub fn thread_ids(&self) -> Vec<i32> {
        if self.list.is_empty() {
            let own = i32::try_from(std::process::id()).unwrap_or(0);
            return vec![own; self.idle];
        }
        let tid = |vcpu: &Vcpu| {
            // The thread may not have got that far yet.
            vcpu.wait_while(|_| vcpu.tid.load(Ordering::Acquire) == 0);
            vcpu.tid.load(Ordering::Acquire)
        };
        self.list.iter().map(|(vcpu, _)| tid(vcpu)).collect()
    }

    /// Sets where the guest starts; for vCPUs that were never run.
    ///
    /// # Errors
    /// When the kernel refuses the registers.
    pub fn set_entry(&self, entry: Entry) -> Result<(), AccelError> {
        match self.list.first() {
            Some((vcpu, _)) => {
                let done = vcpu.power_on.start(&vcpu.fd, Some(entry));
                done.map_err(AccelError::failed("KVM_SET_SREGS"))
            }
            None => Ok(()),
        }
    }

    /// Registers, local APICs and run states as after power-on. All vCPUs are parked.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn reset(&self, entry: Entry) -> Result<(), AccelError> {
        for (vcpu, _) in &self.list {
            let first = vcpu.index == 0;
            let done = vcpu.power_on.reset(&vcpu.fd, first, first.then_some(entry));
            done.map_err(AccelError::failed("KVM_SET_SREGS"))?;
        }
        Ok(())
    }

    /// Asks all to park; whether all are parked already. Each one that was not tells control by
    /// [`MachineEvent::VcpuParked`].
    pub fn request_pause(&self) -> bool {
        for (vcpu, _) in &self.list {
            let parked = matches!(vcpu.turn().phase, Phase::Parked | Phase::Ended);
            vcpu.ask(Want::Park, !parked);
        }
        self.all_parked()
    }

    /// Whether all are parked, and nobody has asked them to run.
    pub fn all_parked(&self) -> bool {
        self.list.iter().all(|(vcpu, _)| {
            let turn = vcpu.turn();
            turn.want != Want::Run && matches!(turn.phase, Phase::Parked | Phase::Ended)
        })
    }

    /// Lets all run.
    pub fn resume(&self) {
        for (vcpu, _) in &self.list {
            vcpu.ask(Want::Run, false);
        }
    }

    /// Sends an NMI to every vCPU.
    ///
    /// # Errors
    /// When no vCPU takes one.
    pub fn inject_nmi(&self) -> Result<(), String> {
        let Some(vm) = &self.vm else {
            // Nobody runs who could take one.
            return Ok(());
        };
        for (vcpu, _) in &self.list {
            // A message with delivery mode NMI (Intel SDM 3A, section 11.11): unlike KVM_NMI it
            // does not wait until the vCPU leaves the guest.
            let message = kvm_msi {
                address_lo: 0xfee0_0000 | (vcpu.apic_id & 0xff) << 12,
                data: 0x400,
                ..Default::default()
            };
            vm.signal_msi(message)
                .map_err(|error| format!("Cannot inject an NMI: {error}"))?;
        }
        Ok(())
    }

    /// One vCPU as it is. Takes it out of the guest for a moment.
    ///
    /// # Errors
    /// When it is not there or does not come out.
    pub fn view(&self, index: usize) -> Result<CpuView, String> {
        if index < self.idle {
            return Ok(CpuView::power_on(index == 0));
        }
        let (vcpu, _) = self.list.get(index).ok_or("No CPU available")?;
        let before = vcpu.turn().want;
        if before == Want::Run {
            vcpu.ask(Want::Park, false);
        }
        let out = vcpu.wait_while(|turn| turn.phase == Phase::Running);
        let view = match out {
            true => CpuView::take(&vcpu.fd).map_err(|error| error.to_string()),
            false => Err(format!("CPU #{index} is busy")),
        };
        if before == Want::Run {
            vcpu.ask(Want::Run, false);
        }
        view
    }

    /// Ends all threads. One that waits for control is left behind: it runs no guest any more.
    pub fn stop(&mut self) {
        self.throttle(0);
        for (vcpu, _) in &self.list {
            vcpu.ask(Want::End, false);
        }
        for (vcpu, thread) in self.list.drain(..) {
            vcpu.wait_while(|turn| !matches!(turn.phase, Phase::Ended | Phase::WithControl));
            let ended = vcpu.turn().phase == Phase::Ended;
            if ended {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Vcpus {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread of one vCPU.
struct Runner<'a> {
    vcpu: &'a Vcpu,
    map: &'a SharedMap,
    mail: &'a MailSender,
}

/// Why the guest is not run for the moment.
enum Pause {
    Asked,
    Failed(String),
}

impl Runner<'_> {
    fn serve(&self) {
        let vcpu = self.vcpu;
        {
            let _turn = vcpu.turn();
            vcpu.tid.store(sys::thread_id(), Ordering::Release);
        }
        vcpu.changed.notify_all();
        let mut run = RunLoop::new(&vcpu.page);
        while self.wait_for_turn() {
            // The guest was stopped, here or where it came from, and did not see it (kvm-clock's
            // soft-lockup hint); fails where it has no kvm-clock.
            let _ = vcpu.fd.kvmclock_ctrl();
            if let Pause::Failed(reason) = self.run_guest(&mut run) {
                vcpu.turn().want = Want::Park;
                self.mail.event(MachineEvent::VcpuFailed {
                    index: vcpu.index,
                    reason,
                });
            }
        }
        vcpu.enter(Phase::Ended);
    }

    /// Parks until there is something to do; false at the end.
    fn wait_for_turn(&self) -> bool {
        let vcpu = self.vcpu;
        let mut turn = vcpu.turn();
        turn.phase = Phase::Parked;
        vcpu.changed.notify_all();
        if std::mem::take(&mut turn.tell) {
            self.mail
                .event(MachineEvent::VcpuParked { index: vcpu.index });
        }
        let waited = vcpu
            .changed
            .wait_while(turn, |turn| turn.want == Want::Park);
        let mut turn = waited.unwrap_or_else(PoisonError::into_inner);
        turn.rest = None;
        vcpu.page.set_immediate_exit(false);
        if turn.want == Want::End {
            return false;
        }
        turn.phase = Phase::Running;
        true
    }

    /// Runs the guest until a pause is asked for. A pause is noticed only as an interrupted
    /// KVM_RUN: that way the kernel has completed the last access before we park.
    fn run_guest(&self, run: &mut RunLoop) -> Pause {
        loop {
            let exit = run.run();
            trace::point!(KVM_RUN_EXIT, reason = exit.reason());
            match exit {
                Exit::PortWrite { port, size, data } => {
                    for part in data.chunks(size) {
                        self.write(Space::Port, u64::from(port), part);
                    }
                }
                Exit::PortRead { port, size, data } => {
                    for part in data.chunks_mut(size) {
                        self.map.load().read(Space::Port, u64::from(port), part);
                    }
                }
                Exit::MemoryWrite { addr, data } => self.write(Space::Memory, addr, data),
                Exit::MemoryRead { addr, data } => self.map.load().read(Space::Memory, addr, data),
                Exit::Interrupted => {
                    let turn = self.vcpu.rest(self.vcpu.turn());
                    if turn.want != Want::Run {
                        return Pause::Asked;
                    }
                    self.vcpu.page.set_immediate_exit(false);
                }
                Exit::Nothing => {}
                Exit::Shutdown => self.carry_out(Effect::Power(PowerEffect::Reset), "".into()),
                Exit::Failed(reason) => return Pause::Failed(reason),
            }
        }
    }

    fn write(&self, space: Space, addr: u64, data: &[u8]) {
        // Nobody keeps the map while control makes another: what is not in that is free then.
        let all = self.map.load().write(space, addr, data);
        for raised in all {
            self.carry_out(raised.effect, raised.source.id);
        }
    }

    /// Has control do what a device asked for, and waits for it: the guest must see the finished
    /// state when its instruction completes.
    #[cold]
    fn carry_out(&self, effect: Effect, device: Arc<str>) {
        if matches!(effect, Effect::Notice(_)) {
            self.mail.event(MachineEvent::Effect {
                device,
                effect,
                done: None,
            });
            return;
        }
        self.vcpu.enter(Phase::WithControl);
        self.mail.effect_and_wait(device, effect);
        self.vcpu.enter(Phase::Running);
    }
}

#[cfg(test)]
#[path = "vcpu_test.rs"]
pub(crate) mod tests;
