//! What the library calls: the guest's side of the wire, a clock, timers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};

use super::library::{Callbacks, TimerBody};
use crate::clock::GuestClock;
use crate::frames::Frames;

/// Everything that is behind the library's callbacks. Lives behind one pointer; each borrow ends
/// before the library is called.
pub struct Outside {
    pub frames: RefCell<Frames>,
    pub clock: RefCell<GuestClock>,
    timers: RefCell<BTreeMap<usize, Timer>>,
    next_timer: Cell<usize>,
}

#[derive(Clone, Copy)]
struct Timer {
    body: TimerBody,
    argument: *mut c_void,
    /// On the guest's clock, in milliseconds.
    due: Option<i64>,
}

impl Outside {
    pub fn new(frames: Frames) -> Self {
        Outside {
            frames: RefCell::new(frames),
            clock: RefCell::default(),
            timers: RefCell::default(),
            next_timer: Cell::new(1),
        }
    }

    fn now_ms(&self) -> i64 {
        self.clock.borrow_mut().now_ns() / 1_000_000
    }

    /// Milliseconds until the next timer.
    pub fn next_timer(&self) -> Option<u32> {
        let now = self.now_ms();
        let due = self
            .timers
            .borrow()
            .values()
            .filter_map(|timer| timer.due)
            .min()?;
        Some(u32::try_from(due.saturating_sub(now).max(0)).unwrap_or(u32::MAX))
    }

    /// Calls the timers that are due.
    pub fn run_timers(&self) {
        let now = self.now_ms();
        let due: Vec<usize> = {
            let timers = self.timers.borrow();
            let late = |timer: &Timer| timer.due.is_some_and(|due| due <= now);
            timers
                .iter()
                .filter(|(_, timer)| late(timer))
                .map(|(key, _)| *key)
                .collect()
        };
        for key in due {
            let timer = self.timers.borrow_mut().get_mut(&key).map(|timer| {
                timer.due = None;
                *timer
            });
            if let Some(Timer { body, argument, .. }) = timer {
                // SAFETY: the pair came from the library, which has not freed the timer.
                unsafe { body(argument) };
            }
        }
    }
}

/// For every stack; the library keeps the pointer.
pub static CALLBACKS: Callbacks = Callbacks {
    send_packet,
    guest_error,
    clock_get_ns,
    timer_new,
    timer_free,
    timer_mod,
    register_poll_fd: ignore_fd,
    unregister_poll_fd: ignore_fd,
    notify,
    later: [0; 8],
};

/// # Safety
/// `opaque` must be what [`super::Stack`] gave to the library.
unsafe fn outside<'a>(opaque: *mut c_void) -> &'a Outside {
    // SAFETY: the stack keeps its `Outside` in one place and only ever borrows it shared.
    unsafe { &*opaque.cast::<Outside>() }
}

unsafe extern "C" fn send_packet(bytes: *const c_void, len: usize, opaque: *mut c_void) -> isize {
    // SAFETY: the library hands over `len` bytes and our own pointer.
    let (outside, frame) = unsafe {
        (
            outside(opaque),
            std::slice::from_raw_parts(bytes.cast(), len),
        )
    };
    outside.frames.borrow_mut().send(frame);
    isize::try_from(len).unwrap_or(isize::MAX)
}

unsafe extern "C" fn guest_error(message: *const c_char, _opaque: *mut c_void) {
    // SAFETY: the library's text ends.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    crate::log_guest_error(text.trim_end());
}

unsafe extern "C" fn clock_get_ns(opaque: *mut c_void) -> i64 {
    // SAFETY: our own pointer.
    unsafe { outside(opaque) }.clock.borrow_mut().now_ns()
}

unsafe extern "C" fn timer_new(
    body: TimerBody,
    argument: *mut c_void,
    opaque: *mut c_void,
) -> *mut c_void {
    // SAFETY: our own pointer.
    let outside = unsafe { outside(opaque) };
    let key = outside.next_timer.get();
    outside.next_timer.set(key.wrapping_add(1));
    let timer = Timer {
        body,
        argument,
        due: None,
    };
    outside.timers.borrow_mut().insert(key, timer);
    // A name, never followed.
    std::ptr::without_provenance_mut(key)
}

unsafe extern "C" fn timer_free(timer: *mut c_void, opaque: *mut c_void) {
    // SAFETY: our own pointer.
    unsafe { outside(opaque) }
        .timers
        .borrow_mut()
        .remove(&timer.addr());
}

unsafe extern "C" fn timer_mod(timer: *mut c_void, due_ms: i64, opaque: *mut c_void) {
    // SAFETY: our own pointer.
    let outside = unsafe { outside(opaque) };
    if let Some(timer) = outside.timers.borrow_mut().get_mut(&timer.addr()) {
        timer.due = Some(due_ms);
    }
}

unsafe extern "C" fn ignore_fd(_fd: c_int, _opaque: *mut c_void) {}

/// The loop looks at everything again before it sleeps.
unsafe extern "C" fn notify(_opaque: *mut c_void) {}
