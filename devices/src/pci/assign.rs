//! What firmware does before it starts an operating system: bus numbers, bridge windows, BARs and
//! interrupt lines. For guests that are started without firmware.

use super::DevFn;
use super::bar::BarKind;
use super::config::{ConfigSpace, HeaderKind};
use super::regs::*;
use super::reserve::Reserve;
use super::topology::{PciTopology, Plugged};
use crate::bus::lock;

/// Granularity of a bridge's memory windows.
const MEMORY_GRAIN: u64 = 1 << 20;
/// Granularity of a bridge's port window.
const IO_GRAIN: u64 = 1 << 12;
/// Memory kept for what may be plugged behind a bridge later, in each of its windows, when the
/// bridge asks for nothing else.
const MEMORY_SPARE: u64 = 2 << 20;

/// The addresses to give away: first and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Ports.
    pub io: (u64, u64),
    /// Memory below 4 GiB.
    pub memory: (u64, u64),
    /// Memory for 64-bit prefetchable BARs.
    pub prefetchable: (u64, u64),
}

/// Assigns everything, starting from registers in any state. `line` tells the INTERRUPT_LINE for
/// a slot of the root bus and a pin (1 to 4). What does not fit stays at 0, which means nowhere.
/// Returns how many buses have a number, those kept for later among them.
pub fn assign(topology: &PciTopology, windows: &Windows, line: &dyn Fn(DevFn, u8) -> u8) -> u8 {
    let mut buses = 1;
    number_buses(topology, None, 0, &mut buses);
    let pools = [
        Pool::new(windows.io),
        Pool::new(windows.memory),
        Pool::new(windows.prefetchable),
    ];
    place_bus(topology, None, pools);
    set_lines(topology, None, None, line);
    buses
}

/// The pin on the near side of a bridge that a pin behind it is wired to (PCI-to-PCI Bridge
/// Architecture 1.2, section 9.1).
pub fn swizzle(devfn: DevFn, pin: u8) -> u8 {
    (pin.saturating_sub(1).wrapping_add(devfn.slot()) & 3) + 1
}

fn number_buses(topology: &PciTopology, parent: Option<&str>, bus: u8, next: &mut u8) {
    for plugged in topology.behind(parent) {
        if !is_bridge(plugged) {
            continue;
        }
        let secondary = *next;
        let Some(after) = next.checked_add(1) else {
            return;
        };
        *next = after;
        number_buses(topology, Some(&plugged.id), secondary, next);
        let mut function = lock(&plugged.function);
        let reserve = function.config().reserve().buses.unwrap_or(0);
        let reserved = u32::from(after).checked_add(reserve);
        if let Some(reserved) = reserved.and_then(|bus| u8::try_from(bus).ok()) {
            *next = reserved.max(*next);
        }
        let last = next.saturating_sub(1);
        function.config().set(PRIMARY_BUS, &[bus, secondary, last]);
    }
}

fn is_bridge(plugged: &Plugged) -> bool {
    lock(&plugged.function).config().kind() == HeaderKind::Bridge
}

/// Ports, memory, prefetchable memory: indexes of pools and needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Io = 0,
    Memory = 1,
    Prefetchable = 2,
}

const KINDS: [Kind; 3] = [Kind::Io, Kind::Memory, Kind::Prefetchable];

fn kind_of(bar: BarKind) -> Kind {
    match bar {
        BarKind::Io => Kind::Io,
        BarKind::Memory32 => Kind::Memory,
        BarKind::Memory64 {
            prefetchable: false,
        } => Kind::Memory,
        BarKind::Memory64 { prefetchable: true } => Kind::Prefetchable,
    }
}

enum Owner<'a> {
    Bar(&'a Plugged, u8),
    Window(&'a Plugged),
}

/// Something on a bus that needs addresses.
struct Item<'a> {
    owner: Owner<'a>,
    size: u64,
    align: u64,
}

/// What the functions on a bus need of one kind, largest alignment first, so that packing them
/// in order leaves no gaps.
fn items<'a>(topology: &'a PciTopology, parent: Option<&str>, kind: Kind) -> Vec<Item<'a>> {
    let mut items = Vec::new();
    for plugged in topology.behind(parent) {
        let mut function = lock(&plugged.function);
        let config = function.config();
        let bars = config.bars().filter(|bar| kind_of(bar.kind) == kind);
        items.extend(bars.map(|bar| Item {
            owner: Owner::Bar(plugged, bar.index),
            size: bar.size,
            align: bar.size,
        }));
        let bridge = config.kind() == HeaderKind::Bridge;
        let reserve = config.reserve();
        drop(function);
        if bridge {
            let (size, align) = window(topology, &plugged.id, kind, reserve);
            items.push(Item {
                owner: Owner::Window(plugged),
                size,
                align,
            });
        }
    }
    items.sort_by_key(|item| std::cmp::Reverse(item.align));
    items
}

/// Size and alignment of a bridge's window.
fn window(topology: &PciTopology, bridge: &str, kind: Kind, reserve: Reserve) -> (u64, u64) {
    let (grain, spare) = match kind {
        Kind::Io => (IO_GRAIN, reserve.io.unwrap_or(0)),
        Kind::Memory => {
            let wanted = reserve.memory.map(u64::from);
            (MEMORY_GRAIN, wanted.unwrap_or(MEMORY_SPARE))
        }
        Kind::Prefetchable => (MEMORY_GRAIN, reserve.prefetchable.unwrap_or(MEMORY_SPARE)),
    };
    let inside = items(topology, Some(bridge), kind);
    let align = inside.iter().map(|item| item.align).max().unwrap_or(grain);
    let used = inside.iter().fold(0u64, |end, item| {
        let start = end.checked_next_multiple_of(item.align).unwrap_or(u64::MAX);
        start.saturating_add(item.size)
    });
    let size = used.max(spare).checked_next_multiple_of(grain);
    (size.unwrap_or(u64::MAX), align.max(grain))
}

