//! Registers of configuration space (PCI Local Bus 3.0, section 6; PCI-to-PCI Bridge
//! Architecture 1.2, section 3.2). Byte offsets.

#![allow(missing_docs)] // the names are the specification's

pub const VENDOR: u16 = 0x00;
pub const DEVICE: u16 = 0x02;
pub const COMMAND: u16 = 0x04;
pub const STATUS: u16 = 0x06;
pub const REVISION: u16 = 0x08;
pub const CLASS: u16 = 0x09;
pub const CACHE_LINE: u16 = 0x0c;
pub const LATENCY: u16 = 0x0d;
pub const HEADER_TYPE: u16 = 0x0e;
pub const BAR0: u16 = 0x10;
pub const SUBSYSTEM_VENDOR: u16 = 0x2c;
pub const SUBSYSTEM: u16 = 0x2e;
pub const CAPABILITIES: u16 = 0x34;
pub const INTERRUPT_LINE: u16 = 0x3c;
pub const INTERRUPT_PIN: u16 = 0x3d;

pub const PRIMARY_BUS: u16 = 0x18;
pub const SECONDARY_BUS: u16 = 0x19;
pub const SUBORDINATE_BUS: u16 = 0x1a;
pub const SECONDARY_LATENCY: u16 = 0x1b;
pub const IO_BASE: u16 = 0x1c;
pub const IO_LIMIT: u16 = 0x1d;
pub const SECONDARY_STATUS: u16 = 0x1e;
pub const MEMORY_BASE: u16 = 0x20;
pub const MEMORY_LIMIT: u16 = 0x22;
pub const PREFETCH_BASE: u16 = 0x24;
pub const PREFETCH_LIMIT: u16 = 0x26;
pub const PREFETCH_BASE_UPPER: u16 = 0x28;
pub const PREFETCH_LIMIT_UPPER: u16 = 0x2c;
pub const IO_BASE_UPPER: u16 = 0x30;
pub const IO_LIMIT_UPPER: u16 = 0x32;
pub const BRIDGE_CONTROL: u16 = 0x3e;

/// Bits of COMMAND.
pub mod command {
    pub const IO: u16 = 1 << 0;
    pub const MEMORY: u16 = 1 << 1;
    pub const MASTER: u16 = 1 << 2;
    pub const PARITY: u16 = 1 << 6;
    pub const SERR: u16 = 1 << 8;
    pub const INTX_DISABLE: u16 = 1 << 10;
}

/// Bits of STATUS.
pub mod status {
    pub const INTERRUPT: u16 = 1 << 3;
    pub const CAPABILITIES: u16 = 1 << 4;
}

/// Capability identifiers.
pub mod capability {
    pub const POWER: u8 = 0x01;
    pub const VENDOR: u8 = 0x09;
    pub const SUBSYSTEM: u8 = 0x0d;
    pub const EXPRESS: u8 = 0x10;
    pub const MSIX: u8 = 0x11;
}
