//! The CAs of the corpus, and how the certificates of its rows are made: from what is good, with
//! one thing changed.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use countersign::pki::Authority;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, NameConstraints, RevokedCertParams, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use time::{Duration, OffsetDateTime};

use super::support::{Pki, Run};

/// Keys, as openssl's `genpkey` makes them; `compressed` ones have their point rewritten.
pub const RSA_1024: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:1024";
pub const RSA_2048: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
pub const RSA_3072: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:3072";
pub const RSA_4096: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:4096";
pub const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
pub const P384: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-384";
pub const P521: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-521";
pub const P256_COMPRESSED: &str = "compressed -algorithm EC -pkeyopt ec_paramgen_curve:P-256";
pub const P384_COMPRESSED: &str = "compressed -algorithm EC -pkeyopt ec_paramgen_curve:P-384";
pub const P521_COMPRESSED: &str = "compressed -algorithm EC -pkeyopt ec_paramgen_curve:P-521";
pub const ED25519: &str = "-algorithm ED25519";

/// A serial number that a CA has revoked; so are the next two by one CA or another.
pub const REVOKED: u64 = 666;

/// What a client shows.
pub enum Shown {
    /// No certificate.
    Nothing,
    /// These certificates, its own first, shown by rustls.
    Chain(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    /// What only openssl is willing to show: a certificate and its key.
    Files(PathBuf, PathBuf),
}

/// A CA of the corpus.
pub struct Ca {
    params: CertificateParams,
    key: KeyPair,
    pub der: CertificateDer<'static>,
    pub pem: String,
}

impl Ca {
    /// One that was made elsewhere, with its common name.
    fn of(authority: &Authority, common_name: &str) -> Self {
        let mut params = ca_params(common_name);
        params.key_usages.clear();
        let key = KeyPair::from_pem(&authority.key_pem()).unwrap();
        Self { params, key, der: authority.der().clone(), pem: authority.pem() }
    }

    /// A root that is like others but for what `change` does.
    fn root(common_name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::root_with(KeyPair::generate().unwrap(), common_name, change)
    }

    /// The same with this key.
    fn root_with(
        key: KeyPair,
        common_name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = ca_params(common_name);
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        Self { params, key, der: certificate.der().clone(), pem: certificate.pem() }
    }

    /// A CA below this one that is like others but for what `change` does.
    pub fn below(&self, common_name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(common_name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        Self { params, key, der: certificate.der().clone(), pem: certificate.pem() }
    }

    /// The same CA, certified by this one too.
    pub fn cross_certify(&self, other: &Self) -> CertificateDer<'static> {
        let mut params = other.params.clone();
        params.serial_number = None;
        params.signed_by(&other.key, &self.issuer()).unwrap().der().clone()
    }

