//! Interrupt links: where the interrupt pins of PCI functions lead (Intel ICH9, sections 5.8 and
//! 5.9; Intel PIIX3, section 3.5).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::bus::lock;
use crate::irq::{IrqLine, IrqProvider};

/// Links A to H.
pub const LINKS: usize = 8;
/// The I/O APIC's input of link A; the others follow.
const FIRST_GSI: u8 = 16;
/// Inputs of the two old interrupt controllers.
const ISA: usize = 16;
/// Those that a link can be routed to: not the timer, keyboard, cascade, clock and coprocessor.
const ROUTABLE: u16 = 0xdef8;

/// Takes pins to links, and each link to two places at once, as the ICH9 does: to its own
/// input of the I/O APIC, and to the old interrupt that the guest chose for it, if any. Which of
/// the two is heard depends on the controllers that the guest set up. The PIIX3 has no inputs of
/// its own: the old interrupt is all there is, at the I/O APIC as well.
pub struct InterruptRouter {
    /// Empty where links have none.
    apic: Vec<Arc<dyn IrqLine>>,
    isa: [Arc<dyn IrqLine>; ISA],
    /// Held while lines are driven, so that changes arrive in order; nothing of a device is
    /// called with it.
    links: Mutex<[Link; LINKS]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Link {
    /// How many pins raise it.
    raised: u32,
    /// The old interrupt it is routed to.
    irq: Option<u8>,
}

impl InterruptRouter {
    /// All links quiet and routed to the I/O APIC only.
    pub fn new(irqs: &dyn IrqProvider) -> Arc<Self> {
        let inputs = FIRST_GSI..FIRST_GSI.saturating_add(LINKS as u8);
        Self::with_inputs(irqs, inputs.map(|gsi| irqs.gsi_line(gsi)).collect())
    }

    /// All links quiet and routed nowhere: there are only the old interrupts.
    pub fn old_only(irqs: &dyn IrqProvider) -> Arc<Self> {
        Self::with_inputs(irqs, Vec::new())
    }

    fn with_inputs(irqs: &dyn IrqProvider, apic: Vec<Arc<dyn IrqLine>>) -> Arc<Self> {
        Arc::new(InterruptRouter {
            apic,
            isa: std::array::from_fn(|irq| irqs.isa_line(irq as u8)),
            links: Mutex::default(),
        })
    }

    /// A new pin on `link`, 0 for A to 7 for H. It is lowered when dropped.
    pub fn pin(self: &Arc<Self>, link: u8) -> Arc<dyn IrqLine> {
        Arc::new(Pin {
            router: self.clone(),
            link: usize::from(link) % LINKS,
            level: AtomicBool::new(false),
        })
    }

    /// Routes `link` by the value of its PIRQ register (ICH9, section 13.1.18): bit 7 is "not
    /// routed", bits 3:0 the interrupt. Interrupts that cannot be chosen lead nowhere.
    pub fn route(&self, link: u8, register: u8) {
        let irq = register & 0xf;
        let chosen = register & 0x80 == 0 && ROUTABLE >> irq & 1 == 1;
        let mut links = lock(&self.links);
        let Some(entry) = links.get_mut(usize::from(link)) else {
            return;
        };
        let old = std::mem::replace(&mut entry.irq, chosen.then_some(irq));
        let new = entry.irq;
        for irq in [old, new].into_iter().flatten() {
            self.drive_isa(&links, irq);
        }
    }

    fn change(&self, link: usize, level: bool) {
        let mut links = lock(&self.links);
        let Some(entry) = links.get_mut(link) else {
            return;
        };
        let before = entry.raised > 0;
        entry.raised = match level {
            true => entry.raised.saturating_add(1),
            false => entry.raised.saturating_sub(1),
        };
        let (now, irq) = (entry.raised > 0, entry.irq);
        if now == before {
            return;
        }
        if let Some(line) = self.apic.get(link) {
            line.set(now);
        }
        if let Some(irq) = irq {
            self.drive_isa(&links, irq);
        }
    }

    /// An old interrupt is the OR of the links that lead to it.
    fn drive_isa(&self, links: &[Link; LINKS], irq: u8) {
        let level = links
            .iter()
            .any(|link| link.irq == Some(irq) && link.raised > 0);
        if let Some(line) = self.isa.get(usize::from(irq)) {
            line.set(level);
        }
    }
}

struct Pin {
    router: Arc<InterruptRouter>,
    link: usize,
    level: AtomicBool,
}

impl IrqLine for Pin {
    fn set(&self, level: bool) {
        if self.level.swap(level, Ordering::SeqCst) != level {
            self.router.change(self.link, level);
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeIrqs;

    fn raised(irqs: &FakeIrqs) -> Vec<u8> {
        (0..24).filter(|gsi| irqs.level(*gsi)).collect()
    }

    #[test]
    fn a_pin_drives_its_input_and_the_old_interrupt() {
        let irqs = FakeIrqs::default();
        let router = InterruptRouter::new(&irqs);
        let (a, b, e) = (router.pin(0), router.pin(0), router.pin(4));
        a.set(true);
        a.set(true);
        assert_eq!(raised(&irqs), [16]);
        // The guest chooses an interrupt while the link is raised.
        router.route(0, 10);
        router.route(4, 10);
        assert_eq!(raised(&irqs), [10, 16]);
        e.set(true);
        b.set(true);
        a.set(false);
        assert_eq!(raised(&irqs), [10, 16, 20]);
        drop(b);
        assert_eq!(raised(&irqs), [10, 20]);
        router.route(4, 11);
        assert_eq!(raised(&irqs), [11, 20]);
        router.route(4, 0x8b);
        assert_eq!(raised(&irqs), [20]);
        e.set(false);
        assert!(raised(&irqs).is_empty());
    }

    #[test]
    fn without_inputs_of_their_own_links_drive_old_interrupts_alone() {
        let irqs = FakeIrqs::default();
        let router = InterruptRouter::old_only(&irqs);
        let pin = router.pin(1);
        pin.set(true);
        assert!(raised(&irqs).is_empty());
        router.route(1, 11);
        assert_eq!(raised(&irqs), [11]);
        pin.set(false);
        assert!(raised(&irqs).is_empty());
    }

    #[test]
    fn only_free_interrupts_can_be_chosen() {
        let irqs = FakeIrqs::default();
        let router = InterruptRouter::new(&irqs);
        let pin = router.pin(7);
        pin.set(true);
        let works = |irq: &u8| {
            router.route(7, *irq);
            irqs.level(*irq)
        };
        let routable: Vec<u8> = (0..16).filter(works).collect();
        assert_eq!(routable, [3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15]);
        router.route(200, 10);
    }
}
