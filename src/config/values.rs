//! Values that the configuration writes as strings: CPU lists and addresses.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use super::ServerAddress;
use crate::crypto::{Choice, Verifying};

/// The highest CPU number that is understood: what the kernel's affinity masks hold by default.
const CPU_MAX: usize = 1023;

/// `"auto"`, which is `None`, or a list such as `"0-7,16"`, in its order, none twice.
pub(super) fn parse_cpus(text: &str) -> Result<Option<Vec<usize>>, String> {
    if text == "auto" {
        return Ok(None);
    }
    let accepted = || {
        format!("it takes \"auto\" or different CPUs and ranges from 0 to {CPU_MAX}: \"0-7,16\"")
    };
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = parse_cpu(first).zip(parse_cpu(last)).ok_or_else(accepted)?;
        if first > last {
            return Err(accepted());
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(format!("CPU {cpu} is listed twice; {}", accepted()));
            }
            cpus.push(cpu);
        }
    }
    Ok(Some(cpus))
}

fn parse_cpu(text: &str) -> Option<usize> {
    let digits = text.trim();
    // `parse` alone would take a sign.
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?;
    number.filter(|cpu| *cpu <= CPU_MAX)
}

/// How much memory sessions may take, such as `"64MiB"`, in bytes.
pub(super) fn parse_cache_bytes(text: &str) -> Result<usize, String> {
    /// Below the first a few clients push each other out; the second is more than they ever need.
    const CACHE_BYTES: RangeInclusive<usize> = (1 << 20)..=(64 << 30);
    const UNITS: [(&str, usize); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let of_unit = |(unit, factor): &(&str, usize)| {
        let digits = text.strip_suffix(unit)?.trim_end();
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<usize>().ok()?.checked_mul(*factor))?
    };
    UNITS.iter().find_map(of_unit).filter(|bytes| CACHE_BYTES.contains(bytes)).ok_or_else(|| {
        "it takes a size from \"1MiB\" to \"64GiB\", with KiB, MiB or GiB: \"64MiB\"".to_owned()
    })
}

/// `"auto"`, `"off"`, or the absolute path of a library.
pub(super) fn parse_crypto_mb(text: &str) -> Result<Choice, String> {
    match text {
        "auto" => Ok(Choice::Auto),
        "off" => Ok(Choice::Off),
        path if Path::new(path).is_absolute() => Ok(Choice::File(path.into())),
        _ => Err("it takes \"auto\", \"off\", or the absolute path of libcrypto_mb.so".to_owned()),
    }
}

/// `"aws-lc-rs"` or `"crypto_mb"`.
pub(super) fn parse_verifying(text: &str) -> Result<Verifying, String> {
    match text {
        "aws-lc-rs" => Ok(Verifying::AwsLcRs),
        "crypto_mb" => Ok(Verifying::CryptoMb),
        _ => Err("it takes \"aws-lc-rs\" or \"crypto_mb\"".to_owned()),
    }
}

/// An address to listen on.
pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().ok().filter(|address: &SocketAddr| address.port() != 0).ok_or_else(|| {
        "it takes an IP address and a port from 1 to 65535: \"0.0.0.0:5061\", \"[::]:5061\""
            .to_owned()
    })
}

/// `"off"`, which is `None`, or an address to listen on.
pub(super) fn parse_listen_or_off(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "off" => Ok(None),
        _ => parse_listen(text).map(Some).map_err(|error| error + ", or \"off\""),
    }
}

/// The longest path of a Unix socket, in bytes: `sun_path` has 108 with the closing zero.
const UNIX_PATH_LEN_MAX: usize = 107;

