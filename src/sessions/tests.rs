//! The register on a ring of its own, with a clock that the tests move.

use std::{collections::BTreeMap, fs, os::unix::net::UnixStream};

use rustls_pki_types::UnixTime;
use tempfile::TempDir;

use super::*;
use crate::{
    config::{ClientAuth, Config},
    crls::Before,
    generation::{Generation, Service},
    metrics::{CacheMetrics, Metrics},
    pki::{Authority, CrlSpec, Identity, Reason, Spec, Validity},
    quota::Usage,
    resumption::SessionStore,
    revocation::{Crl, Mode, Offered, Rules, Stale, Store, Stores},
    trust::Refusal,
};

const LIMITS: SessionLimits = SessionLimits {
    handshake: Duration::from_secs(10),
    idle: Some(Duration::from_secs(60)),
    half_open: Duration::from_secs(5),
    lifetime: Some(Duration::from_secs(100)),
};

/// For tests that are about something else.
const UNLIMITED: SessionLimits = SessionLimits { idle: None, lifetime: None, ..LIMITS };

/// How long the client's certificate is valid.
const VALIDITY: Duration = Duration::from_secs(3600);

/// A register, and certificates for the configurations that it is held to.
struct World {
    sessions: Rc<Sessions>,
    metrics: Metrics,
    ca: Authority,
    client: Identity,
    folder: TempDir,
    began_ms: i64,
    /// Ends of sockets that nobody reads.
    others: RefCell<Vec<UnixStream>>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let validity = Validity::from_now(2 * VALIDITY);
        let ca = Authority::root(&Spec::new("Contoso Root", validity)).unwrap();
        fs::write(file("ca.pem"), ca.pem()).unwrap();
        let own = ca.issue(&Spec::new("www", validity).dns("www.contoso.test").server()).unwrap();
        own.write(&file("own.pem"), &file("own.key")).unwrap();
        let spec = Spec::new("fe01", Validity::from_now(VALIDITY)).dns("fe01.contoso.test");
        let client = ca.issue(&spec.client()).unwrap();
        let sessions = Sessions::new();
        let began_ms = clock::wall_ms();
        sessions.clock.advance(0, began_ms);
        let metrics = Metrics::new().unwrap();
        Self { sessions, metrics, ca, client, folder, began_ms, others: RefCell::default() }
    }

    /// The terms of a listener `main` with these lines more, as of a new generation.
    fn terms(&self, lines: &str) -> Terms {
        self.service_of(lines, "fe01.contoso.test").terms()
    }

    /// The same with another peer, and as the whole service.
    fn service_of(&self, lines: &str, name: &str) -> Arc<Service> {
        self.service(&self.text_of(lines, name))
    }

    fn text_of(&self, lines: &str, name: &str) -> String {
        format!(
            "[limits]\ndrain_timeout = \"30s\"\n\
             [trust.contoso]\nca = [\"ca.pem\"]\nnames = [\"*.contoso.test\"]\n\
             revocation = \"off\"\n\
             [peers.clients]\ntrust = \"contoso\"\nnames = [\"{name}\"]\n\
             [backends.app]\nservers = [\"127.0.0.1:1\"]\n\
             [[listener]]\nname = \"main\"\nlisten = [\"127.0.0.1:2\"]\npeers = [\"clients\"]\n\
             certificates = [{{ chain = \"own.pem\", key = \"own.key\" }}]\nbackend = \"app\"\n\
             {lines}\n"
        )
    }

    /// The listener of a configuration, as of a new generation.
    fn service(&self, text: &str) -> Arc<Service> {
        let path = self.folder.path().join("countersign.toml");
        fs::write(&path, text).unwrap();
        let config = Config::load(&path).unwrap();
        let kept = CacheMetrics::new(&self.metrics);
        let kept = SessionStore::new(&config.resumption, &kept).unwrap();
        let usage = Usage::new();
        let generation =
            Generation::new(1, config, &self.metrics, &kept, &usage, Before::default()).unwrap();
        generation.services[0].clone()
    }

    /// Terms that ask these CRLs.
    fn terms_with(&self, store: &Arc<Store>) -> Terms {
        let service = self.service_of("client_auth = \"required\"", "fe01.contoso.test");
        let stores = Stores::from(BTreeMap::from([(Arc::from("contoso"), store.clone())]));
        let policy = Policy::new(ClientAuth::Required, &service.config.peers, &stores).unwrap();
        Terms { policy: Arc::new(policy), ..service.terms() }
    }

    /// Puts a CRL of the CA into the store.
    fn publish(&self, store: &Store, spec: &CrlSpec) {
        let crl = Crl::parse(self.ca.crl(spec).unwrap().der()).unwrap();
        let offered = store.offer("test", vec![Arc::new(crl)], UnixTime::now());
        assert!(matches!(offered[..], [Offered::InUse]), "{offered:?}");
    }

    /// A new generation, whose only listener is `main`.
    fn apply(&self, terms: &Terms) {
        self.sessions.apply([("main".into(), terms.clone())]);
    }

    /// A connection that was accepted under `terms`.
    fn accept(&self, limits: SessionLimits, terms: &Terms) -> Registration {
        let (one, other) = UnixStream::pair().unwrap();
        self.others.borrow_mut().push(other);
        let terms = terms.clone();
        self.sessions.open(Socket::new(one.into()), limits, &"main".into(), || terms)
    }

    /// A client without a certificate that was let in.
    fn anonymous(&self, terms: &Terms) -> Registration {
        let registration = self.accept(UNLIMITED, terms);
        let permit = terms.policy.without_certificate().unwrap();
        registration.admit(&terms.policy, permit).unwrap();
        registration.enter(Phase::Relay);
        registration
    }

    fn permit(&self, terms: &Terms) -> Permit {
        terms.policy.decide(self.client.chain(), UnixTime::now()).unwrap()
    }

    /// A client with a certificate that was let in.
    fn known(&self, terms: &Terms) -> Registration {
        let registration = self.accept(UNLIMITED, terms);
        registration.admit(&terms.policy, self.permit(terms)).unwrap();
        registration.enter(Phase::Relay);
        registration
    }

    /// So many ticks have passed since the beginning, and everything was done that was due.
    fn advance(&self, tick: Tick) {
        self.sessions.advance(tick, self.began_ms + i64::from(tick) * 100);
        self.work();
    }

    fn work(&self) {
        while self.sessions.has_work() {
            self.sessions.work();
        }
    }

    /// What a counter of the listener says.
    fn count(&self, metric: &str, reason: &str) -> u64 {
        let start = format!("countersign_{metric}{{listener=\"main\",reason=\"{reason}\"}} ");
        let text = self.metrics.render();
        text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
    }
}

