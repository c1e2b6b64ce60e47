//! From JSON files to the model, with every reference checked.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};

use crate::model::*;

type Entry = Map<String, Value>;

pub fn load(folder: &Path) -> Result<Schema> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .with_context(|| format!("Cannot read {}", folder.display()))?
        .map(|e| e.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|p| p.extension().is_some_and(|e| e == "json"));
    files.sort();
    let mut entries = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file)?;
        let mut list: Vec<Entry> = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a list of entries", file.display()))?;
        mark_areas(&mut list);
        for entry in list {
            entries.push((file.clone(), entry));
        }
    }
    let sets = property_sets(&entries)?;
    let mut schema = Schema::default();
    for (file, entry) in entries {
        let name = entry
            .values()
            .next()
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_string();
        add(&mut schema, &sets, entry)
            .with_context(|| format!("{}: entry '{name}'", file.display()))?;
    }
    check(&schema)?;
    Ok(schema)
}

/// Puts the area that the entry `{"area": name}` gives to those behind it into each of them.
fn mark_areas(list: &mut [Entry]) {
    let mut area = None;
    for entry in list {
        if let Some(name) = entry.get("area") {
            area = Some(name.clone());
        } else if let Some(area) = &area {
            entry.insert("area".into(), area.clone());
        }
    }
}

type Sets = std::collections::HashMap<String, Vec<Property>>;

fn property_sets(entries: &[(std::path::PathBuf, Entry)]) -> Result<Sets> {
    let mut sets = Sets::new();
    for (_, entry) in entries {
        if let Some(name) = entry.get("property-set") {
            sets.insert(string(name)?, properties(entry)?);
        }
    }
    Ok(sets)
}

fn add(schema: &mut Schema, sets: &Sets, entry: Entry) -> Result<()> {
    let (kind, name) = entry.iter().next().ok_or_else(|| anyhow!("Empty entry"))?;
    let (kind, name) = (kind.clone(), string(name)?);
    match kind.as_str() {
        "enum" | "struct" | "union" | "alternate" => add_type(schema, &kind, name, &entry),
        "command" => {
            schema.commands.push(command(name, &entry)?);
            Ok(())
        }
        "event" => {
            schema.events.push(event(name, &entry)?);
            Ok(())
        }
        "driver" => {
            schema.drivers.push(driver(name, &entry, sets)?);
            Ok(())
        }
        "option" => {
            schema.options.push(OptionDef {
                name,
                doc: text(&entry, "doc"),
                usage: text(&entry, "usage"),
                has_arg: flag(&entry, "arg"),
                implied: entry.get("implied").map(string).transpose()?,
            });
            Ok(())
        }
        "property-set" | "area" => Ok(()),
        other => bail!("Unknown kind of entry '{other}'"),
    }
}

fn add_type(schema: &mut Schema, kind: &str, name: String, entry: &Entry) -> Result<()> {
    let data = entry
        .get("data")
        .ok_or_else(|| anyhow!("'data' is missing"))?;
    let shape = match kind {
        "enum" => Shape::Enum(strings(data)?),
        "struct" => {
            let mut all = base_members(schema, entry)?;
            all.extend(members(entry, "data")?);
            Shape::Struct(all)
        }
        "union" => Shape::Union {
            base: base_members(schema, entry)?,
            tag: text(entry, "discriminator"),
            branches: pairs(data)?
                .into_iter()
                .map(|(k, v)| Ok((k, string(&v)?)))
                .collect::<Result<_>>()?,
        },
        _ => Shape::Alternate(
            pairs(data)?
                .into_iter()
                .map(|(k, v)| Ok((k, type_of(&v)?)))
                .collect::<Result<_>>()?,
        ),
    };
    let def = TypeDef {
        doc: text(entry, "doc"),
        since: text(entry, "since"),
        features: features(entry)?,
        shape,
        name: name.clone(),
    };
    if schema.index.insert(name, schema.types.len()).is_some() {
        bail!("Defined twice");
    }
    schema.types.push(def);
    Ok(())
}

