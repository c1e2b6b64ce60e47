//! Addresses and numbers as the C library reads them: what QEMU takes, and so its users write.

use std::net::Ipv4Addr;

/// The text before the first `separator`, and the rest.
pub fn before(text: &str, separator: char) -> Option<(&str, &str)> {
    text.split_once(separator)
}

/// An IPv4 address of one to four parts, each decimal, octal or hexadecimal; the last one fills
/// what is left. Behind white space anything may follow (inet_aton).
pub fn address(text: &str) -> Option<Ipv4Addr> {
    let text = text.split(|char: char| char.is_ascii_whitespace()).next()?;
    let parts: Vec<u32> = text.split('.').map(part).collect::<Option<_>>()?;
    let (last, leading) = parts.split_last()?;
    if leading.len() > 3 || leading.iter().any(|part| *part > 255) {
        return None;
    }
    let bits = 32u32.saturating_sub(u32::try_from(leading.len()).ok()?.saturating_mul(8));
    if u64::from(*last) >= 1u64 << bits {
        return None;
    }
    let shifted = |value: u32, at: usize| value << 24u32.saturating_sub(8 * at as u32);
    let high = leading
        .iter()
        .enumerate()
        .fold(0, |sum, (at, part)| sum | shifted(*part, at));
    Some(Ipv4Addr::from_bits(high | last))
}

fn part(text: &str) -> Option<u32> {
    let (digits, radix) = prefixed(text);
    let unsigned = digits.starts_with(|first: char| first.is_ascii_hexdigit());
    unsigned
        .then(|| u32::from_str_radix(digits, radix).ok())
        .flatten()
}

/// Digits and base of a number with a prefix.
fn prefixed(text: &str) -> (&str, u32) {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) if digits.starts_with(|first: char| first.is_ascii_hexdigit()) => (digits, 16),
        _ if text.starts_with('0') => (text, 8),
        _ => (text, 10),
    }
}

/// A number at the beginning of a text, and what is behind it (strtol). White space and a sign
/// may stand before it; `base` 0 looks at the prefix. One that is too large is the largest.
pub fn number(text: &str, base: u32) -> Option<(i64, &str)> {
    let text = text.trim_start_matches(|char: char| char.is_ascii_whitespace());
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (text, base) = if base == 0 {
        prefixed(text)
    } else {
        (text, base)
    };
    let end = text
        .find(|char: char| !char.is_digit(base))
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return None;
    }
    let value = i64::from_str_radix(digits, base).unwrap_or(i64::MAX);
    Some((if negative { -value } else { value }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_inet_aton_does() {
        for (text, wanted) in [
            ("10.0.2.2", "10.0.2.2"),
            ("10", "0.0.0.10"),
            ("127.1", "127.0.0.1"),
            ("10.1.258", "10.1.1.2"),
            ("010.0x10.0.1", "8.16.0.1"),
            ("0xffffffff", "255.255.255.255"),
            ("1.2.3.4 and more", "1.2.3.4"),
            ("0", "0.0.0.0"),
        ] {
            assert_eq!(address(text), wanted.parse().ok(), "{text}");
        }
        for text in [
            "",
            "x",
            "1.2.3.4.5",
            "1..2",
            "256.1",
            "1.2.3.256",
            "08",
            "0x",
            "-1",
            "+1",
            " 1.2.3.4",
            "4294967296",
            "1.16777216",
            "1.2.3.4x",
            "1.",
        ] {
            assert_eq!(address(text), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_read_as_strtol_does() {
        assert_eq!(number(" +80x", 0), Some((80, "x")));
        assert_eq!(number("0x50", 0), Some((80, "")));
        assert_eq!(number("010", 0), Some((8, "")));
        assert_eq!(number("010", 10), Some((10, "")));
        assert_eq!(number("0x", 0), Some((0, "x")));
        assert_eq!(number("-5", 0), Some((-5, "")));
        assert_eq!(number("99999999999999999999", 0), Some((i64::MAX, "")));
        assert_eq!(number("", 0), None);
        assert_eq!(number("x", 0), None);
    }
}
