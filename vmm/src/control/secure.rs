//! Objects for TLS: credentials and allow lists, and where sockets find them by their ids.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use api_spec::{
    AuthZListFileProperties, AuthZListProperties, Mode, Object, ObjectOptions,
    ObjectOptionsBranch as Branch, QAuthZListFormat, QAuthZListPolicy, QAuthZListRule,
    QCryptoTLSCredsEndpoint, QmpError, QmpResult, TlsCredsX509Properties, Value,
};
use devices::bus::lock;
use tls::{
    AllowList, AllowLists, Credentials, CredentialsOptions, Format, Gate, Policy, Role, Rule,
};

use super::fds::Opener;
use crate::machine::qom::Node;
use crate::process::errno;

/// Bytes of a file of credentials or of a list at most.
const MOST_BYTES: u64 = 4 << 20;

/// What sockets look up. Shared between the objects and the sockets.
#[derive(Clone, Default)]
pub struct Vault {
    /// Credentials by their ids; None for objects that are something else. Leaf lock.
    objects: Arc<Mutex<BTreeMap<String, Option<Arc<Credentials>>>>>,
    /// The allow lists.
    pub lists: AllowLists,
}

impl Vault {
    /// Notes an object.
    pub fn add(&self, id: &str, credentials: Option<Arc<Credentials>>) {
        lock(&self.objects).insert(id.to_owned(), credentials);
    }

    /// Forgets an object. Sockets that have it go on with it; a list lets nobody in any more.
    pub fn remove(&self, id: &str) {
        lock(&self.objects).remove(id);
        self.lists.remove(id);
    }

    /// What a socket needs to speak TLS. `host` is whom a client connects to.
    ///
    /// # Errors
    /// In QEMU's words, when there are no such credentials or they do not fit.
    pub fn gate(
        &self,
        credentials: &str,
        list: Option<&str>,
        role: Role,
        host: Option<&str>,
    ) -> QmpResult<Arc<Gate>> {
        let found = lock(&self.objects).get(credentials).cloned();
        let found = match found {
            None => {
                let text = format!("No TLS credentials with id '{credentials}'");
                return Err(QmpError::generic(text));
            }
            Some(None) => {
                let text = format!("Object with id '{credentials}' is not TLS credentials");
                return Err(QmpError::generic(text));
            }
            Some(Some(found)) => found,
        };
        let list = list.map(|id| (self.lists.clone(), id.to_owned()));
        let gate = Gate::new(found, role, host, list);
        let gate = gate.map_err(|refusal| QmpError::generic(refusal.0))?;
        Ok(Arc::new(gate))
    }
}

/// A list as an object.
pub struct ListObject {
    /// What it says now.
    pub list: AllowList,
    /// The file that it came from.
    pub filename: Option<String>,
    /// The one name of an `authz-simple`.
    pub identity: Option<String>,
}

/// Whether sockets of the command line may name the object: then it is made before them.
pub fn is_early(options: &ObjectOptions) -> bool {
    matches!(
        &options.qom_type,
        Branch::TlsCredsX509(_)
            | Branch::AuthzSimple(_)
            | Branch::AuthzList(_)
            | Branch::AuthzListFile(_)
    )
}

/// Loads `tls-creds-x509`.
///
/// # Errors
/// In QEMU's words.
pub fn credentials(p: &TlsCredsX509Properties, opener: &Opener) -> QmpResult<Arc<Credentials>> {
    let TlsCredsX509Properties {
        verify_peer,
        dir,
        endpoint,
        priority,
        sanity_check,
        passwordid,
    } = p;
    if let Some(id) = passwordid.as_deref().filter(|id| !id.is_empty()) {
        return Err(QmpError::generic(format!("No secret with id '{id}'")));
    }
    let Some(dir) = dir.as_deref().filter(|dir| !dir.is_empty()) else {
        return Err(QmpError::generic("Missing 'dir' property value"));
    };
    let role = match endpoint {
        Some(QCryptoTLSCredsEndpoint::Server) => Role::Server,
        Some(QCryptoTLSCredsEndpoint::Client) | None => Role::Client,
    };
    let options = CredentialsOptions {
        dir: dir.into(),
        role,
        verify_peer: verify_peer.unwrap_or(true),
        sanity_check: sanity_check.unwrap_or(true),
        priority: priority.clone(),
    };
    let made = Credentials::load(options, &|path| contents(path, opener));
    let made = made.map_err(|refusal| QmpError::generic(refusal.0))?;
    Ok(Arc::new(made))
}

fn contents(path: &Path, opener: &Opener) -> std::io::Result<Vec<u8>> {
    let name = path.to_str().ok_or(std::io::ErrorKind::InvalidInput)?;
    let file = opener.open(name, libc::O_RDONLY | libc::O_NONBLOCK, 0)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES.saturating_add(1))
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MOST_BYTES {
        true => Err(std::io::ErrorKind::FileTooLarge.into()),
        false => Ok(bytes),
    }
}