fn base_members(schema: &Schema, entry: &Entry) -> Result<Vec<Member>> {
    match entry.get("base") {
        None => Ok(Vec::new()),
        Some(Value::String(base)) => match schema.lookup(base).map(|t| &t.shape) {
            Some(Shape::Struct(members)) => Ok(members.clone()),
            _ => bail!("Base '{base}' is no struct defined before"),
        },
        Some(_) => members(entry, "base"),
    }
}

/// Members from `{"name": type, "*optional": type}`; texts come from the entry's `members`.
fn members(entry: &Entry, key: &str) -> Result<Vec<Member>> {
    let Some(data) = entry.get(key) else {
        return Ok(Vec::new());
    };
    let docs = entry.get("members").and_then(Value::as_object);
    pairs(data)?
        .into_iter()
        .map(|(key, value)| {
            let name = key.trim_start_matches('*').to_string();
            let doc = docs
                .and_then(|d| d.get(&name))
                .and_then(Value::as_str)
                .unwrap_or_default();
            let (ty, features) = match &value {
                Value::Object(o) => (
                    type_of(
                        o.get("type")
                            .ok_or_else(|| anyhow!("'{name}' has no type"))?,
                    )?,
                    features(o)?,
                ),
                plain => (type_of(plain)?, Vec::new()),
            };
            Ok(Member {
                optional: key.starts_with('*'),
                doc: doc.into(),
                name,
                ty,
                features,
            })
        })
        .collect()
}

