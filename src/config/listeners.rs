//! `[backends.NAME]` and `[[listener]]`.

use std::{cell::Cell, collections::BTreeMap, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use super::{
    Backend, ClientAuth, Enforce, Listener, OwnCertificate, PeerSet, ProxyProtocol, ServerAddress,
    SniPolicy,
    certificates::{Surroundings, load_own},
    conflicts,
    errors::{Located, Place, Report},
    peer_sets::PeerDraft,
    reader::{Reader, check_name},
    tls,
    trust::refer,
    values::{covers, parse_listen, parse_server},
};

/// How long a dial of one server may take unless the configuration says otherwise.
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// The longest protocol name of ALPN, in bytes (RFC 7301 §3.1).
const ALPN_LEN_MAX: usize = 255;

const SERVERS: &str = "at least one server: \"127.0.0.1:5060\", \"[::1]:5060\", \"unix:/path\"";
const LISTEN: &str = "at least one address: \"0.0.0.0:5061\", \"[::]:5061\"";

/// A backend while the file is walked: it may lack what was wrong.
pub(super) struct BackendDraft {
    pub(super) backend: Arc<Backend>,
    at: Place,
    servers: Vec<Located<ServerAddress>>,
    used: Cell<bool>,
}

/// All `[backends.NAME]`.
pub(super) fn read_backends(root: &mut Reader<'_>) -> BTreeMap<Rc<str>, BackendDraft> {
    let tables = root.named_tables("backends");
    let drafts = tables.into_iter().map(|(name, reader)| {
        let draft = read_backend(&name, reader);
        (name, draft)
    });
    drafts.collect()
}

fn read_backend(name: &str, mut reader: Reader<'_>) -> BackendDraft {
    const WORDS: [(&str, ProxyProtocol); 3] = [
        ("off", ProxyProtocol::Off),
        ("v2", ProxyProtocol::V2),
        ("v2-addresses", ProxyProtocol::V2Addresses),
    ];
    reader.require("servers", SERVERS);
    let servers = reader.some_parsed("servers", SERVERS, parse_server).unwrap_or_default();
    let proxy_protocol = reader.word("proxy_protocol", &WORDS);
    let connect_timeout = reader.duration("connect_timeout");
    let at = reader.at().clone();
    reader.finish();
    let backend = Backend {
        name: Arc::from(name),
        servers: servers.iter().map(|server| server.value.clone()).collect(),
        proxy_protocol: proxy_protocol.map_or(ProxyProtocol::Off, |word| word.value),
        connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT_DEFAULT),
    };
    BackendDraft { backend: Arc::new(backend), at, servers, used: Cell::new(false) }
}

/// All `[[listener]]`, and the rules that concern several of them. `admin` is the address of
/// the admin side, and where it stands unless it is the default.
pub(super) fn read_listeners(
    around: Surroundings<'_>,
    root: &mut Reader<'_>,
    peers: &BTreeMap<Rc<str>, PeerDraft>,
    backends: &BTreeMap<Rc<str>, BackendDraft>,
    admin: Option<(SocketAddr, Option<Place>)>,
) -> Vec<Arc<Listener>> {
    let report = around.report;
    root.require("listener", "at least one [[listener]]");
    let readers = root.list_of_tables("listener");
    root.refuse_empty_list("listener", "at least one [[listener]]");
    let drafts: Vec<ListenerDraft> = readers
        .into_iter()
        .flatten()
        .map(|reader| read_listener(around, reader, peers, backends))
        .collect();

    refuse_same_names(report, &drafts);
    refuse_same_addresses(report, &drafts, admin);
    refuse_loops(report, &drafts, backends);
    for draft in peers.values().filter(|draft| !draft.used.get()) {
        report.warn(&draft.at, "is not used by any [[listener]]");
    }
    for draft in backends.values().filter(|draft| !draft.used.get()) {
        report.warn(&draft.at, "is not used by any [[listener]]");
    }
    drafts.into_iter().filter_map(|draft| draft.listener).collect()
}

