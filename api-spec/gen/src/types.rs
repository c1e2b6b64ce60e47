//! Rust types with their decoding and encoding.

use crate::model::*;
use crate::names::{camel, doc, quoted, snake};

const HEAD: &str = "//! Written by api-spec-gen; change `schema/` instead.
#![allow(clippy::large_enum_variant, clippy::too_many_lines)] // generated

use crate::decode::{At, Decode, DecodeMembers, Members, not_accepted};
use crate::encode::{Encode, Members as Out};
use crate::{QmpResult, Value};

/// Writes its members into an object that may hold others' members too.
pub trait EncodeMembers {
    /// Appends its members.
    fn put(&self, out: &mut Out);
}

macro_rules! object {
    ($name:ident) => {
        impl Decode for $name {
            fn decode(value: Value, at: &At) -> QmpResult<Self> {
                let mut members = Members::open(value, at)?;
                let taken = Self::take(&mut members)?;
                members.finish()?;
                Ok(taken)
            }
        }
        impl Encode for $name {
            fn encode(&self, out: &mut String) {
                let mut members = Out::open(out);
                self.put(&mut members);
                members.close();
            }
        }
    };
}

macro_rules! names {
    ($name:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        impl $name {
            /// Every value.
            pub const ALL: &[$name] = &[$($name::$variant),*];
            /// The value's name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }
        }
        impl Decode for $name {
            fn decode(value: Value, at: &At) -> QmpResult<Self> {
                let text = value.as_str().ok_or_else(|| at.wrong_type(\"string\"))?;
                match text { $($text => Ok($name::$variant),)* _ => Err(not_accepted(at, text)) }
            }
        }
        impl Encode for $name {
            fn encode(&self, out: &mut String) {
                self.name().encode(out);
            }
        }
    };
}
";

pub fn emit(schema: &Schema) -> String {
    let mut out = HEAD.to_string();
    for def in &schema.types {
        out.push('\n');
        out.push_str(&doc(&def.doc, ""));
        match &def.shape {
            Shape::Enum(values) => emit_enum(&mut out, &def.name, values),
            Shape::Struct(members) => emit_struct(&mut out, &def.name, members),
            Shape::Union {
                base,
                tag,
                branches,
            } => {
                emit_union(&mut out, schema, &def.name, base, tag, branches);
            }
            Shape::Alternate(branches) => emit_alternate(&mut out, schema, &def.name, branches),
        }
    }
    for command in &schema.commands {
        if let (Arguments::Inline(members), None) = (&command.arguments, &command.reader) {
            out.push_str(&doc(&format!("Arguments of `{}`.", command.name), ""));
            emit_struct(&mut out, &format!("{}Args", camel(&command.name)), members);
        }
    }
    out
}

/// The Rust name of a type.
pub fn rust_type(ty: &Type) -> String {
    match ty {
        Type::List(inner) => format!("Vec<{}>", rust_type(inner)),
        Type::Named(name) => {
            builtin(name).map_or_else(|| camel(name), |(_, _, rust)| (*rust).to_string())
        }
    }
}

/// A struct that holds itself is boxed.
fn field_type(member: &Member, within: &str) -> String {
    let plain = rust_type(&member.ty);
    let plain = if plain == within {
        format!("Box<{plain}>")
    } else {
        plain
    };
    if member.optional {
        format!("Option<{plain}>")
    } else {
        plain
    }
}

fn member_doc(member: &Member) -> String {
    if member.doc.is_empty() {
        doc(&format!("`{}`.", member.name), "    ")
    } else {
        doc(&member.doc, "    ")
    }
}

fn fields(members: &[Member], within: &str) -> String {
    members
        .iter()
        .map(|m| {
            format!(
                "{}    pub {}: {},\n",
                member_doc(m),
                snake(&m.name),
                field_type(m, within)
            )
        })
        .collect()
}

fn take(member: &Member) -> String {
    let how = if member.optional {
        "optional"
    } else {
        "required"
    };
    format!(
        "{}: members.{how}({})?,\n",
        snake(&member.name),
        quoted(&member.name)
    )
}

fn put(member: &Member) -> String {
    let how = if member.optional { "put_some" } else { "put" };
    format!(
        "out.{how}({}, &self.{});\n",
        quoted(&member.name),
        snake(&member.name)
    )
}

fn emit_enum(out: &mut String, name: &str, values: &[String]) {
    let rust = camel(name);
    out.push_str("#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]\n");
    out.push_str(&format!("pub enum {rust} {{\n"));
    for value in values {
        out.push_str(&format!("    /// `{value}`\n    {},\n", camel(value)));
    }
    out.push_str("}\n");
    let list: Vec<_> = values
        .iter()
        .map(|v| format!("{} = {}", camel(v), quoted(v)))
        .collect();
    out.push_str(&format!("names!({rust} {{ {} }});\n", list.join(", ")));
}

fn emit_struct(out: &mut String, name: &str, members: &[Member]) {
    let rust = camel(name);
    let default = if members.iter().all(|m| m.optional) {
        ", Default"
    } else {
        ""
    };
    out.push_str(&format!("#[derive(Debug, Clone, PartialEq{default})]\n"));
    out.push_str(&format!(
        "pub struct {rust} {{\n{}}}\n",
        fields(members, &rust)
    ));
    let unused = if members.is_empty() { "_" } else { "" };
    out.push_str(&format!(
        "impl DecodeMembers for {rust} {{
            fn take({unused}members: &mut Members) -> QmpResult<Self> {{ Ok({rust} {{ {} }}) }}
        }}
        impl EncodeMembers for {rust} {{
            fn put(&self, {unused}out: &mut Out) {{ {} }}
        }}
        object!({rust});\n",
        members.iter().map(take).collect::<String>(),
        members.iter().map(put).collect::<String>(),
    ));
}

