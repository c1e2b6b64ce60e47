//! From `filters.json` to programs for the kernel (BPF), as Rust source.
//!
//! The work is seccompiler's. Three things stand before what it makes, which it has no words for:
//! calls that fail with an error number and do not kill.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use serde_json::Value;

use crate::calls;

/// The rules, seen from the package.
pub const SOURCE: &str = "src/armour/filters.json";
/// The kind of thread that starts the others: its filter holds in them too, and so allows what any
/// of them is allowed.
const STARTER: &str = "spawner";
/// What a rule may say.
const MEMBERS: [&str; 6] = ["call", "when", "errno", "why", "unseen", "resource"];

type Result<T> = std::result::Result<T, String>;

/// What one argument must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Condition {
    argument: u8,
    /// The bits that count; all of them where none is named.
    mask: Option<u32>,
    value: u32,
}

/// A rule, with names resolved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    call: u16,
    when: Vec<Condition>,
    /// The call fails with this.
    errno: Option<u16>,
    /// Gone under `resourcecontrol=deny`.
    resource: bool,
}

/// The programs of all kinds.
///
/// # Errors
/// For what is no filter, with the rule's place.
pub fn compile(text: &str) -> Result<String> {
    let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let kinds = resolve(&json)?;
    let mut out = String::new();
    for (kind, rules) in &kinds {
        for (suffix, strict) in [("", false), ("_STRICT", true)] {
            let rules: BTreeSet<Rule> = rules
                .iter()
                .filter(|r| !(strict && r.resource))
                .cloned()
                .collect();
            let program = program(&rules).map_err(|error| format!("threads.{kind}: {error}"))?;
            let name = format!("{}{suffix}", kind.to_uppercase());
            emit(&mut out, &name, &program);
        }
    }
    Ok(out)
}

/// The rules of each kind, with those of its groups.
fn resolve(json: &Value) -> Result<BTreeMap<String, BTreeSet<Rule>>> {
    let numbers = json["numbers"].as_object().ok_or("There are no numbers")?;
    let groups = json["groups"].as_object().ok_or("There are no groups")?;
    let threads = json["threads"].as_object().ok_or("There are no threads")?;
    let mut kinds = BTreeMap::new();
    for (kind, filter) in threads {
        let mut rules = BTreeSet::new();
        let named = filter["groups"].as_array().into_iter().flatten();
        for group in named {
            let group = group.as_str().ok_or("A group is no text")?;
            let list = groups
                .get(group)
                .ok_or(format!("There is no group '{group}'"))?;
            add(&mut rules, list, numbers, &format!("groups.{group}"))?;
        }
        add(
            &mut rules,
            &filter["rules"],
            numbers,
            &format!("threads.{kind}"),
        )?;
        kinds.insert(kind.clone(), rules);
    }
    for (kind, rules) in &kinds {
        check(rules).map_err(|error| format!("threads.{kind}: {error}"))?;
    }
    let union = kinds.values().flatten().cloned().map(loosened).collect();
    kinds.insert(STARTER.to_owned(), union);
    Ok(kinds)
}

/// What the filter of [`STARTER`] makes of another's rule: which requests a thread may make is
/// said in its own filter, and is not to be looked through twice.
fn loosened(mut rule: Rule) -> Rule {
    if calls::name(i64::from(rule.call)) == Some("ioctl") {
        rule.when.clear();
        rule.resource = false;
    }
    rule
}

fn add(
    rules: &mut BTreeSet<Rule>,
    list: &Value,
    numbers: &serde_json::Map<String, Value>,
    place: &str,
) -> Result<()> {
    let list = list
        .as_array()
        .ok_or(format!("{place}: there is no list of rules"))?;
    let mut own = BTreeSet::new();
    for (index, entry) in list.iter().enumerate() {
        let rule = rule(entry, numbers).map_err(|error| format!("{place}[{index}]: {error}"))?;
        if !own.insert(rule) {
            return Err(format!("{place}[{index}]: {entry} stands there twice"));
        }
    }
    rules.append(&mut own);
    Ok(())
}

fn rule(entry: &Value, numbers: &serde_json::Map<String, Value>) -> Result<Rule> {
    let object = entry.as_object().ok_or("it is no object")?;
    if let Some(other) = object.keys().find(|key| !MEMBERS.contains(&key.as_str())) {
        return Err(format!("'{other}' is unknown"));
    }
    if entry["why"].as_str().is_none_or(str::is_empty) {
        return Err("it has no reason ('why')".to_owned());
    }
    let call = entry["call"].as_str().ok_or("it names no call")?;
    let call = calls::number(call).ok_or(format!("there is no call '{call}'"))?;
    let mut when = Vec::new();
    for (argument, wanted) in entry["when"].as_object().into_iter().flatten() {
        when.push(condition(argument, wanted, numbers)?);
    }
    let errno = match &entry["errno"] {
        Value::Null => None,
        name => Some(u16::try_from(number(name, numbers)?).map_err(|error| error.to_string())?),
    };
    let resource = entry["resource"].as_bool().unwrap_or(false);
    Ok(Rule {
        call,
        when,
        errno,
        resource,
    })
}

