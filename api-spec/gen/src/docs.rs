//! The reference manual, in Markdown.

use crate::model::*;

pub fn emit(schema: &Schema) -> String {
    let mut out = String::from(
        "# QMP reference\n\nWritten by `scripts/regen-api` from `api-spec/schema`; change that instead. \
         Types without a link are JSON's own. `*name` is optional.\n",
    );
    out.push_str("\n## Commands\n");
    let mut commands: Vec<_> = schema.commands.iter().collect();
    commands.sort_by(|a, b| a.name.cmp(&b.name));
    for c in commands {
        out.push_str(&format!(
            "\n### {}\n\n{}\n",
            c.name,
            notes(&c.doc, &c.since, &c.features)
        ));
        match &c.arguments {
            Arguments::None => {}
            Arguments::Named(name) => out.push_str(&format!(
                "\nArguments: {}.\n",
                link(&Type::Named(name.clone()))
            )),
            Arguments::Inline(members) => table(&mut out, members),
        }
        if let Some(ty) = &c.returns {
            out.push_str(&format!("\nReturns {}.\n", link(ty)));
        }
        out.push_str(&format!("\n```\n-> {}\n<- {}\n```\n", c.request, c.reply));
    }
    out.push_str("\n## Events\n");
    for e in &schema.events {
        out.push_str(&format!(
            "\n### {}\n\n{}\n",
            e.name,
            notes(&e.doc, &e.since, &[])
        ));
        if let Some(ms) = e.rate {
            out.push_str(&format!(
                "\nAt most one in {ms} ms; the last one is kept.\n"
            ));
        }
        table(&mut out, &e.data);
    }
    out.push_str("\n## Types\n");
    let mut types: Vec<_> = schema.types.iter().collect();
    types.sort_by(|a, b| a.name.cmp(&b.name));
    for t in types {
        out.push_str(&format!(
            "\n### {}\n\n{}\n",
            t.name,
            notes(&t.doc, &t.since, &t.features)
        ));
        match &t.shape {
            Shape::Enum(values) => {
                let list: Vec<_> = values.iter().map(|v| format!("`{v}`")).collect();
                out.push_str(&format!("\nOne of {}.\n", list.join(", ")));
            }
            Shape::Struct(members) => table(&mut out, members),
            Shape::Union {
                base,
                tag,
                branches,
            } => {
                table(&mut out, base);
                out.push_str(&format!("\nBy `{tag}`:\n\n"));
                for (case, branch) in branches {
                    out.push_str(&format!(
                        "- `{case}`: {}\n",
                        link(&Type::Named(branch.clone()))
                    ));
                }
            }
            Shape::Alternate(branches) => {
                out.push_str("\nEither of:\n\n");
                for (case, ty) in branches {
                    out.push_str(&format!("- {case}: {}\n", link(ty)));
                }
            }
        }
    }
    out.push_str("\n## Drivers\n");
    for d in schema.drivers.iter().filter(|d| d.creatable) {
        out.push_str(&format!("\n### {}\n\n{}\n", d.name, d.doc));
        if !d.properties.is_empty() {
            out.push_str("\n| property | type | default | meaning |\n| --- | --- | --- | --- |\n");
        }
        for p in &d.properties {
            let default = p.default.as_deref().unwrap_or("");
            out.push_str(&format!(
                "| {} | {} | {default} | {} |\n",
                p.name, p.ty, p.doc
            ));
        }
    }
    out.push_str("\n## Command line\n\n| option | meaning |\n| --- | --- |\n");
    for o in &schema.options {
        out.push_str(&format!(
            "| `{}` | {} |\n",
            o.usage.replace('|', "\\|"),
            o.doc
        ));
    }
    out
}

fn notes(doc: &str, since: &str, features: &[String]) -> String {
    let mut text = doc.to_string();
    if !since.is_empty() {
        text.push_str(&format!(" *Since {since}.*"));
    }
    for feature in features {
        text.push_str(&format!(" *Feature: {feature}.*"));
    }
    text
}

fn table(out: &mut String, members: &[Member]) {
    if members.is_empty() {
        return;
    }
    out.push_str("\n| member | type | meaning |\n| --- | --- | --- |\n");
    for m in members {
        let star = if m.optional { "*" } else { "" };
        out.push_str(&format!(
            "| `{star}{}` | {} | {} |\n",
            m.name,
            link(&m.ty),
            m.doc
        ));
    }
}

fn link(ty: &Type) -> String {
    match ty {
        Type::List(inner) => format!("list of {}", link(inner)),
        Type::Named(name) if builtin(name).is_some() => name.clone(),
        Type::Named(name) => format!("[{name}](#{})", name.to_lowercase()),
    }
}
