use super::*;
use crate::test_certificates::{Kind, Maker, Setup, load};
use crate::{AllowList, CredentialsOptions, Gate, Role};
use proptest::prelude::*;
use rcgen::SerialNumber;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

struct End {
    session: Session,
    wire: UnixStream,
}

fn ends(server: &Gate, client: &Gate) -> (End, End) {
    let (a, b) = UnixStream::pair().unwrap();
    let end = |wire: UnixStream, gate: &Gate| {
        wire.set_nonblocking(true).unwrap();
        let session = gate.open().unwrap();
        End { session, wire }
    };
    (end(a, server), end(b, client))
}

type Outcome = Result<Progress, Refusal>;

/// Both take turns until both are done or one refuses.
fn shake(server: &mut End, client: &mut End) -> (Outcome, Outcome) {
    let (mut ours, mut theirs) = (Ok(Progress::Waits), Ok(Progress::Waits));
    for _ in 0..1000 {
        if ours == Ok(Progress::Waits) {
            ours = server.session.shake_hands(&mut server.wire);
        }
        if theirs == Ok(Progress::Waits) {
            theirs = client.session.shake_hands(&mut client.wire);
        }
        if ours != Ok(Progress::Waits) && theirs != Ok(Progress::Waits) {
            return (ours, theirs);
        }
    }
    panic!("The handshake gets nowhere");
}

fn refusal(server: &Gate, client: &Gate) -> String {
    let (mut server, mut client) = ends(server, client);
    shake(&mut server, &mut client).0.unwrap_err().0
}

#[test]
fn peers_of_one_authority_talk() {
    let setup = Setup::new();
    let (server, client) = (
        setup.gate(Role::Server, true),
        setup.gate(Role::Client, true),
    );
    let (mut server, mut client) = ends(&server, &client);
    let done = (Ok(Progress::Done), Ok(Progress::Done));
    assert_eq!(shake(&mut server, &mut client), done);
    assert_eq!(server.session.identity(), Some("O=Test,CN=client"));
    assert_eq!(client.session.identity(), Some("O=Test,CN=server"));
    let mut buffer = [0; 100];
    assert_eq!(client.session.write(&mut client.wire, b"hello").unwrap(), 5);
    assert_eq!(
        server
            .session
            .read(&mut server.wire, &mut buffer[..2])
            .unwrap(),
        2
    );
    assert!(server.session.has_input());
    assert_eq!(
        server.session.read(&mut server.wire, &mut buffer).unwrap(),
        3
    );
    assert!(!server.session.has_input());
    let later = server
        .session
        .read(&mut server.wire, &mut buffer)
        .unwrap_err();
    assert_eq!(later.kind(), ErrorKind::WouldBlock);
    client.session.close(&mut client.wire);
    assert_eq!(
        server.session.read(&mut server.wire, &mut buffer).unwrap(),
        0
    );
    // And again.
    assert_eq!(
        server.session.read(&mut server.wire, &mut buffer).unwrap(),
        0
    );
}

#[test]
fn a_lost_connection_is_an_end() {
    let setup = Setup::new();
    let (server, client) = (
        setup.gate(Role::Server, true),
        setup.gate(Role::Client, true),
    );
    let (mut server, mut client) = ends(&server, &client);
    shake(&mut server, &mut client).0.unwrap();
    drop(client);
    let mut buffer = [0; 100];
    assert_eq!(
        server.session.read(&mut server.wire, &mut buffer).unwrap(),
        0
    );
}

