use proptest::{collection::vec, option, prelude::*};

use super::*;

fn encode(header: &Header<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    assert_eq!(header.encode(&mut out), Omitted::default());
    out
}

fn tcp(source: &str, destination: &str) -> Endpoints {
    Endpoints::Tcp { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn tls() -> Tls<'static> {
    Tls {
        client_certificate: ClientCertificate::Connection,
        verify: Tls::VERIFIED,
        version: Some("TLSv1.3"),
        common_name: Some("a.test"),
        cipher: Some("TLS_AES_128_GCM_SHA256"),
        sig_alg: Some("SHA256"),
        key_alg: Some("EC256"),
        certificate: Some(&[0x30, 0x03, 0x02, 0x01, 0x07]),
    }
}

/// A header written by hand: version and command, family, then `body`.
fn by_hand(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a".to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

fn unspec(tlvs: &[u8]) -> Vec<u8> {
    by_hand(0x21, 0x00, tlvs)
}

const V4: &[u8] = b"\x7f\x00\x00\x01\xc0\x00\x02\x09\xd4\x31\x20\xfb";

#[test]
fn an_ipv4_header_is_the_specifications_bytes() {
    let header =
        Header { endpoints: tcp("127.0.0.1:54321", "192.0.2.9:8443"), ..Header::default() };
    let expected = by_hand(0x21, 0x11, V4);
    assert_eq!(encode(&header), expected);
    assert_eq!(parse(&expected), Ok(Some((header, 28))));
}

#[test]
fn an_ipv6_header_is_the_specifications_bytes() {
    let header = Header { endpoints: tcp("[2001:db8::1]:1", "[::1]:65535"), ..Header::default() };
    let body = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\
        \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x01\xff\xff";
    let expected = by_hand(0x21, 0x21, body);
    assert_eq!(encode(&header), expected);
    assert_eq!(parse(&expected), Ok(Some((header, 52))));
}

#[test]
fn every_tlv_is_the_specifications_bytes() {
    let header = Header {
        endpoints: tcp("127.0.0.1:54321", "192.0.2.9:8443"),
        alpn: Some(b"h2"),
        authority: Some("b.test"),
        unique_id: Some(b"id"),
        tls: Some(tls()),
        matched_name: Some("a.test"),
        peer_set: Some("edges"),
        profile: Some("b"),
    };
    let own = b"\xe0\x00\x06a.test\xe1\x00\x05edges\xe2\x00\x01b";
    let ssl = [
        b"\x07\x00\x00\x00\x00".as_slice(),
        b"\x21\x00\x07TLSv1.3",
        b"\x22\x00\x06a.test",
        b"\x23\x00\x16TLS_AES_128_GCM_SHA256",
        b"\x24\x00\x06SHA256",
        b"\x25\x00\x05EC256",
        b"\x28\x00\x05\x30\x03\x02\x01\x07",
    ]
    .concat();
    let body = [
        V4,
        b"\x01\x00\x02h2",
        b"\x02\x00\x06b.test",
        b"\x05\x00\x02id",
        own,
        b"\x20\x00\x4a",
        &ssl,
    ]
    .concat();
    assert_eq!(ssl.len(), 0x4a);
    let expected = by_hand(0x21, 0x11, &body);
    assert_eq!(encode(&header), expected);
    assert_eq!(parse(&expected), Ok(Some((header, expected.len()))));
}

#[test]
fn a_local_header_says_nothing_else() {
    let header = Header {
        endpoints: Endpoints::Local,
        alpn: Some(b"h2"),
        tls: Some(tls()),
        ..Header::default()
    };
    let expected = by_hand(0x20, 0x00, b"");
    assert_eq!(encode(&header), expected);
    let local = Header { endpoints: Endpoints::Local, ..Header::default() };
    assert_eq!(parse(&expected), Ok(Some((local, 16))));
}

#[test]
fn a_local_header_is_skipped_whatever_its_family_and_body() {
    let bytes = by_hand(0x20, 0xff, b"\x01\x00");
    let local = Header { endpoints: Endpoints::Local, ..Header::default() };
    assert_eq!(parse(&bytes), Ok(Some((local, 18))));
}

#[test]
fn unknown_endpoints_still_carry_tlvs() {
    let header = Header { alpn: Some(b"http/1.1"), ..Header::default() };
    let expected = unspec(b"\x01\x00\x08http/1.1");
    assert_eq!(encode(&header), expected);
    assert_eq!(parse(&expected), Ok(Some((header, expected.len()))));
}

#[test]
fn mixed_families_are_written_as_ipv6_with_a_mapped_address() {
    let header = Header { endpoints: tcp("192.0.2.1:5", "[2001:db8::2]:6"), ..Header::default() };
    let bytes = encode(&header);
    assert_eq!(bytes[13], 0x21);
    assert_eq!(bytes[16..32], *b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01");
}

#[test]
fn mapped_addresses_of_a_dual_stack_socket_are_written_as_ipv4() {
    let header = Header {
        endpoints: tcp("[::ffff:127.0.0.1]:54321", "[::ffff:192.0.2.9]:8443"),
        ..Header::default()
    };
    assert_eq!(encode(&header), by_hand(0x21, 0x11, V4));
}

#[test]
fn a_header_is_appended_to_what_is_there() {
    let header = Header { alpn: Some(b"h2"), tls: Some(tls()), ..Header::default() };
    let mut out = b"before".to_vec();
    assert!(header.encode(&mut out).is_empty());
    assert_eq!(out[6..], encode(&header));
}

#[test]
fn a_resumed_session_is_told_from_a_certificate_shown_now() {
    for (certificate, bits) in [
        (ClientCertificate::None, 0x01),
        (ClientCertificate::Connection, 0x07),
        (ClientCertificate::Session, 0x05),
    ] {
        let tls = Tls { client_certificate: certificate, ..tls() };
        let header = Header { tls: Some(tls.clone()), ..Header::default() };
        let bytes = encode(&header);
        assert_eq!(bytes[16 + 3], bits);
        assert_eq!(parse(&bytes).unwrap().unwrap().0.tls, Some(tls));
    }
}

#[test]
fn a_client_without_certificate_is_not_verified_even_if_the_sender_says_zero() {
    let bare = Tls { client_certificate: ClientCertificate::None, ..tls() };
    assert!(!bare.is_verified());
    assert!(tls().is_verified());
    assert!(!Tls { verify: Tls::NOT_VERIFIED, ..tls() }.is_verified());
}

#[test]
fn the_largest_certificate_that_fits_is_written_and_one_byte_more_is_left_out() {
    let empty = Tls { certificate: None, ..tls() };
    let taken = encode(&Header { tls: Some(empty.clone()), ..Header::default() }).len();
    let der = vec![0x30; FIXED_BYTES + MAX_BODY_BYTES - taken - 3];

    let header =
        Header { tls: Some(Tls { certificate: Some(&der), ..tls() }), ..Header::default() };
    let bytes = encode(&header);
    assert_eq!(bytes.len(), FIXED_BYTES + MAX_BODY_BYTES);
    assert_eq!(parse(&bytes), Ok(Some((header, bytes.len()))));

    let der = [&der[..], &[0]].concat();
    let header =
        Header { tls: Some(Tls { certificate: Some(&der), ..tls() }), ..Header::default() };
    let mut bytes = b"x".to_vec();
    let omitted = header.encode(&mut bytes);
    assert!(omitted.contains(Field::Certificate) && !omitted.contains(Field::CommonName));
    assert_eq!(omitted.to_string(), "certificate");
    assert_eq!(bytes.len(), 1 + taken);
    let (read, _) = parse(&bytes[1..]).unwrap().unwrap();
    assert_eq!(read.tls, Some(empty));
}

#[test]
fn values_over_their_limits_are_left_out_and_named() {
    let long = "x".repeat(MAX_TEXT_BYTES + 1);
    let header = Header {
        endpoints: Endpoints::Unknown,
        alpn: Some(&[b'a'; 256]),
        authority: Some(&long),
        unique_id: Some(&[0; 129]),
        tls: Some(Tls { common_name: Some(&long), cipher: Some(&long), ..tls() }),
        peer_set: Some(&long),
        ..Header::default()
    };
    let mut bytes = Vec::new();
    let omitted = header.encode(&mut bytes);
    assert_eq!(omitted.to_string(), "alpn, authority, unique id, algorithm, common name, admitted");
    let (read, _) = parse(&bytes).unwrap().unwrap();
    let tls = Tls { common_name: None, cipher: None, ..tls() };
    assert_eq!(read, Header { tls: Some(tls), ..Header::default() });
}

#[test]
fn what_another_sender_means_by_our_types_is_skipped_unless_it_is_text() {
    let header = Header { peer_set: Some("edges"), ..Header::default() };
    let bytes = unspec(b"\xe0\0\x01\xff\xe1\0\x05edges");
    assert_eq!(parse(&bytes), Ok(Some((header, bytes.len()))));
    let twice = unspec(b"\xe1\0\x01a\xe1\0\x01b");
    assert_eq!(parse(&twice), Err(ProxyError::Duplicate(0xe1)));
}

#[test]
fn every_beginning_of_a_header_asks_for_more() {
    let header = Header { tls: Some(tls()), ..Header::default() };
    let bytes = encode(&header);
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end]), Ok(None), "the first {end} bytes");
    }
}

