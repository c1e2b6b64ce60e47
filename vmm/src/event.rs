//! What reaches the control thread, and how it is woken.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::control::Control;
use api_spec::{Command, CommandContext, Responder};
use devices::bus::lock;
use devices::effect::Effect;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Everything that the control thread acts upon.
pub enum Mail {
    /// A client's command.
    Command {
        /// Who sent it, and what came along.
        cx: CommandContext,
        /// What is to be done.
        command: Box<Command>,
        /// Takes the answer.
        responder: Responder,
    },
    /// Something happened to the machine.
    Machine(MachineEvent),
    /// Slow work is done: what is to be done with its result, by control.
    Done(Finish),
}

/// Brings the result of slow work home.
pub type Finish = Box<dyn FnOnce(&mut Control) + Send>;

/// What happened to the machine.
pub enum MachineEvent {
    /// A device asks for something. The sender may wait on the other half of `done`.
    Effect {
        /// The device's id as in [`devices::cx::BuildCx::id`]; empty where it does not matter.
        device: Arc<str>,
        /// What it asks for.
        effect: Effect,
        /// Signalled once the effect was carried out.
        done: Option<Done>,
    },
    /// A vCPU reached its parking place.
    VcpuParked {
        /// Its index.
        index: u32,
    },
    /// A vCPU cannot go on: KVM_RUN failed or the guest is in a state KVM cannot run.
    VcpuFailed {
        /// Its index.
        index: u32,
        /// What happened, for the log.
        reason: String,
    },
    /// A thread of ours panicked.
    ThreadPanicked {
        /// Its name.
        name: String,
    },
}

/// The half that the control thread holds while another thread waits for an effect. Dropping it
/// releases the waiter, so that nobody waits for ever.
pub struct Done(Arc<Gate>);

/// The half that waits.
pub struct Waiter(Arc<Gate>);

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

/// A rendezvous: one thread waits until the other lets go.
pub fn rendezvous() -> (Done, Waiter) {
    let gate = Arc::new(Gate::default());
    (Done(gate.clone()), Waiter(gate))
}

impl Drop for Done {
    fn drop(&mut self) {
        *lock(&self.0.open) = true;
        self.0.opened.notify_all();
    }
}

impl Waiter {
    /// Blocks until the other half is gone. Sits between vCPU and control on the wait line.
    pub fn wait(self) {
        let mut open = lock(&self.0.open);
        while !*open {
            open = self
                .0
                .opened
                .wait(open)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The control thread's mailbox: a queue and an eventfd. Wake-ups are coalesced.
pub struct Mailbox {
    shared: Arc<Shared>,
}

/// Puts mail into the mailbox; any thread, never blocks for long.
#[derive(Clone)]
pub struct MailSender {
    shared: Arc<Shared>,
}

struct Shared {
    /// Protects the queue alone; held for one push or one swap. Leaf.
    queue: Mutex<VecDeque<Mail>>,
    /// Whether the owner was woken and has not looked yet.
    signalled: AtomicBool,
    event: EventFd,
}

impl Mailbox {
    /// An empty mailbox.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new() -> std::io::Result<Self> {
        let shared = Shared {
            queue: Mutex::new(VecDeque::new()),
            signalled: AtomicBool::new(false),
            event: EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?,
        };
        Ok(Mailbox {
            shared: Arc::new(shared),
        })
    }

    /// A sender into this mailbox.
    pub fn sender(&self) -> MailSender {
        MailSender {
            shared: self.shared.clone(),
        }
    }

    /// Moves everything that is waiting into `into`, which must be empty.
    ///
    /// The eventfd is never read: it is watched edge-triggered, so that each wake-up costs the
    /// owner nothing beyond the wait itself.
    pub fn take(&self, into: &mut VecDeque<Mail>) {
        self.shared.signalled.store(false, Ordering::SeqCst);
        std::mem::swap(&mut *lock(&self.shared.queue), into);
    }
}

impl AsRawFd for Mailbox {
    fn as_raw_fd(&self) -> RawFd {
        self.shared.event.as_raw_fd()
    }
}

impl MailSender {
    /// Puts `mail` at the end of the queue and wakes the owner.
    pub fn send(&self, mail: Mail) {
        lock(&self.shared.queue).push_back(mail);
        if !self.shared.signalled.swap(true, Ordering::SeqCst) {
            // Fails only when the counter is about to overflow, and then it is readable anyway.
            let _ = self.shared.event.write(1);
        }
    }

    /// Sends a machine event.
    pub fn event(&self, event: MachineEvent) {
        self.send(Mail::Machine(event));
    }

    /// Hands an effect over and waits until control has carried it out: for vCPUs, whose guest
    /// must see the finished state when its instruction completes.
    pub fn effect_and_wait(&self, device: Arc<str>, effect: Effect) {
        let (done, waiter) = rendezvous();
        self.event(MachineEvent::Effect {
            device,
            effect,
            done: Some(done),
        });
        waiter.wait();
    }
}

impl devices::cx::EffectSink for MailSender {
    fn raise(&self, id: &str, effect: Effect) {
        self.event(MachineEvent::Effect {
            device: id.into(),
            effect,
            done: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_arrives_in_order_and_wakes_once() {
        let mailbox = Mailbox::new().unwrap();
        let sender = mailbox.sender();
        for index in 0..3 {
            sender.event(MachineEvent::VcpuParked { index });
        }
        assert_eq!(mailbox.shared.event.read().unwrap(), 1);
        let mut mail = VecDeque::new();
        mailbox.take(&mut mail);
        let seen: Vec<u32> = mail
            .into_iter()
            .filter_map(|mail| match mail {
                Mail::Machine(MachineEvent::VcpuParked { index }) => Some(index),
                Mail::Machine(_) | Mail::Command { .. } | Mail::Done(_) => None,
            })
            .collect();
        assert_eq!(seen, [0, 1, 2]);
    }

    #[test]
    fn a_dropped_rendezvous_releases_the_waiter() {
        let (done, waiter) = rendezvous();
        let thread = std::thread::spawn(move || waiter.wait());
        drop(done);
        thread.join().unwrap();
    }
}
