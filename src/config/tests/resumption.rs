//! `[resumption]`: where sessions are kept.

use super::{GOOD, errors, good, refused};
use crate::config::{Config, Resumption};

fn with(lines: &str) -> String {
    format!("[resumption]\n{lines}\n{GOOD}")
}

fn keys(list: &str) -> String {
    with(&format!("mode = \"tickets\"\nticket_keys = {list}"))
}

/// The one error of a list of keys, from its message on.
fn key_error(list: &str) -> String {
    let errors = errors(&keys(list));
    assert_eq!(errors.lines().count(), 1, "{errors}");
    let (_, message) = errors.split_once("[resumption.ticket_keys] ").unwrap();
    message.to_owned()
}

#[test]
fn sessions_are_kept_here_unless_said_otherwise() {
    assert_eq!(good(GOOD).resumption, Resumption::Cache { bytes: 64 << 20 });
    assert_eq!(good(&with("")).resumption, Resumption::Cache { bytes: 64 << 20 });
    let sized = with("mode = \"cache\"\ncache_bytes = \"1GiB\"");
    assert_eq!(good(&sized).resumption, Resumption::Cache { bytes: 1 << 30 });
    assert_eq!(good(&with("mode = \"off\"")).resumption, Resumption::Off);
    let own = good(&with("mode = \"tickets\"")).resumption;
    assert_eq!(own, Resumption::Tickets { keys: Vec::new() });
}

#[test]
fn ticket_keys_are_read_in_their_order() {
    let config = good(&keys("[\"b.ticket\", \"a.ticket\"]"));
    let Resumption::Tickets { keys } = &config.resumption else { panic!("{config:?}") };
    let files: Vec<_> = keys.iter().map(|key| key.file.to_str().unwrap()).collect();
    assert_eq!(files, ["conf/b.ticket", "conf/a.ticket"]);
    assert!(keys.iter().all(|key| key.secret.len() == 64));
    assert_ne!(keys[0].secret, keys[1].secret);
}

#[test]
fn a_key_that_means_nothing_in_its_mode_is_refused_with_both_places() {
    refused(
        &with("mode = \"cache\"\nticket_keys = [\"a.ticket\"]"),
        "conf/cs.toml:3:15: [resumption.ticket_keys] has no effect with [resumption.mode] on line \
         2; remove this key, or say mode = \"tickets\"",
    );
    refused(
        &with("ticket_keys = [\"a.ticket\"]"),
        "conf/cs.toml:2:15: [resumption.ticket_keys] has no effect with mode = \"cache\", the \
         default; remove this key, or say mode = \"tickets\"",
    );
    for mode in ["tickets", "off"] {
        refused(
            &with(&format!("mode = \"{mode}\"\ncache_bytes = \"2MiB\"")),
            "conf/cs.toml:3:15: [resumption.cache_bytes] has no effect with [resumption.mode] on \
             line 2; remove this key, or say mode = \"cache\"",
        );
    }
    refused(
        &with("mode = \"ticket\"\nticket_keys = [\"a.ticket\"]"),
        "conf/cs.toml:2:8: [resumption.mode] found \"ticket\"; accepted: \"cache\", \"tickets\", \
         \"off\"",
    );
}

#[test]
fn a_size_out_of_bounds_is_refused() {
    for size in ["\"512KiB\"", "\"65GiB\"", "\"64MB\"", "67108864"] {
        let errors = errors(&with(&format!("cache_bytes = {size}")));
        assert!(errors.contains("[resumption.cache_bytes] found"), "{errors}");
    }
}

#[test]
fn a_ticket_key_that_cannot_be_used_is_refused_by_name() {
    const REMEDY: &str = "make one by: (umask 077; head -c 64 /dev/urandom > ticket.key)";
    for (file, error) in [
        ("none.ticket", "can't be read: no such file".to_owned()),
        ("short.ticket", format!("has 63 bytes; a ticket key has 64: {REMEDY}")),
        ("long.ticket", format!("has 65 bytes; a ticket key has 64: {REMEDY}")),
        ("text.ticket", format!("holds text; a ticket key is random bytes: {REMEDY}")),
        ("same.ticket", format!("isn't random, as a ticket key has to be; {REMEDY}")),
        (
            "open.ticket",
            "is a ticket key that every user may read or write (mode 0644); make a new one, and \
             chmod o-rw"
                .to_owned(),
        ),
    ] {
        assert_eq!(
            key_error(&format!("[\"a.ticket\", \"{file}\"]")),
            format!("conf/{file} {error}")
        );
    }
    assert_eq!(
        key_error("[\"a.ticket\", \"b.ticket\", \"copy.ticket\"]"),
        "conf/copy.ticket holds the same key as conf/a.ticket, [resumption.ticket_keys] on line \
         3; name it once"
    );
    assert!(key_error("[]").starts_with("found an empty list; it takes files of 64 random bytes"));
}

#[test]
fn the_summary_says_where_sessions_are_kept_and_never_a_key() {
    let said = |config: &Config| {
        let summary = config.summary();
        let line = summary.lines().find(|line| line.starts_with("resumption")).unwrap();
        line.trim_start_matches("resumption").trim().to_owned()
    };
    assert_eq!(said(&good(GOOD)), "sessions are kept here, in 64 MiB at most");
    let sized = with("cache_bytes = \"1537KiB\"");
    assert_eq!(said(&good(&sized)), "sessions are kept here, in 1537 KiB at most");
    assert_eq!(said(&good(&with("mode = \"off\""))), "off");
    assert_eq!(said(&good(&with("mode = \"tickets\""))), "tickets, by keys of this process");
    assert_eq!(
        said(&good(&keys("[\"a.ticket\", \"b.ticket\"]"))),
        "tickets, by keys of conf/a.ticket, conf/b.ticket; the first one seals"
    );
}