#[test]
fn what_follows_the_header_is_left_alone() {
    let header = Header { alpn: Some(b"h2"), ..Header::default() };
    let mut bytes = encode(&header);
    let length = bytes.len();
    bytes.extend(b"GET / HTTP/1.1\r\n");
    assert_eq!(parse(&bytes), Ok(Some((header, length))));
}

#[test]
fn bytes_that_are_no_header_are_refused_at_the_first_wrong_one() {
    assert_eq!(parse(b"\x0d\x0aG"), Err(ProxyError::Signature));
    assert_eq!(parse(b"PROXY TCP4 127.0.0.1"), Err(ProxyError::Signature));
    assert_eq!(parse(&by_hand(0x31, 0x00, b"")[..13]), Err(ProxyError::Version(3)));
    assert_eq!(parse(&by_hand(0x22, 0x00, b"")[..13]), Err(ProxyError::Command(2)));
    assert_eq!(parse(&by_hand(0x21, 0x12, b"")[..14]), Err(ProxyError::Family(0x12)));
    assert_eq!(parse(&by_hand(0x21, 0x41, b"")[..14]), Err(ProxyError::Family(0x41)));
}

#[test]
fn fields_that_end_early_are_refused() {
    assert_eq!(parse(&by_hand(0x21, 0x11, &V4[..11])), Err(ProxyError::Truncated));
    assert_eq!(parse(&unspec(b"\x01\x00")), Err(ProxyError::Truncated));
    assert_eq!(parse(&unspec(b"\x01\x00\x03h2")), Err(ProxyError::Truncated));
    assert_eq!(
        parse(&unspec(b"\x20\x00\x09\x01\0\0\0\0\x21\x00\x02x")),
        Err(ProxyError::Truncated)
    );
    assert_eq!(parse(&unspec(b"\x20\x00\x04\x01\0\0\0")), Err(ProxyError::Length(0x20)));
}

