//! Whose a folder is, and whether the demo in it can be used again.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::Path,
};

use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{CLIENT_NAME, CertificateFiles, DemoError, DemoFiles, REUSE_VALIDITY};
use crate::pki::{PkiError, files};

/// Its presence says that a demo made the folder.
const MARKER: &str = ".countersign-demo";
const MARKER_TEXT: &[u8] =
    b"`countersign demo` made this folder and replaces its own files in it. \
    Delete the folder whenever you like.\n";

/// Makes the folder ours, or finds that it is.
pub(super) fn claim(dir: &Path) -> Result<(), DemoError> {
    let io_error = |source| DemoError::Io { path: dir.to_owned(), source };
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(io_error)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_error(error)),
        _ => {}
    }
    let mut foreign = None;
    for entry in fs::read_dir(dir).map_err(io_error)? {
        let name = entry.map_err(io_error)?.file_name();
        if name == MARKER {
            return Ok(());
        }
        foreign = Some(name.to_string_lossy().into_owned());
    }
    if let Some(entry) = foreign {
        return Err(DemoError::Foreign { dir: dir.to_owned(), entry });
    }
    files::write_public(&dir.join(MARKER), MARKER_TEXT).map_err(PkiError::from)?;
    Ok(())
}

/// Whether every certificate is there, belongs to its key and its CA, carries its names, and is
/// valid now and for [`REUSE_VALIDITY`] more; and no key can be read by others.
pub(super) fn is_whole(demo: &DemoFiles) -> bool {
    let server = ["localhost", "127.0.0.1", "::1"];
    is_good(&demo.server, &demo.ca, KeyUsage::server_auth(), &server)
        && is_good(&demo.client, &demo.ca, KeyUsage::client_auth(), &[CLIENT_NAME])
        && is_good(&demo.stranger, &demo.stranger_ca, KeyUsage::client_auth(), &[CLIENT_NAME])
        && fs::read(&demo.ca).ok() != fs::read(&demo.stranger_ca).ok()
}

fn is_good(files: &CertificateFiles, ca: &Path, usage: KeyUsage, names: &[&str]) -> bool {
    // Why it isn't good doesn't matter: all is made anew then.
    check(files, ca, usage, names).is_some()
}

fn check(files: &CertificateFiles, ca: &Path, usage: KeyUsage, names: &[&str]) -> Option<()> {
    if fs::metadata(&files.key).ok()?.mode() & 0o077 != 0 {
        return None;
    }
    let ca = CertificateDer::from_pem_file(ca).ok()?;
    let chain = CertificateDer::from_pem_file(&files.chain).ok()?;
    let key = PrivateKeyDer::from_pem_file(&files.key).ok()?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    // Compares the certificate's public key with the private one.
    CertifiedKey::from_der(vec![chain.clone()], key, &provider).ok()?;

    let certificate = EndEntityCert::try_from(&chain).ok()?;
    for name in names {
        let name = ServerName::try_from(*name).ok()?;
        certificate.verify_is_valid_for_subject_name(&name).ok()?;
    }
    let anchors = [anchor_from_trusted_cert(&ca).ok()?];
    let now = UnixTime::now();
    let later = now.as_secs() + REUSE_VALIDITY.as_secs();
    for at in [now.as_secs(), later] {
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at));
        certificate
            .verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &[], at, usage, None, None)
            .ok()?;
    }
    // A trust anchor's own validity isn't looked at by path building.
    let (_, ca) = x509_parser::parse_x509_certificate(&ca).ok()?;
    (ca.validity().not_after.timestamp() >= i64::try_from(later).ok()?).then_some(())
}
