//! A machine that waits for its state.

use super::super::Machine;

impl Machine {
    /// Instead of [`Machine::power_on`], for a machine that gets its state from elsewhere: as
    /// after power-on, but nothing is loaded into its RAM, where another machine's goes. Its
    /// kernel was opened, and a reset loads it as ever.
    pub fn prepare_incoming(&mut self) {
        self.mark_occupied();
        self.ready = true;
        self.remap();
    }
}
