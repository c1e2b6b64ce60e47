//! `-chardev`, and the short spellings in `-serial` and `-qmp`, as arguments of chardev-add.

use serde_json::{Map, Value, json};

use super::opts::{Kind, Opts, Table};

/// What `-serial` and `-qmp` may name.
#[derive(Debug, Clone, PartialEq)]
pub enum ShortForm {
    /// No device at all.
    None,
    /// An existing character device.
    Existing(String),
    /// A new one: its backend as in chardev-add. `mux` when a monitor shares it.
    New {
        /// The `backend` of chardev-add.
        backend: Value,
        /// `mon:` stood in front.
        mux: bool,
    },
}

static TABLE: Table = Table {
    implied: Some("backend"),
    keys: &[
        ("backend", Kind::Text),
        ("id", Kind::Text),
        ("path", Kind::Text),
        ("input-path", Kind::Text),
        ("host", Kind::Text),
        ("port", Kind::Text),
        ("fd", Kind::Text),
        ("to", Kind::Number),
        ("ipv4", Kind::Bool),
        ("ipv6", Kind::Bool),
        ("keep-alive", Kind::Bool),
        ("server", Kind::Bool),
        ("wait", Kind::Bool),
        ("delay", Kind::Bool),
        ("nodelay", Kind::Bool),
        ("telnet", Kind::Bool),
        ("websocket", Kind::Bool),
        ("reconnect", Kind::Number),
        ("reconnect-ms", Kind::Number),
        ("abstract", Kind::Bool),
        ("tight", Kind::Bool),
        ("tls-creds", Kind::Text),
        ("tls-authz", Kind::Text),
        ("mode", Kind::Text),
        ("group", Kind::Text),
        ("insecure", Kind::Bool),
        ("mux", Kind::Bool),
        ("signal", Kind::Bool),
        ("append", Kind::Bool),
        ("size", Kind::Size),
        ("logfile", Kind::Text),
        ("logappend", Kind::Bool),
    ],
};

/// Arguments of chardev-add from the value of `-chardev`.
///
/// # Errors
/// QEMU's wording for what is missing or wrong.
pub fn chardev(text: &str) -> Result<Map<String, Value>, String> {
    let opts = Opts::parse(text, &TABLE)?;
    let Some(id) = opts.text("id") else {
        return Err("chardev: no id specified".into());
    };
    let Some(driver) = opts.text("backend").filter(|name| !name.is_empty()) else {
        return Err(format!("chardev: \"{id}\" missing backend"));
    };
    let mut arguments = Map::new();
    arguments.insert("id".into(), id.into());
    arguments.insert("backend".into(), backend(driver, &opts)?);
    Ok(arguments)
}

/// The `backend` of chardev-change.
///
/// # Errors
/// QEMU's wording for what is missing or wrong.
pub fn without_id(text: &str) -> Result<Value, String> {
    let opts = Opts::parse(text, &TABLE)?;
    if opts.text("id").is_some() {
        return Err("Unexpected 'id' parameter".into());
    }
    let driver = opts.text("backend").filter(|name| !name.is_empty());
    backend(driver.ok_or("chardev: missing backend")?, &opts)
}

