//! `countersign pki`

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::outcome;
use crate::{
    name::{DnsName, PeerName},
    pki::{
        CLOCK_SKEW, KeyType, Reason, Spec, Validity,
        folder::{Encoding, Entry, Folder, from_hex, to_hex},
    },
};

const DAY: Duration = Duration::from_secs(86_400);

/// Most days that may be asked for: a hundred years.
const MAX_DAYS: u32 = 36_525;

type Failure = Box<dyn std::error::Error>;

/// The commands of `countersign pki`.
#[derive(Debug, Subcommand)]
pub(super) enum PkiCommand {
    /// Make a root CA in a folder
    Init(InitArgs),
    /// Issue the certificate of a server or client, or of an intermediate CA
    Issue(Box<IssueArgs>),
    /// Revoke a certificate; the next CRL says so
    Revoke(RevokeArgs),
    /// Sign a CRL of all that is revoked
    Crl(CrlArgs),
}

/// `countersign pki init`
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The CA's folder; one is made if there is none
    dir: PathBuf,
    /// The CA's common name
    #[arg(long, value_name = "CN", default_value = "throw-away CA")]
    name: String,
    /// Days that its certificate is valid
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = days())]
    days: u32,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    limits: CaLimits,
}

/// The key of a certificate.
#[derive(Debug, Args)]
struct KeyArgs {
    /// Type of its key
    #[arg(long, default_value = "p256", value_parser = key_type())]
    key_type: KeyType,
}

/// What a CA may issue.
#[derive(Debug, Args)]
struct CaLimits {
    /// How many CAs may follow it in a path; any number if not given
    #[arg(long, value_name = "N")]
    path_length: Option<u8>,
    /// A DNS name that what it issues may carry, itself and all below; others then may not be
    #[arg(long, value_name = "NAME", value_parser = dns_name)]
    permit_dns: Vec<String>,
    /// A DNS name that nothing it issues may carry, itself and all below
    #[arg(long, value_name = "NAME", value_parser = dns_name)]
    exclude_dns: Vec<String>,
}

/// `countersign pki issue`
#[derive(Debug, Args)]
pub(super) struct IssueArgs {
    /// The CA's folder
    dir: PathBuf,
    /// DNS names, URIs and IP addresses that it is for; with --ca the name of the CA
    #[arg(required_unless_present_any = ["dns", "uri", "ip", "cn"], value_name = "NAME")]
    names: Vec<String>,
    /// For use as a client alone (clientAuth)
    #[arg(long, group = "usage")]
    client: bool,
    /// For use as a server alone (serverAuth)
    #[arg(long, group = "usage")]
    server: bool,
    /// For use as both, which is the default
    #[arg(long, group = "usage")]
    both: bool,
    /// A DNS name more, exact or *.NAME
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// A URI more, such as a SPIFFE ID
    #[arg(long)]
    uri: Vec<String>,
    /// An IP address more
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
    /// The common name; the first NAME if not given
    #[arg(long)]
    cn: Option<String>,
    /// Days that it is valid: 90 if not given, 365 for a CA
    #[arg(long, value_name = "N", value_parser = days())]
    days: Option<u32>,
    /// When it starts, such as 2026-01-31T00:00:00Z; an hour ago if not given
    #[arg(long, value_name = "TIME", value_parser = rfc3339)]
    not_before: Option<OffsetDateTime>,
    /// When it ends, instead of --days
    #[arg(long, value_name = "TIME", value_parser = rfc3339, conflicts_with = "days")]
    not_after: Option<OffsetDateTime>,
    #[command(flatten)]
    key: KeyArgs,
    /// An intermediate CA, in a folder of its own
    #[arg(long, conflicts_with_all = ["usage", "dns", "uri", "ip"])]
    ca: bool,
    #[command(flatten)]
    limits: CaLimits,
    /// Write PREFIX.pem and PREFIX.key, or with --ca the folder PREFIX; in the CA's folder and
    /// after the first NAME if not given
    #[arg(long, value_name = "PREFIX")]
    out: Option<PathBuf>,
    /// Where the CA's CRL will be (CRL distribution point)
    #[arg(long, value_name = "URL", value_parser = url)]
    crl_url: Vec<String>,
}