fn command(name: String, entry: &Entry) -> Result<CommandDef> {
    let example = entry.get("example").and_then(Value::as_object);
    let part = |key: &str| example.and_then(|e| e.get(key)).map(Value::to_string);
    let request = match part("arguments") {
        Some(arguments) => format!(r#"{{"execute": "{name}", "arguments": {arguments}}}"#),
        None => format!(r#"{{"execute": "{name}"}}"#),
    };
    Ok(CommandDef {
        area: entry
            .get("area")
            .map(string)
            .transpose()?
            .ok_or_else(|| anyhow!("No area stands before it"))?,
        doc: text(entry, "doc"),
        since: text(entry, "since"),
        features: features(entry)?,
        arguments: match entry.get("data") {
            None => Arguments::None,
            Some(Value::String(named)) => Arguments::Named(named.clone()),
            Some(_) => Arguments::Inline(members(entry, "data")?),
        },
        returns: entry.get("returns").map(type_of).transpose()?,
        is_async: flag(entry, "async"),
        raw: flag(entry, "raw"),
        session: flag(entry, "session"),
        oob: flag(entry, "oob"),
        preconfig: flag(entry, "preconfig"),
        reader: entry.get("reader").map(string).transpose()?,
        request,
        reply: match part("error") {
            Some(error) => format!(r#"{{"error": {error}}}"#),
            None => format!(
                r#"{{"return": {}}}"#,
                part("returns").unwrap_or_else(|| "{}".into())
            ),
        },
        name,
    })
}

fn event(name: String, entry: &Entry) -> Result<EventDef> {
    Ok(EventDef {
        doc: text(entry, "doc"),
        since: text(entry, "since"),
        data: members(entry, "data")?,
        rate: entry.get("rate").and_then(Value::as_u64),
        rate_key: entry.get("rate-key").map(string).transpose()?,
        name,
    })
}

fn driver(name: String, entry: &Entry, sets: &Sets) -> Result<DriverDef> {
    let mut all = properties(entry)?;
    for set in entry
        .get("sets")
        .map(strings)
        .transpose()?
        .unwrap_or_default()
    {
        let found = sets
            .get(&set)
            .ok_or_else(|| anyhow!("No property set '{set}'"))?;
        for property in found {
            if !all.iter().any(|p| p.name == property.name) {
                all.push(property.clone());
            }
        }
    }
    Ok(DriverDef {
        name,
        doc: text(entry, "doc"),
        parent: entry
            .get("parent")
            .map(string)
            .transpose()?
            .unwrap_or_else(|| "device".into()),
        is_abstract: flag(entry, "abstract"),
        creatable: flag(entry, "creatable"),
        alias: entry.get("alias").map(string).transpose()?,
        bus: entry.get("bus").map(string).transpose()?,
        category: entry
            .get("category")
            .map(string)
            .transpose()?
            .unwrap_or_else(|| "Misc".into()),
        properties: all,
    })
}

fn properties(entry: &Entry) -> Result<Vec<Property>> {
    let Some(data) = entry.get("properties") else {
        return Ok(Vec::new());
    };
    pairs(data)?
        .into_iter()
        .map(|(name, value)| match value {
            Value::Array(parts) => {
                let part = |i: usize| parts.get(i).and_then(Value::as_str).map(str::to_string);
                Ok(Property {
                    ty: part(0).ok_or_else(|| anyhow!("Property '{name}' has no type"))?,
                    doc: part(1).unwrap_or_default(),
                    default: parts.get(2).map(Value::to_string),
                    name,
                })
            }
            _ => bail!("Property '{name}' is not [type, text, default]"),
        })
        .collect()
}

/// Every reference points at something, every union's branches are values of its tag.
fn check(schema: &Schema) -> Result<()> {
    let known = |ty: &Type| -> Result<()> {
        let mut ty = ty;
        while let Type::List(inner) = ty {
            ty = inner;
        }
        match ty {
            Type::Named(n) if builtin(n).is_some() || schema.lookup(n).is_some() => Ok(()),
            other => bail!("Unknown type {other:?}"),
        }
    };
    let all = |members: &[Member], of: &str| -> Result<()> {
        members
            .iter()
            .try_for_each(|m| known(&m.ty).with_context(|| format!("{of}.{}", m.name)))
    };
    for def in &schema.types {
        match &def.shape {
            Shape::Enum(_) => {}
            Shape::Struct(members) => all(members, &def.name)?,
            Shape::Union {
                base,
                tag,
                branches,
            } => {
                all(base, &def.name)?;
                let Some(Type::Named(ty)) = base.iter().find(|m| m.name == *tag).map(|m| &m.ty)
                else {
                    bail!("{}: tag '{tag}' is not in the base", def.name)
                };
                let Some(Shape::Enum(values)) = schema.lookup(ty).map(|t| &t.shape) else {
                    bail!("{}: tag '{tag}' is no enum", def.name)
                };
                for (case, branch) in branches {
                    if !values.contains(case) {
                        bail!("{}: '{case}' is no value of {ty}", def.name);
                    }
                    known(&Type::Named(branch.clone()))?;
                }
            }
            Shape::Alternate(branches) => branches.iter().try_for_each(|(_, ty)| known(ty))?,
        }
        if def.doc.is_empty() {
            bail!("{} has no documentation", def.name);
        }
    }
    for command in &schema.commands {
        match &command.arguments {
            Arguments::None => {}
            Arguments::Inline(members) => all(members, &command.name)?,
            Arguments::Named(name) => known(&Type::Named(name.clone()))?,
        }
        command
            .returns
            .iter()
            .try_for_each(known)
            .with_context(|| command.name.clone())?;
        if command.doc.is_empty() {
            bail!("{} has no documentation", command.name);
        }
    }
    schema.events.iter().try_for_each(|e| all(&e.data, &e.name))
}

fn string(value: &Value) -> Result<String> {
    value
        .as_str()
        .map(str::to_string)
        .ok_or_else(|| anyhow!("Not a string: {value}"))
}

fn strings(value: &Value) -> Result<Vec<String>> {
    value
        .as_array()
        .ok_or_else(|| anyhow!("Not a list: {value}"))?
        .iter()
        .map(string)
        .collect()
}

fn pairs(value: &Value) -> Result<Vec<(String, Value)>> {
    let object = value
        .as_object()
        .ok_or_else(|| anyhow!("Not an object: {value}"))?;
    Ok(object.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
}

fn features(entry: &Entry) -> Result<Vec<String>> {
    entry
        .get("features")
        .map(strings)
        .transpose()
        .map(Option::unwrap_or_default)
}

fn text(entry: &Entry, key: &str) -> String {
    entry
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_string()
}

fn flag(entry: &Entry, key: &str) -> bool {
    entry.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn type_of(value: &Value) -> Result<Type> {
    match value {
        Value::String(name) => Ok(Type::Named(name.clone())),
        Value::Array(items) if items.len() == 1 => Ok(Type::List(Box::new(type_of(&items[0])?))),
        other => bail!("Not a type: {other}"),
    }
}
