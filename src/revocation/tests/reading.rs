//! What is read, what is refused and why, and that nothing makes the reader panic.

use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use rustls_pki_types::alg_id;

use super::{
    Ca, Crl, CrlError, DAY, Draft, MAX_CRL_BYTES, NOW, Reason, at, crl_number, entry, extension,
    generalized, number, parse_all, reason, sequence, standard, tlv,
};

#[test]
fn what_a_crl_says_is_read() {
    let ca = Ca::new("Contoso Root");
    let key_identifier = sequence(&[&tlv(0x80, &[0xab, 0x01])]);
    let crl = Draft::new(0x1_23, &[9])
        .with(standard(35, false, &key_identifier))
        .entry(entry(&[0x80, 0x01], &[reason(1), standard(24, false, &generalized(NOW))]))
        .signed_by(&ca);
    assert_eq!(crl.entries(), 2);
    assert_eq!((crl.this_update(), crl.next_update()), (at(NOW - DAY), at(NOW + DAY)));
    assert_eq!(crl.number().unwrap().to_string(), "0123");
    assert_eq!(crl.issuer(), "CN=Contoso Root");
    assert_eq!(crl.authority_key_id().unwrap(), "AB01");
    assert_eq!(crl.scope(), "");
    let found = crl.find(&[0x80, 0x01]).unwrap();
    assert_eq!((found.at, found.reason), (at(NOW - 2 * DAY), Reason::KeyCompromise));
    assert_eq!(crl.find(&[9]).unwrap().reason, Reason::Unspecified);
    assert_eq!(crl.find(&[10]), None);
}

#[test]
fn a_serial_number_is_found_with_and_without_leading_zeros() {
    let crl = Draft::new(1, &[0x80, 0]).signed_by(&Ca::new("Contoso Root"));
    for serial in [&[0x80][..], &[0, 0x80], &[0, 0, 0x80], &[0], &[]] {
        assert!(crl.find(serial).is_some(), "{serial:?}");
    }
    assert!(crl.find(&[0x80, 0]).is_none());
}

#[test]
fn times_of_both_kinds_and_centuries_are_read() {
    let ca = Ca::new("Contoso Root");
    let mut draft = Draft::new(1, &[]);
    draft.this_update = tlv(0x17, b"491231235959Z");
    draft.next_update = generalized(2_524_608_000);
    let crl = draft.signed_by(&ca);
    assert_eq!((crl.this_update(), crl.next_update()), (at(2_524_607_999), at(2_524_608_000)));
    draft.this_update = tlv(0x17, b"500101000000Z");
    assert_eq!(draft.signed_by(&ca).this_update(), at(0), "before 1970");
}

#[test]
fn a_time_without_seconds_or_in_another_zone_is_refused() {
    for text in
        ["2912312359Z", "291231235959+0100", "291231235960Z", "290229000000Z", "2912312359 9Z"]
    {
        let mut draft = Draft::new(1, &[]);
        draft.this_update = tlv(0x17, text.as_bytes());
        assert_eq!(draft.refused(), CrlError::Malformed("its thisUpdate"), "{text}");
    }
}

#[test]
fn a_delta_crl_is_refused() {
    let draft = Draft::new(2, &[]).with(standard(27, true, &number(1)));
    assert_eq!(draft.refused(), CrlError::Delta);
    let draft = Draft::new(2, &[]).with(standard(27, false, &number(1)));
    assert_eq!(draft.refused(), CrlError::Delta, "nor if it isn't marked as critical");
}

#[test]
fn an_entry_of_another_issuer_makes_a_crl_indirect_and_refused() {
    for is_critical in [true, false] {
        let of_another = entry(&[1], &[standard(29, is_critical, &sequence(&[]))]);
        assert_eq!(Draft::new(1, &[]).entry(of_another).refused(), CrlError::Indirect);
    }
}

#[test]
fn an_unknown_critical_extension_of_the_crl_is_refused_and_another_one_passed_over() {
    let unknown = |is_critical| extension(&[0x2a, 0x03, 0x04], is_critical, &[]);
    assert_eq!(
        Draft::new(1, &[]).with(unknown(true)).refused(),
        CrlError::UnknownCriticalExtension("1.2.3.4".to_owned())
    );
    Draft::new(1, &[]).with(unknown(false)).signed_by(&Ca::new("Contoso Root"));
    // freshestCRL is known, and must not be critical: it isn't followed.
    assert_eq!(
        Draft::new(1, &[]).with(standard(46, true, &[])).refused(),
        CrlError::UnknownCriticalExtension("2.5.29.46".to_owned())
    );
}

