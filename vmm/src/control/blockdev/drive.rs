//! `-drive`: the older way to make a disk, read into a node's options, a name and a place.

use api_spec::keyval::{self, Flags};
use api_spec::{BlockdevDriver, BlockdevOptions, Object, QmpError, QmpResult};
use block::{
    ChildSpec, DetectZeroes, Discard, DriverSpec, ErrorPolicy, Limits, NodeSpec, OnError,
    RawWindow, WriteCache,
};

use super::unit::{Media, WantedUnit};
use super::{convert, filename, limits};
use crate::cli::opts::{c_number, parse_size, split};
use crate::control::objects::is_identifier;

/// A drive that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct DriveMade {
    /// Its name.
    pub id: String,
    /// The devices it brings along, in order: arguments of device_add.
    pub devices: Vec<Object>,
}

/// The name of the file of null-co.
const NULL_NAME: &str = "null-co://";

/// The option, read as far as that is possible without the host.
#[derive(Debug)]
pub(super) struct DriveText {
    pub id: Option<String>,
    pub place: WantedUnit,
    pub write_cache: WriteCache,
    /// What is done about failures.
    pub error_policy: ErrorPolicy,
    /// Limits, and the group that shares them.
    pub throttle: Option<(Limits, Option<String>)>,
    /// Writes go to a temporary image.
    pub snapshot: bool,
    /// What is read from a backing file is kept.
    pub copy_on_read: bool,
    /// The driver of the topmost node, where it was given.
    driver: Option<String>,
    /// What the file is called.
    file: Option<String>,
    /// Options of the file below: how requests reach the host.
    aio: Option<String>,
    detect_zeroes: DetectZeroes,
    /// All else: options of the nodes.
    options: Pairs,
}

impl DriveText {
    /// # Errors
    /// In QEMU's words.
    pub fn read(text: &str) -> QmpResult<Self> {
        let mut pairs = Pairs::read(text);
        let id = pairs.take("id");
        if id.as_ref().is_some_and(|id| !is_identifier(id)) {
            return Err(QmpError::generic(
                "Parameter 'id' expects an identifier\n\
                 Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
            ));
        }
        let place = WantedUnit::read(&mut pairs)?;
        let cdrom = place.media == Media::Cdrom;
        let snapshot = pairs.flag("snapshot")?.unwrap_or(false);
        let error_policy = error_policy(&mut pairs)?;
        let throttle = throttle(&mut pairs)?;
        let copy_on_read = pairs.flag("copy-on-read")?.unwrap_or(false);
        let write_cache = cache(&mut pairs)?;
        read_only(&mut pairs, cdrom)?;
        let discard = discard(&mut pairs)?;
        let detect_zeroes = detect_zeroes(pairs.take("detect-zeroes").as_deref(), discard)?;
        let aio = pairs.take("aio");
        if aio
            .as_deref()
            .is_some_and(|aio| !matches!(aio, "threads" | "native" | "io_uring"))
        {
            return Err(QmpError::generic("invalid aio option"));
        }
        let driver = match (pairs.take("format"), pairs.take("driver")) {
            (Some(_), Some(_)) => {
                let desc = "Cannot specify both 'driver' and 'format'";
                return Err(QmpError::generic(desc));
            }
            (format, driver) => format.or(driver),
        };
        let file = pairs.take("file").filter(|file| !file.is_empty());
        Ok(DriveText {
            id,
            place,
            write_cache,
            error_policy,
            throttle,
            copy_on_read,
            snapshot,
            driver,
            file,
            aio,
            detect_zeroes,
            options: pairs,
        })
    }

    /// The file's name, for messages.
    pub fn filename(&self) -> String {
        let below = || self.options.get("file.filename");
        self.file.clone().or_else(below).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.driver.is_none() && self.file.is_none()
    }