/// Runs `test` on a ring of its own.
fn on_a_ring(test: impl FnOnce(World)) {
    crate::ring::run(async { test(World::new()) });
}

/// The same with a connection that has just been accepted.
fn with_session(test: impl FnOnce(World, Registration)) {
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"optional\"");
        world.apply(&terms);
        let registration = world.accept(LIMITS, &terms);
        test(world, registration);
    });
}

#[test]
fn a_handshake_is_ended_by_one_total_deadline_whatever_is_received() {
    with_session(|world, registration| {
        for now in [50, 99] {
            registration.session().touch();
            world.advance(now);
            assert_eq!(registration.session().ended(), None);
        }
        world.advance(100);
        assert_eq!(registration.session().ended(), Some(CloseCause::HandshakeFailed));
    });
}

#[test]
fn a_byte_moves_the_idle_limit_but_not_the_lifetime() {
    with_session(|world, registration| {
        registration.enter(Phase::Relay);
        world.advance(590);
        registration.session().touch();
        world.advance(999);
        assert_eq!(registration.session().ended(), None);
        world.advance(1000);
        assert_eq!(registration.session().ended(), Some(CloseCause::MaxLifetime));
    });
}

#[test]
fn a_connection_at_the_end_of_its_lifetime_still_gets_its_last_words_out() {
    with_session(|world, registration| {
        registration.enter(Phase::Relay);
        world.advance(500);
        registration.session().touch();
        world.advance(1000);
        assert_eq!(registration.session().ended(), Some(CloseCause::MaxLifetime));
        registration.enter(Phase::Linger);
        let last = Some((1010, Due::Close(CloseCause::Complete)));
        assert_eq!(registration.session().deadline(), last);
    });
}

#[test]
fn an_idle_connection_is_ended_at_its_limit() {
    with_session(|world, registration| {
        registration.enter(Phase::Relay);
        world.advance(599);
        assert_eq!(registration.session().ended(), None);
        world.advance(600);
        assert_eq!(registration.session().ended(), Some(CloseCause::IdleTimeout));
    });
}

