//! From a line that a person typed to a command with arguments.

use api_spec::{Object, Value};

/// Cuts a line at blanks, but not inside quotes, braces or brackets. Quotes outside of braces and
/// brackets are taken off.
///
/// # Errors
/// When a quote or brace is left open.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut depth = 0usize;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c.is_whitespace() && quote.is_none() && depth == 0 {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match (c, quote) {
            ('\\', Some('"')) if depth > 0 => {
                word.push(c);
                word.extend(chars.next());
            }
            (_, Some(open)) if c == open => {
                quote = None;
                if depth > 0 {
                    word.push(c);
                }
            }
            (_, Some(_)) => word.push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                if depth > 0 {
                    word.push(c);
                }
            }
            ('{' | '[', None) => {
                depth += 1;
                word.push(c);
            }
            ('}' | ']', None) => {
                depth = depth.saturating_sub(1);
                word.push(c);
            }
            _ => word.push(c),
        }
    }
    if let Some(open) = quote {
        return Err(format!("The quote {open} is not closed"));
    }
    if depth > 0 {
        return Err("A brace or bracket is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

/// Arguments from `key=value` words: a value that is JSON is taken as such, anything else is a
/// string, and `a.b=` goes into an object `a`. A single word that is a JSON object is all of them.
///
/// # Errors
/// When a word is neither, or when two words claim one place.
pub fn arguments(words: &[String]) -> Result<Option<Value>, String> {
    match words {
        [] => return Ok(None),
        [json] if json.starts_with('{') => {
            return match serde_json::from_str(json) {
                Ok(value @ Value::Object(_)) => Ok(Some(value)),
                Ok(_) => Err(format!("'{json}' is no JSON object")),
                Err(error) => Err(format!("'{json}' is no JSON: {error}")),
            };
        }
        _ => {}
    }
    let mut root = Object::new();
    for word in words {
        let Some((path, text)) = word.split_once('=') else {
            return Err(format!("'{word}' is not of the form key=value"));
        };
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into()));
        put(&mut root, path, value).ok_or_else(|| format!("'{path}' is given twice"))?;
    }
    Ok(Some(Value::Object(root)))
}

/// None where something is there already.
fn put(object: &mut Object, path: &str, value: Value) -> Option<()> {
    match path.split_once('.') {
        None => object.insert(path.into(), value).is_none().then_some(()),
        Some((first, rest)) => {
            let inner = object
                .entry(first)
                .or_insert_with(|| Value::Object(Object::new()));
            put(inner.as_object_mut()?, rest, value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(line: &str) -> Result<Option<Value>, String> {
        arguments(&split(line)?)
    }

    #[test]
    fn a_line_is_cut_at_blanks_outside_of_quotes_and_braces() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("  query-status \t", &["query-status"]),
            ("a 'b c'=\"d e\"", &["a", "b c=d e"]),
            (r#"a {"x": "y } z"} b"#, &["a", r#"{"x": "y } z"}"#, "b"]),
            (r#"a x={"q": "\" {"}"#, &["a", r#"x={"q": "\" {"}"#]),
            ("a x=[1, 2] ''", &["a", "x=[1, 2]", ""]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line).as_deref(), Ok(&words.map_to()[..]), "{line}");
        }
        assert!(split("a 'b").is_err());
        assert!(split("a {\"x\": 1").is_err());
    }

    #[test]
    fn words_become_arguments() {
        assert_eq!(parse(""), Ok(None));
        assert_eq!(
            parse(
                "driver=null-co size=1048576 read-zeroes=true name='1 2' cache.direct=true cache.no-flush=false"
            ),
            Ok(Some(json!({
                "driver": "null-co", "size": 1_048_576, "read-zeroes": true, "name": "1 2",
                "cache": {"direct": true, "no-flush": false}
            })))
        );
        assert_eq!(parse(r#"{"a": [1]}"#), Ok(Some(json!({"a": [1]}))));
        assert_eq!(
            parse(r#"b={"type": "null"}"#),
            Ok(Some(json!({"b": {"type": "null"}})))
        );
        assert_eq!(
            parse("serial='\"123\"'"),
            Ok(Some(json!({"serial": "123"})))
        );
    }

    #[test]
    fn what_is_no_argument_is_refused() {
        for line in [
            "word",
            "a=1 a=2",
            "a=1 a.b=2",
            "a.b=1 a=2",
            "{oops}",
            "a=1 {}",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    trait MapTo {
        fn map_to(&self) -> Vec<String>;
    }
    impl MapTo for [&str] {
        fn map_to(&self) -> Vec<String> {
            self.iter().map(|word| (*word).to_owned()).collect()
        }
    }
}
