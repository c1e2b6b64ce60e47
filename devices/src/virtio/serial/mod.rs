//! `virtio-serial-pci`: consoles and serial ports (Virtio 1.2, section 5.3).
//!
//! The function is a bus; its ports are devices of their own, which may come and go while the
//! driver runs. One worker serves all queues. What outlives it (which ports there are, what the
//! driver was told, how much of a buffer was passed on) lives with the bus.

mod bus;
mod message;
mod port;
mod state;
mod worker;

#[cfg(test)]
#[path = "serial_test.rs"]
mod tests;

use std::io;
use std::sync::Arc;

use api_spec::{QmpError, QmpResult, VirtioSerialPciProps};

pub use bus::{PortKind, PortOptions, SerialBus};
pub use state::{PortV1, VirtioSerialV1};

use super::{ActiveQueues, PlacedWorker, VirtioDevice, VirtioPci, VirtioTraits};
use crate::cx::BuildCx;
use crate::effect::Effect;
use crate::model::registers::show;
use crate::virtio_pci_props;
use crate::worker::QueueState;
use worker::SerialWorker;

const DEVICE_TYPE: u16 = 3;
/// PCI class "communication controller, other".
const CLASS: u32 = 0x07_8000;
const PORT_QUEUE: u16 = 128;
const CONTROL_QUEUE: u16 = 32;
/// Each port has two queues, and two control them.
const MOST_PORTS: u32 = 511;
/// Several ports and the control queues.
const F_MULTIPORT: u64 = 1 << 1;
/// Output before the driver is ready.
const F_EMERG_WRITE: u64 = 1 << 2;
/// Offset of the register for that in configuration space.
const EMERG_WR: usize = 8;

/// Builds the function, and the bus to put ports on.
///
/// # Errors
/// For a number of ports that cannot be, for what the transport does not have, and when the host
/// is out of descriptors or interrupt routes.
pub fn build(props: &VirtioSerialPciProps, cx: &BuildCx) -> QmpResult<(VirtioPci, Arc<SerialBus>)> {
    match props.max_ports {
        0 => {
            return Err(QmpError::generic(
                "Maximum number of serial ports not specified",
            ));
        }
        1..=MOST_PORTS => {}
        _ => {
            return Err(QmpError::generic(format!(
                "maximum ports supported: {MOST_PORTS}"
            )));
        }
    }
    let pci = virtio_pci_props!(props, cx)?;
    let host = |error: io::Error| QmpError::generic(error.to_string());
    let bus = Arc::new(SerialBus::new(props.max_ports).map_err(host)?);
    let device = Serial {
        bus: bus.clone(),
        emergency_write: props.emergency_write,
    };
    let function = VirtioPci::new(Box::new(device), pci, cx).map_err(host)?;
    Ok((function, bus))
}

/// The device behind the function.
struct Serial {
    bus: Arc<SerialBus>,
    emergency_write: bool,
}

impl VirtioDevice for Serial {
    fn traits(&self) -> VirtioTraits {
        let max_ports = self.bus.max_ports();
        let multiport = if max_ports > 1 { F_MULTIPORT } else { 0 };
        let emergency = if self.emergency_write {
            F_EMERG_WRITE
        } else {
            0
        };
        let mut queue_sizes = vec![PORT_QUEUE, PORT_QUEUE, CONTROL_QUEUE, CONTROL_QUEUE];
        for _ in 1..max_ports {
            queue_sizes.extend([PORT_QUEUE, PORT_QUEUE]);
        }
        VirtioTraits {
            device_type: DEVICE_TYPE,
            features: multiport | emergency,
            queue_sizes,
            vectors: u16::try_from(max_ports.saturating_add(1)).unwrap_or(u16::MAX),
            class: CLASS,
            config_len: if self.emergency_write { 12 } else { 8 },
        }
    }

    /// Columns and rows (none), the most ports, and a register that reads as zero.
    fn config_read(&self, offset: usize, data: &mut [u8]) {
        let [a, b, c, d] = self.bus.max_ports().to_le_bytes();
        let image = [0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0];
        show(0, &image, offset as u64, data);
    }

    fn config_write(&mut self, offset: usize, data: &[u8]) -> Effect {
        if let (EMERG_WR, Some(character)) = (offset, data.first()) {
            self.bus.emergency_write(*character);
        }
        Effect::None
    }

    fn start(&mut self, active: ActiveQueues) -> io::Result<Vec<PlacedWorker>> {
        let multiport = active.features & F_MULTIPORT != 0;
        let worker = SerialWorker::new(self.bus.shared(), active, multiport);
        Ok(vec![PlacedWorker {
            thread: 0,
            worker: Box::new(worker),
        }])
    }

    fn stopped(&mut self, _states: &[QueueState]) {}

    fn reset(&mut self) {
        self.bus.reset();
    }

    fn state(&self) -> Option<&dyn vmstate::StateAccess> {
        Some(self)
    }

    fn state_mut(&mut self) -> Option<&mut dyn vmstate::StateAccess> {
        Some(self)
    }
}
