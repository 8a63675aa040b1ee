//! Whole handshakes in calls that pause, given up at each point where they can be.

use std::rc::Rc;

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::PrivateKeyDer;

use super::*;
use crate::{
    crypto::{coroutine, provider},
    pki::{Authority, KeyType, Spec, Validity},
};

const NAME: &str = "server.contoso.test";

/// A client with aws-lc-rs' own cryptography, and a server with that of the lanes.
fn configurations(key: KeyType) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let validity = Validity::from_now(Duration::from_secs(24 * 3600));
    let ca = Authority::root(&Spec::new("Contoso Root", validity)).unwrap();
    let spec = Spec::new(NAME, validity).dns(NAME);
    let server = ca.issue(&spec.clone().server().key_type(key)).unwrap();
    let client = ca.issue(&spec.client()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let plain = aws_lc_rs::default_provider();
    let through_lanes = CryptoProvider {
        kx_groups: vec![provider::group(aws_lc_rs::kx_group::X25519)],
        signature_verification_algorithms: provider::verification_algorithms(),
        ..plain.clone()
    };
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots.clone()),
        Arc::new(through_lanes.clone()),
    );
    let key: PrivateKeyDer<'_> = server.key_der();
    let own = CertifiedKey::new(server.chain().to_vec(), provider::signing_key(&key).unwrap());
    let own: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(own));
    let server = ServerConfig::builder_with_provider(Arc::new(through_lanes))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_cert_resolver(own);
    let client = ClientConfig::builder_with_provider(Arc::new(plain))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(client.chain().to_vec(), client.key_der())
        .unwrap();
    (Arc::new(client), Arc::new(server))
}

/// A handshake in memory, which holds on to `token` for as long as it lives.
fn handshake(
    (client, server): &(Arc<ClientConfig>, Arc<ServerConfig>),
    token: Rc<()>,
) -> Run<bool> {
    let (client, server) = (client.clone(), server.clone());
    let call = move || {
        let _token = token;
        let mut client = ClientConnection::new(client, NAME.try_into().unwrap()).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut &bytes[..]).unwrap();
            server.process_new_packets().unwrap();
            bytes.clear();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut unread = &bytes[..];
            while !unread.is_empty() {
                client.read_tls(&mut unread).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        client.negotiated_key_exchange_group().map(|group| group.name())
            == Some(rustls::NamedGroup::X25519)
    };
    run(call).ok().expect("a stack")
}

/// Runs whatever waits.
fn run_all() {
    Kind::ALL.into_iter().for_each(|kind| worker().run(kind));
}

/// Goes on with a handshake until it has paused so often; whether it is over by then.
fn pauses(run: &mut Run<bool>, times: usize) -> bool {
    for _ in 0..times {
        if let Poll::Ready(result) = poll(run) {
            assert!(result.unwrap());
            return true;
        }
        run_all();
    }
    false
}

/// Shows that nothing of a handshake stays, wherever it is given up: neither its call nor its
/// stack, nor what it owned, nor what it had asked of the lanes.
#[test]
fn a_handshake_that_is_given_up_at_any_of_its_pauses_leaves_nothing() {
    let _plain = installed();
    for key in [KeyType::P256, KeyType::P384, KeyType::Rsa2048] {
        let configurations = configurations(key);
        let token = Rc::new(());
        let mut points = 0;
        loop {
            let mut one = handshake(&configurations, token.clone());
            let over = pauses(&mut one, points);
            // An operation that nobody waits for any more is still in its queue.
            if !over && poll(&mut one).is_pending() {
                assert_eq!((running(), waiting()), (1, 1));
            }
            drop(one);
            assert_eq!((running(), Rc::strong_count(&token)), (0, 1), "at pause {points}");
            assert_eq!(coroutine::kept(), 1, "at pause {points}");
            run_all();
            assert_eq!(waiting(), 0, "at pause {points}");
            if over {
                break;
            }
            points += 1;
        }
        // The agreement, our signature, the client's chain and its signature.
        assert_eq!(points, 5, "{key:?}");
    }
}

/// Picks no certificate.
#[derive(Debug)]
struct Panics;

impl ResolvesServerCert for Panics {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        panic!("in a callback of rustls");
    }
}

/// Shows that a panic below rustls ends the handshake that it happened in, and no other.
#[test]
fn a_panic_inside_of_rustls_ends_its_own_handshake_alone() {
    let _plain = installed();
    let good = configurations(KeyType::P256);
    let mut server = ServerConfig::clone(&good.1);
    server.cert_resolver = Arc::new(Panics);
    let bad = (good.0.clone(), Arc::new(server));
    let token = Rc::new(());
    let mut others: Vec<_> = (0..3).map(|_| handshake(&good, token.clone())).collect();
    assert!(others.iter_mut().all(|other| poll(other).is_pending()));
    let mut one = handshake(&bad, token.clone());
    let outcome = (0..9).find_map(|_| match poll(&mut one) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => {
            run_all();
            None
        }
    });
    assert!(outcome.unwrap().is_err());
    run_all();
    assert!(others.iter_mut().all(|other| pauses(other, 9)));
    assert_eq!((running(), waiting(), Rc::strong_count(&token)), (0, 0, 1));
}

/// Shows that other handshakes end well while some are given up around them, in the same batches.
#[test]
fn handshakes_that_are_given_up_do_no_harm_to_those_that_go_on() {
    let plain = installed();
    let configurations = configurations(KeyType::P256);
    let token = Rc::new(());
    let mut all: Vec<_> =
        (0..3 * LANES).map(|_| Some(handshake(&configurations, token.clone()))).collect();
    let mut ended = 0;
    for round in 0..8 {
        for (number, slot) in all.iter_mut().enumerate() {
            let Some(one) = slot else { continue };
            match poll(one) {
                Poll::Ready(result) => {
                    assert!(result.unwrap());
                    ended += 1;
                    *slot = None;
                }
                Poll::Pending if number % 3 == 1 && number % 5 == round => *slot = None,
                Poll::Pending => {}
            }
            run_full();
        }
        run_all();
    }
    assert!(ended >= 2 * LANES && all.iter().all(Option::is_none), "{ended}");
    assert_eq!((running(), waiting(), Rc::strong_count(&token)), (0, 0, 1));
    let (calls, lanes) = counts(&plain);
    assert!(lanes > calls, "they shared {calls} batches");
}