#[test]
fn a_shorter_limit_of_a_later_phase_takes_effect_at_once() {
    with_session(|world, registration| {
        registration.enter(Phase::Relay);
        world.advance(10);
        registration.enter(Phase::HalfOpen);
        world.advance(60);
        assert_eq!(registration.session().ended(), Some(CloseCause::HalfOpenTimeout));
    });
}

#[test]
fn a_connection_that_is_gone_leaves_nothing_behind() {
    with_session(|world, registration| {
        drop(registration);
        assert!(world.sessions.is_empty() && world.sessions.due.borrow().is_empty());
    });
}

#[test]
fn the_first_cause_of_an_end_is_the_one_that_counts() {
    with_session(|world, registration| {
        registration.session().end(CloseCause::Drained);
        world.sessions.end_all(CloseCause::Internal);
        assert_eq!(registration.session().ended(), Some(CloseCause::Drained));
    });
}

#[test]
fn a_connection_ends_with_the_last_second_of_its_certificate() {
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"required\"");
        world.apply(&terms);
        let registration = world.known(&terms);
        let until = world.permit(&terms).valid_until().unwrap().as_secs();
        let last_ms = i64::try_from(until).unwrap() * 1000 + 999;
        let last = Tick::try_from((last_ms - world.began_ms) / 100).unwrap();
        world.advance(last);
        assert_eq!(registration.session().ended(), None);
        world.advance(last + 3);
        assert_eq!(registration.session().ended(), Some(CloseCause::Expired));
        let told = registration.session().take_loss().unwrap();
        assert!(told.starts_with("expired: "), "{told}");
        assert_eq!(world.count("sessions_terminated_total", "expired"), 1);
    });
}

#[test]
fn a_clock_that_is_set_past_the_end_of_a_certificate_ends_the_connection() {
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"required\"");
        world.apply(&terms);
        let registration = world.known(&terms);
        world.advance(10);
        let later_ms = world.began_ms + 2 * 3_600_000;
        world.sessions.advance(20, later_ms);
        world.work();
        assert_eq!(registration.session().ended(), Some(CloseCause::Expired));
    });
}

#[test]
fn a_clock_that_is_set_back_gives_a_connection_the_rest_of_its_time() {
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"required\"");
        world.apply(&terms);
        let registration = world.known(&terms);
        // Half of the validity passes, and then never did.
        world.advance(18_000);
        world.sessions.advance(18_001, world.began_ms);
        world.work();
        world.sessions.advance(18_001 + 35_000, world.began_ms + 3_500_000);
        world.work();
        assert_eq!(registration.session().ended(), None);
        world.sessions.advance(18_001 + 36_100, world.began_ms + 3_610_000);
        world.work();
        assert_eq!(registration.session().ended(), Some(CloseCause::Expired));
    });
}

#[test]
fn a_reload_without_the_listener_ends_its_connections_and_its_handshakes() {
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"optional\"");
        world.apply(&terms);
        let live = world.anonymous(&terms);
        let shaking = world.accept(UNLIMITED, &terms);
        world.sessions.apply([("other".into(), terms.clone())]);
        world.work();
        for registration in [&live, &shaking] {
            assert_eq!(registration.session().ended(), Some(CloseCause::ListenerRemoved));
        }
        // The kernel had accepted this one before.
        let late = world.accept(UNLIMITED, &terms);
        assert_eq!(late.session().ended(), Some(CloseCause::ListenerRemoved));
        assert_eq!(world.count("sessions_terminated_total", "listener_removed"), 1);
    });
}

#[test]
fn connections_of_a_listener_that_comes_back_are_held_to_its_new_terms() {
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"optional\"\nenforce = \"log\"");
        world.apply(&terms);
        let registration = world.anonymous(&terms);
        world.sessions.apply([("other".into(), terms)]);
        world.work();
        assert_eq!(registration.session().ended(), None);
        assert_eq!(world.count("sessions_tolerated_total", "listener_removed"), 1);
        world.apply(&world.terms("client_auth = \"required\""));
        world.work();
        assert_eq!(registration.session().ended(), Some(CloseCause::RuleRemoved));
    });
}

#[test]
fn listeners_that_are_gone_are_forgotten_with_their_last_connection() {
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"optional\"\nenforce = \"log\"");
        world.apply(&terms);
        let registration = world.anonymous(&terms);
        let is_known = || world.sessions.gates.borrow().contains_key("main");
        world.sessions.apply([]);
        assert!(is_known());
        drop(registration);
        world.sessions.apply([]);
        assert!(!is_known());
    });
}

