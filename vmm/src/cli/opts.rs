//! QEMU's older `key=value` lists: flat, each option with its own table of keys, flags without a
//! value (`server`, `nowait`), a comma in a value doubled. The wording of refusals is QEMU's.

/// What a key's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `on` or `off`.
    Bool,
    /// A number in C notation.
    Number,
    /// A number of bytes, with suffix.
    Size,
}

/// The keys that an option knows.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// The key of a first value that is given without one.
    pub implied: Option<&'static str>,
    /// Keys and what their values are.
    pub keys: &'static [(&'static str, Kind)],
}

/// A parsed list. A key that is given again replaces the earlier value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opts(Vec<(String, String)>);

impl Opts {
    /// Reads `text` and checks each value.
    ///
    /// # Errors
    /// On a key that the table does not know and on a value of the wrong kind.
    pub fn parse(text: &str, table: &Table) -> Result<Self, String> {
        let mut opts = Opts::default();
        for (index, item) in split(text).into_iter().enumerate() {
            let (key, value) = match item.split_once('=') {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None => match table.implied {
                    Some(key) if index == 0 => (key.to_owned(), item),
                    _ => flag(item, table),
                },
            };
            let known = table.keys.iter().find(|(name, _)| *name == key);
            let (_, kind) = known.ok_or_else(|| format!("Invalid parameter '{key}'"))?;
            check(&key, &value, *kind)?;
            opts.0.push((key, value));
        }
        Ok(opts)
    }

    /// Gives `key` a value where it has none.
    pub fn fill_in(&mut self, key: &str, value: &str) {
        if self.text(key).is_none() {
            self.0.push((key.to_owned(), value.to_owned()));
        }
    }

    /// The text of `key`.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// The truth of `key`; the table says it is a `Bool`.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.text(key).and_then(|value| bool_of(key, value).ok())
    }

    /// The number of `key`; the table says it is a `Number`.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.text(key).and_then(|value| number_of(key, value).ok())
    }

    /// The bytes of `key`; the table says it is a `Size`.
    pub fn size(&self, key: &str) -> Option<u64> {
        self.text(key).and_then(|value| size_of(key, value).ok())
    }

    /// All pairs in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// `flag` is `flag=on`, `noflag` is `flag=off`.
fn flag(item: String, table: &Table) -> (String, String) {
    let known = |name: &str| table.keys.iter().any(|(key, _)| *key == name);
    match item.strip_prefix("no") {
        Some(rest) if !known(&item) && known(rest) => (rest.to_owned(), "off".to_owned()),
        _ => (item, "on".to_owned()),
    }
}

/// Splits at single commas; doubled ones are one comma of the value. A trailing one is ignored.
pub fn split(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let item = items.len() - 1;
        match c {
            ',' if chars.next_if_eq(&',').is_none() => items.push(String::new()),
            c => {
                if let Some(item) = items.get_mut(item) {
                    item.push(c);
                }
            }
        }
    }
    if items.last().is_some_and(String::is_empty) {
        items.pop();
    }
    items
}

fn check(key: &str, value: &str, kind: Kind) -> Result<(), String> {
    match kind {
        Kind::Text => Ok(()),
        Kind::Bool => bool_of(key, value).map(drop),
        Kind::Number => number_of(key, value).map(drop),
        Kind::Size => size_of(key, value).map(drop),
    }
}

fn bool_of(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(format!("Parameter '{key}' expects 'on' or 'off'")),
    }
}

