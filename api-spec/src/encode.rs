//! From generated types to JSON text, without a tree in between.

use crate::{Object, Value};

/// Writes itself as JSON.
pub trait Encode {
    /// Appends the JSON text to `out`.
    fn encode(&self, out: &mut String);
}

/// The JSON text of a value.
pub fn to_json(value: &impl Encode) -> String {
    let mut out = String::new();
    value.encode(&mut out);
    out
}

/// Writes the members of an object, with the commas between them.
pub struct Members<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> Members<'a> {
    /// Opens the object.
    pub fn open(out: &'a mut String) -> Self {
        out.push('{');
        Members { out, first: true }
    }
    /// Writes a member.
    pub fn put(&mut self, name: &str, value: &impl Encode) {
        if !self.first {
            self.out.push_str(", ");
        }
        self.first = false;
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\": ");
        value.encode(self.out);
    }
    /// Writes a member if it is there.
    pub fn put_some(&mut self, name: &str, value: &Option<impl Encode>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }
    /// Closes the object.
    pub fn close(self) {
        self.out.push('}');
    }
}

/// Appends a JSON string in ASCII; whatever is beyond ASCII is escaped.
pub fn encode_str(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            _ => {
                let mut units = [0u16; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}

impl Encode for str {
    fn encode(&self, out: &mut String) {
        encode_str(self, out);
    }
}

impl Encode for String {
    fn encode(&self, out: &mut String) {
        encode_str(self, out);
    }
}

impl Encode for bool {
    fn encode(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

macro_rules! encode_number {
    ($($t:ty),*) => {$(
        impl Encode for $t {
            fn encode(&self, out: &mut String) {
                use std::fmt::Write;
                let _ = write!(out, "{self}");
            }
        }
    )*};
}
encode_number!(i8, i16, i32, i64, u8, u16, u32, u64);

impl Encode for f64 {
    fn encode(&self, out: &mut String) {
        Value::from(*self).encode(out);
    }
}

/// JSON `null`.
impl Encode for () {
    fn encode(&self, out: &mut String) {
        out.push_str("null");
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut String) {
        out.push('[');
        for (i, item) in self.iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            item.encode(out);
        }
        out.push(']');
    }
}

impl<T: Encode + ?Sized> Encode for Box<T> {
    fn encode(&self, out: &mut String) {
        (**self).encode(out);
    }
}

impl Encode for Object {
    fn encode(&self, out: &mut String) {
        let mut members = Members::open(out);
        for (name, value) in self {
            if !members.first {
                members.out.push_str(", ");
            }
            members.first = false;
            encode_str(name, members.out);
            members.out.push_str(": ");
            value.encode(members.out);
        }
        members.close();
    }
}

impl Encode for Value {
    fn encode(&self, out: &mut String) {
        match self {
            Value::String(text) => encode_str(text, out),
            Value::Object(object) => object.encode(out),
            Value::Array(items) => items.encode(out),
            Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&self.to_string()),
        }
    }
}
