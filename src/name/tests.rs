//! What names and patterns promise, by example and by property.

use proptest::prelude::*;

use super::{NamePattern, PatternIndex, PeerName};

fn pattern(text: &str) -> NamePattern {
    match text {
        "*" => NamePattern::ANY_DNS,
        _ => NamePattern::parse(text).expect("a pattern"),
    }
}

fn dns(text: &str) -> PeerName {
    PeerName::from_dns_san(text.as_bytes()).expect("a DNS name")
}

fn uri(text: &str) -> PeerName {
    PeerName::from_uri_san(text.as_bytes()).expect("a URI")
}

fn ip(text: &str) -> PeerName {
    PeerName::Ip(text.parse().expect("an address"))
}

#[test]
fn an_exact_dns_name_matches_itself_in_any_case_and_nothing_else() {
    let listed = pattern("FE01.Contoso.test");
    assert!(listed.matches(&dns("fe01.contoso.TEST")));
    assert!(!listed.matches(&dns("fe02.contoso.test")));
    assert!(!listed.matches(&dns("a.fe01.contoso.test")));
    assert!(!listed.matches(&dns("contoso.test")));
    assert_eq!(listed.to_string(), "fe01.contoso.test");
}

#[test]
fn a_wildcard_matches_any_number_of_labels_below_but_not_the_domain_or_a_look_alike() {
    let listed = pattern("*.contoso.test");
    assert!(listed.matches(&dns("fe01.contoso.test")));
    assert!(listed.matches(&dns("a.b.c.contoso.test")));
    assert!(!listed.matches(&dns("contoso.test")));
    assert!(!listed.matches(&dns("evilcontoso.test")));
    assert!(!listed.matches(&dns("contoso.test.evil.test")));
}

#[test]
fn a_wildcard_certificate_matches_only_a_wildcard_that_contains_all_it_could_stand_for() {
    let certificate = dns("*.edge.fabrikam.com");
    assert!(pattern("*.edge.fabrikam.com").matches(&certificate));
    assert!(pattern("*.fabrikam.com").matches(&certificate));
    assert!(!pattern("a.edge.fabrikam.com").matches(&certificate));
    assert!(!pattern("edge.fabrikam.com").matches(&certificate));
    assert!(!pattern("*.a.edge.fabrikam.com").matches(&certificate));
}

#[test]
fn a_wildcard_certificate_touches_each_exact_name_that_it_could_stand_for() {
    let certificate = dns("*.edge.fabrikam.com");
    assert!(pattern("a.edge.fabrikam.com").touches(&certificate));
    assert!(!pattern("a.b.edge.fabrikam.com").touches(&certificate));
    assert!(!pattern("edge.fabrikam.com").touches(&certificate));
    assert!(pattern("*.fabrikam.com").touches(&certificate));
}

#[test]
fn spiffe_patterns_are_exact_or_below_a_path_of_one_trust_domain() {
    let domain = pattern("spiffe://Contoso.test/*");
    assert!(domain.matches(&uri("SPIFFE://contoso.test/ns/prod")));
    assert!(!domain.matches(&uri("spiffe://contoso.test.evil/ns/prod")));
    assert!(!domain.matches(&uri("spiffe://fabrikam.test/ns/prod")));
    let path = pattern("spiffe://contoso.test/ns/prod/*");
    assert!(path.matches(&uri("spiffe://contoso.test/ns/prod/sa/web")));
    assert!(!path.matches(&uri("spiffe://contoso.test/ns/prod")));
    assert!(!path.matches(&uri("spiffe://contoso.test/ns/production/web")));
    assert!(path.is_within(&domain) && !domain.is_within(&path));
    let exact = pattern("spiffe://contoso.test/ns/prod");
    assert!(exact.matches(&uri("spiffe://contoso.test/ns/prod")));
    assert!(!exact.matches(&uri("spiffe://contoso.test/ns/Prod")));
}

