//! The `Command` and `Event` enums, the `Commands` traits and their dispatch.

use crate::model::*;
use crate::names::{camel, doc, quoted, snake};
use crate::types::rust_type;

const HEAD: &str = "//! Written by api-spec-gen; change `schema/` instead.
#![allow(clippy::large_enum_variant, clippy::too_many_lines)] // generated

use super::types::*;
use super::drivers::DeviceOptions;
use crate::decode::{At, Decode, DecodeMembers, Members, Mode};
use crate::encode::Members as Out;
use crate::reply::{CommandContext, Empty, RawJson, Reply, Responder};
use crate::tables::RateLimit;
use crate::{Object, QmpError, QmpResult, Value, to_json};
";

pub fn emit(schema: &Schema) -> String {
    let mut out = HEAD.to_string();
    let commands: Vec<_> = schema.commands.iter().filter(|c| !c.session).collect();
    emit_enum(&mut out, &commands);
    emit_decode(&mut out, &commands);
    emit_traits(&mut out, &commands);
    emit_dispatch(&mut out, &commands);
    emit_events(&mut out, &schema.events);
    out
}

fn args_type(command: &CommandDef) -> Option<String> {
    if let Some(reader) = &command.reader {
        return Some(reader.clone());
    }
    match &command.arguments {
        Arguments::None => None,
        Arguments::Inline(_) => Some(format!("{}Args", camel(&command.name))),
        Arguments::Named(name) => Some(camel(name)),
    }
}

fn return_type(command: &CommandDef) -> String {
    match &command.returns {
        _ if command.raw => "RawJson".into(),
        Some(ty) => rust_type(ty),
        None => "Empty".into(),
    }
}

fn emit_enum(out: &mut String, commands: &[&CommandDef]) {
    out.push_str("/// A command with its decoded arguments.\n#[derive(Debug, Clone, PartialEq)]\npub enum Command {\n");
    for command in commands {
        let payload = args_type(command)
            .map(|a| format!("({a})"))
            .unwrap_or_default();
        out.push_str(&format!(
            "    /// `{}`\n    {}{payload},\n",
            command.name,
            camel(&command.name)
        ));
    }
    out.push_str("}\n");
    let names: String = commands
        .iter()
        .map(|c| {
            let payload = if args_type(c).is_some() { "(_)" } else { "" };
            format!(
                "Command::{}{payload} => {},\n",
                camel(&c.name),
                quoted(&c.name)
            )
        })
        .collect();
    out.push_str(&format!(
        "impl Command {{
            /// The command's name on the wire.
            pub const fn name(&self) -> &'static str {{ match self {{ {names} }} }}
        }}\n"
    ));
}

/// Arguments of structs and unions are taken straight from the members. Those with a reader of
/// their own are read with text for any value, as older clients send it.
fn emit_decode(out: &mut String, commands: &[&CommandDef]) {
    let (mut cases, mut own) = (String::new(), String::new());
    for command in commands {
        let variant = camel(&command.name);
        if let Some(reader) = &command.reader {
            own.push_str(&format!(
                "if name == {} {{
                    let value = Value::Object(arguments.unwrap_or_default());
                    return {reader}::decode(value, &At::root(Mode::Lenient)).map(Command::{variant});
                }}\n",
                quoted(&command.name)
            ));
            continue;
        }
        let build = match args_type(command) {
            None => format!("Command::{variant}"),
            Some(args) => format!("Command::{variant}({args}::take(&mut members)?)"),
        };
        cases.push_str(&format!("{} => {build},\n", quoted(&command.name)));
    }
    out.push_str(&format!(
        "/// Decodes a command and its arguments.
        ///
        /// # Errors
        /// CommandNotFound for a name that does not exist; else what is wrong with the arguments.
        pub fn decode_command(name: &str, arguments: Option<Object>) -> QmpResult<Command> {{
            {own}
            let at = At::root(Mode::Strict);
            let mut members = Members::arguments(arguments, &at);
            let command = match name {{
                {cases}
                _ => return Err(QmpError::command_not_found(name)),
            }};
            members.finish()?;
            Ok(command)
        }}\n"
    ));
}

/// A trait for each area, in the order in which they first come, and one that stands for all.
fn emit_traits(out: &mut String, commands: &[&CommandDef]) {
    let mut areas: Vec<&str> = Vec::new();
    for command in commands {
        if !areas.contains(&command.area.as_str()) {
            areas.push(&command.area);
        }
    }
    for area in &areas {
        out.push_str(&format!(
            "/// The commands of the area `{area}`: one method each. A missing one does not compile.\npub trait {}Commands {{\n",
            camel(area)
        ));
        let own = commands.iter().filter(|c| c.area == *area);
        own.for_each(|command| emit_method(out, command));
        out.push_str("}\n");
    }
    let all: Vec<_> = areas.iter().map(|a| camel(a) + "Commands").collect();
    let all = all.join(" + ");
    out.push_str(&format!(
        "/// Who carries commands out, of all areas.\npub trait Commands: {all} {{}}\nimpl<T: {all}> Commands for T {{}}\n"
    ));
}

