//! Configuration files of `blkdebug`: sections with keys and quoted values.
//!
//! ```text
//! [inject-error]
//! event = "l2_update"
//! errno = "28"
//!
//! [set-state]
//! event = "l2_update"
//! state = "1"
//! new_state = "2"
//! ```

use std::fs::File;
use std::io::Read;

use super::BlkdebugSpec;
use super::event::Event;
use super::rules::{InjectError, IoType, SetState};
use crate::error::BlockError;

/// Largest file that is taken.
const MOST: u64 = 1 << 20;

/// Adds what the file says.
///
/// # Errors
/// When it cannot be read or says what is not known; with the line.
pub(super) fn read(file: File, path: &str, spec: &mut BlkdebugSpec) -> Result<(), BlockError> {
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text).map_err(|error| {
        BlockError::host(
            format!("Could not read blkdebug config file '{path}'"),
            error,
        )
    })?;
    parse(&text, spec).map_err(|(line, why)| {
        BlockError::Unsupported(format!(
            "Could not parse blkdebug config file '{path}': line {line}: {why}"
        ))
    })
}

type Complaint = (usize, String);

fn parse(text: &str, spec: &mut BlkdebugSpec) -> Result<(), Complaint> {
    let mut section: Option<Section> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let at = |why: String| (number, why);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            if let Some(done) = section.take() {
                done.finish(spec)?;
            }
            // A name of the section may follow in quotes.
            let kind = name.split_whitespace().next().unwrap_or_default();
            section = Some(Section::new(kind, number).map_err(at)?);
            continue;
        }
        let pair = line
            .split_once('=')
            .map(|(key, value)| (key.trim(), value.trim()));
        let quoted = |value: &str| {
            let inner = value.strip_prefix('"')?.strip_suffix('"')?;
            Some(inner.to_owned())
        };
        let pair = pair.and_then(|(key, value)| Some((key, quoted(value)?)));
        let (Some((key, value)), Some(section)) = (pair, &mut section) else {
            return Err(at("parse error".to_owned()));
        };
        section.set(key, &value).map_err(at)?;
    }
    match section {
        Some(done) => done.finish(spec),
        None => Ok(()),
    }
}

/// A section that is being read.
struct Section {
    line: usize,
    inject: bool,
    event: Option<Event>,
    rule: InjectError,
    new_state: Option<u64>,
}

impl Section {
    fn new(kind: &str, line: usize) -> Result<Self, String> {
        let inject = match kind {
            "inject-error" => true,
            "set-state" => false,
            other => return Err(format!("There is no option group '{other}'")),
        };
        Ok(Section {
            line,
            inject,
            event: None,
            rule: InjectError::new(Event::None),
            new_state: None,
        })
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let number = || {
            let number = value.parse::<u64>();
            number.map_err(|_| format!("Parameter '{key}' expects a number"))
        };
        let flag = || match value {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(format!("Parameter '{key}' expects 'on' or 'off'")),
        };
        match (key, self.inject) {
            ("event", _) => {
                let event = Event::by_name(value);
                self.event = Some(event.ok_or_else(|| format!("Invalid event name \"{value}\""))?);
            }
            ("state", _) => self.rule.state = number()?,
            ("new_state", false) => self.new_state = Some(number()?),
            ("iotype", true) => {
                let io_type = IoType::by_name(value);
                let unknown = || format!("Invalid parameter '{value}'");
                self.rule.io_type = Some(io_type.ok_or_else(unknown)?);
            }
            ("errno", true) => {
                let errno = i32::try_from(number()?);
                self.rule.errno = errno.map_err(|_| "errno is out of range".to_owned())?;
            }
            // All ones is QEMU's way to say any.
            ("sector", true) if value == "-1" => self.rule.sector = None,
            ("sector", true) => self.rule.sector = Some(number()?),
            ("once", true) => self.rule.once = flag()?,
            ("immediately", true) => self.rule.immediately = flag()?,
            _ => return Err(format!("Invalid parameter '{key}'")),
        }
        Ok(())
    }

    fn finish(self, spec: &mut BlkdebugSpec) -> Result<(), Complaint> {
        let Section {
            line,
            inject,
            event,
            rule,
            new_state,
        } = self;
        let event = event.ok_or((line, "Missing event name for rule".to_owned()))?;
        if inject {
            spec.inject.push(InjectError { event, ..rule });
            return Ok(());
        }
        spec.set_state.push(SetState {
            event,
            state: rule.state,
            new_state: new_state.unwrap_or(0),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BlkdebugSpec, Complaint> {
        let mut spec = BlkdebugSpec::default();
        parse(text, &mut spec).map(|()| spec)
    }

    #[test]
    fn sections_become_rules() {
        let text = "# a comment\n\n[inject-error]\nevent = \"l2_update\"\nerrno = \"28\"\n\
                    sector=\"7\"\nonce = \"on\"\niotype = \"write-zeroes\"\n\
                    [set-state \"x\"]\nevent = \"none\"\nstate = \"1\"\nnew_state = \"2\"\n\
                    [inject-error]\nevent = \"none\"\n";
        let spec = read(text).unwrap();
        let first = InjectError {
            errno: 28,
            sector: Some(7),
            once: true,
            io_type: Some(IoType::WriteZeroes),
            ..InjectError::new(Event::L2Update)
        };
        assert_eq!(spec.inject, [first, InjectError::new(Event::None)]);
        let set = SetState {
            event: Event::None,
            state: 1,
            new_state: 2,
        };
        assert_eq!(spec.set_state, [set]);
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_line() {
        for (text, line, part) in [
            ("[suspend]\n", 1, "option group 'suspend'"),
            ("event = \"none\"\n", 1, "parse error"),
            ("\n[set-state]\nevent = none\n", 3, "parse error"),
            (
                "[set-state]\nevent = \"nothing\"\n",
                2,
                "Invalid event name",
            ),
            ("[set-state]\nstate = \"1\"\n", 1, "Missing event"),
            (
                "[set-state]\nerrno = \"1\"\n",
                2,
                "Invalid parameter 'errno'",
            ),
            ("[inject-error]\nonce = \"1\"\n", 2, "'on' or 'off'"),
            (
                "[inject-error]\nerrno = \"99999999999\"\n",
                2,
                "out of range",
            ),
        ] {
            let (at, why) = read(text).unwrap_err();
            assert!(at == line && why.contains(part), "{at}: {why}");
        }
    }
}
