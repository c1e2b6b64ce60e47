//! From JSON trees to generated types, strictly, with errors that name the member.

use std::sync::Arc;

use crate::globals::Global;
use std::fmt::Write;

use crate::{Object, QmpError, QmpResult, Value};

/// How scalars are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// JSON as it stands: every type must match.
    Strict,
    /// `key=value` text: every scalar is a string.
    Keyval,
    /// Properties of devices: typed JSON or its text.
    Lenient,
}

/// Where in the input the decoder is; the path is only spelled out for an error.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
    mode: Mode,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Member(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    /// The top.
    pub fn root(mode: Mode) -> At<'static> {
        At {
            parent: None,
            step: Step::Root,
            mode,
        }
    }
    /// A member of the object here.
    pub fn member(&'a self, name: &'a str) -> At<'a> {
        At {
            parent: Some(self),
            step: Step::Member(name),
            mode: self.mode,
        }
    }
    fn index(&'a self, index: usize) -> At<'a> {
        At {
            parent: Some(self),
            step: Step::Index(index),
            mode: self.mode,
        }
    }
    /// How scalars are read here.
    pub fn mode(&self) -> Mode {
        self.mode
    }
    /// The path as errors show it: `file.driver`, `channels[0].addr`.
    pub fn path(&self) -> String {
        let mut path = self.parent.map(At::path).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Member(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Step::Index(index) if self.mode == Mode::Keyval => {
                let _ = write!(path, ".{index}");
            }
            Step::Index(index) => {
                let _ = write!(path, "[{index}]");
            }
        }
        path
    }
    /// The wrong JSON type.
    pub fn wrong_type(&self, expected: &str) -> QmpError {
        QmpError::wrong_type(&self.path(), expected)
    }
    /// The wrong value.
    pub fn wrong_value(&self, expected: &str) -> QmpError {
        QmpError::wrong_value(&self.path(), expected)
    }
}

/// Reads itself from JSON.
pub trait Decode: Sized {
    /// Takes `value` apart.
    ///
    /// # Errors
    /// A message that names the member and what was expected of it.
    fn decode(value: Value, at: &At) -> QmpResult<Self>;
}

/// Reads its members from an object that may hold others' members too.
pub trait DecodeMembers: Sized {
    /// Takes its own members out of `members`.
    ///
    /// # Errors
    /// A message that names the member and what was expected of it.
    fn take(members: &mut Members) -> QmpResult<Self>;
}

/// Decodes a whole value.
///
/// # Errors
/// A message that names the member and what was expected of it.
pub fn decode_value<T: Decode>(value: Value, mode: Mode) -> QmpResult<T> {
    T::decode(value, &At::root(mode))
}

/// The members of an object that nobody has taken yet.
pub struct Members<'a> {
    object: Object,
    at: &'a At<'a>,
    /// What holds for members that are not there.
    defaults: Vec<Arc<Global>>,
}