/// A server of a backend. `localhost` is 127.0.0.1; no other name is looked up, since DNS is
/// only as trustworthy as the network.
pub(super) fn parse_server(text: &str) -> Result<ServerAddress, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let fits = Path::new(path).is_absolute()
            && path.len() <= UNIX_PATH_LEN_MAX
            && !path.contains('\0');
        return fits.then(|| ServerAddress::Unix(PathBuf::from(path))).ok_or_else(|| {
            format!(
                "it takes an absolute path of at most {UNIX_PATH_LEN_MAX} bytes: \
                     \"unix:/run/server.sock\""
            )
        });
    }
    let localhost = text.strip_prefix("localhost:").and_then(parse_port);
    let localhost = localhost.map(|port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    localhost
        .or_else(|| text.parse().ok())
        .filter(|address: &SocketAddr| address.port() != 0 && !address.ip().is_unspecified())
        .map(ServerAddress::Tcp)
        .ok_or_else(|| {
            "it takes an IP address (or localhost) and a port from 1 to 65535, \
             \"127.0.0.1:5060\", \"[::1]:5060\", or \"unix:/path\"; names are not looked up"
                .to_owned()
        })
}

fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Whether a listener on `wild` also gets what is sent to `other`, though they differ. A socket
/// on `[::]` is for IPv6 alone.
pub(super) fn covers(wild: SocketAddr, other: SocketAddr) -> bool {
    let same_family = matches!(
        (wild.ip(), other.ip()),
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_))
    );
    wild != other && same_family && wild.ip().is_unspecified() && wild.port() == other.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read_in_their_order() {
        assert_eq!(parse_cpus("auto"), Ok(None));
        assert_eq!(parse_cpus("3, 0-1"), Ok(Some(vec![3, 0, 1])));
        assert_eq!(parse_cpus("0-1023").unwrap().unwrap().len(), 1024);
    }

    #[test]
    fn cpu_lists_that_say_something_twice_or_nothing_are_refused() {
        for wrong in ["", "1,", "1-", "-1", "+1", "2-1", "0-1024", "0-3,2", "1 2", "a"] {
            assert!(parse_cpus(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sizes_have_a_unit_and_bounds() {
        assert_eq!(parse_cache_bytes("1MiB"), Ok(1 << 20));
        assert_eq!(parse_cache_bytes("1536 KiB"), Ok(3 << 19));
        assert_eq!(parse_cache_bytes("64GiB"), Ok(64 << 30));
        for wrong in ["", "MiB", "64", "64MB", "1023KiB", "65GiB", "-1MiB", "+2MiB", "1.5MiB"] {
            assert!(parse_cache_bytes(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse_cache_bytes(&format!("{}GiB", usize::MAX)).is_err());
    }

    #[test]
    fn servers_are_addresses_and_never_names() {
        let tcp = |text: &str| Ok(ServerAddress::Tcp(text.parse().unwrap()));
        assert_eq!(parse_server("localhost:80"), tcp("127.0.0.1:80"));
        assert_eq!(parse_server("[::1]:65535"), tcp("[::1]:65535"));
        assert_eq!(parse_server("unix:/run/a b"), Ok(ServerAddress::Unix("/run/a b".into())));
        for wrong in [
            "backend.test:80",
            "127.0.0.1",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "localhost:+80",
            "localhost:0",
            "0.0.0.0:80",
            "[::]:80",
            "::1:80",
            "unix:run/a",
            "unix:",
            "",
        ] {
            assert!(parse_server(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse_server(&format!("unix:/{}", "a".repeat(107))).is_err());
    }

    #[test]
    fn listening_needs_an_address_and_a_port() {
        assert!(parse_listen("[::]:5061").is_ok());
        for wrong in ["5061", ":5061", "*:5061", "0.0.0.0:0", "localhost:5061", "0.0.0.0"] {
            assert!(parse_listen(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_wildcard_covers_its_own_family_and_port_only() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(covers(address("0.0.0.0:1"), address("127.0.0.1:1")));
        assert!(!covers(address("0.0.0.0:1"), address("127.0.0.1:2")));
        assert!(!covers(address("0.0.0.0:1"), address("[::]:1")));
        assert!(!covers(address("0.0.0.0:1"), address("0.0.0.0:1")));
        assert!(!covers(address("127.0.0.1:1"), address("127.0.0.1:1")));
    }
}
