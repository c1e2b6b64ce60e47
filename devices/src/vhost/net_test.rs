use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::fake::FakeParty;
use super::net::PairedParties;
use super::*;
use crate::backend::net::VhostBackend;
use crate::irq::NullInterrupt;
use crate::testing::FakeGuest;
use crate::virtio::{ActiveQueue, ActiveQueues, DeviceSignals};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestAddressSpace, GuestMemoryBackend};

struct Quiet;

impl DeviceSignals for Quiet {
    fn config_changed(&self) {}
    fn needs_reset(&self, why: &str) {
        panic!("{why}");
    }
}

fn queue(index: u16) -> ActiveQueue {
    let mut queue = Queue::new(256).unwrap();
    let at = 0x1_0000 + 0x4000 * u64::from(index);
    queue.try_set_desc_table_address(GuestAddress(at)).unwrap();
    queue
        .try_set_avail_ring_address(GuestAddress(at + 0x1000))
        .unwrap();
    queue
        .try_set_used_ring_address(GuestAddress(at + 0x2000))
        .unwrap();
    queue.set_next_avail(index);
    ActiveQueue {
        index,
        queue,
        kick: Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap()),
        interrupt: Arc::new(NullInterrupt),
        again: Vec::new(),
    }
}

fn queues(guest: &FakeGuest, indexes: &[u16]) -> ActiveQueues {
    ActiveQueues {
        features: 1 << 32 | 1 << 15,
        ram: guest.ram.clone(),
        queues: indexes.iter().map(|index| queue(*index)).collect(),
        device: Arc::new(Quiet),
        writers: Writers::default(),
    }
}

fn parties(count: usize) -> (Vec<Arc<FakeParty>>, PairedParties) {
    let fakes: Vec<Arc<FakeParty>> = (0..count).map(|_| Arc::default()).collect();
    let pairs = fakes.iter().map(|fake| fake.clone() as Arc<dyn Party>);
    let paired = PairedParties::new(pairs.collect(), 1 << 32);
    (fakes, paired)
}

#[test]
fn each_pair_has_its_own_party() {
    let guest = FakeGuest::new();
    let (fakes, paired) = parties(3);
    assert_eq!(paired.queue_pairs(), 3);
    // The driver uses two pairs.
    let workers = paired.start(queues(&guest, &[0, 1, 2, 3])).unwrap();
    let threads: Vec<usize> = workers.iter().map(|placed| placed.thread).collect();
    assert_eq!(threads, [0, 1]);
    for (pair, fake) in (0u16..).zip(&fakes[..2]) {
        let rx = fake.ring(0).unwrap();
        let tx = fake.ring(1).unwrap();
        assert_eq!((rx.index, tx.index), (2 * pair, 2 * pair + 1));
        // Not waiting for a kick that may have been before.
        assert_eq!(rx.kick.read().unwrap(), 1);
        assert_eq!(tx.kick.read().unwrap(), 1);
    }
    assert_eq!(fakes[2].features(), None);
    drop(workers);
    assert!(fakes.iter().all(|fake| fake.features().is_none()));
}

#[test]
fn when_one_refuses_none_runs() {
    let guest = FakeGuest::new();
    let (fakes, paired) = parties(2);
    fakes[1].refuse();
    assert!(paired.start(queues(&guest, &[0, 1, 2, 3])).is_err());
    assert!(fakes.iter().all(|fake| fake.features().is_none()));
    let beyond = paired.start(queues(&guest, &[4, 5])).err().unwrap();
    let text = "there is no back end for queue pair 2";
    assert_eq!(beyond.to_string(), text);
}

#[test]
fn features_that_vhost_has_no_say_in_stay() {
    let (_, paired) = parties(1);
    // Checksums are the tap's; merged buffers are not offered here.
    assert_eq!(paired.features() & 1, 1);
    assert_eq!(paired.features() & 1 << 15, 0);
    assert_eq!(paired.features() & 1 << 32, 1 << 32);
}

