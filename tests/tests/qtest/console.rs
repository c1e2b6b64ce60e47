//! virtio-serial by its rings (virtio 1.2, section 5.3).

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tests::qtest::Qtest;
use tests::virtio::{Device, Queue};
use tests::{VmBuilder, seconds};

const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const CONSOLE_PORT: u16 = 4;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// How many messages of the device there is room for.
const INBOX: u16 = 32;

/// A machine with a console as port 0 and a named port 1, each on a socket.
struct Ports {
    t: Qtest,
    control_in: Queue,
    control_out: Queue,
    /// Receive and transmit queues of ports 0 and 1.
    data: [(Queue, Queue); 2],
    host: [UnixStream; 2],
    page: u64,
}

impl Ports {
    fn start() -> Self {
        let builder = VmBuilder::new();
        let path = |i: u32| builder.path(&format!("p{i}.sock"));
        let paths = [path(0), path(1)];
        let mut builder = builder
            .idle()
            .args(["-device", "virtio-serial-pci,addr=4.0,id=s0,max_ports=4"]);
        for (i, path) in paths.iter().enumerate() {
            builder = builder.arg("-chardev").arg(format!(
                "socket,id=c{i},path={},server=on,wait=off",
                path.display()
            ));
        }
        let builder = builder
            .args(["-device", "virtconsole,chardev=c0,nr=0"])
            .args([
                "-device",
                "virtserialport,chardev=c1,nr=1,name=org.test.0,id=port1",
            ]);
        let mut t = Qtest::start_with(builder, &[]);
        let host = paths.map(|path| {
            let stream = UnixStream::connect(path).expect("the port listens");
            stream
                .set_read_timeout(Some(seconds(10)))
                .expect("a socket");
            stream
        });
        let mut device = Device::find(&mut t, 4);
        device.negotiate(&mut t, u64::MAX);
        assert_ne!(device.features & 2, 0, "VIRTIO_CONSOLE_F_MULTIPORT");
        assert_eq!(t.readl(device.config() + 4), 4, "max_nr_ports");
        let queue = |t: &mut Qtest, index| device.queue(t, index, None);
        let data = [
            (queue(&mut t, 0), queue(&mut t, 1)),
            (queue(&mut t, 4), queue(&mut t, 5)),
        ];
        let (mut control_in, control_out) = (queue(&mut t, 2), queue(&mut t, 3));
        device.drive(&mut t);
        let page = t.alloc(4096);
        // Messages for which there is no room are lost.
        let inbox = t.alloc(u64::from(INBOX) * 512);
        for slot in 0..INBOX {
            control_in.add(&mut t, &[(inbox + u64::from(slot) * 512, 512, true)]);
        }
        control_in.kick(&mut t);
        Ports {
            t,
            control_in,
            control_out,
            data,
            host,
            page,
        }
    }

    fn tell(&mut self, port: u32, event: u16, value: u16) {
        let t = &mut self.t;
        t.writel(self.page, port);
        t.writew(self.page + 4, event);
        t.writew(self.page + 6, value);
        self.control_out.add(t, &[(self.page, 8, false)]);
        self.control_out.kick(t);
        self.control_out.wait(t);
    }

    /// The next control message: port, event, value and what follows.
    fn hear(&mut self) -> (u32, u16, u16, Vec<u8>) {
        let t = &mut self.t;
        let (head, length) = self.control_in.wait(t);
        let at = t.readq(self.control_in.table + u64::from(head) * 16);
        let bytes = t.read(at, length as usize);
        let rest = bytes.get(8..).unwrap_or_default().to_vec();
        (t.readl(at), t.readw(at + 4), t.readw(at + 6), rest)
    }

    /// Hears until there is nothing more to hear; `count` messages.
    fn hear_all(&mut self, count: usize) -> Vec<(u32, u16, u16, Vec<u8>)> {
        (0..count).map(|_| self.hear()).collect()
    }

    fn open(&mut self) {
        self.tell(0, DEVICE_READY, 1);
        let mut added: Vec<_> = self.hear_all(2).into_iter().map(|m| (m.0, m.1)).collect();
        added.sort_unstable();
        assert_eq!(added, [(0, PORT_ADD), (1, PORT_ADD)]);
        self.tell(0, PORT_READY, 1);
        self.tell(1, PORT_READY, 1);
        self.tell(0, PORT_OPEN, 1);
        self.tell(1, PORT_OPEN, 1);
    }
}

#[test]
fn ports_are_told_of() {
    let mut p = Ports::start();
    p.tell(0, DEVICE_READY, 1);
    let mut added: Vec<_> = p.hear_all(2).into_iter().map(|m| (m.0, m.1)).collect();
    added.sort_unstable();
    assert_eq!(added, [(0, PORT_ADD), (1, PORT_ADD)]);
    p.tell(0, PORT_READY, 1);
    let messages = p.hear_all(2);
    assert!(
        messages.iter().any(|m| (m.0, m.1) == (0, CONSOLE_PORT)),
        "{messages:?}"
    );
    assert!(
        messages
            .iter()
            .any(|m| (m.0, m.1, m.2) == (0, PORT_OPEN, 1)),
        "{messages:?}"
    );
    p.tell(1, PORT_READY, 1);
    let messages = p.hear_all(2);
    let name = messages
        .iter()
        .find(|m| (m.0, m.1) == (1, PORT_NAME))
        .expect("a name");
    assert_eq!(
        name.3.split(|byte| *byte == 0).next(),
        Some(&b"org.test.0"[..])
    );
    assert!(
        messages
            .iter()
            .any(|m| (m.0, m.1, m.2) == (1, PORT_OPEN, 1)),
        "{messages:?}"
    );
}

