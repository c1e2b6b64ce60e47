//! Text commands about migration, read into what they ask for.

use api_spec::{MigrateSetParameters, MigrationCapability, MigrationStatus, QmpError, QmpResult};

use super::Verb as All;
use super::table::{Entry, entry};
use super::words::Words;
use crate::cli::migration::{is_parameter, parameter};
use crate::cli::opts::{parse_mebibytes, parse_size};
use crate::control::migrate::{never, older};

/// A command about migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// migrate.
    Migrate,
    /// migrate_incoming.
    Incoming,
    /// migrate_cancel.
    Cancel,
    /// migrate_continue.
    Continue,
    /// migrate_set_capability.
    SetCapability,
    /// migrate_set_parameter.
    SetParameter,
    /// migrate_set_speed.
    SetSpeed,
    /// migrate_set_downtime.
    SetDowntime,
    /// migrate_set_cache_size.
    SetCacheSize,
    /// migrate_start_postcopy.
    StartPostcopy,
    /// migrate_pause.
    Pause,
    /// migrate_recover.
    Recover,
    /// client_migrate_info.
    ClientInfo,
}

/// The commands.
pub(super) static COMMANDS: &[Entry] = &[
    entry(
        "client_migrate_info",
        None,
        All::Migration(Verb::ClientInfo),
        "protocol hostname [port [tls-port [cert-subject]]]",
        "refused: there are no displays to follow the machine",
    ),
    entry(
        "migrate",
        None,
        All::Migration(Verb::Migrate),
        "[-d] [-r] uri",
        "send the machine there (the prompt comes back at once, with -d or not)",
    ),
    entry(
        "migrate_cancel",
        None,
        All::Migration(Verb::Cancel),
        "",
        "give up sending the machine",
    ),
    entry(
        "migrate_continue",
        None,
        All::Migration(Verb::Continue),
        "state",
        "let a migration go on that waits in this state",
    ),
    entry(
        "migrate_incoming",
        None,
        All::Migration(Verb::Incoming),
        "uri",
        "fill a machine that was started with -incoming defer",
    ),
    entry(
        "migrate_pause",
        None,
        All::Migration(Verb::Pause),
        "",
        "refused: there is no postcopy",
    ),
    entry(
        "migrate_recover",
        None,
        All::Migration(Verb::Recover),
        "uri",
        "refused: there is no postcopy",
    ),
    entry(
        "migrate_set_cache_size",
        None,
        All::Migration(Verb::SetCacheSize),
        "value",
        "replaced by migrate_set_parameter xbzrle-cache-size",
    ),
    entry(
        "migrate_set_capability",
        None,
        All::Migration(Verb::SetCapability),
        "capability on|off",
        "switch a capability of migrations",
    ),
    entry(
        "migrate_set_downtime",
        None,
        All::Migration(Verb::SetDowntime),
        "value",
        "replaced by migrate_set_parameter downtime-limit; in seconds",
    ),
    entry(
        "migrate_set_parameter",
        None,
        All::Migration(Verb::SetParameter),
        "parameter value",
        "change a parameter of migrations",
    ),
    entry(
        "migrate_set_speed",
        None,
        All::Migration(Verb::SetSpeed),
        "value",
        "replaced by migrate_set_parameter max-bandwidth; in MiB",
    ),
    entry(
        "migrate_start_postcopy",
        None,
        All::Migration(Verb::StartPostcopy),
        "",
        "refused: there is no postcopy",
    ),
];

/// A whole command about migration.
#[derive(Debug, Clone, PartialEq)]
pub enum MigrationLine {
    /// Send the machine.
    Migrate {
        /// Where to.
        uri: String,
        /// The prompt is wanted back at once.
        detach: bool,
        /// Go on with one that stood still.
        resume: bool,
    },
    /// Let a machine come.
    Incoming {
        /// Where from.
        uri: String,
    },
    /// Give it up.
    Cancel,
    /// Let it go on that waits.
    Continue(MigrationStatus),
    /// Switch a capability.
    SetCapability(MigrationCapability, bool),
    /// Change a parameter.
    SetParameter(Box<MigrateSetParameters>),
    /// What cannot be done here, with the reason.
    Never(QmpError),
}

