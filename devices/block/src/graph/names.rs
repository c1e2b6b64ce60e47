//! What nodes are called by their content: the file's path, where opening that makes the same
//! nodes again, and otherwise `json:` with what it takes.

use super::open_format::resolve;
use super::{DriverSpec, Entry, Inner, Role};
use crate::null::NullSpec;
use crate::raw::RawWindow;

impl Inner {
    /// A node's name by its content.
    pub(super) fn filename(&self, entry: &Entry) -> String {
        let plain = match &entry.spec.driver {
            DriverSpec::File(file) | DriverSpec::HostDevice(file) => Some(file.filename.clone()),
            DriverSpec::Null(null) if *null == NullSpec::default() => Some("null-co://".to_owned()),
            DriverSpec::Raw { window, .. } if *window == RawWindow::default() => {
                self.plain_below(entry, Role::Filtered)
            }
            DriverSpec::Format(_) if !self.has_other_backing(entry) => {
                self.plain_below(entry, Role::Storage)
            }
            _ => None,
        };
        plain.unwrap_or_else(|| format!("json:{}", self.options(entry)))
    }

    /// The name of the file below, if there is nothing in between.
    fn plain_below(&self, entry: &Entry, role: Role) -> Option<String> {
        let below = self.below(entry, role)?;
        let is_file = matches!(
            below.spec.driver,
            DriverSpec::File(_) | DriverSpec::HostDevice(_) | DriverSpec::Null(_)
        );
        let name = is_file.then(|| self.filename(below));
        name.filter(|name| !name.starts_with("json:"))
    }

    /// Whether the backing file is another one than the image says.
    fn has_other_backing(&self, entry: &Entry) -> bool {
        let there = self.below(entry, Role::Backing);
        match (self.full_backing_name(entry), there) {
            (None, None) => false,
            (Some(named), Some(there)) => named != self.filename(there),
            (Some(_), None) | (None, Some(_)) => true,
        }
    }

    /// The backing file that an image names, as seen from here.
    pub(super) fn full_backing_name(&self, entry: &Entry) -> Option<String> {
        let name = entry.node.image()?.view().backing_file?;
        let storage = self.below(entry, Role::Storage);
        let base = storage.map_or_else(String::new, |storage| self.filename(storage));
        match name.starts_with("json:") {
            true => Some(name),
            false => Some(resolve(&base, &name).unwrap_or(name)),
        }
    }

    pub(super) fn below(&self, entry: &Entry, role: Role) -> Option<&Entry> {
        let child = entry.children.iter().find(|child| child.role == role)?;
        self.nodes.get(&child.id)
    }

    /// What it takes to make the node again, as a JSON object.
    fn options(&self, entry: &Entry) -> String {
        let mut pairs: Vec<(&str, String)> = Vec::new();
        let driver = ("driver", quoted(entry.spec.driver_name()));
        match &entry.spec.driver {
            DriverSpec::File(file) | DriverSpec::HostDevice(file) => {
                pairs.extend([driver, ("filename", quoted(&file.filename))]);
            }
            DriverSpec::Null(null) => {
                let default = NullSpec::default();
                if null.read_zeroes {
                    pairs.push(("read-zeroes", "true".to_owned()));
                }
                pairs.push(driver);
                if null.size != default.size {
                    pairs.push(("size", null.size.to_string()));
                }
                if null.latency_ns != default.latency_ns {
                    pairs.push(("latency-ns", null.latency_ns.to_string()));
                }
            }
            DriverSpec::Raw { window, .. } => {
                if window.offset != 0 {
                    pairs.push(("offset", window.offset.to_string()));
                }
                pairs.push(driver);
                pairs.extend(window.size.map(|size| ("size", size.to_string())));
            }
            DriverSpec::Throttle { group, .. } => {
                pairs.extend([("throttle-group", quoted(group)), driver]);
            }
            DriverSpec::Format(_) if self.has_other_backing(entry) => {
                let backing = self.below(entry, Role::Backing);
                let backing = backing.map_or_else(|| "null".to_owned(), |b| self.options(b));
                pairs.extend([("backing", backing), driver]);
            }
            DriverSpec::Blkdebug { .. } => {
                if let Some(image) = self.below(entry, Role::Image) {
                    pairs.push((Role::Image.name(), self.options(image)));
                }
                pairs.push(driver);
            }
            DriverSpec::Format(_) | DriverSpec::CopyOnRead { .. } | DriverSpec::Probe { .. } => {
                pairs.push(driver);
            }
        }
        for child in &entry.children {
            if let Some(below) = self.nodes.get(&child.id)
                && !matches!(child.role, Role::Backing | Role::Extent | Role::Image)
            {
                pairs.push((child.role.name(), self.options(below)));
            }
        }
        let pairs = pairs
            .iter()
            .map(|(key, value)| format!("\"{key}\": {value}"));
        format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
    }
}

/// A JSON string (RFC 8259, section 7).
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
