//! Small guests, written by hand, on this machine's KVM. Skipped where there is none.

use std::collections::VecDeque;
use std::time::Instant;

use devices::bus::{Access, BusDevice, SharedDevice};
use devices::map::MapBuilder;
use devices::registry::Region;

use super::*;
use crate::accel::AccelState;
use crate::event::{Mail, Mailbox};
use crate::memory::{Backend, BackendOptions, MachineRam};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};

type Writes = Arc<Mutex<Vec<(Space, u64, Vec<u8>)>>>;

/// Remembers what was written; port 0xf4 asks for something. Region 0 is ports 0x40 to 0xff,
/// region 1 is memory at 0xd0000000.
struct Recorder(Writes);

impl BusDevice for Recorder {
    fn read(&mut self, access: Access, data: &mut [u8]) {
        let base = if access.region == 0 { 0x40 } else { 0 };
        data.fill(u8::try_from((access.offset + base) & 0xff).unwrap());
    }
    fn write(&mut self, access: Access, data: &[u8]) -> Effect {
        let (space, base) = if access.region == 0 {
            (Space::Port, 0x40)
        } else {
            (Space::Memory, 0xd000_0000)
        };
        let addr = access.offset + base;
        self.0.lock().unwrap().push((space, addr, data.to_vec()));
        match addr {
            0xf4 => Effect::Power(PowerEffect::Exit(7)),
            _ => Effect::None,
        }
    }
    fn reset(&mut self) {}
}

fn recorder() -> (Arc<SharedMap>, Writes) {
    let writes = Writes::default();
    let device: SharedDevice = Arc::new(Mutex::new(Recorder(writes.clone())));
    let mut map = MapBuilder::new();
    let id: Arc<str> = "exit0".into();
    let ports = Region {
        region: 0,
        base: 0x40,
        len: 0xc0,
    };
    map.device(&id, Space::Port, ports, &device).unwrap();
    let memory = Region {
        region: 1,
        base: 0xd000_0000,
        len: 0x1000,
    };
    map.device(&id, Space::Memory, memory, &device).unwrap();
    (Arc::new(SharedMap::from_pointee(map.build())), writes)
}

pub struct Lab {
    pub vcpus: Vcpus,
    writes: Writes,
    mailbox: Mailbox,
    pub accel: KvmAccel,
    pub ram: MachineRam,
    pub block: crate::migration::ram::RamBlock,
}

pub const CODE: u64 = 0x8000;
pub const ENTRY: Entry = Entry::Protected {
    eip: 0x8000,
    ebx: 0x1234,
    esi: 0,
    gdt: 0x500,
};

/// A guest of one vCPU with this 32-bit code; `None` where there is no KVM.
pub fn lab(code: &[u8]) -> Option<Lab> {
    lab_with(code, |_| {})
}

/// The same, with a CPUID to be changed before it counts.
pub fn lab_with(code: &[u8], change: impl FnOnce(&mut CpuId)) -> Option<Lab> {
    let backend = Backend::new(BackendOptions::ram(4 << 20)).unwrap();
    let ram = MachineRam::new(crate::layout::Board::Q35, &backend).unwrap();
    let slots: Vec<_> = (0u32..).zip(ram.slots.iter().copied()).collect();
    let accel = match KvmAccel::new(&slots) {
        Ok(accel) => accel,
        Err(error) => {
            eprintln!("skipped: {error}");
            return None;
        }
    };
    ram.handle
        .memory()
        .write_slice(code, GuestAddress(CODE))
        .unwrap();
    let (map, writes) = recorder();
    let mailbox = Mailbox::new().unwrap();
    let mut cpuid = accel
        .kvm()
        .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
        .unwrap();
    // The kernel shows the processor that was asked.
    for leaf in cpuid.as_mut_slice() {
        match leaf.function {
            1 => leaf.ebx &= 0x00ff_ffff,
            0xb | 0x1f => leaf.edx = 0,
            0x8000_001e => leaf.eax = 0,
            _ => {}
        }
    }
    change(&mut cpuid);
    let configs = vec![VcpuConfig { apic_id: 0, cpuid }];
    let vcpus = Vcpus::start(&accel, configs, &map, &mailbox.sender()).unwrap();
    vcpus.set_entry(ENTRY).unwrap();
    Some(Lab {
        vcpus,
        writes,
        mailbox,
        accel,
        block: backend.block(),
        ram,
    })
}

