//! The back end `tap`.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use api_spec::{NetdevTapOptions, QmpError, QmpResult};
use devices::backend::net::{
    NO_SNDBUF, NetPort, NetTraits, Netdev, NetdevOptions, Tap, TapOpen, VhostBackend,
};
use devices::vhost::{NetOptions, vhost_net};

use super::program::{self, DownScript, Script};
use super::{NetOpenCx, Opened};
use crate::armour::launcher::Launcher;
use crate::process::errno;

/// What sets a tap up unless something else is said.
const UP_SCRIPT: &str = "/etc/qemu-ifup";
/// What is called in the end.
const DOWN_SCRIPT: &str = "/etc/qemu-ifdown";
const VHOST_NET: &str = "/dev/vhost-net";
/// More queues no device has (MAX_TAP_QUEUES).
const QUEUES: u32 = 1024;

/// Makes it. Blocks for scripts and helpers.
///
/// # Errors
/// When options contradict each other, a descriptor is no tap's, the host refuses, or a program
/// fails.
pub fn open(id: &str, options: &NetdevTapOptions, cx: &NetOpenCx) -> QmpResult<Opened> {
    check(options)?;
    let (taps, description, down) = match way(options) {
        Way::Passed(names) => passed(&names, cx)?,
        Way::Helper(helper) => {
            let tap = program::run_helper(&cx.launcher, helper, options.br.as_deref())?;
            (vec![tap], format!("helper={helper}"), None)
        }
        Way::Named => named(options, &cx.launcher)?,
    };
    // From here on the script for the end runs if something fails.
    let taps = Taps { taps, description };
    taps.limit(options)?;
    let vhost = vhost(options, &taps, cx)?;
    Ok(taps.into_opened(id, "tap", vhost, down))
}

/// Where the taps come from.
enum Way<'a> {
    /// Descriptors by number or name.
    Passed(Vec<&'a str>),
    /// From a program.
    Helper(&'a str),
    /// From the kernel.
    Named,
}

fn way(options: &NetdevTapOptions) -> Way<'_> {
    if let Some(fd) = &options.fd {
        Way::Passed(vec![fd])
    } else if let Some(fds) = &options.fds {
        Way::Passed(fds.split(':').collect())
    } else if let Some(helper) = &options.helper {
        Way::Helper(helper)
    } else {
        Way::Named
    }
}

