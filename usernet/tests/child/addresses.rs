//! What DHCP tells.

use std::net::Ipv4Addr;

use smoltcp::socket::dhcpv4;
use smoltcp::wire::DhcpPacket;

use super::guest::Guest;
use super::network::{HOST, Network, config};

struct Lease {
    address: String,
    router: Option<Ipv4Addr>,
    dns: Vec<Ipv4Addr>,
    bootfile: String,
    options: Vec<(u8, Vec<u8>)>,
}

fn lease(guest: &mut Guest) -> Lease {
    let mut socket = dhcpv4::Socket::new();
    socket.set_receive_packet_buffer(Box::leak(vec![0; 2048].into_boxed_slice()));
    let handle = guest.sockets.add(socket);
    guest.until("a lease", |guest| {
        let event = guest.sockets.get_mut::<dhcpv4::Socket>(handle).poll()?;
        let dhcpv4::Event::Configured(config) = event else {
            return None;
        };
        let packet: DhcpPacket<&[u8]> = config.packet.unwrap();
        let bytes = packet.into_inner();
        // RFC 2131, section 2: the file's name is at 108.
        let name = bytes[108..236].split(|byte| *byte == 0).next().unwrap();
        let packet = DhcpPacket::new_unchecked(bytes);
        Some(Lease {
            address: config.address.to_string(),
            router: config.router,
            dns: config.dns_servers.to_vec(),
            bootfile: String::from_utf8(name.to_vec()).unwrap(),
            options: packet
                .options()
                .map(|option| (option.kind, option.data.to_vec()))
                .collect(),
        })
    })
}

impl Lease {
    fn option(&self, kind: u8) -> Option<&[u8]> {
        self.options
            .iter()
            .find(|option| option.0 == kind)
            .map(|option| &option.1[..])
    }
}

#[test]
fn a_guest_gets_the_usual_addresses() {
    let (_network, frames) = Network::start(&config());
    let lease = lease(&mut Guest::bare(frames));
    assert_eq!(lease.address, "10.0.2.15/24");
    assert_eq!(lease.router, Some(HOST));
    assert_eq!(lease.dns, [Ipv4Addr::new(10, 0, 2, 3)]);
    assert_eq!(lease.bootfile, "");
}

#[test]
fn a_guest_is_told_what_was_configured() {
    let mut config = config();
    config.ipv4.network = Ipv4Addr::new(192, 168, 0, 0);
    config.ipv4.mask = Ipv4Addr::new(255, 255, 0, 0);
    config.ipv4.host = Ipv4Addr::new(192, 168, 7, 1);
    config.ipv4.dns = Ipv4Addr::new(192, 168, 7, 2);
    config.ipv4.dhcp_start = Ipv4Addr::new(192, 168, 9, 50);
    config.hostname = Some("tux".into());
    config.domain_name = Some("example.org".into());
    config.dns_search = vec!["a.example".into(), "b.example".into()];
    config.bootfile = Some("pxelinux.0".into());
    config.tftp_server_name = Some("boot.example".into());
    let (_network, frames) = Network::start(&config);
    let lease = lease(&mut Guest::bare(frames));
    assert_eq!(lease.address, "192.168.9.50/16");
    assert_eq!(lease.router, Some(Ipv4Addr::new(192, 168, 7, 1)));
    assert_eq!(lease.dns, [Ipv4Addr::new(192, 168, 7, 2)]);
    assert_eq!(lease.bootfile, "pxelinux.0");
    // RFC 2132: host name, domain name, TFTP server name; RFC 3397: search list.
    assert_eq!(lease.option(12), Some(&b"tux"[..]));
    assert_eq!(lease.option(15), Some(&b"example.org"[..]));
    assert_eq!(lease.option(66), Some(&b"boot.example"[..]));
    assert_eq!(
        lease.option(119),
        Some(&b"\x01a\x07example\0\x01b\xc0\x02"[..])
    );
}