    /// The nodes to make; none for an empty drive.
    ///
    /// # Errors
    /// In QEMU's words.
    pub fn node(mut self) -> QmpResult<Option<NodeSpec>> {
        if self.is_empty() && self.options.fit_an_empty_drive() {
            return Ok(None);
        }
        if self.is_empty() && !self.options.has_any_below("file") {
            let desc = "Must specify either driver or file";
            return Err(QmpError::generic(desc));
        }
        let asked = self.driver.take();
        let driver = asked.as_deref().unwrap_or("raw").to_owned();
        if !is_driver(&driver) {
            return Err(QmpError::generic(format!("Unknown driver '{driver}'")));
        }
        let is_null = self.file.as_deref() == Some(NULL_NAME);
        match driver.as_str() {
            "blkdebug" => self.complete_file("image.")?,
            "file" | "host_device" => self.complete_file("")?,
            "null-co" => match self.file.take() {
                None => {}
                Some(name) if name == NULL_NAME => {}
                Some(_) => {
                    let desc = "The only allowed filename for this driver is 'null-co://'";
                    return Err(QmpError::generic(desc));
                }
            },
            _ => self.complete_above()?,
        }
        self.options.set("driver", &driver);
        let options = self.options.decode(&driver)?;
        let mut spec = convert::node(options)?;
        spec.detect_zeroes = self.detect_zeroes;
        if asked.is_none() && !is_null {
            spec.driver = match spec.driver {
                DriverSpec::Raw { file, window, .. } if window == RawWindow::default() => {
                    DriverSpec::Probe { file }
                }
                other => other,
            };
        }
        Ok(Some(spec))
    }

    /// Fills in what the node below a format or filter needs.
    fn complete_above(&mut self) -> QmpResult<()> {
        let has_file = self.options.has_any_below("file") || self.options.get("file").is_some();
        let Some(file) = &self.file else {
            if !has_file {
                let desc = "A block device must be specified for \"file\"";
                return Err(QmpError::generic(desc));
            }
            return self.complete_file("file.");
        };
        if file == NULL_NAME {
            self.file = None;
            self.options.set("file.driver", "null-co");
            return Ok(());
        }
        self.complete_file("file.")
    }

    /// Fills in what the file's node needs, under `prefix`.
    fn complete_file(&mut self, prefix: &str) -> QmpResult<()> {
        let key = |name: &str| format!("{prefix}{name}");
        let name = key("filename");
        let driver = self.options.get(&key("driver"));
        if let Some(driver) = driver.as_deref().filter(|driver| !is_driver(driver)) {
            return Err(QmpError::generic(format!("Unknown driver '{driver}'")));
        }
        if let Some(file) = self.file.take() {
            if self.options.get(&name).is_some() {
                let desc = "Can't specify 'file' and 'filename' options at the same time";
                return Err(QmpError::generic(desc));
            }
            let path =
                filename::path(&file).map_err(|error| QmpError::generic(error.to_string()))?;
            self.options.set(&name, path);
        }
        let Some(path) = self.options.get(&name) else {
            // Another driver than a file's.
            return Ok(());
        };
        if driver.is_none() && !prefix.is_empty() {
            let protocol = match filename::is_device(&path) {
                true => "host_device",
                false => "file",
            };
            self.options.set(&key("driver"), protocol);
        }
        if let Some(aio) = self.aio.take()
            && self.options.get(&key("aio")).is_none()
        {
            self.options.set(&key("aio"), &aio);
        }
        Ok(())
    }
}

fn is_driver(name: &str) -> bool {
    BlockdevDriver::ALL
        .iter()
        .any(|driver| driver.name() == name)
}

/// A filter that keeps what is read through it.
pub(super) fn copy_on_read(below: NodeSpec) -> NodeSpec {
    NodeSpec {
        discard: below.discard,
        read_only: below.read_only,
        auto_read_only: below.auto_read_only,
        direct: below.direct,
        no_flush: below.no_flush,
        ..NodeSpec::new(DriverSpec::CopyOnRead {
            file: Box::new(ChildSpec::Inline(below)),
        })
    }
}

/// `rerror` and `werror`.
fn error_policy(pairs: &mut Pairs) -> QmpResult<ErrorPolicy> {
    let default = ErrorPolicy::default();
    let mut action = |key: &str, kind: &str, default: OnError| {
        Ok(match pairs.take(key).as_deref() {
            None => default,
            Some("report") => OnError::Report,
            Some("ignore") => OnError::Ignore,
            Some("stop") => OnError::Stop,
            Some("enospc") if kind == "write" => OnError::Enospc,
            Some(action) => {
                let desc = format!("'{action}' invalid {kind} error action");
                return Err(QmpError::generic(desc));
            }
        })
    };
    Ok(ErrorPolicy {
        write: action("werror", "write", default.write)?,
        read: action("rerror", "read", default.read)?,
    })
}