#[test]
fn much_is_sent_as_far_as_it_is_taken() {
    let setup = Setup::new();
    let (server, client) = (
        setup.gate(Role::Server, true),
        setup.gate(Role::Client, true),
    );
    let (mut server, mut client) = ends(&server, &client);
    shake(&mut server, &mut client).0.unwrap();
    let data: Vec<u8> = (0..5_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
    let (mut sent, mut got) = (0, Vec::new());
    let mut buffer = vec![0; 10_000];
    let mut stuck = 0;
    while got.len() < data.len() {
        match server.session.write(&mut server.wire, &data[sent..]) {
            Ok(count) => {
                stuck += u32::from(count < data.len() - sent);
                sent += count;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                stuck += 1;
            }
        }
        server.session.send(&mut server.wire).unwrap();
        for _ in 0..20 {
            match client.session.read(&mut client.wire, &mut buffer) {
                Ok(count) => got.extend_from_slice(&buffer[..count]),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
    }
    assert!(stuck > 0);
    assert!(got == data);
    assert!(!server.session.wants_output());
}

#[test]
fn the_wrong_and_the_absent_are_refused() {
    let setup = Setup::new();
    let server = setup.gate(Role::Server, true);
    let stranger = Setup::new();
    // Takes any server.
    let text = refusal(&server, &stranger.gate(Role::Client, false));
    let known = "TLS handshake failed: The certificate hasn't got a known issuer";
    assert_eq!(text, known);
    stranger.remove("client-cert.pem");
    let text = refusal(&server, &stranger.gate(Role::Client, false));
    assert_eq!(text, "TLS handshake failed: No certificate was found.");
    // A server's certificate is none of a client.
    let made = setup.maker.make(Kind::Server, "x");
    stranger.put_own(Role::Client, &made);
    let text = refusal(&server, &stranger.gate(Role::Client, false));
    assert!(text.starts_with("TLS handshake failed: "), "{text}");
    // A client that finds a stranger at the server's place.
    let (mut server, mut client) = ends(
        &stranger.gate(Role::Server, true),
        &setup.gate(Role::Client, true),
    );
    let theirs = shake(&mut server, &mut client).1.unwrap_err();
    assert_eq!(theirs.0, known);
}

#[test]
fn without_verification_anybody_comes_in() {
    let (setup, stranger) = (Setup::new(), Setup::new());
    let (mut server, mut client) = ends(
        &setup.gate(Role::Server, false),
        &stranger.gate(Role::Client, false),
    );
    let done = (Ok(Progress::Done), Ok(Progress::Done));
    assert_eq!(shake(&mut server, &mut client), done);
    assert_eq!(server.session.identity(), None);
}

#[test]
fn the_list_decides() {
    let setup = Setup::new();
    let (server, client) = (setup.listed(), setup.gate(Role::Client, true));
    assert_eq!(refusal(&server, &client), "Cannot find QAuthZ object ID a");
    setup.lists.set("a", AllowList::only("O=Test,CN=other"));
    assert_eq!(
        refusal(&server, &client),
        "TLS x509 authz check for O=Test,CN=client is denied"
    );
    setup.lists.set("a", AllowList::only("O=Test,CN=client"));
    let (mut server, mut client) = ends(&server, &client);
    assert_eq!(shake(&mut server, &mut client).0, Ok(Progress::Done));
}

#[test]
fn revoked_peers_stay_out_and_a_list_that_expired_keeps_nobody_else_out() {
    let done = (Ok(Progress::Done), Ok(Progress::Done));
    for year in [2099, 2021] {
        let setup = Setup::new();
        setup.put("ca-crl.pem", &setup.maker.revocations(&[7], year));
        let (server, client) = (
            setup.gate(Role::Server, true),
            setup.gate(Role::Client, true),
        );
        let (mut ours, mut theirs) = ends(&server, &client);
        assert_eq!(shake(&mut ours, &mut theirs), done, "{year}");
        let revoked = "TLS handshake failed: The certificate has been revoked";
        let with_serial = |kind, role| {
            let mut params = Maker::params(kind, "x");
            params.serial_number = Some(SerialNumber::from_slice(&[7]));
            setup.put_own(role, &setup.maker.sign(&params));
        };
        // Those who do not look at their own.
        setup.remove("ca-crl.pem");
        with_serial(Kind::Client, Role::Client);
        let text = refusal(&server, &setup.gate(Role::Client, true));
        assert_eq!(text, revoked, "{year}");
        with_serial(Kind::Server, Role::Server);
        let (mut ours, mut theirs) = ends(&setup.gate(Role::Server, true), &client);
        let text = shake(&mut ours, &mut theirs).1.unwrap_err().0;
        assert_eq!(text, revoked, "{year}");
    }
}

#[test]
fn gates_need_what_fits() {
    let setup = Setup::new();
    let load = |role, verify_peer| {
        let options = CredentialsOptions {
            verify_peer,
            ..setup.options(role)
        };
        Arc::new(load(options).unwrap())
    };
    let client = load(Role::Client, true);
    let text = |result: Result<Gate, Refusal>| result.unwrap_err().0;
    assert_eq!(
        text(Gate::new(client.clone(), Role::Server, None, None)),
        "Expected TLS credentials for a server endpoint"
    );
    assert!(text(Gate::new(client.clone(), Role::Client, None, None)).contains("No hostname"));
    assert!(text(Gate::new(client, Role::Client, Some("a b"), None)).contains("'a b'"));
    let list = Some((setup.lists.clone(), "a".to_owned()));
    assert_eq!(
        text(Gate::new(
            load(Role::Server, false),
            Role::Server,
            None,
            list
        )),
        "'tls_authz' option requires TLS credentials with verify-peer=on"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 1..3000)) {
        static SETUP: std::sync::LazyLock<(Setup, Gate)> = std::sync::LazyLock::new(|| {
            let setup = Setup::new();
            let gate = setup.gate(Role::Server, true);
            (setup, gate)
        });
        let (mut peer, ours) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut end = End { session: SETUP.1.open().unwrap(), wire: ours };
        peer.write_all(&noise).unwrap();
        drop(peer);
        prop_assert!(end.session.shake_hands(&mut end.wire).is_err());
    }
}
