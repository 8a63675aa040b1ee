//! Certificates and keys for the tests, made once, and a file system that holds only them.

use std::{collections::BTreeMap, io, path::Path, sync::OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    RevokedCertParams, date_time_ymd,
};
use zeroize::Zeroizing;

use crate::config::{FileData, Files, Folder};

/// 2026-06-01: within the validity of what isn't made to be expired.
pub(super) const NOW: i64 = 1_780_272_000;

pub(super) struct MemoryFiles(BTreeMap<String, (Vec<u8>, u32)>);

impl Files for MemoryFiles {
    fn read(&self, path: &Path) -> io::Result<FileData> {
        let (bytes, mode) = path
            .strip_prefix("conf")
            .ok()
            .and_then(|path| self.0.get(path.to_str()?))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))?;
        Ok(FileData { bytes: Zeroizing::new(bytes.clone()), mode: *mode })
    }

    /// A folder is there if a file is in it, even a hidden one.
    fn folder(&self, path: &Path) -> io::Result<Option<Folder>> {
        let mut folder = Folder::default();
        let mut is_folder = false;
        for file in self.0.keys().map(|name| Path::new("conf").join(name)) {
            if file.parent() == Some(path) {
                is_folder = true;
                let ending = file.extension().and_then(|ending| ending.to_str());
                match ending {
                    Some("crl") => folder.files.push(file),
                    Some(_) => folder.others.push(file),
                    None => {}
                }
            }
        }
        Ok(is_folder.then_some(folder))
    }
}

pub(super) fn pki() -> &'static MemoryFiles {
    static PKI: OnceLock<MemoryFiles> = OnceLock::new();
    PKI.get_or_init(make)
}