/// `countersign pki revoke`
#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// The CA's folder
    dir: PathBuf,
    /// The certificate
    #[arg(required_unless_present = "serial", value_name = "CERT.pem")]
    certificate: Option<PathBuf>,
    /// Its serial number instead, hexadecimal
    #[arg(long, value_name = "HEX", value_parser = serial, conflicts_with = "certificate")]
    serial: Option<Serial>,
    /// Why
    #[arg(long, default_value = "unspecified", value_parser = reason())]
    reason: Reason,
}

/// `countersign pki crl`
#[derive(Debug, Args)]
pub(super) struct CrlArgs {
    /// The CA's folder
    dir: PathBuf,
    /// Days until the next one is due
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = days())]
    days: u32,
    /// Where it goes; DIR/crl.pem if not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// DER, as HTTP servers give it, instead of PEM
    #[arg(long)]
    der: bool,
}

/// Does what one of the commands asks for.
pub(super) fn main(command: PkiCommand) -> ExitCode {
    outcome(match command {
        PkiCommand::Init(arguments) => init(&arguments),
        PkiCommand::Issue(arguments) if arguments.ca => issue_ca(&arguments),
        PkiCommand::Issue(arguments) => issue(&arguments),
        PkiCommand::Revoke(arguments) => revoke(&arguments),
        PkiCommand::Crl(arguments) => crl(&arguments),
    })
}

fn init(arguments: &InitArgs) -> Result<(), Failure> {
    let InitArgs { dir, name, days, key, limits } = arguments;
    let validity = Validity::from_now(*days * DAY);
    let spec = limits.apply(Spec::new(name, validity).key_type(key.key_type));
    let folder = Folder::init(dir, &spec)?;
    println!("made the CA {name:?}, valid until {}", to_rfc3339(validity.not_after));
    print_ca(&folder);
    println!("It is for first steps and tests: its key lies unencrypted in a file.");
    Ok(())
}

fn issue_ca(arguments: &IssueArgs) -> Result<(), Failure> {
    let mut above = Folder::open(&arguments.dir)?;
    let name = match (&arguments.cn, arguments.names.as_slice()) {
        (Some(name), []) => name,
        (None, [name]) => name,
        _ => return Err("with --ca, give one name: that of the CA".into()),
    };
    let validity = arguments.validity(365)?;
    let spec = Spec::new(name, validity).key_type(arguments.key.key_type);
    let spec = arguments.limits.apply(arguments.with_crl_urls(spec));
    let dir = arguments.out.clone().unwrap_or_else(|| arguments.dir.join(file_name(name)));
    let folder = above.issue_ca(&spec, &dir)?;
    println!("made the intermediate CA {name:?}, valid until {}", to_rfc3339(validity.not_after));
    print_ca(&folder);
    warn_if_it_outlives(&above, validity);
    Ok(())
}

fn issue(arguments: &IssueArgs) -> Result<(), Failure> {
    let IssueArgs { dir, limits, out, .. } = arguments;
    if !limits.is_empty() {
        return Err("--path-length, --permit-dns and --exclude-dns are for a CA: give --ca".into());
    }
    let mut folder = Folder::open(dir)?;
    let validity = arguments.validity(90)?;
    let spec = arguments.peer_spec(validity)?;
    let first = arguments.names.first().map_or(spec.common_name(), String::as_str);
    let prefix = out.clone().unwrap_or_else(|| dir.join(file_name(first)));
    let issued = folder.issue(&spec, &prefix)?;
    println!("issued {}", describe(&issued.entry));
    print_file(&issued.chain, "its certificate, and those of intermediate CAs");
    print_file(&issued.key, "its private key");
    warn_if_it_outlives(&folder, validity);
    Ok(())
}