impl<'a> Members<'a> {
    /// Opens an object.
    ///
    /// # Errors
    /// When `value` is none.
    pub fn open(value: Value, at: &'a At<'a>) -> QmpResult<Self> {
        match value {
            Value::Object(object) => Ok(Members {
                object,
                at,
                defaults: Vec::new(),
            }),
            _ => Err(at.wrong_type("object")),
        }
    }
    /// Opens the arguments of a command; none are as good as `{}`.
    pub fn arguments(object: Option<Object>, at: &'a At<'a>) -> Self {
        Members {
            object: object.unwrap_or_default(),
            at,
            defaults: Vec::new(),
        }
    }
    /// A member that must be there.
    ///
    /// # Errors
    /// When it is missing or of the wrong type.
    pub fn required<T: Decode>(&mut self, name: &str) -> QmpResult<T> {
        let at = self.at.member(name);
        match self.object.shift_remove(name) {
            Some(value) => T::decode(value, &at),
            None => Err(QmpError::missing(&at.path())),
        }
    }
    /// A member that may be there.
    ///
    /// # Errors
    /// When it is of the wrong type.
    pub fn optional<T: Decode>(&mut self, name: &str) -> QmpResult<Option<T>> {
        let at = self.at.member(name);
        match self.object.shift_remove(name) {
            Some(value) => T::decode(value, &at).map(Some),
            None => self.default(name),
        }
    }
    /// Says what holds for optional members that are not there.
    pub fn set_defaults(&mut self, defaults: Vec<Arc<Global>>) {
        self.defaults = defaults;
    }
    fn default<T: Decode>(&self, name: &str) -> QmpResult<Option<T>> {
        let Some(global) = self.defaults.iter().find(|global| global.property == name) else {
            return Ok(None);
        };
        // Text, whatever the other members are.
        let root = At::root(Mode::Lenient);
        let value = T::decode(Value::String(global.value.clone()), &root.member(name));
        value.map(Some).map_err(|error| global.refuse(&error))
    }
    /// Takes a member as it stands.
    pub fn raw(&mut self, name: &str) -> Option<Value> {
        self.object.shift_remove(name)
    }
    /// Where these members are.
    pub fn at(&self) -> &'a At<'a> {
        self.at
    }
    /// The name of some member that nobody took.
    pub fn left_over(&self) -> Option<&str> {
        self.object.keys().next().map(String::as_str)
    }
    /// Refuses what nobody took.
    ///
    /// # Errors
    /// Names the first such member.
    pub fn finish(self) -> QmpResult<()> {
        match self.left_over() {
            Some(name) => Err(QmpError::unexpected(&self.at.member(name).path())),
            None => Ok(()),
        }
    }
}

impl Decode for String {
    fn decode(value: Value, at: &At) -> QmpResult<Self> {
        match value {
            Value::String(text) => Ok(text),
            Value::Number(number) if at.mode == Mode::Lenient => Ok(number.to_string()),
            _ => Err(at.wrong_type("string")),
        }
    }
}

impl Decode for bool {
    fn decode(value: Value, at: &At) -> QmpResult<Self> {
        match (value, at.mode) {
            (Value::Bool(b), Mode::Strict | Mode::Lenient) => Ok(b),
            (Value::String(text), Mode::Keyval | Mode::Lenient) => match text.as_str() {
                "on" | "yes" | "true" | "y" => Ok(true),
                "off" | "no" | "false" | "n" => Ok(false),
                _ => Err(at.wrong_value("'on' or 'off'")),
            },
            _ => Err(at.wrong_type("boolean")),
        }
    }
}

/// Reads an integer in C notation: decimal, `0x` hexadecimal, `0` octal, with a sign.
pub fn parse_integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let value = if let Some(hex) = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
    {
        parse_digits(hex, 16)?
    } else if digits.len() > 1 && digits.starts_with('0') {
        parse_digits(&digits[1..], 8)?
    } else {
        parse_digits(digits, 10)?
    };
    Some(if negative { -value } else { value })
}

fn parse_digits(digits: &str, radix: u32) -> Option<i128> {
    let plain = digits.bytes().all(|b| b.is_ascii_alphanumeric());
    if plain {
        u64::from_str_radix(digits, radix).ok().map(i128::from)
    } else {
        None
    }
}

fn integer(value: Value, at: &At, expected: &str) -> QmpResult<i128> {
    match value {
        Value::Number(number) if at.mode != Mode::Keyval => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .ok_or_else(|| at.wrong_type("integer")),
        Value::String(text) if at.mode != Mode::Strict => {
            parse_integer(&text).ok_or_else(|| at.wrong_value(expected))
        }
        _ => Err(at.wrong_type("integer")),
    }
}

macro_rules! decode_integer {
    ($($t:ty, $expected:literal);*) => {$(
        impl Decode for $t {
            fn decode(value: Value, at: &At) -> QmpResult<Self> {
                let wide = integer(value, at, $expected)?;
                // As on the wire for decades: a uint64 may be written as a negative int64.
                if stringify!($t) == "u64" && (i128::from(i64::MIN)..0).contains(&wide) {
                    return Ok((wide + (1i128 << 64)) as $t);
                }
                <$t>::try_from(wide).map_err(|_| at.wrong_value($expected))
            }
        }
    )*};
}
decode_integer!(
    i8, "an int8_t"; i16, "an int16_t"; i32, "an int32_t"; i64, "an int64_t";
    u8, "uint8_t"; u16, "uint16_t"; u32, "uint32_t"; u64, "uint64_t"
);

