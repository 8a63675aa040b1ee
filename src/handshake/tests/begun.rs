//! When a handshake has begun: from then on its client waits in no line any more.

use std::{
    net::{Ipv4Addr, UdpSocket},
    os::fd::OwnedFd,
    rc::Rc,
};

use rustls::{
    NamedGroup,
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs::kx_group},
};

use super::*;
use crate::{
    admission::{Budgets, Door, HandshakePlace, Limits},
    handshake::{
        full,
        machine::{Machine, Step},
    },
    metrics::ProcessMetrics,
    ring::Socket,
};

fn place() -> Rc<HandshakePlace> {
    let metrics = Metrics::new().expect("fixed buckets");
    let limits = Limits {
        connections: 1,
        handshakes: 1,
        full: 1,
        reserved: 0,
        of_one_address: None,
        wait: Duration::from_secs(1),
    };
    let door = Door::new(Budgets::new(Arc::new(ProcessMetrics::new(&metrics)), limits));
    // Nothing is read from it.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let socket = Socket::new(OwnedFd::from(socket));
    door.admit(&socket, Ipv4Addr::LOCALHOST.into()).expect("room").handshake
}

fn provider(groups: Vec<&'static dyn SupportedKxGroup>) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: groups, ..default_provider() })
}

/// A server that agrees on keys by P-256 only, and a client whose first share is of this group.
fn pair(share: &'static dyn SupportedKxGroup) -> (Machine, ClientConnection) {
    let scene = Scene::new();
    let server = ServerConfig::builder_with_provider(provider(vec![full::held_to_budget(
        kx_group::SECP256R1,
    )]))
    .with_protocol_versions(&[&TLS13])
    .expect("a version")
    .with_no_client_auth()
    .with_single_cert(scene.own.chain().to_vec(), scene.own.key_der())
    .expect("a certificate");
    let client = ClientConfig::builder_with_provider(provider(vec![share, kx_group::SECP256R1]))
        .with_protocol_versions(&[&TLS13])
        .expect("a version")
        .with_root_certificates(scene.roots)
        .with_no_client_auth();
    let name = "www.contoso.test".try_into().expect("a name");
    let client = ClientConnection::new(Arc::new(client), name).expect("a client");
    (Machine::new(Arc::new(server), &place(), false).expect("a machine"), client)
}

/// Has the machine take what the client says, and the client what the machine answers.
fn exchange(machine: &mut Machine, client: &mut ClientConnection) {
    let mut said = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut said).expect("to memory");
    }
    let space = machine.space().expect("short enough");
    space[..said.len()].copy_from_slice(&said);
    machine.received(said.len());
    loop {
        match machine.step() {
            Step::Write => {
                let mut answer = &machine.output[..];
                while !answer.is_empty() {
                    client.read_tls(&mut answer).expect("from memory");
                    client.process_new_packets().expect("a good answer");
                }
                machine.output.clear();
            }
            Step::Read | Step::Done => return,
            Step::Failed(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_handshake_begins_with_its_key_agreement() {
    let (mut machine, mut client) = pair(kx_group::SECP256R1);
    assert!(!machine.has_begun());
    exchange(&mut machine, &mut client);
    assert!(machine.has_begun());
    assert_eq!(client.negotiated_key_exchange_group().unwrap().name(), NamedGroup::secp256r1);
}

// A HelloRetryRequest costs us nothing. Were it a beginning, a crowd that was sent one could come
// back all at once and be ahead of everybody in line.
#[test]
fn who_was_asked_for_another_key_share_has_yet_to_begin() {
    let (mut machine, mut client) = pair(kx_group::X25519);
    exchange(&mut machine, &mut client);
    assert!(!machine.is_fresh(), "it was answered");
    assert!(!machine.has_begun());
    exchange(&mut machine, &mut client);
    assert!(machine.has_begun());
}

// The server's groups and keys aren't guarded: only the session tells that it has begun.
#[test]
fn a_resumed_handshake_has_begun_with_its_session() {
    for version in [&TLS13, &TLS12] {
        let scene = Scene::new();
        let (client, store) = (scene.client(version), store(&CACHE));
        let server = scene.server(version, &store, scene.rule(1, 3600));
        assert_eq!(shake_hands(&client, &server), HandshakeKind::Full);
        for begun in [true, false] {
            let name = "www.contoso.test".try_into().expect("a name");
            // A TLS 1.2 client goes on with its session; in TLS 1.3 it has one fewer each time.
            let config = if begun { client.clone() } else { scene.client(version) };
            let mut client = ClientConnection::new(config, name).expect("a client");
            let mut machine = Machine::new(server.clone(), &place(), false).expect("a machine");
            exchange(&mut machine, &mut client);
            assert_eq!(machine.has_begun(), begun, "{version:?}");
        }
    }
}
