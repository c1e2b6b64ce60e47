//! The little of DER (X.690) that certificates need: elements with definite lengths.

/// Tags of elements, as whole octets.
pub mod tag {
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const OBJECT_ID: u8 = 0x06;
    pub const UTF8_STRING: u8 = 0x0c;
    pub const PRINTABLE_STRING: u8 = 0x13;
    pub const TELETEX_STRING: u8 = 0x14;
    pub const IA5_STRING: u8 = 0x16;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const UNIVERSAL_STRING: u8 = 0x1c;
    pub const BMP_STRING: u8 = 0x1e;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
    /// `[n]`, constructed.
    pub const fn context(n: u8) -> u8 {
        0xa0 | n
    }
}

/// One element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    /// With tag and length.
    pub whole: &'a [u8],
}

/// Reads elements one after the other. Ends at the first that is malformed.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    /// The next element if it has this tag.
    pub fn element(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.next()?;
        if element.tag != tag {
            return None;
        }
        *self = ahead;
        Some(element)
    }

    /// The contents of the next element if it has this tag.
    pub fn enter(&mut self, tag: u8) -> Option<Reader<'a>> {
        self.element(tag).map(|element| Reader(element.content))
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        // Tags over several octets occur in no certificate.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (len, body) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (octets, body) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let len = octets
                    .iter()
                    .fold(0usize, |len, octet| len << 8 | usize::from(*octet));
                (len, body)
            }
            _ => return None,
        };
        let (content, after) = body.split_at_checked(len)?;
        let whole = self.0.get(..self.0.len().checked_sub(after.len())?)?;
        self.0 = after;
        Some(Element {
            tag,
            content,
            whole,
        })
    }
}

/// The dotted form of an object identifier.
pub fn dotted(content: &[u8]) -> Option<String> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut number = 0u64;
    for octet in content {
        number = number
            .checked_mul(128)?
            .checked_add(u64::from(octet & 0x7f))?;
        if octet & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.push(first);
                number = number.checked_sub(first.checked_mul(40)?)?;
            }
            numbers.push(number);
            number = 0;
        }
    }
    let text: Vec<String> = numbers.iter().map(u64::to_string).collect();
    Some(text.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn elements_are_read_and_cut_ones_are_not() {
        let bytes = [
            0x30, 0x05, 0x01, 0x01, 0xff, 0x05, 0x00, 0x04, 0x81, 0x01, 0x07,
        ];
        let mut reader = Reader::new(&bytes);
        let mut inner = reader.enter(tag::SEQUENCE).unwrap();
        assert_eq!(inner.element(tag::OBJECT_ID), None);
        assert_eq!(inner.element(tag::BOOLEAN).unwrap().content, [0xff]);
        assert_eq!(reader.element(tag::OCTET_STRING).unwrap().whole.len(), 4);
        assert_eq!(reader.next(), None);
        for cut in 1..7 {
            assert_eq!(Reader::new(&bytes[..cut]).next(), None);
        }
        assert_eq!(Reader::new(&[0x30, 0x80, 0, 0]).next(), None);
        assert_eq!(
            Reader::new(&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff]).next(),
            None
        );
    }

    #[test]
    fn object_identifiers_are_written_with_dots() {
        assert_eq!(dotted(&[0x55, 0x04, 0x03]).unwrap(), "2.5.4.3");
        let email = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01];
        assert_eq!(dotted(&email).unwrap(), "1.2.840.113549.1.9.1");
        assert_eq!(dotted(&[0xff; 40]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
            for element in Reader::new(&bytes) {
                prop_assert!(element.whole.len() >= element.content.len());
                let _ = dotted(element.content);
            }
        }
    }
}
