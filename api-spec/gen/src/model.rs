//! The schema in memory.

use std::collections::HashMap;

/// A reference to a type.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    Named(String),
    List(Box<Type>),
}

/// A member of a struct, of a union's base, or of arguments.
#[derive(Debug, Clone)]
pub struct Member {
    pub name: String,
    pub ty: Type,
    pub optional: bool,
    pub doc: String,
    pub features: Vec<String>,
}

/// What a type is made of.
#[derive(Debug, Clone)]
pub enum Shape {
    Enum(Vec<String>),
    Struct(Vec<Member>),
    Union {
        base: Vec<Member>,
        tag: String,
        branches: Vec<(String, String)>,
    },
    Alternate(Vec<(String, Type)>),
}

/// A named type.
#[derive(Debug, Clone)]
pub struct TypeDef {
    pub name: String,
    pub doc: String,
    pub since: String,
    pub features: Vec<String>,
    pub shape: Shape,
}

/// Arguments of a command or data of an event.
#[derive(Debug, Clone)]
pub enum Arguments {
    None,
    Inline(Vec<Member>),
    Named(String),
}

#[derive(Debug, Clone)]
pub struct CommandDef {
    pub name: String,
    /// Whose trait its method is in.
    pub area: String,
    pub doc: String,
    pub since: String,
    pub features: Vec<String>,
    pub arguments: Arguments,
    pub returns: Option<Type>,
    /// Answered later.
    pub is_async: bool,
    /// Returns JSON text that is ready made.
    pub raw: bool,
    /// Handled by the session itself, never reaches control.
    pub session: bool,
    pub oob: bool,
    pub preconfig: bool,
    /// The type that reads the arguments, where they say more than the schema has.
    pub reader: Option<String>,
    pub request: String,
    pub reply: String,
}

#[derive(Debug, Clone)]
pub struct EventDef {
    pub name: String,
    pub doc: String,
    pub since: String,
    pub data: Vec<Member>,
    /// Milliseconds.
    pub rate: Option<u64>,
    /// The member that, with the name, makes the key of the limit.
    pub rate_key: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Property {
    pub name: String,
    pub ty: String,
    /// JSON text.
    pub default: Option<String>,
    pub doc: String,
}

#[derive(Debug, Clone)]
pub struct DriverDef {
    pub name: String,
    pub doc: String,
    pub parent: String,
    pub is_abstract: bool,
    pub creatable: bool,
    /// Another name that users may call it by.
    pub alias: Option<String>,
    pub bus: Option<String>,
    pub category: String,
    pub properties: Vec<Property>,
}

#[derive(Debug, Clone)]
pub struct OptionDef {
    pub name: String,
    pub doc: String,
    pub usage: String,
    pub has_arg: bool,
    pub implied: Option<String>,
}

/// Everything, in the order of the files.
#[derive(Debug, Default)]
pub struct Schema {
    pub types: Vec<TypeDef>,
    pub index: HashMap<String, usize>,
    pub commands: Vec<CommandDef>,
    pub events: Vec<EventDef>,
    pub drivers: Vec<DriverDef>,
    pub options: Vec<OptionDef>,
}

/// Types that need no definition: name, JSON type, Rust type.
pub const BUILTINS: &[(&str, &str, &str)] = &[
    ("str", "string", "String"),
    ("int", "int", "i64"),
    ("number", "number", "f64"),
    ("bool", "boolean", "bool"),
    ("int8", "int", "i8"),
    ("int16", "int", "i16"),
    ("int32", "int", "i32"),
    ("int64", "int", "i64"),
    ("uint8", "int", "u8"),
    ("uint16", "int", "u16"),
    ("uint32", "int", "u32"),
    ("uint64", "int", "u64"),
    ("size", "int", "crate::decode::Size"),
    ("any", "value", "Value"),
    ("null", "null", "()"),
];

impl Schema {
    pub fn lookup(&self, name: &str) -> Option<&TypeDef> {
        self.index.get(name).and_then(|&i| self.types.get(i))
    }
}

pub fn builtin(name: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    BUILTINS.iter().find(|b| b.0 == name)
}