/// A number in C notation: decimal, 0x hexadecimal, 0 octal.
pub fn c_number(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(rest) => (rest, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (&lower[1..], 8),
        None => (lower.as_str(), 10),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

fn number_of(key: &str, value: &str) -> Result<u64, String> {
    c_number(value).ok_or_else(|| format!("Parameter '{key}' expects a number"))
}

fn size_of(key: &str, value: &str) -> Result<u64, String> {
    parse_size(value).ok_or_else(|| {
        format!(
            "Parameter '{key}' expects a non-negative number below 2^64\n\
             Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n\
             and exabytes, respectively."
        )
    })
}

/// A number of bytes: decimal with an optional fraction, or hexadecimal, and a binary suffix.
pub fn parse_size(text: &str) -> Option<u64> {
    scaled(text, 0)
}

/// A number of bytes where a bare number counts mebibytes, as `-m` does.
pub fn parse_mebibytes(text: &str) -> Option<u64> {
    scaled(text, 20)
}

fn scaled(text: &str, default_shift: u32) -> Option<u64> {
    if text.len() > 1 && text.get(..2).is_some_and(|p| p.eq_ignore_ascii_case("0x")) {
        return c_number(text)?.checked_mul(1u64.checked_shl(default_shift)?);
    }
    let (number, shift) = match text.chars().last()? {
        'b' | 'B' => (text.get(..text.len() - 1)?, 0),
        'k' | 'K' => (text.get(..text.len() - 1)?, 10),
        'm' | 'M' => (text.get(..text.len() - 1)?, 20),
        'g' | 'G' => (text.get(..text.len() - 1)?, 30),
        't' | 'T' => (text.get(..text.len() - 1)?, 40),
        'p' | 'P' => (text.get(..text.len() - 1)?, 50),
        'e' | 'E' => (text.get(..text.len() - 1)?, 60),
        _ => (text, default_shift),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty()
        || !whole
            .bytes()
            .chain(fraction.bytes())
            .all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let mut total = u128::from(whole.parse::<u64>().ok()?) << shift;
    if !fraction.is_empty() {
        let digits = fraction.get(..fraction.len().min(18))?;
        let scale = 10u128.checked_pow(u32::try_from(digits.len()).ok()?)?;
        total = total.checked_add((digits.parse::<u128>().ok()? << shift) / scale)?;
    }
    u64::try_from(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table {
        implied: Some("path"),
        keys: &[
            ("path", Kind::Text),
            ("server", Kind::Bool),
            ("wait", Kind::Bool),
            ("port", Kind::Number),
            ("size", Kind::Size),
        ],
    };

    #[test]
    fn flags_values_and_doubled_commas_are_read() {
        let opts = Opts::parse("/a,,b,server,nowait,port=0x10,size=1.5k", &TABLE).unwrap();
        assert_eq!(opts.text("path"), Some("/a,b"));
        assert_eq!(opts.flag("server"), Some(true));
        assert_eq!(opts.flag("wait"), Some(false));
        assert_eq!(opts.number("port"), Some(16));
        assert_eq!(opts.size("size"), Some(1536));
        assert_eq!(Opts::parse("", &TABLE).unwrap(), Opts::default());
        assert_eq!(Opts::parse("x,", &TABLE).unwrap().text("path"), Some("x"));
    }

    #[test]
    fn wrong_keys_and_values_are_named() {
        for (text, message) in [
            ("x,foo=1", "Invalid parameter 'foo'"),
            ("x,foo", "Invalid parameter 'foo'"),
            ("x,server=maybe", "Parameter 'server' expects 'on' or 'off'"),
            ("x,port=ten", "Parameter 'port' expects a number"),
            (
                "x,size=12x",
                "Parameter 'size' expects a non-negative number below 2^64\nOptional suffix k, M, \
                 G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.",
            ),
        ] {
            assert_eq!(Opts::parse(text, &TABLE).unwrap_err(), message);
        }
    }

    #[test]
    fn sizes_have_suffixes() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("4G", Some(4 << 30)),
            ("1.5M", Some(3 << 19)),
            ("0x1000", Some(4096)),
            ("16E", None),
            ("15E", Some(15 << 60)),
            ("18446744073709551616", None),
            ("-1", None),
            ("", None),
            ("k", None),
            ("1kk", None),
            ("é", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
        assert_eq!(parse_mebibytes("512"), Some(512 << 20));
        assert_eq!(parse_mebibytes("1G"), Some(1 << 30));
        assert_eq!(parse_mebibytes("0x200"), Some(512 << 20));
        assert_eq!(parse_mebibytes("0x100000000001"), None);
    }
}
