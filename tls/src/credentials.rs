//! `tls-creds-x509`: certificates and keys from the files of one directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};

use crate::Refusal;
use crate::certificate::{ANY_PURPOSE, CLIENT_PURPOSE, Certificate, SERVER_PURPOSE};
use crate::revocation::{Revocations, bad_revocations};

/// Which end of connections credentials are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The end that is connected to.
    Server,
    /// The end that connects.
    Client,
}

impl Role {
    /// As options have it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Client => "client",
        }
    }
}

/// What credentials are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialsOptions {
    /// Where the files are: ca-cert.pem, ca-crl.pem, and server-cert.pem and server-key.pem, or
    /// client-cert.pem and client-key.pem.
    pub dir: PathBuf,
    /// Which end.
    pub role: Role,
    /// The peer must show a certificate of the same authority; a server's must have the name that
    /// was connected to.
    pub verify_peer: bool,
    /// Look at the certificates before use.
    pub sanity_check: bool,
    /// Which versions are spoken.
    pub priority: Option<String>,
}

/// Certificates and keys, ready for use.
#[derive(Debug)]
pub struct Credentials {
    options: CredentialsOptions,
    config: Config,
    revocations: Revocations,
}

#[derive(Debug, Clone)]
pub(crate) enum Config {
    Server(Arc<ServerConfig>),
    Client(Arc<ClientConfig>),
}

/// A certificate's file: its path for messages, and the chain in it.
struct Chain {
    path: PathBuf,
    list: Vec<CertificateDer<'static>>,
}

impl Credentials {
    /// Reads the files, with `read`, and checks what is in them.
    ///
    /// # Errors
    /// In QEMU's words, when a file is missing, malformed or does not fit.
    pub fn load(
        options: CredentialsOptions,
        read: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
    ) -> Result<Self, Refusal> {
        let files = Files {
            options: &options,
            read,
        };
        let versions = versions(options.priority.as_deref())?;
        let authority = files.authority()?;
        let own = files.own()?;
        let revocations = files.revocations()?;
        if options.sanity_check {
            check_all(&options, &authority, own.as_ref())?;
        }
        let mut roots = RootCertStore::empty();
        for certificate in &authority.list {
            // What the checks let pass and cannot be used at all is left out, as unknown.
            if let Err(error) = roots.add(certificate.clone()) {
                let path = authority.path.display();
                log::warn!("A CA certificate in {path} is not used: {error}");
            }
        }
        if roots.is_empty() {
            return Err(no_authorities(&authority.path));
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(ring::default_provider());
        let trust = Trust {
            roots,
            revocations: &revocations,
            provider,
        };
        if options.sanity_check
            && let Some((chain, _)) = &own
        {
            trust.check_own(options.role, chain, &authority.path)?;
        }
        let config = match options.role {
            Role::Server => Config::Server(server(&options, trust, own, &versions)?),
            Role::Client => Config::Client(client(&options, trust, own, &versions)?),
        };
        let credentials = Credentials {
            options,
            config,
            revocations,
        };
        credentials.tell_news();
        Ok(credentials)
    }

    /// What they were made from.
    pub fn options(&self) -> &CredentialsOptions {
        &self.options
    }

    pub(crate) fn config(&self) -> Config {
        self.config.clone()
    }

    /// Tells the log what has come to be wrong with the files since they were read, where peers
    /// are checked by it.
    pub(crate) fn tell_news(&self) {
        if self.options.verify_peer
            && let Some(news) = self.revocations.news(SystemTime::now())
        {
            log::warn!("{news}");
        }
    }
}

struct Files<'a> {
    options: &'a CredentialsOptions,
    read: &'a dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
}

