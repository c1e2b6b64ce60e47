use super::*;
use crate::test_certificates::{Kind, Made, Maker, params};
use rcgen::{
    CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

fn options(dir: &Path, role: Role) -> CredentialsOptions {
    CredentialsOptions {
        dir: dir.to_owned(),
        role,
        verify_peer: true,
        sanity_check: true,
        priority: None,
    }
}

fn load(options: CredentialsOptions) -> Result<Credentials, String> {
    Credentials::load(options, &|path| std::fs::read(path)).map_err(|refusal| refusal.0)
}

fn filled() -> (TempDir, Maker) {
    let dir = TempDir::new().unwrap();
    let maker = Maker::new();
    maker.fill(dir.path());
    (dir, maker)
}

/// What loading says, with the directory's name left out.
fn refusal(dir: &TempDir, role: Role) -> String {
    let text = load(options(dir.path(), role)).expect_err("it was taken");
    text.replace(&format!("{}/", dir.path().display()), "")
}

fn put(dir: &TempDir, role: Role, made: &Made) {
    let role = role.name();
    std::fs::write(dir.path().join(format!("{role}-cert.pem")), &made.pem).unwrap();
    std::fs::write(dir.path().join(format!("{role}-key.pem")), &made.key).unwrap();
}

#[test]
fn good_files_are_taken() {
    let (dir, maker) = filled();
    for role in [Role::Server, Role::Client] {
        load(options(dir.path(), role)).unwrap();
    }
    // Several authorities, and the chain of our own.
    let other = Maker::new();
    let both = format!("{}{}", other.0.pem(), maker.0.pem());
    std::fs::write(dir.path().join("ca-cert.pem"), both).unwrap();
    load(options(dir.path(), Role::Server)).unwrap();
    // A client may do without a certificate.
    std::fs::remove_file(dir.path().join("client-cert.pem")).unwrap();
    load(options(dir.path(), Role::Client)).unwrap();
}

#[test]
fn missing_files_are_named() {
    for file in ["ca-cert.pem", "server-cert.pem", "server-key.pem"] {
        let (dir, _) = filled();
        std::fs::remove_file(dir.path().join(file)).unwrap();
        let text = format!("Unable to access credentials {file}: No such file or directory");
        assert_eq!(refusal(&dir, Role::Server), text);
    }
}

#[test]
fn malformed_files_are_named() {
    for (file, text) in [
        (
            "ca-cert.pem",
            "Unable to import CA certificate list ca-cert.pem",
        ),
        (
            "server-cert.pem",
            "Unable to import server certificate server-cert.pem: Base64 unexpected header error.",
        ),
        (
            "server-key.pem",
            "Cannot load certificate 'server-cert.pem' & key 'server-key.pem': The requested data \
             were not available.",
        ),
        (
            "ca-crl.pem",
            "Cannot load CRL 'ca-crl.pem': Base64 decoding error.",
        ),
    ] {
        for junk in [
            "",
            "hello\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let (dir, _) = filled();
            std::fs::write(dir.path().join(file), junk).unwrap();
            assert_eq!(refusal(&dir, Role::Server), text, "{junk}");
        }
    }
}

#[test]
fn certificates_that_do_not_fit_are_refused() {
    let (dir, maker) = filled();
    let good = maker.make(Kind::Server, "x");
    let other = maker.make(Kind::Server, "y");
    let mixed = Made {
        key: other.key,
        ..good
    };
    put(&dir, Role::Server, &mixed);
    assert_eq!(
        refusal(&dir, Role::Server),
        "Cannot load certificate 'server-cert.pem' & key 'server-key.pem': The certificate and \
         the given key do not match."
    );
    put(&dir, Role::Server, &Maker::new().make(Kind::Server, "x"));
    assert_eq!(
        refusal(&dir, Role::Server),
        "Our own certificate server-cert.pem failed validation against ca-cert.pem: The \
         certificate hasn't got a known issuer"
    );
    type Change = fn(&mut rcgen::CertificateParams);
    let changes: [(Change, &str); 4] = [
        (
            |p| p.not_after = date_time_ymd(2000, 1, 1),
            "The server certificate server-cert.pem has expired",
        ),
        (
            |p| p.not_before = date_time_ymd(3000, 1, 1),
            "The server certificate server-cert.pem is not yet active",
        ),
        (
            |p| p.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
            "The certificate server-cert.pem basic constraints show a CA, but we need one for a \
             server",
        ),
        (
            |p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement],
            "Certificate server-cert.pem usage does not permit digital signature",
        ),
    ];
    for (change, text) in changes {
        let mut params = Maker::params(Kind::Server, "x");
        change(&mut params);
        put(&dir, Role::Server, &maker.sign(&params));
        assert_eq!(refusal(&dir, Role::Server), text);
    }
    // Told, but taken: it is not critical.
    let mut params = Maker::params(Kind::Server, "x");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    put(&dir, Role::Server, &maker.sign(&params));
    load(options(dir.path(), Role::Server)).unwrap();
}

