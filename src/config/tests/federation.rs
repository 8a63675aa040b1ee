//! What keeps partners apart: key sizes, pins, limits, discovered peers, and what contradicts
//! itself across sections.

use super::{GOOD, changed, errors, good, peers::with_partner, refused, warned};
use crate::{
    config::{Config, PeerLimits},
    name::NamePattern,
};

const PIN: &str = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// The good configuration with a line more for its profile.
fn with_trust(line: &str) -> String {
    changed("revocation = \"off\"", &format!("revocation = \"off\"\n{line}"))
}

/// The good configuration with a line more for its peer set.
fn with_peers(line: &str) -> String {
    changed("trust = \"contoso\"", &format!("trust = \"contoso\"\n{line}"))
}

/// A public CA and whoever it vouches for, admitted by the listener.
fn with_discovered(trust: &str, peers: &str) -> String {
    changed("peers = [\"frontends\"]", "peers = [\"frontends\", \"world\"]")
        + &format!(
            "[trust.public]\nca = [\"fabrikam-ca.pem\"]\nrevocation = \"off\"\n{trust}\n\
             [peers.world]\ntrust = \"public\"\n{peers}\n"
        )
}

const LIMITS: &str = "max_connections = 10\nmax_handshakes_per_second = 2";

fn discovered() -> String {
    with_discovered("names = [\"*\"]", &format!("discovered = true\n{LIMITS}"))
}

fn summary_of(text: &str) -> (Config, String) {
    let config = good(text);
    let summary = config.summary();
    (config, summary)
}

#[test]
fn key_sizes_are_read_and_default_to_what_the_path_search_takes() {
    let profile = &good(GOOD).trust["contoso"];
    assert_eq!((profile.min_rsa_bits, profile.min_ec_bits), (2048, 256));
    let text = with_trust("min_rsa_bits = 3072\nmin_ec_bits = 256");
    let (config, summary) = summary_of(&text);
    assert_eq!(config.trust["contoso"].min_rsa_bits, 3072);
    assert!(summary.contains("RSA from 3072 bits, ECDSA from 256"), "{summary}");
    for (line, error) in [
        ("min_rsa_bits = 1024", "found 1024; it takes an integer from 2048 to 8192"),
        ("min_rsa_bits = \"2048\"", "found the string \"2048\"; it takes an integer"),
        ("min_ec_bits = 255", "found 255; accepted: 256, 384, 521"),
        ("min_ec_bits = 100000", "found 100000; it takes an integer from 0 to 65535"),
    ] {
        assert!(errors(&with_trust(line)).contains(error), "{line}");
    }
}

#[test]
fn a_ca_whose_key_is_too_short_for_its_own_profile_is_refused_with_both_places() {
    refused(
        &with_trust("min_ec_bits = 384"),
        "conf/cs.toml:3:7: [trust.contoso.ca] conf/ca.pem (CN=Contoso Root) has an EC key of 256 \
         bits, and [trust.contoso.min_ec_bits] on line 6 asks for 384; replace the CA",
    );
    let rsa = with_trust("min_rsa_bits = 3072").replacen("ca.pem", "rsa-ca.pem", 1);
    refused(
        &rsa,
        "conf/cs.toml:3:7: [trust.contoso.ca] conf/rsa-ca.pem (CN=RSA Root) has an RSA key of \
         2048 bits, and [trust.contoso.min_rsa_bits] on line 6 asks for 3072; replace the CA",
    );
    good(&rsa.replacen("3072", "2048", 1));
}

#[test]
fn networks_are_names_of_profiles_peers_and_blocks() {
    let text =
        changed("names = [\"*.contoso.test\"]", "names = [\"10.1.0.0/16\", \"2001:db8::/32\"]");
    let listed = "names = [\"fe01.contoso.test\", \"fe02.contoso.test\"]";
    let set = |names: &str| text.replacen(listed, names, 1);
    good(&set("names = [\"10.1.2.0/24\", \"2001:db8::7\"]\nblocked = [\"10.1.2.128/25\"]"));
    let error = "\"10.2.0.0/24\" is not a name that [trust.contoso.names] on line 4 may vouch for";
    assert!(errors(&set("names = [\"10.2.0.0/24\"]")).contains(error));
    let error = "\"10.1.2.3\" is blocked; take it out of one of the two lists";
    assert!(errors(&set("names = [\"10.1.2.3\"]\nblocked = [\"10.1.0.0/16\"]")).contains(error));
    let overlap = with_partner("names = [\"*.fabrikam.test\", \"10.1.2.0/24\"]").replacen(
        "\"*.contoso.test\"",
        "\"*.contoso.test\", \"10.1.0.0/16\"",
        1,
    );
    let error = "\"10.1.2.0/24\" overlaps \"10.1.0.0/16\" of [trust.contoso.names] on line 4";
    assert!(errors(&overlap).contains(error));
}

