//! A user network behind an interface, frame by frame.

use serde_json::json;
use tests::qtest::Qtest;
use tests::{binary, sys};

use super::netsock::{Card, plug, start};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// RFC 826: who has 10.0.2.`last`?
fn question(last: u8) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&MAC);
    frame.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend_from_slice(&MAC);
    frame.extend_from_slice(&[10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, last]);
    frame.resize(60, 0);
    frame
}

fn asks_and_is_answered(t: &mut Qtest, card: &mut Card, last: u8) {
    let at = card.give(t);
    card.send(t, &question(last));
    let answer = card.got(t, at);
    assert_eq!(answer.get(..6), Some(&MAC[..]));
    assert_eq!(
        answer.get(20..22),
        Some(&[0, 2][..]),
        "no answer: {answer:?}"
    );
    assert_eq!(answer.get(28..32), Some(&[10, 0, 2, last][..]));
}

#[test]
fn the_host_is_in_the_network_before_and_after_a_stop() {
    let mut t = start();
    t.vm.exec(
        "netdev_add",
        json!({"type": "user", "id": "n", "ipv6": false}),
    );
    let mut card = plug(&mut t, 4, "n");
    card.link_is(&mut t, true);
    asks_and_is_answered(&mut t, &mut card, 2);
    t.vm.query("stop");
    t.vm.query("cont");
    for last in [2, 3, 2, 3] {
        asks_and_is_answered(&mut t, &mut card, last);
    }
}

#[test]
fn a_network_that_is_killed_takes_the_link_along() {
    if binary::skip_on_stand_in("the process is ours") {
        return;
    }
    let mut t = start();
    t.vm.exec(
        "netdev_add",
        json!({"type": "user", "id": "n", "ipv6": false}),
    );
    let mut card = plug(&mut t, 4, "n");
    card.link_is(&mut t, true);
    asks_and_is_answered(&mut t, &mut card, 2);
    let children = sys::programs(t.vm.pid());
    assert_eq!(children.len(), 1);
    sys::kill(children[0], libc::SIGKILL);
    card.link_is(&mut t, false);
    // Into nowhere; the interface takes it all the same.
    card.send(&mut t, &question(2));
    assert_eq!(t.vm.query("query-status")["status"], "running");
    t.vm.exec("netdev_del", json!({"id": "n"}));
    card.send(&mut t, &question(2));
    card.link_is(&mut t, false);
}
