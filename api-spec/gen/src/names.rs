//! Names of the wire as names of Rust.

const KEYWORDS: &[&str] = &[
    "type", "static", "in", "ref", "match", "move", "use", "mod", "loop", "fn", "self", "where",
    "enum", "struct", "const", "dyn", "async", "abstract", "final", "virtual", "override",
];

/// `query-status` as `QueryStatus`.
pub fn camel(name: &str) -> String {
    let mut out = String::new();
    let all_caps = name.chars().all(|c| !c.is_ascii_lowercase());
    for word in name.split(['-', '_', '.', ' ', '/']) {
        let mut chars = word.chars();
        if let Some(first) = chars.next() {
            out.push(first.to_ascii_uppercase());
            let rest = chars.as_str();
            if all_caps {
                out.push_str(&rest.to_ascii_lowercase())
            } else {
                out.push_str(rest)
            }
        }
    }
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        format!("V{out}")
    } else {
        out
    }
}

/// `node-name` as `node_name`, keywords as raw identifiers.
pub fn snake(name: &str) -> String {
    let mut out = name.replace(['-', '.'], "_").to_ascii_lowercase();
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    if KEYWORDS.contains(&out.as_str()) {
        format!("r#{out}")
    } else {
        out
    }
}

/// A doc comment, wrapped.
pub fn doc(text: &str, indent: &str) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + word.len() > 90 {
            out.push_str(&format!("{indent}/// {line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        out.push_str(&format!("{indent}/// {line}\n"));
    }
    out
}

/// A Rust string literal.
pub fn quoted(text: &str) -> String {
    format!("{text:?}")
}
