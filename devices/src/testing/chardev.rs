//! A character device whose host side is the test.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::backend::chardev::{CharFrontend, CharPort, CharWaker};
use crate::bus::lock;

#[derive(Default)]
struct Inner {
    out: Vec<u8>,
    room: usize,
    input: VecDeque<u8>,
    open: bool,
    peers: u32,
    frontend_open: bool,
    gone: bool,
    broken: bool,
    waker: Option<Arc<dyn CharWaker>>,
}

/// The host side.
#[derive(Clone, Default)]
pub struct FakeChar(Arc<Mutex<Inner>>);

impl FakeChar {
    /// One with a peer, and room for any output.
    pub fn open() -> Self {
        let fake = FakeChar::default();
        let mut inner = lock(&fake.0);
        inner.open = true;
        inner.room = usize::MAX;
        drop(inner);
        fake
    }

    /// The device's half.
    pub fn frontend(&self) -> CharFrontend {
        Box::new(self.clone())
    }

    /// Lets the peer come or go.
    pub fn set_open(&self, open: bool) {
        let mut inner = lock(&self.0);
        inner.open = open;
        inner.peers += u32::from(open);
        drop(inner);
        self.wake();
    }

    /// Says how much output is taken from now on.
    pub fn set_room(&self, room: usize) {
        lock(&self.0).room = room;
        self.wake();
    }

    /// Sends to the device.
    pub fn send(&self, data: &[u8]) {
        lock(&self.0).input.extend(data);
        self.wake();
    }

    /// Holds the line for a moment.
    pub fn send_break(&self) {
        lock(&self.0).broken = true;
        self.wake();
    }

    /// Input that the device has not taken.
    pub fn unread(&self) -> usize {
        lock(&self.0).input.len()
    }

    /// What the device wrote since the last call.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut lock(&self.0).out)
    }

    /// Whether the guest's end is open.
    pub fn frontend_open(&self) -> bool {
        lock(&self.0).frontend_open
    }

    /// Whether the device let go of its half.
    pub fn is_released(&self) -> bool {
        lock(&self.0).gone
    }

    fn wake(&self) {
        let waker = lock(&self.0).waker.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl CharPort for FakeChar {
    fn write(&self, data: &[u8]) -> usize {
        let mut inner = lock(&self.0);
        let taken = data.len().min(inner.room);
        inner.room -= taken;
        if inner.room > usize::MAX / 2 {
            inner.room = usize::MAX;
        }
        inner.out.extend_from_slice(&data[..taken]);
        taken
    }

    fn read(&self, buffer: &mut [u8]) -> usize {
        let mut inner = lock(&self.0);
        let count = buffer.len().min(inner.input.len());
        for (to, from) in buffer.iter_mut().zip(inner.input.drain(..count)) {
            *to = from;
        }
        count
    }

    fn readable(&self) -> bool {
        !lock(&self.0).input.is_empty()
    }

    fn is_open(&self) -> bool {
        lock(&self.0).open
    }

    fn peers(&self) -> u32 {
        lock(&self.0).peers
    }

    fn take_break(&self) -> bool {
        std::mem::take(&mut lock(&self.0).broken)
    }

    fn set_waker(&self, waker: Option<Arc<dyn CharWaker>>) {
        let mut inner = lock(&self.0);
        inner.gone = waker.is_none();
        inner.waker = waker;
    }

    fn set_frontend_open(&self, open: bool) {
        lock(&self.0).frontend_open = open;
    }
}
