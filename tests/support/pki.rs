//! Certificates of every kind that a test needs, in a temporary folder.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use countersign::pki::{Authority, Identity, KeyType, Spec, Validity};
use tempfile::TempDir;
use time::OffsetDateTime;

const END: &str = "-----END CERTIFICATE-----";

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A chain and its key, as files and in memory.
#[derive(Debug)]
pub struct Files {
    /// The chain, PEM.
    pub chain: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
    /// The certificates that the client sends after its own, PEM; none if there are none.
    pub intermediates: Option<PathBuf>,
    /// The same in memory.
    pub identity: Identity,
}

impl Files {
    /// The own certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.identity.chain()[0]
    }

    /// As an entry of a listener's `certificates`.
    pub fn toml(&self) -> String {
        format!("{{ chain = {:?}, key = {:?} }}", self.chain, self.key)
    }
}

/// A CA that vouches for `*.contoso.test`, an intermediate below it, and a CA of strangers.
pub struct Pki {
    folder: TempDir,
    /// The trusted root, `ca.pem`.
    pub ca: Authority,
    /// Below the root.
    pub intermediate: Authority,
    /// Trusted by nobody, `stranger-ca.pem`.
    pub stranger_ca: Authority,
}

impl Pki {
    /// The name that clients ask for, and that server certificates are for.
    pub const SERVER: &str = "www.contoso.test";
    /// The name of the client that is let in.
    pub const CLIENT: &str = "fe01.contoso.test";
    /// A name that the CA may vouch for, but which nobody lists.
    pub const UNLISTED: &str = "other.contoso.test";
    /// A name that [`crate::support::Config`] blocks.
    pub const BLOCKED: &str = "blocked.contoso.test";

    /// Makes the CAs.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let validity = Validity::from_now(30 * DAY);
        let ca = Authority::root(&Spec::new("Contoso Root", validity)).unwrap();
        let intermediate = ca.intermediate(&Spec::new("Contoso Issuing", validity)).unwrap();
        let stranger_ca = Authority::root(&Spec::new("Stranger Root", validity)).unwrap();
        fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        fs::write(folder.path().join("stranger-ca.pem"), stranger_ca.pem()).unwrap();
        Self { folder, ca, intermediate, stranger_ca }
    }

    /// The folder that holds everything, the configuration too.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Good for thirty days.
    pub fn validity() -> Validity {
        Validity::from_now(30 * DAY)
    }

    /// What a client's certificate says, with this common name and DNS name.
    pub fn client_spec(name: &str) -> Spec {
        Spec::new(name, Self::validity()).dns(name).client()
    }

    /// What a server's certificate says, with these DNS names, the first as common name.
    pub fn server_spec(names: &[&str]) -> Spec {
        let spec = Spec::new(names[0], Self::validity()).server();
        names.iter().fold(spec, |spec, name| spec.dns(*name))
    }

    /// Issues a certificate and writes it as `FILE.pem` and `FILE.key`.
    pub fn issue(&self, by: &Authority, file: &str, spec: &Spec) -> Files {
        self.write(file, by.issue(spec).unwrap())
    }

    fn write(&self, file: &str, identity: Identity) -> Files {
        let chain = self.file(&format!("{file}.pem"));
        let key = self.file(&format!("{file}.key"));
        fs::write(&chain, identity.chain_pem()).unwrap();
        fs::write(&key, identity.key_pem().as_bytes()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let intermediates = identity.chain_pem().split_once(END).unwrap().1.trim_start();
        let intermediates = (!intermediates.is_empty()).then(|| {
            let path = self.file(&format!("{file}.intermediates.pem"));
            fs::write(&path, intermediates).unwrap();
            path
        });
        Files { chain, key, intermediates, identity }
    }

    /// The server's ECDSA certificate for [`Pki::SERVER`].
    pub fn server(&self) -> Files {
        self.issue(&self.ca, "server", &Self::server_spec(&[Self::SERVER]))
    }

    /// The server's RSA certificate for the same name.
    pub fn server_rsa(&self) -> Files {
        let spec = Self::server_spec(&[Self::SERVER]).key_type(KeyType::Rsa2048);
        self.issue(&self.ca, "server-rsa", &spec)
    }

    /// The client that is let in.
    pub fn client(&self) -> Files {
        self.issue(&self.ca, "client", &Self::client_spec(Self::CLIENT))
    }

    /// Another client, of that name.
    pub fn issue_client(&self, file: &str, name: &str) -> Files {
        self.issue(&self.ca, file, &Self::client_spec(name))
    }

    /// The same client, certified by the intermediate, which it sends along.
    pub fn client_with_intermediate(&self) -> Files {
        self.issue(&self.intermediate, "client-chain", &Self::client_spec(Self::CLIENT))
    }

    /// The same client, certified by the intermediate, which it leaves out.
    pub fn client_without_intermediate(&self) -> Files {
        let spec = Self::client_spec(Self::CLIENT);
        let mut files = self.issue(&self.intermediate, "client-cut", &spec);
        let first = files.identity.chain_pem().split_once(END).unwrap().0.to_owned() + END + "\n";
        fs::write(&files.chain, first).unwrap();
        files.intermediates = None;
        files
    }

    /// The client's name, from a CA that nobody trusts.
    pub fn stranger(&self) -> Files {
        self.issue(&self.stranger_ca, "stranger", &Self::client_spec(Self::CLIENT))
    }

    /// The client's name, expired an hour ago.
    pub fn expired(&self) -> Files {
        let now = OffsetDateTime::now_utc();
        let validity =
            Validity { not_before: now - 2 * DAY, not_after: now - Duration::from_secs(3600) };
        let spec = Spec::new(Self::CLIENT, validity).dns(Self::CLIENT).client();
        self.issue(&self.ca, "expired", &spec)
    }

    /// The client's name, valid from tomorrow.
    pub fn not_yet_valid(&self) -> Files {
        let now = OffsetDateTime::now_utc();
        let validity = Validity { not_before: now + DAY, not_after: now + 2 * DAY };
        let spec = Spec::new(Self::CLIENT, validity).dns(Self::CLIENT).client();
        self.issue(&self.ca, "not-yet-valid", &spec)
    }

    /// The client's name, for use as a server only.
    pub fn wrong_usage(&self) -> Files {
        let spec = Spec::new(Self::CLIENT, Self::validity()).dns(Self::CLIENT).server();
        self.issue(&self.ca, "wrong-usage", &spec)
    }

    /// A name that nobody lists.
    pub fn wrong_name(&self) -> Files {
        self.issue(&self.ca, "wrong-name", &Self::client_spec(Self::UNLISTED))
    }

    /// A name that is blocked.
    pub fn blocked(&self) -> Files {
        self.issue(&self.ca, "blocked", &Self::client_spec(Self::BLOCKED))
    }
}
