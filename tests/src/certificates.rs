//! Certificates for TLS.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;
fn params(authority: &str, name: &str) -> CertificateParams {
    let names = vec!["localhost".into(), "127.0.0.1".into()];
    let mut params = CertificateParams::new(names).expect("names");
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, authority);
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params
}

/// A directory as tls-creds-x509 wants it; the client is `O=authority,CN=client`.
pub fn credentials(authority: &str) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let mut ca = params(authority, "ca");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("a key"));
    let ca = ca.expect("an authority");
    let write = |name: &str, text: String| {
        std::fs::write(dir.path().join(name), text).expect("a file");
    };
    write("ca-cert.pem", ca.pem());
    for (name, purpose) in [
        ("server", ExtendedKeyUsagePurpose::ServerAuth),
        ("client", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let mut params = params(authority, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().expect("a key");
        let made = params.signed_by(&key, &ca).expect("a certificate");
        write(&format!("{name}-cert.pem"), made.pem());
        write(&format!("{name}-key.pem"), key.serialize_pem());
    }
    dir
}
