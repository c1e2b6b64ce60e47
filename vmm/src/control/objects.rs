//! Objects of object-add: memory backends, I/O threads, entropy sources.

use std::sync::Arc;

use api_spec::{IOThreadInfo, Memdev, ObjectOptions, ObjectOptionsBranch as Branch, ObjectType};
use api_spec::{Mode, QmpError, QmpResult, ThrottleLimits, Value};
use block::{Graph, Limits, ThrottleGroup};
use devices::backend::rng::{BuiltinEntropy, Entropy, FileEntropy};

use super::blockdev::limits;
use super::fds::Opener;
use super::secure::{self, ListObject, Vault};
use crate::event::MailSender;
use crate::machine::qom::Node;
use crate::memory::{Backend, BackendOptions};
use crate::process::errno;
use crate::threads::io_thread::{IoThread, PollParameters};

/// Where rng-random reads unless told otherwise.
const RANDOM_DEVICE: &str = "/dev/urandom";

/// What an object is.
pub enum Body {
    /// Memory for the guest.
    Memory(Arc<Backend>),
    /// Runs queues.
    IoThread(Arc<IoThread>),
    /// Gives random numbers.
    Entropy {
        /// The source.
        source: Arc<dyn Entropy>,
        /// The file it reads, if any.
        filename: Option<String>,
    },
    /// Limits disks.
    Throttle(Arc<ThrottleGroup>),
    /// Certificates and keys.
    Credentials(Arc<tls::Credentials>),
    /// Says who may come in.
    List(Box<ListObject>),
}

struct Object {
    id: String,
    kind: ObjectType,
    body: Body,
    /// Held by the machine itself, beside what the handles in devices hold.
    pinned: bool,
}

/// All objects, in the order in which they were made.
pub struct Objects {
    list: Vec<Object>,
    /// Ids of those under way.
    reserved: Vec<String>,
    mail: MailSender,
    opener: Opener,
    /// Where throttle groups are found by name.
    graph: Graph,
    /// Where sockets find credentials and lists.
    vault: Vault,
}

impl Objects {
    /// None yet.
    pub fn new(mail: MailSender, opener: Opener, graph: Graph) -> Self {
        Objects {
            graph,
            list: Vec::new(),
            reserved: Vec::new(),
            mail,
            opener,
            vault: Vault::default(),
        }
    }

    /// Where sockets find credentials and lists.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// object-add.
    ///
    /// # Errors
    /// When the id is taken or none, the options contradict each other, or the host refuses.
    pub fn add(&mut self, options: &ObjectOptions) -> QmpResult<()> {
        self.reserve(&options.id)?;
        let made = make(options, &self.mail, &self.opener, &self.graph);
        self.complete(options, made)
    }

    /// Keeps an id for an object that is being made.
    ///
    /// # Errors
    /// When it is taken, or is none.
    pub fn reserve(&mut self, id: &str) -> QmpResult<()> {
        check_id(id)?;
        if self.has(id) {
            return Err(QmpError::generic(format!(
                "attempt to add duplicate property '{id}' to object (type 'container')"
            )));
        }
        self.reserved.push(id.to_owned());
        Ok(())
    }

    /// Frees a reserved id.
    pub fn give_up(&mut self, id: &str) {
        self.reserved.retain(|other| other != id);
    }

    /// Puts what became of an object with a reserved id into its place.
    ///
    /// # Errors
    /// The one that making it ended with.
    pub fn complete(&mut self, options: &ObjectOptions, made: QmpResult<Body>) -> QmpResult<()> {
        self.give_up(&options.id);
        let body = made?;
        match &body {
            Body::Credentials(found) => self.vault.add(&options.id, Some(found.clone())),
            Body::List(list) => {
                self.vault.add(&options.id, None);
                self.vault.lists.set(&options.id, list.list.clone());
            }
            _ => self.vault.add(&options.id, None),
        }
        self.list.push(Object {
            id: options.id.clone(),
            kind: options.qom_type.kind(),
            body,
            pinned: false,
        });
        Ok(())
    }