impl Lab {
    /// Takes mail until `f` says enough.
    fn mail(&self, mut f: impl FnMut(MachineEvent) -> bool) {
        let start = Instant::now();
        let mut batch = VecDeque::new();
        while start.elapsed() < Duration::from_secs(10) {
            self.mailbox.take(&mut batch);
            for mail in batch.drain(..) {
                #[allow(irrefutable_let_patterns)] // more kinds of mail come
                if let Mail::Machine(event) = mail
                    && f(event)
                {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("no answer from the guest");
    }

    pub fn pause(&self) {
        if !self.vcpus.request_pause() {
            self.mail(|event| {
                matches!(event, MachineEvent::VcpuParked { .. }) && self.vcpus.all_parked()
            });
        }
    }
}

#[test]
fn accesses_reach_the_bus_and_effects_reach_control() {
    let Some(lab) = lab(&[
        0xb8, 0x41, 0, 0, 0, // mov eax, 'A'
        0xe6, 0x80, // out 0x80, al
        0xe4, 0x55, // in al, 0x55
        0xe7, 0x82, // out 0x82, eax
        0xa1, 0x34, 0, 0, 0xd0, // mov eax, [0xd0000034]
        0xa3, 0x78, 0, 0, 0xd0, // mov [0xd0000078], eax
        0x89, 0x1d, 0, 0x90, 0, 0, // mov [0x9000], ebx
        0xe6, 0xf4, // out 0xf4, al
        0xe6, 0x81, // out 0x81, al
        0xeb, 0xfe, // jmp self
    ]) else {
        return;
    };
    assert!(lab.vcpus.all_parked());
    assert!(lab.vcpus.thread_ids()[0] > 0);
    lab.vcpus.resume();
    lab.mail(|event| match event {
        MachineEvent::Effect {
            device,
            effect,
            done,
        } => {
            assert_eq!(effect, Effect::Power(PowerEffect::Exit(7)));
            assert_eq!(&*device, "exit0");
            let last = lab.writes.lock().unwrap().last().cloned().unwrap();
            assert_eq!(last.1, 0xf4, "the guest waits");
            drop(done);
            true
        }
        _ => false,
    });
    while lab.writes.lock().unwrap().len() < 5 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let text = lab.vcpus.view(0).unwrap().describe(true);
    assert!(text.contains("EBX=00001234"), "{text}");
    assert!(text.contains("CS =0010"), "{text}");
    lab.pause();
    let writes = lab.writes.lock().unwrap().clone();
    assert_eq!(writes[0], (Space::Port, 0x80, vec![0x41]));
    assert_eq!(writes[1], (Space::Port, 0x82, vec![0x55, 0, 0, 0]));
    assert_eq!(writes[2], (Space::Memory, 0xd000_0078, vec![0x34; 4]));
    assert_eq!(writes[4], (Space::Port, 0x81, vec![0x34]));
    let stored: u32 = lab
        .ram
        .handle
        .memory()
        .read_obj(GuestAddress(0x9000))
        .unwrap();
    assert_eq!(stored, 0x1234);
}

#[test]
fn pause_resume_and_reset() {
    // Counts in memory; says so once at the start.
    let Some(mut lab) = lab(&[
        0xe6, 0x80, // out 0x80, al
        0xff, 0x05, 0, 0x90, 0, 0, // inc dword [0x9000]
        0xeb, 0xf8, // jmp to the inc
    ]) else {
        return;
    };
    let count = || {
        lab.ram
            .handle
            .memory()
            .read_obj::<u32>(GuestAddress(0x9000))
            .unwrap()
    };
    let wait_for_progress = || {
        let before = count();
        while count() == before {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    assert!(lab.vcpus.request_pause(), "parked from the start");
    for round in 0..3 {
        lab.accel.clock_start();
        lab.vcpus.resume();
        wait_for_progress();
        assert!(!lab.vcpus.all_parked());
        lab.pause();
        lab.accel.clock_stop();
        let stopped = count();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(count(), stopped, "round {round}");
    }
    assert_eq!(lab.writes.lock().unwrap().len(), 1);
    lab.accel.reset().unwrap();
    lab.vcpus.reset(ENTRY).unwrap();
    assert_eq!(lab.vcpus.view(0).unwrap().regs.rip, 0x8000);
    lab.vcpus.resume();
    wait_for_progress();
    assert_eq!(lab.writes.lock().unwrap().len(), 2);
    lab.vcpus.stop();
    assert_eq!(lab.vcpus.count(), 0);
}

#[test]
fn a_triple_fault_is_a_reset() {
    let Some(lab) = lab(&[0x0f, 0x0b]) else {
        return;
    }; // ud2 without a table of handlers
    lab.vcpus.resume();
    lab.mail(|event| match event {
        MachineEvent::Effect { effect, .. } => {
            assert_eq!(effect, Effect::Power(PowerEffect::Reset));
            true
        }
        MachineEvent::VcpuFailed { reason, .. } => panic!("{reason}"),
        _ => false,
    });
}

#[test]
fn idle_vcpus_are_shown() {
    let vcpus = Vcpus::idle(3);
    assert_eq!(vcpus.count(), 3);
    assert_eq!(
        vcpus.thread_ids(),
        vec![i32::try_from(std::process::id()).unwrap(); 3]
    );
    assert!(vcpus.request_pause());
    vcpus.inject_nmi().unwrap();
    let text = vcpus.view(0).unwrap().describe(true);
    assert!(text.contains("EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\n"));
    assert!(text.contains("CS =f000 ffff0000 0000ffff 00009b00\n"));
    assert!(vcpus.view(1).unwrap().halted);
    assert!(vcpus.view(3).is_err());
}

#[test]
fn vcpus_are_held_back_and_park_at_once() {
    // Counts in memory.
    let Some(mut lab) = lab(&[
        0xff, 0x05, 0, 0x90, 0, 0, // inc dword [0x9000]
        0xeb, 0xf8, // jmp to the inc
    ]) else {
        return;
    };
    let progress = |lab: &Lab| {
        let memory = lab.ram.handle.memory();
        let read = || memory.read_obj::<u32>(GuestAddress(0x9000)).unwrap();
        let (before, start) = (read(), Instant::now());
        while read() == before {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    // Ticks of its processor's time, 10 ms each (proc_pid_stat(5)): others may be busy, too.
    let path = format!("/proc/self/task/{}/stat", lab.vcpus.thread_ids()[0]);
    let used = || {
        let text = std::fs::read_to_string(&path).unwrap();
        let fields = text.rsplit_once(')').unwrap().1.split_whitespace();
        let times = fields.skip(11).take(2);
        times
            .map(|ticks| ticks.parse::<u32>().unwrap())
            .sum::<u32>()
    };
    lab.vcpus.resume();
    progress(&lab);
    lab.vcpus.throttle(50);
    lab.vcpus.throttle(90);
    std::thread::sleep(Duration::from_millis(50));
    let before = used();
    std::thread::sleep(Duration::from_millis(1000));
    let held_back = used() - before;
    assert!(held_back < 35, "{held_back} ticks of 100");
    progress(&lab);
    // It rests for nearly a second at a time now.
    lab.vcpus.throttle(100);
    std::thread::sleep(Duration::from_millis(150));
    let start = Instant::now();
    lab.pause();
    assert!(start.elapsed() < Duration::from_millis(600));
    lab.vcpus.resume();
    assert!(lab.vcpus.view(0).is_ok());
    lab.vcpus.throttle(0);
    progress(&lab);
    lab.vcpus.throttle(99);
    let start = Instant::now();
    lab.vcpus.stop();
    assert!(start.elapsed() < Duration::from_secs(1));
}