/// What goes together.
fn check(options: &NetdevTapOptions) -> QmpResult<()> {
    let NetdevTapOptions {
        ifname,
        fd,
        fds,
        script,
        downscript,
        br: _,
        helper,
        sndbuf: _,
        vnet_hdr,
        vhost,
        vhostfd,
        vhostfds,
        vhostforce,
        queues,
        poll_us: _,
    } = options;
    let refuse = |text: &str| Err(QmpError::generic(text));
    let own = ifname.is_some() || script.is_some() || downscript.is_some() || vnet_hdr.is_some();
    let own = own || queues.is_some();
    let vhost = vhost.unwrap_or(vhostfd.is_some() || *vhostforce == Some(true));
    if fd.is_some() {
        if own || helper.is_some() || fds.is_some() || vhostfds.is_some() {
            return refuse(
                "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, fds=, and vhostfds= \
                 are invalid with fd=",
            );
        }
    } else if let Some(fds) = fds {
        if own || helper.is_some() || vhostfd.is_some() {
            return refuse(
                "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, and vhostfd= are \
                 invalid with fds=",
            );
        }
        let count = |list: &str| list.split(':').count();
        if vhostfds
            .as_ref()
            .is_some_and(|list| count(list) != count(fds))
        {
            return refuse("The number of fds passed does not match the number of vhostfds passed");
        }
    } else if helper.is_some() {
        if own || vhostfds.is_some() {
            return refuse(
                "ifname=, script=, downscript=, vnet_hdr=, queues=, and vhostfds= are invalid \
                 with helper=",
            );
        }
    } else if vhostfds.is_some() {
        return refuse("vhostfds= is invalid if fds= wasn't specified");
    } else if vhostfd.is_some() && queues.is_some_and(|queues| queues > 1) {
        return refuse("vhostfd= is invalid with several queues: it serves one");
    }
    if !vhost && (vhostfd.is_some() || vhostfds.is_some()) {
        return refuse("vhostfd(s)= is not valid without vhost");
    }
    match queues {
        Some(0) => Err(QmpError::wrong_value("queues", "a number above zero")),
        Some(queues) if *queues > QUEUES => Err(QmpError::wrong_value(
            "queues",
            &format!("a number up to {QUEUES}"),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Queues, what `info network` shows of them, and what is to be called in the end.
type Made = (Vec<Tap>, String, Option<DownScript>);

fn passed(names: &[&str], cx: &NetOpenCx) -> QmpResult<Made> {
    let mut taps: Vec<Tap> = Vec::new();
    for name in names {
        let tap = Tap::passed(cx.take_fd(name)?).map_err(refused)?;
        let differs = |first: &Tap| first.traits().header != tap.traits().header;
        if taps.first().is_some_and(differs) {
            return Err(QmpError::generic(
                "vnet_hdr not consistent across given tap fds",
            ));
        }
        taps.push(tap);
    }
    let number = taps.first().map_or(-1, NetPort::fd);
    Ok((taps, format!("fd={number}"), None))
}

fn named(options: &NetdevTapOptions, launcher: &Launcher) -> QmpResult<Made> {
    let queues = options.queues.unwrap_or(1);
    let mut taps: Vec<Tap> = Vec::new();
    for _ in 0..queues {
        // The kernel chose the first one's name, perhaps.
        let name = match taps.first() {
            Some(first) => first.name().to_owned(),
            None => options.ifname.clone().unwrap_or_else(|| "tap%d".into()),
        };
        let how = TapOpen {
            name: &name,
            header: options.vnet_hdr,
            multi_queue: queues > 1,
        };
        taps.push(Tap::open(how).map_err(refused)?);
    }
    let up = options.script.as_deref().unwrap_or(UP_SCRIPT);
    let down = options.downscript.as_deref().unwrap_or(DOWN_SCRIPT);
    let Some(first) = taps.first() else {
        return Err(QmpError::wrong_value("queues", "a number above zero"));
    };
    let name = first.name().to_owned();
    let description = format!("ifname={name},script={up},downscript={down}");
    if let Some(script) = Script::new(up, &name) {
        script.run(launcher)?;
    }
    let down = match Script::new(down, &name) {
        // While it runs, the device is still there.
        Some(script) => DownScript::new(
            script,
            launcher,
            options.downscript.is_some(),
            first.keeper(),
        )?,
        None => None,
    };
    Ok((taps, description, down))
}

/// The kernel's help, where it is asked for. Where it is not to be had, that is an error only when
/// it was insisted on.
fn vhost(
    options: &NetdevTapOptions,
    taps: &Taps,
    cx: &NetOpenCx,
) -> QmpResult<Option<Arc<dyn VhostBackend>>> {
    let insists = options.vhostforce == Some(true);
    let named = options.vhostfd.is_some() || options.vhostfds.is_some();
    if !options
        .vhost
        .unwrap_or(insists || options.vhostfd.is_some())
    {
        return Ok(None);
    }
    match start_vhost(options, taps, cx) {
        Ok(vhost) => Ok(Some(vhost)),
        Err(error) if insists || named => Err(error),
        Err(error) => {
            log::warn!("{}", error.desc);
            Ok(None)
        }
    }
}

fn start_vhost(
    options: &NetdevTapOptions,
    taps: &Taps,
    cx: &NetOpenCx,
) -> QmpResult<Arc<dyn VhostBackend>> {
    let fds = vhost_fds(options, taps.taps.len(), cx)?;
    if !taps.traits().header {
        return Err(QmpError::generic(
            "vhost-net needs a tap with headers before frames (vnet_hdr)",
        ));
    }
    let queues: Vec<BorrowedFd> = taps.taps.iter().map(AsFd::as_fd).collect();
    let options = NetOptions {
        poll_us: options.poll_us.unwrap_or(0),
        force: options.vhostforce == Some(true),
    };
    vhost_net(&queues, fds, options).map_err(|error| {
        log::warn!("{error}");
        QmpError::generic("vhost-net requested but could not be initialized")
    })
}

fn vhost_fds(options: &NetdevTapOptions, count: usize, cx: &NetOpenCx) -> QmpResult<Vec<OwnedFd>> {
    if let Some(name) = &options.vhostfd {
        return Ok(vec![cx.take_fd(name)?]);
    }
    if let Some(names) = &options.vhostfds {
        return names.split(':').map(|name| cx.take_fd(name)).collect();
    }
    let open = |_| {
        let file = File::options().read(true).write(true).open(VHOST_NET);
        file.map(OwnedFd::from).map_err(|error| {
            let why = errno(&error);
            QmpError::generic(format!("tap: open vhost char device failed: {why}"))
        })
    };
    (0..count).map(open).collect()
}

/// The queues of one device.
pub(super) struct Taps {
    taps: Vec<Tap>,
    /// As in `info network`.
    description: String,
}

impl Taps {
    /// One that a helper opened.
    pub fn one(tap: Tap, description: String) -> Self {
        Taps {
            taps: vec![tap],
            description,
        }
    }

    fn traits(&self) -> NetTraits {
        self.taps.first().map(Tap::traits).unwrap_or_default()
    }

    /// Limits what is on its way. An error only where a limit was asked for.
    fn limit(&self, options: &NetdevTapOptions) -> QmpResult<()> {
        let asked = options
            .sndbuf
            .map(|bytes| bytes.0)
            .filter(|bytes| *bytes != 0);
        let bytes = asked.map_or(NO_SNDBUF, |bytes| i32::try_from(bytes).unwrap_or(NO_SNDBUF));
        for tap in &self.taps {
            let set = tap.set_sndbuf(bytes);
            if options.sndbuf.is_some() {
                set.map_err(refused)?;
            }
        }
        Ok(())
    }

    /// The netdev.
    pub fn into_opened(
        self,
        id: &str,
        kind: &'static str,
        vhost: Option<Arc<dyn VhostBackend>>,
        down: Option<DownScript>,
    ) -> Opened {
        let traits = self.traits();
        let keep = Keep {
            _down: down,
            _vhost: vhost.clone(),
            _taps: self.taps.iter().map(Tap::keeper).collect(),
        };
        let port = |tap| Box::new(tap) as Box<dyn NetPort>;
        let netdev = Netdev::new(NetdevOptions {
            id: id.to_owned(),
            kind,
            description: self.description,
            traits,
            ports: self.taps.into_iter().map(port).collect(),
            vhost,
            link_up: true,
        });
        Opened {
            netdev,
            keep: Box::new(keep),
        }
    }
}

/// What ends on a worker, in this order: the kernel may take its time over each of them.
struct Keep {
    _down: Option<DownScript>,
    _vhost: Option<Arc<dyn VhostBackend>>,
    _taps: Vec<Arc<OwnedFd>>,
}

fn refused(error: impl std::fmt::Display) -> QmpError {
    QmpError::generic(error.to_string())
}

#[cfg(test)]
#[path = "tap_test.rs"]
mod tests;