impl MigrationLine {
    /// Reads the words behind the command.
    ///
    /// # Errors
    /// The text to answer with when they make no sense.
    pub fn read(verb: Verb, mut words: Words) -> Result<Self, String> {
        let line = match verb {
            Verb::Migrate => {
                let switches = words.switches("dr")?;
                MigrationLine::Migrate {
                    uri: words.need("string")?,
                    detach: switches.contains('d'),
                    resume: switches.contains('r'),
                }
            }
            Verb::Incoming => MigrationLine::Incoming {
                uri: words.need("string")?,
            },
            Verb::Cancel => MigrationLine::Cancel,
            Verb::Continue => {
                let name = words.need("string")?;
                let found = MigrationStatus::ALL.iter().find(|s| s.name() == name);
                MigrationLine::Continue(*found.ok_or_else(|| invalid(&name))?)
            }
            Verb::SetCapability => capability(&mut words)?,
            Verb::SetParameter => {
                let (name, value) = (words.need("string")?, words.need("string")?);
                words.end()?;
                change(set_parameter(&name, &value))?
            }
            Verb::SetSpeed => {
                let value = mebibytes(&mut words)?;
                change(Ok(older::speed(value)))?
            }
            Verb::SetCacheSize => {
                let value = mebibytes(&mut words)?;
                change(Ok(older::cache_size(value)))?
            }
            Verb::SetDowntime => {
                let value = seconds(&mut words)?;
                change(older::downtime(value))?
            }
            Verb::StartPostcopy => MigrationLine::Never(never::start_postcopy()),
            Verb::Pause => MigrationLine::Never(never::pause()),
            Verb::Recover => {
                words.need("string")?;
                MigrationLine::Never(never::recover())
            }
            Verb::ClientInfo => client_info(&mut words)?,
        };
        words.end()?;
        Ok(line)
    }
}

fn invalid(name: &str) -> String {
    format!("Error: invalid parameter value: {name}\n")
}

fn change(read: QmpResult<MigrateSetParameters>) -> Result<MigrationLine, String> {
    match read {
        Ok(change) => Ok(MigrationLine::SetParameter(Box::new(change))),
        Err(error) => Err(format!("Error: {}\n", error.desc)),
    }
}

fn capability(words: &mut Words) -> Result<MigrationLine, String> {
    let name = words.need("string")?;
    let state = match words.next().as_deref() {
        Some("on") => true,
        Some("off") => false,
        _ => return Err(words.with_help("Expected 'on' or 'off'".into())),
    };
    words.end()?;
    let found = MigrationCapability::ALL.iter().find(|c| c.name() == name);
    let capability = *found.ok_or_else(|| invalid(&name))?;
    Ok(MigrationLine::SetCapability(capability, state))
}

/// Bandwidths are in MiB where no suffix says otherwise, all other numbers may have suffixes too.
fn set_parameter(name: &str, value: &str) -> QmpResult<MigrateSetParameters> {
    let size = |read: fn(&str) -> Option<u64>| {
        let fits = |size: &u64| i64::try_from(*size).is_ok();
        let bad = || QmpError::generic(format!("Invalid size {value}"));
        read(value).filter(fits).ok_or_else(bad)
    };
    match name {
        "block-bitmap-mapping" => Err(QmpError::generic(
            "The block-bitmap-mapping parameter can only be set through QMP",
        )),
        "max-bandwidth" | "avail-switchover-bandwidth" => {
            parameter(name, &size(parse_mebibytes)?.to_string())
        }
        "downtime-limit" | "vcpu-dirty-limit" | "x-vcpu-dirty-limit-period" => {
            parameter(name, &size(parse_size)?.to_string())
        }
        _ if is_parameter(name) => parameter(name, value),
        _ => Err(QmpError::generic(format!(
            "invalid parameter value: {name}"
        ))),
    }
}

