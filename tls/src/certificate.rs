//! What a certificate says of itself (RFC 5280, section 4), as far as it is looked at before use.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::der::{Element, Reader, dotted, tag};
use crate::name;

const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const KEY_USAGE: &str = "2.5.29.15";
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";

/// `anyExtendedKeyUsage`.
pub const ANY_PURPOSE: &str = "2.5.29.37.0";
/// `id-kp-serverAuth`.
pub const SERVER_PURPOSE: &str = "1.3.6.1.5.5.7.3.1";
/// `id-kp-clientAuth`.
pub const CLIENT_PURPOSE: &str = "1.3.6.1.5.5.7.3.2";

/// An extension's value and whether it is critical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension<T> {
    pub critical: bool,
    pub value: T,
}

/// Bits of a key's usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage {
    pub digital_signature: bool,
    pub cert_sign: bool,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's distinguished name, as allow lists have it.
    pub subject: String,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// Basic constraints: whether it is a CA.
    pub authority: Option<bool>,
    pub usage: Option<Extension<KeyUsage>>,
    /// Object identifiers of purposes.
    pub purposes: Option<Extension<Vec<String>>>,
}

impl Certificate {
    /// Reads one; `None` when it is malformed.
    pub fn read(der: &[u8]) -> Option<Self> {
        let mut outer = Reader::new(der).enter(tag::SEQUENCE)?;
        let mut body = outer.enter(tag::SEQUENCE)?;
        // version, which old ones have not; serialNumber; signature; issuer
        body.element(tag::context(0));
        body.next()?;
        body.element(tag::SEQUENCE)?;
        body.element(tag::SEQUENCE)?;
        let mut validity = body.enter(tag::SEQUENCE)?;
        let not_before = time(validity.next()?)?;
        let not_after = time(validity.next()?)?;
        let subject = name::text(body.element(tag::SEQUENCE)?.content)?;
        let mut certificate = Certificate {
            subject,
            not_before,
            not_after,
            authority: None,
            usage: None,
            purposes: None,
        };
        let extensions = body.find(|element| element.tag == tag::context(3));
        if let Some(extensions) = extensions {
            let list = Reader::new(extensions.content).enter(tag::SEQUENCE)?;
            for extension in list {
                certificate.take_extension(extension)?;
            }
        }
        Some(certificate)
    }

    fn take_extension(&mut self, extension: Element) -> Option<()> {
        let mut members = Reader::new(extension.content);
        let id = dotted(members.element(tag::OBJECT_ID)?.content)?;
        let critical = members.element(tag::BOOLEAN);
        let critical = critical.is_some_and(|element| element.content != [0]);
        let value = members.element(tag::OCTET_STRING)?.content;
        match id.as_str() {
            BASIC_CONSTRAINTS => {
                let mut inner = Reader::new(value).enter(tag::SEQUENCE)?;
                let flag = inner.element(tag::BOOLEAN);
                self.authority = Some(flag.is_some_and(|element| element.content != [0]));
            }
            KEY_USAGE => {
                let bits = Reader::new(value).element(tag::BIT_STRING)?.content;
                let first = bits.get(1).copied().unwrap_or(0);
                let value = KeyUsage {
                    digital_signature: first & 0x80 != 0,
                    cert_sign: first & 0x04 != 0,
                };
                self.usage = Some(Extension { critical, value });
            }
            EXTENDED_KEY_USAGE => {
                let ids = Reader::new(value).enter(tag::SEQUENCE)?;
                let value = ids.filter_map(|id| dotted(id.content)).collect();
                self.purposes = Some(Extension { critical, value });
            }
            _ => {}
        }
        Some(())
    }
}

/// UTCTime or GeneralizedTime in the forms that certificates may have (RFC 5280, 4.1.2.5).
pub fn time(element: Element) -> Option<SystemTime> {
    let text = std::str::from_utf8(element.content)
        .ok()?
        .strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match element.tag {
        tag::UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 } else { 1900 } + year, rest)
        }
        tag::GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let mut fields = [0i64; 5];
    if rest.len() != fields.len() * 2 {
        return None;
    }
    for (field, digits) in fields.iter_mut().zip(rest.as_bytes().as_chunks::<2>().0) {
        *field = std::str::from_utf8(digits).ok()?.parse().ok()?;
    }
    let [month, day, hour, minute, second] = fields;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 of a date whose year begins in March.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_certificates::{Kind, Maker};
    use proptest::prelude::*;

    fn at(tag: u8, text: &str) -> Option<u64> {
        let element = Element {
            tag,
            content: text.as_bytes(),
            whole: &[],
        };
        let time = time(element)?;
        Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
    }

    #[test]
    fn times_are_read() {
        assert_eq!(at(tag::UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(at(tag::UTC_TIME, "000229120000Z"), Some(951_825_600));
        assert_eq!(at(tag::GENERALIZED_TIME, "20380119031408Z"), Some(1 << 31));
        for wrong in ["", "Z", "7001010000Z", "70-101000000Z", "701301000000Z"] {
            assert_eq!(at(tag::UTC_TIME, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn certificates_say_what_they_are_for() {
        let maker = Maker::new();
        let read = |der: &[u8]| Certificate::read(der).unwrap();
        let authority = read(maker.authority_der());
        assert_eq!(authority.authority, Some(true));
        assert!(authority.usage.unwrap().value.cert_sign);
        let client = read(&maker.make(Kind::Client, "joe").der);
        assert_eq!(client.subject, "O=Test,CN=joe");
        assert_eq!(client.purposes.unwrap().value, [CLIENT_PURPOSE]);
        assert!(client.usage.unwrap().value.digital_signature);
        assert!(client.not_before < client.not_after);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
            let _ = Certificate::read(&bytes);
        }

        #[test]
        fn damaged_certificates_are_read_without_harm(at: usize, byte: u8) {
            static DER: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
                Maker::new().make(Kind::Client, "joe").der
            });
            let mut der = DER.clone();
            let len = der.len();
            der[at % len] = byte;
            let _ = Certificate::read(&der);
            let _ = Certificate::read(&der[..at % len]);
        }
    }
}
