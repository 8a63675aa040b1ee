//! DNS names: RFC 1035 limits, host name characters, A-labels only.

use std::fmt;

/// Octets of a name in presentation format without the trailing dot (RFC 1035 §2.3.4: 255 on the
/// wire, which counts a length before each label and the root).
const MAX_NAME_BYTES: usize = 253;

/// Octets of one label (RFC 1035 §2.3.4).
const MAX_LABEL_BYTES: usize = 63;

/// A DNS name in lower case, without a trailing dot; labels of letters, digits, hyphens and
/// underscores, each A-label (`xn--`) decodable.
///
/// Underscores are no host name characters (RFC 952) but common inside private networks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DnsName(Box<str>);

impl DnsName {
    /// Parses a name without wildcards; the error says what would be accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a name is empty".to_owned());
        }
        if !text.is_ascii() {
            return Err(format!(
                "{text:?} isn't ASCII: give internationalised labels as A-labels (xn--…), as they \
                 stand in the certificate"
            ));
        }
        if text.contains('*') {
            return Err(format!(
                "{text:?} has a wildcard where none is understood: a wildcard is the whole first \
                 label, as in *.contoso.test"
            ));
        }
        if text.ends_with('.') {
            return Err(format!("{text:?} ends in a dot: leave it out"));
        }
        if text.len() > MAX_NAME_BYTES {
            return Err(format!(
                "a DNS name has at most {MAX_NAME_BYTES} characters, not {}",
                text.len()
            ));
        }
        let name = text.to_ascii_lowercase();
        for label in name.split('.') {
            check_label(label).map_err(|why| format!("{text:?} is no DNS name: {why}"))?;
        }
        // RFC 1123 §2.1: a host name can't be mistaken for an address.
        if name.rsplit('.').next().is_some_and(|top| top.bytes().all(|b| b.is_ascii_digit())) {
            return Err(format!(
                "{text:?} is no DNS name: its last label is a number (addresses are iPAddress \
                 names in certificates)"
            ));
        }
        Ok(Self(name.into()))
    }

    /// Parses what follows `*.`; there must be room for a label before it.
    pub(super) fn parse_parent(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a wildcard needs a domain behind it, as in *.contoso.test".to_owned());
        }
        if text.len() > MAX_NAME_BYTES - 2 {
            return Err(format!("no name below {text:?} is short enough for a DNS name"));
        }
        Self::parse(text)
    }

    /// In lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the first label; `None` if it is the only one.
    pub(super) fn parent(&self) -> Option<&str> {
        self.0.split_once('.').map(|(_, parent)| parent)
    }

    /// Whether `base` is a parent or further ancestor of this name.
    pub(super) fn is_below(&self, base: &Self) -> bool {
        self.0.strip_suffix(&*base.0).is_some_and(|rest| rest.ends_with('.'))
    }

    /// Whether this name is one label longer than `parent`.
    pub(super) fn is_child_of(&self, parent: &Self) -> bool {
        self.parent() == Some(&*parent.0)
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_label(label: &str) -> Result<(), String> {
    if label.is_empty() {
        return Err("a label is empty".to_owned());
    }
    if label.len() > MAX_LABEL_BYTES {
        return Err(format!("a label has at most {MAX_LABEL_BYTES} characters"));
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if !label.bytes().all(allowed) {
        return Err(format!("{label:?} has other characters than letters, digits, '-' and '_'"));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(format!("{label:?} starts or ends with a hyphen"));
    }
    match label.strip_prefix("xn--") {
        Some(encoded) if !is_punycode(encoded) => {
            Err(format!("{label:?} is no valid A-label (RFC 5891 §4.2)"))
        }
        _ => Ok(()),
    }
}

/// Whether Punycode (RFC 3492 §6.2) decodes to Unicode text that isn't plain ASCII.
fn is_punycode(encoded: &str) -> bool {
    const BASE: u32 = 36;
    const T_MIN: u32 = 1;
    const T_MAX: u32 = 26;
    const SKEW: u32 = 38;
    const DAMP: u32 = 700;

    let (basic, digits) = encoded.rsplit_once('-').unwrap_or(("", encoded));
    if digits.is_empty() {
        return false;
    }
    let Ok(mut length) = u32::try_from(basic.len()) else { return false };
    let (mut code_point, mut index, mut bias) = (128_u32, 0_u32, 72_u32);
    let mut digits = digits.bytes().peekable();
    while digits.peek().is_some() {
        let start = index;
        let mut weight = 1_u32;
        for k in 1_u32.. {
            let digit = match digits.next() {
                Some(b @ b'a'..=b'z') => u32::from(b - b'a'),
                Some(b @ b'0'..=b'9') => u32::from(b - b'0') + 26,
                _ => return false,
            };
            let Some(next) = digit.checked_mul(weight).and_then(|d| index.checked_add(d)) else {
                return false;
            };
            index = next;
            let threshold = (k * BASE).saturating_sub(bias).clamp(T_MIN, T_MAX);
            if digit < threshold {
                break;
            }
            let Some(next) = weight.checked_mul(BASE - threshold) else { return false };
            weight = next;
        }
        length += 1;
        let mut delta = (index - start) / if start == 0 { DAMP } else { 2 };
        delta += delta / length;
        let mut steps = 0;
        while delta > (BASE - T_MIN) * T_MAX / 2 {
            delta /= BASE - T_MIN;
            steps += BASE;
        }
        bias = steps + (BASE - T_MIN + 1) * delta / (delta + SKEW);
        let Some(next) = code_point.checked_add(index / length) else { return false };
        code_point = next;
        index %= length;
        if char::from_u32(code_point).is_none() {
            return false;
        }
        index += 1;
    }
    true
}