    /// object-del.
    ///
    /// # Errors
    /// When there is none of that id, or something uses it.
    pub fn remove(&mut self, id: &str) -> QmpResult<()> {
        let index = self
            .list
            .iter()
            .position(|object| object.id == id)
            .ok_or_else(|| QmpError::generic(format!("object '{id}' not found")))?;
        let used = self.list.get(index).is_some_and(|object| {
            object.pinned
                || match &object.body {
                    Body::Memory(backend) => Arc::strong_count(backend) > 1,
                    Body::IoThread(thread) => Arc::strong_count(thread) > 1,
                    Body::Entropy { source, .. } => Arc::strong_count(source) > 1,
                    Body::Throttle(group) => group.has_members(),
                    // As in QEMU: whoever has them keeps them.
                    Body::Credentials(_) | Body::List(_) => false,
                }
        });
        if used {
            let text = format!("object '{id}' is in use, can not be deleted");
            return Err(QmpError::generic(text));
        }
        self.list.remove(index);
        self.vault.remove(id);
        Ok(())
    }

    /// Whether there is an object of that id, or will be.
    pub fn has(&self, id: &str) -> bool {
        self.find(id).is_some() || self.reserved.iter().any(|other| other == id)
    }

    fn find(&self, id: &str) -> Option<&Object> {
        self.list.iter().find(|object| object.id == id)
    }

    /// The memory backend `id`, for the machine's RAM.
    pub fn take_memory(&mut self, id: &str) -> Option<Arc<Backend>> {
        let object = self.list.iter_mut().find(|object| object.id == id)?;
        match &object.body {
            Body::Memory(backend) => {
                object.pinned = true;
                Some(backend.clone())
            }
            _ => None,
        }
    }

    /// qom-set on an object: false where that property cannot be set.
    ///
    /// # Errors
    /// In QEMU's words, for values that make no sense.
    pub fn set(&mut self, id: &str, property: &str, value: &Value) -> QmpResult<bool> {
        let object = self.list.iter_mut().find(|object| object.id == id);
        if let Some(Body::List(list)) = object.map(|object| &mut object.body) {
            let done = list.set(property, value)?;
            self.vault.lists.set(id, list.list.clone());
            return Ok(done);
        }
        let group = match self.find(id).map(|object| &object.body) {
            Some(Body::Throttle(group)) => group,
            Some(Body::IoThread(thread)) => return set_polling(thread, property, value),
            Some(Body::Memory(_) | Body::Entropy { .. } | Body::Credentials(_) | Body::List(_))
            | None => return Ok(false),
        };
        if property.starts_with("x-") {
            let text = "Property cannot be set after initialization";
            return Err(QmpError::generic(text));
        }
        if property != "limits" {
            return Ok(false);
        }
        let said: ThrottleLimits = api_spec::decode_value(value.clone(), Mode::Strict)?;
        let limits = limits::changed(group.limits(), &said)?;
        limits
            .check()
            .map_err(|error| QmpError::generic(error.to_string()))?;
        group.set_limits(limits);
        Ok(true)
    }

    /// The I/O thread `id`, for the property `property` of a device.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn io_thread(&self, property: &str, id: &str) -> QmpResult<Arc<IoThread>> {
        match self.find(id).map(|object| &object.body) {
            Some(Body::IoThread(thread)) => Ok(thread.clone()),
            other => Err(link_error(property, id, "iothread", other.is_some())),
        }
    }

    /// The entropy source `id`, for the property `property` of a device.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn entropy(&self, property: &str, id: &str) -> QmpResult<Arc<dyn Entropy>> {
        match self.find(id).map(|object| &object.body) {
            Some(Body::Entropy { source, .. }) => Ok(source.clone()),
            other => Err(link_error(property, id, "rng-backend", other.is_some())),
        }
    }

    /// query-iothreads.
    pub fn io_threads(&self) -> Vec<IOThreadInfo> {
        let info = |object: &Object| match &object.body {
            Body::IoThread(thread) => {
                let poll = thread.poll_parameters();
                Some(IOThreadInfo {
                    id: object.id.clone(),
                    thread_id: i64::from(thread.thread_id()),
                    poll_max_ns: poll.max_ns,
                    poll_grow: poll.grow,
                    poll_shrink: poll.shrink,
                    aio_max_batch: poll.aio_max_batch,
                })
            }
            _ => None,
        };
        self.list.iter().filter_map(info).collect()
    }

    /// query-memdev: the newest first.
    pub fn memory_backends(&self) -> Vec<Memdev> {
        let info = |object: &Object| match &object.body {
            Body::Memory(backend) => Some(memdev(backend.options())),
            _ => None,
        };
        self.list.iter().rev().filter_map(info).collect()
    }

    /// The objects for the object tree, by id.
    pub fn qom(&self) -> Node {
        let mut container = Node::container();
        for object in &self.list {
            container = container.child(object.id.clone(), object.qom());
        }
        container
    }
}

