//! `-config FILE`: options in a file, one a line, without quoting.
//!
//! ```text
//! # The console and a disk.
//! machine q35,accel=kvm
//! chardev socket,id=console,path=console.sock,\
//!         server=on,wait=off
//! blockdev {"driver": "file", "node-name": "disk", "filename": "a b.img"}
//! ```
//!
//! A line is an option's name, with or without its dash, and its value: all that follows, as it
//! is. A backslash at the end joins the next line, whose leading blanks do not count.

use std::io::Read;

use super::args::{Arg, CliError, Shape};
use crate::process::errno;

/// No command line that anybody writes is as long, in bytes.
const LARGEST: u64 = 1 << 20;

/// The options in the file that `arg` names.
///
/// # Errors
/// When the file cannot be read, or a line is no option.
pub fn read(arg: &Arg, lookup: impl Fn(&str) -> Option<Shape>) -> Result<Vec<Arg>, CliError> {
    let path = &arg.value;
    let refuse = |why: &str| arg.error(format!("Cannot read '{path}': {why}"));
    let mut text = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST.saturating_add(1)).read_to_end(&mut text));
    let size = read.map_err(|error| refuse(&errno(&error)))?;
    if u64::try_from(size).is_ok_and(|size| size > LARGEST) {
        return Err(refuse("it is larger than 1 MiB"));
    }
    let text = String::from_utf8(text).map_err(|_| refuse("it is not UTF-8"))?;
    parse(path, &text, lookup)
}

fn parse(
    path: &str,
    text: &str,
    lookup: impl Fn(&str) -> Option<Shape>,
) -> Result<Vec<Arg>, CliError> {
    let mut args = Vec::new();
    for (number, line) in joined(text) {
        let (name, value) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        let value = value.trim();
        let location = format!("{path}:{number}: {line}");
        let error = |message: &str| CliError {
            location: location.clone(),
            message: message.into(),
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        let name = name.strip_prefix('-').unwrap_or(name);
        let shape = lookup(name).ok_or_else(|| error("invalid option"))?;
        if shape.name == "config" {
            return Err(error("a file of options names no other"));
        }
        if shape.takes_value && value.is_empty() {
            return Err(error("requires an argument"));
        }
        if !shape.takes_value && !value.is_empty() {
            return Err(error("takes no argument"));
        }
        args.push(Arg {
            name: shape.name,
            value: value.to_owned(),
            location,
        });
    }
    Ok(args)
}

/// The lines that are neither empty nor remarks, joined where they end in a backslash, with their
/// numbers.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let (part, goes_on) = match line.strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        match found.last_mut().filter(|_| open) {
            Some((_, before)) => before.push_str(part),
            None if line.is_empty() || line.starts_with('#') => continue,
            None => found.push((number, part.to_owned())),
        }
        open = goes_on;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<Shape> {
        let (name, takes_value) = match name {
            "machine" => ("machine", true),
            "append" => ("append", true),
            "config" => ("config", true),
            "S" => ("S", false),
            _ => return None,
        };
        Some(Shape { name, takes_value })
    }

    #[test]
    fn values_are_taken_as_they_are() {
        let text = "# a remark\n\n  machine  q35,\\\n   accel=kvm  \n-S\n--append a \"b\"  # c\n";
        let args = parse("f", text, lookup).unwrap();
        let seen: Vec<_> = args.iter().map(|arg| (arg.name, &*arg.value)).collect();
        let expected = [
            ("machine", "q35,accel=kvm"),
            ("S", ""),
            ("append", "a \"b\"  # c"),
        ];
        assert_eq!(seen, expected);
        assert_eq!(args[0].location, "f:3: machine  q35,accel=kvm");
    }

    #[test]
    fn wrong_lines_are_named() {
        for (text, message) in [
            ("\nfoo bar", "f:2: foo bar: invalid option"),
            ("machine", "f:1: machine: requires an argument"),
            ("S on", "f:1: S on: takes no argument"),
            ("---S", "f:1: ---S: invalid option"),
            ("-", "f:1: -: invalid option"),
            ("\\", "f:1: : invalid option"),
            (
                "config x",
                "f:1: config x: a file of options names no other",
            ),
        ] {
            let error = parse("f", text, lookup).unwrap_err().to_string();
            assert_eq!(error, message);
        }
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("conf");
        let arg = Arg {
            name: "config",
            value: path.display().to_string(),
            location: "-config x".into(),
        };
        let refusal = |arg: &Arg| read(arg, lookup).unwrap_err().to_string();
        assert!(refusal(&arg).ends_with(": No such file or directory"));
        std::fs::write(&path, b"S \xff").unwrap();
        assert!(refusal(&arg).ends_with(": it is not UTF-8"));
        std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
        assert!(refusal(&arg).ends_with(": it is larger than 1 MiB"));
        std::fs::write(&path, "S\n").unwrap();
        assert_eq!(read(&arg, lookup).unwrap().len(), 1);
    }
}