#[test]
fn pins_and_limits_of_a_peer_set_are_read() {
    let set = &good(GOOD).peers["frontends"];
    assert!(set.pins.is_empty() && set.discovered.is_none());
    assert_eq!(set.limits, PeerLimits::default());
    let (config, summary) = summary_of(&with_peers(&format!("pins = [\"{PIN}\"]\n{LIMITS}")));
    let set = &config.peers["frontends"];
    assert_eq!(set.pins[0].to_string(), PIN);
    assert_eq!(set.limits.max_connections, Some(10));
    assert_eq!(set.limits.max_handshakes_per_second, Some(2));
    assert!(summary.contains(&format!("frontends only with the keys {PIN}\n")), "{summary}");
    assert!(summary.contains("frontends at most 10 connections\n"), "{summary}");
    assert!(summary.contains("frontends at most 2 handshakes a second\n"), "{summary}");
    for (line, error) in [
        ("max_connections = 0", "found 0; it takes an integer from 1 to 10000000"),
        ("max_handshakes_per_second = 0", "found 0; it takes an integer from 1 to 1000000"),
        ("pins = [\"sha1/AAAA\"]", "found \"sha1/AAAA\"; it takes \"sha256/\" and the base64"),
        ("pins = \"x\"", "found the string \"x\"; it takes a list of strings"),
        ("discovered = 1", "found the integer 1; it takes true or false"),
    ] {
        assert!(errors(&with_peers(line)).contains(error), "{line}");
    }
}

#[test]
fn a_pin_of_the_ca_instead_of_the_peer_is_refused_with_both_places() {
    let pin = {
        use crate::config::{CaCertificate, files::CertificateFacts};
        let CaCertificate { der, .. } = &good(GOOD).trust["contoso"].ca[0];
        let spki = CertificateFacts::parse(der).unwrap().spki;
        crate::config::KeyPin::of(&spki)
    };
    refused(
        &with_peers(&format!("pins = [\"{pin}\"]")),
        &format!(
            "conf/cs.toml:9:9: [peers.frontends.pins] {pin} is the key of the CA CN=Contoso Root, \
             [trust.contoso.ca] on line 3; give that of the peer's own certificate"
        ),
    );
}

#[test]
fn discovered_peers_are_any_but_those_of_other_profiles() {
    let (config, summary) = summary_of(&discovered());
    assert_eq!(config.warnings, [""; 0]);
    let set = &config.peers["world"];
    assert_eq!(set.names, [NamePattern::ANY_DNS]);
    let reserved = &set.discovered.as_ref().unwrap().reserved;
    assert_eq!(reserved.iter().map(|trust| &*trust.name).collect::<Vec<_>>(), ["contoso"]);
    assert!(summary.contains("  peers        world by trust public: *\n"), "{summary}");
    assert!(summary.contains("world are discovered: any DNS name, but none"), "{summary}");
}

#[test]
fn discovered_peers_have_both_limits_and_neither_names_nor_pins() {
    let errors = errors(&with_discovered("names = [\"*\"]", "discovered = true"));
    for key in ["max_connections", "max_handshakes_per_second"] {
        let error = format!(
            "[peers.world.{key}] is missing; it takes an integer: peers that aren't listed are \
             admitted within limits"
        );
        assert!(errors.contains(&error), "{errors}");
    }
    for (key, value) in [("names", "a.fabrikam.test"), ("pins", PIN)] {
        let set = format!("discovered = true\n{LIMITS}\n{key} = [\"{value}\"]");
        refused(
            &with_discovered("names = [\"*\"]", &set),
            &format!(
                "conf/cs.toml:30:{}: [peers.world.{key}] can't be said beside discovered = true, \
                 [peers.world.discovered] on line 27, which is for peers that aren't listed; \
                 remove one of the two, or list these peers in a set of their own",
                key.len() + 4
            ),
        );
    }
}

#[test]
fn only_discovered_peers_have_a_profile_for_any_name_and_they_have_no_other() {
    refused(
        &with_discovered("names = [\"*\"]", "names = [\"a.fabrikam.test\"]"),
        "conf/cs.toml:26:9: [peers.world.trust] [trust.public.names] on line 24 is [\"*\"], which \
         is for discovered peers alone; give these peers a profile with names, or say discovered \
         = true",
    );
    let set = format!("discovered = true\n{LIMITS}");
    refused(
        &with_discovered("names = [\"*.fabrikam.test\"]", &set),
        "conf/cs.toml:27:14: [peers.world.discovered] found true, but [trust.public.names] on \
         line 24 lists names; discovered peers need a profile whose names are [\"*\"]",
    );
    refused(
        &with_discovered("names = [\"*\", \"spiffe://fabrikam.test/*\"]", &set),
        "conf/cs.toml:24:10: [trust.public.names] \"*\" is any DNS name and stands alone; give \
         other names to a profile of their own",
    );
    refused(
        &changed("\"fe02.contoso.test\"", "\"*\""),
        "conf/cs.toml:9:31: [peers.frontends.names] found \"*\"; any name is for peers that \
         aren't listed: say discovered = true instead of names",
    );
    assert!(errors(&with_peers("blocked = [\"*\"]")).contains("[peers.frontends.blocked] \"*\""));
}