/// Whether making the object takes long: memory that is to be there at once.
pub fn is_slow(options: &ObjectOptions) -> bool {
    BackendOptions::from_object(options).is_some_and(|backend| backend.prealloc)
}

/// Makes what the options ask for; touches no other object.
///
/// # Errors
/// When the options contradict each other, or the host refuses.
pub fn make(
    options: &ObjectOptions,
    mail: &MailSender,
    opener: &Opener,
    graph: &Graph,
) -> QmpResult<Body> {
    match &options.qom_type {
        Branch::MemoryBackendRam(_)
        | Branch::MemoryBackendFile(_)
        | Branch::MemoryBackendMemfd(_) => {
            let wanted = BackendOptions::from_object(options)
                .ok_or_else(|| QmpError::generic("No memory backend"))?;
            let made = Backend::new(wanted);
            let made = made.map_err(|error| QmpError::generic(error.to_string()))?;
            Ok(Body::Memory(Arc::new(made)))
        }
        Branch::Iothread(p) => {
            let default = PollParameters::default();
            let poll = PollParameters {
                asked: p.poll_max_ns.is_some(),
                max_ns: bounded("poll-max-ns", p.poll_max_ns, default.max_ns)?,
                grow: bounded("poll-grow", p.poll_grow, default.grow)?,
                shrink: bounded("poll-shrink", p.poll_shrink, default.shrink)?,
                aio_max_batch: bounded("aio-max-batch", p.aio_max_batch, 0)?,
                pool: checked_pool((
                    bounded("thread-pool-min", p.thread_pool_min, default.pool.0)?,
                    bounded("thread-pool-max", p.thread_pool_max, default.pool.1)?,
                ))?,
            };
            let thread = IoThread::start(&options.id, poll, Some(mail.clone()));
            let thread = thread.map_err(|error| {
                QmpError::generic(format!("Cannot start a thread: {}", errno(&error)))
            })?;
            Ok(Body::IoThread(Arc::new(thread)))
        }
        Branch::ThrottleGroup(p) => {
            let limits = limits::of_group(p)?;
            let made = graph.make_throttle_group(&options.id, limits);
            let made = made.map_err(|error| QmpError::generic(error.to_string()))?;
            Ok(Body::Throttle(made))
        }
        Branch::TlsCredsX509(p) => secure::credentials(p, opener).map(Body::Credentials),
        Branch::AuthzSimple(p) => Ok(Body::List(Box::new(secure::simple(&p.identity)))),
        Branch::AuthzList(p) => Ok(Body::List(Box::new(secure::list(p)))),
        Branch::AuthzListFile(p) => {
            let list = secure::list_file(p, opener)?;
            Ok(Body::List(Box::new(list)))
        }
        Branch::RngBuiltin(p) => {
            check_opened(p.opened)?;
            Ok(Body::Entropy {
                source: Arc::new(BuiltinEntropy),
                filename: None,
            })
        }
        Branch::RngRandom(p) => {
            check_opened(p.opened)?;
            let filename = p.filename.as_deref().unwrap_or(RANDOM_DEVICE);
            let file = opener
                .open(filename, libc::O_RDONLY | libc::O_NONBLOCK, 0)
                .map_err(|error| {
                    let why = errno(&error);
                    QmpError::generic(format!("Could not open '{filename}': {why}"))
                })?;
            Ok(Body::Entropy {
                source: Arc::new(FileEntropy::new(file)),
                filename: Some(filename.to_owned()),
            })
        }
    }
}

impl Object {
    fn qom(&self) -> Node {
        let node = Node::new(self.kind.name());
        match &self.body {
            Body::Memory(backend) => memory_properties(node, backend.options()),
            Body::IoThread(thread) => {
                let poll = thread.poll_parameters();
                node.with("poll-max-ns", "int", poll.max_ns)
                    .with("poll-grow", "int", poll.grow)
                    .with("poll-shrink", "int", poll.shrink)
                    .with("aio-max-batch", "int", poll.aio_max_batch)
                    .with("thread-pool-min", "int", poll.pool.0)
                    .with("thread-pool-max", "int", poll.pool.1)
            }
            Body::Throttle(group) => throttle_properties(node, &group.limits()),
            Body::Credentials(credentials) => secure::credentials_properties(node, credentials),
            Body::List(list) => list.properties(node),
            Body::Entropy { filename, .. } => {
                let node = node.with("opened", "bool", true);
                match filename {
                    Some(name) => node.with("filename", "string", name.as_str()),
                    None => node,
                }
            }
        }
    }
}

