//! IP addresses and networks in CIDR notation (RFC 4632).

use std::{fmt, net::IpAddr};

/// All addresses that share a prefix; one address where the prefix is as long as the address.
///
/// An IPv4 network contains no IPv6 address, not even an IPv4-mapped one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Network {
    /// The lowest address.
    address: IpAddr,
    /// 1 to 32 or 1 to 128 bits.
    prefix_bits: u8,
}

impl Network {
    /// The network of this address alone.
    pub(super) fn of(address: IpAddr) -> Self {
        Self { address, prefix_bits: width_bits(address) }
    }

    pub(super) fn prefix_bits(&self) -> u8 {
        self.prefix_bits
    }

    /// The network around it with this shorter prefix.
    pub(super) fn widened_to(&self, prefix_bits: u8) -> Self {
        Self { address: lowest(self.address, prefix_bits), prefix_bits }
    }

    /// Whether the address is one of the network's.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && lowest(address, self.prefix_bits) == self.address
    }

    /// Whether all addresses of the network are addresses of `other`.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.prefix_bits >= other.prefix_bits && other.contains(self.address)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix_bits == width_bits(self.address) {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.prefix_bits)
        }
    }
}

/// Parses an address or a network; `None` if the text is neither and doesn't try to be.
pub(super) fn parse_network(text: &str) -> Result<Option<Network>, String> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        if text.contains([':', '/']) {
            return Err(format!(
                "{text:?} is neither a DNS name, a URI, an address nor a network like 192.0.2.0/24"
            ));
        }
        return Ok(None);
    };
    let width = width_bits(address);
    let prefix_bits = match prefix {
        None => width,
        Some(digits) => digits
            .parse::<u8>()
            .ok()
            .filter(|bits| (1..=width).contains(bits) && bits.to_string() == digits)
            .ok_or_else(|| {
                format!("{text:?} is no network: its prefix length must be 1 to {width}")
            })?,
    };
    let network = Network { address: lowest(address, prefix_bits), prefix_bits };
    if network.address != address {
        return Err(format!("{text:?} has bits set behind its prefix: write {network}"));
    }
    Ok(Some(network))
}

fn width_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with all bits behind the prefix cleared.
fn lowest(address: IpAddr, prefix_bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix_bits.into())).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask =
                u128::MAX.checked_shl(128_u32.saturating_sub(prefix_bits.into())).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}
