//! What the generator offers as a TLS client.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls::{
    ClientConfig, RootCertStore, SignatureScheme,
    client::{ResolvesClientCert, Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use super::{
    LoadError,
    options::{Group, Mode, RunArgs, TlsVersion},
    tickets::SlotTickets,
};

/// Everything that slots need to be TLS clients; shared by all threads.
#[derive(Debug)]
pub(super) struct TlsPlan {
    name: ServerName<'static>,
    identities: Vec<Arc<CertifiedKey>>,
    base: ClientConfig,
    sessions: Sessions,
}

#[derive(Debug)]
enum Sessions {
    /// Every handshake is a full one, so all slots share one configuration.
    Never(Arc<ClientConfig>),
    /// Each slot resumes its own.
    EachSlot,
}

/// What one slot connects with.
#[derive(Debug, Clone)]
pub(super) struct SlotTls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl TlsPlan {
    /// Reads the files; `host` is the name to verify where `--sni` doesn't say.
    pub(super) fn new(args: &RunArgs, ca: &Path, host: &str) -> Result<Self, LoadError> {
        let asked = args.sni.as_deref().unwrap_or(host);
        let name = ServerName::try_from(asked.to_owned()).map_err(|_| {
            LoadError::Usage(format!("`{asked}` isn't a name that a certificate can carry"))
        })?;
        let provider = Arc::new(provider(args)?);
        let identities = identities(args, &provider)?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots(ca)?.into(), Arc::clone(&provider))
                .build()
                .map_err(|error| LoadError::Usage(format!("{}: {error}", ca.display())))?;
        let versions = match args.tls {
            None => &[&TLS13, &TLS12][..],
            Some(TlsVersion::Tls13) => &[&TLS13],
            Some(TlsVersion::Tls12) => &[&TLS12],
        };
        let rotation = Rotation { identities: identities.clone(), next: AtomicUsize::new(0) };
        let mut base = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| {
                LoadError::Usage(format!("--tls, --group and --cipher don't go together: {error}"))
            })?
            .with_webpki_verifier(verifier)
            .with_client_cert_resolver(Arc::new(rotation));
        base.resumption = Resumption::disabled();
        let sessions = match args.mode {
            Mode::Resumed => Sessions::EachSlot,
            _ => Sessions::Never(Arc::new(base.clone())),
        };
        Ok(Self { name, identities, base, sessions })
    }

    /// The configuration of slot `index`, counted over all threads.
    ///
    /// A ticket speaks for the identity that it was issued to, so a slot that resumes keeps one
    /// certificate; else every handshake takes the next.
    pub(super) fn slot(&self, index: usize) -> SlotTls {
        let config = match &self.sessions {
            Sessions::Never(config) => Arc::clone(config),
            Sessions::EachSlot => {
                let mut config = self.base.clone();
                config.resumption = Resumption::store(Arc::new(SlotTickets::default()));
                let own = self.identities.iter().cycle().nth(index % self.identities.len().max(1));
                config.client_auth_cert_resolver = Arc::new(Rotation {
                    identities: own.into_iter().cloned().collect(),
                    next: AtomicUsize::new(0),
                });
                Arc::new(config)
            }
        };
        SlotTls { config, name: self.name.clone() }
    }
}

/// Hands out the client certificates in turn.
#[derive(Debug)]
struct Rotation {
    identities: Vec<Arc<CertifiedKey>>,
    next: AtomicUsize,
}

impl ResolvesClientCert for Rotation {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.identities.get(turn % self.identities.len().max(1)).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.identities.is_empty()
    }
}

fn provider(args: &RunArgs) -> Result<CryptoProvider, LoadError> {
    let mut provider = aws_lc_rs::default_provider();
    if let Some(group) = args.group {
        provider.kx_groups = vec![match group {
            Group::X25519 => aws_lc_rs::kx_group::X25519,
            Group::X25519MlKem768 => aws_lc_rs::kx_group::X25519MLKEM768,
            Group::Secp256r1 => aws_lc_rs::kx_group::SECP256R1,
            Group::Secp384r1 => aws_lc_rs::kx_group::SECP384R1,
        }];
    }
    if let Some(cipher) = &args.cipher {
        let names: Vec<_> =
            provider.cipher_suites.iter().map(|suite| iana_name(suite.suite())).collect();
        provider.cipher_suites.retain(|suite| iana_name(suite.suite()) == *cipher);
        if provider.cipher_suites.is_empty() {
            return Err(LoadError::Usage(format!(
                "`{cipher}` isn't a cipher suite that can be offered: use one of {}",
                names.join(", ")
            )));
        }
    }
    Ok(provider)
}

/// The IANA name of a suite; rustls spells those of TLS 1.3 with a version in them.
pub(super) fn iana_name(suite: rustls::CipherSuite) -> String {
    format!("{suite:?}").replacen("TLS13_", "TLS_", 1)
}

fn roots(ca: &Path) -> Result<RootCertStore, LoadError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots
            .add(certificate)
            .map_err(|error| LoadError::Usage(format!("{}: {error}", ca.display())))?;
    }
    Ok(roots)
}

fn identities(
    args: &RunArgs,
    provider: &CryptoProvider,
) -> Result<Vec<Arc<CertifiedKey>>, LoadError> {
    if args.cert.len() != args.key.len() {
        return Err(LoadError::Usage(format!(
            "{} --cert but {} --key: give one key for each certificate",
            args.cert.len(),
            args.key.len()
        )));
    }
    args.cert
        .iter()
        .zip(&args.key)
        .map(|(chain_file, key_file)| {
            let chain = certificates(chain_file)?;
            let key =
                PrivateKeyDer::from_pem_file(key_file).map_err(|e| unreadable(key_file, &e))?;
            CertifiedKey::from_der(chain, key, provider).map(Arc::new).map_err(|error| {
                LoadError::Usage(format!(
                    "{} and {}: {error}",
                    chain_file.display(),
                    key_file.display()
                ))
            })
        })
        .collect()
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(file, &error))?;
    if certificates.is_empty() {
        return Err(LoadError::Usage(format!("{}: no certificate in it", file.display())));
    }
    Ok(certificates)
}

fn unreadable(file: &Path, error: &rustls_pki_types::pem::Error) -> LoadError {
    LoadError::File { file: PathBuf::from(file), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use rustls::CipherSuite;

    use super::*;

    #[test]
    fn suites_go_by_their_iana_names() {
        assert_eq!(iana_name(CipherSuite::TLS13_AES_128_GCM_SHA256), "TLS_AES_128_GCM_SHA256");
        assert_eq!(
            iana_name(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
        );
    }
}