impl Files<'_> {
    /// The contents of a file; `None` where it is not there.
    fn optional(&self, name: &str) -> Result<(PathBuf, Option<Vec<u8>>), Refusal> {
        let path = self.options.dir.join(name);
        match (self.read)(&path) {
            Ok(bytes) => Ok((path, Some(bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((path, None)),
            Err(error) => Err(no_access(&path, &error)),
        }
    }

    fn required(&self, name: &str) -> Result<(PathBuf, Vec<u8>), Refusal> {
        match self.optional(name)? {
            (path, Some(bytes)) => Ok((path, bytes)),
            (path, None) => {
                let error = std::io::Error::from_raw_os_error(2);
                Err(no_access(&path, &error))
            }
        }
    }

    fn authority(&self) -> Result<Chain, Refusal> {
        let (path, bytes) = self.required("ca-cert.pem")?;
        match certificates(&bytes) {
            Some(list) => Ok(Chain { path, list }),
            None => Err(no_authorities(&path)),
        }
    }

    fn revocations(&self) -> Result<Revocations, Refusal> {
        match self.optional("ca-crl.pem")? {
            (path, Some(bytes)) => Revocations::read(path, &bytes),
            (_, None) => Ok(Revocations::default()),
        }
    }

    /// Our own certificate and its key; a client may have none.
    fn own(&self) -> Result<Option<(Chain, PrivateKeyDer<'static>)>, Refusal> {
        let role = self.options.role.name();
        let (cert_name, key_name) = (format!("{role}-cert.pem"), format!("{role}-key.pem"));
        let (cert, key) = match self.options.role {
            Role::Server => (self.required(&cert_name)?, self.required(&key_name)?),
            Role::Client => match (self.optional(&cert_name)?, self.optional(&key_name)?) {
                ((cert_path, Some(cert)), (key_path, Some(key))) => {
                    ((cert_path, cert), (key_path, key))
                }
                _ => return Ok(None),
            },
        };
        let (path, bytes) = cert;
        let list = certificates(&bytes).ok_or_else(|| {
            let path = path.display();
            Refusal(format!(
                "Unable to import {role} certificate {path}: Base64 unexpected header error."
            ))
        })?;
        let (key_path, key) = key;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| {
            let encrypted = contains(&key, b"ENCRYPTED");
            let why = match encrypted {
                true => "Decryption has failed.",
                false => "The requested data were not available.",
            };
            bad_pair(&path, &key_path, why)
        })?;
        Ok(Some((Chain { path, list }, key)))
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// All certificates of a file; `None` when there is none, or one of them is malformed.
fn certificates(bytes: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let list = list.ok()?;
    let sound = list.iter().all(|one| Certificate::read(one).is_some());
    (sound && !list.is_empty()).then_some(list)
}

fn no_access(path: &Path, error: &std::io::Error) -> Refusal {
    let text = error.to_string();
    let why = text.split(" (os error").next().unwrap_or_default();
    let path = path.display();
    Refusal(format!("Unable to access credentials {path}: {why}"))
}

fn no_authorities(path: &Path) -> Refusal {
    let path = path.display();
    Refusal(format!("Unable to import CA certificate list {path}"))
}

fn bad_pair(cert: &Path, key: &Path, why: &str) -> Refusal {
    let (cert, key) = (cert.display(), key.display());
    Refusal(format!(
        "Cannot load certificate '{cert}' & key '{key}': {why}"
    ))
}

/// The checks that find what would only show when somebody connects.
fn check_all(
    options: &CredentialsOptions,
    authority: &Chain,
    own: Option<&(Chain, PrivateKeyDer<'static>)>,
) -> Result<(), Refusal> {
    if let Some((chain, _)) = own
        && let Some(first) = chain.list.first()
    {
        check(first, &chain.path, Some(options.role))?;
    }
    for certificate in &authority.list {
        check(certificate, &authority.path, None)?;
    }
    Ok(())
}

/// Whether a certificate can be what it is to be; an authority's without a role.
fn check(der: &[u8], path: &Path, role: Option<Role>) -> Result<(), Refusal> {
    let file = path.display();
    let refuse = |text: String| Err(Refusal(text));
    let Some(certificate) = Certificate::read(der) else {
        return refuse(format!("The certificate {file} is malformed"));
    };
    let kind = role.map_or("CA", Role::name);
    let now = SystemTime::now();
    if certificate.not_after < now {
        return refuse(format!("The {kind} certificate {file} has expired"));
    }
    if certificate.not_before > now {
        return refuse(format!("The {kind} certificate {file} is not yet active"));
    }
    match (role, certificate.authority) {
        (None, Some(false)) => {
            return refuse(format!(
                "The certificate {file} basic constraints do not show a CA"
            ));
        }
        (None, None) => {
            return refuse(format!(
                "The certificate {file} is missing basic constraints for a CA"
            ));
        }
        (Some(_), Some(true)) => {
            return refuse(format!(
                "The certificate {file} basic constraints show a CA, but we need one for a {kind}"
            ));
        }
        (None, Some(true)) | (Some(_), Some(false) | None) => {}
    }
    if let Some(usage) = certificate.usage {
        let (has, what) = match role {
            None => (usage.value.cert_sign, "certificate signing"),
            Some(_) => (usage.value.digital_signature, "digital signature"),
        };
        let text = format!("Certificate {file} usage does not permit {what}");
        match (has, usage.critical) {
            (true, _) => {}
            (false, true) => return refuse(text),
            (false, false) => log::warn!("{text}"),
        }
    }
    if let (Some(role), Some(purposes)) = (role, certificate.purposes) {
        let wanted = match role {
            Role::Server => SERVER_PURPOSE,
            Role::Client => CLIENT_PURPOSE,
        };
        let has = purposes
            .value
            .iter()
            .any(|p| p == wanted || p == ANY_PURPOSE);
        let text = format!("Certificate {file} purpose does not allow use with a TLS {kind}");
        match (has, purposes.critical) {
            (true, _) => {}
            (false, true) => return refuse(text),
            (false, false) => log::warn!("{text}"),
        }
    }
    Ok(())
}

/// Whom we trust, and by which means that is found out.
struct Trust<'a> {
    roots: Arc<RootCertStore>,
    revocations: &'a Revocations,
    provider: Arc<CryptoProvider>,
}

impl Trust<'_> {
    fn of_servers(&self) -> Result<Arc<WebPkiServerVerifier>, String> {
        WebPkiServerVerifier::builder_with_provider(self.roots.clone(), self.provider.clone())
            .with_crls(self.revocations.lists())
            .allow_unknown_revocation_status()
            .build()
            .map_err(|error| error.to_string())
    }

    fn of_clients(&self) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
        WebPkiClientVerifier::builder_with_provider(self.roots.clone(), self.provider.clone())
            .with_crls(self.revocations.lists())
            .allow_unknown_revocation_status()
            .build()
            .map_err(|error| error.to_string())
    }

    /// Whether our own certificate is one that peers will take.
    fn check_own(&self, role: Role, chain: &Chain, authority: &Path) -> Result<(), Refusal> {
        let Some((first, rest)) = chain.list.split_first() else {
            return Ok(());
        };
        let now = UnixTime::now();
        let result = match role {
            Role::Server => {
                let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
                let verifier = self.of_servers().map_err(Refusal)?;
                let verified = verifier.verify_server_cert(first, rest, &name, &[], now);
                verified.map(drop)
            }
            Role::Client => {
                let verifier = self.of_clients().map_err(Refusal)?;
                verifier.verify_client_cert(first, rest, now).map(drop)
            }
        };
        let why = match result {
            Ok(()) => return Ok(()),
            // The name is the last that is looked at, and we asked for none of its.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => return Ok(()),
            // Purposes are told above, and only what is critical is refused there.
            Err(Error::InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            )) => return Ok(()),
            Err(error) => why_not(&error),
        };
        let (own, authority) = (chain.path.display(), authority.display());
        Err(Refusal(format!(
            "Our own certificate {own} failed validation against {authority}: {why}"
        )))
    }
}

