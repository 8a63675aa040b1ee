//! Where the storm takes place: certificates, a backend, and the server under test.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use countersign::{
    load::{Backend, BackendMode},
    pki::{Authority, Identity, KeyType, Spec, Validity},
};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    version::TLS13,
};
use tempfile::TempDir;

use crate::{Failed, LOAD_CPU};

/// The name that clients ask for.
pub(crate) const SERVER_NAME: &str = "server.bench.test";
/// The name that clients prove.
const CLIENT_NAME: &str = "client.bench.test";
/// The server's CPU.
const SERVER_CPU: usize = 0;
/// How long the server may take to start, or to come to rest.
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);
/// What the CPU times of proc(5) count in, on Linux x86_64.
const TICKS_A_SECOND: u64 = 100;

/// The server's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Key {
    /// ECDSA P-256: clients work harder than the server.
    P256,
    /// RSA with 2048 bits: the server works a little harder.
    Rsa2048,
    /// RSA with 3072 bits: the server works much harder, so that it is the limit.
    Rsa3072,
}

impl Key {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::P256 => "ECDSA P-256",
            Self::Rsa2048 => "RSA-2048",
            Self::Rsa3072 => "RSA-3072",
        }
    }
}

/// A running server with its backend; dropping it ends both.
#[derive(Debug)]
pub(crate) struct Site {
    server: Child,
    _backend: Backend,
    address: SocketAddr,
    admin: SocketAddr,
    ca: Authority,
    client: Identity,
    // Last: the folder outlives whoever uses it.
    folder: TempDir,
}

impl Site {
    pub(crate) fn open(key: Key, crypto_mb: &str) -> Result<Self, Failed> {
        let folder = TempDir::new()?;
        let file = |name: &str| folder.path().join(name);
        let validity = Validity::from_now(Duration::from_secs(24 * 3600));
        let ca = Authority::root(&Spec::new("storm CA", validity))?;
        let own = Spec::new("server", validity).dns(SERVER_NAME).server();
        let own = match key {
            Key::P256 => own,
            Key::Rsa2048 => own.key_type(KeyType::Rsa2048),
            Key::Rsa3072 => own.key_type(KeyType::Rsa3072),
        };
        ca.issue(&own)?.write(&file("server.pem"), &file("server.key"))?;
        let client = ca.issue(&Spec::new("client", validity).dns(CLIENT_NAME).client())?;
        client.write(&file("client.pem"), &file("client.key"))?;
        fs::write(file("ca.pem"), ca.pem())?;

        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let cpus = LOAD_CPU.to_string().parse()?;
        let backend = Backend::start(BackendMode::Echo, local, 1, Some(&cpus))?;
        let [address, admin] = free_addresses()?;
        fs::write(
            file("countersign.toml"),
            configuration(crypto_mb, address, admin, backend.address()),
        )?;
        let server = spawn(folder.path())?;
        let site = Self { server, _backend: backend, address, admin, ca, client, folder };
        site.wait_until_it_serves()?;
        Ok(site)
    }

    fn wait_until_it_serves(&self) -> Result<(), Failed> {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(self.admin).is_err() {
            if Instant::now() > until {
                let log = fs::read_to_string(self.file("log")).unwrap_or_default();
                return Err(format!("the server doesn't start:\n{log}").into());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.id()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn client_config(&self) -> Result<ClientConfig, Failed> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone())?;
        let provider = CryptoProvider {
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(self.client.chain().to_vec(), self.client.key_der())?;
        Ok(config)
    }

    /// A line of the server's status (proc(5)), in kB.
    pub(crate) fn memory_kb(&self, line: &str) -> Result<u64, Failed> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let value = status.lines().find_map(|known| known.strip_prefix(line));
        Ok(value
            .and_then(|value| value.split_whitespace().next())
            .ok_or("no such line")?
            .parse()?)
    }

    /// What the server says about how it computes handshakes.
    pub(crate) fn engine(&self) -> Result<String, Failed> {
        let log = fs::read_to_string(self.file("log"))?;
        let line = log.lines().find(|line| line.contains("handshakes are computed"));
        let said = line.and_then(|line| line.split("handshakes are ").nth(1)).unwrap_or_default();
        let said = said.split(" why=").next().unwrap_or_default().trim();
        Ok(said.replace(" engine=", ", by ").replace('"', ""))
    }

    /// Whom the server has turned away, by reason.
    pub(crate) fn shed(&self) -> Result<BTreeMap<String, f64>, Failed> {
        let text = self.metrics()?;
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("countersign_handshakes_shed_total{reason=\"")?;
            let (reason, value) = rest.split_once("\"}")?;
            Some((reason.to_owned(), value.trim().parse().ok()?))
        });
        Ok(samples.collect())
    }

    /// Handshakes that are in flight when the storm is over; those that never finish first take
    /// their time-out.
    pub(crate) fn in_flight_after(&self) -> Result<f64, Failed> {
        let until = Instant::now() + PATIENCE;
        loop {
            let text = self.metrics()?;
            let gauge = text
                .lines()
                .find_map(|line| line.strip_prefix("countersign_handshakes_in_flight "))
                .ok_or("no such metric")?
                .trim()
                .parse()?;
            if gauge == 0.0 || Instant::now() > until {
                return Ok(gauge);
            }
            thread::sleep(POLL);
        }
    }

    fn metrics(&self) -> Result<String, Failed> {
        let mut socket = TcpStream::connect(self.admin)?;
        socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.server.wait();
    }
}

/// CPU time of a process, its threads included.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration, Failed> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold blanks, and ends with the last parenthesis: the state is next.
    let (_, rest) = stat.rsplit_once(')').ok_or("no such process")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || -> Result<u64, Failed> { Ok(fields.next().ok_or("too short")?.parse()?) };
    Ok(Duration::from_millis((ticks()? + ticks()?) * 1000 / TICKS_A_SECOND))
}

/// This process, and by inheritance the server, may have as many descriptors as this user may.
pub(crate) fn allow_descriptors() -> Result<(), Failed> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

fn configuration(
    crypto_mb: &str,
    address: SocketAddr,
    admin: SocketAddr,
    backend: SocketAddr,
) -> String {
    format!(
        r#"[accel]
crypto_mb = "{crypto_mb}"

[workers]
cpus = "{SERVER_CPU}"

[admin]
listen = "{admin}"

[log]
connections = false

[trust.bench]
ca = ["ca.pem"]
names = ["{CLIENT_NAME}"]
revocation = "off"

[peers.clients]
trust = "bench"
names = ["{CLIENT_NAME}"]

[backends.echo]
servers = ["{backend}"]

[[listener]]
name = "storm"
listen = ["{address}"]
client_auth = "required"
peers = ["clients"]
certificates = [{{ chain = "server.pem", key = "server.key" }}]
backend = "echo"
"#
    )
}

/// The release build of this crate, or `COUNTERSIGN_BIN`.
fn program() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/countersign");
    std::env::var_os("COUNTERSIGN_BIN").map_or_else(own, PathBuf::from)
}

fn spawn(folder: &Path) -> Result<Child, Failed> {
    let log = File::create(folder.join("log"))?;
    let mut command = Command::new(program());
    command.args(["run", "--config"]).arg(folder.join("countersign.toml"));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command.spawn().map_err(|error| format!("{}: {error}", program().display()))?)
}

/// Two addresses that were free a moment ago.
fn free_addresses() -> Result<[SocketAddr; 2], Failed> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let held = [bind()?, bind()?];
    Ok([held[0].local_addr()?, held[1].local_addr()?])
}