fn params(common_name: &str, dns_names: &[&str]) -> CertificateParams {
    let dns_names: Vec<String> = dns_names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(dns_names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn ca_params(common_name: &str) -> CertificateParams {
    let mut params = params(common_name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn make() -> MemoryFiles {
    let mut files = BTreeMap::new();
    let mut put = |name: &str, bytes: Vec<u8>| {
        let mode = if name.starts_with("open.") { 0o644 } else { 0o600 };
        files.insert(name.to_owned(), (bytes, mode));
    };
    let (ca_key, own_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let self_signed = |params: CertificateParams| params.self_signed(&ca_key).unwrap();

    let ca = self_signed(ca_params("Contoso Root"));
    put("ca.pem", ca.pem().into());
    put("ca.der", ca.der().to_vec());
    put("empty.pem", Vec::new());
    put("garbage.pem", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec());
    put("not-x509.pem", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_vec());
    put("crl.pem", b"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n".to_vec());
    put("bom.pem", format!("\u{feff}{}{}", ca.pem(), ca.pem()).into());
    put("no-end.pem", ca.pem().replace("END CERT", "ENDE CERT").into());
    put("ca-with-key.pem", format!("{}{}", ca.pem(), ca_key.serialize_pem()).into());
    let mut expired = ca_params("Old Root");
    expired.not_after = date_time_ymd(2026, 5, 31);
    let expired = self_signed(expired);
    put("expired-ca.pem", expired.pem().into());
    put("ca-and-expired.pem", format!("{}{}", ca.pem(), expired.pem()).into());
    let mut future = ca_params("Next Root");
    future.not_before = date_time_ymd(2026, 7, 1);
    put("future-ca.pem", self_signed(future).pem().into());
    let mut no_sign = ca_params("No Sign");
    no_sign.key_usages = vec![KeyUsagePurpose::CrlSign];
    put("no-sign-ca.pem", self_signed(no_sign).pem().into());

    let other_key = KeyPair::generate().unwrap();
    let fabrikam = ca_params("Fabrikam Root").self_signed(&other_key).unwrap();
    put("fabrikam-ca.pem", fabrikam.pem().into());
    let rsa_key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    put("rsa-ca.pem", ca_params("RSA Root").self_signed(&rsa_key).unwrap().pem().into());
    let mut renewed = ca_params("Contoso Root");
    renewed.not_after = date_time_ymd(2028, 1, 1);
    put("renewed-ca.pem", self_signed(renewed).pem().into());

    let mut twice = ca_params("Constrained Twice");
    let constraints = CustomExtension::from_oid_content(&[2, 5, 29, 30], vec![0x30, 0]);
    twice.custom_extensions = vec![constraints.clone(), constraints];
    put("constrained-twice-ca.pem", self_signed(twice).pem().into());

    let issuer = Issuer::new(ca_params("Contoso Root"), &ca_key);
    let issue = |params: CertificateParams| params.signed_by(&own_key, &issuer).unwrap();
    let own = issue(params("own", &["Pool01.Contoso.Test", "*.apps.contoso.test"]));
    put("own.pem", own.pem().into());
    put("own-and-key.pem", format!("{}{}", own.pem(), own_key.serialize_pem()).into());
    put("own-with-ca.pem", format!("{}{}", own.pem(), ca.pem()).into());
    put("reversed.pem", format!("{}{}", ca.pem(), own.pem()).into());
    put("own-with-stranger.pem", format!("{}{}", own.pem(), own.pem()).into());
    put("own-with-expired.pem", format!("{}{}", own.pem(), expired.pem()).into());
    put("too-long.pem", own.pem().repeat(17).into());
    put("nameless.pem", issue(params("nameless", &[])).pem().into());
    let mut old = params("old", &["old.contoso.test"]);
    old.not_after = date_time_ymd(2026, 5, 31);
    put("old.pem", issue(old).pem().into());
    let mut early = params("early", &["early.contoso.test"]);
    early.not_before = date_time_ymd(2026, 7, 1);
    put("early.pem", issue(early).pem().into());
    let mut client = params("client", &["client.contoso.test"]);
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    put("client.pem", issue(client).pem().into());

    let crl = |number: u64, next_update, serials: &[u64]| {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: date_time_ymd(2026, 2, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 5, 1),
            next_update,
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&issuer).unwrap()
    };
    let good = crl(5, date_time_ymd(2026, 7, 1), &[7, 8]);
    put("root.crl", good.der().to_vec());
    put("crl/root.crl", good.der().to_vec());
    put("crl/.keep", Vec::new());
    put("crl/old/root.crl", crl(4, date_time_ymd(2026, 5, 31), &[]).pem().unwrap().into());
    put("bad/broken.crl", good.der()[..100].to_vec());
    put("bad/good.crl", good.der().to_vec());
    put("none/.keep", Vec::new());
    put("odd/README.txt", Vec::new());

    let key = own_key.serialize_pem();
    put("own.key", key.clone().into());
    put("open.key", key.clone().into());
    put("other.key", KeyPair::generate().unwrap().serialize_pem().into());
    put("two.key", key.repeat(2).into());
    put("encrypted.key", key.replace("PRIVATE", "ENCRYPTED PRIVATE").into());
    let legacy = "BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n";
    let legacy = key.replace("BEGIN PRIVATE KEY-----", legacy).replace("END P", "END EC P");
    put("legacy.key", legacy.into());
    put("odd.key", b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n".to_vec());

    // What looks random, and has bytes that are no text.
    let ticket = |step: u8, len: u8| (0..len).map(|i| i.wrapping_mul(step) | 128).collect();
    put("a.ticket", ticket(37, 64));
    put("copy.ticket", ticket(37, 64));
    put("b.ticket", ticket(91, 64));
    put("open.ticket", ticket(53, 64));
    put("short.ticket", ticket(37, 63));
    put("long.ticket", ticket(37, 65));
    put("text.ticket", b"0123456789abcdef".repeat(4));
    put("same.ticket", [0, 255].repeat(32));
    MemoryFiles(files)
}
