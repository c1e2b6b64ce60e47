//! Errors as the wire has them: a class for programs and a sentence for people.

use std::fmt;

/// The closed set of error classes of QMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Everything that has no class of its own.
    GenericError,
    /// The command does not exist, or not in this state of the session.
    CommandNotFound,
    /// A device, node or object path does not exist.
    DeviceNotFound,
    /// The device is there but not in use.
    DeviceNotActive,
    /// KVM lacks a capability that the command needs.
    KVMMissingCap,
}

impl ErrorClass {
    /// The class's name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            ErrorClass::GenericError => "GenericError",
            ErrorClass::CommandNotFound => "CommandNotFound",
            ErrorClass::DeviceNotFound => "DeviceNotFound",
            ErrorClass::DeviceNotActive => "DeviceNotActive",
            ErrorClass::KVMMissingCap => "KVMMissingCap",
        }
    }
}

/// The caller was wrong, or the host could not do it: what the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QmpError {
    /// For programs.
    pub class: ErrorClass,
    /// For people; starts with a capital or the name of the thing, has no full stop.
    pub desc: String,
}

/// The result of a command.
pub type QmpResult<T> = Result<T, QmpError>;

impl QmpError {
    /// An error of a class.
    pub fn new(class: ErrorClass, desc: impl Into<String>) -> Self {
        QmpError {
            class,
            desc: desc.into(),
        }
    }
    /// An error of the class that most errors have.
    pub fn generic(desc: impl Into<String>) -> Self {
        Self::new(ErrorClass::GenericError, desc)
    }
    /// No command of that name.
    pub fn command_not_found(name: &str) -> Self {
        Self::new(
            ErrorClass::CommandNotFound,
            format!("The command {name} has not been found"),
        )
    }
    /// No device of that name.
    pub fn device_not_found(name: &str) -> Self {
        Self::new(
            ErrorClass::DeviceNotFound,
            format!("Device '{name}' not found"),
        )
    }
    /// A member that must be there is not.
    pub fn missing(path: &str) -> Self {
        Self::generic(format!("Parameter '{path}' is missing"))
    }
    /// A member that is not known.
    pub fn unexpected(path: &str) -> Self {
        Self::generic(format!("Parameter '{path}' is unexpected"))
    }
    /// A member of another JSON type.
    pub fn wrong_type(path: &str, expected: &str) -> Self {
        Self::generic(format!(
            "Invalid parameter type for '{path}', expected: {expected}"
        ))
    }
    /// A member whose value is out of what it may be.
    pub fn wrong_value(path: &str, expected: &str) -> Self {
        Self::generic(format!("Parameter '{path}' expects {expected}"))
    }
}

impl fmt::Display for QmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.desc)
    }
}

impl std::error::Error for QmpError {}