    /// A client's certificate that is good but for what `change` does, then `above`.
    pub fn client_above(
        &self,
        above: &[&CertificateDer<'static>],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Shown {
        let key = KeyPair::generate().unwrap();
        self.client_with(key, above, change)
    }

    /// The same without any above.
    pub fn client(&self, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        self.client_above(&[], change)
    }

    /// The same with this key.
    pub fn client_with(
        &self,
        key: KeyPair,
        above: &[&CertificateDer<'static>],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Shown {
        let mut params = client_params();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        let above = above.iter().map(|der| (*der).clone());
        let chain = [certificate.der().clone()].into_iter().chain(above).collect();
        Shown::Chain(chain, pkcs8(&key))
    }

    /// A CRL from so many hours from now to so many, PEM.
    fn crl(&self, number: u64, (from, to): (i64, i64), serials: &[u64]) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now - Duration::HOUR,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now + Duration::hours(from),
            next_update: now + Duration::hours(to),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer()).unwrap().pem().unwrap()
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

/// All CAs, and the folder that openssl works in.
pub struct World {
    pub pki: Pki,
    /// Trusted for `*.contoso.test` and more.
    pub root: Ca,
    /// Below the root.
    pub issuing: Ca,
    /// Trusted by nobody.
    pub stranger: Ca,
    /// Trusted for `*.fabrikam.test`.
    pub fabrikam: Ca,
    /// A trusted root with a path length of 0.
    pub short: Ca,
    /// A trusted root that permits `contoso.test`, `10.1.0.0/16`, and excludes
    /// `lab.contoso.test`.
    pub bound: Ca,
    /// Calls itself as the root does.
    pub namesake: Ca,
    /// A trusted root with a P-384 key.
    pub strong: Ca,
    /// Trusted for anybody that nobody else is trusted for.
    pub public: Ca,
    /// A trusted root whose CRLs revoke [`REVOKED`] and [`World::fallen`].
    pub listed: Ca,
    /// A CA below it, whose CRL revokes [`REVOKED`] + 2.
    pub steady: Ca,
    /// A revoked CA below it, with a CRL.
    pub fallen: Ca,
    /// A trusted root that has no CRL.
    pub silent: Ca,
    /// A trusted root whose CRL is signed with another key.
    pub forged: Ca,
    /// A trusted root whose CRL is of tomorrow.
    pub early: Ca,
    /// A trusted root whose CRL is of yesterday, and revokes [`REVOKED`].
    pub stale: Ca,
    /// Keys that openssl made, by how.
    keys: RefCell<HashMap<&'static str, String>>,
    /// Certificates that openssl made.
    made: Cell<u32>,
}

impl World {
    pub fn new() -> Self {
        let pki = Pki::new();
        let root = Ca::of(&pki.ca, "Contoso Root");
        let issuing = Ca::of(&pki.intermediate, "Contoso Issuing");
        let stranger = Ca::of(&pki.stranger_ca, "Stranger Root");
        let fabrikam = Ca::root("Fabrikam Root", |_| {});
        let short = Ca::root("Short Root", |ca| {
            ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        });
        let bound = Ca::root("Bound Root", |ca| {
            ca.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![GeneralSubtree::DnsName("contoso.test".into())],
                excluded_subtrees: vec![GeneralSubtree::DnsName("lab.contoso.test".into())],
            });
        });
        let namesake = Ca::root("Contoso Root", |_| {});
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let strong = Ca::root_with(p384, "Strong Root", |_| {});
        let public = Ca::root("Public Root", |_| {});
        let listed = Ca::root("Listed Root", |_| {});
        let steady = listed.below("Steady", |_| {});
        let fallen = listed.below("Fallen", serial(REVOKED + 1));
        let silent = Ca::root("Silent Root", |_| {});
        let forged = Ca::root("Forged Root", |_| {});
        let early = Ca::root("Early Root", |_| {});
        let stale = Ca::root("Stale Root", |_| {});
        for (file, ca) in [
            ("fabrikam.pem", &fabrikam),
            ("short.pem", &short),
            ("bound.pem", &bound),
            ("strong.pem", &strong),
            ("public.pem", &public),
            ("listed.pem", &listed),
            ("silent.pem", &silent),
            ("forged.pem", &forged),
            ("early.pem", &early),
            ("stale.pem", &stale),
        ] {
            fs::write(pki.file(file), &ca.pem).unwrap();
        }
        let now = (-1, 24);
        let forger = |name| Ca::root(name, |_| {});
        fs::create_dir(pki.file("crls")).unwrap();
        for (file, crl) in [
            ("listed-1.pem", listed.crl(1, now, &[])),
            ("listed-2.pem", listed.crl(2, now, &[REVOKED, REVOKED + 1])),
            ("listed-3.pem", forger("Listed Root").crl(3, now, &[])),
            ("steady.pem", steady.crl(1, now, &[REVOKED + 2])),
            ("fallen.pem", fallen.crl(1, now, &[])),
            ("stranger.pem", stranger.crl(1, now, &[REVOKED])),
            ("forged.pem", forger("Forged Root").crl(1, now, &[])),
            ("early.pem", early.crl(1, (24, 48), &[])),
            ("stale.pem", stale.crl(1, (-48, -1), &[REVOKED])),
        ] {
            fs::write(pki.file("crls").join(file), crl).unwrap();
        }
        // What openssl works with.
        let client = "basicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature\n\
                      extendedKeyUsage=clientAuth\nsubjectAltName=DNS:fe01.contoso.test\n";
        let ca = "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign\n";
        fs::write(pki.file("ca.key"), root.key.serialize_pem()).unwrap();
        fs::write(pki.file("client.ext"), client).unwrap();
        fs::write(pki.file("ca.ext"), ca).unwrap();
        Self {
            pki,
            root,
            issuing,
            stranger,
            fabrikam,
            short,
            bound,
            namesake,
            strong,
            public,
            listed,
            steady,
            fallen,
            silent,
            forged,
            early,
            stale,
            keys: RefCell::default(),
            made: Cell::default(),
        }
    }

