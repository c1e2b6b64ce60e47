//! The text commands: info usernet, hostfwd_add, hostfwd_remove. A worker asks the child, so that
//! one that hangs holds nobody up.

use std::fmt::Write;
use std::sync::Arc;

use api_spec::Reply;
use usernet::wire::Ask;

use super::super::hubport::HubMember;
use super::child::Line;
use super::{UserNet, rules};
use crate::control::Control;
use crate::control::hmp::{self, ForwardLine};

impl Control {
    /// info usernet.
    pub(in crate::control) fn tell_usernets(&self, reply: Reply<String>) {
        let nets = self.nets.all_kept::<UserNet>();
        let lines: Vec<(String, Arc<Line>)> = nets
            .map(|(id, net)| (self.title(id), net.child.line().clone()))
            .collect();
        let work = move || {
            let mut text = String::new();
            for (title, line) in lines {
                let info = line.ask(&Ask::Info);
                let info = info.unwrap_or_else(|error| format!("Error: {error}\n"));
                let _ = write!(text, "{title}:\n{info}");
            }
            text
        };
        self.answer_later(reply, work, |_, text| Ok(hmp::wire(&text)));
    }

    /// What stands above a network's table: the number of its hub, if it is in one.
    fn title(&self, id: &str) -> String {
        let mut members = self.nets.all_kept::<HubMember>();
        let hub = members.find_map(|(_, member)| member.hub_of(id));
        format!("Hub {} ({id})", hub.unwrap_or(-1))
    }

    /// hostfwd_add and hostfwd_remove.
    pub(in crate::control) fn run_forward(&self, line: ForwardLine, reply: Reply<String>) {
        let netdev = match &line {
            ForwardLine::Add { netdev, .. } | ForwardLine::Remove { netdev, .. } => netdev,
        };
        let asked = self
            .usernet_line(netdev.as_deref())
            .and_then(|child| Ok((child, prepare(line)?)));
        let (child, (ask, words)) = match asked {
            Ok(asked) => asked,
            Err(text) => return reply.send(Ok(hmp::wire(&text))),
        };
        let work = move || {
            words(match ask {
                Some(ask) => child.ask(&ask).is_ok(),
                None => false,
            })
        };
        self.answer_later(reply, work, |_, text| Ok(hmp::wire(&text)));
    }

    /// The way to the network `id`, or the first one.
    fn usernet_line(&self, id: Option<&str>) -> Result<Arc<Line>, String> {
        let Some(id) = id else {
            let first = self.nets.all_kept::<UserNet>().next();
            let first = first.map(|(_, net)| net.child.line().clone());
            return first.ok_or_else(|| "user mode network stack not in use\n".to_owned());
        };
        if self.nets.find(id).is_none() {
            return Err(format!("unrecognized netdev id '{id}'\n"));
        }
        let net = self.nets.kept::<UserNet>(id);
        net.map(|net| net.child.line().clone())
            .ok_or_else(|| "invalid device specified\n".to_owned())
    }
}

/// What is said of how it went.
type Words = Box<dyn FnOnce(bool) -> String + Send>;

/// What to ask the child, if it can be done at all.
fn prepare(line: ForwardLine) -> Result<(Option<Ask>, Words), String> {
    match line {
        ForwardLine::Add { rule, .. } => {
            let forward =
                rules::host_forward(&rule).map_err(|error| format!("{}\n", error.desc))?;
            let words = move |done| match done {
                true => String::new(),
                false => format!("{}\n", rules::host_forward_refused(&rule).desc),
            };
            Ok((Some(Ask::AddHostForward(forward)), Box::new(words)))
        }
        ForwardLine::Remove { end: text, .. } => {
            let end = rules::host_end(&text).ok_or_else(|| "invalid format\n".to_owned())?;
            let ask = end.port.map(|host_port| Ask::RemoveHostForward {
                protocol: end.protocol,
                host: end.host,
                host_port,
            });
            let words = move |done| {
                let how = if done { "removed" } else { "not found" };
                format!("host forwarding rule for {text} {how}\n")
            };
            Ok((ask, Box::new(words)))
        }
    }
}