/// What is wrong with a certificate, in GnuTLS' words where it has some.
pub(crate) fn why_not(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "The certificate hasn't got a known issuer".into()
        }
        Error::InvalidCertificate(CertificateError::Revoked) => {
            "The certificate has been revoked".into()
        }
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "The certificate has expired".into(),
        Error::NoCertificatesPresented => "No certificate was found.".into(),
        other => other.to_string(),
    }
}

/// The versions that a priority string leaves. The rest of what GnuTLS knows there is refused
/// instead of being forgotten: it may be what somebody's safety rests on.
fn versions(priority: Option<&str>) -> Result<Vec<&'static SupportedProtocolVersion>, Refusal> {
    let text = priority.unwrap_or_default();
    let (mut old, mut new) = (true, true);
    for (index, word) in text
        .split(':')
        .enumerate()
        .filter(|(_, word)| !word.is_empty())
    {
        match (index, word) {
            (0, "NORMAL" | "SECURE128" | "SECURE192" | "SECURE256" | "PFS") => {}
            (0, system) if system.starts_with('@') => {}
            (_, "-VERS-ALL" | "-VERS-TLS-ALL") if index > 0 => (old, new) = (false, false),
            (_, "-VERS-TLS1.2") if index > 0 => old = false,
            (_, "-VERS-TLS1.3") if index > 0 => new = false,
            (_, "+VERS-TLS1.2") if index > 0 => old = true,
            (_, "+VERS-TLS1.3") if index > 0 => new = true,
            // Never spoken.
            (_, "-VERS-SSL3.0" | "-VERS-TLS1.0" | "-VERS-TLS1.1") if index > 0 => {}
            _ => return Err(bad_priority(text, &format!("'{word}' is not known"))),
        }
    }
    let mut versions = Vec::new();
    if new {
        versions.push(&rustls::version::TLS13);
    }
    if old {
        versions.push(&rustls::version::TLS12);
    }
    match versions.is_empty() {
        true => Err(bad_priority(text, "no version is left")),
        false => Ok(versions),
    }
}

