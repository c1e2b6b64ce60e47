//! Saved state of the UART.

use serde::{Deserialize, Serialize};
use vmstate::{Blob, Snapshot, StateError};

use super::{FIFO, Fifo, Uart, fcr, ier, lsr, mcr};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Saved state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SerialV1 {
    /// Divisor latch.
    pub divisor: u16,
    /// Interrupt enable.
    #[serde(skip_serializing_if = "is_default")]
    pub ier: u8,
    /// FIFO control.
    #[serde(skip_serializing_if = "is_default")]
    pub fcr: u8,
    /// Line control.
    #[serde(skip_serializing_if = "is_default")]
    pub lcr: u8,
    /// Modem control.
    #[serde(skip_serializing_if = "is_default")]
    pub mcr: u8,
    /// Error bits of line status.
    #[serde(skip_serializing_if = "is_default")]
    pub errors: u8,
    /// Modem status.
    #[serde(skip_serializing_if = "is_default")]
    pub msr: u8,
    /// Scratch register.
    #[serde(skip_serializing_if = "is_default")]
    pub scratch: u8,
    /// The last character read.
    #[serde(skip_serializing_if = "is_default")]
    pub last: u8,
    /// Characters received.
    #[serde(skip_serializing_if = "Blob::is_empty")]
    pub receiver: Blob,
    /// Characters not sent yet.
    #[serde(skip_serializing_if = "Blob::is_empty")]
    pub transmitter: Blob,
    /// An interrupt for the empty transmitter is due.
    #[serde(skip_serializing_if = "is_default")]
    pub empty_pending: bool,
    /// The receiver's timeout has passed.
    #[serde(skip_serializing_if = "is_default")]
    pub timed_out: bool,
}

impl Snapshot for Uart {
    type State = SerialV1;
    const ID: &'static str = "serial";
    const VERSION: u32 = 1;

    fn save(&self) -> Self::State {
        let Uart {
            port: _,
            line: _,
            level: _,
            clock: _,
            idle: _,
            divisor,
            ier,
            fcr,
            lcr,
            mcr,
            errors,
            msr,
            scratch,
            last,
            receiver,
            transmitter,
            empty_pending,
            timed_out,
            settling: _,
            // This process's, as what waits in the character device.
            early: _,
        } = self;
        SerialV1 {
            divisor: *divisor,
            ier: *ier,
            fcr: *fcr,
            lcr: *lcr,
            mcr: *mcr,
            errors: *errors,
            msr: *msr,
            scratch: *scratch,
            last: *last,
            receiver: Blob(receiver.to_vec()),
            transmitter: Blob(transmitter.to_vec()),
            empty_pending: *empty_pending,
            timed_out: *timed_out,
        }
    }

    fn restore(&mut self, state: Self::State) -> Result<(), StateError> {
        let SerialV1 {
            divisor,
            ier,
            fcr,
            lcr,
            mcr,
            errors,
            msr,
            scratch,
            last,
            receiver,
            transmitter,
            empty_pending,
            timed_out,
        } = state;
        let fifo = |name: &str, bytes: &Blob| {
            Fifo::from_slice(&bytes.0).ok_or_else(|| StateError::Body {
                id: Self::ID.into(),
                reason: format!("{name}: {} characters, at most {FIFO}", bytes.0.len()),
            })
        };
        let receiver = fifo("receiver", &receiver)?;
        self.transmitter = fifo("transmitter", &transmitter)?;
        let unread = std::mem::replace(&mut self.receiver, receiver).to_vec();
        unread
            .into_iter()
            .rev()
            .for_each(|byte| self.early.push_front(byte));
        self.divisor = divisor;
        self.ier = ier & ier::ALL;
        self.fcr = fcr & fcr::KEPT;
        self.lcr = lcr;
        self.mcr = mcr & mcr::ALL;
        self.errors = errors & lsr::ERRORS;
        self.msr = msr;
        self.scratch = scratch;
        self.last = last;
        self.empty_pending = empty_pending;
        self.timed_out = timed_out;
        self.idle.cancel();
        self.settling = true;
        self.wind_up();
        self.drive_line();
        Ok(())
    }
}