#[test]
fn whoever_has_shown_a_certificate_is_held_to_it_after_nobody_asked_for_it() {
    on_a_ring(|world| {
        let service = world.service_of("client_auth = \"optional\"", "fe01.contoso.test");
        let asking = service.terms();
        let peers = &service.config.peers;
        let policy = Policy::new(ClientAuth::None, peers, &Stores::default()).unwrap();
        let incurious = Terms { policy: Arc::new(policy), ..asking.clone() };
        world.apply(&asking);
        let live = world.known(&asking);
        let shaking = world.accept(UNLIMITED, &asking);
        let permit = world.permit(&asking);
        world.apply(&incurious);
        world.work();
        let anonymous = shaking.admit(&asking.policy, permit).unwrap();
        assert!(anonymous.peer().is_none());
        shaking.enter(Phase::Relay);
        // Another name is listed now: theirs is worth less than none.
        world.apply(&world.service_of("client_auth = \"optional\"", "fe02.contoso.test").terms());
        world.work();
        for registration in [&live, &shaking] {
            assert_eq!(registration.session().ended(), Some(CloseCause::RuleRemoved));
        }
    });
}

#[test]
fn a_handshake_that_a_reload_overtakes_is_decided_about_by_the_new_generation() {
    on_a_ring(|world| {
        let old = world.terms("client_auth = \"optional\"");
        world.apply(&old);
        let registration = world.accept(UNLIMITED, &old);
        let permit = old.policy.without_certificate().unwrap();
        world.apply(&world.terms("client_auth = \"required\"\nenforce = \"log\""));
        world.work();
        let why = registration.admit(&old.policy, permit).unwrap_err();
        let NotAdmitted::Refused(refused) = why else { panic!("{why:?}") };
        assert_eq!(refused.reason, Refusal::NoCertificate);
    });
}

#[test]
fn a_handshake_that_a_reload_overtakes_takes_its_share_by_the_new_limits() {
    on_a_ring(|world| {
        let required = "client_auth = \"required\"";
        let old = world.terms(required);
        world.apply(&old);
        let registration = world.accept(UNLIMITED, &old);
        let permit = world.permit(&old);
        let text = world.text_of(required, "fe01.contoso.test").replace("clients", "partners");
        let limit = "[peers.partners]\nmax_connections = 1";
        let new = world.service(&text.replace("[peers.partners]", limit)).terms();
        world.apply(&new);
        let permit = registration.admit(&old.policy, permit).unwrap();
        let peer_set = permit.peer().unwrap().peer_set();
        assert_eq!(&**peer_set, "partners");
        let _share = registration.share(peer_set).unwrap();
        let over = registration.share(peer_set).unwrap_err();
        assert_eq!(over, crate::quota::OverLimit::Connections(1));
    });
}

#[test]
fn a_connection_that_was_accepted_before_a_reload_and_begins_after_it_is_decided_about_again() {
    on_a_ring(|world| {
        let old = world.terms("client_auth = \"optional\"");
        world.apply(&world.terms("client_auth = \"required\""));
        // It still has the service of the old generation.
        let registration = world.accept(UNLIMITED, &old);
        let permit = old.policy.without_certificate().unwrap();
        let why = registration.admit(&old.policy, permit).unwrap_err();
        assert!(matches!(why, NotAdmitted::Refused(_)), "{why:?}");
    });
}

#[test]
fn whoever_is_ended_in_the_handshake_is_not_admitted() {
    with_session(|world, registration| {
        let terms = world.terms("client_auth = \"optional\"");
        let permit = terms.policy.without_certificate().unwrap();
        world.sessions.end_all(CloseCause::Drained);
        let why = registration.admit(&terms.policy, permit).unwrap_err();
        assert!(matches!(why, NotAdmitted::Ended), "{why:?}");
    });
}

#[test]
fn a_connection_that_drains_ends_in_its_first_second_without_a_byte() {
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"optional\"");
        world.apply(&terms);
        let (busy, idle) = (world.anonymous(&terms), world.anonymous(&terms));
        world.advance(50);
        busy.session().touch();
        world.apply(&world.terms("client_auth = \"required\"\nenforce = \"drain\""));
        world.work();
        assert_eq!(idle.session().ended(), Some(CloseCause::RuleRemoved));
        for now in (55..200).step_by(5) {
            world.advance(now);
            assert_eq!(busy.session().ended(), None, "{now}");
            busy.session().touch();
        }
        assert_eq!(world.count("sessions_terminated_total", "rule_removed"), 1);
        world.advance(204);
        assert_eq!(busy.session().ended(), None);
        world.advance(205);
        assert_eq!(busy.session().ended(), Some(CloseCause::RuleRemoved));
        assert_eq!(world.count("sessions_terminated_total", "rule_removed"), 2);
    });
}

