//! Text commands about the machine as a whole, and about this monitor.

use super::Verb;
use super::table::{Entry, entry};

/// The commands.
pub(super) static COMMANDS: &[Entry] = &[
    entry("cont", Some("c"), Verb::Cont, "", "let the guest run"),
    entry(
        "help",
        Some("?"),
        Verb::Help,
        "[cmd]",
        "tell what can be typed here",
    ),
    entry(
        "info",
        None,
        Verb::Info,
        "[subcommand]",
        "tell about the machine",
    ),
    entry(
        "nmi",
        None,
        Verb::Nmi,
        "",
        "send a non-maskable interrupt to every vCPU",
    ),
    entry("quit", Some("q"), Verb::Quit, "", "end the program"),
    entry("stop", Some("s"), Verb::Stop, "", "hold the guest"),
    entry(
        "system_powerdown",
        None,
        Verb::SystemPowerdown,
        "",
        "press the power button",
    ),
    entry(
        "system_reset",
        None,
        Verb::SystemReset,
        "",
        "press the reset button",
    ),
];