#[test]
fn bytes_go_both_ways() {
    let mut p = Ports::start();
    p.open();
    for port in 0..2 {
        let at = p.page + 2048;
        let (input, output) = &mut p.data[port];
        p.t.write(at, b"from the guest");
        output.add(&mut p.t, &[(at, 5, false), (at + 5, 9, false)]);
        output.kick(&mut p.t);
        output.wait(&mut p.t);
        let mut bytes = [0; 14];
        p.host[port].read_exact(&mut bytes).expect("bytes");
        assert_eq!(&bytes, b"from the guest");
        p.host[port].write_all(b"from the host").expect("bytes");
        let mut got = Vec::new();
        while got.len() < 13 {
            input.add(&mut p.t, &[(at, 64, true)]);
            input.kick(&mut p.t);
            let (_, length) = input.wait(&mut p.t);
            got.extend(p.t.read(at, length as usize));
        }
        assert_eq!(got, b"from the host");
    }
}

#[test]
fn opening_and_closing_a_port_is_an_event() {
    let mut p = Ports::start();
    p.open();
    let event = p.t.vm.qmp().event("VSERPORT_CHANGE");
    assert_eq!(
        event["data"],
        serde_json::json!({"id": "port1", "open": true})
    );
    p.tell(1, PORT_OPEN, 0);
    let event = p.t.vm.qmp().event("VSERPORT_CHANGE");
    assert_eq!(
        event["data"],
        serde_json::json!({"id": "port1", "open": false})
    );
}

#[test]
fn changes_of_a_port_are_told_once_a_second() {
    if tests::binary::skip_on_stand_in("its clock for events stands still or runs as it likes") {
        return;
    }
    let mut p = Ports::start();
    p.open();
    for round in 0..20 {
        p.tell(1, PORT_OPEN, round % 2);
    }
    let mut events = Vec::new();
    while let Some(event) =
        p.t.vm
            .qmp()
            .event_within("VSERPORT_CHANGE", Duration::from_millis(2500))
    {
        events.push(event["data"]["open"].as_bool().expect("a bool"));
    }
    assert!((2..=4).contains(&events.len()), "{events:?}");
    // The last one is what is true in the end.
    assert_eq!(events.last(), Some(&true));
}

#[test]
fn a_peer_that_goes_and_comes_is_told() {
    let mut p = Ports::start();
    p.open();
    // Name, console and open of both ports.
    p.hear_all(4);
    p.host[1]
        .shutdown(std::net::Shutdown::Both)
        .expect("a socket");
    let message = p.hear();
    assert_eq!((message.0, message.1, message.2), (1, PORT_OPEN, 0));
    let path = p.t.vm.path("p1.sock");
    p.host[1] = UnixStream::connect(path).expect("it listens again");
    let message = p.hear();
    assert_eq!((message.0, message.1, message.2), (1, PORT_OPEN, 1));
}

#[test]
fn the_host_waits_where_the_guest_does_not_read() {
    let mut p = Ports::start();
    p.open();
    p.host[1].set_nonblocking(true).expect("a socket");
    let block = vec![b'x'; 65536];
    let mut sent = 0usize;
    while let Ok(n) = p.host[1].write(&block) {
        sent += n;
        assert!(sent < 64 << 20, "everything is taken though nobody reads");
        std::thread::sleep(Duration::from_micros(200));
    }
    p.t.vm.assert_alive();
}

#[test]
fn messages_that_make_no_sense_harm_nothing() {
    let mut p = Ports::start();
    p.open();
    for (port, event, value) in [
        (99, PORT_READY, 1),
        (u32::MAX, PORT_OPEN, 1),
        (1, 999, 1),
        (3, PORT_OPEN, 1),
    ] {
        p.tell(port, event, value);
    }
    let (t, queue) = (&mut p.t, &mut p.control_out);
    // Too short, and not there.
    queue.add(t, &[(p.page, 3, false)]);
    queue.add(t, &[(0xffff_ffff_0000, 8, false)]);
    queue.kick(t);
    t.vm.assert_alive();
}

#[test]
fn the_emergency_write() {
    let mut t = Qtest::start(&[
        "-chardev",
        "ringbuf,id=c0",
        "-device",
        "virtio-serial-pci,addr=4.0",
        "-device",
        "virtconsole,chardev=c0",
    ]);
    let device = Device::find(&mut t, 4);
    if device.offered(&mut t) & 4 == 0 {
        println!("skipped: not offered");
        return;
    }
    t.writel(device.config() + 8, u32::from(b'!'));
    let text = t.vm.exec(
        "ringbuf-read",
        serde_json::json!({"device": "c0", "size": 10}),
    );
    assert_eq!(text, "!");
}
