//! Debian's guest agent, which orchestrators speak to through a virtio-serial port.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use tests::{VmBuilder, artifacts, seconds};

use crate::{wait, with_kernel};

/// The agent's socket.
struct Agent(BufReader<UnixStream>);

impl Agent {
    fn ask(&mut self, command: &str, arguments: Value) -> Value {
        let order = json!({"execute": command, "arguments": arguments}).to_string();
        self.0.get_mut().write_all(order.as_bytes()).expect("write");
        let answer = self.line();
        assert!(answer.get("error").is_none(), "{command}: {answer}");
        answer["return"].clone()
    }

    fn line(&mut self) -> Value {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).expect("an answer");
        // guest-sync-delimited puts 0xff before its answer.
        let text = line.strip_prefix(&[0xff]).unwrap_or(&line);
        serde_json::from_slice(text).expect("JSON")
    }
}

/// initrd and agent, one behind the other.
fn initrd_with_agent(builder: &VmBuilder, guest: &artifacts::Guest) -> std::path::PathBuf {
    let path = builder.path("initrd-with-agent");
    let mut all = std::fs::read(&guest.initrd).expect("the initrd");
    let agent = guest.initrd.with_file_name("agent");
    all.extend(std::fs::read(agent).expect("the agent"));
    std::fs::write(&path, all).expect("write");
    path
}

#[test]
fn the_guest_agent_answers() {
    let Some(mut guest) = artifacts::guest() else {
        return;
    };
    let builder = VmBuilder::new();
    guest.initrd = initrd_with_agent(&builder, &guest);
    let socket = builder.path("agent.sock");
    let chardev = format!(
        "socket,id=qga0,path={},server=on,wait=off",
        socket.display()
    );
    let mut vm = with_kernel(builder, &guest, "")
        .args(["-m", "512", "-chardev", &chardev])
        .args(["-device", "virtio-serial-pci"])
        .args([
            "-device",
            "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0,id=port0",
        ])
        .start();
    let mut serial = vm.serial();
    wait(&mut serial);
    let port = "/dev/$(basename $(dirname $(grep -l guest_agent /sys/class/virtio-ports/*/name)))";
    serial.run("mkdir -p /var/run /var/log");
    serial.run(&format!("qemu-ga -d -t /run -p {port}"));
    let opened = vm.qmp().event_within("VSERPORT_CHANGE", seconds(20));
    let opened = opened.expect("the agent opens its port");
    assert_eq!(opened["data"], json!({"id": "port0", "open": true}));

    let stream = UnixStream::connect(&socket).expect("connect");
    stream.set_read_timeout(Some(seconds(30))).expect("limit");
    let mut agent = Agent(BufReader::new(stream));
    // As clients begin: a byte that is no JSON, which ends whatever the agent had read before.
    agent.0.get_mut().write_all(&[0xff]).expect("write");
    assert_eq!(agent.line()["error"]["class"], "GenericError");
    let id = json!({"id": 7123});
    assert_eq!(agent.ask("guest-sync-delimited", id), 7123);
    assert_eq!(agent.ask("guest-ping", json!({})), json!({}));
    let info = agent.ask("guest-info", json!({}));
    assert!(
        info["supported_commands"]
            .as_array()
            .is_some_and(|all| all.len() > 20)
    );
    assert_eq!(
        agent
            .ask("guest-get-vcpus", json!({}))
            .as_array()
            .map(Vec::len),
        Some(1)
    );

    // A program in the guest, through the agent: its output comes back whole.
    let run = json!({"path": "/bin/sh", "arg": ["-c", "seq 1 5000"], "capture-output": true});
    let pid = agent.ask("guest-exec", run)["pid"].clone();
    let done = (0..200).find_map(|_| {
        let status = agent.ask("guest-exec-status", json!({"pid": pid}));
        std::thread::sleep(std::time::Duration::from_millis(50));
        (status["exited"] == true).then_some(status)
    });
    let done = done.expect("the program ends");
    assert_eq!(done["exitcode"], 0);
    let output = done["out-data"].as_str().expect("output");
    // 9 numbers of one figure, 90 of two, 900 of three, 4001 of four, and as many line feeds.
    let bytes = 9 + 90 * 2 + 900 * 3 + 4001 * 4 + 5000;
    assert_eq!(output.trim_end_matches('=').len() * 3 / 4, bytes);

    // Stop and cont in the middle lose nothing.
    vm.query("stop");
    let order = json!({"execute": "guest-ping"}).to_string();
    agent
        .0
        .get_mut()
        .write_all(order.as_bytes())
        .expect("write");
    vm.query("cont");
    assert_eq!(agent.line(), json!({"return": {}}));

    serial.run("killall qemu-ga");
    let closed = vm.qmp().event_within("VSERPORT_CHANGE", seconds(20));
    let closed = closed.expect("the agent closes its port");
    assert_eq!(closed["data"], json!({"id": "port0", "open": false}));
}