#[test]
fn a_connection_that_drains_and_never_rests_ends_at_the_drain_timeout() {
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"optional\"");
        world.apply(&terms);
        let registration = world.anonymous(&terms);
        world.apply(&world.terms("client_auth = \"required\"\nenforce = \"drain\""));
        world.work();
        for now in (5..300).step_by(5) {
            registration.session().touch();
            world.advance(now);
            // Being asked again gives no more time.
            world.sessions.recheck();
            assert_eq!(registration.session().ended(), None, "{now}");
        }
        registration.session().touch();
        world.advance(300);
        assert_eq!(registration.session().ended(), Some(CloseCause::RuleRemoved));
    });
}

#[test]
fn an_authorisation_that_comes_back_ends_the_drain() {
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"optional\"");
        world.apply(&terms);
        let registration = world.anonymous(&terms);
        world.apply(&world.terms("client_auth = \"required\"\nenforce = \"drain\""));
        world.work();
        world.apply(&terms);
        world.work();
        world.advance(1000);
        assert_eq!(registration.session().ended(), None);
        assert_eq!(world.count("sessions_terminated_total", "rule_removed"), 0);
    });
}

#[test]
fn where_it_is_only_logged_a_connection_goes_on_and_is_counted_once() {
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"optional\"");
        world.apply(&terms);
        let registration = world.anonymous(&terms);
        let strict = world.terms("client_auth = \"required\"\nenforce = \"log\"");
        for _ in 0..3 {
            world.apply(&strict);
            world.work();
        }
        world.advance(1000);
        assert_eq!(registration.session().ended(), None);
        assert_eq!(world.count("sessions_tolerated_total", "rule_removed"), 1);
        assert_eq!(world.count("sessions_terminated_total", "rule_removed"), 0);
    });
}

#[test]
fn an_expired_certificate_that_is_only_logged_is_not_looked_at_all_the_time() {
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"required\"\nenforce = \"log\"");
        world.apply(&terms);
        let registration = world.known(&terms);
        let after = 36_100;
        world.advance(after);
        assert_eq!(registration.session().ended(), None);
        assert_eq!(world.count("sessions_tolerated_total", "expired"), 1);
        let (next, _) = registration.session().deadline().unwrap();
        assert_eq!(next, after + 100);
    });
}

#[test]
fn a_connection_that_still_dials_is_ended_whatever_is_said_about_live_ones() {
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"optional\"");
        world.apply(&terms);
        let registration = world.accept(UNLIMITED, &terms);
        let permit = terms.policy.without_certificate().unwrap();
        registration.admit(&terms.policy, permit).unwrap();
        registration.enter(Phase::Dial);
        world.apply(&world.terms("client_auth = \"required\"\nenforce = \"log\""));
        world.work();
        assert_eq!(registration.session().ended(), Some(CloseCause::RuleRemoved));
    });
}

#[test]
fn a_round_of_decisions_ends_few_connections_a_turn_and_all_in_the_end() {
    const CONNECTIONS: usize = 300;
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"optional\"");
        world.apply(&terms);
        let all: Vec<_> = (0..CONNECTIONS).map(|_| world.anonymous(&terms)).collect();
        let ended = || all.iter().filter(|r| r.session().ended().is_some()).count();
        world.apply(&world.terms("client_auth = \"required\""));
        for turn in 1..=CONNECTIONS.div_ceil(ENDS_A_TURN) {
            assert!(world.sessions.has_work());
            let result = world.sessions.work();
            assert_eq!(ended(), CONNECTIONS.min(turn * ENDS_A_TURN));
            let all = Swept { looked_at: CONNECTIONS, ended: CONNECTIONS };
            assert_eq!(
                result,
                (ended() == CONNECTIONS && !world.sessions.has_work()).then_some(all)
            );
        }
        world.work();
        assert!(!world.sessions.has_work());
    });
}

#[test]
fn many_certificates_that_end_in_the_same_second_are_ended_a_few_at_a_turn() {
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"required\"");
        world.apply(&terms);
        let all: Vec<_> = (0..2 * ENDS_A_TURN).map(|_| world.known(&terms)).collect();
        let ended = || all.iter().filter(|r| r.session().ended().is_some()).count();
        world.sessions.advance(36_100, world.began_ms + 3_610_000);
        world.sessions.work();
        assert_eq!(ended(), ENDS_A_TURN);
        world.work();
        assert_eq!(ended(), 2 * ENDS_A_TURN);
    });
}