/// A throttle group's: its limits as a whole and one by one.
fn throttle_properties(node: Node, limits: &Limits) -> Node {
    let named = limits::named(limits);
    let all = named
        .iter()
        .map(|(name, value)| (name.clone(), (*value).into()));
    let all: api_spec::Object = all.collect();
    let node = node.with("limits", "ThrottleLimits", Value::Object(all));
    named.iter().fold(node, |node, (name, value)| {
        node.with(&format!("x-{name}"), "int", *value)
    })
}

/// A memory backend as query-memdev shows it.
pub fn memdev(options: &BackendOptions) -> Memdev {
    Memdev {
        id: Some(options.id.clone()),
        size: api_spec::decode::Size(options.size),
        merge: options.merge,
        dump: options.dump,
        prealloc: options.prealloc,
        share: options.share,
        reserve: Some(options.reserve),
        host_nodes: options.host_nodes.clone(),
        policy: options.policy,
    }
}

/// A memory backend's properties in the object tree.
pub fn memory_properties(node: Node, options: &BackendOptions) -> Node {
    node.with("size", "int", options.size)
        .with("share", "bool", options.share)
        .with("prealloc", "bool", options.prealloc)
        .with("prealloc-threads", "int", options.prealloc_threads)
        .with("merge", "bool", options.merge)
        .with("dump", "bool", options.dump)
        .with("reserve", "bool", options.reserve)
        .with("host-nodes", "int", options.host_nodes.clone())
        .with("policy", "HostMemPolicy", options.policy.name())
}

/// Ids begin with a letter.
///
/// # Errors
/// QEMU's words for one that does not.
pub fn check_id(id: &str) -> QmpResult<()> {
    match is_identifier(id) {
        true => Ok(()),
        false => Err(QmpError::wrong_value("id", "an identifier")),
    }
}

/// Whether it may be an id: a letter, then letters, digits, '-', '.' and '_'.
pub fn is_identifier(id: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    id.starts_with(|first: char| first.is_ascii_alphabetic()) && id.bytes().all(rest)
}

fn check_opened(opened: Option<bool>) -> QmpResult<()> {
    match opened {
        // A member that QEMU keeps for old callers: objects are complete once they are made.
        None | Some(true) => Ok(()),
        Some(false) => Err(QmpError::generic("Property 'opened' cannot be false")),
    }
}

fn bounded(name: &str, value: Option<i64>, default: i64) -> QmpResult<i64> {
    match value {
        None => Ok(default),
        Some(value) if value >= 0 => Ok(value),
        Some(_) => {
            let text = format!("{name} value must be in range [0, {}]", i64::MAX);
            Err(QmpError::generic(text))
        }
    }
}

/// qom-set on an I/O thread.
fn set_polling(thread: &IoThread, property: &str, value: &Value) -> QmpResult<bool> {
    let mut poll = thread.poll_parameters();
    let place = match property {
        "poll-max-ns" => &mut poll.max_ns,
        "poll-grow" => &mut poll.grow,
        "poll-shrink" => &mut poll.shrink,
        "aio-max-batch" => &mut poll.aio_max_batch,
        "thread-pool-min" => &mut poll.pool.0,
        "thread-pool-max" => &mut poll.pool.1,
        _ => return Ok(false),
    };
    let number: i64 = api_spec::decode_value(value.clone(), Mode::Strict)
        .map_err(|_| QmpError::wrong_type(property, "integer"))?;
    *place = bounded(property, Some(number), 0)?;
    poll.asked |= property == "poll-max-ns";
    checked_pool(poll.pool)?;
    thread.set_poll_parameters(poll);
    Ok(true)
}

/// Fewest and most threads that go together.
fn checked_pool((least, most): (i64, i64)) -> QmpResult<(i64, i64)> {
    match least <= most && most > 0 {
        true => Ok((least, most)),
        false => Err(QmpError::generic(
            "bad thread-pool-min/thread-pool-max values",
        )),
    }
}

fn link_error(property: &str, id: &str, wanted: &str, exists: bool) -> QmpError {
    match exists {
        true => QmpError::generic(format!(
            "Invalid parameter type for '{property}', expected: {wanted}"
        )),
        false => QmpError::device_not_found(id),
    }
}

#[cfg(test)]
#[path = "objects_test.rs"]
mod tests;
