use super::*;
use crate::buffers::HostBuffer;
use crate::null::{NullNode, NullSpec};
use crate::pool::test_pool;
use crate::request::Durability;

fn node(inject: InjectError) -> BlkdebugNode {
    let policy = Policy::default();
    let null = NullNode::open(NullSpec::default(), policy, &test_pool(), Arc::default());
    let spec = BlkdebugSpec {
        inject: vec![inject],
        ..BlkdebugSpec::default()
    };
    let below = Edge::new(Some(Arc::new(null)));
    BlkdebugNode::open(below, spec, policy, Arc::default())
}

fn write() -> IoReq {
    let buffers = Buffers::owned(Arc::new(HostBuffer::new(4096, 512)));
    let durability = Durability::Cached;
    let offset = 0;
    IoReq::new(Op::Write { offset, durability }, buffers)
}

fn once(event: Event, errno: i32) -> InjectError {
    InjectError {
        event,
        state: 0,
        io_type: None,
        errno,
        sector: None,
        once: true,
        immediately: false,
    }
}

#[test]
fn a_lane_fails_late_unless_told_otherwise() {
    let waker = Waker::new().unwrap();
    let fault = once(Event::None, libc::ENOSPC);
    let debug = node(fault);
    let mut lane = debug.open_lane(4, &waker).unwrap();
    assert!(lane.submit(write(), Token(7)).is_none());
    assert_eq!(lane.in_flight(), 1);
    assert!(lane.submit(write(), Token(8)).is_some(), "only once");
    waker.wait();
    waker.clear();
    let mut done = Vec::new();
    lane.reap(&mut done);
    assert_eq!(done[0].token, Token(7));
    let code = done[0].result.as_ref().unwrap_err().raw_os_error();
    assert_eq!(code, Some(libc::ENOSPC));
    let immediately = true;
    let debug = node(InjectError {
        immediately,
        ..fault
    });
    let mut lane = debug.open_lane(4, &waker).unwrap();
    let done = lane.submit(write(), Token(7)).unwrap();
    assert!(done.result.is_err());
    assert_eq!(debug.screen.stats.counts(crate::Account::Write).failed, 1);
}

#[test]
fn events_from_above_and_of_its_own_count() {
    let debug = node(once(Event::L2AllocWrite, libc::EIO));
    let IoReq { op, buffers, .. } = write();
    debug.perform(op, &buffers).unwrap();
    debug.event(Event::L2AllocWrite);
    let error = debug.perform(op, &buffers).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    debug.perform(op, &buffers).unwrap();

    let debug = node(once(Event::FlushToDisk, libc::EIO));
    debug.perform(op, &buffers).unwrap();
    assert!(debug.perform(Op::Flush, &Buffers::new()).is_err());
    debug.perform(Op::Flush, &Buffers::new()).unwrap();
}

#[test]
fn questions_of_storage_fail_only_when_named() {
    let debug = node(once(Event::None, libc::EIO));
    assert!(debug.extent(0, 512).is_ok());
    let debug = node(InjectError {
        io_type: Some(IoType::BlockStatus),
        ..once(Event::None, libc::EIO)
    });
    assert!(debug.extent(0, 512).is_err());
}