struct ListenerDraft {
    /// `None` if what it needs was wrong, which has been noted.
    listener: Option<Arc<Listener>>,
    name: Option<Located<Arc<str>>>,
    listen: Vec<Located<SocketAddr>>,
}

fn read_listener(
    around: Surroundings<'_>,
    mut reader: Reader<'_>,
    peers: &BTreeMap<Rc<str>, PeerDraft>,
    backends: &BTreeMap<Rc<str>, BackendDraft>,
) -> ListenerDraft {
    const POLICIES: [(&str, SniPolicy); 2] =
        [("default", SniPolicy::Default), ("strict", SniPolicy::Strict)];
    const ENFORCEMENTS: [(&str, Enforce); 3] =
        [("close", Enforce::Close), ("drain", Enforce::Drain), ("log", Enforce::Log)];
    let report = around.report;
    reader.require("name", "a name of its own, which metrics carry");
    reader.require("listen", LISTEN);
    reader.require("backend", "the name of a [backends.NAME]");
    let name = reader.parsed("name", |text| check_name(text).map(|()| Arc::<str>::from(text)));
    let listen = reader.some_parsed("listen", LISTEN, parse_listen).unwrap_or_default();
    let (client_auth, peers) = read_clients(&mut reader, peers);
    let certificates = read_certificates(around, &mut reader);
    let sni = reader.word("sni", &POLICIES);
    if let Some(sni) = sni.as_ref().filter(|sni| sni.value == SniPolicy::Strict)
        && !certificates.is_empty()
        && certificates.iter().all(|certificate| certificate.dns_names.is_empty())
    {
        let problem = "found \"strict\", but no certificate has a DNS name in its subjectAltName";
        let remedy = "no client could be served; say \"default\", or give one with a DNS name";
        report.error(&sni.at, format_args!("{problem}: {remedy}"));
    }
    let enforce = reader.word("enforce", &ENFORCEMENTS);
    let alpn = reader.any_parsed("alpn", |text| match text.len() {
        1..=ALPN_LEN_MAX => Ok(text.to_owned()),
        len => Err(format!("it has {len} bytes; a protocol name has 1 to {ALPN_LEN_MAX}")),
    });
    let tls = tls::read(reader.table("tls"), &certificates);
    let backend = reader.string("backend");
    let backend = backend.and_then(|name| refer(report, &name, "backends", backends));
    reader.finish();

    let listener = name.as_ref().zip(client_auth).zip(backend);
    let listener = listener.map(|((name, client_auth), backend)| {
        backend.used.set(true);
        Arc::new(Listener {
            name: Arc::clone(&name.value),
            listen: listen.iter().map(|address| address.value).collect(),
            client_auth,
            peers,
            certificates,
            sni: sni.map_or(SniPolicy::Default, |sni| sni.value),
            enforce: enforce.map_or(Enforce::Close, |enforce| enforce.value),
            alpn: alpn.into_iter().map(|protocol| protocol.value).collect(),
            tls,
            backend: Arc::clone(&backend.backend),
        })
    });
    ListenerDraft { listener, name, listen }
}

/// `client_auth` and `peers`, which belong together.
fn read_clients(
    reader: &mut Reader<'_>,
    drafts: &BTreeMap<Rc<str>, PeerDraft>,
) -> (Option<ClientAuth>, Vec<Arc<PeerSet>>) {
    const WORDS: [(&str, ClientAuth); 3] = [
        ("required", ClientAuth::Required),
        ("optional", ClientAuth::Optional),
        ("none", ClientAuth::None),
    ];
    let report = reader.report();
    reader.require("client_auth", "\"required\", \"optional\" or \"none\": there is no default");
    let client_auth = reader.word("client_auth", &WORDS);
    let place = reader.present("peers");
    let names = reader.strings("peers");
    let admitted: Vec<&PeerDraft> = names
        .iter()
        .flatten()
        .filter_map(|name| refer(report, name, "peers", drafts))
        .inspect(|draft| draft.used.set(true))
        .collect();
    conflicts::warn_of_blocked(report, reader.at(), &admitted);
    if let Some(place) = &place {
        conflicts::refuse_common_peers(report, place, &admitted);
        conflicts::refuse_common_discovered(report, place, &admitted);
    }
    if let Some(auth) = &client_auth {
        let is_empty = place.is_none() || reader.is_empty_list("peers");
        match (auth.value, place) {
            (ClientAuth::None, Some(place)) if !is_empty => report.error(
                &place,
                "found peers, but client_auth = \"none\" asks nobody for a certificate; \
                 remove them, or say \"required\" or \"optional\"",
            ),
            (ClientAuth::Required | ClientAuth::Optional, place) if is_empty => report.error(
                &place.unwrap_or_else(|| auth.at.clone()),
                "found a client_auth that asks for certificates, but no peers; \
                 list the names of [peers.NAME] to admit, or say client_auth = \"none\"",
            ),
            _ => {}
        }
    }
    let peers = admitted.iter().filter_map(|draft| draft.set.clone()).collect();
    (client_auth.map(|auth| auth.value), peers)
}