fn revoke(arguments: &RevokeArgs) -> Result<(), Failure> {
    let RevokeArgs { dir, certificate, serial, reason } = arguments;
    let mut folder = Folder::open(dir)?;
    let serial = match (certificate, serial) {
        (_, Some(Serial(serial))) => serial.clone(),
        (Some(file), None) => serial_of(file, folder.authority().der())?,
        (None, None) => return Err("give a certificate or --serial".into()),
    };
    let entry = folder.revoke(&serial, *reason)?;
    println!("revoked {} ({})", describe(&entry), reason.as_str());
    println!(
        "Nobody knows yet: sign a CRL that says so, and put it where it is read:\n  \
         countersign pki crl {}",
        dir.display()
    );
    Ok(())
}

fn crl(arguments: &CrlArgs) -> Result<(), Failure> {
    let CrlArgs { dir, days, out, der } = arguments;
    let mut folder = Folder::open(dir)?;
    let file = out.clone().unwrap_or_else(|| folder.crl_file());
    let encoding = if *der { Encoding::Der } else { Encoding::Pem };
    let number = folder.crl(*days * DAY, &file, encoding)?;
    let revoked = folder.entries().iter().filter(|entry| entry.revoked.is_some()).count();
    let due = to_rfc3339(OffsetDateTime::now_utc() + *days * DAY);
    println!("signed CRL number {number} with {revoked} revoked; the next one is due by {due}");
    print_file(&file, "the CRL");
    Ok(())
}

impl CaLimits {
    fn is_empty(&self) -> bool {
        self.path_length.is_none() && self.permit_dns.is_empty() && self.exclude_dns.is_empty()
    }

    fn apply(&self, spec: Spec) -> Spec {
        let spec = match self.path_length {
            None => spec,
            Some(count) => spec.max_intermediates(count),
        };
        let spec = self.permit_dns.iter().fold(spec, |spec, name| spec.permit_dns(name));
        self.exclude_dns.iter().fold(spec, |spec, name| spec.exclude_dns(name))
    }
}

impl IssueArgs {
    fn validity(&self, default_days: u32) -> Result<Validity, Failure> {
        let now = OffsetDateTime::now_utc();
        let not_before = self.not_before.unwrap_or(now - CLOCK_SKEW);
        let days = self.days.unwrap_or(default_days);
        let length = time::Duration::days(days.into());
        let not_after = match self.not_after {
            Some(end) => end,
            None => not_before
                .max(now)
                .checked_add(length)
                .ok_or("it would end after the year 9999: give fewer --days, or --not-after")?,
        };
        if not_after < not_before {
            let (start, end) = (to_rfc3339(not_before), to_rfc3339(not_after));
            return Err(format!("it would end at {end}, before it starts at {start}").into());
        }
        Ok(Validity { not_before, not_after })
    }

    fn with_crl_urls(&self, spec: Spec) -> Spec {
        self.crl_url.iter().fold(spec, |spec, url| spec.crl_url(url))
    }

    /// What the certificate of a server or client says. Its names are read as a listener will
    /// read them, so that none is refused there for its form.
    fn peer_spec(&self, validity: Validity) -> Result<Spec, Failure> {
        let mut names = Vec::new();
        for name in &self.names {
            names.push(read_name(name)?);
        }
        for name in &self.dns {
            names.push(PeerName::from_dns_san(name.as_bytes())?);
        }
        for uri in &self.uri {
            names.push(PeerName::from_uri_san(uri.as_bytes())?);
        }
        names.extend(self.ip.iter().copied().map(PeerName::Ip));
        let common_name = match (&self.cn, names.first()) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => name.to_string(),
            (None, None) => return Err("give a NAME, --dns, --uri, --ip or --cn".into()),
        };
        let spec = Spec::new(common_name, validity).key_type(self.key.key_type);
        let spec = if self.server { spec } else { spec.client() };
        let spec = if self.client { spec } else { spec.server() };
        let spec = names.iter().fold(spec, |spec, name| match name {
            PeerName::Dns(_) | PeerName::DnsWildcard(_) => spec.dns(name.to_string()),
            PeerName::Uri(uri) => spec.uri(uri.as_str()),
            PeerName::Ip(address) => spec.ip(*address),
        });
        Ok(self.with_crl_urls(spec))
    }
}

