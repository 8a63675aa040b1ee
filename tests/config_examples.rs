//! The examples under `config/` are what they say: each loads without an error or a warning.
//!
//! They are copied to a temporary folder, the certificates that `config/pki/README.md` lists are
//! made there, and the loader that the service uses reads them.

#![allow(clippy::unwrap_used, reason = "a test that can't prepare has failed")]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use countersign::config::Config;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let examples: Vec<_> = files.filter(|file| file.extension() == Some("toml".as_ref())).collect();
    assert!(examples.len() >= 5, "{examples:?}");
    examples
}

fn make_ca(folder: &Path, file: &str, common_name: &str) -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    fs::write(folder.join(file), params.self_signed(&key).unwrap().pem()).unwrap();
    Issuer::new(params, key)
}

fn make_own(folder: &Path, name: &str, dns_names: &[&str], issuer: &Issuer<'_, KeyPair>) {
    let dns_names: Vec<String> = dns_names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(dns_names).unwrap().signed_by(&key, issuer).unwrap();
    fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    let key_file = folder.join(format!("{name}.key"));
    fs::write(&key_file, key.serialize_pem()).unwrap();
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A folder that holds the examples and the files that they name.
fn folder_with_pki() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let pki = folder.path().join("pki");
    fs::create_dir(&pki).unwrap();
    let contoso = make_ca(&pki, "contoso-ca.pem", "Contoso Root");
    for partner in ["fabrikam-ca", "litware-ca", "public-roots"] {
        make_ca(&pki, &format!("{partner}.pem"), partner);
    }
    make_own(&pki, "sip", &["sip.contoso.test"], &contoso);
    make_own(&pki, "www", &["www.contoso.test", "*.apps.contoso.test"], &contoso);
    for example in examples() {
        fs::copy(&example, folder.path().join(example.file_name().unwrap())).unwrap();
    }
    folder
}

#[test]
fn every_example_loads_without_an_error_or_a_warning() {
    let folder = folder_with_pki();
    for example in examples() {
        let file = folder.path().join(example.file_name().unwrap());
        let config = Config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.warnings, [""; 0], "{}", example.display());
        for listener in &config.listeners {
            assert!(config.summary().contains(&format!("\nlistener {}\n", listener.name)));
        }
    }
}

#[test]
fn the_list_of_certificates_names_exactly_what_the_examples_use() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let readme = fs::read_to_string(folder.join("pki/README.md")).unwrap();
    let listed: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect();
    let mut used = BTreeSet::new();
    for example in examples() {
        let text = fs::read_to_string(example).unwrap();
        let names = text.split('"').filter_map(|part| part.strip_prefix("pki/"));
        used.extend(names.map(ToOwned::to_owned));
    }
    assert_eq!(listed, used);
}

#[test]
fn an_example_without_its_certificates_names_each_missing_file() {
    let folder = folder_with_pki();
    fs::remove_dir_all(folder.path().join("pki")).unwrap();
    let errors = Config::load(&folder.path().join("sip-mtls.toml")).unwrap_err();
    assert_eq!(errors.iter().len(), 6, "{errors}");
    assert!(errors.iter().all(|error| error.message.contains("can't be read")), "{errors}");
}

/// The loader says which keys it knows when it meets one that it doesn't: the documentation must
/// have each of them, and nothing else in the table of its section.
#[test]
fn the_documentation_has_every_key_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.toml");
    let sections = [
        "workers",
        "accel",
        "admin",
        "log",
        "limits",
        "resumption",
        "revocation",
        "trust.x",
        "peers.x",
        "backends.x",
        "[listener]",
        "listener.tls",
        "[listener.certificates]",
    ];
    let text: String =
        sections.iter().map(|section| format!("[{section}]\nzzzzzz = 1\n")).collect();
    fs::write(&file, format!("zzzzzz = 1\n{text}")).unwrap();
    let errors = Config::load(&file).unwrap_err();
    let mut accepted = errors.iter().filter_map(|error| {
        let (_, keys) = error.message.split_once("accepted: ")?;
        Some(keys)
    });
    // Of the whole file, which comes first, these are the sections.
    let is_section = |key: &&str| {
        let mut sections = sections.iter().map(|section| section.trim_matches(['[', ']']));
        sections.any(|section| section.split('.').next() == Some(key))
    };
    let top: Vec<&str> = accepted.next().unwrap().split(", ").collect();
    let top = top.into_iter().filter(|key| !is_section(key));
    let known: BTreeSet<&str> = accepted.flat_map(|keys| keys.split(", ")).chain(top).collect();

    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let docs = fs::read_to_string(docs).unwrap();
    let documented: BTreeSet<&str> = docs
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0))
        .collect();
    // Examples of names are a table as well.
    let documented: BTreeSet<&str> =
        documented.into_iter().filter(|key| !key.starts_with('"')).collect();
    let missing = "each section reports its keys";
    assert!(
        known.contains("groups") && known.contains("chain") && known.contains("ca"),
        "{missing}"
    );
    assert_eq!(documented, known);
}