#[test]
fn an_identity_that_is_told_twice_is_refused() {
    assert_eq!(parse(&unspec(b"\x02\0\x01a\x02\0\x01b")), Err(ProxyError::Duplicate(0x02)));
    let ssl = b"\x20\0\x05\x01\0\0\0\0";
    assert_eq!(parse(&unspec(&[ssl, &ssl[..]].concat())), Err(ProxyError::Duplicate(0x20)));
    let not_tls = b"\x20\0\x05\x00\0\0\0\0";
    assert_eq!(parse(&unspec(&[not_tls, &ssl[..]].concat())), Err(ProxyError::Duplicate(0x20)));
    assert_eq!(
        parse(&unspec(b"\x20\0\x0d\x01\0\0\0\0\x22\0\x01a\x22\0\x01b")),
        Err(ProxyError::Duplicate(0x22))
    );
}

#[test]
fn values_that_are_no_text_or_too_long_are_refused() {
    assert_eq!(parse(&unspec(b"\x02\0\x01\xff")), Err(ProxyError::Text(0x02)));
    assert_eq!(
        parse(&unspec(b"\x20\0\x0a\x01\0\0\0\0\x21\0\x02\xc3\xa4")),
        Err(ProxyError::Text(0x21))
    );
    let id = [b"\x05\0\x81".as_slice(), &[7; 129]].concat();
    assert_eq!(parse(&unspec(&id)), Err(ProxyError::Length(0x05)));
    let alpn = [b"\x01\x01\0".as_slice(), &[7; 256]].concat();
    assert_eq!(parse(&unspec(&alpn)), Err(ProxyError::Length(0x01)));
}

