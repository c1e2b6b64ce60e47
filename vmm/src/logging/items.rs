//! What can be logged, as `-d` and HMP's `log` name it.

use log::LevelFilter;

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
        let (module, level) = part.split_once('=').unwrap_or(("", part));
        let level = level
            .parse()
            .map_err(|_| format!("unknown log item '{part}'; -d help lists them"))?;
        self.levels.push((module.to_owned(), level));
        Ok(())
    }
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
    line("MODULE=LEVEL", "the same of one part of the program only");
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
        for (text, bad) in [("foo", "foo"), ("info,a=b", "a=b"), ("5", "5")] {
            let error = Items::read(text).unwrap_err();
            assert_eq!(
                error,
                format!("unknown log item '{bad}'; -d help lists them")
            );
        }
        for named in NAMED {
            assert!(help().contains(named.name));
            assert!(Items::read(named.name).is_ok());
        }
    }
}
