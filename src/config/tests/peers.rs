//! `[trust.NAME]` and `[peers.NAME]`.

use super::{GOOD, changed, errors, good, refused, warned};
use crate::config::EkuRule;

/// A second profile with its own peers, admitted by the listener.
pub(super) fn with_partner(trust: &str) -> String {
    changed("peers = [\"frontends\"]", "peers = [\"frontends\", \"partner\"]")
        + &format!(
            r#"
[trust.fabrikam]
ca = ["fabrikam-ca.pem"]
revocation = "off"
{trust}

[peers.partner]
trust = "fabrikam"
names = ["edge.fabrikam.test"]
"#
        )
}

#[test]
fn a_profile_is_read_with_its_defaults_and_its_settings() {
    let config = good(GOOD);
    let profile = &config.trust["contoso"];
    assert_eq!(profile.ca.len(), 1);
    assert_eq!((profile.eku, profile.max_intermediates), (EkuRule::Client, 4));
    assert!(!profile.common_name && !profile.shared);
    let set = "revocation = \"off\"\neku = \"either\"\ncommon_name = true\nmax_intermediates = 0";
    let config = good(&changed("revocation = \"off\"", set));
    let profile = &config.trust["contoso"];
    assert_eq!((profile.eku, profile.max_intermediates), (EkuRule::Either, 0));
    assert!(profile.common_name);
}

#[test]
fn peers_carry_their_profile() {
    let config = good(&with_partner("names = [\"*.fabrikam.test\"]"));
    assert_eq!(config.warnings, [""; 0]);
    assert_eq!(&*config.peers["partner"].trust.name, "fabrikam");
    let admitted: Vec<_> = config.listeners[0].peers.iter().map(|set| &*set.name).collect();
    assert_eq!(admitted, ["frontends", "partner"]);
}

#[test]
fn an_unknown_profile_is_refused_with_the_nearest_name() {
    refused(
        &changed("trust = \"contoso\"", "trust = \"contosso\""),
        "conf/cs.toml:8:9: [peers.frontends.trust] found \"contosso\", which is no \
         [trust.NAME]; did you mean \"contoso\"?",
    );
    refused(
        &changed("trust = \"contoso\"", "trust = \"x\""),
        "conf/cs.toml:8:9: [peers.frontends.trust] found \"x\", which is no [trust.NAME]; there \
         are: \"contoso\"",
    );
}

#[test]
fn a_peer_outside_its_profile_is_refused_with_both_places() {
    refused(
        &changed("\"fe02.contoso.test\"", "\"fe02.fabrikam.test\""),
        "conf/cs.toml:9:31: [peers.frontends.names] \"fe02.fabrikam.test\" is not a name that \
         [trust.contoso.names] on line 4 may vouch for; it allows \"*.contoso.test\"",
    );
}

#[test]
fn profiles_that_could_vouch_for_the_same_name_are_refused_with_both_places() {
    let names = "names = [\"*.fabrikam.test\", \"fe01.contoso.test\"]";
    refused(
        &with_partner(names),
        "conf/cs.toml:25:29: [trust.fabrikam.names] \"fe01.contoso.test\" overlaps \
         \"*.contoso.test\" of [trust.contoso.names] on line 4: two profiles could vouch for the \
         same name; narrow one, or say shared = true in both",
    );
    let one = with_partner(&format!("{names}\nshared = true"));
    assert!(errors(&one).contains("say shared = true in both"), "one of the two isn't enough");
    let both = one.replacen("revocation = \"off\"", "revocation = \"off\"\nshared = true", 1);
    assert!(good(&both).trust.values().all(|profile| profile.shared));
}

#[test]
fn a_name_that_is_listed_and_blocked_is_refused_with_both_places() {
    refused(
        &changed(
            "\"fe02.contoso.test\"]",
            "\"fe02.contoso.test\"]\nblocked = [\"fe02.contoso.test\"]",
        ),
        "conf/cs.toml:9:31: [peers.frontends.names] \"fe02.contoso.test\" is blocked; take it \
         out of one of the two lists: [peers.frontends.blocked] on line 10",
    );
}

#[test]
fn a_part_of_a_wildcard_can_be_blocked() {
    let text = changed(
        "names = [\"fe01.contoso.test\", \"fe02.contoso.test\"]",
        "names = [\"*.contoso.test\"]\nblocked = [\"old.contoso.test\"]",
    );
    let config = good(&text);
    assert_eq!(config.peers["frontends"].blocked[0].to_string(), "old.contoso.test");
    assert!(config.summary().contains("frontends but never old.contoso.test\n"));
}

#[test]
fn a_name_that_another_set_of_the_listener_blocks_is_warned_of() {
    let text = with_partner("names = [\"*.fabrikam.test\"]") + "blocked = [\"fe01.contoso.test\"]";
    warned(
        &text,
        "conf/cs.toml:14:1: listener.sip-mtls: admits \"fe01.contoso.test\" by \
         [peers.frontends.names] on line 9, which is blocked by [peers.partner.blocked] on line \
         30",
    );
}

#[test]
fn what_nothing_uses_is_warned_of() {
    let unused =
        "[trust.spare]\nca = [\"fabrikam-ca.pem\"]\nnames = [\"spare.test\"]\nrevocation = \"off\"";
    warned(
        &format!("{GOOD}{unused}"),
        "conf/cs.toml:21:8: trust.spare: is not used by any [peers.NAME]",
    );
    let unused = "[peers.spare]\ntrust = \"contoso\"\nnames = [\"spare.contoso.test\"]";
    warned(
        &format!("{GOOD}{unused}"),
        "conf/cs.toml:21:8: peers.spare: is not used by any [[listener]]",
    );
    let unused = "[backends.spare]\nservers = [\"127.0.0.1:1\"]";
    warned(
        &format!("{GOOD}{unused}"),
        "conf/cs.toml:21:11: backends.spare: is not used by any [[listener]]",
    );
}

#[test]
fn lists_of_names_are_never_empty_and_say_nothing_twice() {
    let text = changed("names = [\"*.contoso.test\"]", "names = []");
    assert!(errors(&text).contains("[trust.contoso.names] found an empty list; it takes"));
    let text = changed("\"fe02.contoso.test\"", "\"fe01.contoso.test\"");
    assert!(errors(&text).contains("found \"fe01.contoso.test\" twice; once is enough"));
    let text = changed("\"fe02.contoso.test\"", "5");
    assert!(errors(&text).contains("[peers.frontends.names] found the integer 5"));
}

#[test]
fn values_out_of_range_are_refused() {
    let set =
        |line: &str| changed("revocation = \"off\"", &format!("revocation = \"off\"\n{line}"));
    for (line, error) in [
        ("max_intermediates = 7", "found 7; it takes an integer from 0 to 6"),
        ("max_intermediates = -1", "found -1; it takes an integer from 0 to 6"),
        ("eku = \"any\"", "found \"any\"; accepted: \"client\", \"server\", \"either\""),
        ("common_name = 1", "found the integer 1; it takes true or false"),
    ] {
        assert!(errors(&set(line)).contains(error), "{line}");
    }
}
