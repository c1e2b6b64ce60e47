//! The files that a configuration names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use api_spec::{Encode, Value, to_json};

use super::files::Named;
use crate::cli::Order;
use crate::control::migrate::address::Address;

/// Those that the command line names outside of disks and outputs, which are known when they have
/// been opened ([`of_opened`]).
pub fn of_order(order: &Order) -> Vec<Named> {
    let mut named = Vec::new();
    let machine = &order.machine;
    // A reset reads them again.
    let boot = machine.kernel.iter().chain(&machine.initrd);
    named.extend(boot.cloned().map(Named::Read));
    named.extend(order.process.pidfile.clone().map(Named::Made));
    named.extend(order.process.log_file.clone().map(Named::Write));
    if let Some((backend, _)) = &order.qtest.socket {
        walk(backend, &mut named);
    }
    for (_, chardev) in &order.chardevs {
        walk_encoded(chardev, &mut named);
    }
    for (_, object) in &order.objects {
        walk_encoded(object, &mut named);
    }
    for (_, netdev) in &order.nets.netdevs {
        walk_encoded(netdev, &mut named);
    }
    let incoming = order
        .incoming
        .as_ref()
        .and_then(|incoming| incoming.from.as_ref());
    match incoming {
        Some((Address::File { path, .. }, _)) => named.push(Named::Read(path.into())),
        Some((Address::Unix(address), _)) => named.push(Named::Made((&address.path).into())),
        Some((Address::Tcp(_) | Address::Fd(_) | Address::Exec(_), _)) | None => {}
    }
    named
}

fn walk_encoded(value: &impl Encode, named: &mut Vec<Named>) {
    if let Ok(value) = serde_json::from_str(&to_json(value)) {
        walk(&value, named);
    }
}

/// Goes by the names that members have in the schema.
fn walk(value: &Value, named: &mut Vec<Named>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match (key.as_str(), member) {
                    // Of a socket.
                    ("path", Value::String(path)) => named.push(Named::Made(path.into())),
                    ("mem-path", Value::String(path)) => named.push(Named::Inside(path.into())),
                    // Of certificates, of secrets, of entropy.
                    ("dir" | "file" | "filename", Value::String(path)) => {
                        named.push(Named::Read(path.into()));
                    }
                    _ => walk(member, named),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|member| walk(member, named)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Those that were opened by name during the start, and whether to be written: disks with all
/// images below them, outputs and inputs of character devices, logs.
pub fn of_opened(opened: Vec<(PathBuf, bool)>) -> Vec<Named> {
    let mut named = BTreeMap::new();
    for (path, writes) in opened {
        *named.entry(path).or_insert(false) |= writes;
    }
    let rule = |(path, writes)| match writes {
        true => Named::Write(path),
        false => Named::Read(path),
    };
    named.into_iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_once() {
        let opened = [("/a", false), ("/b", false), ("/a", true)];
        let opened = opened.map(|(path, writes)| (path.into(), writes));
        assert_eq!(
            of_opened(opened.into()),
            [Named::Write("/a".into()), Named::Read("/b".into())]
        );
    }

    #[test]
    fn files_are_known_by_the_names_of_members() {
        let value = serde_json::json!({
            "id": "x",
            "backend": {
                "type": "socket",
                "data": { "addr": { "type": "unix", "data": { "path": "/run/a/b" } } },
            },
            "list": [{ "mem-path": "/dev/hugepages" }, { "dir": "/pki" }, { "path": 1 }],
        });
        let mut named = Vec::new();
        walk(&value, &mut named);
        assert_eq!(
            named,
            [
                Named::Made("/run/a/b".into()),
                Named::Inside("/dev/hugepages".into()),
                Named::Read("/pki".into()),
            ]
        );
    }
}