impl Decode for f64 {
    fn decode(value: Value, at: &At) -> QmpResult<Self> {
        match value {
            Value::Number(number) => number.as_f64().ok_or_else(|| at.wrong_type("number")),
            Value::String(text) if at.mode != Mode::Strict => text
                .parse()
                .ok()
                .filter(|n: &f64| n.is_finite())
                .ok_or_else(|| at.wrong_type("number")),
            _ => Err(at.wrong_type("number")),
        }
    }
}

/// JSON `null`.
impl Decode for () {
    fn decode(value: Value, at: &At) -> QmpResult<Self> {
        match value {
            Value::Null => Ok(()),
            Value::String(text) if at.mode == Mode::Keyval && text.is_empty() => Ok(()),
            _ => Err(at.wrong_type("null")),
        }
    }
}

impl Decode for Value {
    fn decode(value: Value, _at: &At) -> QmpResult<Self> {
        Ok(value)
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(value: Value, at: &At) -> QmpResult<Self> {
        let items = match value {
            Value::Array(items) => items,
            // `host-nodes=0` stands for a list of one.
            Value::String(_) if at.mode != Mode::Strict => vec![value],
            _ => return Err(at.wrong_type("array")),
        };
        items
            .into_iter()
            .enumerate()
            .map(|(i, item)| T::decode(item, &at.index(i)))
            .collect()
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(value: Value, at: &At) -> QmpResult<Self> {
        T::decode(value, at).map(Box::new)
    }
}

/// A number of bytes; as text it may have a suffix (`64k`, `1.5G`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Size(pub u64);

impl Decode for Size {
    fn decode(value: Value, at: &At) -> QmpResult<Self> {
        match value {
            Value::String(text) if at.mode != Mode::Strict => crate::keyval::parse_size(&text)
                .map(Size)
                .ok_or_else(|| at.wrong_value("a non-negative number below 2^64")),
            other => u64::decode(other, at).map(Size),
        }
    }
}

impl crate::Encode for Size {
    fn encode(&self, out: &mut String) {
        self.0.encode(out);
    }
}

/// A slot, or slot and function, on a PCI bus: `4`, `"0x4"`, `"04.0"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PciAddr {
    /// 0 to 31.
    pub slot: u8,
    /// 0 to 7.
    pub function: u8,
}

impl PciAddr {
    fn parse(text: &str) -> Option<PciAddr> {
        let (slot, function) = text.split_once('.').unwrap_or((text, "0"));
        let hex = |part: &str| {
            let part = part.strip_prefix("0x").unwrap_or(part);
            u8::from_str_radix(part, 16)
                .ok()
                .filter(|_| !part.starts_with('+'))
        };
        let (slot, function) = (hex(slot)?, hex(function)?);
        (slot < 32 && function < 8).then_some(PciAddr { slot, function })
    }
}

/// As the number that the object model shows: slot times 8 plus function.
impl crate::Encode for PciAddr {
    fn encode(&self, out: &mut String) {
        (u32::from(self.slot) << 3 | u32::from(self.function)).encode(out);
    }
}

impl Decode for PciAddr {
    fn decode(value: Value, at: &At) -> QmpResult<Self> {
        match value {
            Value::Number(number) => number
                .as_u64()
                .filter(|n| *n < 256)
                .map(|n| PciAddr {
                    slot: (n >> 3) as u8,
                    function: (n & 7) as u8,
                })
                .ok_or_else(|| at.wrong_value("a value between 0 and 255")),
            Value::String(text) => PciAddr::parse(&text).ok_or_else(|| {
                QmpError::generic(format!(
                    "Property '{}' doesn't take value '{text}'",
                    at.path()
                ))
            }),
            _ => Err(at.wrong_type("string")),
        }
    }
}

/// Refuses a discriminator or enum value. As in QEMU, and unlike all else, only the last name of
/// the path is told.
pub fn not_accepted(at: &At, value: &str) -> QmpError {
    let name = match at.step {
        Step::Member(name) => name.to_owned(),
        Step::Root | Step::Index(_) => at.path(),
    };
    QmpError::generic(format!(
        "Parameter '{name}' does not accept value '{value}'"
    ))
}
