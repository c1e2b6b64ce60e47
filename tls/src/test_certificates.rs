//! Certificates for tests.

use crate::{AllowLists, Credentials, CredentialsOptions, Gate, Refusal, Role};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

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

    /// A list that revokes what has this serial number, to be replaced when `year` begins.
    pub fn revocations(&self, serial: &[u8], year: i32) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
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

/// A directory with everything in it, and the authority of it.
pub struct Setup {
    pub dir: TempDir,
    pub maker: Maker,
    pub lists: AllowLists,
}

impl Setup {
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let maker = Maker::new();
        maker.fill(dir.path());
        Setup {
            dir,
            maker,
            lists: AllowLists::default(),
        }
    }

    /// As an object of this directory has them by default.
    pub fn options(&self, role: Role) -> CredentialsOptions {
        CredentialsOptions {
            dir: self.dir.path().to_owned(),
            role,
            verify_peer: true,
            sanity_check: true,
            priority: None,
        }
    }

    pub fn load(&self, role: Role) -> Result<Credentials, Refusal> {
        load(self.options(role))
    }

    /// For sockets of this end, to and from localhost. Nothing is looked at before.
    pub fn gate(&self, role: Role, verify_peer: bool) -> Gate {
        self.gate_with(role, verify_peer, None)
    }

    /// One that lets in who is on the list `a`.
    pub fn listed(&self) -> Gate {
        let list = Some((self.lists.clone(), "a".to_owned()));
        self.gate_with(Role::Server, true, list)
    }

    fn gate_with(&self, role: Role, verify_peer: bool, list: Option<(AllowLists, String)>) -> Gate {
        let credentials = load(CredentialsOptions {
            verify_peer,
            sanity_check: false,
            ..self.options(role)
        });
        let credentials = Arc::new(credentials.unwrap());
        Gate::new(credentials, role, Some("localhost"), list).unwrap()
    }

    pub fn put(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    /// In place of the certificate of this end.
    pub fn put_own(&self, role: Role, made: &Made) {
        let role = role.name();
        self.put(&format!("{role}-cert.pem"), &made.pem);
        self.put(&format!("{role}-key.pem"), &made.key);
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.dir.path().join(name)).unwrap();
    }
}

pub fn load(options: CredentialsOptions) -> Result<Credentials, Refusal> {
    Credentials::load(options, &|path| std::fs::read(path))
}