/// Whatever kind of name it is.
fn read_name(text: &str) -> Result<PeerName, String> {
    if let Ok(address) = text.parse() {
        Ok(PeerName::Ip(address))
    } else if text.contains(':') {
        PeerName::from_uri_san(text.as_bytes())
    } else {
        PeerName::from_dns_san(text.as_bytes())
    }
}

/// The serial number of the first certificate of a PEM file, which this CA must have issued.
fn serial_of(file: &Path, ca: &CertificateDer<'_>) -> Result<Vec<u8>, Failure> {
    let problem = |what: &str| format!("{}: {what}", file.display());
    let der = CertificateDer::from_pem_file(file)
        .map_err(|error| problem(&format!("no PEM certificate can be read: {error}")))?;
    let read = |der| x509_parser::parse_x509_certificate(der).map(|(_, certificate)| certificate);
    let certificate = read(&der).map_err(|_| problem("the certificate can't be parsed"))?;
    let ca = read(ca).map_err(|_| "the CA's certificate can't be parsed")?;
    if certificate.issuer().as_raw() != ca.subject().as_raw() {
        let (issuer, ca) = (certificate.issuer(), ca.subject());
        return Err(problem(&format!("it was issued by {issuer}, not by this CA, {ca}")).into());
    }
    Ok(certificate.raw_serial().to_vec())
}

/// A name as a file's: nothing in it leads elsewhere or hides the file.
fn file_name(name: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.chars().map(kept).collect();
    if name.starts_with('.') { format!("_{name}") } else { name }
}

fn describe(entry: &Entry) -> String {
    let Entry { serial, not_after, subject, .. } = entry;
    format!("{subject:?}, valid until {}, serial {}", to_rfc3339(*not_after), to_hex(serial))
}

fn print_ca(folder: &Folder) {
    print_file(&folder.certificate_file(), "its certificate, for those who shall trust it");
    print_file(&folder.key_file(), "its private key, which nobody else needs");
    print_file(&folder.index_file(), "what it has issued and revoked");
}

fn print_file(file: &Path, what: &str) {
    println!("  {}: {what}", file.display());
}

fn warn_if_it_outlives(folder: &Folder, validity: Validity) {
    let Ok((_, ca)) = x509_parser::parse_x509_certificate(folder.authority().der()) else { return };
    let end = ca.validity().not_after.to_datetime();
    if validity.not_after > end {
        eprintln!(
            "warning: its CA ends before it does, at {}; it is worth nothing after that",
            to_rfc3339(end)
        );
    }
}

fn to_rfc3339(time: OffsetDateTime) -> String {
    let time = time.replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(MAX_DAYS))
}

fn key_type() -> impl TypedValueParser<Value = KeyType> {
    one_of(KeyType::ALL, KeyType::as_str)
}

fn reason() -> impl TypedValueParser<Value = Reason> {
    one_of(Reason::ALL, Reason::as_str)
}

/// A word of a closed set.
fn one_of<T: Copy + Send + Sync>(
    all: &'static [T],
    word: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(|value| word(*value))).try_map(move |given| {
        all.iter().copied().find(|value| word(*value) == given).ok_or("it is none of these")
    })
}

/// Octets, big-endian.
#[derive(Debug, Clone)]
struct Serial(Vec<u8>);

fn serial(text: &str) -> Result<Serial, String> {
    from_hex(text).map(Serial).ok_or_else(|| "give hexadecimal digits, as index.txt has it".into())
}

fn rfc3339(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "give a time such as 2026-01-31T00:00:00Z".into())
}

fn dns_name(text: &str) -> Result<String, String> {
    DnsName::parse(text).map(|name| name.to_string())
}

fn url(text: &str) -> Result<String, String> {
    PeerName::from_uri_san(text.as_bytes()).map(|_| text.to_owned())
}