#[test]
fn without_checks_only_what_cannot_work_is_refused() {
    let (dir, maker) = filled();
    let mut params = Maker::params(Kind::Server, "x");
    params.not_after = date_time_ymd(2000, 1, 1);
    put(&dir, Role::Server, &maker.sign(&params));
    let mut options = options(dir.path(), Role::Server);
    options.sanity_check = false;
    load(options).unwrap();
}

#[test]
fn an_authority_is_one() {
    let (dir, maker) = filled();
    let leaf = maker.make(Kind::Server, "x");
    std::fs::write(dir.path().join("ca-cert.pem"), leaf.pem).unwrap();
    assert_eq!(
        refusal(&dir, Role::Server),
        "The certificate ca-cert.pem basic constraints do not show a CA"
    );
    let plain = params("x")
        .self_signed(&rcgen::KeyPair::generate().unwrap())
        .unwrap();
    std::fs::write(dir.path().join("ca-cert.pem"), plain.pem()).unwrap();
    assert_eq!(
        refusal(&dir, Role::Server),
        "The certificate ca-cert.pem is missing basic constraints for a CA"
    );
}

#[test]
fn a_revoked_certificate_of_our_own_is_refused() {
    let (dir, maker) = filled();
    let mut params = Maker::params(Kind::Server, "x");
    let serial = SerialNumber::from_slice(&[7]);
    params.serial_number = Some(serial.clone());
    put(&dir, Role::Server, &maker.sign(&params));
    std::fs::write(dir.path().join("ca-crl.pem"), revocations(&maker, serial)).unwrap();
    assert_eq!(
        refusal(&dir, Role::Server),
        "Our own certificate server-cert.pem failed validation against ca-cert.pem: The \
         certificate has been revoked"
    );
}

pub fn revocations(maker: &Maker, serial: SerialNumber) -> String {
    let revoked = RevokedCertParams {
        serial_number: serial,
        revocation_time: date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2099, 1, 1),
        crl_number: SerialNumber::from_slice(&[1]),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(&maker.0).unwrap().pem().unwrap()
}

#[test]
fn priorities_choose_versions_and_nothing_is_forgotten() {
    let count = |text: &str| versions(Some(text)).map(|list| list.len());
    assert_eq!(count(""), Ok(2));
    assert_eq!(count("NORMAL:-VERS-TLS1.2"), Ok(1));
    assert_eq!(count("@SYSTEM:-VERS-ALL:+VERS-TLS1.3"), Ok(1));
    assert_eq!(count("SECURE256:-VERS-TLS1.0"), Ok(2));
    for wrong in [
        "foo",
        "NORMAL:-CIPHER-ALL",
        "NORMAL:-VERS-ALL",
        "-VERS-TLS1.2",
        "NORMAL:+ANON-DH",
    ] {
        let text = count(wrong).unwrap_err().0;
        assert!(text.starts_with(&format!("Unable to set TLS session priority {wrong}: ")));
    }
}