fn emit_union(
    out: &mut String,
    schema: &Schema,
    name: &str,
    base: &[Member],
    tag: &str,
    branches: &[(String, String)],
) {
    let (rust, cases) = (camel(name), format!("{}Branch", camel(name)));
    let Some(tag_member) = base.iter().find(|m| m.name == tag) else {
        return;
    };
    let tag_type = rust_type(&tag_member.ty);
    let Type::Named(tag_name) = &tag_member.ty else {
        return;
    };
    let Some(Shape::Enum(values)) = schema.lookup(tag_name).map(|t| &t.shape) else {
        return;
    };
    let rest: Vec<_> = base.iter().filter(|m| m.name != tag).cloned().collect();
    let branch_of = |v: &String| {
        branches
            .iter()
            .find(|(case, _)| case == v)
            .map(|b| camel(&b.1))
    };

    out.push_str("#[derive(Debug, Clone, PartialEq)]\n");
    out.push_str(&format!(
        "pub struct {rust} {{\n{}    /// What `{tag}` says, with what belongs to it.\n    pub {}: {cases},\n}}\n",
        fields(&rest, &rust),
        snake(tag),
    ));
    out.push_str(&format!(
        "/// The branches of [`{rust}`].\n#[derive(Debug, Clone, PartialEq)]\npub enum {cases} {{\n"
    ));
    for value in values {
        let payload = branch_of(value)
            .map(|b| format!("({b})"))
            .unwrap_or_default();
        out.push_str(&format!(
            "    /// `{value}`\n    {}{payload},\n",
            camel(value)
        ));
    }
    out.push_str("}\n");
    let mut takes = String::new();
    let mut puts = String::new();
    let mut kinds = String::new();
    for value in values {
        let variant = camel(value);
        match branch_of(value) {
            Some(branch) => {
                takes.push_str(&format!(
                    "{tag_type}::{variant} => {cases}::{variant}({branch}::take(members)?),\n"
                ));
                puts.push_str(&format!("{cases}::{variant}(branch) => branch.put(out),\n"));
                kinds.push_str(&format!(
                    "{cases}::{variant}(_) => {tag_type}::{variant},\n"
                ));
            }
            None => {
                takes.push_str(&format!("{tag_type}::{variant} => {cases}::{variant},\n"));
                puts.push_str(&format!("{cases}::{variant} => {{}}\n"));
                kinds.push_str(&format!("{cases}::{variant} => {tag_type}::{variant},\n"));
            }
        }
    }
    let bind: String = rest
        .iter()
        .map(|m| {
            let how = if m.optional { "optional" } else { "required" };
            format!(
                "let {} = members.{how}({})?;\n",
                snake(&m.name),
                quoted(&m.name)
            )
        })
        .collect();
    let names: String = rest
        .iter()
        .map(|m| format!("{}, ", snake(&m.name)))
        .collect();
    let tag_take = if tag_member.optional {
        return;
    } else {
        format!("members.required::<{tag_type}>({})?", quoted(tag))
    };
    out.push_str(&format!(
        "impl {cases} {{
            /// The tag alone.
            pub const fn kind(&self) -> {tag_type} {{ match self {{ {kinds} }} }}
        }}
        impl DecodeMembers for {rust} {{
            fn take(members: &mut Members) -> QmpResult<Self> {{
                let kind = {tag_take};
                {bind}
                let {field} = match kind {{ {takes} }};
                Ok({rust} {{ {names} {field} }})
            }}
        }}
        impl EncodeMembers for {rust} {{
            fn put(&self, out: &mut Out) {{
                {puts_base}
                out.put({tag_text}, &self.{field}.kind());
                match &self.{field} {{ {puts} }}
            }}
        }}
        object!({rust});\n",
        field = snake(tag),
        tag_text = quoted(tag),
        puts_base = rest.iter().map(put).collect::<String>(),
    ));
}