/// Older names of limits.
const OLD_LIMITS: [(&str, &str); 13] = [
    ("iops", "iops-total"),
    ("iops_rd", "iops-read"),
    ("iops_wr", "iops-write"),
    ("bps", "bps-total"),
    ("bps_rd", "bps-read"),
    ("bps_wr", "bps-write"),
    ("iops_max", "iops-total-max"),
    ("iops_rd_max", "iops-read-max"),
    ("iops_wr_max", "iops-write-max"),
    ("bps_max", "bps-total-max"),
    ("bps_rd_max", "bps-read-max"),
    ("bps_wr_max", "bps-write-max"),
    ("iops_size", "iops-size"),
];

/// `throttling.*` and the older names. A group without limits is none.
fn throttle(pairs: &mut Pairs) -> QmpResult<Option<(Limits, Option<String>)>> {
    let olds = OLD_LIMITS.into_iter().chain([("group", "group")]);
    for (old, new) in olds {
        let new = format!("throttling.{new}");
        if let Some(value) = pairs.take(old) {
            if pairs.get(&new).is_some() {
                return Err(QmpError::generic(format!(
                    "'{new}' and its alias '{old}' can't be used at the same time"
                )));
            }
            pairs.set(&new, &value);
        }
    }
    let mut set = Limits::default();
    for (name, _) in limits::named(&Limits::default()) {
        let key = format!("throttling.{name}");
        let Some(text) = pairs.take(&key) else {
            continue;
        };
        let value = c_number(&text)
            .ok_or_else(|| QmpError::generic(format!("Parameter '{key}' expects a number")))?;
        limits::set_named(&mut set, &name, value);
    }
    let group = pairs.take("throttling.group");
    set.check()
        .map_err(|error| QmpError::generic(error.to_string()))?;
    Ok(set.any().then_some((set, group)))
}

/// `cache`, and the single switches, which win over it.
fn cache(pairs: &mut Pairs) -> QmpResult<WriteCache> {
    let (direct, writeback, no_flush) = match pairs.take("cache").as_deref() {
        None | Some("writeback") => (false, true, false),
        Some("none" | "off") => (true, true, false),
        Some("writethrough") => (false, false, false),
        Some("directsync") => (true, false, false),
        Some("unsafe") => (false, true, true),
        Some(_) => return Err(QmpError::generic("invalid cache option")),
    };
    let writeback = pairs.flag("cache.writeback")?.unwrap_or(writeback);
    for (key, value) in [("cache.direct", direct), ("cache.no-flush", no_flush)] {
        let value = pairs.flag(key)?.unwrap_or(value);
        pairs.set(key, if value { "on" } else { "off" });
    }
    Ok(match writeback {
        true => WriteCache::Back,
        false => WriteCache::Through,
    })
}

/// A drive falls back to read-only unless it was said what it is to be.
fn read_only(pairs: &mut Pairs, cdrom: bool) -> QmpResult<()> {
    if let Some(value) = pairs.take("readonly") {
        pairs.set("read-only", &value);
    }
    let asked = pairs.flag("read-only")?;
    let falls_back = pairs.flag("auto-read-only")?;
    let on_off = |on: bool| if on { "on" } else { "off" };
    if asked.is_some() || cdrom {
        pairs.set("read-only", on_off(asked.unwrap_or(cdrom) || cdrom));
    }
    pairs.set(
        "auto-read-only",
        on_off(falls_back.unwrap_or(asked.is_none())),
    );
    Ok(())
}

fn discard(pairs: &mut Pairs) -> QmpResult<Discard> {
    let discard = match pairs.take("discard").as_deref() {
        None => return Ok(Discard::Ignore),
        Some("ignore" | "off") => Discard::Ignore,
        Some("unmap" | "on") => Discard::Unmap,
        Some(_) => return Err(QmpError::generic("Invalid discard option")),
    };
    let name = if discard == Discard::Unmap {
        "unmap"
    } else {
        "ignore"
    };
    pairs.set("discard", name);
    Ok(discard)
}

