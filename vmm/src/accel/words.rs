//! Numbers and bytes as the qtest protocol writes them.

/// A number in C notation: `0x1f`, `017`, `15`.
pub fn number(word: &str) -> Option<u64> {
    let (digits, base) = match word.strip_prefix("0x").or(word.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if word.len() > 1 && word.starts_with('0') => (word.get(1..)?, 8),
        None => (word, 10),
    };
    match digits.strip_prefix('-') {
        Some(positive) => u64::from_str_radix(positive, base)
            .ok()
            .map(u64::wrapping_neg),
        None => u64::from_str_radix(digits, base).ok(),
    }
}

/// Two digits a byte.
pub fn encode_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit =
        |value: u8| char::from(DIGITS.get(usize::from(value & 15)).copied().unwrap_or(b'0'));
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

/// Two digits a byte; what is no digit counts as 0.
pub fn decode_hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
            .unwrap_or(0)
    };
    let pair = |pair: &[u8]| match pair {
        [high, low] => digit(*high) << 4 | digit(*low),
        [high] => digit(*high) << 4,
        _ => 0,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, section 4.
pub fn encode_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3).saturating_mul(4));
    for group in bytes.chunks(3) {
        let mut three = [0u8; 3];
        for (place, byte) in three.iter_mut().zip(group) {
            *place = *byte;
        }
        let [a, b, c] = three.map(u32::from);
        let bits = a << 16 | b << 8 | c;
        for index in 0..4 {
            let letter = ALPHABET.get((bits >> (18 - 6 * index) & 63) as usize);
            text.push(match letter {
                Some(letter) if index <= group.len() => char::from(*letter),
                _ => '=',
            });
        }
    }
    text
}

/// RFC 4648, section 4; `None` where the text is not of that form.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len());
    let (mut bits, mut count) = (0u32, 0u32);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|other| *other == letter)?;
        bits = (bits << 6 | u32::try_from(value).ok()?) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_c_notation() {
        for (word, value) in [
            ("0", 0),
            ("10", 10),
            ("0x10", 16),
            ("010", 8),
            ("-1", u64::MAX),
        ] {
            assert_eq!(number(word), Some(value), "{word}");
        }
        for word in ["", "0x", "09", "ten", "1.5"] {
            assert_eq!(number(word), None, "{word}");
        }
    }

    #[test]
    fn bytes_survive_both_notations() {
        for len in 0..9u8 {
            let bytes: Vec<u8> = (0..len).map(|n| n.wrapping_mul(91)).collect();
            assert_eq!(decode_base64(&encode_base64(&bytes)).unwrap(), bytes);
            assert_eq!(decode_hex(&encode_hex(&bytes)), bytes);
        }
        assert_eq!(encode_base64(b"qvmd"), "cXZtZA==");
        assert_eq!(decode_base64("c*"), None);
    }
}