#[test]
fn requests_begun_before_are_not_forgotten() {
    let mut active = queue(0);
    active.again = vec![3];
    assert!(Ring::new(active, 0).is_err());
}

#[test]
fn a_descriptor_of_something_else_is_refused() {
    let tap = tempfile::tempfile().unwrap();
    let other: OwnedFd = tempfile::tempfile().unwrap().into();
    let options = NetOptions::default();
    let error = vhost_net(&[tap.as_fd()], vec![other], options)
        .err()
        .unwrap();
    let expected = "vhost_set_owner failed: Inappropriate ioctl for device";
    assert_eq!(error.to_string(), expected);
    assert!(vhost_net(&[tap.as_fd()], Vec::new(), options).is_err());
}

#[test]
fn parties_log_what_they_write_while_that_is_wanted() {
    let guest = FakeGuest::new();
    let (fakes, paired) = parties(2);
    let writers = Writers::default();
    let start = |indexes: &[u16]| {
        let queues = ActiveQueues {
            writers: writers.clone(),
            ..queues(&guest, indexes)
        };
        paired.start(queues).unwrap()
    };
    let log = DirtyLog {
        address: 0,
        len: 4096,
        file: Arc::new(tempfile::tempfile().unwrap()),
    };
    let first = start(&[0, 1]);
    assert_eq!(fakes[0].log(), None);
    writers.set_log(Some(log)).unwrap();
    assert_eq!((fakes[0].log(), fakes[1].log()), (Some(4096), None));
    // Who begins meanwhile begins with it.
    drop(first);
    let both = start(&[0, 1, 2, 3]);
    assert_eq!((fakes[0].log(), fakes[1].log()), (Some(4096), Some(4096)));
    drop(both);
    let second = start(&[2, 3]);
    writers.set_log(None).unwrap();
    assert_eq!((fakes[0].log(), fakes[1].log()), (Some(4096), None));
    drop(second);
    let blocked = paired.migration_blocker().unwrap();
    assert_eq!(
        blocked,
        "Migration disabled: vhost lacks VHOST_F_LOG_ALL feature."
    );
    let able = PairedParties::new(Vec::new(), 1 << 32 | 1 << 26);
    assert_eq!(able.migration_blocker(), None);
}

#[test]
fn buffers_that_are_not_logged_count_as_written_at_the_end() {
    use vm_memory::bitmap::Bitmap;
    let guest = FakeGuest::new();
    let marked = |address: u64| {
        let memory = guest.ram.memory();
        let region = memory.find_region(GuestAddress(address)).unwrap();
        (**region).bitmap().dirty_at(address as usize)
    };
    let descriptor = |table: u64, number: u64, address: u64, len: u32, flags: u16| {
        let at = table + 16 * number;
        guest.write(at, &address.to_le_bytes());
        guest.write(at + 8, &len.to_le_bytes());
        guest.write(at + 12, &flags.to_le_bytes());
    };
    let table = 0x1_0000;
    descriptor(table, 0, 0x8_0000, 0x1001, 2);
    descriptor(table, 1, 0x9_0000, 0x1000, 0);
    descriptor(table, 2, 0xa_0000, 32, 4);
    descriptor(0xa_0000, 0, 0xb_0000, 1, 0);
    descriptor(0xa_0000, 1, 0xc_0000, 1, 2);
    // What makes no sense is left alone.
    descriptor(table, 3, u64::MAX, u32::MAX, 2);
    descriptor(table, 4, u64::MAX - 8, u32::MAX, 4);
    for only_rings in [false, true] {
        let (fakes, paired) = parties(1);
        if only_rings {
            fakes[0].log_only_rings();
        }
        drop(paired.start(queues(&guest, &[0, 1])).unwrap());
        for written in [0x8_0000, 0x8_1000, 0xc_0000] {
            assert_eq!(marked(written), only_rings, "{written:#x}");
        }
        for read in [0x8_2000, 0x9_0000, 0xb_0000] {
            assert!(!marked(read), "{read:#x}");
        }
    }
}
