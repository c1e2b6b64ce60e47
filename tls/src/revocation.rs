//! Certificate revocation lists (RFC 5280, section 5): ca-crl.pem.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;

use crate::Refusal;
use crate::certificate::time;
use crate::der::{Reader, tag};

/// The lists of a file, and until when they are what their authority has to say.
///
/// A list that has expired still counts, as in QEMU with GnuTLS: what it revokes stays revoked and
/// everybody else comes in. Lists are read once, when the object is made, so the contrary would
/// lock everybody out of a machine that runs for longer than its list. But the log tells.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    path: PathBuf,
    lists: Vec<CertificateRevocationListDer<'static>>,
    /// When the first of them has to be replaced.
    until: Option<SystemTime>,
    told: AtomicBool,
}

impl Revocations {
    /// Those of a file.
    ///
    /// # Errors
    /// In QEMU's words, when there is none in it or one cannot be read.
    pub fn read(path: PathBuf, bytes: &[u8]) -> Result<Self, Refusal> {
        let lists: Result<Vec<_>, _> =
            CertificateRevocationListDer::pem_slice_iter(bytes).collect();
        let lists = match lists {
            Ok(lists) if !lists.is_empty() => lists,
            _ => return Err(bad_revocations(&path, "Base64 decoding error.")),
        };
        let until = lists.iter().filter_map(|list| next_update(list)).min();
        Ok(Revocations {
            path,
            lists,
            until,
            told: AtomicBool::new(false),
        })
    }

    /// For those who check certificates.
    pub fn lists(&self) -> Vec<CertificateRevocationListDer<'static>> {
        self.lists.clone()
    }

    /// What the log is to be told: that a list has expired, once.
    pub fn news(&self, now: SystemTime) -> Option<String> {
        let expired = self.until.is_some_and(|until| until <= now);
        if !expired || self.told.swap(true, Ordering::Relaxed) {
            return None;
        }
        let path = self.path.display();
        Some(format!(
            "The certificate revocation list {path} has expired: what was revoked since is not \
             known, and such peers are let in (a new file needs a new tls-creds-x509 object)"
        ))
    }
}

/// The words for a file of lists that cannot be used.
pub(crate) fn bad_revocations(path: &std::path::Path, why: &str) -> Refusal {
    let path = path.display();
    Refusal(format!("Cannot load CRL '{path}': {why}"))
}

/// When the next list is to be there (nextUpdate of TBSCertList, section 5.1); `None` also where
/// the list is malformed, which is found out when certificates are checked.
fn next_update(der: &[u8]) -> Option<SystemTime> {
    let mut body = Reader::new(der)
        .enter(tag::SEQUENCE)?
        .enter(tag::SEQUENCE)?;
    // version, which old ones have not; signature; issuer; thisUpdate
    body.element(tag::INTEGER);
    body.element(tag::SEQUENCE)?;
    body.element(tag::SEQUENCE)?;
    time(body.next()?)?;
    time(body.next()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_certificates::Maker;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    /// The beginning of 2021.
    const AT: Duration = Duration::from_secs(1_609_459_200);

    fn lists(years: &[i32]) -> Revocations {
        let maker = Maker::new();
        let list = |year: &i32| maker.revocations(&[7], *year);
        let text: String = years.iter().map(list).collect();
        Revocations::read("ca-crl.pem".into(), text.as_bytes()).unwrap()
    }

    #[test]
    fn the_first_that_expires_is_told_once() {
        let lists = lists(&[2099, 2021, 2030]);
        assert_eq!(lists.lists().len(), 3);
        assert_eq!(lists.until, Some(UNIX_EPOCH + AT));
        let before = UNIX_EPOCH + AT - Duration::from_secs(1);
        assert_eq!(lists.news(before), None);
        let news = lists.news(UNIX_EPOCH + AT).unwrap();
        assert!(
            news.starts_with("The certificate revocation list ca-crl.pem has expired: "),
            "{news}"
        );
        assert_eq!(lists.news(UNIX_EPOCH + AT), None);
    }

    #[test]
    fn no_list_never_expires() {
        assert_eq!(Revocations::default().news(SystemTime::now()), None);
    }

    proptest! {
        #[test]
        fn damaged_lists_are_read_without_harm(at: usize, byte: u8) {
            static LISTS: std::sync::LazyLock<Revocations> =
                std::sync::LazyLock::new(|| lists(&[2021]));
            let mut der = LISTS.lists[0].to_vec();
            let len = der.len();
            der[at % len] = byte;
            let _ = next_update(&der);
            let _ = next_update(&der[..at % len]);
        }
    }
}