fn bad_priority(text: &str, why: &str) -> Refusal {
    Refusal(format!(
        "Unable to set TLS session priority {text}: {why} (NORMAL and versions, as in \
         NORMAL:-VERS-TLS1.2, are)"
    ))
}

fn server(
    options: &CredentialsOptions,
    trust: Trust<'_>,
    own: Option<(Chain, PrivateKeyDer<'static>)>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Arc<ServerConfig>, Refusal> {
    let Some((chain, key)) = own else {
        return Err(Refusal("A server needs a certificate".into()));
    };
    let builder = ServerConfig::builder_with_provider(trust.provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| Refusal(error.to_string()))?;
    let builder = match options.verify_peer {
        true => builder.with_client_cert_verifier(
            trust
                .of_clients()
                .map_err(|why| bad_revocations(&options.dir.join("ca-crl.pem"), &why))?,
        ),
        false => builder.with_no_client_auth(),
    };
    let pair = pair_error(options, &chain);
    let mut config = builder.with_single_cert(chain.list, key).map_err(pair)?;
    // Every peer shows its certificate, each time: lists and revocations may have changed.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn client(
    options: &CredentialsOptions,
    trust: Trust<'_>,
    own: Option<(Chain, PrivateKeyDer<'static>)>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Arc<ClientConfig>, Refusal> {
    let builder = ClientConfig::builder_with_provider(trust.provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| Refusal(error.to_string()))?;
    let builder = match options.verify_peer {
        true => builder.with_webpki_verifier(
            trust
                .of_servers()
                .map_err(|why| bad_revocations(&options.dir.join("ca-crl.pem"), &why))?,
        ),
        false => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(trust.provider.clone()))),
    };
    let mut config = match own {
        Some((chain, key)) => {
            let pair = pair_error(options, &chain);
            builder
                .with_client_auth_cert(chain.list, key)
                .map_err(pair)?
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn pair_error(
    options: &CredentialsOptions,
    chain: &Chain,
) -> impl FnOnce(Error) -> Refusal + use<> {
    let key = options.dir.join(format!("{}-key.pem", options.role.name()));
    let cert = chain.path.clone();
    move |error| match error {
        Error::InconsistentKeys(_) => bad_pair(
            &cert,
            &key,
            "The certificate and the given key do not match.",
        ),
        other => bad_pair(&cert, &key, &other.to_string()),
    }
}

/// `verify-peer=off` of a client: whoever answers is taken for the server. Signatures still have
/// to fit the certificate that is shown.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "credentials_test.rs"]
mod tests;
