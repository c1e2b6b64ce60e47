//! Option arguments of the command line: `key=value,...` text or JSON, into the same trees that
//! QMP arguments are.

use crate::{Decode, Mode, Object, QmpError, QmpResult, Value, decode_value};

/// How a part without `=` is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flags {
    /// It is an error (options that share a type with a QMP command).
    Refused,
    /// `key` is `key=on`, `nokey` is `key=off` (options older than those).
    OnOff,
}

/// A parsed argument.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// `help` or `?` was asked for; the rest as far as it was given.
    Help(Object),
    /// JSON text: typed scalars.
    Json(Object),
    /// `key=value` text: all scalars are strings.
    Text(Object),
}

impl Argument {
    /// Decodes into a generated type.
    ///
    /// # Errors
    /// A message that names the key and what was expected of it.
    pub fn decode<T: Decode>(self) -> QmpResult<T> {
        match self {
            Argument::Json(object) => decode_value(Value::Object(object), Mode::Strict),
            Argument::Text(object) | Argument::Help(object) => {
                decode_value(Value::Object(object), Mode::Keyval)
            }
        }
    }
}

/// Parses JSON (if it starts with `{`) or `key=value` text.
///
/// # Errors
/// A message on the first key that is malformed.
pub fn parse(text: &str, implied_key: Option<&str>, flags: Flags) -> QmpResult<Argument> {
    if text.trim_start().starts_with('{') {
        return parse_json(text).map(Argument::Json);
    }
    let mut help = false;
    let mut root = Object::new();
    for (i, part) in split(text).into_iter().enumerate() {
        let implied = implied_key.filter(|_| i == 0);
        let (key, value) = match part.split_once('=') {
            Some((key, value)) if implied.is_none() || is_key(key) => (key, value.to_string()),
            _ if part == "help" || part == "?" => {
                help = true;
                continue;
            }
            _ => match (implied, flags) {
                (Some(key), _) => (key, part.clone()),
                (None, Flags::Refused) => {
                    return Err(QmpError::generic(format!(
                        "Expected '=' after parameter '{part}'"
                    )));
                }
                (None, Flags::OnOff) => match part.strip_prefix("no") {
                    Some(key) if !key.is_empty() && part != "nodelay" && part != "node" => {
                        (key, "off".to_string())
                    }
                    _ => (part.as_str(), "on".to_string()),
                },
            },
        };
        insert(&mut root, key, value)?;
    }
    let root = listify(Value::Object(root), "")?;
    match root {
        Value::Object(object) if help => Ok(Argument::Help(object)),
        Value::Object(object) => Ok(Argument::Text(object)),
        _ => Err(QmpError::generic("Expected a list of parameters")),
    }
}

/// Parses and decodes.
///
/// # Errors
/// As [`parse`] and [`Argument::decode`].
pub fn decode_keyval<T: Decode>(
    text: &str,
    implied_key: Option<&str>,
    flags: Flags,
) -> QmpResult<T> {
    parse(text, implied_key, flags)?.decode()
}

fn is_key(key: &str) -> bool {
    !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && key
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
}