/// Addresses left to give away.
#[derive(Debug, Clone, Copy)]
struct Pool {
    next: u64,
    last: u64,
}

impl Pool {
    fn new((next, last): (u64, u64)) -> Self {
        Pool { next, last }
    }

    fn take(&mut self, size: u64, align: u64) -> Option<u64> {
        let base = self.next.checked_next_multiple_of(align.max(1))?;
        let end = base.checked_add(size)?;
        if size == 0 || end.checked_sub(1)? > self.last {
            return None;
        }
        self.next = end;
        Some(base)
    }
}

fn place_bus(topology: &PciTopology, parent: Option<&str>, mut pools: [Pool; 3]) {
    // What each bridge got, by kind.
    let mut behind: Vec<(&Plugged, [Pool; 3])> = Vec::new();
    for (kind, pool) in KINDS.into_iter().zip(&mut pools) {
        for item in items(topology, parent, kind) {
            let base = pool.take(item.size, item.align);
            match item.owner {
                Owner::Bar(plugged, index) => {
                    lock(&plugged.function)
                        .config()
                        .place_bar(index, base.unwrap_or(0));
                }
                Owner::Window(plugged) => {
                    let span = base.map_or((1, 0), |base| (base, base + (item.size - 1)));
                    set_window(lock(&plugged.function).config(), kind, span);
                    give(&mut behind, plugged, kind, Pool::new(span));
                }
            }
        }
    }
    for plugged in topology.behind(parent) {
        let mut function = lock(&plugged.function);
        let master = match function.config().kind() {
            HeaderKind::Bridge => command::MASTER,
            HeaderKind::Endpoint => 0,
        };
        let enable = command::IO | command::MEMORY | command::SERR | master;
        function.config().set_bits(COMMAND, enable, true);
    }
    for (bridge, pools) in behind {
        place_bus(topology, Some(&bridge.id), pools);
    }
}

fn give<'a>(
    behind: &mut Vec<(&'a Plugged, [Pool; 3])>,
    bridge: &'a Plugged,
    kind: Kind,
    pool: Pool,
) {
    let index = behind
        .iter()
        .position(|(other, _)| std::ptr::eq(*other, bridge));
    let index = index.unwrap_or_else(|| {
        behind.push((bridge, [Pool::new((1, 0)); 3]));
        behind.len() - 1
    });
    if let Some(slot) = behind
        .get_mut(index)
        .and_then(|entry| entry.1.get_mut(kind as usize))
    {
        *slot = pool;
    }
}

/// Writes a bridge's window; a base behind the limit closes it.
fn set_window(config: &mut ConfigSpace, kind: Kind, (first, last): (u64, u64)) {
    let closed = first > last;
    let word = |address: u64| ((address >> 16) & 0xfff0) as u16;
    let upper = |address: u64| ((address >> 32) as u32).to_le_bytes();
    match kind {
        Kind::Io => {
            let (base, limit) = if closed {
                (0xf0, 0)
            } else {
                (first >> 8, last >> 8)
            };
            config.set(
                IO_BASE,
                &[(base & 0xf0) as u8 | 1, (limit & 0xf0) as u8 | 1],
            );
            config.set_word(IO_BASE_UPPER, (first >> 16) as u16);
            config.set_word(IO_LIMIT_UPPER, (last >> 16) as u16);
        }
        Kind::Memory => {
            let (base, limit) = if closed {
                (0xfff0, 0)
            } else {
                (word(first), word(last))
            };
            config.set_word(MEMORY_BASE, base);
            config.set_word(MEMORY_LIMIT, limit);
        }
        Kind::Prefetchable => {
            let (base, limit) = if closed {
                (0xfff0, 0)
            } else {
                (word(first), word(last))
            };
            config.set_word(PREFETCH_BASE, base | 1);
            config.set_word(PREFETCH_LIMIT, limit | 1);
            config.set(PREFETCH_BASE_UPPER, &upper(if closed { 0 } else { first }));
            config.set(PREFETCH_LIMIT_UPPER, &upper(if closed { 0 } else { last }));
        }
    }
}

/// `root`: the slot of the root bus that leads to this bus, and how far the pins are turned.
fn set_lines(
    topology: &PciTopology,
    parent: Option<&str>,
    root: Option<(DevFn, u8)>,
    line: &dyn Fn(DevFn, u8) -> u8,
) {
    for plugged in topology.behind(parent) {
        let mut function = lock(&plugged.function);
        let pin = function.config().byte(INTERRUPT_PIN);
        if pin != 0 {
            let (slot, pin) = match root {
                None => (plugged.devfn, pin),
                Some((slot, turn)) => {
                    let turned = swizzle(plugged.devfn, pin)
                        .wrapping_sub(1)
                        .wrapping_add(turn);
                    (slot, (turned & 3) + 1)
                }
            };
            function.config().set(INTERRUPT_LINE, &[line(slot, pin)]);
        }
        drop(function);
        let turn = match root {
            None => (plugged.devfn, 0),
            Some((slot, turn)) => (slot, turn.wrapping_add(plugged.devfn.slot()) & 3),
        };
        set_lines(topology, Some(&plugged.id), Some(turn), line);
    }
}