fn mebibytes(words: &mut Words) -> Result<i64, String> {
    let word = words.need("size")?;
    let size = parse_mebibytes(&word).and_then(|size| i64::try_from(size).ok());
    size.ok_or_else(|| words.with_help("invalid size".into()))
}

/// Seconds, or with a suffix.
fn seconds(words: &mut Words) -> Result<f64, String> {
    let word = words.need("time")?;
    let scales = [("ms", 1e3), ("us", 1e6), ("ns", 1e9)];
    let scaled = scales
        .iter()
        .find_map(|(suffix, scale)| Some((word.strip_suffix(suffix)?, *scale)));
    let (number, scale) = scaled.unwrap_or((word.as_str(), 1.0));
    let number = number.parse::<f64>().ok().filter(|n| n.is_finite());
    let number = number.ok_or_else(|| words.with_help("invalid time".into()))?;
    Ok(number / scale)
}

fn client_info(words: &mut Words) -> Result<MigrationLine, String> {
    let protocol = words.need("string")?;
    words.need("string")?;
    // Ports and a subject, of no use.
    while words.next().is_some() {}
    Ok(MigrationLine::Never(never::client_info(&protocol)))
}

#[cfg(test)]
mod tests {
    use api_spec::decode::Size;

    use super::super::words::split;
    use super::*;

    fn read(verb: Verb, text: &str) -> Result<MigrationLine, String> {
        MigrationLine::read(verb, Words::new("x", split(text)))
    }

