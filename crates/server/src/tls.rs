//! TLS: how a server shows clients who it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use remuda_manifest::TlsFiles;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, server};
use tokio_rustls::TlsAcceptor;

/// The protocols that a client may choose from during the handshake, the best one first (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate, and everything else that a server needs to speak TLS.
pub struct Tls {
    files: TlsFiles,
    current: Arc<Current>,
    acceptor: TlsAcceptor,
}

/// The certificate that clients see who connect now.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

/// The error of files with which a server cannot show who it is.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot use {path:?} for TLS: {reason}; `server.tls` names a certificate and its key, as files of the PEM format"
)]
pub struct TlsError {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub reason: String,
}

impl Tls {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be read, or is not what it should be, or if the key is another certificate's.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let current = Arc::new(Current(ArcSwap::from_pointee(read(files)?)));
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError { path: files.certificate.clone(), reason: error.to_string() })?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(&current) as _);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        // Clients that come again resume their sessions with tickets that only this process can read.
        config.ticketer = ring::Ticketer::new()
            .map_err(|error| TlsError { path: files.certificate.clone(), reason: error.to_string() })?;
        config.session_storage = Arc::new(server::NoServerSessionStorage {});
        Ok(Self { files: files.clone(), current, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Reads the files again. Clients that connect from now on see the new certificate; connections go on as they are.
    ///
    /// # Errors
    ///
    /// As for [`Tls::load`]. Clients go on seeing the certificate that they have seen until now.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.0.store(Arc::new(read(&self.files)?));
        Ok(())
    }

    /// What shakes hands with clients.
    pub(crate) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let failed = |path: &Path, reason: String| TlsError { path: path.to_owned(), reason };
    let in_certificate = |reason: String| failed(&files.certificate, reason);
    let in_key = |reason: String| failed(&files.key, reason);
    let chain = CertificateDer::pem_file_iter(&files.certificate).map_err(|error| in_certificate(error.to_string()))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| in_certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(in_certificate("there is no certificate in it".into()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| in_key(error.to_string()))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|error| in_key(format!("{error} (its certificate is {})", files.certificate.display())))
}
