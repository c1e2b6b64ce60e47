//! The back end `stream`: frames through a connection, each with its length before it.

use api_spec::{NetdevStreamOptions, QmpError, QmpResult, SocketAddressBranch};
use devices::backend::net::Way;
use devices::backend::socket::{Dialer, Listener, Place};

use super::service::{LinkStyle, open_stream};
use super::{NetOpenCx, Opened};
use crate::control::addresses::{inet, retry_after, unix};

/// Makes it. A client connects later, and shows what becomes of it; a server listens when this
/// returns. Blocks for names of hosts.
///
/// # Errors
/// When the options contradict each other, or a server cannot listen there.
pub fn open(id: &str, options: &NetdevStreamOptions, cx: &NetOpenCx) -> QmpResult<Opened> {
    let NetdevStreamOptions {
        addr,
        server,
        reconnect,
        reconnect_ms,
    } = options;
    let server = server.unwrap_or(false);
    if server && (reconnect.is_some() || reconnect_ms.is_some()) {
        return Err(QmpError::generic(
            "'reconnect' and 'reconnect-ms' options are incompatible with socket in server mode",
        ));
    }
    let again = retry_after(*reconnect, *reconnect_ms)?;
    let way = match (&addr.r#type, server) {
        (SocketAddressBranch::Unix(address), true) => Way::Listen(Listener::unix(&unix(address))?),
        (SocketAddressBranch::Inet(address), true) => {
            Way::Listen(Listener::inet(&inet(address), true)?)
        }
        (SocketAddressBranch::Fd(address), true) => Way::Listen(Listener::passed(
            cx.take_fd(&address.str)?,
            &address.str,
            true,
        )?),
        (SocketAddressBranch::Unix(address), false) => {
            Way::Dial(Dialer::unix_later(unix(address), again)?)
        }
        (SocketAddressBranch::Inet(address), false) => {
            Way::Dial(Dialer::inet_later(&inet(address), again)?)
        }
        (SocketAddressBranch::Fd(address), false) => Way::Dial(Dialer::passed(
            cx.take_fd(&address.str)?,
            &address.str,
            true,
        )?),
    };
    let style = LinkStyle {
        kind: "stream",
        idle: if server { "listening" } else { "connecting" },
        connected: Place::describe,
        events: true,
    };
    open_stream(id, way, style, cx)
}
