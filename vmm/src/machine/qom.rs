//! The object tree as QMP shows it (qom-list, qom-get): made on demand from what is there, so
//! that nothing has to be kept in step with it.

use serde_json::Value;
use thiserror::Error;

/// One property of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Its type as QEMU spells it: `bool`, `uint32`, `str`, `link<iothread>`, ...
    pub kind: String,
    /// Its value now.
    pub value: Value,
}

/// One object and what hangs below it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The object's type.
    pub kind: String,
    /// Its properties, without those that are children.
    pub properties: Vec<Property>,
    /// Its children by name.
    pub children: Vec<(String, Node)>,
}

/// Why a path leads nowhere.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum QomError {
    /// No object of that path. Class DeviceNotFound.
    #[error("Device '{0}' not found")]
    NoObject(String),
    /// A partial path fits several objects.
    #[error("Path '{0}' is ambiguous")]
    Ambiguous(String),
    /// The object has no such property.
    #[error("Property '{0}.{1}' not found")]
    NoProperty(String, String),
}

impl Node {
    /// An object without properties of its own.
    pub fn new(kind: &str) -> Self {
        Node {
            kind: kind.to_owned(),
            properties: Vec::new(),
            children: Vec::new(),
        }
    }

    /// An object that only holds others.
    pub fn container() -> Self {
        Node::new("container")
    }

    /// Adds a property.
    #[must_use]
    pub fn with(mut self, name: &str, kind: &str, value: impl Into<Value>) -> Self {
        self.set(name, kind, value);
        self
    }

    /// Adds a property.
    pub fn set(&mut self, name: &str, kind: &str, value: impl Into<Value>) {
        let (name, kind, value) = (name.to_owned(), kind.to_owned(), value.into());
        self.properties.push(Property { name, kind, value });
    }

    /// Adds a child.
    #[must_use]
    pub fn child(mut self, name: impl Into<String>, node: Node) -> Self {
        self.children.push((name.into(), node));
        self
    }

    /// The object at `path`: absolute, or the tail of exactly one absolute path.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn resolve(&self, path: &str) -> Result<(String, &Node), QomError> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if path.starts_with('/') {
            let node = self.descend(&parts);
            return node
                .map(|node| (format!("/{}", parts.join("/")), node))
                .ok_or_else(|| QomError::NoObject(path.to_owned()));
        }
        let mut found = Vec::new();
        if !parts.is_empty() {
            self.find_tail(&parts, "", &mut found);
        }
        if found.len() > 1 {
            return Err(QomError::Ambiguous(path.to_owned()));
        }
        found
            .pop()
            .ok_or_else(|| QomError::NoObject(path.to_owned()))
    }

    fn descend(&self, parts: &[&str]) -> Option<&Node> {
        let Some((first, rest)) = parts.split_first() else {
            return Some(self);
        };
        self.children
            .iter()
            .find(|(name, _)| name == first)?
            .1
            .descend(rest)
    }

    fn find_tail<'a>(&'a self, parts: &[&str], at: &str, found: &mut Vec<(String, &'a Node)>) {
        if let Some(node) = self.descend(parts) {
            found.push((format!("{at}/{}", parts.join("/")), node));
        }
        for (name, child) in &self.children {
            child.find_tail(parts, &format!("{at}/{name}"), found);
        }
    }

    /// Name and type of every property and child, `type` first.
    pub fn list(&self) -> Vec<(String, String)> {
        let own = self
            .properties
            .iter()
            .map(|p| (p.name.clone(), p.kind.clone()));
        let children = self
            .children
            .iter()
            .map(|(name, node)| (name.clone(), format!("child<{}>", node.kind)));
        std::iter::once(("type".to_owned(), "string".to_owned()))
            .chain(own)
            .chain(children)
            .collect()
    }

    /// The value of a property; of a child or link its path.
    ///
    /// # Errors
    /// When the object at `path` has no such property.
    pub fn get(&self, path: &str, property: &str) -> Result<Value, QomError> {
        if property == "type" {
            return Ok(Value::String(self.kind.clone()));
        }
        if let Some(found) = self.properties.iter().find(|p| p.name == property) {
            return Ok(found.value.clone());
        }
        if self.children.iter().any(|(name, _)| name == property) {
            return Ok(Value::String(format!(
                "{}/{property}",
                path.trim_end_matches('/')
            )));
        }
        Err(QomError::NoProperty(self.kind.clone(), property.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Node {
        let disk = Node::new("virtio-blk-pci").with("serial", "str", "abc");
        let peripheral = Node::container().child("disk0", disk.clone());
        let machine = Node::new("m").child("peripheral", peripheral);
        let twin = Node::container().child("twin", Node::new("a"));
        Node::container()
            .child("machine", machine)
            .child("objects", twin)
            .child("chardevs", Node::container().child("twin", Node::new("b")))
    }

    #[test]
    fn paths_are_absolute_or_unique_tails() {
        let root = tree();
        for (path, found) in [
            ("/", Ok("/")),
            ("/machine", Ok("/machine")),
            (
                "/machine/peripheral/disk0/",
                Ok("/machine/peripheral/disk0"),
            ),
            ("disk0", Ok("/machine/peripheral/disk0")),
            ("peripheral/disk0", Ok("/machine/peripheral/disk0")),
            ("/disk0", Err(QomError::NoObject("/disk0".into()))),
            ("", Err(QomError::NoObject(String::new()))),
            ("twin", Err(QomError::Ambiguous("twin".into()))),
        ] {
            let result = root.resolve(path).map(|(path, _)| path);
            assert_eq!(result, found.map(str::to_owned), "{path}");
        }
    }

    #[test]
    fn properties_and_children_are_listed_and_read() {
        let root = tree();
        let (path, disk) = root.resolve("disk0").unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(disk.list(), [pair("type", "string"), pair("serial", "str")]);
        assert_eq!(disk.get(&path, "serial"), Ok("abc".into()));
        assert_eq!(disk.get(&path, "type"), Ok("virtio-blk-pci".into()));
        let error = disk.get(&path, "x").unwrap_err().to_string();
        assert_eq!(error, "Property 'virtio-blk-pci.x' not found");
        let (path, root) = root.resolve("/").unwrap();
        assert_eq!(root.get(&path, "machine"), Ok("/machine".into()));
        assert_eq!(root.list()[1], pair("machine", "child<m>"));
    }
}