#[test]
fn two_profiles_for_any_name_are_refused_with_both_places() {
    let second = "[trust.other]\nca = [\"rsa-ca.pem\"]\nrevocation = \"off\"\nnames = [\"*\"]\n\
                  [peers.others]\ntrust = \"other\"\ndiscovered = true\nmax_connections = 1\n\
                  max_handshakes_per_second = 1\n";
    let text = discovered().replace("\"world\"]", "\"world\", \"others\"]") + second;
    refused(
        &text,
        "conf/cs.toml:24:10: [trust.public.names] \"*\" overlaps \"*\" of [trust.other.names] on \
         line 33: two profiles could vouch for the same name; narrow one, or say shared = true in \
         both",
    );
}

#[test]
fn a_ca_of_two_profiles_is_refused_with_both_places_unless_both_are_shared() {
    for file in ["ca.pem", "renewed-ca.pem"] {
        let text = with_partner("names = [\"*.fabrikam.test\"]").replace("fabrikam-ca.pem", file);
        refused(
            &text,
            &format!(
                "conf/cs.toml:23:7: [trust.fabrikam.ca] conf/{file} (CN=Contoso Root) is also a \
                 CA of [trust.contoso.ca] on line 3: it could vouch for the names of both \
                 profiles; give each its own CA, or say shared = true in both"
            ),
        );
        let shared = text.replace("revocation = \"off\"", "revocation = \"off\"\nshared = true");
        good(&shared);
    }
    // Together in one profile they are one CA and its successor.
    good(&changed("ca = [\"ca.pem\"]", "ca = [\"ca.pem\", \"renewed-ca.pem\"]"));
}

#[test]
fn a_name_in_two_sets_of_a_listener_is_refused_with_both_places() {
    let second = "[peers.pool]\ntrust = \"contoso\"\nnames = [\"fe02.contoso.test\"]\n";
    let both = changed("peers = [\"frontends\"]", "peers = [\"frontends\", \"pool\"]") + second;
    refused(
        &both,
        "conf/cs.toml:23:10: [peers.pool.names] \"fe02.contoso.test\" is also in \
         [peers.frontends.names] on line 9, and [listener.sip-mtls.peers] on line 18 admits both: \
         it is not clear whose pins and limits count; take it out of one",
    );
    // The narrowest entry counts, so that a wider one beside it is no contradiction.
    good(&both.replace("names = [\"fe02.contoso.test\"]", "names = [\"*.contoso.test\"]"));
    // Apart from each other they are none either.
    let apart = GOOD.replacen("[[listener]]", &format!("{second}[[listener]]"), 1);
    warned(&apart, "conf/cs.toml:14:8: peers.pool: is not used by any [[listener]]");
}

#[test]
fn two_sets_of_discovered_peers_of_a_profile_on_a_listener_are_refused_with_both_places() {
    let second = format!("[peers.any]\ntrust = \"public\"\ndiscovered = true\n{LIMITS}\n");
    let apart = discovered() + &second;
    good(&apart);
    refused(
        &apart.replacen("\"world\"]", "\"world\", \"any\"]", 1),
        "conf/cs.toml:30:8: [peers.any] admits the same discovered peers as [peers.world] on line \
         25, and [listener.sip-mtls.peers] on line 18 admits both: it is not clear whose limits \
         count; take one of them out",
    );
}

#[test]
fn ten_thousand_names_are_checked_against_each_other_without_a_look_at_every_pair() {
    let names = |suffix: &str| {
        let names: Vec<String> =
            (0..10_000).map(|n| format!("\"s{n}.{suffix}.contoso.test\"")).collect();
        names.join(", ")
    };
    let text = changed(
        "\"fe01.contoso.test\", \"fe02.contoso.test\"]",
        &format!("{}]\nblocked = [{}]", names("in"), names("out")),
    );
    assert_eq!(good(&text).peers["frontends"].names.len(), 10_000);
    let foreign = text.replacen("\"*.contoso.test\"", &names("other"), 1);
    let errors = errors(&foreign);
    assert_eq!(errors.lines().count(), 10_000);
    let allowed = "\"s7.other.contoso.test\", and 9992 more";
    assert!(errors.lines().all(|line| line.ends_with(allowed)), "lists stay short");
}
