//! Typed properties of drivers, and the union over them.

use crate::model::*;
use crate::names::{camel, doc, quoted, snake};

const HEAD: &str = "//! Written by api-spec-gen; change `schema/` instead.
#![allow(clippy::large_enum_variant)] // generated

use super::types::*;
use crate::decode::{At, Decode, Members};
use crate::encode::Members as Out;
use crate::{QmpError, QmpResult, Value};
";

pub fn emit(schema: &Schema) -> String {
    let mut out = HEAD.to_string();
    let drivers: Vec<_> = schema.drivers.iter().filter(|d| d.creatable).collect();
    for driver in &drivers {
        emit_props(&mut out, schema, driver);
    }
    out.push_str("/// A driver with its typed properties.\n#[derive(Debug, Clone, PartialEq)]\npub enum DeviceDriver {\n");
    let (mut names, mut cases, mut takes) = (String::new(), String::new(), String::new());
    let (mut puts, mut places) = (String::new(), String::new());
    for driver in &drivers {
        let variant = camel(&driver.name);
        names.push_str(&format!(
            "DeviceDriver::{variant}(_) => {},\n",
            quoted(&driver.name)
        ));
        puts.push_str(&format!(
            "DeviceDriver::{variant}(props) => props.put(&mut out),\n"
        ));
        let has = |name: &str| driver.properties.iter().any(|p| p.name == name);
        places.push_str(&if has("addr") && has("multifunction") {
            format!("DeviceDriver::{variant}(props) => (props.addr, props.multifunction),\n")
        } else {
            format!("DeviceDriver::{variant}(_) => (None, false),\n")
        });
        cases.push_str(&format!(
            "    /// `{}`\n    {variant}({variant}Props),\n",
            driver.name
        ));
        let alias = driver.alias.as_deref();
        let alias = alias.map_or_else(String::new, |alias| format!(" | {}", quoted(alias)));
        takes.push_str(&format!(
            "{}{alias} => DeviceDriver::{variant}({variant}Props::take(&mut members)?),\n",
            quoted(&driver.name)
        ));
    }
    out.push_str(&format!(
        "{cases}}}
        impl DeviceDriver {{
            /// The driver's type name.
            pub const fn name(&self) -> &'static str {{ match self {{ {names} }} }}
            /// For PCI functions: the place asked for, and whether the slot has more functions.
            pub const fn pci_place(&self) -> (Option<crate::decode::PciAddr>, bool) {{
                match self {{ {places} }}
            }}
            /// The properties that have a value, as the JSON text of an object.
            pub fn properties_json(&self) -> String {{
                let mut text = String::new();
                let mut out = Out::open(&mut text);
                match self {{ {puts} }}
                out.close();
                text
            }}
        }}
        /// What `-device` and device_add take.
        #[derive(Debug, Clone, PartialEq)]
        pub struct DeviceOptions {{
            /// The device's id.
            pub id: Option<String>,
            /// The bus it goes on.
            pub bus: Option<String>,
            /// What it is.
            pub driver: DeviceDriver,
        }}
        impl Decode for DeviceOptions {{
            fn decode(value: Value, at: &At) -> QmpResult<Self> {{
                let mut members = Members::open(value, at)?;
                let name: String = members.required(\"driver\")?;
                let id = members.optional(\"id\")?;
                let bus = members.optional(\"bus\")?;
                members.set_defaults(crate::globals::of_driver(&name)?);
                let driver = match name.as_str() {{
                    {takes}
                    _ => return Err(QmpError::generic(format!(
                        \"'{{name}}' is not a valid device model name\"
                    ))),
                }};
                if let Some(extra) = members.left_over() {{
                    return Err(QmpError::generic(format!(\"Property '{{name}}.{{extra}}' not found\")));
                }}
                Ok(DeviceOptions {{ id, bus, driver }})
            }}
        }}\n"
    ));
    out
}

/// What a property's type is in Rust, and in `take`.
fn rust_property(schema: &Schema, ty: &str) -> String {
    match ty {
        "chardev" | "drive" | "iothread" | "rng" | "memdev" | "netdev" => "String".into(),
        "pci-addr" => "crate::decode::PciAddr".into(),
        _ => match builtin(ty) {
            Some((_, _, rust)) => (*rust).to_string(),
            None if schema.lookup(ty).is_some() => camel(ty),
            None => "String".into(),
        },
    }
}

fn default_value(schema: &Schema, property: &Property) -> Option<String> {
    let text = property.default.as_deref()?;
    Some(match property.ty.as_str() {
        "str" => format!("String::from({text})"),
        "size" => format!("crate::decode::Size({text})"),
        ty if schema.lookup(ty).is_some() => {
            format!("{}::{}", camel(ty), camel(text.trim_matches('"')))
        }
        _ => text.to_string(),
    })
}

fn emit_props(out: &mut String, schema: &Schema, driver: &DriverDef) {
    let rust = format!("{}Props", camel(&driver.name));
    out.push_str(&doc(&format!("Properties of `{}`.", driver.name), ""));
    out.push_str(&format!(
        "#[derive(Debug, Clone, PartialEq)]\npub struct {rust} {{\n"
    ));
    let (mut takes, mut puts) = (String::new(), String::new());
    for property in &driver.properties {
        let (field, ty) = (snake(&property.name), rust_property(schema, &property.ty));
        let text = if property.doc.is_empty() {
            format!("`{}`.", property.name)
        } else {
            property.doc.clone()
        };
        out.push_str(&doc(&text, "    "));
        match default_value(schema, property) {
            Some(default) => {
                out.push_str(&format!("    pub {field}: {ty},\n"));
                puts.push_str(&format!(
                    "out.put({}, &self.{field});\n",
                    quoted(&property.name)
                ));
                takes.push_str(&format!(
                    "{field}: members.optional({})?.unwrap_or({default}),\n",
                    quoted(&property.name)
                ));
            }
            None => {
                out.push_str(&format!("    pub {field}: Option<{ty}>,\n"));
                puts.push_str(&format!(
                    "out.put_some({}, &self.{field});\n",
                    quoted(&property.name)
                ));
                takes.push_str(&format!(
                    "{field}: members.optional({})?,\n",
                    quoted(&property.name)
                ));
            }
        }
    }
    let unused = if driver.properties.is_empty() {
        "_"
    } else {
        ""
    };
    out.push_str(&format!(
        "}}
        impl {rust} {{
            fn take({unused}members: &mut Members) -> QmpResult<Self> {{ Ok({rust} {{ {takes} }}) }}
            fn put(&self, {unused}out: &mut Out) {{ {puts} }}
        }}\n"
    ));
}