/// Splits at single commas; a doubled comma is one comma of the value.
fn split(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ',' if chars.peek() == Some(&',') => {
                chars.next();
                part.push(',');
            }
            ',' => parts.push(std::mem::take(&mut part)),
            _ => part.push(c),
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

fn insert(root: &mut Object, key: &str, value: String) -> QmpResult<()> {
    let invalid = || QmpError::generic(format!("Invalid parameter '{key}'"));
    let mut steps = key.split('.').peekable();
    let mut object = root;
    while let Some(step) = steps.next() {
        let plain = step
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if step.is_empty() || !plain || step.len() > 127 {
            return Err(invalid());
        }
        if steps.peek().is_none() {
            if object.get(step).is_some_and(Value::is_object) {
                return Err(QmpError::generic(format!(
                    "Parameters '{key}.*' used inconsistently"
                )));
            }
            object.insert(step.to_string(), Value::String(value));
            return Ok(());
        }
        let next = object
            .entry(step)
            .or_insert_with(|| Value::Object(Object::new()));
        object = next.as_object_mut().ok_or_else(|| {
            QmpError::generic(format!("Parameters '{step}.*' used inconsistently"))
        })?;
    }
    Err(invalid())
}

/// Objects whose keys are all indexes become lists.
fn listify(value: Value, path: &str) -> QmpResult<Value> {
    let Value::Object(object) = value else {
        return Ok(value);
    };
    let numbers = object
        .keys()
        .filter(|k| k.bytes().all(|b| b.is_ascii_digit()))
        .count();
    let mut done = Object::new();
    for (key, value) in object {
        let below = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        done.insert(key, listify(value, &below)?);
    }
    if numbers == 0 {
        return Ok(Value::Object(done));
    }
    if numbers < done.len() {
        return Err(QmpError::generic(format!(
            "Parameters '{path}.*' used inconsistently"
        )));
    }
    (0..done.len())
        .map(|i| {
            done.shift_remove(&i.to_string())
                .ok_or_else(|| QmpError::generic(format!("Parameter '{path}.{i}' missing")))
        })
        .collect::<QmpResult<Vec<_>>>()
        .map(Value::Array)
}

/// Parses JSON with single or double quotes.
///
/// # Errors
/// When it is not one object.
pub fn parse_json(text: &str) -> QmpResult<Object> {
    let plain = normalize_quotes(text);
    match serde_json::from_str(&plain) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(QmpError::generic("JSON object expected")),
        Err(_) => Err(QmpError::generic("JSON parse error, invalid syntax")),
    }
}

/// Rewrites single-quoted strings into double-quoted ones.
pub fn normalize_quotes(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains('\'') {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => {
                quote = Some(c);
                out.push('"');
            }
            (Some(open), c) if c == open => {
                quote = None;
                out.push('"');
            }
            (Some(_), '\\') => match chars.next() {
                Some('\'') => out.push('\''),
                Some(escaped) => {
                    out.push('\\');
                    out.push(escaped);
                }
                None => out.push('\\'),
            },
            (Some('\''), '"') => out.push_str("\\\""),
            (_, c) => out.push(c),
        }
    }
    out.into()
}

/// Reads a size: a number with an optional suffix of `B`, `K`, `M`, `G`, `T`, `P`, `E`.
pub fn parse_size(text: &str) -> Option<u64> {
    parse_size_with(text, 1)
}

/// Reads a size whose unit is `unit` bytes where no suffix says otherwise (`-m 128` is MiB).
pub fn parse_size_with(text: &str, unit: u64) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let value = u64::from_str_radix(hex, 16).ok()?;
        return value.checked_mul(unit);
    }
    let suffix = text.chars().last().filter(char::is_ascii_alphabetic);
    let digits = match suffix {
        Some(_) => &text[..text.len().checked_sub(1)?],
        None => text,
    };
    let unit = match suffix.map(|c| c.to_ascii_uppercase()) {
        None => unit,
        Some('B') => 1,
        Some('K') => 1 << 10,
        Some('M') => 1 << 20,
        Some('G') => 1 << 30,
        Some('T') => 1 << 40,
        Some('P') => 1 << 50,
        Some('E') => 1 << 60,
        Some(_) => return None,
    };
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, Some(fraction)),
        Some(_) => return None,
        None => (digits, None),
    };
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !plain(whole) {
        return None;
    }
    let bytes = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let Some(fraction) = fraction else {
        return Some(bytes);
    };
    if !plain(fraction) || unit == 1 {
        return None;
    }
    let part = format!("0.{fraction}").parse::<f64>().ok()? * unit as f64;
    bytes.checked_add(part as u64)
}

#[cfg(test)]
#[path = "keyval_test.rs"]
mod tests;
