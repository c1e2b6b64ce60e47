//! A test plays the processor: devices, without a guest and without KVM.

mod active;
mod balloon;
mod blk;
mod blk_changes;
mod blk_limits;
mod chardevs;
mod chipset;
mod console;
mod garbage;
mod hotplug;
mod interrupts;
mod iothreads;
mod netsock;
mod pc;
mod pci;
mod protocol;
mod pvpanic;
mod rng;
mod scsi;
mod soak;
mod tls;
mod usernet;
mod vhost;
mod vmgenid;
mod vnet;
mod watchdog;