/// `authz-simple`.
pub fn simple(identity: &str) -> ListObject {
    ListObject {
        list: AllowList::only(identity),
        filename: None,
        identity: Some(identity.to_owned()),
    }
}

/// `authz-list`.
pub fn list(p: &AuthZListProperties) -> ListObject {
    ListObject {
        list: allow_list(p),
        filename: None,
        identity: None,
    }
}

/// `authz-list-file`.
///
/// # Errors
/// When the file cannot be read, or there is no list in it.
pub fn list_file(p: &AuthZListFileProperties, opener: &Opener) -> QmpResult<ListObject> {
    let AuthZListFileProperties { filename, refresh } = p;
    if *refresh == Some(true) {
        return Err(QmpError::generic(
            "'refresh=on' is not supported: make the object again when the file has changed",
        ));
    }
    let bytes = contents(Path::new(filename), opener).map_err(|error| {
        let why = errno(&error);
        QmpError::generic(format!("Unable to read '{filename}': {why}"))
    })?;
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| QmpError::generic(format!("Unable to parse '{filename}': {error}")))?;
    let read: AuthZListProperties =
        api_spec::decode_value(value, Mode::Strict).map_err(|error: QmpError| {
            QmpError::generic(format!("Unable to parse '{filename}': {}", error.desc))
        })?;
    Ok(ListObject {
        filename: Some(filename.clone()),
        ..list(&read)
    })
}

fn allow_list(p: &AuthZListProperties) -> AllowList {
    let AuthZListProperties { policy, rules } = p;
    AllowList {
        rules: rules.iter().flatten().map(rule).collect(),
        otherwise: policy.map_or(Policy::Deny, to_policy),
    }
}

fn rule(rule: &QAuthZListRule) -> Rule {
    let QAuthZListRule {
        r#match,
        policy,
        format,
    } = rule;
    Rule {
        pattern: r#match.clone(),
        format: match format {
            Some(QAuthZListFormat::Glob) => Format::Glob,
            Some(QAuthZListFormat::Exact) | None => Format::Exact,
        },
        policy: to_policy(*policy),
    }
}

fn to_policy(policy: QAuthZListPolicy) -> Policy {
    match policy {
        QAuthZListPolicy::Allow => Policy::Allow,
        QAuthZListPolicy::Deny => Policy::Deny,
    }
}

fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::Allow => "allow",
        Policy::Deny => "deny",
    }
}

impl ListObject {
    /// Changes a property: false where there is none that can be changed.
    ///
    /// # Errors
    /// For values that make no sense.
    pub fn set(&mut self, property: &str, value: &Value) -> QmpResult<bool> {
        let mut members = Object::new();
        members.insert(property.to_owned(), value.clone());
        let value = Value::Object(members);
        match (property, &self.identity, &self.filename) {
            ("identity", Some(_), _) => {
                let wrong = || QmpError::wrong_type("identity", "string");
                let identity = value.get("identity").and_then(Value::as_str);
                *self = simple(identity.ok_or_else(wrong)?);
            }
            ("policy" | "rules", None, None) => {
                let said: AuthZListProperties = api_spec::decode_value(value, Mode::Strict)?;
                if let Some(policy) = said.policy {
                    self.list.otherwise = to_policy(policy);
                }
                if let Some(rules) = said.rules {
                    self.list.rules = rules.iter().map(rule).collect();
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Its properties in the object tree.
    pub fn properties(&self, node: Node) -> Node {
        if let Some(identity) = &self.identity {
            return node.with("identity", "string", identity.as_str());
        }
        if let Some(filename) = &self.filename {
            let node = node.with("filename", "string", filename.as_str());
            return node.with("refresh", "bool", false);
        }
        let rules = self.list.rules.iter().map(|rule| {
            let mut members = Object::new();
            if rule.format == Format::Glob {
                members.insert("format".into(), "glob".into());
            }
            members.insert("policy".into(), policy_name(rule.policy).into());
            members.insert("match".into(), rule.pattern.as_str().into());
            Value::Object(members)
        });
        let policy = policy_name(self.list.otherwise);
        node.with("policy", "QAuthZListPolicy", policy).with(
            "rules",
            "QAuthZListRule",
            Value::Array(rules.collect()),
        )
    }
}

/// The properties of credentials in the object tree.
pub fn credentials_properties(node: Node, credentials: &Credentials) -> Node {
    let options = credentials.options();
    let priority = options.priority.clone().unwrap_or_default();
    node.with("endpoint", "QCryptoTLSCredsEndpoint", options.role.name())
        .with("dir", "string", options.dir.display().to_string())
        .with("verify-peer", "bool", options.verify_peer)
        .with("priority", "string", priority)
        .with("sanity-check", "bool", options.sanity_check)
        .with("passwordid", "string", "")
}

#[cfg(test)]
#[path = "secure_test.rs"]
mod tests;
