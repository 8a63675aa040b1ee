//! What an identity shows, and what it never shows.

use proptest::prelude::*;
use rcgen::{DnType, KeyPair, SerialNumber};

use super::*;
use crate::trust::{Identity, Peer, proof::Proof};

#[test]
fn an_identity_shows_names_serial_and_fingerprint() {
    let ca = Ca::root("Contoso Root");
    let leaf = ca.leaf_with("fe01.contoso.test", |params| {
        params.serial_number = Some(SerialNumber::from_slice(&[0x00, 0x0a, 0xbc]));
        params.distinguished_name.push(DnType::OrganizationName, "Contoso, Ltd.");
        params.subject_alt_names.push(uri("sip:fe01@contoso.test"));
    });
    let identity = Identity::from_der(&leaf).unwrap();
    assert_eq!(identity.subject(), "O=Contoso\\, Ltd.,CN=fe01.contoso.test");
    assert_eq!(identity.issuer(), "CN=Contoso Root");
    assert_eq!(identity.serial(), "0ABC");
    assert_eq!(identity.common_name(), Some("fe01.contoso.test"));
    let names: Vec<_> = identity.names().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["fe01.contoso.test", "sip:fe01@contoso.test"]);
    let expected = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &leaf);
    assert_eq!(identity.fingerprint(), expected.as_ref());
}

#[test]
fn an_identity_without_a_subject_has_no_common_name() {
    let ca = Ca::root("Contoso Root");
    let leaf = ca.leaf_with("fe01.contoso.test", |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
    });
    let identity = Identity::from_der(&leaf).unwrap();
    assert_eq!((identity.subject(), identity.common_name()), ("", None));
}

#[test]
fn a_permit_is_small() {
    assert_eq!(size_of::<Permit>(), size_of::<usize>());
    // Shared by all connections that show the same chain.
    let (peer, proof) = (size_of::<Peer>(), size_of::<Proof>());
    assert!(peer <= 96 && proof <= 264, "{peer} {proof}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_a_subject_holds_its_text_is_short_and_has_no_control_characters(
        value in "[\\PC\u{0}-\u{1f}\u{202a}-\u{202e}]{0,300}",
    ) {
        let mut params = leaf_params("fe01.contoso.test");
        params.distinguished_name.push(DnType::OrganizationName, value.as_str());
        params.distinguished_name.push(DnType::CommonName, value.as_str());
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        let identity = Identity::from_der(&der).unwrap();
        let texts = [identity.subject(), identity.issuer(), identity.common_name().unwrap_or("")];
        for text in texts {
            prop_assert!(text.len() <= 512);
            let deceives = |c: char| c.is_control() || (0x202a..=0x202e).contains(&u32::from(c));
            prop_assert!(!text.chars().any(deceives));
        }
    }

    #[test]
    fn a_damaged_certificate_is_read_or_refused_but_never_panics(
        position in any::<prop::sample::Index>(), value in any::<u8>(),
    ) {
        let mut der = Ca::root("Contoso Root").leaf("fe01.contoso.test").to_vec();
        let position = position.index(der.len());
        der[position] = value;
        let _ = Identity::from_der(&der.into());
    }
}
