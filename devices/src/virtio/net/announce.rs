//! Frames that tell switches where an interface is: a RARP request for its own address (RFC 903),
//! as QEMU sends them.

use block::{Buffers, HostBuffer};

use super::Mac;
use crate::backend::net::{HEADER, NetPort};

const BROADCAST: Mac = [0xff; 6];
/// Bytes of an Ethernet frame without its checksum, at least.
const SHORTEST: usize = 60;
/// Type of the frame, then hardware type Ethernet, protocol IPv4, lengths, "request reverse".
const RARP: [u8; 10] = [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3];

/// The frame, without a header before it.
pub(super) fn frame(mac: Mac) -> Vec<u8> {
    let no_ip = [0; 4];
    let mut frame = [&BROADCAST[..], &mac, &RARP, &mac, &no_ip, &mac, &no_ip].concat();
    frame.resize(SHORTEST, 0);
    frame
}

/// Sends it, unless there is no room.
pub(super) fn send(port: &mut dyn NetPort, header: bool, mac: Mac) {
    let mut bytes = vec![0; if header { HEADER } else { 0 }];
    bytes.extend_from_slice(&frame(mac));
    let _ = port.send(&Buffers::owned(HostBuffer::from_bytes(&bytes, 8)));
}
