//! Where CRLs come from, and what they decide.

use std::{path::PathBuf, time::Duration};

use super::{GOOD, changed, errors, good, refused, warned};
use crate::{
    config::{CrlFetch, CrlSource},
    revocation::{Mode, Rules, Stale},
};

/// `GOOD` with other keys in place of `revocation = "off"`, which stands on line 5.
fn with(keys: &str) -> String {
    changed("revocation = \"off\"", keys)
}

#[test]
fn a_profile_with_a_crl_requires_it_and_one_without_checks_nothing() {
    let config = good(&with("crl = [\"root.crl\"]"));
    assert_eq!(config.warnings, [""; 0]);
    let revocation = &config.trust["contoso"].revocation;
    let rules = Rules { mode: Mode::Require, stale: Stale::Refuse, grace: Duration::ZERO };
    assert_eq!(revocation.rules, rules);
    assert_eq!(revocation.sources, [CrlSource::File("conf/root.crl".into())]);
    assert_eq!(revocation.fetch, CrlFetch::Off);
    let loaded = &config.crls.0[&PathBuf::from("conf/root.crl")];
    assert_eq!(loaded.crls[0].entries(), 2);
    assert_eq!(good(GOOD).trust["contoso"].revocation.rules.mode, Mode::Off);
}

#[test]
fn every_key_is_read() {
    let config = good(&with(
        "crl = [\"crl\"]\ncrl_fetch = [\"http://crl.contoso.test/a\"]\ncrl_stale = \"refuse\"\n\
         crl_grace = \"12h\"\nrevocation = \"prefer\"",
    ));
    let revocation = &config.trust["contoso"].revocation;
    assert_eq!(revocation.rules.mode, Mode::Prefer);
    assert_eq!(revocation.rules.grace, Duration::from_secs(12 * 3600));
    assert_eq!(revocation.sources, [CrlSource::Folder("conf/crl".into())]);
    assert_eq!(config.crls.0.keys().collect::<Vec<_>>(), [&PathBuf::from("conf/crl/root.crl")]);
    assert!(matches!(&revocation.fetch, CrlFetch::Urls(urls) if urls.len() == 1));
    let summary = config.summary();
    for line in [
        "  revocation   a certificate without a CRL passes; a CRL counts for 12h after its end\n",
        "  crl          all in conf/crl\n",
        "  crl fetch    http://crl.contoso.test/a\n",
        "crl fetch      for 30s, at least every 1h, kept in $STATE_DIRECTORY, if there is one\n",
    ] {
        assert!(summary.contains(line), "{line:?} in:\n{summary}");
    }
    let config = good(&with("crl_fetch = \"distribution-points\"\ncrl_stale = \"accept\""));
    let revocation = &config.trust["contoso"].revocation;
    assert_eq!((revocation.rules.mode, revocation.rules.stale), (Mode::Require, Stale::Accept));
    assert_eq!(revocation.fetch, CrlFetch::DistributionPoints);
}

#[test]
fn revocation_that_is_off_without_saying_so_is_warned_of() {
    let warning = "conf/cs.toml:2:8: trust.contoso: revocation is off; say revocation = \"off\" to \
                   show that it is meant";
    warned(&with(""), warning);
    warned(&with("crl_fetch = \"off\""), warning);
}

#[test]
fn what_contradicts_itself_is_refused() {
    refused(
        &with("revocation = \"off\"\ncrl = [\"root.crl\"]"),
        "conf/cs.toml:6:7: [trust.contoso.crl] has no effect: revocation is off; remove it, or say \
         revocation = \"require\" with crl or crl_fetch",
    );
    refused(
        &with("revocation = \"require\""),
        "conf/cs.toml:5:14: [trust.contoso.revocation] needs CRLs to check with; give crl = [files \
         or folders], or crl_fetch",
    );
    refused(
        &with("crl = [\"root.crl\"]\ncrl_stale = \"accept\"\ncrl_grace = \"1h\""),
        "conf/cs.toml:7:13: [trust.contoso.crl_grace] has no effect: a stale CRL is accepted for \
         ever; remove this key, or crl_stale = \"accept\"",
    );
    for key in ["crl_grace = \"0s\"", "crl_stale = \"refuse\""] {
        let errors = errors(&with(&format!("revocation = \"off\"\n{key}")));
        assert!(errors.contains("has no effect: revocation is off"), "{errors}");
    }
    let errors = errors(&with("revocation = \"off\"\ncrl_fetch = \"distribution-points\""));
    assert!(errors.contains("[trust.contoso.crl_fetch] has no effect"), "{errors}");
}

