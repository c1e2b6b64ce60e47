//! From the argument vector to options in order, each with its text and its place for messages.

use std::fmt;

/// Something is wrong with the command line. Shown as `-option value: message`.
#[derive(Debug, PartialEq, Eq)]
pub struct CliError {
    /// The words of the option, as typed; empty when no single option is to blame.
    pub location: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.location.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.location, self.message)
        }
    }
}

impl std::error::Error for CliError {}

impl CliError {
    /// An error that no single option is to blame for.
    pub fn plain(message: impl Into<String>) -> Self {
        CliError {
            location: String::new(),
            message: message.into(),
        }
    }
}

/// One option as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// Its canonical name, without dashes.
    pub name: &'static str,
    /// Its value; empty for options that take none.
    pub value: String,
    /// The words as typed.
    pub location: String,
}

impl Arg {
    /// An error about this option.
    pub fn error(&self, message: impl fmt::Display) -> CliError {
        CliError {
            location: self.location.clone(),
            message: message.to_string(),
        }
    }
}

/// What the option table says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The canonical name.
    pub name: &'static str,
    /// Whether a value follows.
    pub takes_value: bool,
}

/// Splits `words` (without the program's name) into options; `lookup` knows the names.
///
/// # Errors
/// On a name that is not known, a value that is missing, and on words that belong to no option.
pub fn scan(
    words: &[String],
    lookup: impl Fn(&str) -> Option<Shape>,
) -> Result<Vec<Arg>, CliError> {
    let mut args = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let error = |message: &str| CliError {
            location: word.clone(),
            message: message.into(),
        };
        let Some(name) = word.strip_prefix('-').filter(|name| !name.is_empty()) else {
            return Err(error("Disk images are given with -blockdev or -drive"));
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        let shape = lookup(name).ok_or_else(|| error("invalid option"))?;
        let (value, location) = if shape.takes_value {
            let value = words.next().ok_or_else(|| error("requires an argument"))?;
            (value.clone(), format!("{word} {value}"))
        } else {
            (String::new(), word.clone())
        };
        args.push(Arg {
            name: shape.name,
            value,
            location,
        });
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<Shape> {
        match name {
            "machine" | "M" => Some(Shape {
                name: "machine",
                takes_value: true,
            }),
            "S" => Some(Shape {
                name: "S",
                takes_value: false,
            }),
            _ => None,
        }
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn options_keep_order_and_place() {
        let args = scan(&words("-M q35 --S --machine x"), lookup).unwrap();
        let seen: Vec<_> = args
            .iter()
            .map(|a| (a.name, &*a.value, &*a.location))
            .collect();
        let expected = [
            ("machine", "q35", "-M q35"),
            ("S", "", "--S"),
            ("machine", "x", "--machine x"),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn wrong_words_are_named() {
        for (text, message) in [
            ("-foo", "-foo: invalid option"),
            ("-S -M", "-M: requires an argument"),
            (
                "disk.img",
                "disk.img: Disk images are given with -blockdev or -drive",
            ),
            ("-", "-: Disk images are given with -blockdev or -drive"),
            ("---S", "---S: invalid option"),
        ] {
            assert_eq!(scan(&words(text), lookup).unwrap_err().to_string(), message);
        }
    }
}
