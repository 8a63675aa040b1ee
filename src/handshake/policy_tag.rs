//! What a session is bound to: all that the decision about its client depends on, and the server
//! name that it was agreed for.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};

use crate::config::{CaCertificate, Discovered, Listener, PeerSet, Revocation, TrustProfile};

/// SHA-256 of all that a listener's decision depends on.
pub(super) type PolicyTag = [u8; 32];

/// The tag of a session: that of its listener, and the server name that it was agreed for, if there
/// was one (RFC 6066 §3 has it resumed under no other).
pub(super) fn session_tag(policy: &PolicyTag, server_name: Option<&str>) -> PolicyTag {
    // The first part has a fixed length, so that no two pairs look the same.
    let mut bytes = policy.to_vec();
    bytes.push(u8::from(server_name.is_some()));
    bytes.extend_from_slice(server_name.unwrap_or_default().as_bytes());
    hash(&bytes)
}

/// The tag of a listener. It is the same in every process that has the same settings, wherever
/// their files lie.
pub(super) fn policy_tag(listener: &Listener) -> PolicyTag {
    let mut text = format!("{:?}\n{:?}\n", listener.name, listener.client_auth);
    for peers in &listener.peers {
        add_peers(&mut text, peers);
    }
    hash(text.as_bytes())
}

// Every field is named in the patterns, so that one that comes later is thought of. Writing to a
// String doesn't fail.

fn add_peers(text: &mut String, peers: &PeerSet) {
    let PeerSet { name, trust, names, blocked, pins, limits, discovered } = peers;
    let _ = writeln!(text, "peers {:?}", (name, names, blocked, pins, limits));
    add_profile(text, trust);
    if let Some(Discovered { reserved }) = discovered {
        let _ = writeln!(text, "discovered, {} profiles reserved", reserved.len());
        for profile in reserved {
            add_profile(text, profile);
        }
    }
}

fn add_profile(text: &mut String, profile: &TrustProfile) {
    let TrustProfile {
        name,
        ca,
        names,
        eku,
        common_name,
        max_intermediates,
        min_rsa_bits,
        min_ec_bits,
        shared,
        // Where CRLs lie decides nothing; what they say is asked whenever a session is resumed.
        revocation: Revocation { rules, sources: _, fetch },
    } = profile;
    let keys = (max_intermediates, min_rsa_bits, min_ec_bits);
    let _ = writeln!(text, "trust {:?}", (name, names, eku, common_name, keys, shared));
    let _ = writeln!(text, "revocation {:?}, {} CAs", (rules, fetch), ca.len());
    for CaCertificate { file: _, der, not_after: _ } in ca {
        let _ = writeln!(text, "{:?}", hash(der));
    }
}

fn hash(bytes: &[u8]) -> PolicyTag {
    let mut hash = PolicyTag::default();
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::{
        config::Config,
        pki::{Authority, Identity, Spec, Validity},
    };

    const TEXT: &str = r#"
[trust.contoso]
ca = ["ca.pem"]
names = ["*.contoso.test"]
revocation = "off"

[peers.clients]
trust = "contoso"
names = ["fe01.contoso.test"]

[backends.app]
servers = ["127.0.0.1:1"]

[[listener]]
name = "main"
listen = ["127.0.0.1:2"]
client_auth = "required"
peers = ["clients"]
certificates = [{ chain = "own.pem", key = "own.key" }]
backend = "app"
"#;

    /// The tag of the listener with that text, in a folder of its own.
    fn tag(ca: &Authority, own: &Identity, ca_file: &str, text: &str) -> PolicyTag {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        let write = |path: &Path, text: &str| fs::write(path, text).expect("written");
        write(&file(ca_file), &ca.pem());
        own.write(&file("own.pem"), &file("own.key")).expect("written");
        write(&file("countersign.toml"), text);
        policy_tag(&Config::load(&file("countersign.toml")).expect("good").listeners[0])
    }

    #[test]
    fn a_session_s_tag_is_of_its_listener_and_its_server_name() {
        let names = [None, Some(""), Some("a.test"), Some("b.test")];
        let tags: Vec<_> = [[1; 32], [2; 32]]
            .iter()
            .flat_map(|policy| names.map(|name| session_tag(policy, name)))
            .collect();
        for (place, tag) in tags.iter().enumerate() {
            assert!(!tags[..place].contains(tag), "{place}");
        }
    }

    /// Two hosts of a fleet have the same settings in other folders, under other names of files, at
    /// other addresses.
    #[test]
    fn the_tag_is_of_what_decides_and_not_of_where_files_lie() {
        let validity = Validity::from_now(std::time::Duration::from_secs(3600));
        let ca = Authority::root(&Spec::new("Contoso Root", validity)).expect("a CA");
        let other = Authority::root(&Spec::new("Contoso Root", validity)).expect("a CA");
        let own = Spec::new("www", validity).dns("www.contoso.test").server();
        let own = ca.issue(&own).expect("a certificate");
        let here = tag(&ca, &own, "ca.pem", TEXT);
        assert_eq!(tag(&ca, &own, "ca.pem", TEXT), here, "another folder");
        let renamed = TEXT.replace("ca.pem", "root.pem").replace("127.0.0.1:2", "127.0.0.1:3");
        assert_eq!(tag(&ca, &own, "root.pem", &renamed), here, "other names");
        assert_ne!(tag(&other, &own, "ca.pem", TEXT), here, "another CA of that name");
        for (from, to) in [
            ("name = \"main\"", "name = \"other\""),
            ("\"required\"", "\"optional\""),
            ("fe01", "fe02"),
            (
                "names = [\"fe01.contoso.test\"]",
                "names = [\"fe01.contoso.test\"]\nblocked = [\"x.contoso.test\"]",
            ),
            ("revocation = \"off\"", "revocation = \"off\"\neku = \"either\""),
            ("revocation = \"off\"", "revocation = \"off\"\nmin_rsa_bits = 3072"),
        ] {
            let changed = TEXT.replace(from, to);
            assert_ne!(changed, TEXT);
            assert_ne!(tag(&ca, &own, "ca.pem", &changed), here, "{to}");
        }
    }
}
