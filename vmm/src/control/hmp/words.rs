//! The words of a line behind its command.

/// A line's words. What stands in double quotes is one word; a backslash takes the next character
/// as it is there.
pub(super) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(chars.next()),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What is left of a line.
pub struct Words {
    command: String,
    words: std::collections::VecDeque<String>,
}

impl Words {
    /// The words behind `command`.
    pub fn new(command: &str, words: impl IntoIterator<Item = String>) -> Self {
        Words {
            command: command.to_owned(),
            words: words.into_iter().collect(),
        }
    }

    /// Which of the switches stand in front: `-n` and `-v` of `nv`, also as `-nv`.
    ///
    /// # Errors
    /// The text about one that is not known.
    pub fn switches(&mut self, known: &str) -> Result<String, String> {
        let mut found = String::new();
        while let Some(switches) = self.words.front().and_then(|word| word.strip_prefix('-')) {
            if let Some(unknown) = switches.chars().find(|c| !known.contains(*c)) {
                let command = super::last_word(&self.command);
                return Err(self.with_help(format!("{command}: unsupported option -{unknown}")));
            }
            found.push_str(switches);
            self.words.pop_front();
        }
        Ok(found)
    }

    /// The next word, which is a `what`.
    ///
    /// # Errors
    /// The text about its lack.
    pub fn need(&mut self, what: &str) -> Result<String, String> {
        let next = self.words.pop_front();
        next.ok_or_else(|| {
            self.with_help(format!(
                "{}: {what} expected",
                super::last_word(&self.command)
            ))
        })
    }

    /// The next word, if there is one.
    pub fn next(&mut self) -> Option<String> {
        self.words.pop_front()
    }

    /// Nothing is left.
    ///
    /// # Errors
    /// The text about what is.
    pub fn end(&self) -> Result<(), String> {
        match self.words.is_empty() {
            true => Ok(()),
            false => Err(super::extraneous(&self.command)),
        }
    }

    pub(super) fn with_help(&self, text: String) -> String {
        let command = &self.command;
        format!("{text}\nTry \"help {command}\" for more information\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_words_together() {
        for (line, words) in [
            ("", &[] as &[&str]),
            ("  a  b ", &["a", "b"]),
            ("a \"b c\" d", &["a", "b c", "d"]),
            ("a b\"c d\"e", &["a", "bc de"]),
            ("\"\" a", &["", "a"]),
            (r#""a\"b\\c""#, &[r#"a"b\c"#]),
            (r"a\b", &[r"a\b"]),
            ("\"a b", &["a b"]),
            ("\"a\\", &["a"]),
        ] {
            assert_eq!(split(line), words, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let words = |text: &str| Words::new("x", split(text));
        let mut line = words("-nv -v a b");
        assert_eq!(line.switches("nv").unwrap(), "nvv");
        assert_eq!(line.need("word").unwrap(), "a");
        assert_eq!(
            line.end().unwrap_err(),
            "x: extraneous characters at the end of line\nTry \"help x\" for more information\n"
        );
        assert_eq!(line.next().as_deref(), Some("b"));
        line.end().unwrap();
        assert_eq!(
            line.need("word").unwrap_err(),
            "x: word expected\nTry \"help x\" for more information\n"
        );
        assert_eq!(
            words("-nx").switches("nv").unwrap_err(),
            "x: unsupported option -x\nTry \"help x\" for more information\n"
        );
    }
}
