//! TLS for the sockets of monitors and character devices: credentials from files, allow lists,
//! sessions that never block, and the place where peers wait until their handshake is done.
//!
//! ```text
//! tls-creds-x509 --> Credentials --+
//! authz-* --> AllowLists ----------+--> Gate --open--> Session --admit--> Lobby --> Guest
//! ```
//!
//! Nothing here runs where no credentials were asked for: no configuration is built and no random
//! number is read before that.

mod authz;
mod certificate;
mod credentials;
mod der;
mod gate;
mod lobby;
mod name;
mod revocation;
mod session;

pub use authz::{AllowList, AllowLists, Format, Policy, Rule};
pub use credentials::{Credentials, CredentialsOptions, Role};
pub use gate::Gate;
pub use lobby::{Guest, Limits, Lobby};
pub use session::{Progress, Session};

#[cfg(test)]
mod test_certificates;

/// Why something is refused, in words for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Refusal {
    fn new(text: impl Into<String>) -> Self {
        Refusal(text.into())
    }
}