/// `VALUE`, `{"with": BITS}` (all set) or `{"without": BITS}` (none set).
fn condition(
    argument: &str,
    wanted: &Value,
    numbers: &serde_json::Map<String, Value>,
) -> Result<Condition> {
    let argument = argument
        .parse()
        .map_err(|_| format!("there is no argument '{argument}'"))?;
    let (mask, value) = match wanted.as_object().and_then(|object| object.iter().next()) {
        None => (None, number(wanted, numbers)?),
        Some((key, bits)) => {
            let bits = number(bits, numbers)?;
            match key.as_str() {
                "with" => (Some(bits), bits),
                "without" => (Some(bits), 0),
                _ => return Err(format!("'{key}' is neither 'with' nor 'without'")),
            }
        }
    };
    Ok(Condition {
        argument,
        mask,
        value,
    })
}

/// A number, or names of numbers with a bar between.
fn number(value: &Value, numbers: &serde_json::Map<String, Value>) -> Result<u32> {
    let Some(text) = value.as_str() else {
        let number = value.as_u64().ok_or(format!("{value} is no number"))?;
        return u32::try_from(number).map_err(|error| error.to_string());
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return u32::from_str_radix(digits, 16).map_err(|error| format!("{text}: {error}"));
    }
    let mut sum = 0;
    for name in text.split('|') {
        let value = numbers
            .get(name)
            .ok_or(format!("there is no number '{name}'"))?;
        sum |= number(value, &serde_json::Map::new())?;
    }
    Ok(sum)
}

/// Refuses a call with and without conditions: seccompiler makes the rule without them void as
/// soon as another of the same call has some, and who reads the file would be misled. What
/// [`program`] makes of it is right all the same; the union of all kinds needs that.
fn check(rules: &BTreeSet<Rule>) -> Result<()> {
    for rule in rules.iter().filter(|rule| rule.errno.is_none()) {
        let others = rules
            .iter()
            .filter(|other| other.call == rule.call && other.errno.is_none());
        if rule.when.is_empty() && others.count() > 1 {
            let name = calls::name(i64::from(rule.call)).unwrap_or("?");
            return Err(format!("'{name}' is allowed with conditions and without"));
        }
    }
    Ok(())
}

fn program(rules: &BTreeSet<Rule>) -> Result<BpfProgram> {
    let mut map: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let free = |call: u16| {
        let allowed = |rule: &&Rule| rule.call == call && rule.errno.is_none();
        rules
            .iter()
            .filter(allowed)
            .any(|rule| rule.when.is_empty())
    };
    for rule in rules.iter().filter(|rule| rule.errno.is_none()) {
        let chain = map.entry(i64::from(rule.call)).or_default();
        if !free(rule.call) {
            chain.push(conditions(rule)?);
        }
    }
    let filter = SeccompFilter::new(
        map,
        SeccompAction::Trap,
        SeccompAction::Allow,
        TargetArch::x86_64,
    );
    let filter = filter.map_err(|error| error.to_string())?;
    let allowed: BpfProgram = filter
        .try_into()
        .map_err(|error: seccompiler::BackendError| error.to_string())?;
    let mut program = Vec::new();
    for rule in rules.iter().filter(|rule| rule.errno.is_some()) {
        refuse(&mut program, rule)?;
    }
    program.extend(allowed);
    Ok(program)
}

fn conditions(rule: &Rule) -> Result<SeccompRule> {
    let conditions = rule.when.iter().map(|condition| {
        let operator = match condition.mask {
            Some(mask) => SeccompCmpOp::MaskedEq(u64::from(mask)),
            None => SeccompCmpOp::Eq,
        };
        let value = u64::from(condition.value);
        SeccompCondition::new(condition.argument, SeccompCmpArgLen::Dword, operator, value)
    });
    let conditions: std::result::Result<_, _> = conditions.collect();
    let rule = SeccompRule::new(conditions.map_err(|error| error.to_string())?);
    rule.map_err(|error| error.to_string())
}

/// Instructions that answer a call with an error number, where its one condition holds.
fn refuse(program: &mut BpfProgram, rule: &Rule) -> Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let plain = |code, k| sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    let mut body = Vec::new();
    for condition in &rule.when {
        body.push(plain(LOAD, 16 + 8 * u32::from(condition.argument)));
        if let Some(mask) = condition.mask {
            body.push(plain(AND, mask));
        }
        body.push(sock_filter {
            code: JUMP_EQUAL,
            jt: 0,
            jf: 0,
            k: condition.value,
        });
    }
    let errno = rule.errno.map_or(0, u32::from);
    body.push(plain(RETURN, libc::SECCOMP_RET_ERRNO | errno));
    // A test that fails goes to what comes after the body.
    let length = body.len();
    for (at, instruction) in body.iter_mut().enumerate() {
        if instruction.code == JUMP_EQUAL {
            instruction.jf = u8::try_from(length - at - 1).map_err(|error| error.to_string())?;
        }
    }
    program.push(plain(LOAD, 0));
    let past = u8::try_from(length).map_err(|error| error.to_string())?;
    program.push(sock_filter {
        code: JUMP_EQUAL,
        jt: 0,
        jf: past,
        k: u32::from(rule.call),
    });
    program.extend(body);
    Ok(())
}

fn emit(out: &mut String, name: &str, program: &[sock_filter]) {
    let _ = writeln!(
        out,
        "static {name}: [libc::sock_filter; {}] = [",
        program.len()
    );
    for sock_filter { code, jt, jf, k } in program {
        let _ = writeln!(
            out,
            "    libc::sock_filter {{ code: {code}, jt: {jt}, jf: {jf}, k: {k:#x} }},"
        );
    }
    out.push_str("];\n");
}
