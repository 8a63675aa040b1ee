//! A throw-away PKI: one P-256 CA, the server's certificate and the client's.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use super::BenchError;

/// The name that the client asks for.
pub(crate) const SERVER_NAME: &str = "server.bench.test";
/// The name that the client proves.
pub(crate) const CLIENT_NAME: &str = "client.bench.test";

/// Where the PEM files are.
#[derive(Debug)]
pub(crate) struct Pki {
    pub(crate) ca: PathBuf,
    pub(crate) server: PathBuf,
    pub(crate) server_key: PathBuf,
    /// Chain and key in one file, as HAProxy wants them.
    pub(crate) server_with_key: PathBuf,
    pub(crate) client: PathBuf,
    pub(crate) client_key: PathBuf,
}

impl Pki {
    /// Writes all files to `folder`.
    pub(crate) fn write(folder: &Path) -> Result<Self, BenchError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "countersign benchmark CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let server = leaf(&ca, SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth)?;
        let client = leaf(&ca, CLIENT_NAME, ExtendedKeyUsagePurpose::ClientAuth)?;

        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            fs::write(&file, text).map_err(BenchError::io(file.display().to_string()))?;
            Ok::<_, BenchError>(file)
        };
        Ok(Self {
            ca: write("ca.pem", &ca.pem())?,
            server: write("server.pem", &server.0)?,
            server_key: write("server.key", &server.1)?,
            server_with_key: write("server-with-key.pem", &(server.0.clone() + &server.1))?,
            client: write("client.pem", &client.0)?,
            client_key: write("client.key", &client.1)?,
        })
    }
}

/// Chain and key in PEM.
fn leaf(
    ca: &CertifiedIssuer<'_, KeyPair>,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(String, String), BenchError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    Ok((params.signed_by(&key, ca)?.pem(), key.serialize_pem()))
}
