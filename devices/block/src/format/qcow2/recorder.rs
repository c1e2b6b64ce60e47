//! A disk in memory that remembers the order of writes and flushes, and can be looked at as it
//! would be after a crash at any of them.

use std::io;
use std::sync::{Arc, Mutex};

use crate::error::BlockError;
use crate::graph::Perms;
use crate::node::{BlockNode, Extent, ExtentKind, IoLane, NodeInfo};
use crate::{Buffers, Op, Waker};

/// What was done.
#[derive(Clone)]
pub(super) enum Event {
    Write(u64, Vec<u8>),
    Size(u64),
    Flush,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    events: Vec<Event>,
}

/// The disk.
#[derive(Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<State>>);

impl Recorder {
    pub fn new(mut bytes: Vec<u8>) -> Self {
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        let events = Vec::new();
        Recorder(Arc::new(Mutex::new(State { bytes, events })))
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }

    /// What was done since this was asked last.
    pub fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap().events)
    }
}

/// Does something to what a disk has.
fn play(bytes: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Write(offset, data) => {
            let start = *offset as usize;
            bytes[start..start + data.len()].copy_from_slice(data);
        }
        Event::Size(size) => bytes.resize(*size as usize, 0),
        Event::Flush => {}
    }
}

/// All that a disk may have after a crash: everything up to any moment, and without some of the
/// writes since the last flush before it, as `loses` says for the number of a write.
pub(super) fn crashes(
    before: &[u8],
    events: &[Event],
    mut loses: impl FnMut(usize) -> bool,
) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut whole = before.to_vec();
    for end in 0..=events.len() {
        if let Some(event) = end.checked_sub(1).and_then(|last| events.get(last)) {
            play(&mut whole, event);
        }
        all.push(whole.clone());
        let flush = events[..end]
            .iter()
            .rposition(|event| matches!(event, Event::Flush));
        let mut lossy = before.to_vec();
        for (number, event) in events[..end].iter().enumerate() {
            let durable = flush.is_some_and(|flush| number < flush);
            let lost = !durable && matches!(event, Event::Write(..)) && loses(number);
            if !lost {
                play(&mut lossy, event);
            }
        }
        all.push(lossy);
    }
    all
}

impl BlockNode for Recorder {
    fn info(&self) -> NodeInfo {
        NodeInfo {
            size: self.0.lock().unwrap().bytes.len() as u64,
            read_only: false,
            granule: 512,
        }
    }

    fn allocated(&self) -> Option<u64> {
        None
    }

    fn open_lane(&self, _depth: u32, _waker: &Waker) -> Result<Box<dyn IoLane>, BlockError> {
        Err(BlockError::Empty)
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        let size = self.info().size;
        if let Some((offset, len)) = op.range(buffers) {
            assert!(offset + len <= size, "{op:?} {buffers:?} of {size}");
            assert!((offset | len).is_multiple_of(512), "{op:?} {buffers:?}");
        }
        let mut state = self.0.lock().unwrap();
        let event = match op {
            Op::Read { offset } => {
                let range = offset as usize..(offset + buffers.len()) as usize;
                buffers.write_at(0, &state.bytes[range]);
                return Ok(());
            }
            Op::Write { offset, .. } => {
                let mut data = vec![0; buffers.len() as usize];
                buffers.read_at(0, &mut data);
                Event::Write(offset, data)
            }
            Op::WriteZeroes { offset, len, .. } => Event::Write(offset, vec![0; len as usize]),
            // What is there then is anything.
            Op::Discard { offset, len } => Event::Write(offset, vec![0xdd; len as usize]),
            Op::Flush => Event::Flush,
        };
        play(&mut state.bytes, &event);
        state.events.push(event);
        Ok(())
    }

    fn extent(&self, _offset: u64, len: u64) -> io::Result<Extent> {
        Ok(Extent {
            len,
            kind: ExtentKind::Data,
        })
    }

    fn resize(&self, size: u64) -> Result<(), BlockError> {
        let mut state = self.0.lock().unwrap();
        let event = Event::Size(size);
        play(&mut state.bytes, &event);
        state.events.push(event);
        Ok(())
    }

    fn set_perms(&self, _perms: Perms) -> Result<(), BlockError> {
        Ok(())
    }

    fn set_activity(&self, _: crate::node::Activity) -> Result<(), BlockError> {
        Ok(())
    }
}