#[test]
fn an_unknown_critical_extension_of_an_entry_is_refused_and_another_one_passed_over() {
    let with = |is_critical| {
        let unknown = extension(&[0x2a, 0x03, 0x04], is_critical, &[]);
        Draft::new(1, &[]).entry(entry(&[1], &[unknown]))
    };
    assert_eq!(with(true).refused(), CrlError::UnknownCriticalEntryExtension("1.2.3.4".to_owned()));
    assert!(with(false).signed_by(&Ca::new("Contoso Root")).find(&[1]).is_some());
}

#[test]
fn an_entry_to_be_removed_is_refused() {
    let draft = Draft::new(1, &[]).entry(entry(&[1], &[reason(8)]));
    assert_eq!(draft.refused(), CrlError::RemoveFromCrl);
}

#[test]
fn every_other_reason_is_read_and_undefined_ones_are_refused() {
    let ca = Ca::new("Contoso Root");
    for known in Reason::ALL {
        let code = known as u8;
        let crl = Draft::new(1, &[]).entry(entry(&[1], &[reason(code)])).signed_by(&ca);
        assert_eq!(crl.find(&[1]).unwrap().reason, known);
    }
    for code in [7, 11, 255] {
        let draft = Draft::new(1, &[]).entry(entry(&[1], &[reason(code)]));
        assert_eq!(draft.refused(), CrlError::Malformed("the reason of an entry"));
    }
    let twice = Draft::new(1, &[]).entry(entry(&[1], &[reason(1), reason(2)]));
    assert_eq!(twice.refused(), CrlError::Malformed("an entry has two reasons"));
}

#[test]
fn a_crl_without_next_update_is_refused() {
    for revoked in [&[][..], &[1]] {
        let mut draft = Draft::new(1, revoked);
        draft.next_update.clear();
        assert_eq!(draft.refused(), CrlError::NoNextUpdate);
    }
    let ends_early = Draft::new(1, &[]).times(NOW, NOW);
    assert_eq!(ends_early.refused(), CrlError::EndsBeforeItBegins);
}

#[test]
fn only_version_2_is_taken() {
    for version in [vec![], number(0), number(2)] {
        let mut draft = Draft::new(1, &[]);
        draft.version = version;
        assert_eq!(draft.refused(), CrlError::Version);
    }
}

#[test]
fn two_different_signature_algorithms_are_refused() {
    let mut draft = Draft::new(1, &[]);
    draft.algorithms[0] = alg_id::ECDSA_SHA384.to_vec();
    assert_eq!(draft.refused(), CrlError::AlgorithmsDiffer);
}

#[test]
fn sha_1_is_refused() {
    // sha1WithRSAEncryption, ecdsa-with-SHA1
    let oids: [&[u8]; 2] = [
        b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00",
        b"\x06\x07\x2a\x86\x48\xce\x3d\x04\x01",
    ];
    for oid in oids {
        let mut draft = Draft::new(1, &[]);
        draft.algorithms = [oid.to_vec(), oid.to_vec()];
        assert_eq!(draft.refused(), CrlError::UnsupportedAlgorithm);
    }
}

#[test]
fn an_extension_may_not_come_twice() {
    let draft = Draft::new(1, &[]).with(crl_number(2));
    assert_eq!(draft.refused(), CrlError::Malformed("it has an extension twice"));
}

#[test]
fn serial_numbers_are_canonical_and_of_bounded_length() {
    for serial in [&[0x00, 0x7f][..], &[0xff, 0x80], &[]] {
        let entry = sequence(&[&tlv(0x02, serial), &generalized(NOW)]);
        let refused = Draft::new(1, &[]).entry(entry).refused();
        assert_eq!(refused, CrlError::Malformed("the serial number of an entry"), "{serial:?}");
    }
    let ca = Ca::new("Contoso Root");
    assert!(
        Draft::new(1, &[])
            .entry(entry(&[0xff; 64], &[]))
            .signed_by(&ca)
            .find(&[0xff; 64])
            .is_some()
    );
    let refused = Draft::new(1, &[]).entry(entry(&[1; 66], &[])).refused();
    assert_eq!(refused, CrlError::Malformed("the serial number of an entry is too long"));
}

#[test]
fn a_crl_number_is_positive_and_of_at_most_20_octets() {
    let with = |value: &[u8]| {
        let mut draft = Draft::new(1, &[]);
        draft.extensions = vec![standard(20, false, &tlv(0x02, value))];
        draft
    };
    assert_eq!(with(&[0x80]).refused(), CrlError::Malformed("its number is negative"));
    assert_eq!(with(&[1; 21]).refused(), CrlError::Malformed("its number is too long"));
    let ca = Ca::new("Contoso Root");
    assert_eq!(with(&[0]).signed_by(&ca).number().unwrap().to_string(), "00");
    assert!(with(&[1; 20]).signed_by(&ca).number() > with(&[0x7f; 19]).signed_by(&ca).number());
}

