//! Machines that move from one process to another.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Vm, VmBuilder, seconds};

/// Moves the machine into a process of this builder, which is made like the one it is in, over a unix
/// socket. The source stays where it is, in the state `postmigrate`.
///
/// # Panics
/// When it does not arrive.
pub fn migrate_to(source: &mut Vm, target: VmBuilder) -> Vm {
    let uri = format!("unix:{}", target.path("migration.sock").display());
    let mut target = target.args(["-incoming", "defer"]).start();
    listen(&mut target, &uri);
    go(source, &uri);
    arrive(&mut target);
    target
}

/// Has it wait for a machine.
///
/// # Panics
/// When it does not.
pub fn listen(target: &mut Vm, uri: &str) {
    target.exec("migrate-incoming", json!({ "uri": uri }));
}

/// Sends it, and waits until it has gone.
///
/// # Panics
/// When it does not go; says why.
pub fn go(source: &mut Vm, uri: &str) -> Value {
    source.exec("migrate", json!({ "uri": uri }));
    wait(source, "completed")
}

/// Waits until the machine is here.
///
/// # Panics
/// When it does not come.
pub fn arrive(target: &mut Vm) -> Value {
    wait(target, "completed")
}

/// Waits until the migration is in this state; gives all that there is to know about it then.
///
/// # Panics
/// When it ends in another one.
pub fn wait(vm: &mut Vm, status: &str) -> Value {
    let end = Instant::now() + seconds(60);
    loop {
        let info = vm.query("query-migrate");
        let now = info["status"].as_str().unwrap_or("none").to_owned();
        if now == status {
            return info;
        }
        let ended = ["completed", "failed", "cancelled"].contains(&now.as_str());
        assert!(!ended, "{info}; {}", vm.stderr());
        assert!(Instant::now() < end, "{info}, not {status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Switches capabilities on.
///
/// # Panics
/// When one cannot be.
pub fn enable(vm: &mut Vm, capabilities: &[&str]) {
    let on = |name: &&str| json!({"capability": name, "state": true});
    let list: Vec<Value> = capabilities.iter().map(on).collect();
    vm.exec("migrate-set-capabilities", json!({ "capabilities": list }));
}

/// What the events of this name said, of those that came, in order.
pub fn statuses(events: &[Value]) -> Vec<String> {
    let name = |event: &Value| match event["event"].as_str() {
        Some("MIGRATION") => event["data"]["status"].as_str().unwrap_or("?").to_owned(),
        Some(other) => other.to_owned(),
        None => "?".to_owned(),
    };
    events.iter().map(name).collect()
}