/// Reads the value of `-serial` or `-qmp`.
///
/// # Errors
/// QEMU's wording for what is missing or wrong.
pub fn short_form(text: &str) -> Result<ShortForm, String> {
    let (mux, text) = match text.strip_prefix("mon:") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let new = |driver: &str, opts: &Opts| -> Result<ShortForm, String> {
        Ok(ShortForm::New {
            backend: backend(driver, opts)?,
            mux,
        })
    };
    match text {
        "none" => return Ok(ShortForm::None),
        "null" | "stdio" | "pty" => return new(text, &Opts::default()),
        _ => {}
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(format!("'{text}' is not a valid char driver"));
    };
    let (implied, driver) = match scheme {
        "chardev" => return Ok(ShortForm::Existing(rest.to_owned())),
        "unix" => ("path", "socket"),
        "file" => ("path", "file"),
        "tcp" | "telnet" => ("host", "socket"),
        "fd" => ("fd", "socket"),
        _ => return Err(format!("'{text}' is not a valid char driver")),
    };
    let table = Table {
        implied: Some(implied),
        ..TABLE
    };
    if implied == "fd" {
        let mut opts = Opts::parse(rest, &table)?;
        // What a service manager passes listens already, and keeps who comes early.
        opts.fill_in("server", "on");
        if opts.flag("server") == Some(true) {
            opts.fill_in("wait", "off");
        }
        return new(driver, &opts);
    }
    if implied == "path" {
        return new(driver, &Opts::parse(rest, &table)?);
    }
    // tcp:HOST:PORT,options; the host may be an IPv6 address in brackets, or nothing.
    let address = rest.split(',').next().unwrap_or_default();
    let (host, port) = address
        .rsplit_once(':')
        .filter(|(_, port)| !port.is_empty())
        .ok_or_else(|| format!("'{text}' is not a valid char driver"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let options = rest.get(address.len()..).unwrap_or_default();
    let telnet = if scheme == "telnet" { ",telnet=on" } else { "" };
    let host = host.replace(',', ",,");
    new(
        driver,
        &Opts::parse(&format!("{host},port={port}{telnet}{options}"), &table)?,
    )
}

fn backend(driver: &str, opts: &Opts) -> Result<Value, String> {
    let mut data = match driver {
        "null" | "pty" => Map::new(),
        "stdio" => members([("signal", opts.flag("signal").map(Value::from))]),
        "file" => {
            let path = opts
                .text("path")
                .ok_or("chardev: file: no filename given")?;
            members([
                ("out", Some(path.into())),
                ("in", opts.text("input-path").map(Value::from)),
                ("append", opts.flag("append").map(Value::from)),
            ])
        }
        "ringbuf" | "memory" => members([("size", opts.size("size").map(Value::from))]),
        "socket" => socket(opts)?,
        other => return Err(format!("'{other}' is not a valid char driver name")),
    };
    data.extend(members([
        ("logfile", opts.text("logfile").map(Value::from)),
        ("logappend", opts.flag("logappend").map(Value::from)),
    ]));
    Ok(json!({ "type": driver, "data": data }))
}

fn socket(opts: &Opts) -> Result<Map<String, Value>, String> {
    let host = opts
        .text("host")
        .filter(|_| opts.text("port").is_some() || opts.text("path").is_none());
    let address = match (opts.text("path"), opts.text("fd"), host) {
        (Some(path), None, None) => {
            let data = members([
                ("path", Some(path.into())),
                ("abstract", opts.flag("abstract").map(Value::from)),
                ("tight", opts.flag("tight").map(Value::from)),
            ]);
            json!({ "type": "unix", "data": data })
        }
        (None, Some(fd), None) => json!({ "type": "fd", "data": { "str": fd } }),
        (None, None, Some(host)) => {
            let port = opts.text("port").ok_or("chardev: socket: no port given")?;
            let data = members([
                ("host", Some(host.into())),
                ("port", Some(port.into())),
                ("to", opts.number("to").map(Value::from)),
                ("ipv4", opts.flag("ipv4").map(Value::from)),
                ("ipv6", opts.flag("ipv6").map(Value::from)),
                ("keep-alive", opts.flag("keep-alive").map(Value::from)),
            ]);
            json!({ "type": "inet", "data": data })
        }
        (None, None, None) => match opts.text("port") {
            Some(port) => json!({ "type": "inet", "data": { "host": "", "port": port } }),
            None => return Err("chardev: socket: no path, fd or host given".into()),
        },
        _ => return Err("None or one of 'path', 'fd' or 'host' option required.".into()),
    };
    // A client by default, unlike chardev-add; a server waits unless told otherwise.
    let server = opts.flag("server").unwrap_or(false);
    let wait = match opts.flag("wait") {
        None if server => Some(true),
        other => other,
    };
    let nodelay = opts
        .flag("nodelay")
        .or_else(|| opts.flag("delay").map(|delay| !delay));
    Ok(members([
        ("addr", Some(address)),
        ("server", Some(server.into())),
        ("wait", wait.map(Value::from)),
        ("nodelay", nodelay.map(Value::from)),
        ("telnet", opts.flag("telnet").map(Value::from)),
        ("websocket", opts.flag("websocket").map(Value::from)),
        ("reconnect", opts.number("reconnect").map(Value::from)),
        ("reconnect-ms", opts.number("reconnect-ms").map(Value::from)),
        ("tls-creds", opts.text("tls-creds").map(Value::from)),
        ("tls-authz", opts.text("tls-authz").map(Value::from)),
        ("mode", opts.text("mode").map(Value::from)),
        ("group", opts.text("group").map(Value::from)),
        ("insecure", opts.flag("insecure").map(Value::from)),
    ]))
}

fn members<const N: usize>(pairs: [(&str, Option<Value>); N]) -> Map<String, Value> {
    pairs
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chardevs_become_arguments_of_chardev_add() {
        for (text, expected) in [
            (
                "null,id=n",
                json!({"id": "n", "backend": {"type": "null", "data": {}}}),
            ),
            (
                "socket,id=c,path=/s,server=on,wait=off,logfile=/l",
                json!({"id": "c", "backend": {"type": "socket", "data": {
                    "addr": {"type": "unix", "data": {"path": "/s"}},
                    "server": true, "wait": false, "logfile": "/l"}}}),
            ),
            (
                "socket,id=c,host=::1,port=5,reconnect-ms=50",
                json!({"id": "c", "backend": {"type": "socket", "data": {
                    "addr": {"type": "inet", "data": {"host": "::1", "port": "5"}},
                    "server": false, "reconnect-ms": 50}}}),
            ),
            (
                "socket,fd=3,id=c,server",
                json!({"id": "c", "backend": {"type": "socket", "data": {
                    "addr": {"type": "fd", "data": {"str": "3"}}, "server": true, "wait": true}}}),
            ),
            (
                "socket,id=c,host=h,port=5,tls-creds=t,tls-authz=a,insecure=on,mode=0660,group=kvm",
                json!({"id": "c", "backend": {"type": "socket", "data": {
                    "addr": {"type": "inet", "data": {"host": "h", "port": "5"}},
                    "server": false, "tls-creds": "t", "tls-authz": "a", "mode": "0660",
                    "group": "kvm", "insecure": true}}}),
            ),
            (
                "file,id=f,path=/x,append=on",
                json!({"id": "f", "backend": {"type": "file", "data": {"out": "/x", "append": true}}}),
            ),
            (
                "ringbuf,id=r,size=64k",
                json!({"id": "r", "backend": {"type": "ringbuf", "data": {"size": 65536}}}),
            ),
        ] {
            assert_eq!(Value::Object(chardev(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn wrong_chardevs_are_refused() {
        for (text, message) in [
            ("null", "chardev: no id specified"),
            ("id=x", "chardev: \"x\" missing backend"),
            ("foo,id=x", "'foo' is not a valid char driver name"),
            ("null,id=x,bar=1", "Invalid parameter 'bar'"),
            ("file,id=x", "chardev: file: no filename given"),
            ("socket,id=x,host=h", "chardev: socket: no port given"),
            (
                "socket,id=x,path=/p,fd=3",
                "None or one of 'path', 'fd' or 'host' option required.",
            ),
        ] {
            assert_eq!(chardev(text).unwrap_err(), message);
        }
    }

    #[test]
    fn short_forms_are_read() {
        let new = |backend: Value, mux| ShortForm::New { backend, mux };
        let unix = json!({"type": "socket", "data": {
            "addr": {"type": "unix", "data": {"path": "/q"}}, "server": true, "wait": false}});
        let fd = json!({"type": "socket", "data": {
            "addr": {"type": "fd", "data": {"str": "3"}}, "server": true, "wait": false}});
        let client = json!({"type": "socket", "data": {
            "addr": {"type": "fd", "data": {"str": "qmp"}}, "server": false}});
        let tcp = json!({"type": "socket", "data": {
            "addr": {"type": "inet", "data": {"host": "localhost", "port": "4444"}},
            "server": true, "wait": false}});
        let v6 = json!({"type": "socket", "data": {
            "addr": {"type": "inet", "data": {"host": "::1", "port": "1"}}, "server": false}});
        let stdio = json!({"type": "stdio", "data": {}});
        for (text, expected) in [
            ("none", ShortForm::None),
            ("chardev:c0", ShortForm::Existing("c0".into())),
            ("mon:stdio", new(stdio, true)),
            ("unix:/q,server=on,wait=off", new(unix.clone(), false)),
            ("unix:/q,server,nowait", new(unix, false)),
            ("unix:fd=3,server=on,wait=off", new(fd.clone(), false)),
            ("fd:3", new(fd, false)),
            ("fd:qmp,server=off", new(client, false)),
            ("tcp:localhost:4444,server,nowait", new(tcp, false)),
            ("tcp:[::1]:1", new(v6, false)),
        ] {
            assert_eq!(short_form(text).as_ref(), Ok(&expected), "{text}");
        }
        for text in ["", "foo", "foo:bar", "tcp:localhost", "tcp:localhost:"] {
            assert!(short_form(text).is_err(), "{text}");
        }
    }
}