/// Without discards there is nothing to give back, which `-drive` does not mind.
fn detect_zeroes(value: Option<&str>, discard: Discard) -> QmpResult<DetectZeroes> {
    match (value, discard) {
        (None | Some("off"), _) => Ok(DetectZeroes::Off),
        (Some("unmap"), Discard::Unmap) => Ok(DetectZeroes::Unmap),
        (Some("on" | "unmap"), _) => Ok(DetectZeroes::On),
        (Some(other), _) => Err(QmpError::generic(format!(
            "invalid parameter value: {other}"
        ))),
    }
}

/// Keys and values in order.
#[derive(Debug, Default)]
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    pub fn read(text: &str) -> Self {
        let pair = |item: String| match item.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => match item.strip_prefix("no") {
                // Only flags that begin otherwise: `node-name` has a value.
                Some(key) if !key.is_empty() && item != "node-name" => {
                    (key.to_owned(), "off".into())
                }
                Some(_) | None => (item, "on".to_owned()),
            },
        };
        Pairs(split(text).into_iter().map(pair).collect())
    }

    /// Whether there is nothing in them that needs an image.
    fn fit_an_empty_drive(&self) -> bool {
        const GENERAL: [&str; 7] = [
            "read-only",
            "auto-read-only",
            "discard",
            "force-share",
            "active",
            "cache.direct",
            "cache.no-flush",
        ];
        self.0
            .iter()
            .all(|(key, _)| GENERAL.contains(&key.as_str()))
    }

    /// The last value of `key`.
    fn get(&self, key: &str) -> Option<String> {
        let mut pairs = self.0.iter().rev();
        pairs
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.clone())
    }

    /// The same, and takes it out.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let value = self.get(key);
        self.0.retain(|(name, _)| name != key);
        value
    }

    fn set(&mut self, key: &str, value: &str) {
        self.0.retain(|(name, _)| name != key);
        self.0.push((key.to_owned(), value.to_owned()));
    }

    fn has_any_below(&self, key: &str) -> bool {
        let below = |name: &str| {
            name.strip_prefix(key)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        self.0.iter().any(|(name, _)| below(name))
    }

    fn flag(&mut self, key: &str) -> QmpResult<Option<bool>> {
        match self.take(key).as_deref() {
            None => Ok(None),
            Some("on" | "yes" | "true" | "y") => Ok(Some(true)),
            Some("off" | "no" | "false" | "n") => Ok(Some(false)),
            Some(_) => Err(QmpError::generic(format!(
                "Parameter '{key}' expects 'on' or 'off'"
            ))),
        }
    }

    /// All pairs as options of a node with this driver.
    fn decode(mut self, driver: &str) -> QmpResult<BlockdevOptions> {
        for key in ["size", "offset", "file.size", "file.offset"] {
            if let Some(text) = self.get(key) {
                let bytes = parse_size(&text).ok_or_else(|| size_error(key))?;
                self.set(key, &bytes.to_string());
            }
        }
        let doubled = |text: &str| text.replace(',', ",,");
        let items = self
            .0
            .iter()
            .map(|(key, value)| format!("{key}={}", doubled(value)));
        let text = items.collect::<Vec<_>>().join(",");
        let decoded = keyval::parse(&text, None, Flags::Refused).and_then(|parsed| parsed.decode());
        decoded.map_err(|error| match unexpected(&error.desc) {
            Some(key) => QmpError::generic(format!(
                "Block format '{driver}' does not support the option '{key}'"
            )),
            None => error,
        })
    }
}

fn size_error(key: &str) -> QmpError {
    QmpError::generic(format!(
        "Parameter '{key}' expects a non-negative number below 2^64\n\
         Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n\
         and exabytes, respectively."
    ))
}

/// The key of which the decoder says that it is not known.
fn unexpected(desc: &str) -> Option<&str> {
    desc.strip_prefix("Parameter '")?
        .strip_suffix("' is unexpected")
}