#[test]
fn ten_thousand_connections_are_decided_about_in_bounded_turns_and_others_come_in_meanwhile() {
    const CONNECTIONS: usize = 10_000;
    on_a_ring(|world| {
        let terms = world.terms("client_auth = \"optional\"");
        world.apply(&terms);
        let (one, _other) = UnixStream::pair().unwrap();
        let socket = Socket::new(one.into());
        let all: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let terms = terms.clone();
                let listener = "main".into();
                let open = world.sessions.open(socket.clone(), UNLIMITED, &listener, || terms);
                let permit = open.session.gate.terms().policy.without_certificate().unwrap();
                open.admit(&open.session.gate.terms().policy.clone(), permit).unwrap();
                open.enter(Phase::Relay);
                open
            })
            .collect();
        world.apply(&terms);
        let mut turns = 0;
        while world.sessions.has_work() {
            world.sessions.work();
            turns += 1;
            // Nobody who comes while it goes on is kept waiting, or decided about twice.
            drop(world.anonymous(&terms));
        }
        assert_eq!(turns, CONNECTIONS.div_ceil(DECISIONS_A_TURN));
        assert!(all.iter().all(|open| open.session().ended().is_none()));
    });
}

#[test]
fn a_certificate_that_is_revoked_ends_its_connections_when_the_crl_comes() {
    on_a_ring(|world| {
        let store = Arc::new(Store::new(Rules { mode: Mode::Require, ..Rules::default() }));
        let terms = world.terms_with(&store);
        world.publish(&store, &CrlSpec::from_now(1, VALIDITY));
        world.apply(&terms);
        let registration = world.known(&terms);
        let shaking = world.accept(UNLIMITED, &terms);
        let permit = world.permit(&terms);
        let now = time::OffsetDateTime::now_utc();
        let revoked = CrlSpec::from_now(2, VALIDITY).revoke(
            world.client.serial(),
            now,
            Reason::KeyCompromise,
        );
        world.publish(&store, &revoked);
        world.sessions.recheck();
        world.work();
        assert_eq!(registration.session().ended(), Some(CloseCause::Revoked));
        assert_eq!(world.count("sessions_terminated_total", "revoked"), 1);
        // It was decided about before the CRL came.
        let why = shaking.admit(&terms.policy, permit).unwrap_err();
        let NotAdmitted::Refused(refused) = why else { panic!("{why:?}") };
        assert_eq!(refused.reason, Refusal::Revoked);
    });
}

#[test]
fn a_crl_that_gets_stale_ends_no_connection_but_the_certificate_s_end_still_does() {
    on_a_ring(|world| {
        let rules = Rules { mode: Mode::Require, stale: Stale::Refuse, grace: Duration::ZERO };
        let store = Arc::new(Store::new(rules));
        let terms = world.terms_with(&store);
        world.publish(&store, &CrlSpec::from_now(1, VALIDITY / 2));
        world.apply(&terms);
        let registration = world.known(&terms);
        let permit = world.permit(&terms);
        // A minute after its nextUpdate.
        world.advance(18_600);
        assert_eq!(registration.session().ended(), None);
        let late = world.accept(UNLIMITED, &terms);
        world.sessions.recheck();
        let why = late.admit(&terms.policy, permit).unwrap_err();
        let NotAdmitted::Refused(refused) = why else { panic!("{why:?}") };
        assert_eq!(refused.reason, Refusal::CrlStale);
        world.advance(36_100);
        assert_eq!(registration.session().ended(), Some(CloseCause::Expired));
    });
}

#[test]
fn a_name_that_is_taken_off_the_list_ends_its_connections_and_another_rule_keeps_them() {
    on_a_ring(|world| {
        let required = "client_auth = \"required\"";
        let terms = world.terms(required);
        world.apply(&terms);
        let registration = world.known(&terms);
        world.apply(&world.service_of(required, "*.contoso.test").terms());
        world.work();
        assert_eq!(registration.session().ended(), None);
        world.apply(&world.service_of(required, "fe02.contoso.test").terms());
        world.work();
        assert_eq!(registration.session().ended(), Some(CloseCause::RuleRemoved));
        let told = registration.session().take_loss().unwrap();
        assert!(told.starts_with("name_not_listed: fe01.contoso.test"), "{told}");
    });
}
