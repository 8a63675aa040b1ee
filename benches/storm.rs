//! A storm of handshakes: what it does to established connections, to the handshakes themselves, to
//! memory, and to a partner that was let in before.
//!
//! ```sh
//! cargo build --release && cargo bench --bench storm
//! cargo bench --bench storm -- --key p256 --seconds 20
//! cargo bench --bench storm -- --smoke          # does it run at all: for CI
//! ```
//!
//! One worker on CPU 0; all else, which are threads of this process, on CPU 1. In one run:
//!
//! 1. *quiet*: round trips of 1 KiB on established connections, at a fixed rate;
//! 2. *capacity*: full handshakes in closed loop, by the very clients of the storm;
//! 3. *storm*: full handshakes offered at a multiple of that capacity from many addresses, by
//!    clients that give up after a while, some of which never finish; meanwhile the round trips of
//!    1 go on, and a partner from an address that was let in before connects again and again.
//!
//! The storm's threads run when those that measure latency rest (SCHED_IDLE, by chrt of util-linux),
//! so that these say what the server did. Whether the server or the generator was the limit is told by the CPU that each
//! used; an RSA key of 3072 bits (the default) makes it the server, since clients verify RSA
//! cheaply.
//!
//! Results go to `bench-results/DATE-HOST-storm.json` and `.md`. Nothing is asserted.

#[path = "storm/client.rs"]
mod client;
#[path = "storm/report.rs"]
mod report;
#[path = "storm/site.rs"]
mod site;

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use clap::Parser;
use client::{Clients, Counts};
use countersign::load::{self, ByteSize, Group, Mode, Report, RunArgs};
use report::{Loads, Results};
use site::{Key, Site};

/// Whatever kept it from being measured.
type Failed = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// The server's key
    #[arg(long, value_enum, default_value_t = Key::Rsa3072)]
    key: Key,

    /// `[accel] crypto_mb` of the server
    #[arg(long, default_value = "auto", value_name = "auto|off|FILE")]
    crypto_mb: String,

    /// How long each part goes on
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    /// Handshakes that the storm offers, as a multiple of the capacity
    #[arg(long, default_value_t = 3.0)]
    times: f64,

    /// Clients of the storm that never finish, of a hundred
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    stuck: u8,

    /// After how many milliseconds a client of the storm gives up
    #[arg(long, default_value_t = 2000)]
    patience_ms: u64,

    /// Where results go (default: bench-results; nowhere with --smoke)
    #[arg(long)]
    out: Option<PathBuf>,

    /// One second of each
    #[arg(long)]
    smoke: bool,

    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// The CPU of all but the server.
const LOAD_CPU: usize = 1;
/// Established connections, and their round trips a second.
const CONNECTIONS: u32 = 16;
const ROUND_TRIPS_PER_S: &str = "400/s";
/// Closed-loop clients that find the capacity.
const CAPACITY_CLIENTS: usize = 64;
/// Until the established connections are there.
const RAMP: Duration = Duration::from_millis(500);
/// The partner's address, and how often it connects.
const PARTNER: Ipv4Addr = Ipv4Addr::new(127, 0, 2, 1);
const PARTNER_EVERY: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        // `cargo test --all-targets` runs this as well; a storm is no test.
        println!("skipped: run it with `cargo bench --bench storm`");
        return ExitCode::SUCCESS;
    }
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("storm: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), Failed> {
    site::allow_descriptors()?;
    let window = Duration::from_secs(if options.smoke { 1 } else { options.seconds });
    let site = Site::open(options.key, &options.crypto_mb)?;
    let clients = Clients::new(&site, Duration::from_millis(options.patience_ms))?;

    eprintln!("quiet: {CONNECTIONS} connections, {ROUND_TRIPS_PER_S}");
    let quiet = round_trips(&site, window)?;
    let rss_before_kb = site.memory_kb("VmRSS:")?;

    eprintln!("capacity: {CAPACITY_CLIENTS} clients in closed loop");
    let capacity = Loads::new(&apart(|| clients.closed_loop(CAPACITY_CLIENTS, window))?);

    let rate = capacity.served_per_s * options.times;
    eprintln!("storm: {rate:.0} handshakes a second are offered");
    clients.once(PARTNER)?;
    let stuck = f64::from(options.stuck) / 100.0;
    let (beside, storm, partner) = thread::scope(|scope| {
        let beside = scope.spawn(|| round_trips(&site, window));
        // The established connections are there by then, and their window begins.
        thread::sleep(RAMP * 2);
        let partner =
            scope.spawn(|| apart(|| clients.again_and_again(PARTNER, PARTNER_EVERY, window)));
        let storm = apart(|| clients.open_loop(rate, stuck, window));
        let panicked = || Failed::from("a thread panicked");
        let beside = beside.join().map_err(|_| panicked())?;
        let partner = partner.join().map_err(|_| panicked())?;
        Ok::<_, Failed>((beside?, storm?, partner?))
    })?;
    let results = Results {
        machine: report::Machine::here()?,
        command: std::env::args().skip(1).filter(|word| word != "--bench").collect(),
        key: options.key.name(),
        engine: site.engine()?,
        offered_times_capacity: options.times,
        stuck_share: stuck,
        patience_ms: options.patience_ms,
        quiet: report::Times::of(&quiet)?,
        beside: report::Times::of(&beside)?,
        beside_failed: beside.attempts - beside.ok + beside.unstarted,
        capacity,
        storm: Loads::new(&storm),
        partner: report::Partner::new(&partner),
        rss_before_kb,
        rss_peak_kb: site.memory_kb("VmHWM:")?,
        shed: site.shed()?,
        in_flight_after: site.in_flight_after()?,
    };
    println!("{}", results.markdown());
    let folder = match &options.out {
        Some(folder) => folder,
        None if options.smoke => return Ok(()),
        None => Path::new("bench-results"),
    };
    for file in results.write(folder)? {
        eprintln!("wrote {}", file.display());
    }
    Ok(())
}

/// Runs it on a thread of its own on the load's CPU, from which whatever measures latency takes it
/// at once.
fn apart(call: impl FnOnce() -> Result<Counts, Failed> + Send) -> Result<Counts, Failed> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            core_affinity::set_for_current(core_affinity::CoreId { id: LOAD_CPU });
            let own = rustix::thread::gettid().to_string();
            let done = Command::new("chrt").args(["--idle", "--pid", "0", &own]).status();
            if !done.map_err(|error| format!("chrt: {error}"))?.success() {
                return Err("chrt can't make the storm's threads idle".into());
            }
            call()
        });
        thread.join().map_err(|_| Failed::from("a thread panicked"))?
    })
}

/// Round trips of 1 KiB on established connections, in open loop.
fn round_trips(site: &Site, window: Duration) -> Result<Report, Failed> {
    let args = RunArgs {
        target: site.address().to_string(),
        mode: Mode::Request,
        ca: Some(site.file("ca.pem")),
        sni: Some(site::SERVER_NAME.to_owned()),
        cert: vec![site.file("client.pem")],
        key: vec![site.file("client.key")],
        tls: None,
        group: Some(Group::X25519),
        cipher: None,
        connections: CONNECTIONS,
        duration: Some(window),
        count: None,
        size: ByteSize(1024),
        rate: Some(ROUND_TRIPS_PER_S.parse()?),
        threads: 1,
        cpus: Some(LOAD_CPU.to_string().parse()?),
        ramp: RAMP,
        timeout: Duration::from_secs(10),
        server_pid: vec![site.pid()],
        server_cgroup: None,
        json: false,
        plain: false,
    };
    Ok(load::run(&args)?)
}
