//! `isa-serial`: a UART at the ports and interrupt of COM1 to COM4, or elsewhere.

use api_spec::{IsaSerialProps, QmpError, QmpResult};

use super::serial::{PORTS, Uart};
use crate::cx::BuildCx;
use crate::registry::{Attachable, Region};

/// First port and interrupt of COM1 to COM4.
const PLACES: [(u16, u8); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];
const ISA_INTERRUPTS: u32 = 16;

/// Where a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// 0 to 3.
    pub index: u32,
    /// First of eight ports.
    pub iobase: u16,
    /// ISA interrupt.
    pub irq: u8,
}

/// Where the port with these properties goes; `next` is the lowest index that was not given out.
///
/// # Errors
/// When all four are taken, or the place does not exist.
pub fn place(props: &IsaSerialProps, next: u32) -> QmpResult<Place> {
    let index = props
        .index
        .filter(|index| *index != u32::MAX)
        .unwrap_or(next);
    let usual = usize::try_from(index).ok().and_then(|at| PLACES.get(at));
    let Some((iobase, irq)) = usual else {
        return Err(QmpError::generic(format!(
            "Max. supported number of ISA serial ports is {}.",
            PLACES.len()
        )));
    };
    let chosen = |value: Option<u32>, usual: u32| match value {
        None | Some(u32::MAX) => usual,
        Some(value) => value,
    };
    let irq = chosen(props.irq, u32::from(*irq));
    let iobase = chosen(props.iobase, u32::from(*iobase));
    if irq >= ISA_INTERRUPTS {
        let most = ISA_INTERRUPTS - 1;
        return Err(QmpError::generic(format!(
            "Maximum value for \"irq\" is: {most}"
        )));
    }
    let last = u32::from(u16::MAX).saturating_sub(PORTS as u32 - 1);
    if iobase > last {
        return Err(QmpError::generic(format!(
            "Maximum value for \"iobase\" is: {last}"
        )));
    }
    let out_of_range = || QmpError::generic("isa-serial: no such port");
    Ok(Place {
        index,
        iobase: u16::try_from(iobase).map_err(|_| out_of_range())?,
        irq: u8::try_from(irq).map_err(|_| out_of_range())?,
    })
}

/// Builds the port on `cx.chardev`; the hint "serial-index" is the lowest index that is free.
///
/// # Errors
/// As for [`place`].
pub fn build(props: &IsaSerialProps, cx: &mut BuildCx) -> QmpResult<Attachable> {
    let next = cx.hints.get("serial-index").copied().unwrap_or(0);
    let place = place(props, u32::try_from(next).unwrap_or(u32::MAX))?;
    let line = cx.irqs.isa_line(place.irq);
    let uart = Uart::new(cx.chardev.take(), line, cx.clock.clone(), &*cx.timers);
    let ports = vec![Region {
        region: 0,
        base: place.iobase.into(),
        len: PORTS,
    }];
    Ok(Attachable::isa(uart, ports))
}
