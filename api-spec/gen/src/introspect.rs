//! The answer of query-qmp-schema: commands and events by name, types by number.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::model::*;

pub fn emit(schema: &Schema) -> String {
    let mut walk = Walk {
        schema,
        ids: HashMap::new(),
        out: Vec::new(),
        next: 0,
    };
    for command in &schema.commands {
        let arg = walk.arguments(&command.name, &command.arguments);
        let ret = match &command.returns {
            Some(ty) => walk.of(ty),
            None => walk.empty(),
        };
        let mut entry =
            json!({"name": command.name, "meta-type": "command", "arg-type": arg, "ret-type": ret});
        if command.oob {
            entry["allow-oob"] = json!(true);
        }
        features(&mut entry, &command.features);
        walk.out.push(entry);
    }
    for event in &schema.events {
        let arg = walk.arguments(&event.name, &Arguments::Inline(event.data.clone()));
        walk.out
            .push(json!({"name": event.name, "meta-type": "event", "arg-type": arg}));
    }
    let mut text = String::from("[");
    for (i, entry) in walk.out.iter().enumerate() {
        if i > 0 {
            text.push_str(", ");
        }
        text.push_str(&entry.to_string());
    }
    text.push(']');
    text
}

struct Walk<'a> {
    schema: &'a Schema,
    ids: HashMap<String, String>,
    out: Vec<Value>,
    next: usize,
}

impl Walk<'_> {
    /// A number for a key that has none yet; `Err` gives the one it has.
    fn fresh(&mut self, key: &str) -> Result<String, String> {
        if let Some(id) = self.ids.get(key) {
            return Err(id.clone());
        }
        let id = self.next.to_string();
        self.next += 1;
        self.ids.insert(key.to_string(), id.clone());
        Ok(id)
    }

    fn empty(&mut self) -> String {
        match self.fresh(":empty") {
            Err(id) => id,
            Ok(id) => {
                self.out
                    .push(json!({"name": id, "meta-type": "object", "members": []}));
                id
            }
        }
    }

    fn arguments(&mut self, of: &str, arguments: &Arguments) -> String {
        match arguments {
            Arguments::None => self.empty(),
            Arguments::Inline(members) if members.is_empty() => self.empty(),
            Arguments::Named(name) => self.of(&Type::Named(name.clone())),
            Arguments::Inline(members) => match self.fresh(&format!(":args:{of}")) {
                Err(id) => id,
                Ok(id) => {
                    let members = self.members(members);
                    self.out
                        .push(json!({"name": id, "meta-type": "object", "members": members}));
                    id
                }
            },
        }
    }

    fn members(&mut self, members: &[Member]) -> Vec<Value> {
        members
            .iter()
            .map(|m| {
                let mut entry = json!({"name": m.name, "type": self.of(&m.ty)});
                if m.optional {
                    entry["default"] = Value::Null;
                }
                features(&mut entry, &m.features);
                entry
            })
            .collect()
    }

    fn of(&mut self, ty: &Type) -> String {
        match ty {
            Type::List(inner) => {
                let element = self.of(inner);
                let name = format!("[{element}]");
                if self.ids.insert(name.clone(), name.clone()).is_none() {
                    self.out
                        .push(json!({"name": name, "meta-type": "array", "element-type": element}));
                }
                name
            }
            Type::Named(name) => match builtin(name) {
                Some((plain, json_type, _)) => {
                    let shown = if *json_type == "int" { "int" } else { plain };
                    self.builtin(shown, json_type)
                }
                None => self.named(name),
            },
        }
    }

    fn builtin(&mut self, name: &str, json_type: &str) -> String {
        if self
            .ids
            .insert(name.to_string(), name.to_string())
            .is_none()
        {
            self.out
                .push(json!({"name": name, "meta-type": "builtin", "json-type": json_type}));
        }
        name.to_string()
    }

    fn named(&mut self, name: &str) -> String {
        let id = match self.fresh(&format!(":type:{name}")) {
            Err(id) => return id,
            Ok(id) => id,
        };
        let Some(def) = self.schema.lookup(name) else {
            return id;
        };
        let mut entry = match &def.shape {
            Shape::Enum(values) => {
                let members: Vec<_> = values.iter().map(|v| json!({"name": v})).collect();
                json!({"name": id, "meta-type": "enum", "members": members, "values": values})
            }
            Shape::Struct(members) => {
                json!({"name": id, "meta-type": "object", "members": self.members(members)})
            }
            Shape::Union {
                base,
                tag,
                branches,
            } => {
                let members = self.members(base);
                let mut variants = Vec::new();
                for (case, branch) in branches {
                    let ty = self.of(&Type::Named(branch.clone()));
                    variants.push(json!({"case": case, "type": ty}));
                }
                let all = base
                    .iter()
                    .find(|m| m.name == *tag)
                    .and_then(|m| match &m.ty {
                        Type::Named(n) => self.schema.lookup(n).map(|t| &t.shape),
                        Type::List(_) => None,
                    });
                if let Some(Shape::Enum(values)) = all {
                    for value in values {
                        if !branches.iter().any(|(case, _)| case == value) {
                            variants.push(json!({"case": value, "type": self.empty()}));
                        }
                    }
                }
                json!({"name": id, "meta-type": "object", "members": members, "tag": tag, "variants": variants})
            }
            Shape::Alternate(branches) => {
                let members: Vec<_> = branches
                    .iter()
                    .map(|(_, ty)| json!({"type": self.of(ty)}))
                    .collect();
                json!({"name": id, "meta-type": "alternate", "members": members})
            }
        };
        features(&mut entry, &def.features);
        self.out.push(entry);
        id
    }
}

fn features(entry: &mut Value, features: &[String]) {
    if !features.is_empty() {
        entry["features"] = json!(features);
    }
}
