//! Clients that no one here wrote: the Rust crate qapi, with its strict types, and Python's qemu.qmp.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use qapi::qmp;
use tests::binary::{cache, tree};
use tests::{Vm, VmBuilder};

#[test]
fn the_types_of_qapi_take_every_answer() {
    let mut vm = VmBuilder::new()
        .stopped()
        .args([
            "-smp",
            "2",
            "-object",
            "iothread,id=io0",
            "-object",
            "memory-backend-ram,id=m,size=4096",
        ])
        .args([
            "-blockdev",
            "null-co,node-name=n0",
            "-device",
            "virtio-blk-pci,drive=n0,id=d0",
        ])
        .start();
    drop(vm.take_qmp());
    let stream = UnixStream::connect(vm.monitor(0)).expect("a monitor");
    let mut client = qapi::Qmp::new(qapi::Stream::new(
        BufReader::new(stream.try_clone().expect("a descriptor")),
        stream,
    ));
    let greeting = client.handshake().expect("a handshake");
    assert_eq!(greeting.version.qemu.major, 10);
    client.nop().expect("nop");
    macro_rules! ask {
        ($($command:ident $arguments:tt),* $(,)?) => {
            $(client.execute(&qmp::$command $arguments).unwrap_or_else(|e| panic!("{}: {e}", stringify!($command)));)*
        };
    }
    ask!(
        query_version {},
        query_commands {},
        query_qmp_schema {},
        query_status {},
        query_name {},
        query_uuid {},
        query_kvm {},
        query_target {},
        query_machines { compat_props: None },
        query_cpus_fast {},
        query_iothreads {},
        query_memdev {},
        query_memory_size_summary {},
        query_pci {},
        query_chardev {},
        query_block {},
        query_blockstats { query_nodes: None },
        query_named_block_nodes { flat: Some(true) },
        query_fdsets {},
        qom_list {
            path: "/machine".into()
        },
        qom_get {
            path: "/machine".into(),
            property: "type".into()
        },
        qom_list_types {
            implements: Some("device".into()),
            abstract_: None
        },
        device_list_properties {
            typename: "virtio-blk-pci".into()
        },
        human_monitor_command {
            command_line: "info status".into(),
            cpu_index: None
        },
        cont {},
        stop {},
        system_reset {},
        system_powerdown {},
        inject_nmi {},
    );
    let events: Vec<_> = client.events().collect();
    assert!(
        events
            .iter()
            .any(|e| matches!(e, qmp::Event::RESUME { .. })),
        "{events:?}"
    );
    ask!(quit {});
    assert_eq!(vm.wait().status, Some(0));
}

/// Python with qemu.qmp 0.0.6 in a place of its own; None, with a word, where it cannot be had.
fn python() -> Option<PathBuf> {
    let place = cache().join("qemu.qmp");
    let python = place.join("bin/python");
    let ready = place.join("ready-0.0.6");
    if ready.exists() {
        return Some(python);
    }
    std::fs::create_dir_all(cache()).ok()?;
    // Tests run at the same time: one makes it.
    let lock = std::fs::File::create(cache().join("qemu.qmp.lock")).ok()?;
    lock.lock().ok()?;
    if ready.exists() {
        return Some(python);
    }
    let run = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let made = run(Command::new("python3").args(["-m", "venv"]).arg(&place))
        && run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "qemu.qmp==0.0.6"]));
    if !made || std::fs::write(&ready, "").is_err() {
        println!("skipped: python3 with qemu.qmp cannot be had");
        return None;
    }
    Some(python)
}

fn run_script(name: &str, vm: &mut Vm) {
    let Some(python) = python() else { return };
    drop(vm.take_qmp());
    let output = Command::new(python)
        .arg(tree().join("tests/clients").join(name))
        .arg(vm.monitor(0))
        .output()
        .expect("python runs");
    let lines: Vec<_> = BufReader::new(&output.stdout[..])
        .lines()
        .map_while(Result::ok)
        .collect();
    assert!(
        output.status.success() && lines.last().is_some_and(|line| line == "all fine"),
        "{lines:?} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn the_library_qemu_qmp() {
    run_script("library.py", &mut Vm::stopped());
}

#[test]
fn the_shell_of_qemu_qmp() {
    run_script("shell.py", &mut Vm::stopped());
}
