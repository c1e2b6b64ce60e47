//! Static tables: commands, drivers, options, examples.

use crate::model::*;
use crate::names::quoted;

const HEAD: &str = "//! Written by api-spec-gen; change `schema/` instead.

use crate::tables::{CommandInfo, DriverInfo, Example, OptionInfo, PropertyInfo};
";

pub fn emit(schema: &Schema) -> String {
    let mut out = HEAD.to_string();
    let mut names: Vec<_> = schema.commands.iter().collect();
    names.sort_by(|a, b| a.name.cmp(&b.name));
    out.push_str("/// Every command, by name.\npub static COMMANDS: &[CommandInfo] = &[\n");
    for c in &names {
        out.push_str(&format!(
            "CommandInfo {{ name: {}, allow_oob: {}, allow_preconfig: {} }},\n",
            quoted(&c.name),
            c.oob,
            c.preconfig
        ));
    }
    out.push_str(
        "];
        /// The facts on a command.
        pub fn command_info(name: &str) -> Option<&'static CommandInfo> {
            COMMANDS.binary_search_by(|c| c.name.cmp(name)).ok().and_then(|i| COMMANDS.get(i))
        }
        /// The names of all events.
        pub static EVENTS: &[&str] = &[\n",
    );
    for e in &schema.events {
        out.push_str(&format!("{},\n", quoted(&e.name)));
    }
    out.push_str(
        "];\n/// Every type of device and object.\npub static DRIVERS: &[DriverInfo] = &[\n",
    );
    for d in &schema.drivers {
        let properties: String = d.properties.iter().map(property).collect();
        out.push_str(&format!(
            "DriverInfo {{ name: {}, parent: {}, is_abstract: {}, user_creatable: {}, alias: {:?}, bus: {:?}, description: {}, category: {}, properties: &[{properties}] }},\n",
            quoted(&d.name), quoted(&d.parent), d.is_abstract, d.creatable, d.alias, d.bus, quoted(&d.doc), quoted(&d.category)
        ));
    }
    out.push_str(
        "];\n/// Every option of the command line.\npub static OPTIONS: &[OptionInfo] = &[\n",
    );
    for o in &schema.options {
        out.push_str(&format!(
            "OptionInfo {{ name: {}, has_arg: {}, usage: {}, description: {}, implied_key: {:?} }},\n",
            quoted(&o.name), o.has_arg, quoted(&o.usage), quoted(&o.doc), o.implied
        ));
    }
    out.push_str("];\n/// The manual's examples.\npub static EXAMPLES: &[Example] = &[\n");
    for c in &schema.commands {
        out.push_str(&format!(
            "Example {{ command: {}, request: {}, reply: {} }},\n",
            quoted(&c.name),
            quoted(&c.request),
            quoted(&c.reply)
        ));
    }
    out.push_str("];\n");
    out
}

fn property(p: &Property) -> String {
    format!(
        "PropertyInfo {{ name: {}, kind: {}, default: {:?}, description: {} }},",
        quoted(&p.name),
        quoted(shown_type(&p.ty)),
        p.default,
        quoted(&p.doc)
    )
}

/// A property's type as the object model shows it: references to what the user names are text or
/// links.
fn shown_type(ty: &str) -> &str {
    match ty {
        "chardev" | "drive" | "netdev" | "pci-addr" => "str",
        "iothread" => "link<iothread>",
        "rng" => "link<rng-backend>",
        "memdev" => "link<memory-backend>",
        other => other,
    }
}
