//! What a socket needs to speak TLS with the next peer.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};

use crate::credentials::Config;
use crate::{AllowLists, Credentials, Refusal, Role, Session};

/// Credentials, and who may come in with them.
#[derive(Debug, Clone)]
pub struct Gate {
    credentials: Arc<Credentials>,
    /// The id of the list that the peer's name must be on.
    list: Option<(AllowLists, String)>,
    /// The server to reach.
    host: Option<ServerName<'static>>,
}

impl Gate {
    /// For sockets at the end `role`. `host` is whom a client connects to; `list` names those
    /// that may come in.
    ///
    /// # Errors
    /// In QEMU's words, when the credentials are for the other end; when names could not be
    /// looked up in the list because peers show none; when the host cannot be in a certificate.
    pub fn new(
        credentials: Arc<Credentials>,
        role: Role,
        host: Option<&str>,
        list: Option<(AllowLists, String)>,
    ) -> Result<Self, Refusal> {
        let options = credentials.options();
        if options.role != role {
            let wanted = role.name();
            return Err(Refusal(format!(
                "Expected TLS credentials for a {wanted} endpoint"
            )));
        }
        if list.is_some() && !options.verify_peer {
            return Err(Refusal::new(
                "'tls_authz' option requires TLS credentials with verify-peer=on",
            ));
        }
        let host = match (role, host) {
            (Role::Server, _) => None,
            (Role::Client, Some(host)) => {
                let name = ServerName::try_from(host.to_owned());
                let name = name
                    .map_err(|_| Refusal(format!("'{host}' cannot be the name in a certificate")));
                Some(name?)
            }
            (Role::Client, None) if options.verify_peer => {
                return Err(Refusal::new(
                    "No hostname for certificate validation: a client needs a 'host', or TLS \
                     credentials with verify-peer=off",
                ));
            }
            // It is not looked at.
            (Role::Client, None) => Some(ServerName::IpAddress(
                std::net::Ipv4Addr::UNSPECIFIED.into(),
            )),
        };
        Ok(Gate {
            credentials,
            list,
            host,
        })
    }

    /// A session with a peer that has just connected, or was connected to.
    ///
    /// # Errors
    /// When there are no random numbers, say.
    pub fn open(&self) -> Result<Session, Refusal> {
        self.credentials.tell_news();
        let refusal = |error: rustls::Error| Refusal(error.to_string());
        let connection: Connection = match (self.credentials.config(), &self.host) {
            (Config::Server(config), _) => ServerConnection::new(config).map_err(refusal)?.into(),
            (Config::Client(config), Some(host)) => {
                let made = ClientConnection::new(config, host.clone());
                made.map_err(refusal)?.into()
            }
            (Config::Client(_), None) => return Err(Refusal::new("There is no host")),
        };
        Ok(Session::new(connection, self.list.clone()))
    }
}
