//! The files that a configuration names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use api_spec::{Encode, Value, to_json};
use block::{DriverSpec, Graph};

use super::files::Named;
use crate::cli::Order;
use crate::control::migrate::address::Address;

/// Those that the command line names outside of disks and outputs, which are known when they have
/// been opened ([`of_disks`]).
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

/// Those that were opened during the start: `opened` is by name, and whether to be written. The
/// images below a node that is written may be written, too: a job may commit to them.
pub fn of_disks(opened: Vec<(PathBuf, bool)>, graph: &Graph) -> Vec<Named> {
    let nodes = graph.nodes();
    let by_name: BTreeMap<&str, _> = nodes
        .iter()
        .map(|node| (node.name.as_str(), node))
        .collect();
    let mut written = BTreeSet::new();
    let writable = nodes.iter().filter(|node| !node.info.read_only);
    let mut next: Vec<&str> = writable.map(|node| node.name.as_str()).collect();
    while let Some(name) = next.pop() {
        if let (true, Some(node)) = (written.insert(name), by_name.get(name)) {
            next.extend(node.children.iter().map(|(_, child)| child.as_str()));
        }
    }
    let mut named = BTreeMap::new();
    let files = nodes.iter().filter_map(|node| match &node.spec.driver {
        DriverSpec::File(file) | DriverSpec::HostDevice(file) => {
            let writes = written.contains(node.name.as_str());
            Some((PathBuf::from(&file.filename), writes))
        }
        _ => None,
    });
    for (path, writes) in opened.into_iter().chain(files) {
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