    /// A client's certificate by nobody but itself.
    pub fn self_signed(&self) -> Shown {
        let key = KeyPair::generate().unwrap();
        let certificate = client_params().self_signed(&key).unwrap();
        Shown::Chain(vec![certificate.der().clone()], pkcs8(&key))
    }

    /// A key that openssl makes by these arguments of `genpkey`, once.
    pub fn key(&self, arguments: &'static str) -> KeyPair {
        KeyPair::from_pem(&self.key_pem(arguments)).unwrap()
    }

    /// The pin of that key.
    pub fn pin(&self, arguments: &'static str) -> String {
        fs::write(self.pki.file("pinned.key"), self.key_pem(arguments)).unwrap();
        let pipe = "openssl pkey -in pinned.key -pubout -outform DER | \
                    openssl dgst -sha256 -binary | openssl base64";
        let mut shell = Command::new("sh");
        let run = Run::of(shell.args(["-c", pipe]).current_dir(self.pki.folder())).succeeded();
        format!("sha256/{}", run.stdout.trim())
    }

    fn key_pem(&self, arguments: &'static str) -> String {
        let openssl = |command: &str| openssl(self.pki.folder(), command).stdout;
        let make = || match arguments.strip_prefix("compressed ") {
            Some(arguments) => {
                openssl(&format!("genpkey {arguments} -out whole.key"));
                openssl("ec -in whole.key -conv_form compressed")
            }
            None => openssl(&format!("genpkey {arguments}")),
        };
        self.keys.borrow_mut().entry(arguments).or_insert_with(make).clone()
    }

    /// A client's certificate that openssl makes where rcgen won't: for a key of these arguments
    /// of `genpkey`, with these of `x509`. If these name no extensions, it is of version 1.
    pub fn openssl_client(&self, key: &'static str, arguments: &str) -> (PathBuf, PathBuf) {
        self.openssl_issue(key, "/CN=fe01.contoso.test", "ca", arguments)
    }

    /// The same for any subject, by the CA in the files of this name.
    pub fn openssl_issue(
        &self,
        key: &'static str,
        subject: &str,
        by: &str,
        arguments: &str,
    ) -> (PathBuf, PathBuf) {
        self.made.set(self.made.get() + 1);
        let name = format!("openssl-{}", self.made.get());
        let key_file = self.pki.file(&format!("{name}.key"));
        fs::write(&key_file, self.key_pem(key)).unwrap();
        for command in [
            format!("req -new -key {name}.key -subj {subject} -out {name}.csr"),
            format!(
                "x509 -req -in {name}.csr -CA {by}.pem -CAkey {by}.key -days 30 -out {name}.pem \
                 {arguments}"
            ),
        ] {
            openssl(self.pki.folder(), &command);
        }
        (self.pki.file(&format!("{name}.pem")), key_file)
    }

    /// A client of an intermediate CA with a short key.
    pub fn below_weak(&self) -> Shown {
        let arguments = "-sha256 -extfile ca.ext";
        let (weak, _) = self.openssl_issue(RSA_1024, "/CN=Weak", "ca", arguments);
        let by = weak.file_stem().unwrap().to_str().unwrap();
        let arguments = "-sha256 -extfile client.ext";
        let client = self.openssl_issue(P256, "/CN=fe01.contoso.test", by, arguments);
        let Shown::Chain(mut chain, key) = read(&client) else { unreachable!("it is a chain") };
        chain.push(read_certificate(&weak));
        Shown::Chain(chain, key)
    }
}

fn openssl(folder: &Path, arguments: &str) -> Run {
    let mut command = Command::new("openssl");
    Run::of(command.args(arguments.split_whitespace()).current_dir(folder)).succeeded()
}

/// What was written to files, for rustls to show.
pub fn read((certificate, key): &(PathBuf, PathBuf)) -> Shown {
    let chain = vec![read_certificate(certificate)];
    Shown::Chain(chain, PrivateKeyDer::from_pem_file(key).unwrap())
}

pub fn read_certificate(file: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).unwrap()
}

