//! Serial ports over TLS.

use std::net::TcpListener;
use std::time::Instant;

use tests::certificates::credentials;
use tests::qtest::Qtest;
use tests::seconds;

const DATA: u16 = 0x3f8;
const STATUS: u16 = 0x3fd;

/// Sends bytes through one port and takes them from the other.
fn pass(from: &mut Qtest, to: &mut Qtest, text: &[u8]) {
    let mut got = Vec::new();
    let end = Instant::now() + seconds(30);
    for byte in text {
        from.outb(DATA, *byte);
        // The room for what was received is small.
        while to.inb(STATUS) & 1 == 0 {
            assert!(Instant::now() < end, "only {got:?} came");
        }
        got.push(to.inb(DATA));
    }
    assert_eq!(got, text);
}

#[test]
fn two_serial_ports_talk_in_both_directions() {
    let dir = credentials("Ours");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    drop(listener);
    let start = |endpoint: &str, more: &str| {
        let object = format!(
            "tls-creds-x509,id=t,dir={},endpoint={endpoint}",
            dir.path().display()
        );
        let chardev = format!("socket,id=c,host=127.0.0.1,port={port},tls-creds=t,{more}");
        Qtest::start(&[
            "-object",
            &object,
            "-chardev",
            &chardev,
            "-serial",
            "chardev:c",
        ])
    };
    let mut server = start("server", "server=on,wait=off");
    let mut client = start("client", "reconnect-ms=50");
    let until = Instant::now() + seconds(20);
    let open = |port: &mut Qtest| {
        let list = port.vm.query("query-chardev").to_string();
        !list.contains("disconnected:tcp")
    };
    while !(open(&mut server) && open(&mut client)) {
        assert!(Instant::now() < until, "not connected");
    }
    pass(
        &mut server,
        &mut client,
        b"what the server's guest says\r\n",
    );
    pass(
        &mut client,
        &mut server,
        b"what the client's guest says\r\n",
    );
}
