//! Messages of the control queues (Virtio 1.2, section 5.3.6.2).

/// Bytes of a message without a name behind it.
pub(super) const LEN: usize = 8;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// From the driver: it is ready for ports.
    DeviceReady = 0,
    /// There is a port.
    PortAdd = 1,
    /// There is no such port any more.
    PortRemove = 2,
    /// From the driver: it has the port.
    PortReady = 3,
    /// The port is a console.
    ConsolePort = 4,
    /// The other side opened or closed its end.
    PortOpen = 6,
    /// The port's name follows.
    PortName = 7,
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub port: u32,
    pub topic: Topic,
    pub value: u16,
}

impl Message {
    /// Reads what a driver may say; `None` for the rest.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (port, rest) = bytes.split_first_chunk::<4>()?;
        let (event, rest) = rest.split_first_chunk::<2>()?;
        let (value, _) = rest.split_first_chunk::<2>()?;
        let topic = match u16::from_le_bytes(*event) {
            0 => Topic::DeviceReady,
            3 => Topic::PortReady,
            6 => Topic::PortOpen,
            _ => return None,
        };
        Some(Message {
            port: u32::from_le_bytes(*port),
            topic,
            value: u16::from_le_bytes(*value),
        })
    }

    pub fn bytes(self) -> [u8; LEN] {
        let [a, b, c, d] = self.port.to_le_bytes();
        let [e, f] = (self.topic as u16).to_le_bytes();
        let [g, h] = self.value.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }
}
