//! Text commands about networks.

use api_spec::{CommandContext, QmpError, Reply};

use super::text::said;
use crate::control::Control;
use crate::control::hmp::{self, NetLine};
use crate::control::nets::NetCaller;

impl Control {
    pub(super) fn run_net(&mut self, cx: &CommandContext, line: NetLine, reply: Reply<String>) {
        let text = match line {
            NetLine::Add(options) => {
                return self.add_netdev_for(cx.monitor, NetCaller::Text, *options, reply, shown);
            }
            NetLine::Delete { id } => return self.delete_netdev(&id, reply, shown),
            NetLine::Kinds => Ok(crate::cli::net::kinds()),
            NetLine::SetLink { name, up } => self.move_link(&name, up).map(|()| String::new()),
            NetLine::Announce(parameters) => {
                self.announce(parameters);
                Ok(String::new())
            }
        };
        reply.send(Ok(hmp::wire(&said(text))));
    }
}

fn shown(result: Result<(), QmpError>) -> Result<String, QmpError> {
    Ok(hmp::wire(&said(result.map(|()| String::new()))))
}