#[test]
fn spiffe_ids_outside_their_grammar_are_malformed() {
    for text in [
        "spiffe://contoso.test",
        "spiffe://contoso.test/",
        "spiffe://contoso.test/a/",
        "spiffe://contoso.test//a",
        "spiffe://contoso.test/a/../b",
        "spiffe://contoso.test/./a",
        "spiffe://contoso.test/%61",
        "spiffe://contoso.test/a?b",
        "spiffe://contoso.test/a#b",
        "spiffe://user@contoso.test/a",
        "spiffe://contoso.test:1/a",
        "spiffe:///a",
        "spiffe:contoso.test/a",
        "spiffe://contoso.test/*",
    ] {
        assert!(PeerName::from_uri_san(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn other_uris_match_exactly_but_for_the_case_of_scheme_and_host() {
    assert!(pattern("SIP:alice@contoso.test").matches(&uri("sip:alice@contoso.test")));
    assert!(!pattern("sip:alice@contoso.test").matches(&uri("sip:Alice@contoso.test")));
    assert!(pattern("https://Host.test/A").matches(&uri("https://host.TEST/A")));
    assert!(!pattern("https://host.test/A").matches(&uri("https://host.test/a")));
    assert!(NamePattern::parse("https://host.test/*").is_err());
}

#[test]
fn what_looks_like_an_address_or_a_port_is_no_uri_but_short_uris_are() {
    for text in ["spiffe://d/a", "fd://d/a", "sip:abc", "urn:a:1"] {
        assert!(pattern(text).matches(&uri(text)), "{text}");
    }
    for text in ["fe01.test:5061", "fd00:1:2", "fd00:1:2/64", "fe01:"] {
        assert!(NamePattern::parse(text).is_err(), "{text}");
    }
}

#[test]
fn any_dns_name_is_within_the_asterisk_and_nothing_else_is() {
    let any = NamePattern::ANY_DNS;
    assert!(any.matches(&dns("fe01.contoso.test")) && any.matches(&dns("*.contoso.test")));
    assert!(!any.matches(&uri("spiffe://contoso.test/a")) && !any.matches(&ip("192.0.2.7")));
    assert!(pattern("*.contoso.test").is_within(&any) && !any.is_within(&pattern("*.test")));
    assert!(!any.overlaps(&pattern("192.0.2.0/24")));
}

#[test]
fn the_index_shows_the_narrowest_pattern_first() {
    let mut index = PatternIndex::default();
    let patterns = ["*", "*.test", "fe01.contoso.test", "*.contoso.test"];
    for text in patterns {
        index.insert(&pattern(text), text);
    }
    let mut seen = Vec::new();
    let all = index.matching(&dns("fe01.contoso.test"), |text| {
        seen.push(text);
        None::<()>
    });
    assert_eq!(all, None);
    assert_eq!(seen, ["fe01.contoso.test", "*.contoso.test", "*.test", "*"]);
    assert_eq!(index.matching(&dns("*.contoso.test"), Some), Some("*.contoso.test"));
    assert_eq!(index.touching(&dns("*.contoso.test"), Some), Some("fe01.contoso.test"));
    assert_eq!(index.containing(&pattern("*.a.test"), Some), Some("*.test"));
}

#[test]
fn addresses_and_networks_match_within_their_family() {
    let net = pattern("192.0.2.0/24");
    assert!(net.matches(&ip("192.0.2.7")));
    assert!(!net.matches(&ip("192.0.3.7")));
    assert!(!net.matches(&ip("::ffff:192.0.2.7")));
    assert!(pattern("192.0.2.7").is_within(&net));
    assert!(pattern("192.0.2.7/32").matches(&ip("192.0.2.7")));
    assert_eq!(pattern("192.0.2.7/32"), pattern("192.0.2.7"));
    assert!(pattern("2001:db8::/32").matches(&ip("2001:db8:1::1")));
    assert!(!pattern("2001:db8::/32").matches(&ip("2001:db9::1")));
    assert!(pattern("::1").matches(&ip("::1")));
    assert!(pattern("cafe:1::7").matches(&ip("cafe:1::7")));
    assert!(PeerName::from_ip_san(&[192, 0, 2]).is_err());
    assert!(PeerName::from_ip_san(&[]).is_err());
}

#[test]
fn a_network_with_host_bits_is_an_error_that_says_what_to_write() {
    let error = NamePattern::parse("192.0.2.7/24").unwrap_err();
    assert!(error.contains("write 192.0.2.0/24"), "{error}");
    for text in ["0.0.0.0/0", "::/0", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/+8", "192.0.2.0/08"]
    {
        assert!(NamePattern::parse(text).is_err(), "{text}");
    }
}

#[test]
fn patterns_outside_the_grammar_are_errors() {
    let long_label = format!("{}.test", "a".repeat(64));
    let long_name = format!("{}test", "abcdefgh.".repeat(28));
    for text in [
        "",
        "*",
        "*.",
        "*.*.test",
        "f*.test",
        "a.*.test",
        "a..test",
        ".test",
        "a.test.",
        "a b.test",
        "-a.test",
        "a-.test",
        "a/b",
        "a:b c",
        "192.0.2.300",
        "foo.123",
        "xn--.test",
        "xn--a-.test",
        "xn--\u{fc}.test",
        &long_label,
        &long_name,
    ] {
        assert!(NamePattern::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_u_label_is_an_error_that_asks_for_the_a_label() {
    let error = NamePattern::parse("m\u{fc}nchen.test").unwrap_err();
    assert!(error.contains("A-label"), "{error}");
    assert!(NamePattern::parse("xn--mnchen-3ya.test").is_ok());
    assert!(NamePattern::parse("xn--80akhbyknj4f.test").is_ok());
    assert!(NamePattern::parse("xn--99999999.test").is_err());
}

#[test]
fn names_in_certificates_that_try_to_deceive_are_malformed() {
    for bytes in [
        &b"good.test\0.evil.test"[..],
        b"",
        b" a.test",
        b"a.test ",
        b"m\xc3\xbcnchen.test",
        b"a\n.test",
        b"*",
        b"*.",
        b"a.*.test",
        b"f*.test",
        b"a.test.",
        b"192.0.2.7",
    ] {
        assert!(PeerName::from_dns_san(bytes).is_err(), "{}", bytes.escape_ascii());
    }
    for bytes in
        [&b"sip:a\0b"[..], b"", b"sip:", b"no-scheme", b"1x:y", b"sip:a b", b"sip:\xc3\xbc"]
    {
        assert!(PeerName::from_uri_san(bytes).is_err(), "{}", bytes.escape_ascii());
    }
}

/// Few letters and labels, so that relations between two random patterns are frequent.
fn dns_text() -> impl Strategy<Value = String> {
    proptest::collection::vec("[ab]{1,2}", 1..5).prop_map(|labels| labels.join("."))
}

fn pattern_text() -> impl Strategy<Value = String> {
    prop_oneof![
        dns_text(),
        dns_text().prop_map(|base| format!("*.{base}")),
        Just("*".to_owned()),
        proptest::collection::vec("[ab]", 1..4)
            .prop_map(|path| format!("spiffe://d/{}", path.join("/"))),
        proptest::collection::vec("[ab]", 0..3)
            .prop_map(|path| format!("spiffe://d/{}", [path, vec!["*".into()]].concat().join("/"))),
        (0_u8..4, 30_u8..=32)
            .prop_map(|(host, bits)| format!("192.0.2.{}/{bits}", host & (0xff << (32 - bits)))),
        (0_u8..4).prop_map(|host| format!("2001:db8::{host}")),
    ]
}

fn peer_name() -> impl Strategy<Value = PeerName> {
    prop_oneof![
        dns_text().prop_map(|text| dns(&text)),
        dns_text().prop_map(|text| dns(&format!("*.{text}"))),
        proptest::collection::vec("[ab]", 1..5)
            .prop_map(|path| uri(&format!("spiffe://d/{}", path.join("/")))),
        (0_u8..4).prop_map(|host| ip(&format!("192.0.2.{host}"))),
        (0_u8..4).prop_map(|host| ip(&format!("2001:db8::{host}"))),
    ]
}

proptest! {
    #[test]
    fn what_is_displayed_parses_to_the_same_pattern(text in pattern_text()) {
        let parsed = pattern(&text);
        prop_assert_eq!(pattern(&parsed.to_string()), parsed);
    }

    #[test]
    fn any_text_is_parsed_or_refused_and_what_is_parsed_round_trips(text in "\\PC{0,40}") {
        if let Ok(parsed) = NamePattern::parse(&text) {
            prop_assert_eq!(NamePattern::parse(&parsed.to_string()), Ok(parsed));
        }
    }

    #[test]
    fn what_matches_a_pattern_matches_every_pattern_around_it(
        inner in pattern_text(), outer in pattern_text(), name in peer_name(),
    ) {
        let (inner, outer) = (pattern(&inner), pattern(&outer));
        if inner.is_within(&outer) && inner.matches(&name) {
            prop_assert!(outer.matches(&name));
        }
    }

    #[test]
    fn patterns_that_share_a_name_overlap(
        a in pattern_text(), b in pattern_text(), name in peer_name(),
    ) {
        let (a, b) = (pattern(&a), pattern(&b));
        prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
        if a.matches(&name) && b.matches(&name) {
            prop_assert!(a.overlaps(&b));
        }
    }

    #[test]
    fn the_index_finds_what_a_look_at_every_pattern_would(
        patterns in proptest::collection::vec(pattern_text(), 0..12),
        name in peer_name(),
        inner in pattern_text(),
    ) {
        let patterns: Vec<_> = patterns.iter().map(|text| pattern(text)).collect();
        let mut index = PatternIndex::default();
        for (number, pattern) in patterns.iter().enumerate() {
            index.insert(pattern, number);
        }
        let inner = pattern(&inner);
        let wanted = |fits: &dyn Fn(&NamePattern) -> bool| -> Vec<usize> {
            (0..patterns.len()).filter(|number| fits(&patterns[*number])).collect()
        };
        let mut found = [const { Vec::new() }; 3];
        let [matching, touching, containing] = &mut found;
        let none: Option<()> = None;
        index.matching(&name, |number| { matching.push(number); none });
        index.touching(&name, |number| { touching.push(number); none });
        index.containing(&inner, |number| { containing.push(number); none });
        for pair in matching.windows(2) {
            prop_assert!(patterns[pair[0]].is_within(&patterns[pair[1]]), "narrowest first");
        }
        found.iter_mut().for_each(|numbers| numbers.sort_unstable());
        prop_assert_eq!(&found[0], &wanted(&|pattern| pattern.matches(&name)));
        prop_assert_eq!(&found[1], &wanted(&|pattern| pattern.touches(&name)));
        prop_assert_eq!(&found[2], &wanted(&|pattern| inner.is_within(pattern)));
    }

    #[test]
    fn matching_ignores_the_case_of_dns_names(text in dns_text(), name in dns_text()) {
        let (lower, upper) = (pattern(&text), pattern(&text.to_uppercase()));
        prop_assert_eq!(lower.matches(&dns(&name)), upper.matches(&dns(&name.to_uppercase())));
    }

    #[test]
    fn what_matches_also_touches(text in pattern_text(), name in peer_name()) {
        let pattern = pattern(&text);
        prop_assert!(!pattern.matches(&name) || pattern.touches(&name));
    }
}