fn emit_method(out: &mut String, command: &CommandDef) {
    out.push_str(&doc(&command.doc, "    "));
    if !command.is_async {
        out.push_str("    ///\n    /// # Errors\n    /// What the client is told.\n");
    }
    let args = args_type(command)
        .map(|a| format!(", args: {a}"))
        .unwrap_or_default();
    let (name, ret) = (snake(&command.name), return_type(command));
    out.push_str(&if command.is_async {
        format!("    fn {name}(&mut self, cx: &mut CommandContext{args}, reply: Reply<{ret}>);\n")
    } else {
        format!("    fn {name}(&mut self, cx: &mut CommandContext{args}) -> QmpResult<{ret}>;\n")
    });
}

fn emit_dispatch(out: &mut String, commands: &[&CommandDef]) {
    let mut cases = String::new();
    for command in commands {
        let (variant, method) = (camel(&command.name), snake(&command.name));
        let (bind, pass) = match args_type(command) {
            Some(_) => ("(args)", ", args"),
            None => ("", ""),
        };
        if command.is_async {
            cases.push_str(&format!(
                "Command::{variant}{bind} => commands.{method}(cx{pass}, Reply::new(responder)),\n"
            ));
        } else {
            cases.push_str(&format!(
                "Command::{variant}{bind} => responder.send(commands.{method}(cx{pass}).map(|r| to_json(&r))),\n"
            ));
        }
    }
    out.push_str(&format!(
        "/// Has a command carried out and answered.
        pub fn dispatch(
            commands: &mut impl Commands,
            cx: &mut CommandContext,
            command: Command,
            responder: Responder,
        ) {{
            match command {{ {cases} }}
        }}\n"
    ));
}

fn emit_events(out: &mut String, events: &[EventDef]) {
    out.push_str("/// Something that happened, told to every monitor.\n#[derive(Debug, Clone, PartialEq)]\npub enum Event {\n");
    let (mut names, mut data, mut limits) = (String::new(), String::new(), String::new());
    for event in events {
        let variant = camel(&event.name);
        out.push_str(&doc(&event.doc, "    "));
        let fields: Vec<_> = event.data.iter().map(|m| snake(&m.name)).collect();
        if event.data.is_empty() {
            out.push_str(&format!("    {variant},\n"));
            data.push_str(&format!("Event::{variant} => None,\n"));
        } else {
            out.push_str(&format!("    {variant} {{\n"));
            let mut puts = String::new();
            for member in &event.data {
                let ty = rust_type(&member.ty);
                let ty = if member.optional {
                    format!("Option<{ty}>")
                } else {
                    ty
                };
                let text = if member.doc.is_empty() {
                    format!("`{}`.", member.name)
                } else {
                    member.doc.clone()
                };
                out.push_str(&doc(&text, "        "));
                out.push_str(&format!("        {}: {ty},\n", snake(&member.name)));
                let how = if member.optional { "put_some" } else { "put" };
                puts.push_str(&format!(
                    "out.{how}({}, {});\n",
                    quoted(&member.name),
                    snake(&member.name)
                ));
            }
            out.push_str("    },\n");
            data.push_str(&format!(
                "Event::{variant} {{ {} }} => {{ {puts} }}\n",
                fields.join(", ")
            ));
        }
        let rest = if event.data.is_empty() { "" } else { " { .. }" };
        names.push_str(&format!(
            "Event::{variant}{rest} => {},\n",
            quoted(&event.name)
        ));
        match (event.rate, &event.rate_key) {
            (None, _) => limits.push_str(&format!("Event::{variant}{rest} => None,\n")),
            (Some(ms), None) => limits.push_str(&format!(
                "Event::{variant}{rest} => Some(RateLimit {{ interval_ms: {ms}, key: self.name().to_string() }}),\n"
            )),
            (Some(ms), Some(key)) => {
                let key = snake(key);
                limits.push_str(&format!(
                    "Event::{variant} {{ {key}, .. }} => Some(RateLimit {{ interval_ms: {ms}, key: format!(\"{{}}:{{}}\", self.name(), {key}) }}),\n"
                ));
            }
        }
    }
    out.push_str("}\n");
    let data = data.replace("=> None,", "=> return None,");
    out.push_str(&format!(
        "impl Event {{
            /// The event's name on the wire.
            pub const fn name(&self) -> &'static str {{ match self {{ {names} }} }}
            /// JSON text of `data`; events without a payload have none.
            pub fn data_json(&self) -> Option<String> {{
                let mut text = String::new();
                let mut members = Out::open(&mut text);
                let out = &mut members;
                match self {{ {data} }}
                members.close();
                Some(text)
            }}
            /// How often it may be sent, for events that a guest can cause.
            pub fn rate_limit(&self) -> Option<RateLimit> {{ match self {{ {limits} }} }}
        }}\n"
    ));
}
