//! Distinguished names as text, as allow lists have them: RFC 4514 in its escapes, but in the
//! order of the certificate, and with the short names that QEMU's clients know (`EMAIL`).

use crate::der::{Reader, dotted, tag};

/// Short names of attributes by their object identifier.
const SHORT: [(&str, &str); 24] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "surName"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.16", "postalAddress"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.20", "telephoneNumber"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "givenName"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.72", "role"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "EMAIL"),
];

/// A name from the content of its SEQUENCE; `None` when that is malformed.
pub fn text(content: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    for set in Reader::new(content) {
        if set.tag != tag::SET {
            return None;
        }
        let mut attributes = Vec::new();
        for attribute in Reader::new(set.content) {
            let mut members = Reader::new(attribute.content);
            let kind = dotted(members.element(tag::OBJECT_ID)?.content)?;
            attributes.push(attribute_text(&kind, members.next()?)?);
        }
        parts.push(attributes.join("+"));
    }
    Some(parts.join(","))
}

fn attribute_text(kind: &str, value: crate::der::Element) -> Option<String> {
    let short = SHORT.iter().find(|(id, _)| *id == kind);
    Some(match (short, string(value.tag, value.content)) {
        (Some((_, name)), Some(text)) => format!("{name}={}", escaped(&text)),
        // What has no name or is no text stands there as it is (RFC 4514, section 2.4).
        (named, _) => {
            let hex: String = value.whole.iter().map(|b| format!("{b:02x}")).collect();
            let name = named.map_or(kind, |(_, name)| name);
            format!("{name}=#{hex}")
        }
    })
}

fn string(tag: u8, content: &[u8]) -> Option<String> {
    match tag {
        tag::UTF8_STRING | tag::PRINTABLE_STRING | tag::IA5_STRING => {
            std::str::from_utf8(content).ok().map(str::to_owned)
        }
        tag::TELETEX_STRING => Some(content.iter().map(|b| char::from(*b)).collect()),
        tag::BMP_STRING => {
            let (pairs, rest) = content.as_chunks::<2>();
            let units = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
            let text: Result<String, _> = char::decode_utf16(units).collect();
            text.ok().filter(|_| rest.is_empty())
        }
        tag::UNIVERSAL_STRING => {
            let (quads, rest) = content.as_chunks::<4>();
            let chars = quads
                .iter()
                .map(|quad| char::from_u32(u32::from_be_bytes(*quad)));
            chars
                .collect::<Option<String>>()
                .filter(|_| rest.is_empty())
        }
        _ => None,
    }
}

/// RFC 4514, section 2.4.
fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(text.len());
    for (i, c) in text.chars().enumerate() {
        match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => out.extend(['\\', c]),
            '#' if i == 0 => out.push_str("\\#"),
            ' ' if i == 0 || i == last => out.push_str("\\ "),
            // A name with a line break in it would forge lines of the log.
            c if c.is_control() => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    out.push_str(&format!("\\{byte:02X}"));
                }
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An attribute with a value of that tag.
    fn attribute(id: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        let element = |tag, content: &[u8]| {
            let mut out = vec![tag, content.len() as u8];
            out.extend(content);
            out
        };
        let members = [element(tag::OBJECT_ID, id), element(tag, value)].concat();
        element(tag::SET, &element(tag::SEQUENCE, &members))
    }

    #[test]
    fn names_have_the_order_of_the_certificate_and_are_escaped() {
        let name = [
            attribute(&[0x55, 4, 6], tag::PRINTABLE_STRING, b"GB"),
            attribute(&[0x55, 4, 8], tag::UTF8_STRING, b"Lon, don"),
            attribute(&[0x55, 4, 11], tag::UTF8_STRING, b"#hash "),
            attribute(&[0x55, 4, 3], tag::UTF8_STRING, "client \\ é\n".as_bytes()),
            attribute(&[0x55, 4, 10], tag::BMP_STRING, &[0, b'X']),
            attribute(&[0x2a, 3], tag::UTF8_STRING, b"foo"),
        ];
        assert_eq!(
            text(&name.concat()).unwrap(),
            "C=GB,ST=Lon\\, don,OU=\\#hash\\ ,CN=client \\\\ é\\0A,O=X,1.2.3=#0c03666f6f"
        );
        assert_eq!(text(&[]).unwrap(), "");
    }

    #[test]
    fn malformed_names_are_none() {
        assert_eq!(text(&[0x30, 0]), None);
        assert_eq!(text(&[0x31, 2, 0x30, 0]), None);
    }

    proptest! {
        #[test]
        fn names_are_one_line(value: String) {
            let bytes = value.as_bytes().get(..value.len().min(100)).unwrap_or_default();
            let name = attribute(&[0x55, 4, 3], tag::UTF8_STRING, bytes);
            if let Some(text) = text(&name) {
                prop_assert!(!text.chars().any(char::is_control));
            }
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
            let _ = text(&bytes);
        }
    }
}