#[test]
fn a_file_that_is_no_crl_is_refused_wherever_it_lies() {
    let broken = errors(&with("crl = [\"bad\"]"));
    let start = "conf/cs.toml:5:8: [trust.contoso.crl] conf/bad/broken.crl is no CRL that can be \
                 used: it is malformed";
    assert!(broken.starts_with(start) && broken.lines().count() == 1, "{broken}");
    for (name, problem) in [
        ("ca.pem", "conf/ca.pem is no CRL that can be used: there is no CRL in it"),
        ("crl.pem", "conf/crl.pem is no CRL that can be used: it is malformed"),
        ("absent.crl", "conf/absent.crl can't be read: no such file"),
        ("http://crl.contoso.test/a", "is a URL; give it in crl_fetch"),
    ] {
        let errors = errors(&with(&format!("crl = [{name:?}]")));
        assert!(errors.contains(problem), "{name}: {errors}");
    }
    assert!(errors(&with("crl = []")).contains("found an empty list; it takes at least one file"));
}

#[test]
fn a_file_that_two_profiles_name_is_read_once() {
    let two = with("shared = true\ncrl = [\"root.crl\", \"crl\"]")
        + "[trust.spare]\nca = [\"ca.pem\"]\nnames = [\"spare.test\"]\nshared = true\ncrl = [\"root.crl\"]\n";
    let config = good(&two);
    assert_eq!(config.crls.0.len(), 2);
}

#[test]
fn a_crl_that_is_out_of_date_and_a_folder_without_any_are_warned_of() {
    let config = good(&with("crl = [\"crl/old\", \"none\", \"odd\"]"));
    let [stale, none, odd, ignored] = config.warnings.as_slice() else {
        panic!("{:?}", config.warnings)
    };
    assert!(stale.contains("is stale since 2026-05-31; replace it"), "{stale}");
    assert!(
        stale.starts_with("conf/cs.toml:5:8: trust.contoso.crl: conf/crl/old/root.crl, of CN=")
    );
    assert!(none.contains("conf/none has no CRL yet"), "{none}");
    assert!(odd.contains("conf/odd has no CRL yet"), "{odd}");
    assert!(ignored.contains("conf/odd/README.txt is not read"), "{ignored}");
}

#[test]
fn urls_that_could_not_be_fetched_are_refused() {
    refused(
        &with("crl_fetch = [\"https://crl.contoso.test/a\"]"),
        "conf/cs.toml:5:14: [trust.contoso.crl_fetch] found \"https://crl.contoso.test/a\"; a CRL \
         is signed by its CA, so that TLS would prove nothing more, and checking the server's \
         certificate could need the very CRL; it takes \"http://\"",
    );
    for (value, problem) in [
        ("\"always\"", "found \"always\"; it takes \"off\", \"distribution-points\", or a list"),
        ("[]", "found an empty list; it takes \"off\""),
        ("[\"http://a/\", \"http://a/\"]", "found \"http://a/\" twice"),
        ("5", "found the integer 5"),
    ] {
        let errors = errors(&with(&format!("crl_fetch = {value}")));
        assert!(errors.contains(problem), "{value}: {errors}");
    }
    let many: Vec<_> = (0..65).map(|number| format!("http://a/{number}")).collect();
    let errors = errors(&with(&format!("crl_fetch = {many:?}")));
    assert!(errors.contains("has 65 URLs; it takes 64 at most"), "{errors}");
}

#[test]
fn words_and_times_that_are_none_are_refused() {
    for (keys, problem) in [
        ("revocation = \"on\"", "accepted: \"require\", \"prefer\", \"off\""),
        ("crl = [\"crl\"]\ncrl_stale = \"ok\"", "accepted: \"refuse\", \"accept\""),
        ("crl = [\"crl\"]\ncrl_grace = \"367days\"", "it takes a time from \"0s\" to"),
        ("crl = [\"crl\"]\ncrl_grace = \"-1s\"", "it takes a time from \"0s\" to"),
    ] {
        let errors = errors(&with(keys));
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(errors.contains(problem), "{keys}: {errors}");
    }
}

#[test]
fn fetching_has_its_section() {
    let fetched = with("crl_fetch = \"distribution-points\"");
    let config = good(&fetched);
    assert_eq!(config.crl_fetching.timeout, Duration::from_secs(30));
    assert_eq!(config.crl_fetching.interval, Duration::from_secs(3600));
    let keys =
        "[revocation]\nstate_dir = \"none\"\nfetch_timeout = \"5s\"\nfetch_interval = \"10m\"\n";
    let config = good(&(fetched.clone() + keys));
    assert_eq!(config.crl_fetching.state_dir, Some("conf/none".into()));
    assert_eq!(config.crl_fetching.timeout, Duration::from_secs(5));
    assert_eq!(config.crl_fetching.interval, Duration::from_secs(600));
    for (key, problem) in [
        ("state_dir = \"ca.pem\"", "conf/ca.pem isn't a folder"),
        ("fetch_interval = \"999ms\"", "is too short; it takes \"1s\" or more"),
        ("fetch_timeout = \"0s\"", "it takes a time"),
        ("state = \"x\"", "is not a key that is known here"),
    ] {
        let errors = errors(&format!("{fetched}[revocation]\n{key}\n"));
        assert!(errors.contains(problem), "{key}: {errors}");
    }
    warned(
        &format!("{GOOD}[revocation]\nfetch_timeout = \"5s\"\n"),
        "conf/cs.toml:21:2: revocation: has no effect: no profile has crl_fetch",
    );
}
