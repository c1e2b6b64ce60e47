//! The shapes of the generated tables.

/// Facts on a command.
#[derive(Debug, Clone, Copy)]
pub struct CommandInfo {
    /// Name on the wire.
    pub name: &'static str,
    /// May be executed out of band.
    pub allow_oob: bool,
    /// Allowed before the machine is made.
    pub allow_preconfig: bool,
}

/// A request of the manual and the shape of its answer, replayed against the program.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// The command.
    pub command: &'static str,
    /// JSON text of the request.
    pub request: &'static str,
    /// JSON text of the answer in the manual.
    pub reply: &'static str,
}

/// A property of a driver.
#[derive(Debug, Clone, Copy)]
pub struct PropertyInfo {
    /// Name.
    pub name: &'static str,
    /// Type as introspection shows it (`uint32`, `bool`, `OnOffAuto`, `str`).
    pub kind: &'static str,
    /// The default as JSON text, if it has one.
    pub default: Option<&'static str>,
    /// What it does.
    pub description: &'static str,
}

/// A type of device or object.
#[derive(Debug, Clone, Copy)]
pub struct DriverInfo {
    /// Type name.
    pub name: &'static str,
    /// Parent type in the object model.
    pub parent: &'static str,
    /// Whether it has no instances of its own.
    pub is_abstract: bool,
    /// Whether `-device` makes it.
    pub user_creatable: bool,
    /// Another name that `-device` and device_add know it by.
    pub alias: Option<&'static str>,
    /// Bus it goes on, for help texts.
    pub bus: Option<&'static str>,
    /// One line on what it is.
    pub description: &'static str,
    /// Group in `-device help`.
    pub category: &'static str,
    /// Properties.
    pub properties: &'static [PropertyInfo],
}

/// An option of the command line.
#[derive(Debug, Clone, Copy)]
pub struct OptionInfo {
    /// Name without dash.
    pub name: &'static str,
    /// Whether an argument follows.
    pub has_arg: bool,
    /// How `-help` shows it.
    pub usage: &'static str,
    /// What it does.
    pub description: &'static str,
    /// The key that a first value without one belongs to.
    pub implied_key: Option<&'static str>,
}

/// How often an event may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// At most one in so many milliseconds; the last one is kept and sent when they are over.
    pub interval_ms: u64,
    /// Events with the same key share the limit.
    pub key: String,
}
