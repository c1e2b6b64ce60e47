//! A command line in words, quoted as a shell would have it, with nothing expanded.

/// Splits it. `None` when a quote is open at its end, or there is no word.
pub fn split(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut rest = line.chars();
    while let Some(char) = rest.next() {
        match char {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => quoted(&mut rest, word.get_or_insert_default())?,
            '"' => double_quoted(&mut rest, word.get_or_insert_default())?,
            '\\' => match rest.next()? {
                '\n' => {}
                char => word.get_or_insert_default().push(char),
            },
            char => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    (!words.is_empty()).then_some(words)
}

fn quoted(rest: &mut impl Iterator<Item = char>, word: &mut String) -> Option<()> {
    loop {
        match rest.next()? {
            '\'' => return Some(()),
            char => word.push(char),
        }
    }
}

fn double_quoted(rest: &mut impl Iterator<Item = char>, word: &mut String) -> Option<()> {
    loop {
        match rest.next()? {
            '"' => return Some(()),
            '\\' => match rest.next()? {
                '\n' => {}
                char @ ('"' | '\\' | '$' | '`') => word.push(char),
                char => word.extend(['\\', char]),
            },
            char => word.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_are_split_as_a_shell_does() {
        for (line, words) in [
            ("cat", &["cat"][..]),
            (
                "  nc -q0\tlocalhost  80 ",
                &["nc", "-q0", "localhost", "80"],
            ),
            (
                "sh -c 'echo \"a  b\"; cat'",
                &["sh", "-c", "echo \"a  b\"; cat"],
            ),
            (r#"a "b \" c \d" e\ f"#, &["a", "b \" c \\d", "e f"]),
            ("a '' b''c", &["a", "", "bc"]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
        for line in ["", "  ", "'a", "\"a", "a\\", "\"a\\"] {
            assert_eq!(split(line), None, "{line}");
        }
    }
}
