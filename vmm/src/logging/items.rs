//! What can be logged, as `-d` and HMP's `log` name it.

use log::LevelFilter;

/// Names of all crates and modules of the program, with spaces between them.
const MODULES: &str = include_str!(concat!(env!("OUT_DIR"), "/modules.txt"));

/// What a list of items asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Items {
    /// Levels by module; the empty one stands for all that are not named.
    pub levels: Vec<(String, LevelFilter)>,
    /// Each thing that a guest does wrong.
    pub guest_errors: bool,
    /// Patterns of trace points.
    pub traced: Vec<String>,
}

/// An item that stands alone.
struct Named {
    name: &'static str,
    help: &'static str,
    set: fn(&mut Items),
}

static NAMED: &[Named] = &[
    Named {
        name: "guest_errors",
        help: "what the guest does wrong (at a bounded rate)",
        set: |items| items.guest_errors = true,
    },
    Named {
        name: "unimp",
        help: "what is not there (as level debug)",
        set: |items| items.levels.push((String::new(), LevelFilter::Debug)),
    },
    Named {
        name: "all",
        help: "both",
        set: |items| {
            items.guest_errors = true;
            items.levels.push((String::new(), LevelFilter::Debug));
        },
    },
];

impl Items {
    /// Reads a list with commas.
    ///
    /// # Errors
    /// For an item that does not exist.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut items = Items::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            items.add(part)?;
        }
        Ok(items)
    }

    fn add(&mut self, part: &str) -> Result<(), String> {
        if let Some(pattern) = part.strip_prefix("trace:") {
            self.traced.push(pattern.to_owned());
            return Ok(());
        }
        if let Some(named) = NAMED.iter().find(|named| named.name == part) {
            (named.set)(self);
            return Ok(());
        }
        let (module, level) = match part.split_once('=') {
            Some((module, level)) if is_module(module) => (module, level.parse().ok()),
            Some(_) => ("", None),
            None => ("", part.parse().ok()),
        };
        let level =
            level.ok_or_else(|| format!("unknown log item '{part}'; -d help lists them"))?;
        self.levels.push((module.to_owned(), level));
        Ok(())
    }
}

fn is_module(name: &str) -> bool {
    MODULES.split(' ').any(|module| module == name)
}

/// The text of `-d help`.
pub fn help() -> String {
    let mut text = String::from("Log items (comma separated):\n");
    let mut line = |name: &str, help: &str| {
        text.push_str(&format!("{name:<15} {help}\n"));
    };
    line(
        "LEVEL",
        "error, warn, info, debug or trace: messages up to it",
    );
    line(
        "MODULE=LEVEL",
        "the same of one part of the program only: a crate (vmm, devices, block, qmp, tls)",
    );
    line(
        "",
        "or any module in one (virtio, migration), as messages of level debug name them",
    );
    for named in NAMED {
        line(named.name, named.help);
    }
    line("trace:PATTERN", "enable trace events");
    text.push_str("\nUse \"-d trace:help\" to get a list of trace events.\n\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_read() {
        let items = Items::read("guest_errors,virtio=trace,,info,trace:virtio_*").unwrap();
        assert!(items.guest_errors);
        assert_eq!(
            items.levels,
            [
                ("virtio".to_owned(), LevelFilter::Trace),
                (String::new(), LevelFilter::Info)
            ]
        );
        assert_eq!(items.traced, ["virtio_*"]);
        assert_eq!(Items::read("").unwrap(), Items::default());
        for (text, bad) in [
            ("foo", "foo"),
            ("info,a=b", "a=b"),
            ("5", "5"),
            ("virtio=b", "virtio=b"),
            ("virtoi=debug,armuor=trace", "virtoi=debug"),
            ("virtio=info,armuor=trace", "armuor=trace"),
            ("=debug", "=debug"),
            ("virtio vmm=debug", "virtio vmm=debug"),
        ] {
            let error = Items::read(text).unwrap_err();
            assert_eq!(
                error,
                format!("unknown log item '{bad}'; -d help lists them")
            );
        }
        // Crates, directories, files, and where these lines are themselves.
        for module in ["api_spec", "armour", "block", "virtio", "listener"] {
            assert!(is_module(module), "{module}");
        }
        assert!(
            module_path!()
                .split("::")
                .all(|part| part == "tests" || is_module(part))
        );
        for no_module in ["lib", "mod", "main", "testing", "settings_test"] {
            assert!(!is_module(no_module), "{no_module}");
        }
        for named in NAMED {
            assert!(help().contains(named.name));
            assert!(Items::read(named.name).is_ok());
        }
    }
}