fn read_certificates(around: Surroundings<'_>, reader: &mut Reader<'_>) -> Vec<OwnCertificate> {
    const ACCEPTED: &str = "a list of own certificates: [{ chain = FILE, key = FILE }]";
    reader.require("certificates", ACCEPTED);
    reader.refuse_empty_list("certificates", ACCEPTED);
    let Some(tables) = reader.list_of_tables("certificates") else { return Vec::new() };
    let load = |mut table: Reader<'_>| {
        let certificate = load_own(around, &mut table);
        table.finish();
        certificate
    };
    tables.into_iter().filter_map(load).collect()
}

fn refuse_same_names(report: &Report<'_>, drafts: &[ListenerDraft]) {
    let mut first: BTreeMap<&str, &Place> = BTreeMap::new();
    for name in drafts.iter().filter_map(|draft| draft.name.as_ref()) {
        match first.get(&*name.value) {
            Some(place) => {
                let other = report.cite(place);
                let problem = "is also the name of another listener";
                let message = format_args!("{:?} {problem}, {other}; choose another", name.value);
                report.error(&name.at, message);
            }
            None => _ = first.insert(&name.value, &name.at),
        }
    }
}

fn refuse_same_addresses(
    report: &Report<'_>,
    drafts: &[ListenerDraft],
    admin: Option<(SocketAddr, Option<Place>)>,
) {
    let mut first: BTreeMap<SocketAddr, String> = BTreeMap::new();
    if let Some((address, place)) = admin {
        let cited = place.map_or("the default of [admin.listen]".to_owned(), |p| report.cite(&p));
        first.insert(address, cited);
    }
    let listened: Vec<&Located<SocketAddr>> =
        drafts.iter().flat_map(|draft| &draft.listen).collect();
    for address in listened {
        let socket = address.value;
        if let Some(other) = first.get(&socket) {
            let message = format_args!("{socket} is taken by {other}; choose another");
            report.error(&address.at, message);
            continue;
        }
        for (taken, other) in &first {
            if covers(socket, *taken) || covers(*taken, socket) {
                let message = format_args!("{socket} overlaps {taken} of {other}");
                report.warn(&address.at, message);
            }
        }
        first.insert(socket, report.cite(&address.at));
    }
}

/// A server that is a listener of ours would be dialled by each connection that it accepts.
fn refuse_loops(
    report: &Report<'_>,
    drafts: &[ListenerDraft],
    backends: &BTreeMap<Rc<str>, BackendDraft>,
) {
    let listened = || drafts.iter().flat_map(|draft| &draft.listen);
    for server in backends.values().flat_map(|draft| &draft.servers) {
        let ServerAddress::Tcp(address) = server.value else { continue };
        if let Some(own) = listened().find(|own| own.value == address) {
            let place = report.cite(&own.at);
            report.error(
                &server.at,
                format_args!("{address} is a listener's own address, {place}; give the server's"),
            );
        } else if let Some(own) =
            listened().find(|own| address.ip().is_loopback() && covers(own.value, address))
        {
            let place = report.cite(&own.at);
            let message = format_args!("{address} is also covered by a listener, {place}");
            report.warn(&server.at, message);
        }
    }
}
