//! What shells complete on qvmd's command line and on that of its client.

use std::fmt::Write;

use crate::model::*;

/// What follows an option.
fn values<'a>(schema: &'a Schema, option: &'a OptionDef) -> Values<'a> {
    let objects: Vec<_> = object_types(schema).iter().map(String::as_str).collect();
    match option.name.as_str() {
        _ if !option.has_arg => Values::None,
        "device" => {
            let creatable = schema.drivers.iter().filter(|driver| driver.creatable);
            let names = creatable.map(|driver| driver.name.as_str());
            Values::Words(names.filter(|name| !objects.contains(name)).collect())
        }
        "object" => Values::Words(objects),
        "kernel" | "initrd" | "hda" | "hdb" | "hdc" | "hdd" | "cdrom" | "pidfile" | "D"
        | "config" | "qtest-log" => Values::Files,
        "machine" | "M" => Values::Words(vec!["q35", "pc", "none"]),
        "accel" => Values::Words(vec!["kvm", "qtest"]),
        "cpu" => Values::Words(vec!["host", "max", "qemu64", "kvm64"]),
        _ => match listed(&option.usage) {
            words if words.is_empty() => Values::Any,
            words => Values::Words(words),
        },
    }
}

enum Values<'a> {
    /// The option stands alone.
    None,
    /// Nothing can be said of it.
    Any,
    Files,
    Words(Vec<&'a str>),
}

/// What `-object` makes.
fn object_types(schema: &Schema) -> &[String] {
    match schema.lookup("ObjectType").map(|found| &found.shape) {
        Some(Shape::Enum(names)) => names,
        _ => &[],
    }
}

/// The alternatives that the usage begins with: `-netdev user|tap,id=id` has two.
fn listed(usage: &str) -> Vec<&str> {
    let value = usage.split_once(' ').map_or("", |(_, value)| value);
    let end = value.find(['[', ',', '=']).unwrap_or(value.len());
    let first = value.get(..end).unwrap_or_default();
    let words = first.split('|').filter(|word| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !word.is_empty() && word.chars().all(plain)
    });
    match first.contains('|') {
        true => words.collect(),
        false => Vec::new(),
    }
}

fn commands(schema: &Schema) -> String {
    let mut names: Vec<_> = schema.commands.iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    names.join(" ")
}

/// For bash.
pub fn bash(schema: &Schema) -> String {
    let names: Vec<_> = schema
        .options
        .iter()
        .map(|o| format!("-{}", o.name))
        .collect();
    let mut cases = String::new();
    for option in &schema.options {
        let reply = match values(schema, option) {
            Values::None => continue,
            Values::Any => "return".to_owned(),
            Values::Files => {
                r#"compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return"#
                    .to_owned()
            }
            Values::Words(words) => {
                format!("words=\"{}\"", words.join(" "))
            }
        };
        let _ = writeln!(cases, "    -{0} | --{0}) {reply} ;;", option.name);
    }
    format!(
        r#"# bash completion of qvmd and qvm-qmp. Written by scripts/regen-api from api-spec/schema; change that instead.
# shellcheck shell=bash
_qvmd() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}}
  local words="{}"
  case $before in
{cases}  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}}
complete -F _qvmd qvmd

_qvm_qmp() {{
  local word=${{COMP_WORDS[COMP_CWORD]}}
  case $COMP_CWORD in
    1) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    2) mapfile -t COMPREPLY < <(compgen -W "{}" -- "$word") ;;
  esac
}}
complete -F _qvm_qmp qvm-qmp
"#,
        names.join(" "),
        commands(schema)
    )
}

/// For zsh.
pub fn zsh(schema: &Schema) -> String {
    let mut specs = String::new();
    for option in &schema.options {
        let action = match values(schema, option) {
            Values::None => String::new(),
            Values::Any => ":value:".to_owned(),
            Values::Files => ":file:_files".to_owned(),
            Values::Words(words) => format!(":value:({})", words.join(" ")),
        };
        let doc = option.doc.replace('`', "").replace('\'', "'\\''");
        let first = doc
            .split_once(". ")
            .map_or(doc.as_str(), |(first, _)| first);
        let first = first.trim_end_matches('.');
        let first = first
            .replace('[', "(")
            .replace(']', ")")
            .replace(':', "\\:");
        let _ = writeln!(specs, "        '*-{}[{first}]{action}' \\", option.name);
    }
    format!(
        r#"#compdef qvmd qvm-qmp
# zsh completion of qvmd and qvm-qmp. Written by scripts/regen-api from api-spec/schema; change that instead.
case $service in
    qvmd)
        _arguments \
{specs}        && return 0
        ;;
    qvm-qmp)
        _arguments '1:socket:_files' '2:command:({})' '*:argument:'
        ;;
esac
"#,
        commands(schema)
    )
}
