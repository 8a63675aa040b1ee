//! A throw-away PKI: a P-256 root, an intermediate CA, the server's certificates and the clients'.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, SerialNumber,
};

use super::BenchError;

/// The name that the client asks for.
pub(crate) const SERVER_NAME: &str = "server.bench.test";
/// The name that every client proves.
pub(crate) const CLIENT_NAME: &str = "client.bench.test";
/// Clients of the intermediate CA, each with a key of its own.
const CHAINED: usize = 64;

/// What a server's certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerKey {
    P256,
    Rsa2048,
}

/// PEM files of a client's certificate, with its chain, and its key.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// PEM files of a server's certificate and its key.
#[derive(Debug, Clone)]
pub(crate) struct ServerFiles {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// Chain and key in one file, as HAProxy wants them.
    pub(crate) both: PathBuf,
}

/// Where the PEM files are.
#[derive(Debug)]
pub(crate) struct Pki {
    pub(crate) ca: PathBuf,
    p256: ServerFiles,
    rsa: ServerFiles,
    /// Of the root itself.
    pub(crate) client: Files,
    /// Of the intermediate CA, which their chains hold.
    pub(crate) chained: Vec<Files>,
    /// The same, for servers that have seen none of them; all for one key.
    pub(crate) new_chains: Vec<Files>,
}

impl Pki {
    /// Writes all files to `folder`.
    pub(crate) fn write(folder: &Path, new_chains: usize) -> Result<Self, BenchError> {
        let root = CertifiedIssuer::self_signed(ca("countersign benchmark CA", 1), key()?)?;
        let intermediate =
            CertifiedIssuer::signed_by(ca("countersign benchmark issuing CA", 0), key()?, &root)?;
        let server = |name: &str, key: &KeyPair| {
            let chain = leaf(&root, key, SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth, None)?;
            ServerFiles::write(folder, name, &chain, key)
        };
        let client = |issuer: &CertifiedIssuer<'_, KeyPair>, key: &KeyPair, serial| {
            leaf(issuer, key, CLIENT_NAME, ExtendedKeyUsagePurpose::ClientAuth, serial)
        };
        let chained = |name: &str, number: usize, key: &KeyPair| {
            let serial = SerialNumber::from_slice(format!("{name} {number}").as_bytes());
            let chain = client(&intermediate, key, Some(serial))? + &intermediate.pem();
            write(folder, &format!("{name}-{number}.pem"), &chain)
        };
        let remembered = |number: usize| {
            let key = key()?;
            let key_file = write(folder, &format!("chained-{number}.key"), &key.serialize_pem())?;
            Ok::<_, BenchError>(Files { chain: chained("chained", number, &key)?, key: key_file })
        };
        let shared = key()?;
        let shared_file = write(folder, "new.key", &shared.serialize_pem())?;
        let new = |number: usize| {
            let chain = chained("new", number, &shared)?;
            Ok::<_, BenchError>(Files { chain, key: shared_file.clone() })
        };
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let own = key()?;
        Ok(Self {
            ca: write(folder, "ca.pem", &root.pem())?,
            p256: server("server", &key()?)?,
            rsa: server("server-rsa", &rsa)?,
            client: Files {
                chain: write(folder, "client.pem", &client(&root, &own, None)?)?,
                key: write(folder, "client.key", &own.serialize_pem())?,
            },
            chained: (0..CHAINED).map(remembered).collect::<Result<_, _>>()?,
            new_chains: (0..new_chains).map(new).collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn server(&self, key: ServerKey) -> &ServerFiles {
        match key {
            ServerKey::P256 => &self.p256,
            ServerKey::Rsa2048 => &self.rsa,
        }
    }
}

impl ServerFiles {
    fn write(folder: &Path, name: &str, chain: &str, key: &KeyPair) -> Result<Self, BenchError> {
        let key = key.serialize_pem();
        Ok(Self {
            chain: write(folder, &format!("{name}.pem"), chain)?,
            key: write(folder, &format!("{name}.key"), &key)?,
            both: write(folder, &format!("{name}-with-key.pem"), &(chain.to_owned() + &key))?,
        })
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf, BenchError> {
    let file = folder.join(name);
    fs::write(&file, text).map_err(BenchError::io(file.display().to_string()))?;
    Ok(file)
}

fn key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate()
}

fn ca(name: &str, path_length: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A certificate in PEM. Without a serial number, it gets that of its key.
fn leaf(
    ca: &CertifiedIssuer<'_, KeyPair>,
    key: &KeyPair,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
    serial: Option<SerialNumber>,
) -> Result<String, BenchError> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.serial_number = serial;
    Ok(params.signed_by(key, ca)?.pem())
}