fn pkcs8(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

fn base(common_name: &str) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.not_before = now - Duration::HOUR;
    params.not_after = now + 30 * Duration::DAY;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params
}

fn ca_params(common_name: &str) -> CertificateParams {
    let mut params = base(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A client that is let in: `fe01.contoso.test`, clientAuth.
fn client_params() -> CertificateParams {
    let mut params = base(Pki::CLIENT);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    dns(&[Pki::CLIENT])(&mut params);
    params
}

/// With these DNS names alone, whether they are well-formed or not.
pub fn dns(names: &[&str]) -> impl FnOnce(&mut CertificateParams) + use<> {
    let names = names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())).collect();
    |params| params.subject_alt_names = names
}

/// With these URIs alone.
pub fn uris(names: &[&str]) -> impl FnOnce(&mut CertificateParams) + use<> {
    let names = names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
    |params| params.subject_alt_names = names
}

/// With this address alone.
pub fn address(address: [u8; 4]) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.subject_alt_names = vec![SanType::IpAddress(address.into())]
}

/// With this common name, and nothing else that says who it is.
pub fn common_name(name: &str) -> impl FnOnce(&mut CertificateParams) + use<> {
    let name = name.to_owned();
    |params| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.clear();
    }
}

/// With this common name, and these DNS names alone.
pub fn called(common_name: &str, names: &[&str]) -> impl FnOnce(&mut CertificateParams) + use<> {
    let (set_common_name, set_names) = (self::common_name(common_name), dns(names));
    |params| {
        set_common_name(params);
        set_names(params);
    }
}

/// For these purposes alone; for any, if there are none.
pub fn purposes(purposes: Vec<ExtendedKeyUsagePurpose>) -> impl FnOnce(&mut CertificateParams) {
    |params| params.extended_key_usages = purposes
}

/// For these uses of its key alone.
pub fn key_usages(usages: Vec<KeyUsagePurpose>) -> impl FnOnce(&mut CertificateParams) {
    |params| params.key_usages = usages
}

/// From so many hours from now to so many.
pub fn hours(from: i64, to: i64) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        let now = OffsetDateTime::now_utc();
        params.not_before = now + Duration::hours(from);
        params.not_after = now + Duration::hours(to);
    }
}

/// With so many CAs below it, at most.
pub fn path_length(count: u8) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(count))
}

/// With an extension that nobody knows, so many times.
pub fn unknown_extension(critical: bool, times: usize) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        let mut extension =
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
        extension.set_criticality(critical);
        params.custom_extensions = vec![extension; times];
    }
}

/// With so many bytes more.
pub fn filler(bytes: u16) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        let [high, low] = bytes.to_be_bytes();
        let content = [vec![4, 0x82, high, low], vec![0; bytes.into()]].concat();
        let oid = [1, 3, 6, 1, 4, 1, 99_999, 2];
        params.custom_extensions = vec![CustomExtension::from_oid_content(&oid, content)];
    }
}

/// With this serial number, so that copies of one certificate differ.
pub fn serial(number: u64) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.serial_number = Some(SerialNumber::from(number))
}

/// As it is.
pub fn good(_: &mut CertificateParams) {}

/// A client of this intermediate CA, which it shows.
pub fn via(issuer: &Ca) -> Shown {
    through(&[issuer])
}

/// A client of the first of these CAs, all of which it shows.
pub fn through(issuers: &[&Ca]) -> Shown {
    issuers[0].client_above(&issuers.iter().map(|ca| &ca.der).collect::<Vec<_>>(), good)
}
