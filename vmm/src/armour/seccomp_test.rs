//! The filters as they stand in the file, and as the kernel gets them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;

const FILTERS: &str = include_str!("filters.json");
const EVIDENCE: &str = include_str!("evidence.json");

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Lists of rules, by where they stand.
fn lists() -> BTreeMap<String, Vec<Value>> {
    let filters = json(FILTERS);
    let mut lists = BTreeMap::new();
    for (name, rules) in filters["groups"].as_object().unwrap() {
        lists.insert(format!("groups.{name}"), rules.as_array().unwrap().clone());
    }
    for (kind, thread) in filters["threads"].as_object().unwrap() {
        let rules = thread["rules"].as_array().unwrap().clone();
        lists.insert(format!("threads.{kind}"), rules);
    }
    lists
}

/// As scripts/seccomp-audit calls a rule.
fn id(rule: &Value) -> String {
    let mut text = rule["call"].as_str().unwrap().to_owned();
    for (argument, wanted) in rule["when"].as_object().into_iter().flatten() {
        let part = match wanted.as_object().and_then(|object| object.iter().next()) {
            Some((word, bits)) => format!(" {argument} {word} {}", plain(bits)),
            None => format!(" {argument}={}", plain(wanted)),
        };
        text.push_str(&part);
    }
    text
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[test]
fn each_rule_is_needed_or_says_why_nothing_shows_it() {
    let evidence = json(EVIDENCE);
    let mut faults = Vec::new();
    for (owner, rules) in lists() {
        for rule in rules {
            let id = id(&rule);
            let seen = evidence[owner.as_str()][id.as_str()].is_array();
            let excused = rule["unseen"].as_str().is_some_and(|why| !why.is_empty());
            match (seen, excused) {
                (false, false) => faults.push(format!("nobody needs {owner}: {id}")),
                (true, true) => faults.push(format!("seen all the same: {owner}: {id}")),
                _ => {}
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A reason is of its rule, or of a few that are alike: one that fits any call excuses nothing.
#[test]
fn reasons_are_not_for_all_kinds_of_calls() {
    let mut families: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in lists().into_values().flatten() {
        let Some(reason) = rule["unseen"].as_str() else {
            continue;
        };
        // VHOST_SET_OWNER is like VHOST_SET_FEATURES, io_setup like io_uring_setup.
        let id = id(&rule);
        let name = id.split_once('=').map_or(id.as_str(), |(_, name)| name);
        let family = name.split('_').next().unwrap_or(name);
        let alike = families.entry(reason.to_owned()).or_default();
        alike.insert(family.to_owned());
    }
    families.retain(|_, alike| alike.len() > 2);
    assert!(families.is_empty(), "blanket reasons: {families:#?}");
}

#[test]
fn the_evidence_is_of_rules_that_there_are() {
    let lists = lists();
    for (owner, rules) in json(EVIDENCE).as_object().unwrap() {
        let ids: Vec<String> = lists[owner].iter().map(id).collect();
        for rule in rules.as_object().unwrap().keys() {
            assert!(ids.contains(rule), "{owner}: {rule}");
        }
    }
}

#[test]
fn every_kind_has_a_filter() {
    let filters = json(FILTERS);
    let names: Vec<&String> = filters["threads"].as_object().unwrap().keys().collect();
    for kind in ThreadKind::ALL {
        assert!(names.iter().any(|name| *name == kind.name()), "{kind:?}");
    }
    assert_eq!(names.len(), ThreadKind::ALL.len());
}

/// Calls that would undo what the filters are for.
#[test]
fn nothing_is_executed_and_nobody_is_traced() {
    let forbidden = [
        "execve",
        "execveat",
        "fork",
        "vfork",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "bpf",
        "mount",
        "unshare",
        "setns",
        "init_module",
        "kexec_load",
        "userfaultfd",
        "keyctl",
        "personality",
        "pkey_mprotect",
        "perf_event_open",
    ];
    for (owner, rules) in lists() {
        for rule in rules {
            let call = rule["call"].as_str().unwrap();
            assert!(!forbidden.contains(&call), "{owner}: {call}");
            let executes = rule["when"]["2"]["without"] == "PROT_EXEC" || rule["errno"] == "EACCES";
            if matches!(call, "mmap" | "mprotect") {
                assert!(executes, "{owner}: {rule}");
            }
        }
    }
    for kind in ["vcpu", "io", "block", "qtest"] {
        let groups = &json(FILTERS)["threads"][kind]["groups"];
        let mut own = lists()[&format!("threads.{kind}")].clone();
        for group in groups.as_array().unwrap() {
            own.extend(lists()[&format!("groups.{}", group.as_str().unwrap())].clone());
        }
        for rule in own {
            let call = rule["call"].as_str().unwrap();
            let opens = [
                "open", "openat", "socket", "connect", "bind", "accept4", "clone",
            ];
            assert!(!opens.contains(&call), "{kind}: {call}");
        }
    }
}

#[test]
fn what_may_be_allowed_beyond() {
    let getpid = |kind| Allowed { call: 39, kind };
    assert_eq!(allow("getpid"), Ok(getpid(None)));
    assert_eq!(allow("39"), Ok(getpid(None)));
    assert_eq!(allow("getpid:io"), Ok(getpid(Some(ThreadKind::Io))));
    assert_eq!(
        allow("gitpid").unwrap_err(),
        "There is no system call 'gitpid'"
    );
    let error = allow("getpid:disk").unwrap_err();
    assert!(error.starts_with("There is no kind of thread 'disk'; there are control, "));
}

#[test]
fn the_operators_calls_stand_before_the_filter_of_their_kind_and_of_the_starter() {
    let policy = Policy {
        strict: false,
        allowed: vec![allow("execve:io").unwrap(), allow("clone").unwrap()],
    };
    let calls = |kind| {
        let program = widening(&policy, kind);
        let numbers = program.chunks(5).map(|part| part[3].k);
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(calls(ThreadKind::Io), [59, 56]);
    assert_eq!(calls(ThreadKind::Vcpu), [56]);
    assert_eq!(calls(ThreadKind::Spawner), [59, 56]);
}

/// In a process of its own thread: a filter cannot be taken off again.
#[test]
fn the_kernel_takes_every_filter() {
    for kind in ThreadKind::ALL {
        for strict in [false, true] {
            let body = move || {
                no_new_privileges().unwrap();
                load(filter(kind, strict))
                    .map_err(|error| (kind, error))
                    .unwrap();
            };
            std::thread::spawn(body).join().unwrap();
        }
    }
}