fn emit_alternate(out: &mut String, schema: &Schema, name: &str, branches: &[(String, Type)]) {
    let rust = camel(name);
    out.push_str("#[derive(Debug, Clone, PartialEq)]\n");
    out.push_str(&format!("pub enum {rust} {{\n"));
    let mut decodes = String::new();
    let mut encodes = String::new();
    let mut expected = Vec::new();
    for (case, ty) in branches {
        let variant = camel(case);
        let json = json_type(schema, ty);
        expected.push(json);
        let pattern = match json {
            "string" => "Value::String(_)",
            "object" => "Value::Object(_)",
            "boolean" => "Value::Bool(_)",
            "int" | "number" => "Value::Number(_)",
            "array" => "Value::Array(_)",
            _ => "Value::Null",
        };
        let boxed = json == "object";
        let inner = if boxed {
            format!("Box<{}>", rust_type(ty))
        } else {
            rust_type(ty)
        };
        if json == "null" {
            out.push_str(&format!("    /// `{case}`\n    {variant},\n"));
            decodes.push_str(&format!("{pattern} => Ok({rust}::{variant}),\n"));
            encodes.push_str(&format!("{rust}::{variant} => ().encode(out),\n"));
        } else {
            out.push_str(&format!("    /// `{case}`\n    {variant}({inner}),\n"));
            decodes.push_str(&format!(
                "{pattern} => Decode::decode(value, at).map({rust}::{variant}),\n"
            ));
            encodes.push_str(&format!("{rust}::{variant}(inner) => inner.encode(out),\n"));
        }
    }
    out.push_str("}\n");
    out.push_str(&format!(
        "impl Decode for {rust} {{
            fn decode(value: Value, at: &At) -> QmpResult<Self> {{
                match value {{ {decodes} _ => Err(at.wrong_type({})) }}
            }}
        }}
        impl Encode for {rust} {{
            fn encode(&self, out: &mut String) {{ match self {{ {encodes} }} }}
        }}\n",
        quoted(&expected.join(" or ")),
    ));
}

fn json_type(schema: &Schema, ty: &Type) -> &'static str {
    match ty {
        Type::List(_) => "array",
        Type::Named(name) => match builtin(name) {
            Some((_, json, _)) => json,
            None => match schema.lookup(name).map(|t| &t.shape) {
                Some(Shape::Enum(_)) => "string",
                _ => "object",
            },
        },
    }
}