#[test]
fn what_follows_a_crl_or_is_cut_off_is_refused() {
    let der = Draft::new(1, &[1, 2]).der_by(&Ca::new("Contoso Root"));
    assert!(Crl::parse(&der).is_ok());
    for end in 0..der.len() {
        assert!(Crl::parse(&der[..end]).is_err(), "cut at {end}");
    }
    let followed = [&der[..], &[0]].concat();
    assert_eq!(
        Crl::parse(&followed).unwrap_err(),
        CrlError::Malformed("it is followed by other bytes")
    );
}

#[test]
fn a_length_that_is_longer_than_needed_is_refused() {
    let der = Draft::new(1, &[]).der_by(&Ca::new("Contoso Root"));
    let [0x30, 0x81, length, rest @ ..] = &der[..] else { panic!("{der:?}") };
    let longer = [&[0x30, 0x82, 0x00, *length], rest].concat();
    assert!(Crl::parse(&longer).is_err());
}

#[test]
fn too_many_bytes_are_refused_unread() {
    let bytes = MAX_CRL_BYTES + 1;
    let expected = CrlError::TooLarge { bytes, limit: MAX_CRL_BYTES };
    assert_eq!(Crl::parse(&vec![0; bytes]).unwrap_err(), expected);
}

#[test]
fn an_issuer_s_name_is_safe_to_log() {
    let ca = Ca::new("evil\u{1b}[2J\n\u{202e}root");
    let crl = Draft::new(1, &[]).signed_by(&ca);
    assert!(crl.issuer().starts_with("CN=evil"), "{}", crl.issuer());
    assert!(!crl.issuer().chars().any(|c| c.is_control() || c == '\u{202e}'));
    let long = Draft::new(1, &[]).signed_by(&Ca::new(&"é".repeat(1000)));
    assert!(long.issuer().len() <= 512);
}

/// RFC 7468
fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for triple in line.chunks(3) {
            let bits = (0..3)
                .fold(0, |bits, at| bits << 8 | usize::from(triple.get(at).copied().unwrap_or(0)));
            for digit in 0..4 {
                let is_padding = digit > triple.len();
                let digit = char::from(DIGITS[bits >> (18 - 6 * digit) & 63]);
                text.push(if is_padding { '=' } else { digit });
            }
        }
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

#[test]
fn a_file_is_der_or_pem_with_any_number_of_crls() {
    let ca = Ca::new("Contoso Root");
    let ders = [1, 2].map(|number| Draft::new(number, &[]).der_by(&ca));
    let numbers = |bytes: &[u8]| -> Vec<String> {
        let crls = parse_all(bytes).unwrap();
        crls.iter().map(|crl| crl.number().unwrap().to_string()).collect()
    };
    assert_eq!(numbers(&ders[0]), ["01"]);
    let text = format!(
        "A note\n{}{}{}",
        pem("X509 CRL", &ders[0]),
        pem("CERTIFICATE", &[0x30, 0]),
        pem("X509 CRL", &ders[1])
    );
    assert_eq!(numbers(text.as_bytes()), ["01", "02"]);
}

#[test]
fn a_file_without_a_crl_or_with_a_bad_one_is_refused() {
    let der = Draft::new(1, &[]).der_by(&Ca::new("Contoso Root"));
    for bytes in [&b""[..], b"hello", b"<html>404 Not Found</html>"] {
        assert_eq!(parse_all(bytes).unwrap_err(), CrlError::NoCrl);
    }
    let one_bad = format!("{}{}", pem("X509 CRL", &der), pem("X509 CRL", &der[1..]));
    assert!(matches!(parse_all(one_bad.as_bytes()), Err(CrlError::Malformed(_))));
    let cut = pem("X509 CRL", &der);
    let cut = &cut[..cut.len() - 20];
    assert!(parse_all(cut.as_bytes()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_makes_the_reader_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        end in any::<proptest::sample::Index>(),
    ) {
        let draft = Draft::new(1, &[1, 0x8000])
            .entry(entry(&[7; 20], &[reason(3)]))
            .with(standard(28, true, &sequence(&[&tlv(0x81, &[0xff])])));
        let mut der = draft.der(&Ca::name("Contoso Root"), |_| vec![7; 70]);
        for (position, byte) in changes {
            let position = position.index(der.len());
            der[position] = byte;
        }
        for bytes in [&der[..], &der[..end.index(der.len())]] {
            if let Ok(crl) = Crl::parse(bytes) {
                prop_assert!(crl.entries() <= 3);
            }
            let _ = parse_all(bytes);
        }
    }
}
