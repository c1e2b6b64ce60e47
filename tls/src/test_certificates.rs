//! Certificates for tests.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a certificate is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Server,
    Client,
}

pub struct Made {
    pub der: Vec<u8>,
    pub pem: String,
    pub key: String,
}

/// An authority.
pub struct Maker(pub CertifiedIssuer<'static, KeyPair>);

pub fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Test");
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params
}

impl Maker {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut params = params(&format!("authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Maker(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn authority_der(&self) -> &[u8] {
        self.0.der()
    }

    pub fn sign(&self, params: &CertificateParams) -> Made {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Made {
            der: certificate.der().to_vec(),
            pem: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    pub fn params(kind: Kind, name: &str) -> CertificateParams {
        let mut params = params(name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match kind {
            Kind::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Kind::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params
    }

    pub fn make(&self, kind: Kind, name: &str) -> Made {
        self.sign(&Self::params(kind, name))
    }

    /// Fills a directory as tls-creds-x509 wants it.
    pub fn fill(&self, dir: &Path) {
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
        write("ca-cert.pem", &self.0.pem());
        for (role, kind) in [("server", Kind::Server), ("client", Kind::Client)] {
            let made = self.make(kind, role);
            write(&format!("{role}-cert.pem"), &made.pem);
            write(&format!("{role}-key.pem"), &made.key);
        }
    }
}
