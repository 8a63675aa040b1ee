//! Distinguished names as text for logs and headers, after RFC 4514.

use std::fmt::Write as _;

use x509_parser::{
    asn1_rs::{Any, Oid, Tag},
    x509::X509Name,
};

/// Bytes of a name as text; a longer one ends in an ellipsis. What comes from a stranger must not
/// fill logs, headers and memory.
pub(super) const MAX_NAME_BYTES: usize = 512;

/// Bytes of one attribute value that are looked at.
const MAX_VALUE_BYTES: usize = 256;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The name with its most specific part first (RFC 4514 §2.1), at most [`MAX_NAME_BYTES`] long.
/// Beyond what the RFC asks for, characters that control a terminal or the direction of text are
/// escaped too.
pub(super) fn to_text(name: &X509Name<'_>) -> String {
    let rdns: Vec<_> = name.iter().collect();
    let mut out = String::new();
    for (index, rdn) in rdns.into_iter().rev().enumerate() {
        for (position, attribute) in rdn.iter().enumerate() {
            if out.len() > MAX_NAME_BYTES {
                break;
            }
            if position > 0 {
                out.push('+');
            } else if index > 0 {
                out.push(',');
            }
            push_type(&mut out, attribute.attr_type());
            out.push('=');
            match text_of(attribute.attr_value()) {
                Some(text) => push_escaped(&mut out, &text),
                None => push_hex(&mut out, attribute.attr_value()),
            }
        }
    }
    truncate(out)
}

/// The values of the commonName attributes, in the order of the certificate; `None` for one that
/// isn't text.
pub(super) fn common_names(name: &X509Name<'_>) -> Vec<Option<String>> {
    name.iter_attributes()
        .filter(|attribute| attribute.attr_type().as_bytes() == COMMON_NAME)
        .map(|attribute| text_of(attribute.attr_value()))
        .collect()
}

/// A single value with control characters escaped, at most [`MAX_NAME_BYTES`] long.
pub(super) fn printable(value: &str) -> String {
    let mut out = String::new();
    for c in value.chars().take(MAX_NAME_BYTES) {
        push_char(&mut out, c);
    }
    truncate(out)
}

fn push_type(out: &mut String, oid: &Oid<'_>) {
    // RFC 4514 §3, and two that everybody else's tools print by name as well.
    let known = match oid.as_bytes() {
        COMMON_NAME => "CN",
        [0x55, 0x04, 0x05] => "serialNumber",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x09] => "STREET",
        [0x55, 0x04, 0x0a] => "O",
        [0x55, 0x04, 0x0b] => "OU",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => "DC",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01] => "UID",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01] => "emailAddress",
        other if other.len() <= MAX_OID_BYTES => return out.push_str(&oid.to_id_string()),
        _ => "unknown",
    };
    out.push_str(known);
}

/// Encoded bytes of an attribute type that is printed in dotted form.
const MAX_OID_BYTES: usize = 32;

fn text_of(value: &Any<'_>) -> Option<String> {
    let bytes = value.data.get(..MAX_VALUE_BYTES).unwrap_or(value.data);
    match value.tag() {
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::NumericString
        | Tag::VisibleString
        | Tag::T61String => match std::str::from_utf8(bytes) {
            Ok(text) => Some(text.to_owned()),
            // Cut inside a character, by us.
            Err(error) if error.error_len().is_none() && bytes.len() < value.data.len() => {
                std::str::from_utf8(&bytes[..error.valid_up_to()]).ok().map(str::to_owned)
            }
            Err(_) => None,
        },
        Tag::BmpString if bytes.len() % 2 == 0 => {
            let units = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<String, _>>().ok()
        }
        _ => None,
    }
}

/// RFC 4514 §2.4
fn push_escaped(out: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        let at_edge = (index == 0 && matches!(c, ' ' | '#')) || (index == last && c == ' ');
        if at_edge || matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=') {
            out.push('\\');
            out.push(c);
        } else {
            push_char(out, c);
        }
    }
}

fn push_char(out: &mut String, c: char) {
    // Line and paragraph separators, marks and overrides of direction, invisible joiners.
    let deceives = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}' | '\u{fff9}'..='\u{fffb}');
    if c.is_control() || deceives {
        let mut buffer = [0; 4];
        for byte in c.encode_utf8(&mut buffer).bytes() {
            // Writing to a String can't fail.
            let _ = write!(out, "\\{byte:02X}");
        }
    } else {
        out.push(c);
    }
}

fn push_hex(out: &mut String, value: &Any<'_>) {
    out.push('#');
    for byte in value.data.iter().take(MAX_VALUE_BYTES) {
        let _ = write!(out, "{byte:02X}");
    }
}

fn truncate(mut text: String) -> String {
    const ELLIPSIS: char = '…';
    if text.len() > MAX_NAME_BYTES {
        let mut end = MAX_NAME_BYTES - ELLIPSIS.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push(ELLIPSIS);
    }
    text
}
