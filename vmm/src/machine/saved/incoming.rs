//! A machine that waits for its state.

use super::super::Machine;

impl Machine {
    /// Instead of [`Machine::power_on`], for a machine that gets its state from elsewhere: as
    /// after power-on, but nothing is loaded into its RAM, where another machine's goes. Its
    /// kernel was opened, and a reset loads it as ever. Shadow memory stays as it was made, the way
    /// most guests have it, so that nothing is to be mapped while the guest stands still.
    pub fn prepare_incoming(&mut self) {
        self.mark_occupied();
        self.ready = true;
        self.map_devices();
    }
}

#[cfg(test)]
mod tests {
    use devices::bus::lock;

    use super::super::super::{Machine, References};
    use crate::cli::{self, Request};
    use crate::event::Mailbox;
    use crate::layout::Board;

    /// A bzImage of one sector of set-up, and some text in the place of code (Linux's boot
    /// protocol).
    fn kernel() -> Vec<u8> {
        let mut bytes = vec![0u8; 1024];
        for (at, value) in [
            (0x1f1, &[1u8][..]),
            (0x200, &[0xeb, 0x66]),
            (0x202, b"HdrS"),
            (0x206, &[0x0f, 0x02]),
            (0x211, &[1]),
            (0x214, &[0, 0, 0x10]),
            (0x22c, &[0xff, 0xff, 0xff, 0x7f]),
            (0x236, &[1]),
            (0x238, &[100]),
            (0x261, &[0x10]),
        ] {
            bytes[at..at + value.len()].copy_from_slice(value);
        }
        bytes.extend_from_slice(b"the kernel");
        bytes
    }

    fn machine(kernel: &str) -> Machine {
        let words = ["-accel", "qtest", "-m", "64", "-kernel", kernel].map(str::to_owned);
        let Ok(Request::Run(order)) = cli::parse(&words) else {
            panic!("options that are none");
        };
        let mail = Mailbox::new().unwrap().sender();
        let made = Machine::build(order.machine, Board::Q35, None, None, &mail);
        let mut machine = made.unwrap().0;
        for text in ["pcie-root-port,id=rp0", "i6300esb,bus=rp0"] {
            let flags = api_spec::keyval::Flags::Refused;
            let options = api_spec::keyval::decode_keyval(text, Some("driver"), flags).unwrap();
            let added = machine.add_device(options, References::default(), false);
            added.unwrap();
        }
        machine
    }

    fn ram(machine: &Machine) -> Vec<u8> {
        let block = &machine.ram_view().blocks[0];
        let mut bytes = vec![0; block.len as usize];
        assert!(block.read(0, &mut bytes));
        bytes
    }

    #[test]
    fn nothing_is_loaded_until_a_reset() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kernel");
        std::fs::write(&path, kernel()).unwrap();
        let path = path.to_str().unwrap();
        let (mut source, mut target) = (machine(path), machine(path));
        target.prepare_incoming();
        assert!(ram(&target).iter().all(|byte| *byte == 0));
        source.power_on().unwrap();
        let here = ram(&source);
        assert!(here[0x10_0000..].starts_with(b"the kernel"));
        assert_eq!(target.check_config(&source.config()), Ok(()));

        let block = &target.ram_view().blocks[0];
        assert!(block.write(0, &here));
        let saved = source.save().unwrap();
        assert_eq!(target.restore(saved.clone()), Ok(()));
        assert_eq!(target.save().unwrap(), saved);
        assert_eq!(ram(&target), here);
        // What is behind a port is reached there, and shadow memory is as the guest has it.
        let port = target.pci.find("rp0").unwrap();
        assert!(
            lock(&port.function)
                .config()
                .bridge_windows()
                .is_some_and(|w| !w.cut_off)
        );
        assert_eq!(target.chipset.shadow_runs(), source.chipset.shadow_runs());
        // Devices that come from now on come to a guest.
        assert!(target.ready);

        assert!(block.write(0x10_0000, b"something else"));
        target.reset().unwrap();
        assert!(ram(&target)[0x10_0000..].starts_with(b"the kernel"));
    }
}
