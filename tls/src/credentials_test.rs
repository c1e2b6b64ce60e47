use super::*;
use crate::test_certificates::{Kind, Made, Maker, Setup, load, params};
use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SerialNumber, date_time_ymd};

/// What loading says, with the directory's name left out.
fn refusal(setup: &Setup, role: Role) -> String {
    let text = setup.load(role).expect_err("it was taken").0;
    text.replace(&format!("{}/", setup.dir.path().display()), "")
}

#[test]
fn good_files_are_taken() {
    let setup = Setup::new();
    let maker = &setup.maker;
    for role in [Role::Server, Role::Client] {
        setup.load(role).unwrap();
    }
    // Several authorities, and the chain of our own.
    let other = Maker::new();
    let both = format!("{}{}", other.0.pem(), maker.0.pem());
    setup.put("ca-cert.pem", &both);
    setup.load(Role::Server).unwrap();
    // A client may do without a certificate.
    setup.remove("client-cert.pem");
    setup.load(Role::Client).unwrap();
}

#[test]
fn missing_files_are_named() {
    for file in ["ca-cert.pem", "server-cert.pem", "server-key.pem"] {
        let setup = Setup::new();
        setup.remove(file);
        let text = format!("Unable to access credentials {file}: No such file or directory");
        assert_eq!(refusal(&setup, Role::Server), text);
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
            let setup = Setup::new();
            setup.put(file, junk);
            assert_eq!(refusal(&setup, Role::Server), text, "{junk}");
        }
    }
}

#[test]
fn certificates_that_do_not_fit_are_refused() {
    let setup = Setup::new();
    let maker = &setup.maker;
    let good = maker.make(Kind::Server, "x");
    let other = maker.make(Kind::Server, "y");
    let mixed = Made {
        key: other.key,
        ..good
    };
    setup.put_own(Role::Server, &mixed);
    assert_eq!(
        refusal(&setup, Role::Server),
        "Cannot load certificate 'server-cert.pem' & key 'server-key.pem': The certificate and \
         the given key do not match."
    );
    setup.put_own(Role::Server, &Maker::new().make(Kind::Server, "x"));
    assert_eq!(
        refusal(&setup, Role::Server),
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
        setup.put_own(Role::Server, &maker.sign(&params));
        assert_eq!(refusal(&setup, Role::Server), text);
    }
    // Told, but taken: it is not critical.
    let mut params = Maker::params(Kind::Server, "x");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    setup.put_own(Role::Server, &maker.sign(&params));
    setup.load(Role::Server).unwrap();
}

#[test]
fn without_checks_only_what_cannot_work_is_refused() {
    let setup = Setup::new();
    let maker = &setup.maker;
    let mut params = Maker::params(Kind::Server, "x");
    params.not_after = date_time_ymd(2000, 1, 1);
    setup.put_own(Role::Server, &maker.sign(&params));
    let mut options = setup.options(Role::Server);
    options.sanity_check = false;
    load(options).unwrap();
}

#[test]
fn an_authority_is_one() {
    let setup = Setup::new();
    let maker = &setup.maker;
    let leaf = maker.make(Kind::Server, "x");
    setup.put("ca-cert.pem", &leaf.pem);
    assert_eq!(
        refusal(&setup, Role::Server),
        "The certificate ca-cert.pem basic constraints do not show a CA"
    );
    let plain = params("x")
        .self_signed(&rcgen::KeyPair::generate().unwrap())
        .unwrap();
    setup.put("ca-cert.pem", &plain.pem());
    assert_eq!(
        refusal(&setup, Role::Server),
        "The certificate ca-cert.pem is missing basic constraints for a CA"
    );
}

#[test]
fn a_revoked_certificate_of_our_own_is_refused() {
    let setup = Setup::new();
    let maker = &setup.maker;
    let mut params = Maker::params(Kind::Server, "x");
    params.serial_number = Some(SerialNumber::from_slice(&[7]));
    setup.put_own(Role::Server, &maker.sign(&params));
    setup.put("ca-crl.pem", &maker.revocations(&[7], 2099));
    assert_eq!(
        refusal(&setup, Role::Server),
        "Our own certificate server-cert.pem failed validation against ca-cert.pem: The \
         certificate has been revoked"
    );
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