    fn parameters(verb: Verb, text: &str) -> Result<MigrateSetParameters, String> {
        match read(verb, text)? {
            MigrationLine::SetParameter(change) => Ok(*change),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn machines_are_sent_and_come() {
        let migrate = |uri: &str, detach, resume| {
            Ok(MigrationLine::Migrate {
                uri: uri.into(),
                detach,
                resume,
            })
        };
        assert_eq!(
            read(Verb::Migrate, "tcp:a:1"),
            migrate("tcp:a:1", false, false)
        );
        assert_eq!(
            read(Verb::Migrate, "-d \"exec:cat > /a\""),
            migrate("exec:cat > /a", true, false)
        );
        assert_eq!(read(Verb::Migrate, "-d -r a:"), migrate("a:", true, true));
        let help = "Try \"help x\" for more information\n";
        assert_eq!(
            read(Verb::Migrate, ""),
            Err(format!("x: string expected\n{help}"))
        );
        assert_eq!(
            read(Verb::Migrate, "-x a:"),
            Err(format!("x: unsupported option -x\n{help}"))
        );
        assert_eq!(
            read(Verb::Incoming, "a: b"),
            Err(format!(
                "x: extraneous characters at the end of line\n{help}"
            ))
        );
        assert_eq!(
            read(Verb::Continue, "pre-switchover"),
            Ok(MigrationLine::Continue(MigrationStatus::PreSwitchover))
        );
        assert_eq!(
            read(Verb::Continue, "foo"),
            Err("Error: invalid parameter value: foo\n".into())
        );
    }

    #[test]
    fn capabilities() {
        let on = MigrationLine::SetCapability(MigrationCapability::Events, true);
        assert_eq!(read(Verb::SetCapability, "events on"), Ok(on));
        for (text, message) in [
            ("", "x: string expected\nTry"),
            ("events", "Expected 'on' or 'off'\nTry"),
            ("events yes", "Expected 'on' or 'off'\nTry"),
            ("events on x", "x: extraneous characters"),
            ("foo on", "Error: invalid parameter value: foo\n"),
        ] {
            let error = read(Verb::SetCapability, text).unwrap_err();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }

    #[test]
    fn parameters_as_text() {
        let set = |text: &str| parameters(Verb::SetParameter, text);
        let bandwidth = |text: &str| set(text).unwrap().max_bandwidth;
        assert_eq!(bandwidth("max-bandwidth 10"), Some(Size(10 << 20)));
        assert_eq!(bandwidth("max-bandwidth 10k"), Some(Size(10 << 10)));
        assert_eq!(bandwidth("max-bandwidth 1.5G"), Some(Size(3 << 29)));
        assert_eq!(
            set("avail-switchover-bandwidth 7")
                .unwrap()
                .avail_switchover_bandwidth,
            Some(Size(7 << 20))
        );
        assert_eq!(
            set("max-postcopy-bandwidth 7")
                .unwrap()
                .max_postcopy_bandwidth,
            Some(Size(7))
        );
        assert_eq!(set("downtime-limit 5k").unwrap().downtime_limit, Some(5120));
        assert_eq!(
            set("announce-initial 0x10").unwrap().announce_initial,
            Some(Size(16))
        );
        assert_eq!(
            set("cpu-throttle-tailslow on")
                .unwrap()
                .cpu_throttle_tailslow,
            Some(true)
        );
        for (text, message) in [
            ("foo 1", "Error: invalid parameter value: foo\n"),
            ("max-bandwidth", "x: string expected\n"),
            ("max-bandwidth x", "Error: Invalid size x\n"),
            ("max-bandwidth -1", "Error: Invalid size -1\n"),
            (
                "max-bandwidth 100000000000000",
                "Error: Invalid size 100000000000000\n",
            ),
            (
                "multifd-channels 1000",
                "Error: Parameter 'multifd-channels' expects uint8_t\n",
            ),
            (
                "multifd-compression foo",
                "Error: Parameter 'multifd-compression' does not accept value 'foo'\n",
            ),
            (
                "cpu-throttle-tailslow 1",
                "Error: Parameter 'cpu-throttle-tailslow' expects 'on' or 'off'\n",
            ),
            (
                "block-bitmap-mapping x",
                "Error: The block-bitmap-mapping parameter can only be set through QMP\n",
            ),
            ("downtime-limit 1 2", "x: extraneous characters"),
        ] {
            let error = set(text).unwrap_err();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }

    #[test]
    fn the_older_commands() {
        let speed = |text| parameters(Verb::SetSpeed, text);
        assert_eq!(speed("32").unwrap().max_bandwidth, Some(Size(32 << 20)));
        assert_eq!(speed("9k").unwrap().max_bandwidth, Some(Size(9 << 10)));
        assert!(speed("x").unwrap_err().starts_with("invalid size\n"));
        let downtime = |text| parameters(Verb::SetDowntime, text);
        assert_eq!(downtime("2").unwrap().downtime_limit, Some(2000));
        assert_eq!(downtime("0.3").unwrap().downtime_limit, Some(300));
        assert_eq!(downtime("40ms").unwrap().downtime_limit, Some(40));
        assert!(downtime("3000").unwrap_err().starts_with("Error: "));
        assert!(downtime("nan").unwrap_err().starts_with("invalid time\n"));
        let cache = parameters(Verb::SetCacheSize, "64").unwrap();
        assert_eq!(cache.xbzrle_cache_size, Some(Size(64 << 20)));
    }

    #[test]
    fn what_cannot_be_done_here() {
        for (verb, text) in [
            (Verb::StartPostcopy, ""),
            (Verb::Pause, ""),
            (Verb::Recover, "a:"),
            (Verb::ClientInfo, "spice host 1 2 subject"),
        ] {
            let line = read(verb, text).unwrap();
            assert!(matches!(line, MigrationLine::Never(_)), "{text}");
        }
        assert!(read(Verb::Pause, "x").is_err());
        assert!(read(Verb::Recover, "").is_err());
    }
}