#[test]
fn unknown_fields_padding_and_unix_paths_are_skipped() {
    let bytes = unspec(b"\x04\0\x02xx\xee\0\x01\x01\x01\0\x02h2");
    let header = Header { alpn: Some(b"h2"), ..Header::default() };
    assert_eq!(parse(&bytes), Ok(Some((header.clone(), bytes.len()))));
    let unix = by_hand(0x21, 0x31, &[&[b'/'; 216][..], b"\x01\0\x02h2"].concat());
    assert_eq!(parse(&unix), Ok(Some((header, unix.len()))));
}

#[test]
fn a_tls_field_that_says_no_tls_is_none() {
    let bytes = unspec(b"\x20\0\x05\x00\0\0\0\0");
    assert_eq!(parse(&bytes).unwrap().unwrap().0.tls, None);
}

#[test]
fn a_right_checksum_passes_and_a_wrong_one_is_refused() {
    // By a table-driven CRC32C, over the 23 bytes with the value zeroed.
    let good = unspec(b"\x03\0\x04\x3e\xc9\x89\x4e");
    let mut bad = good.clone();
    assert_eq!(parse(&good), Ok(Some((Header::default(), 23))));
    bad[22] ^= 1;
    assert_eq!(parse(&bad), Err(ProxyError::Checksum));
    assert_eq!(parse(&unspec(b"\x03\0\x03\0\0\0")), Err(ProxyError::Length(0x03)));
}

fn any_tls() -> impl Strategy<Value = (u8, u32, [Option<String>; 5], Option<Vec<u8>>)> {
    let text = || option::of("[ -~]{0,40}");
    (
        0..3_u8,
        any::<u32>(),
        [text(), option::of(".{0,40}"), text(), text(), text()],
        option::of(vec(any::<u8>(), 0..300)),
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        addresses in option::of(any::<(SocketAddr, SocketAddr)>()),
        alpn in option::of(vec(any::<u8>(), 0..=255)),
        authority in option::of(".{0,60}"),
        unique_id in option::of(vec(any::<u8>(), 0..=128)),
        tls in option::of(any_tls()),
        own in [option::of(".{0,40}"), option::of(".{0,40}"), option::of(".{0,40}")],
        follows in vec(any::<u8>(), 0..40),
    ) {
        let header = Header {
            endpoints: addresses.map_or(Endpoints::Unknown, |(source, destination)| {
                Endpoints::Tcp { source, destination }
            }),
            alpn: alpn.as_deref(),
            authority: authority.as_deref(),
            unique_id: unique_id.as_deref(),
            tls: tls.as_ref().map(|(kind, verify, texts, certificate)| Tls {
                client_certificate: [
                    ClientCertificate::None,
                    ClientCertificate::Connection,
                    ClientCertificate::Session,
                ][usize::from(*kind)],
                verify: *verify,
                version: texts[0].as_deref(),
                common_name: texts[1].as_deref(),
                cipher: texts[2].as_deref(),
                sig_alg: texts[3].as_deref(),
                key_alg: texts[4].as_deref(),
                certificate: certificate.as_deref(),
            }),
            matched_name: own[0].as_deref(),
            peer_set: own[1].as_deref(),
            profile: own[2].as_deref(),
        };
        let mut bytes = encode(&header);
        let length = bytes.len();
        bytes.extend(follows);
        let (read, consumed) = parse(&bytes).unwrap().unwrap();
        prop_assert_eq!(consumed, length);
        prop_assert_eq!(same_ends(&read.endpoints), same_ends(&header.endpoints));
        prop_assert_eq!(Header { endpoints: header.endpoints, ..read }, header);
    }

    #[test]
    fn any_bytes_after_a_signature_are_judged_without_panic(
        command in 0x1f..0x23_u8,
        family in prop_oneof![Just(0_u8), Just(0x11), Just(0x21), Just(0x31), any::<u8>()],
        body in vec(prop_oneof![0..6_u8, 0x20..0x29_u8, any::<u8>()], 0..300),
    ) {
        let bytes = by_hand(command, family, &body);
        if let Ok(read) = parse(&bytes) {
            prop_assert_eq!(read.unwrap().1, bytes.len());
        }
    }
}

/// Addresses as they compare after a journey: mapped ones as IPv4, no flow label, no scope.
fn same_ends(endpoints: &Endpoints) -> Option<[(IpAddr, u16); 2]> {
    match endpoints {
        Endpoints::Tcp { source, destination } => {
            Some([*source, *destination].map(|end| (end.ip().to_canonical(), end.port())))
        }
        Endpoints::Local | Endpoints::Unknown => None,
    }
}
